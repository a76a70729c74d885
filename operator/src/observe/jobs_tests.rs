//! Jobs are read from the cache, and live where a stale cache could start a second one.

use std::time::Duration;

use serde_json::json;
use vitrine_contract::report::{Failure, Ingested};
use vitrine_plan::Terminated;

use crate::testing::{Server, child_meta, object, usual, world};

use super::*;

fn subject() -> Subject {
    Subject { namespace: "a".into(), name: "d".into(), uid: "mine".into(), namespace_uid: "ns-uid".into() }
}

fn job(name: &str) -> Job {
    object(json!({"metadata": child_meta(name, "mine"), "status": {"active": 1}}))
}

#[tokio::test]
async fn a_job_that_the_cache_lacks_is_asked_for_where_there_is_a_trace_of_it() {
    let server = Server::new(usual);
    let mut world = world(&server, Duration::from_secs(9)).await;
    let asked = ["GET /apis/batch/v1/namespaces/a/jobs/j"];
    for stage in [Stage::Settled, Stage::New] {
        assert!(observe(&world.ctx, &subject(), Some("j"), stage).await.unwrap().job.is_none());
        assert_eq!(server.log().len(), 0, "{stage:?}");
    }
    observe(&world.ctx, &subject(), Some("j"), Stage::Begun).await.unwrap();
    assert_eq!(server.log(), asked);
    // the config of a Job is made before the Job
    world.filled.config(&object(json!({"metadata": child_meta("j", "mine")})));
    observe(&world.ctx, &subject(), Some("j"), Stage::New).await.unwrap();
    // and goes only when its Job is really gone
    observe(&world.ctx, &subject(), Some("j"), Stage::Settled).await.unwrap();
    assert_eq!(server.log(), [asked[0]; 3]);
    world.filled.job(&job("j"));
    let work = observe(&world.ctx, &subject(), Some("j"), Stage::Begun).await.unwrap();
    assert_eq!(work.job.unwrap().active, 1);
    assert_eq!(server.log().len(), 3, "the cache knows it now");
}

#[test]
fn only_the_job_of_now_has_begun() {
    assert_eq!(Stage::of(false, Some("j"), Some("j")), Stage::Begun);
    assert_eq!(Stage::of(false, Some("before"), Some("j")), Stage::New);
    assert_eq!(Stage::of(false, None, None), Stage::New);
    assert_eq!(Stage::of(true, Some("j"), Some("j")), Stage::Settled);
}

#[tokio::test]
async fn pods_count_only_with_the_job_that_controls_them() {
    let mut world = world(&Server::new(usual), Duration::from_secs(9)).await;
    world.filled.job(&job("j"));
    let pod = |name: &str, controller: &str| {
        let mut meta = child_meta(name, controller);
        meta["ownerReferences"][0]["apiVersion"] = json!("batch/v1");
        meta["labels"] = json!({names::LABEL_OWNER_UID: "mine"});
        object(json!({"metadata": meta}))
    };
    world.filled.pod(&pod("right", "j-uid"));
    world.filled.pod(&pod("of-another-job", "k-uid"));
    let work = observe(&world.ctx, &subject(), Some("j"), Stage::Begun).await.unwrap();
    assert_eq!(work.pods.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["right"]);
}

