//! Source to snapshot: reads the table once, in pieces.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use vitrine_contract::job::Ingest;
use vitrine_contract::report::{Blob, Ingested};
use vitrine_gateway_client::{digest_of_bytes, digest_of_file};

use crate::Error;
use crate::labels::{LabelFile, default_name};
use crate::manifest::{FORMAT_VERSION, Manifest, Parts, canonical_json};
use crate::meter::Meter;
use crate::profile::{Profile, Profiler, Rejected};
use crate::snapshot::{Reader, Row, Writer};
use crate::split::{BY_TEXT, GroupKey, Part, TextKeys, kept, part};
use crate::table::{BadRow, RawRow, Table};

/// File name of the snapshot.
pub const SNAPSHOT: &str = "snapshot.parquet";
/// File name of the manifest.
pub const MANIFEST: &str = "manifest.json";
/// File name of the profile.
pub const PROFILE: &str = "profile.json";
/// Rows between two looks at the clock.
const ROWS_PER_STEP: u64 = 256;

/// Where things are.
#[derive(Debug, Clone)]
pub struct Places {
    /// Root of the source.
    pub source: PathBuf,
    /// Folder for the three files.
    pub out: PathBuf,
    /// Snapshot with the fixed test rows.
    pub fixed_test: Option<PathBuf>,
}

/// Makes snapshot, manifest and profile. `names` are the readable names of labels.
pub fn ingest(
    task: &Ingest,
    places: &Places,
    names: &BTreeMap<String, String>,
    meter: &Meter,
) -> Result<Ingested, Error> {
    check(task)?;
    meter.step("reading labels", 0.0);
    let folder = crate::pod::below(&places.source, &task.path)?;
    let table = Table::open(&folder, &task.features)?;
    let columns = Columns::find(&table, task)?;
    let labels = match (&task.labels, &task.label) {
        (Some(file), Some(label)) => Some(LabelFile::read(&folder, file, label)?),
        _ => None,
    };
    fs::create_dir_all(&places.out).map_err(Error::io("creating", &places.out))?;
    let path = places.out.join(SNAPSHOT);
    let mut sink = Sink {
        writer: Writer::create(&path, &task.text, &task.split.group_by)?,
        parts: Parts::default(),
        profiler: Profiler::new(task.text.len()),
        keys: TextKeys::new().map_err(|e| Error::Internal(e.to_string()))?,
    };
    let fixed = places.fixed_test.as_deref().map(|path| FixedTest::open(path, task)).transpose()?;
    let mut source = Source {
        task,
        table,
        columns,
        labels,
        test_groups: fixed.as_ref().map(|fixed| &fixed.groups),
        counts: Counts::default(),
    };
    source.read(&mut sink, meter)?;
    if let Some(fixed) = &fixed {
        fixed.append(&mut sink)?;
    }
    meter.step("writing the snapshot", 0.97);
    let counts = source.into_counts()?;
    sink.finish(task, names, counts, places)
}

fn check(task: &Ingest) -> Result<(), Error> {
    let spec = |message: String| Err(Error::InvalidSpec(message));
    if task.text.is_empty() {
        return spec("schema.text names no column; a snapshot needs one text column at least".to_owned());
    }
    let distinct: HashSet<_> = task.text.iter().collect();
    if distinct.len() != task.text.len() {
        return spec(format!("schema.text names a column twice: {:?}", task.text));
    }
    if task.labels.is_some() && task.label.is_none() {
        return spec("there is a labels file but schema.label names no column in it".to_owned());
    }
    let split = &task.split;
    let shares = [split.train, split.validation, split.test];
    let sum: f64 = shares.iter().sum();
    if !shares.iter().all(|share| (0.0..=1.0).contains(share)) || (sum - 1.0).abs() > 1e-6 {
        return spec(format!("the fractions {shares:?} of split must be 0 to 1 and sum to 1"));
    }
    if split.train <= 0.0 {
        return spec("split.fractions.train must be above 0".to_owned());
    }
    match task.sample {
        Some(sample) if !(sample.fraction > 0.0 && sample.fraction <= 1.0) => {
            spec(format!("sample.fraction {} must be above 0 and at most 1", sample.fraction))
        }
        _ => Ok(()),
    }
}

