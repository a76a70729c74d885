//! A new version takes over without a failed request.

use vitrine_e2e::kubectl::{condition, kubectl, number, text};
use vitrine_e2e::manifests::Run;
use vitrine_e2e::prober::Prober;
use vitrine_e2e::story::Story;
use vitrine_e2e::wait::{seconds, until};

use crate::integrity::{flip, stored};
use crate::{address, served};

const BODY: &str =
    r#"{"designation": "jeu de stratégie", "description": "un jeu de plateau pour deux joueurs"}"#;

#[test]
fn a_new_version_under_500_requests_per_second_fails_none() {
    let story = Story::begin("rollout");
    served(&story, 2);
    story.alone();
    let address = address(&story, "serve");
    let prober = Prober::start(address, BODY, 500, 16);
    until("traffic", seconds(30), || {
        let seen = prober.seen();
        if seen.ok > 1000 { Ok(()) } else { Err(format!("{} answers", seen.ok)) }
    });
    story.apply(&Run { name: "second", seed: 7, c: &[0.5], ..Run::default() }.yaml());
    story.wait_for("trun/second", "Succeeded", 180);
    let serve = until("version 2", seconds(120), || {
        let serve = story.get(&["mdep/serve"]);
        let stable = number(&serve, "/status/stable/version");
        if stable == Some(2) && condition(&serve, "Reconciling").0 == "False" {
            Ok(serve)
        } else {
            Err(format!("stable {stable:?}"))
        }
    });
    assert_eq!(text(&serve, "/status/lastRollout/result"), "Succeeded");
    // the old pods drain and go while the requests go on
    until("the old pods to go", seconds(90), || {
        let pods = story.list(&["pods", "-l", "app.kubernetes.io/component=serve"]);
        if pods.len() == 2 { Ok(()) } else { Err(format!("{} pods", pods.len())) }
    });
    let before = prober.seen().versions.get(&2).copied().unwrap_or(0);
    until("answers of version 2 only", seconds(30), || {
        let seen = prober.seen();
        let now = seen.versions.get(&2).copied().unwrap_or(0);
        if now > before + 1000 { Ok(()) } else { Err(format!("{:?}", seen.versions)) }
    });
    let rate = prober.rate();
    let seen = prober.stop();
    println!(
        "rollout under {rate:.0} requests per second: {} answers, {} failed, by version {:?}",
        seen.ok, seen.failed, seen.versions
    );
    assert!(rate >= 450.0, "the load was {rate:.0} requests per second");
    assert_eq!(seen.failed, 0, "{:#?}", seen.failures);
    assert!(seen.ok > 5000, "{seen:?}");
    assert!(seen.versions[&1] > 1000 && seen.versions[&2] > 1000, "{:?}", seen.versions);
    story.end();
}

#[test]
fn a_version_that_never_becomes_ready_is_removed_and_the_old_one_goes_on() {
    let story = Story::begin("badroll");
    served(&story, 1);
    let patch = r#"{"spec":{"rollout":{"progressDeadlineSeconds":15}}}"#;
    kubectl(&["-n", &story.ns, "patch", "mdep/serve", "--type=merge", "-p", patch]);
    // version 2 is stored, spoiled, and only then becomes the candidate, by a run that reuses it
    let second = Run { name: "second", seed: 7, c: &[0.5], ..Run::default() };
    story.apply(
        &second.yaml().replace("output: {model: products}", "output: {model: products, alias: other}"),
    );
    let run = story.wait_for("trun/second", "Succeeded", 180);
    flip(&stored(&story, &text(&run, "/status/model/digest")));
    story.apply(&Run { name: "third", ..second }.yaml());
    story.wait_for("trun/third", "Succeeded", 60);
    let serve = until("the rollout to fail", seconds(120), || {
        let serve = story.get(&["mdep/serve"]);
        let (status, reason, message) = condition(&serve, "RolloutSucceeded");
        if status == "False" && reason == "RolloutFailed" {
            Ok(serve)
        } else {
            Err(format!("{status}/{reason}: {message}"))
        }
    });
    assert_eq!(number(&serve, "/status/stable/version"), Some(1));
    assert_eq!(condition(&serve, "Ready").0, "True", "the old version serves");
    assert_eq!(text(&serve, "/status/lastRollout/result"), "Failed");
    let (_, _, message) = condition(&serve, "RolloutSucceeded");
    assert!(message.contains("version 2"), "{message}");
    until("the new one to be removed", seconds(60), || {
        let left = story.list(&["deployments"]).len();
        if left == 1 { Ok(()) } else { Err(format!("{left} deployments")) }
    });
    story.end();
}
