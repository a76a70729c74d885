//! A verified model with its identity: what the HTTP side answers from.

use std::cell::RefCell;

use serde::Serialize;
use vitrine_model::{Class, Model, Prediction, Scratch};

/// Bytes of text above which a thread does not keep its work space, which grows with the text.
const SCRATCH_BYTES: usize = 256 * 1024;

/// Which model this is; equal in the registry, in the status of the deployment and here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// As clients address it.
    pub name: String,
    /// In the registry; 0 outside of one.
    pub version: i64,
    /// `sha256:` digest of the artifact.
    pub digest: String,
}

impl Identity {
    /// The first 12 digits of the digest: enough to tell versions of one model apart.
    pub fn short_digest(&self) -> &str {
        let hex = self.digest.strip_prefix(vitrine_contract::DIGEST_PREFIX).unwrap_or(&self.digest);
        hex.get(..12).unwrap_or(hex)
    }
}

/// A verified model with its identity.
#[derive(Debug)]
pub struct Served {
    model: Model,
    identity: Identity,
}

/// Rows to score: cells in row order, `columns` of them per row.
#[derive(Debug, Default)]
pub struct Table {
    columns: usize,
    cells: Vec<Option<String>>,
}

impl Table {
    /// An empty table whose rows have `columns` cells.
    pub fn new(columns: usize) -> Self {
        Self { columns, cells: Vec::new() }
    }

    /// Adds a row of missing cells and returns it, to be filled.
    pub fn push(&mut self) -> &mut [Option<String>] {
        let start = self.cells.len();
        self.cells.resize(start + self.columns, None);
        &mut self.cells[start..]
    }

    /// Takes the last row away.
    pub fn pop(&mut self) {
        self.cells.truncate(self.cells.len().saturating_sub(self.columns));
    }

    /// One cell, to be filled.
    pub fn cell(&mut self, row: usize, column: usize) -> Option<&mut Option<String>> {
        self.cells.get_mut(row * self.columns + column)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.cells.len().checked_div(self.columns).unwrap_or(0)
    }

    /// Bytes of text: what scoring costs grows with it.
    pub fn bytes(&self) -> usize {
        self.cells.iter().flatten().map(String::len).sum()
    }

    /// The first row without any text: nothing can be said about it.
    pub fn first_empty(&self) -> Option<usize> {
        let blank = |cell: &Option<String>| cell.as_deref().is_none_or(|text| text.trim().is_empty());
        self.cells.chunks(self.columns.max(1)).position(|row| row.iter().all(blank))
    }
}

impl Served {
    /// The caller has verified the model.
    pub fn new(model: Model, identity: Identity) -> Self {
        Self { model, identity }
    }

    /// Which model this is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Text columns in the order of a [`Table`]'s rows.
    pub fn columns(&self) -> &[String] {
        &self.model.info().text_columns
    }

    /// Classes in the order of scores.
    pub fn classes(&self) -> &[Class] {
        &self.model.info().classes
    }

    /// Scores every row and keeps what `pick` makes of it.
    pub fn score<T>(&self, table: &Table, mut pick: impl FnMut(&Prediction) -> T) -> Vec<T> {
        thread_local! {
            static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut row = Vec::with_capacity(table.columns);
            let rows = table.cells.chunks_exact(table.columns.max(1));
            let scored = rows
                .map(|cells| {
                    row.clear();
                    row.extend(cells.iter().map(Option::as_deref));
                    pick(&self.model.predict_row(&row, scratch))
                })
                .collect();
            if table.bytes() > SCRATCH_BYTES {
                *scratch = Scratch::default();
            }
            scored
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_text_is_found() {
        let mut table = Table::new(2);
        table.push()[1] = Some("x".into());
        assert_eq!((table.rows(), table.bytes(), table.first_empty()), (1, 1, None));
        table.push()[0] = Some(" \t\n".into());
        assert_eq!((table.rows(), table.first_empty()), (2, Some(1)));
    }

    #[test]
    fn short_digests_are_twelve_digits() {
        let identity = |digest: &str| Identity { name: "m".into(), version: 1, digest: digest.into() };
        assert_eq!(identity("sha256:0123456789abcdef").short_digest(), "0123456789ab");
        assert_eq!(identity("sha256:01").short_digest(), "01");
    }
}
