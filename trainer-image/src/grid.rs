//! The points that a search compares, from the contract's words.

use std::fmt::Write as _;

use vitrine_contract::job::{Candidate, CharFeatures, TextFeatures, Train};
use vitrine_model::metrics::{ClassScore, f1_macro, f1_weighted};
use vitrine_model::{Algorithm, CharSettings, Stemming, StopWords, TextSettings, Weighting};

use crate::Error;

/// What is maximised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objective {
    /// F1 by support.
    F1Weighted,
    /// F1, each class counting the same.
    F1Macro,
    /// Share of right rows.
    Accuracy,
}

impl Objective {
    /// The contract's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::F1Weighted => "F1Weighted",
            Self::F1Macro => "F1Macro",
            Self::Accuracy => "Accuracy",
        }
    }

    /// Its value for these classes. Recall by support is accuracy.
    pub fn of(self, classes: &[ClassScore]) -> f64 {
        match self {
            Self::F1Weighted => f1_weighted(classes),
            Self::F1Macro => f1_macro(classes),
            Self::Accuracy => {
                let rows: u64 = classes.iter().map(|class| class.support).sum();
                let right: f64 = classes.iter().map(|class| class.recall * class.support as f64).sum();
                right / rows.max(1) as f64
            }
        }
    }

    fn parse(name: &str) -> Result<Self, Error> {
        [Self::F1Weighted, Self::F1Macro, Self::Accuracy].into_iter().find(|o| o.name() == name).ok_or_else(
            || Error::InvalidSpec(format!("objective {name:?} is not F1Weighted, F1Macro or Accuracy")),
        )
    }
}

/// Feature settings times algorithms, in the order of the config.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    /// Feature settings.
    pub settings: Vec<TextSettings>,
    /// Algorithms with their hyperparameters.
    pub algorithms: Vec<Algorithm>,
}

/// One point of the grid.
#[derive(Debug, Clone, Copy)]
pub struct Point<'a> {
    /// Its features.
    pub settings: &'a TextSettings,
    /// Its algorithm.
    pub algorithm: Algorithm,
}

impl Grid {
    /// From the config; refuses what cannot work before anything is computed.
    pub fn new(task: &Train) -> Result<(Self, Objective), Error> {
        let settings = task.features.iter().map(text_settings).collect::<Result<Vec<_>, _>>()?;
        let algorithms: Vec<Algorithm> = task.candidates.iter().flat_map(algorithms).collect();
        if settings.is_empty() || algorithms.is_empty() {
            let message = "search.features and search.candidates need one entry with one value at least";
            return Err(Error::InvalidSpec(message.to_owned()));
        }
        for algorithm in &algorithms {
            for (name, value) in algorithm.hyperparameters() {
                if !(value.is_finite() && value > 0.0) {
                    let message = format!("{}: {name} {value} must be a positive number", family(*algorithm));
                    return Err(Error::InvalidHyperparameter(message));
                }
            }
        }
        if task.folds < 2 {
            let message = format!("crossValidation.folds {} must be at least 2", task.folds);
            return Err(Error::InvalidHyperparameter(message));
        }
        Ok((Self { settings, algorithms }, Objective::parse(&task.objective)?))
    }

    /// Number of trials.
    pub fn len(&self) -> usize {
        self.settings.len() * self.algorithms.len()
    }

    /// True when there is nothing to try; [`Grid::new`] gives no such value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of the trial (from 0) with this setting and algorithm.
    pub fn trial(&self, setting: usize, algorithm: usize) -> usize {
        setting * self.algorithms.len() + algorithm
    }

    /// The point of a trial below [`Grid::len`].
    pub fn point(&self, trial: usize) -> Point<'_> {
        let per_setting = self.algorithms.len();
        Point {
            settings: &self.settings[trial / per_setting],
            algorithm: self.algorithms[trial % per_setting],
        }
    }
}

impl Point<'_> {
    /// The contract's name of the family.
    pub fn candidate(&self) -> &'static str {
        family(self.algorithm)
    }

    /// Settings in one line.
    pub fn parameters(&self) -> String {
        let named = self.algorithm.hyperparameters().into_iter();
        let values: Vec<String> = named.map(|(name, value)| format!("{name}={value}")).collect();
        format!("{}, {}", values.join(", "), text_parameters(self.settings))
    }
}

