//! What is kept of an object that is watched: what a decision reads, and nothing else. A change of anything
//! else wakes nobody, and most of what the cluster writes about a pod is such a change.
//!
//! Whoever reads another field of a cached child must keep it here; of a Job or pod, `seen.rs` has it first. No
//! compiler notices that a label, annotation or condition is read which is not kept.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PodCondition, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use vitrine_crds::names;

use crate::seen::{Job, Pod};
use crate::watch::{self, Incoming, Unreadable};

/// The labels of a pod that are read.
const POD_LABELS: [&str; 4] =
    [names::LABEL_OWNER_UID, names::LABEL_INSTANCE, names::LABEL_COMPONENT, names::LABEL_MODEL_DIGEST];

macro_rules! incoming {
    ($kind:ty, $prune:expr) => {
        impl Incoming for $kind {
            type Object = Self;

            fn object(mut self) -> Result<Self, Box<Unreadable>> {
                child(&mut self.metadata);
                let prune: fn(&mut Self) = $prune;
                prune(&mut self);
                Ok(self)
            }

            fn wakes(old: &Self, new: &Self) -> bool {
                old != new
            }
        }
    };
}

incoming!(Job, job);
incoming!(Pod, pod);
incoming!(Deployment, deployment);
incoming!(HorizontalPodAutoscaler, autoscaler);
incoming!(Service, |service| service.status = None);
incoming!(ConfigMap, |_| ());

impl Incoming for PartialObjectMeta<Namespace> {
    type Object = Self;

    fn object(mut self) -> Result<Self, Box<Unreadable>> {
        child(&mut self.metadata);
        self.metadata.annotations = None;
        self.metadata.labels = None;
        Ok(self)
    }
}

/// A child's version says only that something changed; the prefix of its name is in its name.
fn child(meta: &mut ObjectMeta) {
    watch::prune(meta);
    meta.resource_version = None;
    meta.generate_name = None;
    meta.owner_references.as_mut().map(Vec::shrink_to_fit);
}

fn job(job: &mut Job) {
    job.metadata.generation = None;
    // a Job is found by its controller
    job.metadata.labels = None;
    keep(&mut job.metadata.annotations, &[names::ANNOTATION_SUSPENDED]);
    let Some(conditions) = job.status.as_mut().and_then(|status| status.conditions.as_mut()) else { return };
    conditions.retain(|c| matches!(c.type_.as_str(), "Complete" | "Failed"));
    conditions.shrink_to_fit();
    for condition in conditions {
        condition.last_probe_time = None;
    }
}

fn pod(pod: &mut Pod) {
    pod.metadata.annotations = None;
    pod.metadata.generation = None;
    keep(&mut pod.metadata.labels, &POD_LABELS);
    let Some(status) = &mut pod.status else { return };
    status.conditions = status.conditions.take().map(|conditions| {
        let mut kept: Vec<_> = conditions.into_iter().filter_map(condition).collect();
        // collected in place: the room of those that went is still there
        kept.shrink_to_fit();
        kept
    });
    for container in status.container_statuses.iter_mut().flatten() {
        for state in [&mut container.state, &mut container.last_state].into_iter().flatten() {
            state.running = None;
        }
    }
    if let Some(containers) = &mut status.container_statuses {
        containers.retain(|container| container.name == names::CONTAINER);
        containers.shrink_to_fit();
    }
}

/// Keeps only these of the labels or annotations.
fn keep(map: &mut Option<BTreeMap<String, String>>, keys: &[&str]) {
    *map = map.take().and_then(|mut map| {
        map.retain(|key, _| keys.contains(&key.as_str()));
        (!map.is_empty()).then_some(map)
    });
}

fn condition(condition: PodCondition) -> Option<PodCondition> {
    let (type_, status) = (condition.type_, condition.status);
    match type_.as_str() {
        // whether, and not since when or why
        "Ready" => Some(PodCondition { type_, status, ..PodCondition::default() }),
        "PodScheduled" | "DisruptionTarget" => Some(PodCondition {
            type_,
            status,
            last_transition_time: condition.last_transition_time,
            reason: condition.reason,
            message: condition.message,
            ..PodCondition::default()
        }),
        _ => None,
    }
}

fn deployment(deployment: &mut Deployment) {
    deployment.status = deployment.status.take().map(|status| DeploymentStatus {
        observed_generation: status.observed_generation,
        replicas: status.replicas,
        updated_replicas: status.updated_replicas,
        ready_replicas: status.ready_replicas,
        conditions: status.conditions.map(|mut conditions| {
            conditions.retain(|c| matches!(c.type_.as_str(), "Progressing" | "ReplicaFailure"));
            for condition in &mut conditions {
                condition.last_update_time = None;
                condition.last_transition_time = None;
                // how many pods are updated
                if condition.type_ == "Progressing" {
                    condition.message = None;
                }
            }
            conditions
        }),
        ..DeploymentStatus::default()
    });
}

fn autoscaler(autoscaler: &mut HorizontalPodAutoscaler) {
    let Some(status) = &mut autoscaler.status else { return };
    // what it measured changes every few seconds
    (status.current_metrics, status.last_scale_time) = (None, None);
    for condition in status.conditions.iter_mut().flatten() {
        condition.last_transition_time = None;
        // numbers of the last seconds; only the words of a failure are read
        if condition.status == "True" {
            condition.message = None;
        }
    }
}

#[cfg(test)]
#[path = "pruned_tests.rs"]
mod tests;
