//! Whatever is deleted goes, and takes along what belongs to it, also while the operator is away.

use std::collections::BTreeSet;

use vitrine_e2e::audit;
use vitrine_e2e::kubectl::{kubectl, number, text};
use vitrine_e2e::manifests::{Run, dataset, deployment};
use vitrine_e2e::operator;
use vitrine_e2e::story::Story;
use vitrine_e2e::wait::{pause, seconds, until};

use crate::served;

const CHILDREN: &str = "jobs,pods,deployments,replicasets,services,configmaps,horizontalpodautoscalers";

/// UID of a resource and the kinds of its children, found by the label that holds the UID.
fn children(story: &Story, object: &str) -> String {
    let uid = text(&story.get(&[object]), "/metadata/uid");
    let found = story.list(&[CHILDREN, "-l", &format!("vitrine.dev/owner-uid={uid}")]);
    let kinds: BTreeSet<_> = found.iter().map(|o| text(o, "/kind")).collect();
    let wanted: &[&str] = match object.split('/').next() {
        Some("mdep") => &["ConfigMap", "Deployment", "Pod", "Service"],
        _ => &["ConfigMap", "Job", "Pod"],
    };
    for kind in wanted {
        assert!(kinds.contains(*kind), "{object} has no {kind} with its UID: {kinds:?}");
    }
    uid
}

/// Waits until no child of a deleted resource is left.
fn nothing_left(story: &Story, uid: &str) {
    let selector = format!("vitrine.dev/owner-uid={uid}");
    until(&format!("children of {uid} to go"), seconds(90), || {
        let left: Vec<_> = story
            .list(&[CHILDREN, "-l", &selector])
            .iter()
            .map(|o| {
                format!(
                    "{}/{}",
                    o["kind"].as_str().unwrap_or("?"),
                    o["metadata"]["name"].as_str().unwrap_or("?")
                )
            })
            .collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

#[test]
fn each_resource_takes_its_children_along_and_the_model_stays() {
    let story = Story::begin("delete");
    served(&story, 1);
    for object in ["mdep/serve", "trun/run", "mlds/products"] {
        let uid = children(&story, object);
        kubectl(&["-n", &story.ns, "delete", object, "--timeout=30s"]);
        nothing_left(&story, &uid);
    }
    // models outlive runs: the version is still served by its alias
    story.apply(&deployment("serve", 1));
    let serve = story.wait_for("mdep/serve", "Ready", 120);
    assert_eq!(number(&serve, "/status/stable/version"), Some(1));
    story.end();
}

#[test]
fn deletion_ends_while_the_operator_is_down() {
    let story = Story::begin("away");
    served(&story, 1);
    story.alone();
    let uids = ["mdep/serve", "trun/run", "mlds/products"].map(|object| children(&story, object));
    operator::scale(0);
    kubectl(&["-n", &story.ns, "delete", "mlds,trun,mdep", "--all", "--timeout=30s"]);
    for uid in &uids {
        nothing_left(&story, uid);
    }
    let mark = audit::mark();
    operator::scale(1);
    operator::wait_leads(mark);
    pause(seconds(3));
    assert!(story.names("jobs,deployments").is_empty(), "the returned operator brings nothing back");
    story.end();
}

#[test]
fn a_namespace_goes_with_everything_and_a_new_one_inherits_nothing() {
    let story = Story::begin("namespace");
    served(&story, 1);
    story.end_and_wait();
    let again = Story::begin("namespace");
    again.apply(&deployment("serve", 1));
    again.wait_reason("mdep/serve", "ModelResolved", "False", "ModelNotFound", 60);
    again.apply(&dataset("products"));
    again.apply(&Run::default().yaml());
    let run = again.wait_for("trun/run", "Succeeded", 240);
    assert_eq!(
        number(&run, "/status/model/version"),
        Some(1),
        "versions of the old namespace are not continued"
    );
    assert_eq!(run.pointer("/status/model/reused"), Some(&false.into()), "nor are its models taken over");
    again.end();
}
