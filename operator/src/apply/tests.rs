//! Writes to children: create once, never over somebody else's object, always with the UID.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};
use vitrine_crds::names;
use vitrine_plan::{Child, ChildRef};

use crate::error::ApplyError;
use crate::testing::{Server, World, child_meta, object, refusal, usual, world};

use super::children::{Owner, delete, put};

fn owner() -> Owner {
    Owner { namespace: "a".into(), uid: "mine".into() }
}

fn job() -> Child {
    Child::CreateJob(Box::new(object::<Job>(json!({"metadata": child_meta("j", "mine")}))))
}

fn service() -> Child {
    Child::Service(Box::new(object::<Service>(json!({"metadata": child_meta("s", "mine")}))))
}

async fn world_of(server: &Server) -> World {
    world(server, Duration::from_secs(20)).await
}

/// A server on which the Job exists, controlled by `owner`; `None`: gone again.
fn taken(owner: Option<&'static str>) -> Server {
    Server::new(move |seen| match (seen.method.as_str(), owner) {
        ("GET", Some(owner)) => {
            (200, json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": child_meta("j", owner)}))
        }
        ("GET", None) => refusal(404, "NotFound"),
        _ => refusal(409, "AlreadyExists"),
    })
}

#[tokio::test]
async fn a_job_that_exists_is_success_only_if_it_is_ours() {
    for owner in [Some("mine"), None, Some("other")] {
        let server = taken(owner);
        let world = world_of(&server).await;
        let put = put(&world.ctx, &self::owner(), &job()).await;
        assert_eq!(server.with_method("POST").len(), 1, "create once");
        match (owner, put) {
            (Some("mine"), Ok(())) => {}
            (Some("other"), Err(ApplyError::NameCollision { kind: "Job", name, .. })) if name == "j" => {}
            // no attempt was begun, and the pass must not say so
            (None, Err(ApplyError::Call(error))) => assert!(error.is_already_exists(), "{error}"),
            (owner, put) => panic!("{owner:?}: {put:?}"),
        }
    }
}

/// A server on which a Service `s` exists: a first apply is refused, another one is carried out.
fn with_service(live: Value) -> Server {
    Server::new(move |seen| match seen.method.as_str() {
        "GET" => (200, live.clone()),
        "PATCH" if seen.body["metadata"]["resourceVersion"] == "1" => refusal(409, "Conflict"),
        _ => usual(seen),
    })
}

/// What of it was written.
fn forced(server: &Server) -> usize {
    let all = server.with_method("PATCH");
    all.iter().filter(|s| s.body["metadata"]["resourceVersion"].is_null()).count()
}

#[tokio::test]
async fn a_first_apply_never_takes_over_what_it_meets() {
    let server = with_service(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "a", "uid": "x"}}),
    );
    let world = world_of(&server).await;
    let refused = put(&world.ctx, &owner(), &service()).await.unwrap_err();
    assert!(matches!(refused, ApplyError::NameCollision { kind: "Service", .. }), "{refused}");
    assert_eq!((server.with_method("PATCH").len(), forced(&server)), (1, 0));
}

#[tokio::test]
async fn a_first_apply_asks_nothing_and_makes_only_what_is_missing() {
    let server = Server::new(usual);
    let world = world_of(&server).await;
    put(&world.ctx, &owner(), &service()).await.unwrap();
    assert_eq!(server.log(), ["PATCH /api/v1/namespaces/a/services/s"]);
    assert_eq!(server.with_method("PATCH")[0].body["metadata"]["resourceVersion"], "1");
}

#[tokio::test]
async fn what_is_ours_already_is_left_repaired_or_looked_at_again() {
    let ours = |hash: &str, label: &str| {
        let mut meta = child_meta("s", "mine");
        meta["annotations"] = json!({names::ANNOTATION_APPLIED: hash});
        let labels = meta["labels"].as_object_mut().unwrap();
        match label {
            "" => labels.remove(names::LABEL_MANAGED_BY),
            by => labels.insert(names::LABEL_MANAGED_BY.to_owned(), json!(by)),
        };
        json!({"apiVersion": "v1", "kind": "Service", "metadata": meta})
    };
    let child = || Child::Service(Box::new(object::<Service>(ours("new", names::MANAGED_BY))));
    for (hash, label, repaired, ends) in [
        ("new", names::MANAGED_BY, 0, true),
        // decided on a cache that is behind
        ("old", names::MANAGED_BY, 0, false),
        // the cache will never know it without the label
        ("new", "", 1, true),
        ("old", "somebody", 1, true),
    ] {
        let server = with_service(ours(hash, label));
        let world = world_of(&server).await;
        let put = put(&world.ctx, &owner(), &child()).await;
        assert_eq!((put.is_ok(), forced(&server)), (ends, repaired), "{hash} {label}");
        if let Err(error) = put {
            assert!(matches!(&error, ApplyError::Call(e) if e.is_conflict() && e.is_retryable()), "{error}");
        }
    }
}

#[tokio::test]
async fn an_apply_is_forced_and_carries_the_whole_child() {
    let server = Server::new(usual);
    let mut world = world_of(&server).await;
    world.filled.service(&object(json!({"metadata": child_meta("s", "mine")})));
    put(&world.ctx, &owner(), &service()).await.unwrap();
    let sent: Vec<Value> = server.with_method("PATCH").into_iter().map(|s| s.body).collect();
    assert_eq!((sent.len(), forced(&server)), (1, 1));
    assert_eq!((&sent[0]["kind"], &sent[0]["metadata"]["uid"]), (&json!("Service"), &json!("s-uid")));
    assert_eq!(sent[0]["metadata"]["ownerReferences"][0]["uid"], "mine");
}

