//! Facts of pods as the kubelet and the scheduler report them.

use serde_json::{Value, json};

use crate::testing::object;

use super::*;

fn pod(status: &Value) -> PodFacts {
    let labels = json!({names::LABEL_MODEL_DIGEST: "0123456789"});
    facts(&object(json!({"metadata": {"name": "p", "labels": labels}, "status": status})))
}

fn container(state: &Value, last: &Value) -> Value {
    json!({"name": names::CONTAINER, "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state, "lastState": last})
}

#[test]
fn an_unschedulable_pod_says_why() {
    let seen = pod(&json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]}));
    assert_eq!(seen.unschedulable.as_deref(), Some("0/1 nodes"));
    // held by a scheduling gate: not the nodes' fault
    let gated = pod(
        &json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
    );
    assert_eq!(gated.unschedulable, None);
}

#[test]
fn waiting_is_news_only_when_it_is_not_the_usual_start() {
    let waits = |reason: &str| {
        pod(
            &json!({"containerStatuses": [container(&json!({"waiting": {"reason": reason, "message": "m"}}), &json!({}))]}),
        )
    };
    assert_eq!(waits("ImagePullBackOff").waiting, Some(("ImagePullBackOff".into(), "m".into())));
    assert_eq!(waits("ContainerCreating").waiting, None);
}

#[test]
fn the_latest_end_counts_also_after_a_restart() {
    let ended =
        |code: i32| json!({"terminated": {"exitCode": code, "reason": "OOMKilled", "message": "last words"}});
    let now = pod(&json!({"containerStatuses": [container(&ended(137), &ended(1))]}));
    assert_eq!(now.terminated.as_ref().map(|t| t.exit_code), Some(137));
    let before = pod(
        &json!({"containerStatuses": [container(&json!({"waiting": {"reason": "CrashLoopBackOff"}}), &ended(80))]}),
    );
    assert_eq!(before.terminated.as_ref().map(|t| t.exit_code), Some(80));
    assert_eq!(before.terminated.unwrap().message, "last words");
    // another container's end is not ours
    let mut other = container(&ended(3), &json!({}));
    other["name"] = json!("sidecar");
    assert_eq!(pod(&json!({"containerStatuses": [other]})).terminated, None);
}

#[test]
fn evictions_are_disruptions() {
    let evicted = pod(&json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}));
    assert_eq!(evicted.disrupted, Some(("Evicted".into(), "low on memory".into())));
    let target = pod(
        &json!({"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "m"}]}),
    );
    assert_eq!(target.disrupted, Some(("PreemptionByScheduler".into(), "m".into())));
    assert_eq!(pod(&json!({"phase": "Running"})).disrupted, None);
}

#[test]
fn readiness_and_digest() {
    let seen = pod(&json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}));
    assert!(seen.ready && !seen.terminating);
    assert_eq!(seen.model_digest.as_deref(), Some("0123456789"));
}
