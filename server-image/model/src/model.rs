//! A model in memory: always the bytes of its file, so that a model just trained and the same
//! model loaded elsewhere cannot differ.

use std::path::Path;

use crate::artifact::{
    ArtifactError, Class, Expected, FORMAT_VERSION, Layout, MAX_PROBES, ModelInfo, ProbeRow, corrupt, decode,
    encode, sha256, write_file,
};
use crate::calibrate::Calibration;
use crate::corpus::count_sorted;
use crate::csr::Csr;
use crate::head::{Algorithm, Head, best, score_row};
use crate::probes::{self, ProbeMismatch};
use crate::settings::{StopWords, TextSettings};
use crate::stopwords::FRENCH_VERSION;
use crate::storage::Storage;
use crate::stored::StoredHead;
use crate::text::{Tokenizer, Tokens, stop_words_of};
use crate::tfidf::Weigher;
use crate::trees;
use crate::vocab::{Index, Vocabulary};

/// One row to score: its text columns in the order of [`ModelInfo::text_columns`]; `None` is missing.
pub type Row<'a> = &'a [Option<&'a str>];

/// What a training run gives to make a model.
#[derive(Debug, Clone)]
pub struct ModelParts {
    /// How the head was trained.
    pub algorithm: Algorithm,
    /// Classes in the order of the head's scores.
    pub classes: Vec<Class>,
    /// Names of the text columns, in the order of a [`Row`].
    pub text_columns: Vec<String>,
    /// Settings that the vocabulary was fitted with.
    pub text: TextSettings,
    /// The fitted features.
    pub vocabulary: Vocabulary,
    /// The trained classifier.
    pub head: Head,
    /// Fitted on out-of-fold scores.
    pub calibration: Calibration,
    /// Digest of the data set.
    pub dataset_digest: String,
    /// Seed of the training run.
    pub seed: u64,
    /// Rows to store as golden probes, about 16; see [`crate::probe_rows`].
    pub probes: Vec<Vec<Option<String>>>,
}

/// Scores and probabilities of one row, by class number.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Decision scores.
    pub scores: Vec<f32>,
    /// Calibrated probabilities in the order of the scores; they sum to 1.
    pub probabilities: Vec<f32>,
}

impl Prediction {
    /// The predicted class: the most probable, the first of equal ones.
    pub fn class(&self) -> usize {
        best(&self.probabilities)
    }

    /// The `k` best classes with their probabilities, best first.
    pub fn top_k(&self, k: usize) -> Vec<(usize, f32)> {
        let mut order: Vec<usize> = (0..self.scores.len()).collect();
        order.sort_by(|&a, &b| self.probabilities[b].total_cmp(&self.probabilities[a]).then(a.cmp(&b)));
        order.into_iter().take(k).map(|class| (class, self.probabilities[class])).collect()
    }
}

/// Buffers used from row to row; one per thread.
#[derive(Debug)]
pub struct Scratch {
    tokens: Tokens,
    ids: Vec<u32>,
    counts: Vec<(u32, u32)>,
    features: Csr,
    /// Of models with trees only.
    spread: Option<trees::Scratch>,
}

impl Default for Scratch {
    fn default() -> Self {
        let features = Csr::empty(0);
        Self { tokens: Tokens::default(), ids: Vec::new(), counts: Vec::new(), features, spread: None }
    }
}

/// A model that can score. `Send` and `Sync`; share it behind an `Arc`.
#[derive(Debug)]
pub struct Model {
    storage: Storage,
    info: ModelInfo,
    layout: Layout,
    tokenizer: Tokenizer,
    words: Index,
    chars: Index,
}

impl Model {
    /// Maps a model file. The file must not change while the model lives.
    pub fn open(path: &Path) -> Result<Self, ArtifactError> {
        let storage = Storage::map(path).map_err(|source| ArtifactError::Io {
            action: "map",
            path: path.to_owned(),
            source,
        })?;
        Self::from_storage(storage)
    }