/// A Job of long ago with that status.
fn old_job(status: &serde_json::Value, suspend: bool) -> Job {
    let mut meta = child_meta("j", "mine");
    meta["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    let template = json!({"spec": {"containers": []}});
    object(json!({"metadata": meta, "spec": {"suspend": suspend, "template": template}, "status": status}))
}

fn pod_of_job(status: &serde_json::Value) -> crate::seen::Pod {
    let mut meta = child_meta("p", "j-uid");
    meta["ownerReferences"][0]["apiVersion"] = json!("batch/v1");
    meta["labels"] = json!({names::LABEL_OWNER_UID: "mine"});
    object(json!({"metadata": meta, "status": status}))
}

/// Status of a pod that has had its node for long and says nothing more.
fn silent() -> serde_json::Value {
    let placed =
        json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"});
    json!({"phase": "Pending", "conditions": [placed]})
}

/// A server whose events all say that.
fn tells(reason: &'static str, note: &'static str) -> Server {
    Server::new(move |seen| {
        if !seen.path.ends_with("/events") {
            return usual(seen);
        }
        let event = json!({"metadata": {"name": "e", "namespace": "a"}, "eventTime": null, "reason": reason,
            "note": note, "deprecatedLastTimestamp": Context::now()});
        (
            200,
            json!({"apiVersion": "events.k8s.io/v1", "kind": "EventList", "metadata": {}, "items": [event]}),
        )
    })
}

fn reads_of_events(server: &Server) -> Vec<String> {
    let reads = server.with_method("GET").into_iter();
    reads.filter(|seen| seen.path.ends_with("/events")).map(|seen| seen.query).collect()
}

#[tokio::test]
async fn a_job_without_its_pod_is_explained_by_its_newest_event() {
    let server = tells("FailedCreate", "Error creating: exceeded quota");
    let mut world = world(&server, Duration::from_secs(9)).await;
    world.filled.job(&old_job(&json!({"startTime": "2026-01-01T00:00:01Z"}), false));
    let work = observe(&world.ctx, &subject(), Some("j"), Stage::Begun).await.unwrap();
    assert_eq!(work.job.unwrap().refused.as_deref(), Some("Error creating: exceeded quota"));
    let asked = reads_of_events(&server);
    assert_eq!(asked.len(), 1);
    assert!(asked[0].contains("fieldSelector=regarding.uid%3Dj-uid%2Ctype%3DWarning"), "{asked:?}");
    assert!(asked[0].contains("limit=50"), "{asked:?}");
}

#[tokio::test]
async fn a_pod_that_cannot_mount_is_explained_by_its_newest_event() {
    let server = tells("FailedMount", "secret \"tokens\" not found");
    let mut world = world(&server, Duration::from_secs(9)).await;
    world.filled.job(&old_job(&json!({"active": 1}), false));
    world.filled.pod(&pod_of_job(&silent()));
    let work = observe(&world.ctx, &subject(), Some("j"), Stage::Begun).await.unwrap();
    assert_eq!(work.job.unwrap().refused, None, "it has a pod");
    assert_eq!(work.pods[0].unmounted.as_deref(), Some("secret \"tokens\" not found"));
    let asked = reads_of_events(&server);
    assert!(asked.len() == 1 && asked[0].contains("regarding.uid%3Dp-uid%2C"), "{asked:?}");
}

#[tokio::test]
async fn no_event_is_read_while_nothing_hangs() {
    let server = tells("FailedCreate", "never asked");
    let active = json!({"active": 1});
    let done = json!({"conditions": [{"type": "Complete", "status": "True"}]});
    let running = json!({"phase": "Running"});
    let pulls = json!({"phase": "Pending", "containerStatuses": [{"name": names::CONTAINER, "image": "i", "imageID": "",
        "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff"}}}]});
    let mut fresh = old_job(&json!({}), false);
    fresh.metadata.creation_timestamp = Some(Context::now());
    let old = |status: &serde_json::Value| old_job(status, false);
    let hangs = silent();
    let situations = [
        (old(&active), Some(&running), false),
        (old(&active), Some(&pulls), false),
        (fresh, None, false),
        (old_job(&json!({}), true), None, false),
        (old(&done), None, false),
        // all is done: not even a Job that seems to hang is asked about
        (old(&json!({})), None, true),
        (old(&active), Some(&hangs), true),
    ];
    for (job, pod, settled) in situations {
        let mut world = world(&server, Duration::from_secs(9)).await;
        world.filled.job(&job);
        if let Some(status) = pod {
            world.filled.pod(&pod_of_job(status));
        }
        observe(&world.ctx, &subject(), Some("j"), Stage::of(settled, Some("j"), Some("j"))).await.unwrap();
        assert_eq!(reads_of_events(&server), Vec::<String>::new(), "{job:?} {pod:?} {settled}");
    }
}

#[tokio::test]
async fn events_that_may_not_be_read_stop_nothing() {
    let server = Server::new(|_| crate::testing::refusal(403, "Forbidden"));
    let mut world = world(&server, Duration::from_secs(9)).await;
    world.filled.job(&old_job(&json!({}), false));
    let work = observe(&world.ctx, &subject(), Some("j"), Stage::Begun).await.unwrap();
    assert_eq!((work.job.unwrap().refused, reads_of_events(&server).len()), (None, 1));
}

#[tokio::test]
async fn other_attempts_are_leftovers() {
    let mut world = world(&Server::new(usual), Duration::from_secs(9)).await;
    world.filled.job(&job("now"));
    world.filled.job(&job("before"));
    let work = observe(&world.ctx, &subject(), Some("now"), Stage::Begun).await.unwrap();
    let before = ChildRef { kind: "Job", name: "before".into(), uid: "before-uid".into() };
    assert_eq!(work.leftovers, [before]);
    assert!(observe(&world.ctx, &subject(), None, Stage::Begun).await.unwrap().leftovers.is_empty());
}

#[test]
fn how_a_job_ended_comes_from_its_conditions() {
    let end_of = |type_: &str, status: &str| {
        let conditions = json!([{"type": "Suspended", "status": "False"}, {"type": type_, "status": status, "reason": "R"}]);
        facts(&object(json!({"metadata": {}, "status": {"conditions": conditions}})), "mine").end
    };
    assert!(matches!(end_of("Complete", "True"), Some(JobEnd::Complete { .. })));
    assert!(matches!(end_of("Failed", "True"), Some(JobEnd::Failed { reason, .. }) if reason == "R"));
    // FailureTarget comes first; pods may still be ending
    assert_eq!(end_of("FailureTarget", "True"), None);
    assert_eq!(end_of("Complete", "False"), None);
}

#[test]
fn a_success_wins_wherever_it_was_told() {
    let good = || Some(Outcome::Ingested(Ingested::default()));
    let bad = |m: &str| Some(Outcome::Failed(Failure { reason: "R".into(), message: m.into() }));
    assert_eq!(best(good(), bad("w")), good());
    assert_eq!(best(bad("p"), good()), good());
    assert_eq!(best(bad("p"), bad("w")), bad("w"));
    assert_eq!(best(bad("p"), None), bad("p"));
    assert_eq!(best(None, None), None);
}

#[test]
fn last_words_are_those_of_the_newest_pod_that_has_any() {
    let message = Message::new(Outcome::Ingested(Ingested { rows: 7, ..Ingested::default() }));
    let pod = |text: &str| PodFacts {
        terminated: Some(Terminated { message: text.into(), ..Terminated::default() }),
        ..PodFacts::default()
    };
    let pods = [
        pod("old words"),
        pod(&serde_json::to_string(&message).unwrap()),
        PodFacts::default(),
        pod("panicked"),
    ];
    assert_eq!(last_words(&pods), Some(message.outcome));
    assert_eq!(last_words(&[pod("panicked")]), None);
}
