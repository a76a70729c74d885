//! The loop against an apiserver made of a function: deadlines, failures, silence, bounds.

use std::sync::atomic::{AtomicUsize, Ordering};

use kube::runtime::reflector::ObjectRef;
use serde_json::json;
use vitrine_crds::{Dataset, DatasetStatus, ModelDeployment};
use vitrine_plan::RegistryOp;

use crate::error::ApplyError;
use crate::queues::Queue;
use crate::testing::{Server, dataset, deployment, refusal, usual, world};

use super::*;

const LONG: Duration = Duration::from_secs(20);

fn status_writes(server: &Server) -> usize {
    server.with_method("PATCH").iter().filter(|s| s.path.ends_with("/status")).count()
}

#[tokio::test]
async fn the_second_pass_writes_nothing() {
    let server = Server::new(usual);
    let world = world(&server, LONG).await;
    let mut object = deployment("d");
    reconcile(Arc::new(object.clone()), world.ctx.clone()).await.unwrap();
    assert_eq!(status_writes(&server), 1);
    let events = server.with_method("POST").len();
    let written = &server.with_method("PATCH")[0].body;
    assert_eq!(written["metadata"]["uid"], "d-uid", "a successor of the same name is not touched");
    object.status = Some(serde_json::from_value(written["status"].clone()).unwrap());
    reconcile(Arc::new(object), world.ctx.clone()).await.unwrap();
    assert_eq!((status_writes(&server), server.with_method("POST").len()), (1, events));
}

#[tokio::test]
async fn what_is_being_deleted_is_left_alone() {
    let server = Server::new(usual);
    let world = world(&server, LONG).await;
    let mut object = dataset("d");
    object.metadata.deletion_timestamp = Some(Context::now());
    let action = reconcile(Arc::new(object), world.ctx.clone()).await.unwrap();
    assert_eq!(action, Action::await_change());
    assert_eq!(server.log(), Vec::<String>::new());
}

#[tokio::test]
async fn a_failure_is_told_after_three_in_a_row_and_waits_grow() {
    let server = Server::new(|seen| match seen.method.as_str() {
        "GET" => refusal(500, "InternalError"),
        _ => usual(seen),
    });
    let world = world(&server, LONG).await;
    let mut object = dataset("d");
    object.spec.schema.label_names =
        serde_json::from_value(json!({"configMapRef": {"name": "names"}})).unwrap();
    for (failures, told) in [(1, 0), (2, 0), (3, 1)] {
        // an edit of the spec: tried at once
        object.metadata.generation = Some(failures);
        let error = reconcile(Arc::new(object.clone()), world.ctx.clone()).await.unwrap_err();
        assert_eq!((error.category(), status_writes(&server)), ("server", told), "after {failures}");
        let wait = world.ctx.backoff.wait("d-uid", Some(failures)).unwrap();
        assert!(wait >= Duration::from_millis(400 << (failures - 1)), "{wait:?} after {failures}");
    }
    // events of its children do not bring it back before its time
    let asked = server.log().len();
    let action = reconcile(Arc::new(object), world.ctx.clone()).await.unwrap();
    assert_ne!(action, Action::await_change());
    assert_eq!(server.log().len(), asked);
    let conditions = server.with_method("PATCH")[0].body["status"]["conditions"].clone();
    let reconciling = conditions.as_array().unwrap().iter().find(|c| c["type"] == "Reconciling").unwrap();
    assert_eq!(reconciling["reason"], "OperatorError");
    assert!(reconciling["message"].as_str().unwrap().contains("ConfigMap a/names"), "{reconciling}");
}

#[tokio::test]
async fn h2_a_server_that_never_answers_does_not_freeze_the_object() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let server = Server::slow(move |seen| {
        let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first {
                std::future::pending::<()>().await;
            }
            usual(&seen)
        }
    });
    let mut world = world(&server, Duration::from_millis(200)).await;
    world.filled.deployment(deployment("d"));
    world.filled.ready();
    let queue = Queue::<ModelDeployment>::default();
    let receiver = queue.open().unwrap();
    queue.push(ObjectRef::new("d").within("a"));
    let stop = CancellationToken::new();
    let running = tokio::spawn(run::<ModelDeployment>(world.ctx.clone(), receiver, 1, stop.clone()));
    let told = async {
        // the first one is the call that hangs
        while status_writes(&server) < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told).await.expect("the object is reconciled again");
    let text = world.ctx.metrics.text().unwrap();
    assert!(text.contains(r#"kind="ModelDeployment",class="timeout"} 1"#), "{text}");
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), running).await.expect("the controller stops").unwrap();
}

