//! Load brings pods and calm takes them away; the operator leaves the number alone, also while a new
//! version takes over.

use serde_json::Value;
use vitrine_crds::names;
use vitrine_e2e::audit::{self, OPERATOR};
use vitrine_e2e::kubectl::{condition, kubectl, number, stderr, text, try_kubectl};
use vitrine_e2e::manifests::{Run, dataset, deployment};
use vitrine_e2e::prober::Prober;
use vitrine_e2e::story::Story;
use vitrine_e2e::wait::{seconds, until};

use crate::{address, served};

const BODY: &str =
    r#"{"designation": "jeu de stratégie", "description": "un jeu de plateau pour deux joueurs"}"#;

/// A ModelDeployment between 1 and 3 pods that asks for little and counts every millicore of it.
pub fn autoscaled() -> String {
    let target = "{type: Utilization, averageUtilization: 20}";
    let metrics = format!("[{{type: Resource, resource: {{name: cpu, target: {target}}}}}]");
    format!(
        "{}  autoscaling: {{minReplicas: 1, maxReplicas: 3, metrics: {metrics}}}\n",
        deployment("serve", 1).trim_start()
    )
}

/// Deployments whose number of pods the operator wrote since a mark.
fn numbers_written(story: &Story, mark: audit::Mark) -> Vec<String> {
    audit::since(mark, OPERATOR)
        .into_iter()
        .filter(|r| r.namespace == story.ns && r.manager == names::SCALE_MANAGER)
        .map(|r| r.name)
        .collect()
}

/// The operator's own apply does not hold `spec.replicas`: a later one cannot reset it.
fn apply_holds_no_number(story: &Story, name: &str) {
    let object = story.get(&["deployment", name, "--show-managed-fields"]);
    let managers = object["metadata"]["managedFields"].as_array().unwrap();
    let own = managers.iter().find(|m| m["manager"] == "vitrine-operator" && m["operation"] == "Apply");
    let fields = &own.unwrap()["fieldsV1"]["f:spec"];
    assert!(fields["f:template"].is_object(), "{fields}");
    assert!(fields["f:replicas"].is_null(), "{fields}");
}

fn ready_pods(story: &Story, wanted: i64, limit: u64) -> Value {
    until(&format!("{wanted} ready pods"), seconds(limit), || {
        let serve = story.get(&["mdep/serve"]);
        let (pods, ready) = (number(&serve, "/status/replicas"), number(&serve, "/status/readyReplicas"));
        if (pods, ready) == (Some(wanted), Some(wanted)) {
            Ok(serve)
        } else {
            let (_, _, why) = condition(&serve, "ScalingActive");
            Err(format!("{ready:?} of {pods:?} pods are ready; {why}"))
        }
    })
}

#[test]
fn load_brings_pods_and_calm_takes_them_away_without_a_failed_request() {
    let story = Story::begin("autoscale");
    story.apply(&dataset("products"));
    story.apply(&Run::default().yaml());
    story.apply(&autoscaled());
    story.wait_for("trun/run", "Succeeded", 240);
    story.wait_for("mdep/serve", "Ready", 120);
    story.wait_for("mdep/serve", "ScalingActive", 120);
    story.alone();
    let address = address(&story, "serve");

    let mark = audit::mark();
    let prober = Prober::start(address, BODY, 400, 16);
    let serve = ready_pods(&story, 3, 240);
    println!("3 pods: {}", condition(&serve, "Ready").2);
    assert_eq!(numbers_written(&story, mark), Vec::<String>::new(), "the operator wrote a number of pods");

    // a new version takes over and starts with as many
    let old = text(&serve, "/status/stable/deployment");
    story.apply(&Run { name: "second", seed: 7, c: &[0.5], ..Run::default() }.yaml());
    let serve = until("version 2", seconds(300), || {
        let serve = story.get(&["mdep/serve"]);
        let pods = number(&serve, "/status/stable/replicas");
        assert_eq!(pods, Some(3), "what has the traffic keeps its pods: {serve:#}");
        let stable = number(&serve, "/status/stable/version");
        let done = stable == Some(2) && condition(&serve, "Reconciling").0 == "False";
        if done { Ok(serve) } else { Err(format!("stable {stable:?}")) }
    });
    let new = text(&serve, "/status/stable/deployment");
    assert_ne!(old, new);
    let target = text(&story.get(&["hpa/serve"]), "/spec/scaleTargetRef/name");
    assert_eq!(target, new, "the autoscaler follows the traffic");
    let written = numbers_written(&story, mark);
    assert!(
        !written.is_empty() && written.iter().all(|name| *name == new),
        "only what comes up is given a number: {written:?}"
    );
    apply_holds_no_number(&story, &new);
    let seen = prober.stop();
    println!("under load: {} answers, {} failed, by version {:?}", seen.ok, seen.failed, seen.versions);
    assert_eq!(seen.failed, 0, "{:#?}", seen.failures);

    // calm: a few requests go on while pods go
    let mark = audit::mark();
    let prober = Prober::start(address, BODY, 5, 2);
    ready_pods(&story, 1, 300);
    let seen = prober.stop();
    assert_eq!(seen.failed, 0, "{:#?}", seen.failures);
    assert_eq!(numbers_written(&story, mark), Vec::<String>::new(), "the operator wrote a number of pods");
    story.end();
}

#[test]
fn switching_autoscaling_on_takes_no_pod_and_off_gives_the_number_back_to_the_spec() {
    let story = Story::begin("autoswitch");
    served(&story, 3);
    let pods = || story.names("pods").into_iter().filter(|p| p.contains("serve-")).collect::<Vec<_>>();
    let before = pods();
    assert_eq!(before.len(), 3, "{before:?}");
    let patch = |spec: &str| {
        kubectl(&["-n", &story.ns, "patch", "mdep/serve", "--type=merge", "-p", spec]);
    };
    // as a manifest does it that leaves replicas out from now on; pods only ever come
    patch(
        r#"{"spec":{"replicas":1,"autoscaling":{"maxReplicas":3,"behavior":{"scaleDown":{"selectPolicy":"Disabled"}}}}}"#,
    );
    let serve = until("the autoscaler at work", seconds(120), || {
        let serve = story.get(&["mdep/serve"]);
        let (status, reason, message) = condition(&serve, "ScalingActive");
        if status == "True" { Ok(serve) } else { Err(format!("{status}/{reason}: {message}")) }
    });
    assert_eq!(pods(), before, "a pod went or came");
    apply_holds_no_number(&story, &text(&serve, "/status/stable/deployment"));
    let refused = try_kubectl(&["-n", &story.ns, "scale", "mdep/serve", "--replicas=2"], None);
    assert!(!refused.status.success(), "kubectl scale under an autoscaler");
    let why = stderr(&refused);
    assert!(why.contains("spec.replicas cannot change while spec.autoscaling is set"), "{why}");

    patch(r#"{"spec":{"replicas":2,"autoscaling":null}}"#);
    let serve = ready_pods(&story, 2, 60);
    assert_eq!(condition(&serve, "ScalingActive").1, "NotAutoscaled");
    assert!(story.get(&["hpa/serve"]).is_null(), "the autoscaler is gone");
    story.end();
}