/// Positions of the columns that are read.
struct Columns {
    index: Option<usize>,
    id: Option<usize>,
    label: Option<usize>,
    group: Option<usize>,
    texts: Vec<usize>,
}

impl Columns {
    fn find(table: &Table, task: &Ingest) -> Result<Self, Error> {
        let column = |name: &String| table.column(name);
        let label_beside = task.labels.is_some();
        let group = Some(&task.split.group_by).filter(|name| *name != BY_TEXT);
        Ok(Self {
            index: if label_beside { Some(table.index_column()?) } else { None },
            id: task.id.as_ref().map(column).transpose()?,
            label: if label_beside { None } else { task.label.as_ref().map(column).transpose()? },
            group: group.map(column).transpose()?,
            texts: task.text.iter().map(column).collect::<Result<_, _>>()?,
        })
    }
}

/// Why a row is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reject {
    Bad(BadRow),
    NoLabel,
    NoText,
    DuplicateId,
}

#[derive(Debug, Default)]
struct Counts {
    read: u64,
    rejected: Rejected,
    overlap: u64,
    unsampled: u64,
    matched_labels: u64,
    unmatched_labels: u64,
}

struct Source<'a> {
    task: &'a Ingest,
    table: Table,
    columns: Columns,
    labels: Option<LabelFile>,
    test_groups: Option<&'a HashSet<GroupKey>>,
    counts: Counts,
}

