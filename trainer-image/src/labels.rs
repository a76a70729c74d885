//! The label of each row, and the readable names of labels.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use crate::Error;
use crate::folder::Folder;
use crate::table::{RawRow, Table};

/// Most classes: more are the values of a column that is no label, such as an id.
pub const MAX_CLASSES: usize = 10_000;
/// Longest label and longest index in bytes.
pub const MAX_LABEL: usize = 1024;

/// Labels by the value of the index column.
#[derive(Debug, Default)]
pub struct LabelFile {
    by_index: HashMap<Box<str>, u32>,
    labels: Vec<String>,
    /// Rows that could not be used.
    pub unusable: u64,
}

impl LabelFile {
    /// Reads the whole file.
    pub fn read(folder: &Folder, name: &str, label: &str) -> Result<Self, Error> {
        let mut table = Table::open(folder, name)?;
        let (index, column) = (table.index_column()?, table.column(label)?);
        let mut out = Self::default();
        let mut numbers: HashMap<String, u32> = HashMap::new();
        let mut row = RawRow::default();
        while table.next(&mut row)? {
            let (Ok(key), Ok(value)) = (row.cell(index), row.cell(column)) else {
                out.unusable += 1;
                continue;
            };
            let (key, value) = (key.trim(), value.trim());
            if value.is_empty() || value.len().max(key.len()) > MAX_LABEL {
                out.unusable += 1;
                continue;
            }
            let number = *numbers.entry(value.to_owned()).or_insert_with(|| {
                out.labels.push(value.to_owned());
                out.labels.len() as u32 - 1
            });
            if out.labels.len() > MAX_CLASSES {
                return Err(table.corrupt(row.line(), &too_many_classes(label)));
            }
            if out.by_index.insert(key.into(), number).is_some() {
                return Err(table.corrupt(row.line(), &format!("index {key:?} is there a second time")));
            }
        }
        if out.by_index.is_empty() {
            return Err(Error::DataCorrupt(format!(
                "{name} has no usable row ({} unusable ones)",
                out.unusable
            )));
        }
        Ok(out)
    }

    /// Label of the row with this index.
    pub fn get(&self, index: &str) -> Option<&str> {
        let number = *self.by_index.get(index.trim())?;
        self.labels.get(number as usize).map(String::as_str)
    }

    /// Number of labelled rows.
    pub fn len(&self) -> usize {
        self.by_index.len()
    }

    /// True when there is no labelled row; [`LabelFile::read`] gives no such value.
    pub fn is_empty(&self) -> bool {
        self.by_index.is_empty()
    }
}

/// What is said of a label column with too many values.
pub fn too_many_classes(column: &str) -> String {
    format!("column {column:?} has more than {MAX_CLASSES} different labels; is it the class, or an id?")
}

/// Readable names from a mounted ConfigMap: one file per label. Files whose names begin with a dot
/// are the kubelet's.
pub fn read_names(folder: &Path) -> Result<BTreeMap<String, String>, Error> {
    let mut names = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(Error::io("listing", folder))? {
        let entry = entry.map_err(Error::io("listing", folder))?;
        let label = entry.file_name().to_string_lossy().into_owned();
        // The mounted keys are links to files.
        if label.starts_with('.') || !entry.path().is_file() {
            continue;
        }
        let bytes = fs::read(entry.path()).map_err(Error::io("reading", &entry.path()))?;
        let name = String::from_utf8_lossy(&bytes).trim().to_owned();
        if !name.is_empty() {
            names.insert(label, name);
        }
    }
    Ok(names)
}

/// The name of a label that has none.
pub fn default_name(label: &str) -> String {
    format!("category {label}")
}
