//! Which rows belong together, and into which part they go.
//!
//! A row's part depends on the seed and its group key only, never on other rows: a row that was
//! trained on stays a training row when rows are added, or the next model would be tested on it.

use sha2::{Digest, Sha256};
use vitrine_contract::job::{Sample, Split};
use vitrine_model::{SettingsError, StopWords, TextSettings, Tokenizer, Tokens};

/// `groupBy` value for grouping by normalised text.
pub const BY_TEXT: &str = "text";

/// A part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// To learn from and to choose by cross-validation.
    Train,
    /// To look at while tuning by hand.
    Validation,
    /// To judge the final model.
    Test,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// The name in snapshots and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }

    /// The part of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.as_str() == name)
    }
}

/// Key of a group of rows: the first 16 bytes of a SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey(pub [u8; 16]);

impl GroupKey {
    /// Key of a column's value.
    pub fn of_value(value: &str) -> Self {
        Self::of("value", [value])
    }

    fn of<'a>(kind: &'a str, pieces: impl IntoIterator<Item = &'a str>) -> Self {
        let mut hash = Sha256::new();
        for piece in std::iter::once(kind).chain(pieces) {
            // Lengths keep ("ab", "c") and ("a", "bc") apart.
            hash.update((piece.len() as u64).to_le_bytes());
            hash.update(piece);
        }
        let digest = hash.finalize();
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        Self(key)
    }

    /// 32 hexadecimal digits.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    /// From 32 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut key = [0; 16];
        hex::decode_to_slice(text, &mut key).ok()?;
        Some(Self(key))
    }

    /// The first eight bytes as a number, for what needs numbers.
    pub fn number(self) -> u64 {
        self.0.iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
    }
}

/// Makes keys of texts with the model's normaliser: lower case, no markup, no accents, words only.
#[derive(Debug)]
pub struct TextKeys {
    tokenizer: Tokenizer,
    tokens: Tokens,
}

impl TextKeys {
    /// With settings that keep every word.
    pub fn new() -> Result<Self, SettingsError> {
        let settings = TextSettings {
            ngram_range: (1, 1),
            stop_words: StopWords::None,
            strip_accents: true,
            min_token_chars: 1,
            ..TextSettings::default()
        };
        settings.validate()?;
        Ok(Self { tokenizer: Tokenizer::new(&settings), tokens: Tokens::default() })
    }

    /// Key of a row's texts. Texts without any word (punctuation) are compared as they are.
    pub fn key(&mut self, texts: &[Option<&str>]) -> GroupKey {
        self.tokenizer.tokenize(texts, &mut self.tokens);
        let mut words = self.tokens.iter().peekable();
        if words.peek().is_some() {
            GroupKey::of("text", words)
        } else {
            GroupKey::of("raw", texts.iter().map(|text| text.unwrap_or_default()))
        }
    }
}

/// The part of a group.
pub fn part(split: &Split, key: GroupKey) -> Part {
    // With a fixed test set, its share of these rows is none.
    let test = if split.fixed_test.is_some() { 0.0 } else { split.test };
    let whole = split.train + split.validation + test;
    let at = uniform("vitrine split v1", split.seed, key) * whole;
    if at < split.train {
        Part::Train
    } else if at < split.train + split.validation || test <= 0.0 {
        Part::Validation
    } else {
        Part::Test
    }
}

/// Whether the sample keeps a group.
pub fn kept(sample: &Sample, key: GroupKey) -> bool {
    uniform("vitrine sample v1", sample.seed, key) < sample.fraction
}

/// A number of [0, 1) that depends on nothing but the arguments.
fn uniform(purpose: &str, seed: u64, key: GroupKey) -> f64 {
    let digest = Sha256::new()
        .chain_update(purpose)
        .chain_update([0])
        .chain_update(seed.to_le_bytes())
        .chain_update(key.0)
        .finalize();
    let number = digest.iter().take(8).fold(0u64, |number, &byte| number << 8 | u64::from(byte));
    // 53 bits are what a double holds exactly, so that the result stays below 1.
    (number >> 11) as f64 / (1u64 << 53) as f64
}
