//! A new release of the operator leaves what serves alone.

use std::process::Command;

use serde_json::Value;
use vitrine_e2e::audit;
use vitrine_e2e::kubectl::{kubectl, text};
use vitrine_e2e::manifests::{Run, dataset, deployment};
use vitrine_e2e::operator;
use vitrine_e2e::prober::Prober;
use vitrine_e2e::story::Story;
use vitrine_e2e::wait::{pause, seconds, until};

use crate::address;

const BODY: &str = r#"{"designation": "jeu de plateau", "description": "pour deux joueurs"}"#;
/// Image of the servers of the next release; nothing need ever pull it here.
const NEXT: &str = "vitrine-server:of-the-next-release";

fn helm(args: &[&str]) {
    let output = Command::new("helm").args(["-n", operator::NAMESPACE]).args(args).output().unwrap();
    assert!(output.status.success(), "helm {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Puts the earlier release back, also when the story fails.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        helm(&["rollback", operator::DEPLOYMENT, "--wait", "--timeout=2m"]);
        operator::wait_ready();
    }
}

/// A ModelDeployment that leaves its resources to the defaults of the release.
fn by_default(name: &str, replicas: u32) -> String {
    let whole = deployment(name, replicas);
    whole.lines().filter(|line| !line.contains("resources:")).collect::<Vec<_>>().join("\n")
}

/// Serving pods of a ModelDeployment by UID, with their restarts.
fn pods(story: &Story, name: &str) -> Vec<(String, Value)> {
    let selector = format!("app.kubernetes.io/component=serve,app.kubernetes.io/instance={name}");
    let mut pods: Vec<_> = story
        .list(&["pods", "-l", &selector])
        .iter()
        .map(|p| (text(p, "/metadata/uid"), p["status"]["containerStatuses"][0]["restartCount"].clone()))
        .collect();
    pods.sort_by(|a, b| a.0.cmp(&b.0));
    pods
}

#[test]
fn an_upgrade_of_the_operator_restarts_no_serving_pod_and_its_defaults_wait_for_the_next_rollout() {
    let story = Story::begin("upgrade");
    story.apply(&dataset("products"));
    story.apply(&Run::default().yaml());
    story.apply(&by_default("serve", 2));
    story.wait_for("mdep/serve", "Ready", 240);
    story.alone();
    let child = text(&story.get(&["mdep/serve"]), "/status/stable/deployment");
    let generation = || story.get(&["deployment", &child])["metadata"]["generation"].clone();
    let before = (pods(&story, "serve"), generation());
    assert_eq!(before.0.len(), 2);
    let (_, old) = operator::pod().unwrap();
    let prober = Prober::start(address(&story, "serve"), BODY, 50, 8);

    let mark = audit::mark();
    let restored = Restored;
    helm(&[
        "upgrade",
        operator::DEPLOYMENT,
        concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/vitrine"),
        "--reuse-values",
        "--set=server.drainSeconds=17",
        &format!("--set-string=server.image={NEXT}"),
        "--set-string=defaults.serve.resources.requests.cpu=61m",
        "--wait",
        "--timeout=2m",
    ]);
    operator::wait_ready();
    let (_, new) = operator::pod().unwrap();
    assert_ne!(old, new, "the operator itself is replaced");
    operator::wait_leads(mark);

    // what is made from now on is of the new release
    story.apply(&by_default("next", 1));
    let made = until("a Deployment of the new release", seconds(60), || {
        let all = story.list(&["deployments", "-l", "app.kubernetes.io/instance=next"]);
        all.into_iter().next().ok_or_else(|| "none".to_owned())
    });
    let pod = &made["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], NEXT);
    assert_eq!(pod["containers"][0]["resources"]["requests"]["cpu"], "61m");
    // a pass over what serves, in case none has come yet
    kubectl(&["-n", &story.ns, "annotate", "mdep/serve", "example.com/seen=1"]);
    pause(seconds(8));
    assert_eq!(
        (pods(&story, "serve"), generation()),
        before,
        "the pods and their Deployment stay as they are"
    );
    story.wait_for("mdep/serve", "Ready", 30);
    let seen = prober.stop();
    println!("during the upgrade: {} predictions, {} failed", seen.ok, seen.failed);
    assert_eq!(seen.failed, 0, "{:#?}", seen.failures);
    assert!(seen.ok > 500, "{seen:?}");
    kubectl(&["-n", &story.ns, "delete", "mdep/next", "--timeout=60s"]);
    let mark = audit::mark();
    drop(restored);
    operator::wait_leads(mark);
    kubectl(&["-n", &story.ns, "annotate", "mdep/serve", "example.com/seen=2", "--overwrite"]);
    pause(seconds(5));
    assert_eq!((pods(&story, "serve"), generation()), before, "nor does the way back restart them");
    story.end();
}
