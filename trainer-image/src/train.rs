//! Snapshot to model: search, refit on all train rows, calibrate, judge, write.
//!
//! The choice is made by cross-validation within the train part; the labels of the validation and
//! test parts are read after the model is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;

use vitrine_contract::job::Train;
use vitrine_contract::report::{Blob, Trained};
use vitrine_gateway_client::{digest_of_bytes, digest_of_file};
use vitrine_model::head::Problem;
use vitrine_model::{
    Calibration, Class, FoldError, Model, ModelParts, Report, Row, probe_rows, stratified_group_k_fold,
};

use crate::Error;
use crate::grid::Grid;
use crate::labels::default_name;
use crate::manifest::canonical_json;
use crate::meter::Meter;
use crate::profile::round;
use crate::report::{Cost, FORMAT_VERSION, PartReport, TrainingReport, TrialReport};
use crate::search::{Found, Search};
use crate::split::Part;
use crate::training_data::{HeldOut, TrainingData};
use crate::usage::{Stopwatch, peak_memory_bytes, threads};

/// Golden probes in an artifact.
const PROBES: usize = 16;
/// Rows that one thread judges at a time.
const ROWS_PER_PIECE: usize = 256;

/// What a training reads and writes.
#[derive(Debug, Clone)]
pub struct Files {
    /// The Parquet file.
    pub snapshot: PathBuf,
    /// The artifact to write.
    pub model: PathBuf,
    /// The report to write.
    pub report: PathBuf,
}

/// Trains a model. `names` are the readable names of labels.
pub fn train(
    task: &Train,
    files: &Files,
    names: &BTreeMap<String, String>,
    meter: &Meter,
) -> Result<Trained, Error> {
    train_with(task, files, names, meter, threads())
}

/// As [`train`], with so many threads: the model's bytes are the same for any number.
pub fn train_with(
    task: &Train,
    files: &Files,
    names: &BTreeMap<String, String>,
    meter: &Meter,
    threads: usize,
) -> Result<Trained, Error> {
    let watch = Stopwatch::of_process();
    let (grid, objective) = Grid::new(task)?;
    meter.step("reading the snapshot", 0.0);
    let data = TrainingData::open(&files.snapshot)?;
    let fold_of = stratified_group_k_fold(&data.classes, Some(&data.groups), task.folds, task.seed)
        .map_err(|e| too_few_groups(&e))?;
    let search = Search {
        data: &data,
        grid: &grid,
        fold_of,
        folds: task.folds,
        objective,
        seed: task.seed,
        threads,
        meter,
    };
    let found = search.run()?;
    let run = Run { task, data: &data, search: &search, found: &found, names, threads, meter };
    let (model, calibration) = run.refit(&files.model)?;
    let parts = run.judge(&model)?;
    let blob = digest_of_file(&files.model).map_err(Error::io("reading", &files.model))?;
    let cost = Cost {
        wall_seconds: round(watch.wall_seconds()),
        cpu_seconds: round(watch.cpu_seconds()),
        peak_memory_bytes: peak_memory_bytes(),
        threads,
    };
    let report = run.report(&model, blob, calibration, parts, cost);
    let json = canonical_json(&report)?;
    std::fs::write(&files.report, &json).map_err(Error::io("writing", &files.report))?;
    meter.step("done", 1.0);
    Ok(Trained {
        model: report.model.clone(),
        report: Blob { digest: digest_of_bytes(json.as_bytes()), bytes: json.len() as u64 },
        trials: found.tally(),
        best: report.best.clone(),
        metrics: report.parts.iter().map(|(name, part)| part.summary(name)).collect(),
        wall_seconds: cost.wall_seconds,
        cpu_seconds: cost.cpu_seconds,
        peak_memory_bytes: cost.peak_memory_bytes,
    })
}

fn too_few_groups(error: &FoldError) -> Error {
    match error {
        FoldError::TooFew { folds, groups } => Error::DataCorrupt(format!(
            "the train part has {groups} groups of rows, too few for crossValidation.folds {folds}; lower folds or use more rows"
        )),
        FoldError::Lengths { .. } => Error::Internal(error.to_string()),
    }
}

struct Run<'a> {
    task: &'a Train,
    data: &'a TrainingData,
    search: &'a Search<'a>,
    found: &'a Found,
    names: &'a BTreeMap<String, String>,
    threads: usize,
    meter: &'a Meter,
}