#[tokio::test]
async fn a_successor_that_the_cache_does_not_know_yet_is_not_taken_over() {
    let live = |uid: &str, owner: &str| {
        let mut meta = child_meta("s", owner);
        meta["uid"] = json!(uid);
        json!({"apiVersion": "v1", "kind": "Service", "metadata": meta})
    };
    // what has the name now, what the server says to the cached UID, and what comes of it
    for (now, answer, ends) in [
        (live("new", "somebody"), refusal(422, "Invalid"), "collision"),
        (live("new", "somebody"), refusal(409, "Conflict"), "collision"),
        (live("s-uid", "mine"), refusal(422, "Invalid"), "invalid"),
        (json!(null), refusal(409, "Conflict"), "conflict"),
    ] {
        let server = Server::new(move |seen| match seen.method.as_str() {
            "GET" if now.is_null() => refusal(404, "NotFound"),
            "GET" => (200, now.clone()),
            _ => answer.clone(),
        });
        let mut world = world_of(&server).await;
        world.filled.service(&object(json!({"metadata": child_meta("s", "mine")})));
        let refused = put(&world.ctx, &owner(), &service()).await.unwrap_err();
        let seen = match &refused {
            ApplyError::NameCollision { .. } => "collision",
            ApplyError::Call(e) if e.is_invalid() => "invalid",
            ApplyError::Call(e) if e.is_conflict() && e.is_retryable() => "conflict",
            _ => "other",
        };
        assert_eq!((seen, server.with_method("PATCH").len()), (ends, 1), "{refused}");
    }
}

#[tokio::test]
async fn patches_and_deletes_name_the_uid() {
    let server = Server::new(usual);
    let world = world_of(&server).await;
    let suspend = Child::SuspendJob { name: "j".into(), uid: "u".into(), suspend: true };
    put(&world.ctx, &owner(), &suspend).await.unwrap();
    let sent = server.with_method("PATCH")[0].body.clone();
    assert_eq!((&sent["metadata"]["uid"], &sent["spec"]["suspend"]), (&json!("u"), &json!(true)));
    delete(&world.ctx, &owner(), &ChildRef { kind: "Job", name: "j".into(), uid: "u".into() }).await.unwrap();
    let sent = server.with_method("DELETE")[0].body.clone();
    assert_eq!(
        (&sent["preconditions"]["uid"], &sent["propagationPolicy"]),
        (&json!("u"), &json!("Background"))
    );
}

#[tokio::test]
async fn a_successor_of_the_same_name_is_not_deleted() {
    let child = ChildRef { kind: "Deployment", name: "d".into(), uid: "old".into() };
    // a conflict may also be about something else
    for (now, well) in [("new", true), ("old", false)] {
        let server = Server::new(move |seen| match seen.method.as_str() {
            "GET" => (
                200,
                json!({"metadata": {"name": "d", "namespace": "a", "uid": now}, "spec": {"selector": {}, "template": {}}}),
            ),
            _ => refusal(409, "Conflict"),
        });
        let world = world_of(&server).await;
        assert_eq!(delete(&world.ctx, &owner(), &child).await.is_ok(), well, "{now}");
        assert_eq!(server.with_method("DELETE").len(), 1, "asked once, not again without the UID");
    }
}

#[tokio::test]
async fn the_number_of_pods_is_applied_alone_and_by_a_manager_of_its_own() {
    let server = Server::new(usual);
    let world = world_of(&server).await;
    let scale = || Child::ScaleDeployment { name: "d".into(), uid: "u".into(), replicas: 3 };
    put(&world.ctx, &owner(), &scale()).await.unwrap();
    let sent = server.with_method("PATCH").remove(0);
    assert_eq!(sent.body["metadata"], json!({"name": "d", "namespace": "a", "uid": "u"}));
    assert_eq!(sent.body["spec"], json!({"replicas": 3}));
    assert!(sent.query.contains("fieldManager=vitrine-operator-replicas"), "{}", sent.query);
    assert!(sent.query.contains("force=true"), "{}", sent.query);
    // gone since, or another one of that name
    let suspend = || Child::SuspendJob { name: "d".into(), uid: "u".into(), suspend: true };
    for (refused, uid, well) in [
        (refusal(404, "NotFound"), "", true),
        (refusal(409, "Conflict"), "other", true),
        (refusal(409, "Conflict"), "u", false),
        (refusal(422, "Invalid"), "other", true),
        (refusal(422, "Invalid"), "u", false),
    ] {
        let server = Server::new(move |seen| match seen.method.as_str() {
            "GET" => (
                200,
                json!({"metadata": {"name": "d", "namespace": "a", "uid": uid}, "spec": {"selector": {}, "template": {}}}),
            ),
            _ => refused.clone(),
        });
        let world = world_of(&server).await;
        assert_eq!(put(&world.ctx, &owner(), &scale()).await.is_ok(), well);
        assert_eq!(put(&world.ctx, &owner(), &suspend()).await.is_ok(), well);
    }
}