impl Source<'_> {
    fn read(&mut self, sink: &mut Sink, meter: &Meter) -> Result<(), Error> {
        let mut ids = HashSet::new();
        let mut raw = RawRow::default();
        while self.table.next(&mut raw)? {
            if self.counts.read.is_multiple_of(ROWS_PER_STEP) {
                let step = format!("reading {}, {} rows", self.table.name, self.counts.read);
                meter.step(&step, self.table.fraction_read() * 0.95);
            }
            self.counts.read += 1;
            match self.usable(&raw, &mut ids) {
                Ok((row, value)) => self.take(row, value, sink)?,
                Err(reject) => self.reject(reject, &raw),
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
        if label.as_ref().is_some_and(String::is_empty) {
            return Err(Reject::NoLabel);
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
        Ok((Row { id, texts, label, group: GroupKey([0; 16]), part: Part::Train }, value))
    }

    fn take(&mut self, mut row: Row, value: Option<String>, sink: &mut Sink) -> Result<(), Error> {
        let text = sink.text_key(&row);
        // An empty value would make one group of all rows without one.
        row.group = match value {
            Some(value) if !value.is_empty() => GroupKey::of_value(&value),
            _ => text,
        };
        if self.test_groups.is_some_and(|groups| groups.contains(&row.group)) {
            self.counts.overlap += 1;
            return Ok(());
        }
        if self.task.sample.is_some_and(|sample| !kept(&sample, row.group)) {
            self.counts.unsampled += 1;
            return Ok(());
        }
        row.part = part(&self.task.split, row.group);
        sink.push(row, text)
    }

    fn reject(&mut self, reject: Reject, raw: &RawRow) {
        let (reason, example) = match reject {
            Reject::Bad(BadRow::Ragged) => {
                ("ragged", format!("{} cells, the header has {}", raw.cells(), self.table.columns()))
            }
            Reject::Bad(BadRow::NotUtf8(column)) => {
                let column = self.table.header(column);
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
            Reject::NoText => ("noText", "all text columns are empty".to_owned()),
            Reject::DuplicateId => (
                "duplicateId",
                format!("column {:?} repeats an earlier row's", self.task.id.as_deref().unwrap_or("id")),
            ),
        };
        self.counts.rejected.rows += 1;
        let of_reason = self.counts.rejected.reasons.entry(reason.to_owned()).or_default();
        of_reason.rows += 1;
        if of_reason.rows == 1 {
            of_reason.first_line = raw.line();
            of_reason.example = example;
        }
    }

    /// Ends it when the table as a whole is of no use.
    fn into_counts(mut self) -> Result<Counts, Error> {
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
        let labelled = self.labels.as_ref().map_or(0, LabelFile::len) as u64;
        self.counts.unmatched_labels = labelled.saturating_sub(self.counts.matched_labels);
        Ok(self.counts)
    }
}

/// Where rows go.
struct Sink {
    writer: Writer,
    parts: Parts,
    profiler: Profiler,
    keys: TextKeys,
}

impl Sink {
    fn text_key(&mut self, row: &Row) -> GroupKey {
        let texts: Vec<_> = row.texts.iter().map(Option::as_deref).collect();
        self.keys.key(&texts)
    }

    fn push(&mut self, row: Row, text: GroupKey) -> Result<(), Error> {
        self.parts.push(&row);
        self.profiler.push(&row, text);
        self.writer.push(row)
    }

    fn finish(
        self,
        task: &Ingest,
        names: &BTreeMap<String, String>,
        counts: Counts,
        places: &Places,
    ) -> Result<Ingested, Error> {
        if self.profiler.rows() == 0 {
            let (overlap, unsampled) = (counts.overlap, counts.unsampled);
            return Err(Error::DataCorrupt(format!(
                "no row is left: {overlap} are in the fixed test set and {unsampled} outside of the sample; raise sample.fraction"
            )));
        }
        self.writer.finish()?;
        let snapshot = places.out.join(SNAPSHOT);
        let snapshot = digest_of_file(&snapshot).map_err(Error::io("reading", &snapshot))?;
        let name = |label: &str| names.get(label).cloned().unwrap_or_else(|| default_name(label));
        let labels: BTreeMap<_, _> =
            self.profiler.labels().map(|label| (label.to_owned(), name(label))).collect();
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            snapshot,
            text_columns: task.text.clone(),
            label_column: task.label.clone(),
            rows: self.profiler.rows(),
            groups: self.profiler.groups(),
            rejected_rows: counts.rejected.rows,
            overlap_rows: counts.overlap,
            split: task.split.clone(),
            sample: task.sample,
            splits: self.parts.finish(),
            labels,
        };
        let profile = Profile {
            rejected: counts.rejected,
            overlap_rows: counts.overlap,
            unsampled_rows: counts.unsampled,
            unmatched_label_rows: counts.unmatched_labels,
            ..self.profiler.finish(&task.text, &manifest.labels)
        };
        let manifest_blob = write(&places.out.join(MANIFEST), &manifest.to_json()?)?;
        let profile_blob = write(&places.out.join(PROFILE), &canonical_json(&profile)?)?;
        Ok(ingested(manifest, &profile, manifest_blob, profile_blob))
    }
}

fn write(path: &Path, text: &str) -> Result<Blob, Error> {
    fs::write(path, text).map_err(Error::io("writing", path))?;
    Ok(Blob { digest: digest_of_bytes(text.as_bytes()), bytes: text.len() as u64 })
}

fn ingested(manifest: Manifest, profile: &Profile, manifest_blob: Blob, profile_blob: Blob) -> Ingested {
    let ratio = |(name, column): (&String, &crate::profile::ColumnProfile)| (name.clone(), column.null_ratio);
    Ingested {
        manifest: manifest_blob,
        snapshot: manifest.snapshot,
        profile: profile_blob,
        rows: manifest.rows,
        rejected_rows: manifest.rejected_rows,
        classes: profile.classes.len() as u64,
        groups: manifest.groups,
        splits: manifest.splits,
        null_ratios: profile.columns.iter().map(ratio).collect(),
        imbalance_ratio: profile.imbalance_ratio,
        mean_text_length: profile.joined.mean,
    }
}

/// Rows of another snapshot that become the test part.
struct FixedTest {
    rows: Reader,
    groups: HashSet<GroupKey>,
}

impl FixedTest {
    fn open(path: &Path, task: &Ingest) -> Result<Self, Error> {
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

    fn append(&self, sink: &mut Sink) -> Result<(), Error> {
        self.rows.for_each(|row| {
            let text = sink.text_key(&row);
            sink.push(Row { part: Part::Test, ..row }, text)
        })
    }
}
