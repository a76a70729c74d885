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
async fn a_job_that_the_cache_lacks_is_asked_for_unless_all_is_done() {
    let server = Server::new(usual);
    let mut world = world(&server, Duration::from_secs(9)).await;
    assert!(observe(&world.ctx, &subject(), Some("j"), true).await.unwrap().job.is_none());
    assert_eq!(server.log().len(), 0);
    assert!(observe(&world.ctx, &subject(), Some("j"), false).await.unwrap().job.is_none());
    assert_eq!(server.log(), ["GET /apis/batch/v1/namespaces/a/jobs/j"]);
    world.filled.job(&job("j"));
    let work = observe(&world.ctx, &subject(), Some("j"), false).await.unwrap();
    assert_eq!(work.job.unwrap().active, 1);
    assert_eq!(server.log().len(), 1, "the cache knows it now");
}

#[tokio::test]
async fn pods_count_only_with_the_job_that_controls_them() {
    let mut world = world(&Server::new(usual), Duration::from_secs(9)).await;
    world.filled.job(&job("j"));
    let pod = |name: &str, controller: &str| {
        let mut meta = child_meta(name, controller);
        meta["labels"] = json!({names::LABEL_OWNER_UID: "mine"});
        object(json!({"metadata": meta}))
    };
    world.filled.pod(&pod("right", "j-uid"));
    world.filled.pod(&pod("of-another-job", "k-uid"));
    let work = observe(&world.ctx, &subject(), Some("j"), false).await.unwrap();
    assert_eq!(work.pods.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["right"]);
}

#[tokio::test]
async fn other_attempts_are_leftovers() {
    let mut world = world(&Server::new(usual), Duration::from_secs(9)).await;
    world.filled.job(&job("now"));
    world.filled.job(&job("before"));
    let work = observe(&world.ctx, &subject(), Some("now"), false).await.unwrap();
    let before = ChildRef { kind: "Job", name: "before".into(), uid: "before-uid".into() };
    assert_eq!(work.leftovers, [before]);
    assert!(observe(&world.ctx, &subject(), None, false).await.unwrap().leftovers.is_empty());
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
