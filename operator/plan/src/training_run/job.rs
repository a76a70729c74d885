//! The training Job and what it works with.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, ResourceRequirements};
use vitrine_contract::job::{Candidate, CharFeatures, JobConfig, Task, TextFeatures, Train};
use vitrine_crds::names;
use vitrine_crds::training_run::{self as api, Inputs, StopWords, TrainingRunSpec, Weighting};

use crate::facts::DatasetFacts;
use crate::hash;
use crate::job::{self, JobParts};
use crate::meta::Owner;
use crate::pod::PodParts;
use crate::policy::Policy;

/// Key of the config that holds the pinned inputs: what a run works with survives a status that
/// could not be written.
pub const INPUTS_KEY: &str = "inputs.json";

/// A checked TrainingRun: building its Job cannot fail.
pub struct Valid<'a> {
    /// Spec.
    pub spec: &'a TrainingRunSpec,
    /// Resources of the training pod.
    pub resources: ResourceRequirements,
    /// What the trainer shall try.
    pub search: SearchPlan,
}

/// A search in the contract's words.
pub struct SearchPlan {
    features: Vec<TextFeatures>,
    candidates: Vec<Candidate>,
    seed: u64,
    folds: usize,
}

/// Inputs from the newest facts.
pub fn newest_inputs(spec: &TrainingRunSpec, dataset: &DatasetFacts, policy: &Policy) -> Inputs {
    Inputs {
        dataset_revision: dataset.revision,
        dataset_digest: dataset.digest.clone(),
        snapshot_digest: dataset.snapshot_digest.clone(),
        test_digest: dataset.test_digest.clone(),
        trainer_image: policy.trainer_image.clone(),
        spec_hash: hash::spec_hash(&spec.search, spec.seed),
    }
}

/// The inputs that a config was written for.
pub fn inputs_of(config: &ConfigMap) -> Option<Inputs> {
    serde_json::from_str(config.data.as_ref()?.get(INPUTS_KEY)?).ok()
}

/// A search in the contract's words, or what is wrong with it.
pub fn search(spec: &TrainingRunSpec) -> Result<SearchPlan, String> {
    let seed =
        u64::try_from(spec.seed).map_err(|_| format!("seed must not be negative; it is {}", spec.seed))?;
    let folds = usize::try_from(spec.search.cross_validation.folds)
        .ok()
        .filter(|folds| *folds >= 2)
        .ok_or_else(|| {
            let folds = spec.search.cross_validation.folds;
            format!("search.crossValidation.folds must be at least 2; it is {folds}")
        })?;
    if spec.search.features.is_empty() || spec.search.candidates.is_empty() {
        return Err("search needs at least one entry in features and one in candidates".to_owned());
    }
    let features: Result<Vec<_>, _> =
        spec.search.features.iter().enumerate().map(|(i, set)| features(i, &set.text)).collect();
    let candidates: Result<Vec<_>, _> =
        spec.search.candidates.iter().enumerate().map(|(i, c)| candidate(i, c)).collect();
    Ok(SearchPlan { features: features?, candidates: candidates?, seed, folds })
}

/// Which terms of a block become features, in the words of a contract.
struct Bounds {
    ngrams: (usize, usize),
    max_features: usize,
    min_df: usize,
}

fn bounds(
    place: &str,
    ngram_range: &[i32],
    (max_features, min_df): (i64, i64),
    max_df: f64,
) -> Result<Bounds, String> {
    let range: Option<Vec<usize>> = ngram_range.iter().map(|n| usize::try_from(*n).ok()).collect();
    let ngrams = match range.as_deref() {
        Some([shortest, longest]) if *shortest >= 1 && shortest <= longest => (*shortest, *longest),
        _ => {
            return Err(format!(
                "{place}.ngramRange must be [shortest, longest] with 1 <= shortest <= longest; it is {ngram_range:?}"
            ));
        }
    };
    let positive = |name: &str, value: i64| {
        usize::try_from(value)
            .ok()
            .filter(|v| *v >= 1)
            .ok_or_else(|| format!("{place}.{name} must be at least 1; it is {value}"))
    };
    if !(max_df > 0.0 && max_df <= 1.0) {
        return Err(format!("{place}.maxDf must be above 0 and at most 1; it is {max_df}"));
    }
    let (max_features, min_df) = (positive("maxFeatures", max_features)?, positive("minDf", min_df)?);
    Ok(Bounds { ngrams, max_features, min_df })
}

fn features(index: usize, text: &api::TextFeatures) -> Result<TextFeatures, String> {
    let place = format!("search.features[{index}].text");
    let word = &text.word;
    let words =
        bounds(&format!("{place}.word"), &word.ngram_range, (word.max_features, word.min_df), word.max_df)?;
    Ok(TextFeatures {
        weighting: match text.weighting {
            Weighting::TfIdf => "TfIdf",
            Weighting::Count => "Count",
        }
        .to_owned(),
        ngram_min: words.ngrams.0,
        ngram_max: words.ngrams.1,
        max_features: words.max_features,
        min_df: words.min_df,
        max_df: word.max_df,
        stop_words: match text.stop_words {
            StopWords::None => "None",
            StopWords::French => "French",
        }
        .to_owned(),
        strip_accents: text.strip_accents,
        sublinear_tf: text.sublinear_tf,
        stemming: text.stemming.language().map(str::to_owned),
        chars: text.char.as_ref().map(|char| characters(&format!("{place}.char"), char)).transpose()?,
    })
}

