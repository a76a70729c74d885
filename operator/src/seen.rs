//! Jobs and pods as far as anybody here reads them: what the caches hold and what the watches decode.
//!
//! The API's own types have room for every field of a pod's template: 2.5 kB an object although all of it is
//! empty, 50 MB with ten thousand Jobs and their pods. A field that a decision needs is added here first.
//! Objects that are compared with what they should be (Deployments, Services, ConfigMaps, autoscalers) are
//! not read in part: a field that is not known cannot be seen to differ.

use k8s_openapi::api::batch::v1 as batch;
use k8s_openapi::api::core::v1::{self as core, ContainerState};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::Deserialize;

/// A Job.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Resource)]
#[resource(inherit = batch::Job)]
pub struct Job {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// What it should do.
    pub spec: Option<JobSpec>,
    /// What became of it.
    pub status: Option<JobStatus>,
}

/// What a Job should do.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobSpec {
    /// Without pods for now?
    pub suspend: Option<bool>,
    /// Seconds until it is removed after its end.
    pub ttl_seconds_after_finished: Option<i32>,
}

/// What became of a Job.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// Pods that have not ended.
    pub active: Option<i32>,
    /// When its pods were first asked for.
    pub start_time: Option<Time>,
    /// Its conditions.
    pub conditions: Option<Vec<batch::JobCondition>>,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Resource)]
#[resource(inherit = core::Pod)]
pub struct Pod {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// What became of it.
    pub status: Option<PodStatus>,
}

/// What became of a pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// Phase.
    pub phase: Option<String>,
    /// Why it is in this phase, as one word.
    pub reason: Option<String>,
    /// The same as a sentence.
    pub message: Option<String>,
    /// Its conditions.
    pub conditions: Option<Vec<core::PodCondition>>,
    /// Its containers.
    pub container_statuses: Option<Vec<ContainerStatus>>,
}

/// What became of a container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStatus {
    /// Its name.
    pub name: String,
    /// How it is now.
    pub state: Option<ContainerState>,
    /// How it was before its last restart.
    pub last_state: Option<ContainerState>,
}
