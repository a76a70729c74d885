//! What is kept of an object that is watched: what a decision reads, and nothing else. A change of anything
//! else wakes nobody, and most of what the cluster writes about a pod is such a change.
//!
//! Whoever reads another field of a cached child must keep it here.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::{
    ConfigMap, ContainerState, ContainerStatus, Namespace, Pod, PodCondition, PodStatus, Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use vitrine_crds::names;

use crate::watch::{self, Incoming, Unreadable};

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

/// A child's version says only that something changed.
fn child(meta: &mut ObjectMeta) {
    watch::prune(meta);
    meta.resource_version = None;
}

fn job(job: &mut Job) {
    job.metadata.generation = None;
    job.spec = job.spec.take().map(|spec| JobSpec {
        suspend: spec.suspend,
        ttl_seconds_after_finished: spec.ttl_seconds_after_finished,
        ..JobSpec::default()
    });
    job.status = job.status.take().map(|status| JobStatus {
        active: status.active,
        start_time: status.start_time,
        conditions: status.conditions.map(|mut conditions| {
            conditions.retain(|c| matches!(c.type_.as_str(), "Complete" | "Failed"));
            for condition in &mut conditions {
                condition.last_probe_time = None;
            }
            conditions
        }),
        ..JobStatus::default()
    });
}

fn pod(pod: &mut Pod) {
    pod.metadata.annotations = None;
    pod.metadata.generation = None;
    pod.spec = None;
    pod.status = pod.status.take().map(|status| PodStatus {
        phase: status.phase,
        reason: status.reason,
        message: status.message,
        conditions: status
            .conditions
            .map(|conditions| conditions.into_iter().filter_map(condition).collect()),
        container_statuses: status
            .container_statuses
            .map(|statuses| statuses.into_iter().filter_map(container).collect()),
        ..PodStatus::default()
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

fn container(status: ContainerStatus) -> Option<ContainerStatus> {
    (status.name == names::CONTAINER).then(|| ContainerStatus {
        name: status.name,
        state: status.state.map(state),
        last_state: status.last_state.map(state),
        ..ContainerStatus::default()
    })
}

fn state(state: ContainerState) -> ContainerState {
    ContainerState { running: None, ..state }
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