/// How text becomes features, in one line.
fn text_parameters(text: &TextSettings) -> String {
    let most = |limit: Option<u32>| limit.map_or("all".to_owned(), |most| most.to_string());
    let ((low, high), features) = (text.ngram_range, most(text.max_features));
    let mut line = format!(
        "{:?} word {low}-{high}, stopWords={:?}, minDf={}, maxDf={}, maxFeatures={features}",
        text.weighting, text.stop_words, text.min_df, text.max_df
    );
    for (set, name) in [(text.sublinear_tf, ", sublinearTf"), (text.strip_accents, ", stripAccents")] {
        if set {
            line.push_str(name);
        }
    }
    if text.stemming != Stemming::None {
        let _ = write!(line, ", stemming={}", text.stemming.name());
    }
    if let Some(chars) = &text.chars {
        let ((low, high), features) = (chars.ngram_range, most(chars.max_features));
        let (min_df, max_df, weight) = (chars.min_df, chars.max_df, chars.weight);
        let _ = write!(
            line,
            ", char {low}-{high}, charWeight={weight}, charMinDf={min_df}, charMaxDf={max_df}, charMaxFeatures={features}"
        );
    }
    line
}

fn family(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::LinearSvm { .. } => "linearSvm",
        Algorithm::LogisticRegression { .. } => "logisticRegression",
        Algorithm::ComplementNaiveBayes { .. } => "complementNaiveBayes",
        Algorithm::RandomForest { .. } => "randomForest",
        Algorithm::GradientBoosting { .. } => "gradientBoosting",
    }
}

fn algorithms(candidate: &Candidate) -> Vec<Algorithm> {
    match candidate {
        Candidate::LinearSvm { c } => c.iter().map(|&c| Algorithm::LinearSvm { c }).collect(),
        Candidate::LogisticRegression { c } => {
            c.iter().map(|&c| Algorithm::LogisticRegression { c }).collect()
        }
        Candidate::ComplementNaiveBayes { alpha } => {
            alpha.iter().map(|&alpha| Algorithm::ComplementNaiveBayes { alpha }).collect()
        }
        Candidate::RandomForest { trees, max_depth } => trees
            .iter()
            .flat_map(|&trees| {
                max_depth.iter().map(move |&max_depth| Algorithm::RandomForest { trees, max_depth })
            })
            .collect(),
        Candidate::GradientBoosting { rounds, max_depth, learning_rate } => {
            let mut all = Vec::new();
            for &rounds in rounds {
                for &max_depth in max_depth {
                    let of =
                        |&learning_rate| Algorithm::GradientBoosting { rounds, max_depth, learning_rate };
                    all.extend(learning_rate.iter().map(of));
                }
            }
            all
        }
    }
}

fn text_settings(features: &TextFeatures) -> Result<TextSettings, Error> {
    let small = |name: &str, value: usize| {
        u32::try_from(value)
            .map_err(|_| Error::InvalidHyperparameter(format!("{name} {value} is larger than {}", u32::MAX)))
    };
    let gram = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
    let settings = TextSettings {
        weighting: match features.weighting.as_str() {
            "TfIdf" => Weighting::TfIdf,
            "Count" => Weighting::Count,
            other => return Err(unknown("weighting", other, "TfIdf or Count")),
        },
        stop_words: match features.stop_words.as_str() {
            "None" => StopWords::None,
            "French" => StopWords::French,
            other => return Err(unknown("stopWords", other, "None or French")),
        },
        ngram_range: (gram(features.ngram_min), gram(features.ngram_max)),
        max_features: Some(small("maxFeatures", features.max_features)?),
        min_df: small("minDf", features.min_df)?,
        max_df: features.max_df,
        strip_accents: features.strip_accents,
        sublinear_tf: features.sublinear_tf,
        stemming: match &features.stemming {
            None => Stemming::None,
            Some(name) => Stemming::ALL
                .into_iter()
                .find(|one| one.name() == name)
                .ok_or_else(|| unknown("stemming", name, &Stemming::ALL.map(Stemming::name).join(", ")))?,
        },
        chars: features.chars.as_ref().map(|chars| characters(chars, &small, gram)).transpose()?,
        ..TextSettings::default()
    };
    settings.validate().map_err(|e| Error::InvalidHyperparameter(e.to_string()))?;
    Ok(settings)
}

fn characters(
    features: &CharFeatures,
    small: &impl Fn(&str, usize) -> Result<u32, Error>,
    gram: impl Fn(usize) -> u8,
) -> Result<CharSettings, Error> {
    Ok(CharSettings {
        ngram_range: (gram(features.ngram_min), gram(features.ngram_max)),
        max_features: Some(small("char.maxFeatures", features.max_features)?),
        min_df: small("char.minDf", features.min_df)?,
        max_df: features.max_df,
        weight: features.weight,
    })
}

fn unknown(field: &str, value: &str, known: &str) -> Error {
    Error::InvalidHyperparameter(format!("{field} {value:?} is not {known}"))
}
