//! How text becomes features: settings that are data, stored with the model.

use serde::{Deserialize, Serialize};

use crate::tfidf::Weighting;

/// Longest n-gram, in tokens.
pub const MAX_NGRAM: u8 = 3;
/// Longest n-gram, in characters.
pub const MAX_CHAR_NGRAM: u8 = 8;
/// Greatest factor of a block.
pub const MAX_WEIGHT: f64 = 1000.0;

/// Which words are removed before n-grams are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum StopWords {
    /// Keep every word.
    #[default]
    None,
    /// Remove [`crate::stopwords::FRENCH`].
    French,
}

/// Whether words are cut to their stems before n-grams are made: Snowball's algorithms, see
/// <https://snowballstem.org>.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Stemming {
    /// Words as they are.
    #[default]
    None,
    /// French.
    French,
    /// English (Porter 2).
    English,
    /// German.
    German,
    /// Italian.
    Italian,
    /// Spanish.
    Spanish,
    /// Portuguese.
    Portuguese,
    /// Dutch.
    Dutch,
}

impl Stemming {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::None,
        Self::French,
        Self::English,
        Self::German,
        Self::Italian,
        Self::Spanish,
        Self::Portuguese,
        Self::Dutch,
    ];

    /// The name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::French => "French",
            Self::English => "English",
            Self::German => "German",
            Self::Italian => "Italian",
            Self::Spanish => "Spanish",
            Self::Portuguese => "Portuguese",
            Self::Dutch => "Dutch",
        }
    }
}

/// Character n-grams within words, scikit-learn's `analyzer="char_wb"`: a block of features beside
/// the words', weighed and scaled to length 1 by itself and then multiplied by `weight`, as a
/// `FeatureUnion` with `transformer_weights` does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CharSettings {
    /// Shortest and longest n-gram in characters, both included; 1 to [`MAX_CHAR_NGRAM`].
    pub ngram_range: (u8, u8),
    /// Keep only the terms with the highest total count; `None` keeps all.
    pub max_features: Option<u32>,
    /// Keep terms that occur in at least this many documents.
    pub min_df: u32,
    /// Keep terms that occur in at most this share of the documents (above 0, at most 1).
    pub max_df: f64,
    /// Factor of the block; the words' is 1.
    pub weight: f64,
}

impl Default for CharSettings {
    fn default() -> Self {
        Self { ngram_range: (2, 5), max_features: Some(100_000), min_df: 2, max_df: 1.0, weight: 1.0 }
    }
}

/// How text becomes features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TextSettings {
    /// TF-IDF or counts.
    pub weighting: Weighting,
    /// Shortest and longest n-gram in tokens, both included; 1 to [`MAX_NGRAM`].
    pub ngram_range: (u8, u8),
    /// Keep only the terms with the highest total count; `None` keeps all.
    pub max_features: Option<u32>,
    /// Keep terms that occur in at least this many documents.
    pub min_df: u32,
    /// Keep terms that occur in at most this share of the documents (above 0, at most 1).
    pub max_df: f64,
    /// Words to remove.
    pub stop_words: StopWords,
    /// Cut words to their stems; character n-grams are made of whole words all the same.
    #[serde(default)]
    pub stemming: Stemming,
    /// Fold accents and ligatures: `Étagère` and `etagere` are one word.
    pub strip_accents: bool,
    /// Use `1 + ln(count)` instead of the count.
    pub sublinear_tf: bool,
    /// Shortest token in characters. scikit-learn's default pattern keeps 2 and more; with French
    /// stop words, which hold the elided articles, 1 cross-validates better (`.724` against `.721`
    /// weighted F1 on a real catalogue): single letters and digits name products.
    pub min_token_chars: u8,
    /// Character n-grams beside the words; none: words alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chars: Option<CharSettings>,
}

impl Default for TextSettings {
    fn default() -> Self {
        Self {
            weighting: Weighting::TfIdf,
            ngram_range: (1, 2),
            max_features: Some(100_000),
            min_df: 1,
            max_df: 1.0,
            stop_words: StopWords::French,
            stemming: Stemming::None,
            strip_accents: true,
            sublinear_tf: true,
            min_token_chars: 1,
            chars: None,
        }
    }
}

