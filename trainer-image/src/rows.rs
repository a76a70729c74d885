//! From the rows of a table to the rows of a snapshot: what cannot be used is counted by reason with
//! the line where it was first seen, and a table of which most is of no use ends the ingest.

use std::collections::{BTreeMap, HashSet};

use vitrine_contract::job::Ingest;
use vitrine_contract::report::Images;

use crate::Error;
use crate::folder::Folder;
use crate::ingest::Sink;
use crate::labels::{LabelFile, MAX_CLASSES, MAX_LABEL, too_many_classes};
use crate::meter::Meter;
use crate::pictures::{PictureFault, Pictures};
use crate::profile::{Rejected, RejectedFor};
use crate::snapshot::Row;
use crate::split::{BY_TEXT, GroupKey, Part, kept, part};
use crate::table::{BadRow, RawRow, Table};

/// Rows between two looks at the clock.
const ROWS_PER_STEP: u64 = 256;

/// Positions of the columns that are read.
pub struct Columns {
    index: Option<usize>,
    id: Option<usize>,
    label: Option<usize>,
    group: Option<usize>,
    texts: Vec<usize>,
}

impl Columns {
    /// Finds them by the names of the task.
    pub fn find(table: &Table, task: &Ingest) -> Result<Self, Error> {
        let column = |name: &String| table.column(name);
        let label_beside = task.labels.is_some();
        let group = Some(&task.split.group_by).filter(|name| *name != BY_TEXT);
        // Texts first: of a file that is no such table they are what is missed.
        let texts = task.text.iter().map(column).collect::<Result<_, _>>()?;
        Ok(Self {
            texts,
            index: if label_beside { Some(table.index_column()?) } else { None },
            id: task.id.as_ref().map(column).transpose()?,
            label: if label_beside { None } else { task.label.as_ref().map(column).transpose()? },
            group: group.map(column).transpose()?,
        })
    }
}

/// Why a row is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reject {
    Bad(BadRow),
    NoLabel,
    LongLabel,
    NoText,
    DuplicateId,
    Picture(PictureFault),
}

/// What became of the source's rows.
#[derive(Debug, Default)]
pub struct Counts {
    read: u64,
    /// Rows that cannot be used.
    pub rejected: Rejected,
    /// Rows that are in the fixed test set.
    pub overlap: u64,
    /// Rows outside of the sample.
    pub unsampled: u64,
    matched_labels: u64,
    /// Labels without a row.
    pub unmatched_labels: u64,
    /// Pictures, where the data set has pictures.
    pub images: Option<Images>,
    /// The first rows without a picture, by what is wrong with it.
    pub without_picture: BTreeMap<String, RejectedFor>,
}

/// The table with everything that its rows need.
pub struct Source<'a> {
    task: &'a Ingest,
    table: Table,
    columns: Columns,
    labels: Option<LabelFile>,
    pictures: Option<Pictures>,
    test_groups: Option<&'a HashSet<GroupKey>>,
    counts: Counts,
}

impl<'a> Source<'a> {
    /// Opens the files that the task names and finds their columns.
    pub fn open(task: &'a Ingest, folder: &Folder) -> Result<Self, Error> {
        let table = Table::open(folder, &task.features)?;
        let columns = Columns::find(&table, task)?;
        let labels = match (&task.labels, &task.label) {
            (Some(file), Some(label)) => Some(LabelFile::read(folder, file, label)?),
            _ => None,
        };
        let pictures = task.image.as_ref().map(|image| Pictures::open(image, &table, folder)).transpose()?;
        Ok(Self { task, table, columns, labels, pictures, test_groups: None, counts: Counts::default() })
    }

    /// Leaves out the rows of these groups.
    pub fn without(&mut self, groups: &'a HashSet<GroupKey>) {
        self.test_groups = Some(groups);
    }

    /// Reads the table to its end.
    pub fn read(&mut self, sink: &mut Sink, meter: &Meter) -> Result<(), Error> {
        let mut ids = HashSet::new();
        let mut raw = RawRow::default();
        while self.table.next(&mut raw)? {
            if self.counts.read.is_multiple_of(ROWS_PER_STEP) {
                let step = format!("reading {}, {} rows", self.table.name, self.counts.read);
                meter.step(&step, self.table.fraction_read() * 0.95);
            }
            self.counts.read += 1;
            let taken = match self.usable(&raw, &mut ids) {
                Ok((row, value)) => self.take(row, value, &raw, sink)?,
                Err(reject) => Err(reject),
            };
            if let Err(reject) = taken {
                self.reject(&reject, &raw);
            }
        }
        Ok(())
    }

