//! The report of a training: every trial, every metric, and what it cost.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vitrine_contract::report::{BestTrial, Blob, SplitMetrics};
use vitrine_model::{Algorithm, Calibration, Class, TextSettings};

use crate::profile::round;

/// Version of the report's format.
pub const FORMAT_VERSION: u32 = 1;

/// Report of one training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrainingReport {
    /// Version of this format.
    pub format_version: u32,
    /// Version of the trainer.
    pub trainer_version: String,
    /// Model name.
    pub model_name: String,
    /// The artifact.
    pub model: Blob,
    /// Terms of its vocabulary.
    pub features: usize,
    /// Digest of the data set's manifest.
    pub dataset_digest: String,
    /// Seed of the run.
    pub seed: u64,
    /// Number of folds.
    pub folds: usize,
    /// Metric that was maximised.
    pub objective: String,
    /// Classes in the order of every list and matrix below.
    pub classes: Vec<Class>,
    /// Labelled rows by part.
    pub rows: BTreeMap<String, usize>,
    /// Rows without a label, which were not used.
    pub unlabelled_rows: u64,
    /// All trials.
    pub trials: Vec<TrialReport>,
    /// The chosen one.
    pub best: BestTrial,
    /// What turns scores into probabilities, fitted on out-of-fold scores.
    pub calibration: Calibration,
    /// `validation` and `test`, where they have labelled rows.
    pub parts: BTreeMap<String, PartReport>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// What it cost.
    pub cost: Cost,
}

/// One trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrialReport {
    /// From 1.
    pub trial: usize,
    /// Family.
    pub candidate: String,
    /// Settings in one line.
    pub parameters: String,
    /// The algorithm with its hyperparameters.
    pub algorithm: Algorithm,
    /// The features.
    pub text: TextSettings,
    /// Objective on each fold.
    pub folds: Vec<f64>,
    /// Mean over the folds.
    pub mean: f64,
    /// Standard deviation over the folds.
    pub deviation: f64,
    /// Most passes of the solver.
    pub passes: u32,
    /// Whether every fit reached its tolerance.
    pub converged: bool,
    /// Wall seconds of fitting and scoring.
    pub wall_seconds: f64,
    /// CPU seconds of the same.
    pub cpu_seconds: f64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Metrics of one part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartReport {
    /// Labels of this part that the train part lacks; they follow the classes.
    pub unseen_labels: Vec<String>,
    /// All figures.
    #[serde(flatten)]
    pub metrics: vitrine_model::Report,
}

impl PartReport {
    /// The figures that the contract carries.
    pub fn summary(&self, part: &str) -> SplitMetrics {
        let m = &self.metrics;
        let values = [
            ("F1Weighted", m.f1_weighted),
            ("F1Macro", m.f1_macro),
            ("Accuracy", m.accuracy),
            ("LogLoss", m.log_loss),
            ("CalibrationError", m.expected_calibration_error),
        ];
        SplitMetrics {
            split: part.to_owned(),
            rows: m.rows as u64,
            values: values.into_iter().map(|(name, value)| (name.to_owned(), round(value))).collect(),
        }
    }
}

/// What a training cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// Wall seconds.
    pub wall_seconds: f64,
    /// CPU seconds of all threads.
    pub cpu_seconds: f64,
    /// Most resident memory.
    pub peak_memory_bytes: u64,
    /// Threads used.
    pub threads: usize,
}
