//! The operator is killed with SIGKILL at the worst moments and comes back: same end state, one Job
//! per attempt, one registered version.

use std::collections::BTreeSet;

use serde_json::Value;
use vitrine_e2e::audit::{self, OPERATOR};
use vitrine_e2e::kubectl::{condition, number, text};
use vitrine_e2e::manifests::{Run, dataset, deployment};
use vitrine_e2e::operator;
use vitrine_e2e::story::Story;
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

/// A run that searches long enough to be killed in.
fn long_run() -> String {
    Run { c: &[0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0], ..Run::default() }.yaml()
}

/// A Dataset whose ingest gets a twentieth of a core, so that it is still under way at the kill: with all
/// of one it ends within a second, sooner than a few commands.
fn slow_dataset() -> String {
    let manifest = dataset("products");
    let slow = manifest.replace("cpu: 100m", "cpu: 50m").replace("limits: {", "limits: {cpu: 50m, ");
    assert_eq!(slow.matches("cpu: 50m").count(), 2, "{slow}");
    slow
}

/// Whether that is true of a training pod.
fn some_training_pod(story: &Story, is: impl Fn(&Value) -> bool) -> bool {
    story.list(&["pods", "-l", "app.kubernetes.io/component=train"]).iter().any(is)
}

/// One kill, at a moment at which an ingest, a training and a rollout are under way.
#[test]
fn killed_during_ingest_training_and_rollout() {
    let [train, ingest, rollout] = ["kill-train", "kill-ingest", "kill-rollout"].map(Story::begin);
    let mark = audit::mark();
    train.apply(&dataset("products"));
    rollout.apply(&dataset("products"));
    rollout.apply(&Run::default().yaml());
    train.wait_for("mlds/products", "Ready", 240);
    rollout.wait_for("trun/run", "Succeeded", 240);
    Story::all_alone([&train, &ingest, &rollout]);

    for story in [&train, &ingest] {
        story.apply(&long_run());
        story.apply(&deployment("serve", 2));
    }
    let training = || some_training_pod(&train, |p| text(p, "/status/phase") == "Running");
    until("the training pod to run", seconds(180), || if training() { Ok(()) } else { Err("no".into()) });
    ingest.apply(&slow_dataset());
    rollout.apply(&deployment("serve", 2));
    until("the ingest Job and the child Deployment", seconds(60), || {
        let (jobs, children) = (jobs_of(&ingest, "products").len(), rollout.list(&["deployments"]).len());
        if jobs > 0 && children > 0 { Ok(()) } else { Err(format!("{jobs} and {children}")) }
    });
    operator::kill();
    assert!(training(), "the training ended before the kill");
    let serve = rollout.get(&["mdep/serve"]);
    assert_ne!(condition(&serve, "Ready").0, "True", "the rollout ended before the kill");
    assert_ne!(condition(&ingest.get(&["mlds/products"]), "Ready").0, "True", "so did the ingest");
    operator::wait_ready();
    for story in [&rollout, &train, &ingest] {
        one_of_everything(story, mark);
    }
    rollout.end();
    ingest.end();
    train.end();
}

/// The second kill meets a process that does not lead yet, so that it repairs nothing of the first.
#[test]
fn killed_at_registration_and_again_while_it_recovers() {
    let story = Story::begin("kill-register");
    let mark = audit::mark();
    story.apply(&dataset("products"));
    story.wait_for("mlds/products", "Ready", 240);
    story.alone();
    story.apply(&long_run());
    story.apply(&deployment("serve", 2));
    until("the training pod to end", seconds(180), || {
        let ended = some_training_pod(&story, |p| {
            !p["status"]["containerStatuses"][0]["state"]["terminated"].is_null()
        });
        if ended { Ok(()) } else { Err("not yet".into()) }
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
