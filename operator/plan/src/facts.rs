//! What was observed: facts with names, filled by the operator's `observe` and read by `plan`.
//! Nothing here decides anything.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use vitrine_contract::report::{Ingested, Outcome, Progress, Trained};
use vitrine_crds::training_run::Inputs;

use crate::plan::ChildRef;

/// A reference to another object, followed.
#[derive(Clone, Debug, PartialEq)]
pub enum Reference<T> {
    /// No such object.
    Missing,
    /// It exists and is not usable yet; the text says why.
    NotReady(String),
    /// It is usable.
    Ready(T),
}

/// A Job of ours (or of somebody else under our name).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobFacts {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Whether its controller is the object that is reconciled (by UID).
    pub owned: bool,
    /// `spec.suspend`.
    pub suspended: bool,
    /// Whether [`vitrine_crds::names::ANNOTATION_SUSPENDED`] says that we suspended it.
    pub suspended_by_us: bool,
    /// Seconds until the finished Job is removed.
    pub ttl_seconds: Option<i32>,
    /// When it was created.
    pub created: Option<Time>,
    /// When it began, or began again after it was suspended.
    pub start_time: Option<Time>,
    /// How it ended, if it did.
    pub end: Option<JobEnd>,
    /// Pods that run or wait now.
    pub active: i32,
    /// Why its pods are not created, as its newest event says; read only where
    /// [`crate::refusal::of_job`] asks.
    pub refused: Option<String>,
}

/// How a Job ended.
#[derive(Clone, Debug, PartialEq)]
pub enum JobEnd {
    /// All pods succeeded.
    Complete {
        /// When.
        at: Option<Time>,
    },
    /// It failed for good.
    Failed {
        /// Reason of the Job's condition: `BackoffLimitExceeded`, `DeadlineExceeded`, `PodFailurePolicy`.
        reason: String,
        /// Message of the condition.
        message: String,
        /// When.
        at: Option<Time>,
    },
}

/// A pod of ours.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodFacts {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// When it was created.
    pub created: Option<Time>,
    /// `Pending`, `Running`, `Succeeded`, `Failed`, `Unknown`.
    pub phase: String,
    /// Whether it passes its readiness probe.
    pub ready: bool,
    /// Being deleted.
    pub terminating: bool,
    /// Short model digest from its label (serving pods).
    pub model_digest: Option<String>,
    /// Why the scheduler cannot place it.
    pub unschedulable: Option<String>,
    /// When it got its node.
    pub scheduled: Option<Time>,
    /// Why its volumes cannot be mounted, as its newest event says; read only where
    /// [`crate::refusal::of_pods`] asks.
    pub unmounted: Option<String>,
    /// Why the container waits: reason and message (`ImagePullBackOff`, `CreateContainerConfigError`, `CrashLoopBackOff`).
    pub waiting: Option<(String, String)>,
    /// Reason and message of the pod itself (`Evicted`, ...), or of its `DisruptionTarget` condition.
    pub disrupted: Option<(String, String)>,
    /// The latest end of the container, of now or of the time before a restart.
    pub terminated: Option<Terminated>,
}

/// The end of a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Terminated {
    /// Exit code.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`.
    pub reason: String,
    /// Termination message, as written by the container.
    pub message: String,
    /// When.
    pub at: Option<Time>,
}

/// A snapshot of a Dataset as the registry holds it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RevisionFacts {
    /// Counted per Dataset name and namespace.
    pub revision: i64,
    /// The attempt key ([`crate::plan::RegistryOp::RecordRevision`]) it was made for.
    pub attempt_key: String,
    /// What the ingest reported.
    pub report: Ingested,
    /// When it was recorded.
    pub recorded_at: Option<Time>,
}

/// What a TrainingRun needs to know of its Dataset (from the Dataset's status).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DatasetFacts {
    /// Revision.
    pub revision: i64,
    /// Manifest digest.
    pub digest: String,
    /// Parquet digest.
    pub snapshot_digest: String,
    /// Digest of the test rows (empty without test rows).
    pub test_digest: String,
    /// Distinct labels.
    pub classes: i64,
}

/// Facts for a Dataset.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DatasetObserved {
    /// UID of the namespace.
    pub namespace_uid: String,
    /// The Dataset with the fixed test set, where the spec names one.
    pub test_dataset: Option<Reference<DatasetFacts>>,
    /// Whether the ConfigMap with label names exists, where the spec names one.
    pub label_names: Option<bool>,
    /// The revision in the registry for this Dataset's UID and its current attempt key
    /// ([`crate::attempt::key_of_dataset`]), if there is one; else its newest revision.
    pub revision: Option<RevisionFacts>,
    /// The Job of the attempt named in status, or of the next attempt if status names none yet; read
    /// live where the cache lacks it.
    pub job: Option<JobFacts>,
    /// Pods of that Job, oldest first.
    pub pods: Vec<PodFacts>,
    /// Result posted by a pod of that Job, or from its termination message.
    pub result: Option<Outcome>,
    /// Newest progress post of that Job.
    pub progress: Option<Progress>,
    /// The config of that Job.
    pub config: Option<ConfigMap>,
    /// Jobs and ConfigMaps that this object controls (by UID) and that are not of that attempt:
    /// superseded generations and attempts that vanished.
    pub leftovers: Vec<ChildRef>,
}

