//! Facts of child Deployments, and who owns an alias.

use std::time::Duration;

use serde_json::{Value, json};

use crate::caches::testing::Filled;
use crate::testing::{Server, child_meta, deployment, object, usual, world};

use super::*;

fn child(status: &Value) -> DeploymentFacts {
    let mut meta = child_meta("d-0123456789", "mine");
    meta["annotations"] =
        json!({names::ANNOTATION_MODEL_DIGEST: "sha256:01", names::ANNOTATION_MODEL_VERSION: "3"});
    let spec = json!({
        "replicas": 2, "selector": {},
        "template": {"spec": {"containers": [{"name": names::CONTAINER, "image": "server:1"}]}},
    });
    facts(&object(json!({"metadata": meta, "spec": spec, "status": status})), "mine")
}

#[test]
fn what_a_child_serves_is_read_from_its_annotations() {
    let seen =
        child(&json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}));
    assert_eq!((seen.digest.as_str(), seen.version, seen.image.as_str()), ("sha256:01", 3, "server:1"));
    assert_eq!(
        (seen.replicas, seen.ready, seen.updated_ready, seen.observed, seen.owned),
        (2, 2, 2, true, true)
    );
}

#[test]
fn old_pods_never_count_as_new_ones() {
    // one of three is old; the two that are ready may be the old one and one new one
    let seen =
        child(&json!({"observedGeneration": 1, "replicas": 3, "updatedReplicas": 2, "readyReplicas": 2}));
    assert_eq!((seen.ready, seen.updated_ready), (2, 1));
    let none = child(&json!({}));
    assert_eq!((none.updated_ready, none.observed), (0, false));
}

#[test]
fn the_deadline_is_told_by_the_condition() {
    let progressing = |status: &str, reason: &str| {
        child(&json!({"conditions": [{"type": "Progressing", "status": status, "reason": reason}]}))
            .deadline_exceeded
    };
    assert!(progressing("False", "ProgressDeadlineExceeded"));
    assert!(!progressing("True", "NewReplicaSetAvailable"));
}

#[test]
fn pods_that_are_not_created_are_explained_by_the_condition() {
    let says = |status: &str| {
        let failure =
            json!({"type": "ReplicaFailure", "status": status, "reason": "FailedCreate", "message": "m"});
        child(&json!({"conditions": [failure]})).refused
    };
    assert_eq!((says("True"), says("False")), (Some("m".into()), None));
}

#[tokio::test]
async fn events_are_read_of_a_serving_pod_that_hangs_and_of_no_other() {
    for (phase, reads) in [("Running", 0), ("Pending", 1)] {
        let server = Server::new(usual);
        let mut world = world(&server, Duration::from_secs(9)).await;
        let mut meta = child_meta("p", "d-0123456789-uid");
        meta["ownerReferences"][0]["apiVersion"] = json!("apps/v1");
        meta["labels"] = json!({names::LABEL_OWNER_UID: "d-uid", names::LABEL_COMPONENT: names::ROLE_SERVE});
        let placed =
            json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        world
            .filled
            .pod(&object(json!({"metadata": meta, "status": {"phase": phase, "conditions": [placed]}})));
        assert_eq!(observe(&world.ctx, &deployment("d")).await.unwrap().pods.len(), 1);
        let events = server.log().into_iter().filter(|line| line.ends_with("/events")).count();
        assert_eq!(events, reads, "{phase}");
    }
}

#[test]
fn the_oldest_that_moves_an_alias_owns_it() {
    let at = |name: &str, created: &str| {
        let mut d = deployment(name);
        d.metadata.creation_timestamp = serde_json::from_value(json!(created)).unwrap();
        d
    };
    let (first, second) = (at("first", "2026-01-01T00:00:00Z"), at("second", "2026-01-01T00:00:01Z"));
    let mut reader = at("reader", "2025-01-01T00:00:00Z");
    reader.spec.model.candidate_alias = None;
    let mut filled = Filled::new();
    for d in [&first, &second, &reader] {
        filled.deployment(d.clone());
    }
    assert_eq!(alias_owner(&filled.caches, &first), None);
    assert_eq!(alias_owner(&filled.caches, &second).as_deref(), Some("first"));
    assert_eq!(alias_owner(&filled.caches, &reader), None, "who only reads an alias moves nothing");
}

#[test]
fn of_two_made_in_the_same_second_exactly_one_owns() {
    let (one, two) = (deployment("one"), deployment("two"));
    let mut filled = Filled::new();
    filled.deployment(one.clone());
    filled.deployment(two.clone());
    let owners = [alias_owner(&filled.caches, &one), alias_owner(&filled.caches, &two)];
    assert_eq!(owners.iter().flatten().count(), 1, "{owners:?}");
}
