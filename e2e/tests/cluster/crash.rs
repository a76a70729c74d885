//! The operator is killed with SIGKILL at the worst moments and comes back: same end state, one Job
//! per attempt, one registered version.

use std::collections::BTreeSet;

use vitrine_e2e::audit::{self, OPERATOR};
use vitrine_e2e::kubectl::{number, text};
use vitrine_e2e::manifests::{Run, dataset, deployment};
use vitrine_e2e::operator;
use vitrine_e2e::story::Story;
use vitrine_e2e::turn;
use vitrine_e2e::wait::{seconds, until};

use crate::jobs_of;

/// Names of the Jobs that the operator created in a namespace since a mark, one for each request
/// that made one.
fn created_jobs(mark: audit::Mark, namespace: &str) -> Vec<String> {
    audit::since(mark, OPERATOR)
        .into_iter()
        .filter(|r| r.verb == "create" && r.resource == "jobs" && r.namespace == namespace && r.code == 201)
        .map(|r| r.name)
        .collect()
}

/// What must hold at the end, whenever the operator was killed.
fn one_of_everything(story: &Story, mark: audit::Mark) {
    let run = story.wait_for("trun/run", "Succeeded", 240);
    let serve = story.wait_for("mdep/serve", "Ready", 180);
    assert_eq!(number(&run, "/status/model/version"), Some(1), "one version");
    assert_eq!(number(&serve, "/status/stable/version"), Some(1));
    assert_eq!(text(&serve, "/status/stable/digest"), text(&run, "/status/model/digest"));
    assert_eq!(number(&run, "/status/attempts"), Some(1));
    for owner in ["products", "run"] {
        assert_eq!(jobs_of(story, owner).len(), 1, "one Job of {owner}");
    }
    let created = created_jobs(mark, &story.ns);
    assert_eq!(created.len(), 2, "one create per attempt in the audit log: {created:?}");
    assert_eq!(created.iter().collect::<BTreeSet<_>>().len(), 2);
    assert_eq!(story.list(&["deployments"]).len(), 1);
    assert_eq!(story.list(&["services"]).len(), 2, "for predictions and for siblings");
}

/// Applies everything, kills the operator when `moment` holds, and checks the end.
fn killed_when(name: &str, what: &str, moment: impl Fn(&Story) -> bool) {
    let _alone = turn::alone();
    let story = Story::begin(name);
    let mark = audit::mark();
    story.apply(&dataset("products"));
    story.apply(&Run { c: &[0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0], ..Run::default() }.yaml());
    story.apply(&deployment("serve", 2));
    until(what, seconds(180), || if moment(&story) { Ok(()) } else { Err("not yet".into()) });
    operator::kill();
    operator::wait_ready();
    one_of_everything(&story, mark);
    story.end();
}

#[test]
fn killed_during_ingest() {
    killed_when("kill-ingest", "the ingest Job", |s| !jobs_of(s, "products").is_empty());
}

#[test]
fn killed_during_training() {
    killed_when("kill-train", "the training pod to run", |s| {
        s.list(&["pods", "-l", "app.kubernetes.io/component=train"])
            .iter()
            .any(|p| text(p, "/status/phase") == "Running")
    });
}

#[test]
fn killed_at_registration() {
    killed_when("kill-register", "the training pod to end", |s| {
        s.list(&["pods", "-l", "app.kubernetes.io/component=train"])
            .iter()
            .any(|p| !p["status"]["containerStatuses"][0]["state"]["terminated"].is_null())
    });
}

#[test]
fn killed_during_rollout() {
    killed_when("kill-rollout", "the child Deployment", |s| !s.list(&["deployments"]).is_empty());
}

#[test]
fn killed_again_while_it_recovers() {
    let _alone = turn::alone();
    let story = Story::begin("kill-twice");
    let mark = audit::mark();
    story.apply(&dataset("products"));
    story.apply(&Run::default().yaml());
    story.apply(&deployment("serve", 1));
    until("the ingest Job", seconds(120), || {
        if jobs_of(&story, "products").is_empty() { Err("none".into()) } else { Ok(()) }
    });
    operator::kill();
    until("the operator's next process", seconds(60), || {
        let (_, uid) = operator::pod().ok_or("no pod")?;
        operator::pid_of(&uid, "vitrine-operator").ok_or_else(|| "no process".to_owned())
    });
    operator::kill();
    operator::wait_ready();
    one_of_everything(&story, mark);
    story.end();
}
