//! The model file: one safetensors file that holds the whole pipeline as data.
//!
//! The header's `__metadata__` has one key, `vitrine`, whose value is the JSON of [`ModelInfo`]
//! (one, because the safetensors crate writes several in random order and equal models must be
//! equal bytes). Tensors, little-endian; F terms, K classes, P probes, T trees of N nodes together:
//!
//! | tensor | type | shape | content |
//! | --- | --- | --- | --- |
//! | `head.intercepts` | f32 | K | linear families only |
//! | `head.weights` | f32 | F, K | row-major; linear families only |
//! | `trees.roots` | u32 | T | first node of each tree, ascending; forest and boosting only, as all `trees.` |
//! | `trees.features` | u32 | N | what a node asks for; 4294967295 in a leaf |
//! | `trees.thresholds` | f32 | N | values up to it go left |
//! | `trees.left`, `trees.right` | u32 | N | children; `left` of a leaf is its row of `trees.values` |
//! | `trees.defaultLeft` | u8 | N | 1 where an absent feature goes left |
//! | `trees.values` | f32 | any, K or 1 | shares of the classes (forest) or a step (boosting) |
//! | `trees.base` | f32 | K | scores before the first tree; boosting only |
//! | `probes.probabilities`, `probes.scores` | f32 | P, K | expected of the probes |
//! | `vocabulary.idf` | f32 | F | |
//! | `vocabulary.offsets` | u32 | F + 1 | term i is `bytes[offsets[i]..offsets[i + 1]]` |
//! | `probes.rows` | u8 | any | JSON: P rows of text columns, string or null |
//! | `vocabulary.bytes` | u8 | any | terms, UTF-8, strictly ascending: words, then character n-grams |
//!
//! Version 2 added trees, stems and character n-grams, and `characterTerms` of [`ModelInfo`].
//!
//! Reading checks everything that scoring relies on: a hostile file gives an error, never a panic.

use std::fs::File;
use std::io::{Read, Write};
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::calibrate::Calibration;
use crate::head::{Algorithm, Head};
use crate::settings::TextSettings;
use crate::stored::{self, StoredHead};
use crate::vocab::{Vocabulary, slot};

/// The version that is written.
pub const FORMAT_VERSION: u32 = 2;
/// The versions that can be read.
pub const SUPPORTED: RangeInclusive<u32> = 1..=FORMAT_VERSION;
const METADATA_KEY: &str = "vitrine";
/// Most probes that are accepted; a load recomputes all of them.
pub const MAX_PROBES: usize = 256;

/// Why a model could not be read, made or written.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The file system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Another version of the format.
    #[error(
        "model format version {found} is not supported (this program reads {} to {}); use a matching image", supported.start(), supported.end()
    )]
    Incompatible {
        /// The file's version.
        found: u32,
        /// What this crate reads.
        supported: RangeInclusive<u32>,
    },
    /// The bytes are not a sound model.
    #[error("corrupt model file: {what}")]
    Corrupt {
        /// The first thing found wrong.
        what: String,
    },
    /// Parts that do not fit together were to become a model.
    #[error("cannot make a model: {what}")]
    Mismatched {
        /// The first thing found wrong.
        what: String,
    },
}

pub(crate) fn corrupt(what: impl Into<String>) -> ArtifactError {
    ArtifactError::Corrupt { what: what.into() }
}

/// One class: the label in the data and what people call it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// The label as it stands in the data set.
    pub label: String,
    /// Readable name; the label again where none is known.
    pub name: String,
}

