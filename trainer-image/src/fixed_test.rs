//! The fixed test set: rows of another snapshot.

use std::collections::HashSet;
use std::path::Path;

use vitrine_contract::job::Ingest;

use crate::Error;
use crate::ingest::Sink;
use crate::snapshot::{Reader, Row};
use crate::split::{GroupKey, Part};

/// Rows of another snapshot that become the test part.
pub struct FixedTest {
    rows: Reader,
    /// Groups of those rows.
    pub groups: HashSet<GroupKey>,
}

impl FixedTest {
    /// Opens that snapshot.
    pub fn open(path: &Path, task: &Ingest) -> Result<Self, Error> {
        let rows = Reader::open(path)?;
        if rows.texts != task.text || rows.grouped_by != task.split.group_by {
            return Err(Error::InvalidSpec(format!(
                "the fixed test set has the texts {:?} grouped by {:?}, this data set {:?} grouped by {:?}; give both the same schema.text and split.groupBy",
                rows.texts, rows.grouped_by, task.text, task.split.group_by
            )));
        }
        let mut groups = HashSet::new();
        rows.for_each(|row| {
            groups.insert(row.group);
            Ok(())
        })?;
        Ok(Self { rows, groups })
    }

    /// Adds its rows, with their pictures where this data set has pictures.
    pub fn append(&self, sink: &mut Sink) -> Result<(), Error> {
        let pictures = sink.has_pictures();
        let add = |row: Row| {
            let text = sink.text_key(&row);
            sink.push(Row { part: Part::Test, ..row }, text)
        };
        if pictures { self.rows.for_each_with_picture(add) } else { self.rows.for_each(add) }
    }
}