    /// From the bytes of a model file, which are copied.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ArtifactError> {
        Self::from_storage(Storage::copy_of(bytes))
    }

    fn from_storage(storage: Storage) -> Result<Self, ArtifactError> {
        let (info, layout) = decode(&storage)?;
        if cfg!(target_endian = "big") {
            return Err(corrupt(
                "model files are little-endian and read in place; this machine is big-endian",
            ));
        }
        let (offsets, terms) = (storage.numbers(&layout.offsets), &storage[layout.terms.clone()]);
        let (words, chars) =
            (Index::over(&offsets[..=layout.words], terms), Index::over(&offsets[layout.words..], terms));
        let tokenizer = Tokenizer::with_stop_words(&info.text, &info.stop_words);
        Ok(Self { storage, info, layout, tokenizer, words, chars })
    }

    /// Makes a model and the expected results of its probes. Equal parts give equal bytes.
    pub fn build(parts: ModelParts) -> Result<Self, ArtifactError> {
        check(&parts)?;
        let stop_words = stop_words_of(&parts.text);
        let info = ModelInfo {
            format_version: FORMAT_VERSION,
            model_crate_version: env!("CARGO_PKG_VERSION").to_owned(),
            algorithm: parts.algorithm,
            classes: parts.classes,
            text_columns: parts.text_columns,
            stop_words_version: if parts.text.stop_words == StopWords::None { 0 } else { FRENCH_VERSION },
            text: parts.text,
            character_terms: parts.vocabulary.len() - parts.vocabulary.words(),
            stop_words,
            calibration: parts.calibration,
            dataset_digest: parts.dataset_digest,
            seed: parts.seed,
        };
        let (vocabulary, head) = (parts.vocabulary, parts.head);
        let bare = Self::from_bytes(&encode(&info, &vocabulary, &head, &[], &Expected::default())?)?;
        let mut expected = Expected::default();
        for row in &parts.probes {
            let columns: Vec<Option<&str>> = row.iter().map(Option::as_deref).collect();
            let got = bare.predict_one(&columns);
            expected.scores.extend(got.scores);
            expected.probabilities.extend(got.probabilities);
        }
        Self::from_bytes(&encode(&info, &vocabulary, &head, &parts.probes, &expected)?)
    }

    /// Writes the file under a temporary name, syncs and renames it. Returns its SHA-256.
    pub fn write(&self, path: &Path) -> Result<String, ArtifactError> {
        write_file(path, &self.storage)
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.storage
    }

    /// SHA-256 of the file, computed now.
    pub fn digest(&self) -> String {
        sha256(&self.storage)
    }

    /// What the model says about itself.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Number of features.
    pub fn features(&self) -> usize {
        self.layout.features
    }

    /// Scores every row. A batch gives each row the bits that it gets alone.
    pub fn predict(&self, rows: &[Row<'_>]) -> Vec<Prediction> {
        let mut scratch = Scratch::default();
        rows.iter().map(|row| self.predict_row(row, &mut scratch)).collect()
    }

    /// Scores one row.
    pub fn predict_one(&self, row: Row<'_>) -> Prediction {
        self.predict_row(row, &mut Scratch::default())
    }

    /// Scores one row with the buffers of earlier ones.
    pub fn predict_row(&self, row: Row<'_>, scratch: &mut Scratch) -> Prediction {
        self.featurize(row, scratch);
        let classes = self.info.classes.len();
        let mut scores = vec![0.0; classes];
        let (indices, values) = scratch.features.row(0);
        match &self.layout.head {
            StoredHead::Linear { weights, intercepts } => {
                let (weights, intercepts) = (self.storage.numbers(weights), self.storage.numbers(intercepts));
                score_row(weights, intercepts, indices, values, &mut scores);
            }
            StoredHead::Forest(head) => {
                head.score_row(indices, values, spread(&mut scratch.spread, head.features), &mut scores);
            }
            StoredHead::Boosted(head) => {
                head.score_row(indices, values, spread(&mut scratch.spread, head.features), &mut scores);
            }
        }
        let mut probabilities = vec![0.0; classes];
        self.info.calibration.apply(&scores, &mut probabilities);
        Prediction { scores, probabilities }
    }

    /// The features of one row, as row 0 of `scratch.features`.
    fn featurize(&self, row: Row<'_>, scratch: &mut Scratch) {
        let Scratch { tokens, ids, counts, features, .. } = scratch;
        self.tokenizer.tokenize(row, tokens);
        let numbers: &[u32] = self.storage.numbers(&self.layout.offsets);
        let (of_words, of_chars) = (&numbers[..=self.layout.words], &numbers[self.layout.words..]);
        let terms = &self.storage[self.layout.terms.clone()];
        let idf: &[f32] = self.storage.numbers(&self.layout.idf);
        features.indptr.truncate(1);
        features.indices.clear();
        features.values.clear();
        features.columns = self.layout.features;
        let (words, chars) = Weigher::blocks(&self.info.text, self.layout.words);
        ids.clear();
        let find = |gram: &str| self.words.get(of_words, terms, gram.as_bytes());
        self.tokenizer.ngrams(tokens, |gram| ids.extend(find(gram)));
        counts.clear();
        count_sorted(ids, counts);
        words.push(counts, &idf[..self.layout.words], features);
        if let Some(chars) = chars {
            ids.clear();
            let find = |gram: &str| self.chars.get(of_chars, terms, gram.as_bytes());
            self.tokenizer.char_ngrams(tokens, |gram| ids.extend(find(gram)));
            counts.clear();
            count_sorted(ids, counts);
            chars.push(counts, &idf[self.layout.words..], features);
        }
        features.finish_row();
    }

    /// Feature numbers and values of one row, ascending: what the scores are made of.
    pub fn features_of(&self, row: Row<'_>) -> Vec<(u32, f32)> {
        let mut scratch = Scratch::default();
        self.featurize(row, &mut scratch);
        let (indices, values) = scratch.features.row(0);
        indices.iter().copied().zip(values.iter().copied()).collect()
    }

    /// Number of golden probes in the file.
    pub fn probes(&self) -> usize {
        self.layout.probe_rows.len()
    }

    /// Recomputes the golden probes; see [`crate::PROBE_TOLERANCE`].
    pub fn verify_probes(&self) -> Result<(), ProbeMismatch> {
        probes::verify(self)
    }

    pub(crate) fn probe_rows(&self) -> &[ProbeRow] {
        &self.layout.probe_rows
    }

    pub(crate) fn probe_expectation(&self) -> (&[f32], &[f32]) {
        let numbers = |range| self.storage.numbers(range);
        (numbers(&self.layout.probe_scores), numbers(&self.layout.probe_probabilities))
    }
}

/// Room for a row of so many features; the rows before may have been another model's.
fn spread(room: &mut Option<trees::Scratch>, features: usize) -> &mut trees::Scratch {
    let known = room.take().filter(|known| known.features() == features);
    room.insert(known.unwrap_or_else(|| trees::Scratch::new(features)))
}

fn check(parts: &ModelParts) -> Result<(), ArtifactError> {
    let ModelParts { head, vocabulary, classes, .. } = parts;
    let what = if head.classes() != classes.len() {
        format!("the head has {} classes, {} are named", head.classes(), classes.len())
    } else if head.features() != vocabulary.len() {
        format!("the head has {} features, the vocabulary {}", head.features(), vocabulary.len())
    } else if parts.probes.len() > MAX_PROBES {
        format!("{} probes, at most {MAX_PROBES} are stored", parts.probes.len())
    } else if parts.probes.iter().any(|row| row.len() != parts.text_columns.len()) {
        format!("a probe does not have {} text columns", parts.text_columns.len())
    } else {
        return Ok(());
    };
    Err(ArtifactError::Mismatched { what })
}