/// What a model says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelInfo {
    /// Version of the file format.
    pub format_version: u32,
    /// Version of this crate that made the model.
    pub model_crate_version: String,
    /// How the head was trained.
    pub algorithm: Algorithm,
    /// Classes in the order of scores and probabilities.
    pub classes: Vec<Class>,
    /// Names of the text columns, in the order of a [`crate::Row`].
    pub text_columns: Vec<String>,
    /// How text becomes features.
    pub text: TextSettings,
    /// How many of the last terms are character n-grams.
    #[serde(default)]
    pub character_terms: usize,
    /// Words removed from text, folded as the text is; sorted.
    pub stop_words: Vec<String>,
    /// Version of the list that they came from; 0 without a list.
    pub stop_words_version: u32,
    /// Scores to probabilities.
    pub calibration: Calibration,
    /// Digest of the data set that it was trained on.
    pub dataset_digest: String,
    /// Seed of the training run.
    pub seed: u64,
}

/// A row kept for checking: its text columns.
pub(crate) type ProbeRow = Vec<Option<String>>;

/// Where things lie in the file; every range was checked.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub head: StoredHead,
    pub idf: Range<usize>,
    pub offsets: Range<usize>,
    pub terms: Range<usize>,
    pub probe_scores: Range<usize>,
    pub probe_probabilities: Range<usize>,
    pub probe_rows: Vec<ProbeRow>,
    pub features: usize,
    /// How many of the first features are words and their n-grams.
    pub words: usize,
}

/// Expected results of the probes, `[probe][class]`.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub scores: Vec<f32>,
    pub probabilities: Vec<f32>,
}

/// The bytes of a model file.
pub(crate) fn encode(
    info: &ModelInfo,
    vocabulary: &Vocabulary,
    head: &Head,
    probe_rows: &[ProbeRow],
    expected: &Expected,
) -> Result<Vec<u8>, ArtifactError> {
    let failed = |e: &dyn std::fmt::Display| ArtifactError::Mismatched { what: e.to_string() };
    let json = serde_json::to_string(info).map_err(|e| failed(&e))?;
    let rows = serde_json::to_vec(probe_rows).map_err(|e| failed(&e))?;
    let (features, classes, probes) = (head.features(), head.classes(), probe_rows.len());
    let others = [
        floats("vocabulary.idf", vec![features], &vocabulary.idf),
        floats("probes.scores", vec![probes, classes], &expected.scores),
        floats("probes.probabilities", vec![probes, classes], &expected.probabilities),
        tensor(
            "vocabulary.offsets",
            Dtype::U32,
            vec![features + 1],
            bytemuck::cast_slice(&vocabulary.offsets),
        ),
        tensor("vocabulary.bytes", Dtype::U8, vec![vocabulary.bytes.len()], &vocabulary.bytes),
        tensor("probes.rows", Dtype::U8, vec![rows.len()], &rows),
    ];
    let mut tensors = stored::tensors(head)?;
    for other in others {
        tensors.push(other?);
    }
    let metadata = [(METADATA_KEY.to_owned(), json)].into_iter().collect();
    safetensors::serialize(tensors, Some(metadata)).map_err(|e| failed(&e))
}

pub(crate) type Named<'a> = (&'static str, TensorView<'a>);

pub(crate) fn floats<'a>(
    name: &'static str,
    shape: Vec<usize>,
    data: &'a [f32],
) -> Result<Named<'a>, ArtifactError> {
    tensor(name, Dtype::F32, shape, bytemuck::cast_slice(data))
}

pub(crate) fn tensor<'a>(
    name: &'static str,
    dtype: Dtype,
    shape: Vec<usize>,
    data: &'a [u8],
) -> Result<Named<'a>, ArtifactError> {
    let view = TensorView::new(dtype, shape, data);
    view.map(|view| (name, view))
        .map_err(|e| ArtifactError::Mismatched { what: format!("tensor {name}: {e}") })
}

/// Reads and checks a model file.
pub(crate) fn decode(bytes: &[u8]) -> Result<(ModelInfo, Layout), ArtifactError> {
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| corrupt(e.to_string()))?;
    let json = metadata.metadata().as_ref().and_then(|map| map.get(METADATA_KEY));
    let json = json.ok_or_else(|| corrupt(format!("the header has no {METADATA_KEY} entry")))?;
    let info = read_info(json)?;
    let reader = Reader { bytes, metadata: &metadata, data: header + 8 };
    let layout = reader.layout(&info)?;
    check_values(bytes, &layout, &info)?;
    Ok((info, layout))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Versioned {
    format_version: u32,
}