/// Settings that cannot work.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// The n-gram range is empty, starts at 0 or is too long.
    #[error("{block}ngramRange [{low}, {high}] must be two ascending numbers from 1 to {most}")]
    NgramRange {
        /// `char.` for the character n-grams, empty for the words'.
        block: &'static str,
        /// Shortest.
        low: u8,
        /// Longest.
        high: u8,
        /// What the longest may be.
        most: u8,
    },
    /// Nothing could be kept.
    #[error("{0}maxFeatures must be at least 1")]
    MaxFeatures(&'static str),
    /// Not a share.
    #[error("{0}maxDf {1} must be above 0 and at most 1")]
    MaxDf(&'static str, f64),
    /// Not a factor.
    #[error("char.weight {0} must be above 0 and at most {MAX_WEIGHT}")]
    Weight(f64),
}

impl TextSettings {
    /// Refuses what cannot work.
    pub fn validate(&self) -> Result<(), SettingsError> {
        check("", self.ngram_range, MAX_NGRAM, self.max_features, self.max_df)?;
        let Some(chars) = &self.chars else { return Ok(()) };
        check("char.", chars.ngram_range, MAX_CHAR_NGRAM, chars.max_features, chars.max_df)?;
        if chars.weight > 0.0 && chars.weight <= MAX_WEIGHT {
            Ok(())
        } else {
            Err(SettingsError::Weight(chars.weight))
        }
    }
}

fn check(
    block: &'static str,
    (low, high): (u8, u8),
    most: u8,
    max_features: Option<u32>,
    max_df: f64,
) -> Result<(), SettingsError> {
    if low == 0 || low > high || high > most {
        return Err(SettingsError::NgramRange { block, low, high, most });
    }
    if max_features == Some(0) {
        return Err(SettingsError::MaxFeatures(block));
    }
    if !(max_df > 0.0 && max_df <= 1.0) {
        return Err(SettingsError::MaxDf(block, max_df));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{CharSettings, SettingsError, Stemming, TextSettings};

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let with = |ngram_range| TextSettings { ngram_range, ..TextSettings::default() }.validate();
        assert_eq!(with((1, 3)), Ok(()));
        for (low, high) in [(0, 1), (2, 1), (1, 4)] {
            let most = super::MAX_NGRAM;
            assert_eq!(with((low, high)), Err(SettingsError::NgramRange { block: "", low, high, most }));
        }
        let none = TextSettings { max_features: Some(0), ..TextSettings::default() };
        assert_eq!(none.validate(), Err(SettingsError::MaxFeatures("")));
        for share in [0.0, -1.0, 1.1, f64::NAN] {
            assert!(TextSettings { max_df: share, ..TextSettings::default() }.validate().is_err(), "{share}");
        }
    }

    #[test]
    fn character_settings_that_cannot_work_are_refused_by_their_name() {
        let with = |chars| TextSettings { chars: Some(chars), ..TextSettings::default() }.validate();
        let good = CharSettings::default;
        assert_eq!(with(good()), Ok(()));
        for (chars, name) in [
            (CharSettings { ngram_range: (3, 9), ..good() }, "char.ngramRange [3, 9]"),
            (CharSettings { ngram_range: (0, 2), ..good() }, "char.ngramRange [0, 2]"),
            (CharSettings { max_features: Some(0), ..good() }, "char.maxFeatures"),
            (CharSettings { max_df: 0.0, ..good() }, "char.maxDf 0"),
            (CharSettings { weight: 0.0, ..good() }, "char.weight 0"),
            (CharSettings { weight: f64::NAN, ..good() }, "char.weight NaN"),
            (CharSettings { weight: 1000.5, ..good() }, "char.weight 1000.5"),
        ] {
            let said = with(chars).unwrap_err().to_string();
            assert!(said.starts_with(name), "{said:?} is not about {name}");
        }
    }

    #[test]
    fn settings_of_before_stems_and_characters_are_read() {
        let old = r#"{"weighting":"TfIdf","ngramRange":[1,2],"maxFeatures":5,"minDf":1,"maxDf":1.0,"stopWords":"None","stripAccents":true,"sublinearTf":true,"minTokenChars":1}"#;
        let read: TextSettings = serde_json::from_str(old).unwrap();
        assert_eq!((read.stemming, read.chars), (Stemming::None, None));
    }

    #[test]
    fn names_are_those_of_the_json() {
        for stemming in Stemming::ALL {
            assert_eq!(serde_json::to_value(stemming).unwrap(), stemming.name());
        }
    }
}