#[tokio::test]
async fn h3_no_more_reconciles_at_once_than_allowed() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, peak) = (now.clone(), most.clone());
    let server = Server::slow(move |seen| {
        let (now, most) = (counted.clone(), peak.clone());
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            usual(&seen)
        }
    });
    let mut world = world(&server, LONG).await;
    let queue = Queue::<ModelDeployment>::default();
    let receiver = queue.open().unwrap();
    for i in 0..30 {
        let object = deployment(&format!("d{i}"));
        queue.push(ObjectRef::from_obj(&object));
        world.filled.deployment(object);
    }
    world.filled.ready();
    let stop = CancellationToken::new();
    let running = tokio::spawn(run::<ModelDeployment>(world.ctx.clone(), receiver, 3, stop.clone()));
    let all = async {
        while status_writes(&server) < 30 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, all).await.expect("all are reconciled");
    assert_eq!(most.load(Ordering::SeqCst), 3);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn h4_a_fenced_leader_stops_writing_at_once() {
    let server = Server::new(usual);
    let world = world(&server, LONG).await;
    world.ctx.registry.take_epoch().await.unwrap();
    let operation = RegistryOp::SetAlias {
        namespace_uid: "ns-uid".into(),
        model: "m".into(),
        alias: "a".into(),
        version: 1,
        who: "TrainingRun/r".into(),
        who_uid: "u".into(),
        why: "w".into(),
    };
    let fenced = world.ctx.registry.apply(&operation, world.ctx.epoch).await.unwrap_err();
    let error = ReconcileError::from(ApplyError::from(fenced));
    assert!(error.is_fenced(), "{error}");
    failed(&dataset("d"), &world.ctx, &error, 9).await;
    assert!(world.ctx.deposed.is_cancelled());
    reconcile(Arc::new(dataset("d")), world.ctx.clone()).await.unwrap();
    assert_eq!(server.log(), Vec::<String>::new(), "not even the failure is written");
}

#[tokio::test]
async fn h9_disruptions_are_free_data_errors_final_and_two_pods_never_wanted_at_once() {
    let server = Server::new(usual);
    let world = world(&server, LONG).await;
    reconcile(Arc::new(dataset("d")), world.ctx.clone()).await.unwrap();
    let jobs: Vec<_> = server.with_method("POST").into_iter().filter(|s| s.path.ends_with("/jobs")).collect();
    assert_eq!(jobs.len(), 1);
    let spec = &jobs[0].body["spec"];
    assert_eq!((&spec["podReplacementPolicy"], &spec["parallelism"]), (&json!("Failed"), &json!(1)));
    let rules = spec["podFailurePolicy"]["rules"].as_array().unwrap();
    let action = |of: &str| rules.iter().find(|r| !r[of].is_null()).map(|r| r["action"].clone());
    assert_eq!(action("onPodConditions"), Some(json!("Ignore")));
    assert_eq!(action("onExitCodes"), Some(json!("FailJob")));
}

#[tokio::test]
async fn the_status_of_an_object_that_is_gone_is_no_failure() {
    let status = async |code, reason, live: &'static str| {
        let server = Server::new(move |seen| match (seen.method.as_str(), live) {
            ("GET", "") => refusal(404, "NotFound"),
            ("GET", uid) => {
                let mut object = serde_json::to_value(dataset("d")).unwrap();
                object["metadata"]["uid"] = json!(uid);
                (200, object)
            }
            _ => refusal(code, reason),
        });
        let world = world(&server, LONG).await;
        apply::status(&world.ctx, &dataset("d"), &DatasetStatus::default()).await
    };
    status(404, "NotFound", "").await.unwrap();
    // the test of the UID failed, or somebody else was quicker: gone, a successor, or still the same
    for (code, reason) in [(409, "Conflict"), (422, "Invalid")] {
        status(code, reason, "").await.unwrap();
        status(code, reason, "successor").await.unwrap();
        status(code, reason, "d-uid").await.unwrap_err();
    }
}

#[test]
fn requeues_become_actions() {
    let now: Time = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    let later: Time = serde_json::from_value(json!("2026-01-01T00:00:30Z")).unwrap();
    assert_eq!(action(&Requeue::AwaitChange, None, &now), Action::await_change());
    assert_ne!(action(&Requeue::AwaitChange, Some(Duration::from_mins(10)), &now), Action::await_change());
    assert_eq!(action(&Requeue::After(Duration::ZERO), None, &now), Action::requeue(Duration::ZERO));
    assert_eq!(action(&Requeue::At(later), None, &now), Action::requeue(Duration::from_secs(31)));
    // a deadline that has passed
    let past: Time = serde_json::from_value(json!("2025-12-31T00:00:00Z")).unwrap();
    assert_eq!(action(&Requeue::At(past), None, &now), Action::requeue(Duration::from_secs(1)));
}

#[test]
fn the_kinds_say_what_they_are() {
    assert_eq!((Dataset::NAME, Dataset::PLURAL), ("Dataset", "datasets"));
    for (name, plural, kind, resource) in [
        (
            Dataset::NAME,
            Dataset::PLURAL,
            <Dataset as kube::Resource>::kind(&()),
            <Dataset as kube::Resource>::plural(&()),
        ),
        (
            ModelDeployment::NAME,
            ModelDeployment::PLURAL,
            <ModelDeployment as kube::Resource>::kind(&()),
            <ModelDeployment as kube::Resource>::plural(&()),
        ),
    ] {
        assert_eq!((name, plural), (&*kind, &*resource));
    }
}