fn read_info(json: &str) -> Result<ModelInfo, ArtifactError> {
    // The version first: another version's fields need not be ours.
    let version: Versioned =
        serde_json::from_str(json).map_err(|e| corrupt(format!("format version: {e}")))?;
    if !SUPPORTED.contains(&version.format_version) {
        return Err(ArtifactError::Incompatible { found: version.format_version, supported: SUPPORTED });
    }
    let info: ModelInfo =
        serde_json::from_str(json).map_err(|e| corrupt(format!("model description: {e}")))?;
    info.text.validate().map_err(|e| corrupt(e.to_string()))?;
    if !info.calibration.is_sound() {
        return Err(corrupt(format!("{:?} cannot be applied", info.calibration)));
    }
    if info.classes.len() < 2 || info.text_columns.is_empty() {
        return Err(corrupt("a model needs two classes and one text column at least"));
    }
    Ok(info)
}

/// Finds tensors in a file.
pub(crate) struct Reader<'a> {
    pub bytes: &'a [u8],
    metadata: &'a Metadata,
    /// Where tensor data begin.
    data: usize,
}

impl Reader<'_> {
    fn layout(&self, info: &ModelInfo) -> Result<Layout, ArtifactError> {
        let classes = info.classes.len();
        let (idf, shape) = self.find("vocabulary.idf", Dtype::F32)?;
        let &[features] = shape else { return Err(corrupt("vocabulary.idf is not a list")) };
        if features == 0 {
            return Err(corrupt("the vocabulary is empty"));
        }
        let words = features.checked_sub(info.character_terms).filter(|&words| words > 0);
        let words = words.filter(|_| info.text.chars.is_some() == (info.character_terms > 0));
        let words = words.ok_or_else(|| {
            let said = info.character_terms;
            corrupt(format!("{said} of {features} terms cannot be character n-grams with these settings"))
        })?;
        let (rows, _) = self.find("probes.rows", Dtype::U8)?;
        let probe_rows: Vec<ProbeRow> =
            serde_json::from_slice(&self.bytes[rows]).map_err(|e| corrupt(format!("probes.rows: {e}")))?;
        if probe_rows.len() > MAX_PROBES {
            return Err(corrupt(format!("{} probes, at most {MAX_PROBES} are accepted", probe_rows.len())));
        }
        let probes = probe_rows.len();
        Ok(Layout {
            head: stored::read(self, info.algorithm, classes, features)?,
            idf,
            offsets: self.shaped("vocabulary.offsets", Dtype::U32, &[features + 1])?,
            terms: self.find("vocabulary.bytes", Dtype::U8)?.0,
            probe_scores: self.shaped("probes.scores", Dtype::F32, &[probes, classes])?,
            probe_probabilities: self.shaped("probes.probabilities", Dtype::F32, &[probes, classes])?,
            probe_rows,
            features,
            words,
        })
    }

    /// Range in the file and shape. The safetensors crate has checked offsets against file and shape.
    pub fn find(&self, name: &str, dtype: Dtype) -> Result<(Range<usize>, &[usize]), ArtifactError> {
        let info = self.metadata.info(name).ok_or_else(|| corrupt(format!("tensor {name} is missing")))?;
        if info.dtype != dtype {
            return Err(corrupt(format!("tensor {name} has type {:?}, expected {dtype:?}", info.dtype)));
        }
        let (start, end) = (self.data + info.data_offsets.0, self.data + info.data_offsets.1);
        if dtype != Dtype::U8 && start % 4 != 0 {
            return Err(corrupt(format!("tensor {name} begins at byte {start}, which 4 does not divide")));
        }
        Ok((start..end, &info.shape))
    }

    pub fn shaped(
        &self,
        name: &str,
        dtype: Dtype,
        expected: &[usize],
    ) -> Result<Range<usize>, ArtifactError> {
        let (range, shape) = self.find(name, dtype)?;
        if shape != expected {
            return Err(corrupt(format!("tensor {name} has shape {shape:?}, expected {expected:?}")));
        }
        Ok(range)
    }

    /// The numbers of a tensor of any number of rows.
    pub fn table(&self, name: &str, columns: usize) -> Result<Vec<f32>, ArtifactError> {
        let (range, shape) = self.find(name, Dtype::F32)?;
        match shape {
            &[_, found] if found == columns => Ok(self.floats(range)),
            _ => Err(corrupt(format!("tensor {name} has shape {shape:?}, expected {columns} columns"))),
        }
    }

    /// A copy of the numbers in a range that [`Reader::find`] gave.
    pub fn floats(&self, range: Range<usize>) -> Vec<f32> {
        self.bytes[range].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    /// As [`Reader::floats`].
    pub fn numbers(&self, range: Range<usize>) -> Vec<u32> {
        self.bytes[range].as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect()
    }
}

