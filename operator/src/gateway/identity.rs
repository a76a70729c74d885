//! Who talks to the gateway.

use std::collections::BTreeSet;

use futures::future::BoxFuture;

/// A pod, and what it works for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Namespace.
    pub namespace: String,
    /// UID of the namespace: part of every key, so that nothing crosses namespaces.
    pub namespace_uid: String,
    /// Pod.
    pub pod: String,
    /// UID of the pod.
    pub pod_uid: String,
    /// The resource of ours that the pod works for.
    pub owner: Owner,
    /// What runs the pod.
    pub workload: Workload,
    /// Digests that the workload's annotation lets the pod read.
    pub reads: BTreeSet<String>,
}

/// A resource of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `Dataset`, `TrainingRun` or `ModelDeployment`.
    pub kind: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

/// What runs a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Workload {
    /// A Job of a Dataset or a TrainingRun.
    Job {
        /// Name.
        name: String,
        /// UID.
        uid: String,
    },
    /// A Deployment of a ModelDeployment.
    Serving {
        /// Name.
        name: String,
        /// UID.
        uid: String,
    },
}

/// Why a token gives no identity.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdentifyError {
    /// The token is missing, forged, expired or made for somebody else.
    #[error("{0}")]
    Unauthenticated(String),
    /// The token is good and its pod is none of ours.
    #[error("{0}")]
    NotOurs(String),
    /// The cluster does not answer.
    #[error("{0}")]
    Unavailable(String),
}

/// Finds out who a token belongs to.
pub trait Identify: Send + Sync {
    /// The pod that this bearer token was projected into.
    fn identify<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Identity, IdentifyError>>;
}
