//! The plan: a value that says what to write, in which order. It can be compared, printed and
//! snapshot-tested; `apply` in the operator carries it out and decides nothing.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use vitrine_contract::report::{Ingested, Trained};
use vitrine_crds::condition::Reason;

/// What to write. `apply` works in the order of the fields and carries out all of them in one pass;
/// an error ends the pass, and the next one starts from what was observed then.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<S> {
    /// Writes to the registry; after any of them the object is reconciled again at once, so that
    /// status comes from what the registry then holds.
    pub registry: Vec<RegistryOp>,
    /// Children to create or apply, config before workload.
    pub apply: Vec<Child>,
    /// Children to delete, with their UID as precondition.
    pub delete: Vec<ChildRef>,
    /// The whole status; written only when it differs from the stored one.
    pub status: S,
    /// Events, on transitions only.
    pub events: Vec<Event>,
    /// When to look again.
    pub requeue: Requeue,
}

impl<S: Clone> Plan<S> {
    /// Leaves the stored status as it is. For plans that only write to the registry: the next pass
    /// follows at once, and tells what is true then.
    #[must_use]
    pub fn untold(self, stored: Option<&S>) -> Self {
        match stored {
            Some(status) => Self { status: status.clone(), events: vec![], ..self },
            None => self,
        }
    }
}

/// A write to the registry; every one is idempotent.
#[derive(Clone, Debug, PartialEq)]
pub enum RegistryOp {
    /// A snapshot was made. Keyed by (Dataset UID, attempt key); the revision is counted up when the
    /// manifest digest differs from the newest one.
    RecordRevision {
        /// UID of the namespace.
        namespace_uid: String,
        /// UID of the Dataset.
        dataset_uid: String,
        /// Name of the Dataset.
        dataset: String,
        /// Attempt (generation and inputs) that it was made for.
        attempt_key: String,
        /// What the ingest reported.
        report: Ingested,
    },
    /// A model was trained. Keyed by run UID; fails when its verified bytes are not in the store.
    RegisterVersion(Box<Registration>),
    /// Point an alias at a version; appends to the alias history when it moves.
    SetAlias {
        /// UID of the namespace.
        namespace_uid: String,
        /// Model.
        model: String,
        /// Alias.
        alias: String,
        /// Version.
        version: i64,
        /// Kind and name of who moves it, such as `TrainingRun/demo`.
        who: String,
        /// UID of who moves it.
        who_uid: String,
        /// Why.
        why: String,
    },
    /// A rollout ended; appended to the deployment history. Keyed by (deployment UID, digest, generation, result).
    RecordRollout {
        /// UID of the namespace.
        namespace_uid: String,
        /// UID of the ModelDeployment.
        deployment_uid: String,
        /// Name of the ModelDeployment.
        deployment: String,
        /// Model.
        model: String,
        /// Version.
        version: i64,
        /// Digest.
        digest: String,
        /// Generation of the ModelDeployment.
        generation: i64,
        /// `Succeeded` or `Failed`.
        result: String,
        /// Why.
        why: String,
    },
}

/// A model was trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// UID of the namespace.
    pub namespace_uid: String,
    /// UID of the run.
    pub run_uid: String,
    /// Name of the run.
    pub run: String,
    /// Model.
    pub model: String,
    /// Whether the gate accepted it.
    pub accepted: bool,
    /// Manifest digest of its data.
    pub dataset_digest: String,
    /// Digest of its test rows.
    pub test_digest: String,
    /// Hash of search and seed.
    pub spec_hash: String,
    /// Image of the trainer.
    pub trainer_image: String,
    /// What the trainer reported.
    pub report: Trained,
}

/// A child to create or apply.
#[derive(Clone, Debug, PartialEq)]
pub enum Child {
    /// Server-side applied.
    ConfigMap(Box<ConfigMap>),
    /// Created once; `AlreadyExists` is success only if this object's UID owns it.
    CreateJob(Box<Job>),
    /// Patches `spec.suspend` and our mark of an existing Job, with its UID as precondition.
    SuspendJob {
        /// Name of the Job.
        name: String,
        /// UID of the Job.
        uid: String,
        /// Wanted value.
        suspend: bool,
    },
    /// Patches `spec.ttlSecondsAfterFinished` of an existing Job, with its UID as precondition.
    SetJobTtl {
        /// Name of the Job.
        name: String,
        /// UID of the Job.
        uid: String,
        /// Wanted value.
        seconds: i32,
    },
    /// Server-side applies `spec.replicas` alone, as [`vitrine_crds::names::SCALE_MANAGER`], with
    /// the UID as precondition: the version that serves while another one comes up is changed in
    /// nothing else, and a Deployment that is applied without the field keeps its number.
    ScaleDeployment {
        /// Name of the Deployment.
        name: String,
        /// UID of the Deployment.
        uid: String,
        /// Wanted value.
        replicas: i32,
    },
    /// Server-side applied.
    Deployment(Box<Deployment>),
    /// Server-side applied.
    Service(Box<Service>),
    /// Server-side applied.
    Autoscaler(Box<HorizontalPodAutoscaler>),
}

/// A child to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildRef {
    /// `Deployment`, `ConfigMap`, `Job`, `Service` or `HorizontalPodAutoscaler`.
    pub kind: &'static str,
    /// Name.
    pub name: String,
    /// UID: a successor of the same name is not touched.
    pub uid: String,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Normal or Warning.
    pub type_: EventType,
    /// Why.
    pub reason: Reason,
    /// What was done, such as `Train`, `Register`, `RollOut`.
    pub action: &'static str,
    /// What happened to which object.
    pub message: String,
}

/// Type of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// As it should be.
    Normal,
    /// Somebody should look.
    Warning,
}

/// When to look again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// Everything that matters is watched.
    AwaitChange,
    /// Something unwatched is awaited.
    After(Duration),
    /// A known deadline.
    At(Time),
}
