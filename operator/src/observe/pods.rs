//! Facts of pods.

use k8s_openapi::api::core::v1::PodCondition;
use kube::ResourceExt as _;
use vitrine_crds::names;
use vitrine_plan::meta::owned_by;
use vitrine_plan::{PodFacts, Terminated, refusal};

use super::events;
use crate::caches::Caches;
use crate::context::Context;
use crate::seen::{ContainerStatus, Pod, PodStatus};

/// The pods of a Job, oldest first.
pub fn of_job(caches: &Caches, namespace: &str, owner_uid: &str, job_uid: &str) -> Vec<PodFacts> {
    collect(caches, namespace, owner_uid, |pod| owned_by(&pod.metadata, job_uid))
}

/// The serving pods of a ModelDeployment, oldest first.
pub fn serving(caches: &Caches, namespace: &str, owner_uid: &str) -> Vec<PodFacts> {
    collect(caches, namespace, owner_uid, |pod| {
        pod.labels().get(names::LABEL_COMPONENT).is_some_and(|role| role == names::ROLE_SERVE)
    })
}

/// Fills in why the newest pod that hangs before its container starts does so; asks only where one
/// does.
pub async fn ask(ctx: &Context, namespace: &str, pods: &mut [PodFacts]) {
    let Some((name, question)) = refusal::of_pods(pods, &Context::now()) else { return };
    let name = name.to_owned();
    let told = events::ask(ctx, namespace, &question).await;
    if let Some(pod) = pods.iter_mut().find(|pod| pod.name == name) {
        pod.unmounted = told;
    }
}

fn collect(caches: &Caches, namespace: &str, owner_uid: &str, keep: impl Fn(&Pod) -> bool) -> Vec<PodFacts> {
    let found = caches.pods.labelled(namespace, owner_uid);
    let mut facts: Vec<PodFacts> = found.iter().filter(|pod| keep(pod)).map(|pod| facts(pod)).collect();
    // sorted by name before: pods of one second keep a fixed order
    facts.sort_by(|a, b| a.created.cmp(&b.created));
    facts
}

/// Facts of a pod.
pub fn facts(pod: &Pod) -> PodFacts {
    let empty = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&empty);
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let container = containers.iter().find(|c| c.name == names::CONTAINER);
    PodFacts {
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        created: pod.creation_timestamp(),
        phase: status.phase.clone().unwrap_or_default(),
        ready: holds(conditions, "Ready").is_some(),
        terminating: pod.metadata.deletion_timestamp.is_some(),
        model_digest: pod.labels().get(names::LABEL_MODEL_DIGEST).cloned(),
        unschedulable: unschedulable(conditions),
        scheduled: holds(conditions, "PodScheduled").and_then(|c| c.last_transition_time.clone()),
        unmounted: None,
        waiting: container.and_then(waiting),
        disrupted: disrupted(status, conditions),
        terminated: container.and_then(terminated),
    }
}

fn holds<'a>(conditions: &'a [PodCondition], type_: &str) -> Option<&'a PodCondition> {
    conditions.iter().find(|c| c.type_ == type_ && c.status == "True")
}

fn unschedulable(conditions: &[PodCondition]) -> Option<String> {
    let scheduled = conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    (scheduled.reason.as_deref() == Some("Unschedulable"))
        .then(|| scheduled.message.clone().unwrap_or_default())
}

fn waiting(container: &ContainerStatus) -> Option<(String, String)> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.clone()?;
    // the usual way to start is no news
    (!matches!(reason.as_str(), "ContainerCreating" | "PodInitializing"))
        .then(|| (reason, waiting.message.clone().unwrap_or_default()))
}

fn disrupted(status: &PodStatus, conditions: &[PodCondition]) -> Option<(String, String)> {
    if let Some(target) = holds(conditions, "DisruptionTarget") {
        return Some((target.reason.clone().unwrap_or_default(), target.message.clone().unwrap_or_default()));
    }
    let reason = status.reason.clone()?;
    Some((reason, status.message.clone().unwrap_or_default()))
}

fn terminated(container: &ContainerStatus) -> Option<Terminated> {
    let now = container.state.as_ref().and_then(|s| s.terminated.as_ref());
    let before = container.last_state.as_ref().and_then(|s| s.terminated.as_ref());
    let end = now.or(before)?;
    Some(Terminated {
        exit_code: end.exit_code,
        reason: end.reason.clone().unwrap_or_default(),
        message: end.message.clone().unwrap_or_default(),
        at: end.finished_at.clone(),
    })
}

#[cfg(test)]
#[path = "pods_tests.rs"]
mod tests;
