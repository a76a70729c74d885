//! What pods report: progress while they work, and one message at the end. The end message goes
//! both to the gateway and to the termination log, so that either is enough.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Progress of a Job, posted every second or two.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// 0 to 100.
    pub percentage: u8,
    /// Seconds likely left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_remaining_seconds: Option<u64>,
    /// What is being done, such as `cross-validation, trial 3 of 12`.
    pub step: String,
    /// Trials so far (training).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trials: Option<Trials>,
    /// Best trial so far (training).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<BestTrial>,
}

/// Trials by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trials {
    /// All.
    pub total: u32,
    /// Under way.
    pub running: u32,
    /// Ended well.
    pub succeeded: u32,
    /// Failed.
    pub failed: u32,
}

/// Best trial of the search.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BestTrial {
    /// From 1.
    pub trial: u32,
    /// Family, as a candidate's field is called: `linearSvm`.
    pub candidate: String,
    /// Settings in one text, such as `c=1, word 1-2, stopWords=French`.
    pub parameters: String,
    /// Metric that was maximised.
    pub metric: String,
    /// Mean over the folds.
    pub mean: f64,
    /// Standard deviation over the folds.
    pub deviation: f64,
}

/// The last words of a Job's pod; at most [`crate::paths::MAX_TERMINATION`] bytes of JSON in the
/// termination log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Contract version.
    pub version: u32,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a pod ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// A snapshot was made and stored.
    Ingested(Ingested),
    /// A model was trained and stored.
    Trained(Trained),
    /// It failed.
    Failed(Failure),
}

/// Why a pod failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// One word: a `Reason` of the documented list, such as `DataCorrupt`.
    pub reason: String,
    /// The object, the number and the fix.
    pub message: String,
}

/// A stored blob.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blob {
    /// `sha256:` digest.
    pub digest: String,
    /// Size.
    pub bytes: u64,
}

/// A snapshot was made and stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ingested {
    /// Manifest (JSON): its digest is the dataset's digest.
    pub manifest: Blob,
    /// Parquet file.
    pub snapshot: Blob,
    /// Profile (JSON).
    pub profile: Blob,
    /// Rows in the snapshot.
    pub rows: u64,
    /// Rows left out.
    pub rejected_rows: u64,
    /// Rows left out because they are in the fixed test set or resemble a row of it; none: there is no
    /// such set, or a trainer from before this field reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap_rows: Option<u64>,
    /// Distinct labels.
    pub classes: u64,
    /// Groups.
    pub groups: u64,
    /// `train`, `validation`, `test`: rows and digest.
    pub splits: BTreeMap<String, SplitReport>,
    /// Share of empty cells by text column.
    pub null_ratios: BTreeMap<String, f64>,
    /// Rows of the largest class over rows of the smallest; none without labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imbalance_ratio: Option<f64>,
    /// Mean characters of the joined text.
    pub mean_text_length: f64,
    /// Pictures; none: the table has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Images>,
}

/// Pictures of a snapshot's own source: rows of a fixed test set are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Images {
    /// Rows with a usable picture; it is in the snapshot.
    pub count: u64,
    /// Rows whose picture is not there.
    pub missing: u64,
    /// Rows whose picture is there and cannot be used.
    pub unreadable: u64,
}

/// One part of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SplitReport {
    /// Rows.
    pub rows: u64,
    /// `sha256:` digest over its rows in order.
    pub digest: String,
}

/// A model was trained and stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trained {
    /// The artifact.
    pub model: Blob,
    /// The report (JSON).
    pub report: Blob,
    /// Trials.
    pub trials: Trials,
    /// The chosen trial.
    pub best: BestTrial,
    /// `validation` and `test`, where they have labelled rows.
    pub metrics: Vec<SplitMetrics>,
    /// Wall time of the training in seconds.
    pub wall_seconds: f64,
    /// CPU time in seconds.
    pub cpu_seconds: f64,
    /// Peak resident memory in bytes.
    pub peak_memory_bytes: u64,
}

/// Metrics of one split, rounded to six decimals.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SplitMetrics {
    /// `validation` or `test`.
    pub split: String,
    /// Rows judged.
    pub rows: u64,
    /// `F1Weighted`, `F1Macro`, `Accuracy`, `LogLoss`, `CalibrationError`.
    pub values: BTreeMap<String, f64>,
}

impl Message {
    /// A message of this contract version.
    pub fn new(outcome: Outcome) -> Self {
        Self { version: crate::VERSION, outcome }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_training_report_fits_the_termination_log() {
        let blob = || Blob { digest: format!("sha256:{}", "f".repeat(64)), bytes: 999_999_999_999 };
        let names = ["F1Weighted", "F1Macro", "Accuracy", "LogLoss", "CalibrationError"];
        let metrics = |split: &str| SplitMetrics {
            split: split.into(),
            rows: 999_999_999_999,
            values: names.iter().map(|n| ((*n).to_owned(), 0.123_457)).collect(),
        };
        let message = Message::new(Outcome::Trained(Trained {
            model: blob(),
            report: blob(),
            trials: Trials { total: 99_999, running: 99_999, succeeded: 99_999, failed: 99_999 },
            best: BestTrial {
                trial: 99_999,
                candidate: "logisticRegression".into(),
                parameters: "p".repeat(200),
                metric: "F1Weighted".into(),
                mean: 0.123_457,
                deviation: 0.012_346,
            },
            metrics: vec![metrics("validation"), metrics("test")],
            wall_seconds: 123_456.789,
            cpu_seconds: 123_456.789,
            peak_memory_bytes: 999_999_999_999,
        }));
        let text = serde_json::to_string(&message).unwrap();
        assert!(text.len() <= crate::paths::MAX_TERMINATION, "{} bytes", text.len());
        assert_eq!(serde_json::from_str::<Message>(&text).unwrap(), message);
    }

    #[test]
    fn a_report_without_pictures_reads_and_writes_as_before_there_were_any() {
        let text = serde_json::to_string(&Ingested::default()).unwrap();
        assert!(!text.contains("images"), "{text}");
        assert_eq!(serde_json::from_str::<Ingested>(&text).unwrap().images, None);
    }

    #[test]
    fn a_report_of_a_newer_minor_contract_is_read() {
        let text = r#"{"version":1,"outcome":{"failed":{"reason":"DataCorrupt","message":"m","added":1}}}"#;
        let message: Message = serde_json::from_str(text).unwrap();
        assert!(matches!(message.outcome, Outcome::Failed(f) if f.reason == "DataCorrupt"));
    }
}