    /// The row without its group and part, and the value of the group column.
    fn usable(&mut self, raw: &RawRow, ids: &mut HashSet<GroupKey>) -> Result<(Row, Option<String>), Reject> {
        let cell = |column: usize| raw.cell(column).map_err(Reject::Bad);
        let texts = self.columns.texts.iter().map(|&column| cell(column)).collect::<Result<Vec<_>, _>>()?;
        if texts.iter().all(|text| text.trim().is_empty()) {
            return Err(Reject::NoText);
        }
        let label = match (&self.labels, self.columns.index, self.columns.label) {
            (Some(labels), Some(index), _) => {
                Some(labels.get(cell(index)?).ok_or(Reject::NoLabel)?.to_owned())
            }
            (None, _, Some(column)) => Some(cell(column)?.trim().to_owned()),
            _ => None,
        };
        match label.as_ref().map(String::len) {
            Some(0) => return Err(Reject::NoLabel),
            Some(length) if length > MAX_LABEL => return Err(Reject::LongLabel),
            _ => {}
        }
        self.counts.matched_labels += u64::from(self.labels.is_some());
        let id = match self.columns.id {
            Some(column) => cell(column)?.trim().to_owned(),
            None => (self.counts.read - 1).to_string(),
        };
        let value = self.columns.group.map(cell).transpose()?.map(|value| value.trim().to_owned());
        if self.columns.id.is_some() && !ids.insert(GroupKey::of_value(&id)) {
            return Err(Reject::DuplicateId);
        }
        let filled = |text: &str| (!text.trim().is_empty()).then(|| text.to_owned());
        let texts = texts.into_iter().map(filled).collect();
        // Group and part follow in `take`, which knows the normalised text.
        let (group, part) = (GroupKey([0; 16]), Part::Train);
        Ok((Row { id, texts, label, group, part, image: None }, value))
    }

    /// Gives the row what depends on its group, and its picture, and hands it on.
    fn take(
        &mut self,
        mut row: Row,
        value: Option<String>,
        raw: &RawRow,
        sink: &mut Sink,
    ) -> Result<Result<(), Reject>, Error> {
        let text = sink.text_key(&row);
        // An empty value would make one group of all rows without one.
        row.group = match value {
            Some(value) if !value.is_empty() => GroupKey::of_value(&value),
            _ => text,
        };
        if self.test_groups.is_some_and(|groups| groups.contains(&row.group)) {
            self.counts.overlap += 1;
            return Ok(Ok(()));
        }
        if self.task.sample.is_some_and(|sample| !kept(&sample, row.group)) {
            self.counts.unsampled += 1;
            return Ok(Ok(()));
        }
        row.part = part(&self.task.split, row.group);
        // The picture comes last: nothing of the above depends on it.
        if let Some(pictures) = &mut self.pictures {
            match pictures.read(raw)? {
                Ok(bytes) => row.image = Some(bytes),
                Err(fault) if !pictures.optional => return Ok(Err(Reject::Picture(fault))),
                Err(fault) => {
                    count(&mut self.counts.without_picture, fault.reason(), raw, || fault.to_string());
                }
            }
        }
        sink.push(row, text)?;
        if let Some(label) = self.task.label.as_ref().filter(|_| sink.classes() > MAX_CLASSES) {
            return Err(self.table.corrupt(raw.line(), &too_many_classes(label)));
        }
        Ok(Ok(()))
    }

    fn reject(&mut self, reject: &Reject, raw: &RawRow) {
        let (reason, example) = match reject {
            Reject::Bad(BadRow::Ragged) => {
                ("ragged", format!("{} cells, the header has {}", raw.cells(), self.table.columns()))
            }
            Reject::Bad(BadRow::Nul(column)) => {
                ("nul", format!("column {:?} holds a NUL byte", self.table.header(*column)))
            }
            Reject::Bad(BadRow::NotUtf8(column)) => {
                let column = self.table.header(*column);
                let fix = "convert the file, for example with iconv -f latin1 -t utf-8";
                ("notUtf8", format!("column {column:?} is not UTF-8; {fix}"))
            }
            Reject::NoLabel => match &self.task.labels {
                Some(file) => (
                    "noLabel",
                    format!("no label with this index in {file}; are both files of the same download?"),
                ),
                None => ("noLabel", "the label is empty".to_owned()),
            },
            Reject::LongLabel => ("longLabel", format!("the label is longer than {MAX_LABEL} bytes")),
            Reject::NoText => ("noText", "all text columns are empty".to_owned()),
            Reject::DuplicateId => (
                "duplicateId",
                format!("column {:?} repeats an earlier row's", self.task.id.as_deref().unwrap_or("id")),
            ),
            Reject::Picture(fault) => (fault.reason(), fault.to_string()),
        };
        self.counts.rejected.rows += 1;
        count(&mut self.counts.rejected.reasons, reason, raw, || example);
    }

    /// Ends it when the table as a whole is of no use.
    pub fn into_counts(mut self) -> Result<Counts, Error> {
        let (read, rejected) = (self.counts.read, &self.counts.rejected);
        if read == 0 {
            return Err(Error::DataCorrupt(format!("{} has a header but no rows", self.table.name)));
        }
        if rejected.rows * 2 > read {
            let worst = rejected.reasons.values().max_by_key(|reason| reason.rows);
            let worst = worst.map(|reason| {
                format!("; {} of them like line {}: {}", reason.rows, reason.first_line, reason.example)
            });
            return Err(Error::DataCorrupt(format!(
                "{} of {read} rows of {} cannot be used{}",
                rejected.rows,
                self.table.name,
                worst.unwrap_or_default()
            )));
        }
        self.counts.images = self.pictures.as_ref().map(|pictures| pictures.counts);
        let labelled = self.labels.as_ref().map_or(0, LabelFile::len) as u64;
        self.counts.unmatched_labels = labelled.saturating_sub(self.counts.matched_labels);
        Ok(self.counts)
    }
}

/// Counts a row for a reason; the first one is the example.
fn count(
    reasons: &mut BTreeMap<String, RejectedFor>,
    reason: &str,
    raw: &RawRow,
    example: impl FnOnce() -> String,
) {
    let of_reason = reasons.entry(reason.to_owned()).or_default();
    of_reason.rows += 1;
    if of_reason.rows == 1 {
        of_reason.first_line = raw.line();
        of_reason.example = example();
    }
}
