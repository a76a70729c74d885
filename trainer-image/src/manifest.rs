//! The manifest of a snapshot: its digest is the data set's digest, so it holds what training
//! depends on and nothing that changes without it (no time, no path, no version).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use vitrine_contract::DIGEST_PREFIX;
use vitrine_contract::job::{Sample, Split};
use vitrine_contract::report::{Blob, Images, SplitReport};

use crate::Error;
use crate::snapshot::Row;
use crate::split::Part;

/// Version of the manifest's format.
pub const FORMAT_VERSION: u32 = 1;

/// What a snapshot holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Version of this format.
    pub format_version: u32,
    /// The Parquet file.
    pub snapshot: Blob,
    /// Text columns in the order in which a model takes them.
    pub text_columns: Vec<String>,
    /// The source's label column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    /// Readable name of every label.
    pub labels: BTreeMap<String, String>,
    /// Rows.
    pub rows: u64,
    /// Groups.
    pub groups: u64,
    /// Rows that could not be used.
    pub rejected_rows: u64,
    /// Rows left out because their group is in the fixed test set.
    pub overlap_rows: u64,
    /// How rows were divided.
    pub split: Split,
    /// Which share of groups was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
    /// `train`, `validation`, `test`.
    pub splits: BTreeMap<String, SplitReport>,
    /// Pictures; none: the rows have none, and the manifest is the one from before there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Images>,
}

impl Manifest {
    /// Canonical JSON: sorted keys, no blanks.
    pub fn to_json(&self) -> Result<String, Error> {
        canonical_json(self)
    }

    /// From JSON of a supported format.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Error> {
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|e| Error::DataCorrupt(format!("the data set's manifest cannot be read: {e}")))?;
        if manifest.format_version != FORMAT_VERSION {
            let found = manifest.format_version;
            return Err(Error::DataCorrupt(format!(
                "the data set's manifest has format {found}, this trainer reads {FORMAT_VERSION}; use a matching trainer image"
            )));
        }
        Ok(manifest)
    }
}

/// JSON with sorted keys and no blanks, whatever features serde_json was built with.
pub fn canonical_json(value: &impl Serialize) -> Result<String, Error> {
    let fault = |e: serde_json::Error| Error::Internal(e.to_string());
    let value = serde_json::to_value(value).map_err(fault)?;
    serde_json::to_string(&sorted(value)).map_err(fault)
}

/// An object is rebuilt in key order: with the `preserve_order` feature that is its order of writing.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let ordered: BTreeMap<String, Value> = map.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            Value::Object(ordered.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// Counts the rows of each part and digests them in order.
#[derive(Debug, Default)]
pub struct Parts {
    parts: BTreeMap<Part, (u64, Sha256)>,
}

impl Parts {
    /// Adds a row to its part: identity, texts and label, each with its length before it, so that
    /// no two lists of rows have the same bytes. Pictures are not among them: models with and
    /// without pictures are compared on the same test rows. The snapshot's own digest covers them.
    pub fn push(&mut self, row: &Row) {
        let (rows, hash) = self.parts.entry(row.part).or_default();
        *rows += 1;
        let mut cell = |text: Option<&str>| {
            let length = text.map_or(u64::MAX, |text| text.len() as u64);
            hash.update(length.to_le_bytes());
            hash.update(text.unwrap_or_default());
        };
        cell(Some(&row.id));
        row.texts.iter().for_each(|text| cell(text.as_deref()));
        cell(row.label.as_deref());
    }

    /// All three parts, also empty ones.
    pub fn finish(mut self) -> BTreeMap<String, SplitReport> {
        let report = |part: Part| {
            let (rows, hash) = self.parts.remove(&part).unwrap_or_default();
            let digest = format!("{DIGEST_PREFIX}{}", hex::encode(hash.finalize()));
            (part.as_str().to_owned(), SplitReport { rows, digest })
        };
        Part::ALL.into_iter().map(report).collect()
    }
}