impl Run<'_> {
    /// The winner on all train rows, written and read back.
    fn refit(&self, path: &Path) -> Result<(Model, Calibration), Error> {
        self.tell("training the best on all train rows", 0.92);
        let point = self.search.point(self.found.best);
        let corpus = self.data.corpus(point.settings)?;
        let rows: Vec<u32> = (0..corpus.len() as u32).collect();
        let (features, x) = corpus.fit_transform(&rows)?;
        let vocabulary = corpus.vocabulary(&features);
        drop(corpus);
        let (y, classes) = (&self.data.classes, self.data.labels.len());
        let fitted = point.algorithm.fit(Problem { x: &x, y, classes }, self.task.seed, self.threads)?;
        drop(x);
        self.tell("calibrating", 0.97);
        let calibration = Calibration::fit(&self.found.scores, y, classes)
            .map_err(|e| Error::NonFinite(format!("the out-of-fold scores cannot be calibrated: {e}")))?;
        let probes: Vec<usize> =
            probe_rows(y, PROBES, self.task.seed).into_iter().map(|row| row as usize).collect();
        let model = Model::build(ModelParts {
            algorithm: point.algorithm,
            classes: self.classes(),
            text_columns: self.data.text_columns().to_vec(),
            text: point.settings.clone(),
            vocabulary,
            head: fitted.head,
            calibration,
            dataset_digest: self.task.dataset_digest.clone(),
            seed: self.task.seed,
            probes: self.data.texts(&probes)?,
        })?;
        model.write(path)?;
        // What the server will do with the file, done once here.
        let model = Model::open(path)?;
        model.verify_probes().map_err(|e| Error::Internal(e.to_string()))?;
        Ok((model, calibration))
    }

    /// Metrics of the parts that were not trained on, by the model as the server has it.
    fn judge(&self, model: &Model) -> Result<BTreeMap<String, PartReport>, Error> {
        self.tell("judging on the validation and test parts", 0.98);
        let mut parts = BTreeMap::new();
        for part in [Part::Validation, Part::Test] {
            let held_out = self.data.held_out(part)?;
            if held_out.truth.is_empty() {
                continue;
            }
            let classes = self.data.labels.len() + held_out.unseen.len();
            let probabilities = self.probabilities(model, &held_out, classes);
            let metrics = Report::new(&held_out.truth, &probabilities, classes);
            parts.insert(part.as_str().to_owned(), PartReport { unseen_labels: held_out.unseen, metrics });
        }
        Ok(parts)
    }

    /// `[row][class]`; a label that was never seen has probability 0, so such rows count as wrong.
    fn probabilities(&self, model: &Model, held_out: &HeldOut, classes: usize) -> Vec<f32> {
        let mut out = vec![0.0; held_out.texts.len() * classes];
        let mut pieces: Vec<_> =
            out.chunks_mut(ROWS_PER_PIECE * classes).zip(held_out.texts.chunks(ROWS_PER_PIECE)).collect();
        let share = pieces.len().div_ceil(self.threads).max(1);
        thread::scope(|scope| {
            for pieces in pieces.chunks_mut(share) {
                scope.spawn(move || {
                    for (out, texts) in pieces {
                        let rows: Vec<Vec<Option<&str>>> =
                            texts.iter().map(|row| row.iter().map(Option::as_deref).collect()).collect();
                        let rows: Vec<Row> = rows.iter().map(Vec::as_slice).collect();
                        for (out, row) in out.chunks_exact_mut(classes).zip(model.predict(&rows)) {
                            out[..row.probabilities.len()].copy_from_slice(&row.probabilities);
                        }
                    }
                });
            }
        });
        out
    }

    fn classes(&self) -> Vec<Class> {
        let class = |label: &String| Class {
            label: label.clone(),
            name: self.names.get(label).cloned().unwrap_or_else(|| default_name(label)),
        };
        self.data.labels.iter().map(class).collect()
    }

    fn report(
        &self,
        model: &Model,
        blob: Blob,
        calibration: Calibration,
        parts: BTreeMap<String, PartReport>,
        cost: Cost,
    ) -> TrainingReport {
        let rows = self.data.rows.iter().map(|(part, &rows)| (part.as_str().to_owned(), rows)).collect();
        TrainingReport {
            format_version: FORMAT_VERSION,
            trainer_version: env!("CARGO_PKG_VERSION").to_owned(),
            model_name: self.task.model.clone(),
            model: blob,
            features: model.features(),
            dataset_digest: self.task.dataset_digest.clone(),
            seed: self.task.seed,
            folds: self.task.folds,
            objective: self.task.objective.clone(),
            classes: self.classes(),
            rows,
            unlabelled_rows: self.data.unlabelled,
            trials: self.trials(),
            best: self.search.best_trial(self.found.best, &self.found.trials[self.found.best]),
            calibration,
            warnings: self.warnings(&parts),
            parts,
            cost,
        }
    }

    fn trials(&self) -> Vec<TrialReport> {
        let trial = |(number, trial): (usize, &crate::search::Trial)| {
            let point = self.search.point(number);
            TrialReport {
                trial: number + 1,
                candidate: point.candidate().to_owned(),
                parameters: point.parameters(),
                algorithm: point.algorithm,
                text: point.settings.clone(),
                folds: trial.folds.iter().copied().map(round).collect(),
                mean: round(trial.mean),
                deviation: round(trial.deviation),
                passes: trial.passes,
                converged: trial.converged,
                wall_seconds: round(trial.wall_seconds),
                cpu_seconds: round(trial.cpu_seconds),
                failure: trial.failure.clone(),
            }
        };
        self.found.trials.iter().enumerate().map(trial).collect()
    }

    fn warnings(&self, parts: &BTreeMap<String, PartReport>) -> Vec<String> {
        let folds = self.task.folds;
        let thin = self.data.thin_classes(folds).into_iter().map(|(label, rows, groups)| {
            format!(
                "class {label:?} has {rows} train rows in {groups} groups, fewer than the {folds} folds: some folds judge without it or never learn it"
            )
        });
        let unseen = parts.iter().filter(|(_, part)| !part.unseen_labels.is_empty()).map(|(name, part)| {
            format!("the {name} part has labels that the train part lacks: {:?}", part.unseen_labels)
        });
        let slow = self.found.trials.iter().enumerate().filter(|(_, t)| t.failure.is_none() && !t.converged);
        let slow = slow.map(|(number, trial)| {
            format!("trial {} stopped after {} passes before its tolerance", number + 1, trial.passes)
        });
        thin.chain(unseen).chain(slow).collect()
    }

    fn tell(&self, step: &str, done: f64) {
        let best = &self.found.trials[self.found.best];
        let best = self.search.best_trial(self.found.best, best);
        self.meter.search(step, done, self.found.tally(), Some(best));
    }
}
