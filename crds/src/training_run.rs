//! The `TrainingRun` kind: one search for a model on one snapshot. Its spec never changes, so that
//! a run and its registered version always tell the same story.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::common::{
    LastFailure, LocalRef, NAME_MESSAGE, NAME_RULE, PodPlacement, Resources, conditions_schema,
};
use crate::dataset::default_seed;
pub use crate::search::{
    Boosting, Candidate, CharNgrams, CrossValidation, FeatureSet, Forest, Metric, Objective, Penalty, Search,
    Stemming, StopWords, TextFeatures, Weighting, WordNgrams,
};

const IMMUTABLE: &str = "a TrainingRun's spec is fixed once created, except suspend and ttlSecondsAfterFinished: create another TrainingRun with a new name";

/// One search for a model on one snapshot of a Dataset.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "vitrine.dev",
    version = "v1alpha1",
    kind = "TrainingRun",
    plural = "trainingruns",
    namespaced,
    shortname = "trun",
    category = "vitrine",
    status = "TrainingRunStatus",
    derive = "PartialEq",
    doc = "One search for a model on one snapshot of a Dataset; its passing model is registered.",
    validation = Rule::new(NAME_RULE).message(NAME_MESSAGE),
    printcolumn(name = "Succeeded", type_ = "string", json_path = ".status.conditions[?(@.type==\"Succeeded\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Succeeded\")].reason"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progress.summary"),
    printcolumn(name = "CV-Metric", type_ = "string", json_path = ".status.best.summary"),
    printcolumn(name = "Dataset", type_ = "string", json_path = ".spec.datasetRef.name"),
    printcolumn(name = "Model", type_ = "string", json_path = ".status.model.name"),
    printcolumn(name = "Version", type_ = "integer", json_path = ".status.model.version"),
    printcolumn(name = "Duration", type_ = "string", json_path = ".status.duration"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Job", type_ = "string", json_path = ".status.jobName", priority = 1),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.model.digest", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.datasetRef == oldSelf.datasetRef && self.search == oldSelf.search && self.seed == oldSelf.seed && self.reuse == oldSelf.reuse && self.output == oldSelf.output && self.gate == oldSelf.gate").message(IMMUTABLE))]
#[x_kube(validation = Rule::new("self.activeDeadlineSeconds == oldSelf.activeDeadlineSeconds && self.backoffLimit == oldSelf.backoffLimit && self.resources == oldSelf.resources").message(IMMUTABLE))]
#[x_kube(validation = Rule::new("has(self.nodeSelector) == has(oldSelf.nodeSelector) && (!has(self.nodeSelector) || self.nodeSelector == oldSelf.nodeSelector) && has(self.tolerations) == has(oldSelf.tolerations) && (!has(self.tolerations) || self.tolerations == oldSelf.tolerations)").message(IMMUTABLE))]
#[x_kube(validation = Rule::new("has(self.runtimeClassName) == has(oldSelf.runtimeClassName) && (!has(self.runtimeClassName) || self.runtimeClassName == oldSelf.runtimeClassName) && has(self.priorityClassName) == has(oldSelf.priorityClassName) && (!has(self.priorityClassName) || self.priorityClassName == oldSelf.priorityClassName) && has(self.serviceAccountName) == has(oldSelf.serviceAccountName) && (!has(self.serviceAccountName) || self.serviceAccountName == oldSelf.serviceAccountName)").message(IMMUTABLE))]
pub struct TrainingRunSpec {
    /// Dataset to learn from; its newest snapshot when the run starts, noted in `status.inputs`.
    pub dataset_ref: LocalRef,
    /// What is tried.
    #[serde(default)]
    pub search: Search,
    /// Seed of everything random: the same inputs and seed give the same model, byte for byte. Default: 42.
    #[serde(default = "default_seed")]
    #[schemars(range(min = 0, max = 4_294_967_295_u32))]
    pub seed: i64,
    /// Whether an identical earlier run (same snapshot, search, seed and trainer) is taken over
    /// instead of training again. Default: IfIdentical.
    #[serde(default)]
    pub reuse: Reuse,
    /// Conditions on the test split; all must hold, or the version is registered as rejected and gets no alias.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub gate: Vec<GateRule>,
    /// Where the model is registered.
    pub output: Output,
    /// Holds the run: no pod runs while it is true. Default: false.
    #[serde(default)]
    pub suspend: bool,
    /// Seconds after which the run is given up. Default: 3600.
    #[serde(default = "default_deadline")]
    #[schemars(range(min = 1, max = 2_592_000))]
    pub active_deadline_seconds: i64,
    /// How often a failed pod is tried again; evictions are free and data errors final. Default: 3.
    #[serde(default = "default_backoff_limit")]
    #[schemars(range(min = 0, max = 20))]
    pub backoff_limit: i32,
    /// Seconds after which the finished Job and its pods are removed; this resource stays. Default: 86400.
    #[serde(default = "default_ttl")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub ttl_seconds_after_finished: i32,
    /// Compute resources of the training pod. Default: the operator's.
    #[serde(default)]
    pub resources: Resources,
    /// Placement of the training pod.
    #[serde(flatten)]
    pub placement: PodPlacement,
}

fn default_deadline() -> i64 {
    3600
}
fn default_backoff_limit() -> i32 {
    3
}
fn default_ttl() -> i32 {
    86_400
}

/// Whether an identical earlier run is taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Reuse {
    /// Take over the version of an identical run.
    #[default]
    IfIdentical,
    /// Always train.
    Never,
}

/// One line of the gate.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GateRule {
    /// Metric on the test split. Default: F1Weighted.
    #[serde(default)]
    pub metric: Metric,
    /// Least value that passes, between 0 and 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min: f64,
}