fn characters(place: &str, char: &api::CharNgrams) -> Result<CharFeatures, String> {
    let bounds = bounds(place, &char.ngram_range, (char.max_features, char.min_df), char.max_df)?;
    if !(char.weight > 0.0 && char.weight.is_finite()) {
        return Err(format!("{place}.weight must be above 0; it is {}", char.weight));
    }
    Ok(CharFeatures {
        ngram_min: bounds.ngrams.0,
        ngram_max: bounds.ngrams.1,
        max_features: bounds.max_features,
        min_df: bounds.min_df,
        max_df: char.max_df,
        weight: char.weight,
    })
}

fn candidate(index: usize, candidate: &api::Candidate) -> Result<Candidate, String> {
    let place = format!("search.candidates[{index}]");
    let checked = |name: &str, values: &[f64]| {
        let good = !values.is_empty() && values.iter().all(|value| *value > 0.0 && value.is_finite());
        if good {
            Ok(values.to_owned())
        } else {
            Err(format!(
                "{place}: every {name} must be above 0 and there must be at least one; they are {values:?}"
            ))
        }
    };
    let counts = |name: &str, values: &[i32]| {
        let counts: Vec<u32> =
            values.iter().filter_map(|&n| u32::try_from(n).ok()).filter(|&n| n >= 1).collect();
        if counts.is_empty() || counts.len() != values.len() {
            return Err(format!(
                "{place}: every {name} must be at least 1 and there must be at least one; they are {values:?}"
            ));
        }
        Ok(counts)
    };
    let mut named = Vec::new();
    if let Some(penalty) = &candidate.linear_svm {
        named.push(Candidate::LinearSvm { c: checked("c", &penalty.c)? });
    }
    if let Some(penalty) = &candidate.logistic_regression {
        named.push(Candidate::LogisticRegression { c: checked("c", &penalty.c)? });
    }
    if let Some(smoothing) = &candidate.complement_naive_bayes {
        named.push(Candidate::ComplementNaiveBayes { alpha: checked("alpha", &smoothing.alpha)? });
    }
    if let Some(forest) = &candidate.random_forest {
        let (trees, max_depth) = (counts("trees", &forest.trees)?, counts("maxDepth", &forest.max_depth)?);
        named.push(Candidate::RandomForest { trees, max_depth });
    }
    if let Some(boosting) = &candidate.gradient_boosting {
        named.push(Candidate::GradientBoosting {
            rounds: counts("rounds", &boosting.rounds)?,
            max_depth: counts("maxDepth", &boosting.max_depth)?,
            learning_rate: checked("learningRate", &boosting.learning_rate)?,
        });
    }
    match <[Candidate; 1]>::try_from(named) {
        Ok([one]) => Ok(one),
        Err(_) => Err(format!(
            "{place} must name exactly one family: linearSvm, logisticRegression, complementNaiveBayes, randomForest or gradientBoosting"
        )),
    }
}

/// What the training pod shall do.
pub fn task(valid: &Valid, inputs: &Inputs) -> Train {
    Train {
        model: valid.spec.output.model.clone(),
        dataset_digest: inputs.dataset_digest.clone(),
        snapshot_digest: inputs.snapshot_digest.clone(),
        seed: valid.search.seed,
        folds: valid.search.folds,
        objective: valid.spec.search.objective.metric.as_str().to_owned(),
        features: valid.search.features.clone(),
        candidates: valid.search.candidates.clone(),
    }
}

/// The config of an attempt.
pub fn config(owner: &Owner, valid: &Valid, name: &str, inputs: &Inputs, policy: &Policy) -> ConfigMap {
    let task = task(valid, inputs);
    let config =
        JobConfig { version: task.version(), gateway: policy.gateway.clone(), task: Task::Train(task) };
    let pinned = crate::diff::to_json(inputs).to_string();
    job::config_map(owner, name, names::ROLE_TRAIN, &config, Some((INPUTS_KEY, pinned)))
}

/// The Job of an attempt.
pub fn build(owner: &Owner, valid: &Valid, name: &str, inputs: &Inputs, policy: &Policy) -> Job {
    let parts = JobParts {
        name,
        role: names::ROLE_TRAIN,
        reads: vec![inputs.dataset_digest.clone(), inputs.snapshot_digest.clone()],
        backoff_limit: valid.spec.backoff_limit,
        deadline_seconds: valid.spec.active_deadline_seconds,
        pod: PodParts {
            image: inputs.trainer_image.clone(),
            verb: names::ROLE_TRAIN,
            config: name,
            resources: valid.resources.clone(),
            placement: &valid.spec.placement,
            volumes: vec![],
        },
    };
    job::build(owner, parts, policy)
}