/// A version as the registry holds it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VersionFacts {
    /// Model.
    pub model: String,
    /// Version.
    pub version: i64,
    /// Artifact digest.
    pub digest: String,
    /// Artifact size in bytes.
    pub bytes: i64,
    /// Whether the gate accepted it.
    pub accepted: bool,
    /// Name of the TrainingRun that made it.
    pub run_name: String,
    /// UID of the TrainingRun that made it.
    pub run_uid: String,
    /// Manifest digest of its data.
    pub dataset_digest: String,
    /// Digest of its test rows.
    pub test_digest: String,
    /// What it was made from, where the registry still knows the snapshot.
    pub inputs: Option<Inputs>,
    /// What the trainer reported, whole: enough to register the same model for another run.
    pub report: Trained,
}

/// Facts for a TrainingRun.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingRunObserved {
    /// UID of the namespace.
    pub namespace_uid: String,
    /// The Dataset; `None` is never planned with: observe always follows the reference.
    pub dataset: Option<Reference<DatasetFacts>>,
    /// The version registered under this run's UID.
    pub version: Option<VersionFacts>,
    /// An accepted-or-rejected version of the same model made from the same inputs (dataset digest,
    /// spec hash, trainer image), newest first; looked up only with `reuse: IfIdentical`.
    pub reusable: Vec<VersionFacts>,
    /// Version that `output.alias` points at now.
    pub alias_version: Option<i64>,
    /// Whether this run already moved `output.alias` once (alias history holds its UID): a later
    /// run's move must not be undone by a resync of this one.
    pub alias_moved_by_this_run: bool,
    /// As in [`DatasetObserved::job`].
    pub job: Option<JobFacts>,
    /// Pods of that Job, oldest first.
    pub pods: Vec<PodFacts>,
    /// As in [`DatasetObserved::result`].
    pub result: Option<Outcome>,
    /// As in [`DatasetObserved::progress`].
    pub progress: Option<Progress>,
    /// The config of that Job.
    pub config: Option<ConfigMap>,
    /// Jobs and ConfigMaps that this object controls (by UID) and that are not of that attempt:
    /// superseded generations and attempts that vanished.
    pub leftovers: Vec<ChildRef>,
}

/// A child Deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct DeploymentFacts {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Whether its controller is the object that is reconciled.
    pub owned: bool,
    /// Digest of its model.
    pub digest: String,
    /// Version of its model.
    pub version: i64,
    /// Image of its container.
    pub image: String,
    /// Wanted pods.
    pub replicas: i32,
    /// Pods that are ready.
    pub ready: i32,
    /// Pods that are ready and of the newest template.
    pub updated_ready: i32,
    /// Whether `status.observedGeneration` has caught up.
    pub observed: bool,
    /// `Progressing=False` with reason `ProgressDeadlineExceeded`.
    pub deadline_exceeded: bool,
    /// Why its pods are not created: the message of `ReplicaFailure=True`.
    pub refused: Option<String>,
    /// The live object, to compare with the wanted one.
    pub live: Deployment,
}

/// Facts for a ModelDeployment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelDeploymentObserved {
    /// UID of the namespace.
    pub namespace_uid: String,
    /// Version that `model.version`, `model.alias` or `model.digest` names.
    pub stable: Option<VersionFacts>,
    /// Version that `model.candidateAlias` names.
    pub candidate: Option<VersionFacts>,
    /// Name of another ModelDeployment that moves the same alias of the same model and is older.
    pub alias_owner: Option<String>,
    /// Child Deployments, by name.
    pub deployments: Vec<DeploymentFacts>,
    /// Live config of each child Deployment, by name (same names as the Deployments).
    pub configs: Vec<ConfigMap>,
    /// The Service, and whether it is ours.
    pub service: Option<(Service, bool)>,
    /// The autoscaler, and whether it is ours.
    pub autoscaler: Option<(HorizontalPodAutoscaler, bool)>,
    /// Our Services through which the pods of one model find each other, by name (same names as the
    /// Deployments).
    pub siblings: Vec<Service>,
    /// Serving pods of all child Deployments, oldest first.
    pub pods: Vec<PodFacts>,
}