/// Where the model is registered.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// Model that gets the new version; models belong to the namespace.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub model: String,
    /// Alias that points at the version once it passed the gate. Default: challenger.
    #[serde(default = "default_alias")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub alias: String,
}

fn default_alias() -> String {
    "challenger".to_owned()
}

/// What is known of the run.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrainingRunStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Job of the current attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    /// Attempts made: above 1 only when a Job vanished before its result was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,
    /// What the run works with, fixed when it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Inputs>,
    /// When the Job started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Time from start to end, such as `1m12s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// How far the training is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Trials by state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trials: Option<Trials>,
    /// Best trial so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<BestTrial>,
    /// Metrics of the registered model by split.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub metrics: Vec<SplitMetrics>,
    /// The gate, line by line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub gate: Vec<GateStatus>,
    /// The registered version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelStatus>,
    /// `sha256:` digest of the report (JSON).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report_digest: Option<String>,
    /// Cause of the latest failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LastFailure>,
    /// Standard conditions.
    #[serde(default)]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// What a run works with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Inputs {
    /// Revision of the Dataset.
    pub dataset_revision: i64,
    /// `sha256:` digest of the snapshot's manifest.
    pub dataset_digest: String,
    /// `sha256:` digest of the snapshot's Parquet file.
    pub snapshot_digest: String,
    /// `sha256:` digest of the test rows: metrics are comparable only where it is equal.
    pub test_digest: String,
    /// Image of the trainer.
    pub trainer_image: String,
    /// Hash of search and seed.
    pub spec_hash: String,
}

/// How far the training is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Percent done, 0 to 100.
    pub percentage: i32,
    /// Seconds that are likely left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_remaining_seconds: Option<i64>,
    /// What is being done.
    pub step: String,
    /// Percent and time left in one text, such as `40% ~12s`.
    pub summary: String,
}

/// Trials by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trials {
    /// All trials of the search.
    pub total: i32,
    /// Trials under way.
    pub running: i32,
    /// Trials that ended well.
    pub succeeded: i32,
    /// Trials that failed.
    pub failed: i32,
}

/// Best trial so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BestTrial {
    /// Number of the trial, from 1.
    pub trial: i32,
    /// Family, such as `linearSvm`.
    pub candidate: String,
    /// Settings in one text, such as `c=1, word 1-2, stopWords=French`.
    pub parameters: String,
    /// Mean of the objective over the folds, as a decimal text.
    pub mean: String,
    /// Standard deviation over the folds, as a decimal text.
    pub deviation: String,
    /// Metric and mean in one text, such as `F1Weighted 0.712`.
    pub summary: String,
}

/// Metrics of one split, as decimal texts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SplitMetrics {
    /// `validation` or `test`.
    pub split: String,
    /// Rows judged.
    pub rows: i64,
    /// Value by metric: F1Weighted, F1Macro, Accuracy, LogLoss, CalibrationError.
    #[schemars(extend("maxProperties" = 16))]
    pub values: BTreeMap<String, String>,
}

/// One line of the gate, judged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateStatus {
    /// Metric.
    pub metric: Metric,
    /// Least value that passes, as a decimal text.
    pub min: String,
    /// Value on the test split, as a decimal text.
    pub value: String,
    /// Whether the line holds.
    pub passed: bool,
}

/// A registered version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelStatus {
    /// Model.
    pub name: String,
    /// Version, counted up and never used again.
    pub version: i64,
    /// `sha256:` digest of the artifact.
    pub digest: String,
    /// Size of the artifact in bytes.
    pub bytes: i64,
    /// Whether the version was taken over from an identical run.
    #[serde(default)]
    pub reused: bool,
}
