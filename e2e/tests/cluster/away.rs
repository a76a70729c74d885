//! Serving goes on without the operator: what starts gets its model from what runs.

use std::process::Command;

use serde_json::Value;
use vitrine_e2e::audit;
use vitrine_e2e::kubectl::{kubectl, number, text, try_kubectl};
use vitrine_e2e::operator;
use vitrine_e2e::prober::Prober;
use vitrine_e2e::story::Story;
use vitrine_e2e::wait::{pause, seconds, until};

use crate::autoscaling::autoscaled;
use crate::{address, served};

const BODY: &str = r#"{"designation": "jeu de plateau", "description": "pour deux joueurs"}"#;

fn pods(story: &Story) -> Vec<Value> {
    story.list(&["pods", "-l", "app.kubernetes.io/component=serve"])
}

fn is_ready(pod: &Value) -> bool {
    pod["status"]["containerStatuses"][0]["ready"] == true && pod["metadata"]["deletionTimestamp"].is_null()
}

/// Waits until exactly so many pods are there and all are ready; gives their names.
fn all_ready(story: &Story, count: usize) -> Vec<String> {
    until(&format!("{count} ready pods"), seconds(180), || {
        let pods = pods(story);
        let ready = pods.iter().filter(|p| is_ready(p)).count();
        if (pods.len(), ready) == (count, count) {
            Ok(pods.iter().map(|p| text(p, "/metadata/name")).collect())
        } else {
            Err(format!("{ready} of {} pods", pods.len()))
        }
    })
}

/// What starts while the operator is away says where its model came from.
fn came_from_siblings(story: &Story, names: &[String], old: &[String]) {
    let new: Vec<_> = names.iter().filter(|n| !old.contains(n)).collect();
    assert!(!new.is_empty(), "no new pod: {names:?}");
    for name in new {
        let log = kubectl(&["-n", &story.ns, "logs", name]);
        assert!(log.contains(r#""origin":"sibling""#), "{name}: {log}");
    }
}

fn lose_one_pod(story: &Story, count: usize, old: &[String]) -> Vec<String> {
    kubectl(&["-n", &story.ns, "delete", "pod", &old[0], "--timeout=90s"]);
    let names = all_ready(story, count);
    came_from_siblings(story, &names, old);
    names
}

fn scale_child(story: &Story, child: &str, count: usize) -> Vec<String> {
    let replicas = format!("--replicas={count}");
    kubectl(&["-n", &story.ns, "scale", &format!("deployment/{child}"), &replicas]);
    all_ready(story, count)
}

fn restart_kubelet() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/node/restart");
    assert!(Command::new(script).arg("kubelet").status().unwrap().success(), "{script} kubelet");
    until("the node to be ready", seconds(120), || {
        let output = try_kubectl(&["wait", "--for=condition=Ready", "nodes", "--all", "--timeout=5s"], None);
        if output.status.success() { Ok(()) } else { Err("not ready".into()) }
    });
}

#[test]
fn pods_are_replaced_and_added_while_the_operator_is_away_and_predictions_go_on() {
    let story = Story::begin("siblings");
    served(&story, 2);
    story.alone();
    let child = text(&story.get(&["mdep/serve"]), "/status/stable/deployment");
    let address = address(&story, "serve");
    let prober = Prober::start(address, BODY, 50, 8);
    let first = all_ready(&story, 2);
    operator::scale(0);
    let names = lose_one_pod(&story, 2, &first);
    // as an autoscaler does it: from one to three
    scale_child(&story, &child, 1);
    let grown = scale_child(&story, &child, 3);
    came_from_siblings(&story, &grown, &names);
    restart_kubelet();
    // the kubelet works again: it starts and judges pods
    all_ready(&story, 3);
    lose_one_pod(&story, 3, &grown);
    scale_child(&story, &child, 2);
    let seen = prober.stop();
    println!("without the operator: {} predictions, {} failed", seen.ok, seen.failed);
    assert!(seen.ok > 500, "{seen:?}");
    assert_eq!(seen.failed, 0, "{:#?}", seen.failures);
    // the operator finds all as it left it
    let mark = audit::mark();
    operator::scale(1);
    operator::wait_leads(mark);
    story.wait_for("mdep/serve", "Ready", 60);
    pause(seconds(8));
    let here = |r: &audit::Request| r.resource != "leases" && r.namespace == story.ns;
    let writes: Vec<_> =
        audit::writes(audit::since(mark, audit::OPERATOR)).into_iter().filter(here).collect();
    assert!(writes.is_empty(), "{writes:#?}");
    story.end();
}

#[test]
fn an_autoscaler_goes_from_one_pod_to_three_while_the_operator_is_away() {
    let story = Story::begin("sib-scaler");
    served(&story, 1);
    story.apply(&autoscaled());
    let least = || number(&story.get(&["hpa/serve"]), "/spec/minReplicas");
    until("the autoscaler", seconds(60), || if least() == Some(1) { Ok(()) } else { Err("none yet".into()) });
    story.wait_for("mdep/serve", "Ready", 60);
    let first = all_ready(&story, 1);
    story.alone();
    operator::scale(0);
    // what the autoscaler may not go below is what it brings at once, without any load
    kubectl(&["-n", &story.ns, "patch", "hpa/serve", "--type=merge", "-p", r#"{"spec":{"minReplicas":3}}"#]);
    let grown = all_ready(&story, 3);
    came_from_siblings(&story, &grown, &first);
    operator::scale(1);
    until("the autoscaler as it was asked for", seconds(60), || {
        if least() == Some(1) { Ok(()) } else { Err(format!("at least {:?} pods", least())) }
    });
    story.end();
}

#[test]
fn the_model_is_given_to_no_pod_without_the_token_and_on_no_public_port() {
    let story = Story::begin("sib-access");
    served(&story, 1);
    let serve = story.get(&["mdep/serve"]);
    let (child, digest) = (text(&serve, "/status/stable/deployment"), text(&serve, "/status/stable/digest"));
    let siblings = address(&story, &child);
    for (at, status) in [(siblings, "401"), (address(&story, "serve"), "404")] {
        let url = format!("http://{at}/v1/blobs/{digest}");
        let output = Command::new("curl")
            .args(["-sS", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", &url])
            .output();
        assert_eq!(String::from_utf8_lossy(&output.unwrap().stdout), status, "{url}");
    }
    // a token for this audience opens neither the gateway nor the apiserver, and one of another
    // namespace opens nothing here
    let token = |namespace: &str, audience: &str| {
        let audience = format!("--audience={audience}");
        kubectl(&["-n", namespace, "create", "token", "default", &audience]).trim().to_owned()
    };
    for (token, status) in [
        (token("default", "vitrine-sibling"), "403"),
        (token(&story.ns, "vitrine-sibling"), "403"), // of no pod
        (token(&story.ns, "vitrine"), "401"),
    ] {
        let bearer = format!("Authorization: Bearer {token}");
        let url = format!("http://{siblings}/v1/blobs/{digest}");
        let output = Command::new("curl")
            .args(["-sS", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", "-H", &bearer, &url])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), status);
    }
    story.end();
}
