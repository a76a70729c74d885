//! Source to snapshot: reads the table once, in pieces.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use vitrine_contract::job::Ingest;
use vitrine_contract::report::{Blob, Ingested};
use vitrine_gateway_client::{digest_of_bytes, digest_of_file};

use crate::Error;
use crate::fixed_test::FixedTest;
use crate::folder::Folder;
use crate::labels::default_name;
use crate::manifest::{FORMAT_VERSION, Manifest, Parts, canonical_json};
use crate::meter::Meter;
use crate::profile::{Profile, Profiler};
use crate::rows::{Counts, Source};
use crate::snapshot::{Row, Writer};
use crate::split::{GroupKey, TextKeys};

/// File name of the snapshot.
pub const SNAPSHOT: &str = "snapshot.parquet";
/// File name of the manifest.
pub const MANIFEST: &str = "manifest.json";
/// File name of the profile.
pub const PROFILE: &str = "profile.json";

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
    let folder = Folder::new(&places.source, &task.path)?;
    let mut source = Source::open(task, &folder)?;
    fs::create_dir_all(&places.out).map_err(Error::io("creating", &places.out))?;
    let path = places.out.join(SNAPSHOT);
    let pictures = task.image.is_some();
    let mut sink = Sink {
        writer: Writer::create(&path, &task.text, &task.split.group_by, pictures)?,
        parts: Parts::default(),
        profiler: Profiler::new(task.text.len()),
        keys: TextKeys::new().map_err(|e| Error::Internal(e.to_string()))?,
        pictures,
    };
    let fixed = places.fixed_test.as_deref().map(|path| FixedTest::open(path, task)).transpose()?;
    if let Some(fixed) = &fixed {
        source.without(&fixed.groups);
    }
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

/// Where rows go.
pub struct Sink {
    writer: Writer,
    parts: Parts,
    profiler: Profiler,
    keys: TextKeys,
    pictures: bool,
}

impl Sink {
    /// Key of a row's normalised text.
    pub fn text_key(&mut self, row: &Row) -> GroupKey {
        let texts: Vec<_> = row.texts.iter().map(Option::as_deref).collect();
        self.keys.key(&texts)
    }

    /// Whether the data set has pictures.
    pub fn has_pictures(&self) -> bool {
        self.pictures
    }

    /// Different labels so far.
    pub fn classes(&self) -> usize {
        self.profiler.classes()
    }

    /// Adds a row with that key of its text.
    pub fn push(&mut self, row: Row, text: GroupKey) -> Result<(), Error> {
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
            images: counts.images,
            labels,
        };
        let profile = Profile {
            rejected: counts.rejected,
            without_picture: counts.without_picture,
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
        overlap_rows: manifest.split.fixed_test.is_some().then_some(manifest.overlap_rows),
        classes: profile.classes.len() as u64,
        groups: manifest.groups,
        splits: manifest.splits,
        null_ratios: profile.columns.iter().map(ratio).collect(),
        imbalance_ratio: profile.imbalance_ratio,
        mean_text_length: profile.joined.mean,
        images: manifest.images,
    }
}