/// What the type and the shape do not say: finite numbers and sorted, distinct, whole terms.
fn check_values(bytes: &[u8], layout: &Layout, info: &ModelInfo) -> Result<(), ArtifactError> {
    let mut ranges = vec![
        ("vocabulary.idf", &layout.idf),
        ("probes.scores", &layout.probe_scores),
        ("probes.probabilities", &layout.probe_probabilities),
    ];
    if let StoredHead::Linear { weights, intercepts } = &layout.head {
        ranges.extend([("head.weights", weights), ("head.intercepts", intercepts)]);
    }
    for (name, range) in ranges {
        let mut values = bytes[range.clone()].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
        if !values.all(f32::is_finite) {
            return Err(corrupt(format!("tensor {name} holds a value that is not finite")));
        }
    }
    let columns = info.text_columns.len();
    if let Some(row) = layout.probe_rows.iter().position(|row| row.len() != columns) {
        return Err(corrupt(format!("probe {row} does not have {columns} text columns")));
    }
    let offsets: Vec<u32> =
        bytes[layout.offsets.clone()].as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
    check_terms(&offsets, layout.words, &bytes[layout.terms.clone()])
}

/// `words`: the term with which the second block begins.
fn check_terms(offsets: &[u32], words: usize, bytes: &[u8]) -> Result<(), ArtifactError> {
    let text = std::str::from_utf8(bytes).map_err(|e| corrupt(format!("vocabulary.bytes: {e}")))?;
    let ends_fit = offsets.first() == Some(&0) && offsets.last().map(|&o| o as usize) == Some(bytes.len());
    let cuts_fit = offsets.is_sorted() && offsets.iter().all(|&o| text.is_char_boundary(o as usize));
    if !(ends_fit && cuts_fit) {
        return Err(corrupt("vocabulary.offsets do not cut vocabulary.bytes into terms"));
    }
    let follows = |term: usize| slot(offsets, bytes, term - 1) < slot(offsets, bytes, term);
    let ascending = (1..offsets.len() - 1).all(|term| term == words || follows(term));
    if ascending { Ok(()) } else { Err(corrupt("the terms are not strictly ascending")) }
}

/// Writes `bytes` beside `path` and renames, so that `path` never names half a file. Returns the digest.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<String, ArtifactError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let failed = |action, at: &Path| {
        let path = at.to_owned();
        move |source| ArtifactError::Io { action, path, source }
    };
    let mut file = File::create(&partial).map_err(failed("create", &partial))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write", &partial))?;
    std::fs::rename(&partial, path).map_err(failed("rename to", path))?;
    Ok(sha256(bytes))
}

/// SHA-256 of bytes, 64 lower-case hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// SHA-256 of a file, read in pieces.
pub fn sha256_file(path: &Path) -> Result<String, ArtifactError> {
    let failed = |source| ArtifactError::Io { action: "read", path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = file.read(&mut buffer).map_err(failed)?;
        if n == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(&buffer[..n]);
    }
}
