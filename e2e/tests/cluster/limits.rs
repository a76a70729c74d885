//! Requests for what a node has little of reach the scheduler, and the operator stays small.

use vitrine_e2e::kubectl::{condition, kubectl, text, try_kubectl};
use vitrine_e2e::manifests::{Run, deployment};
use vitrine_e2e::operator;
use vitrine_e2e::story::Story;
use vitrine_e2e::turn;
use vitrine_e2e::wait::{seconds, until};

use crate::served;

/// Sets or removes an extended resource in the status of the only node.
fn gpus(count: Option<u32>) {
    let node = kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
    let path = "/status/capacity/nvidia.com~1gpu";
    let patch = count.map_or_else(
        || format!(r#"[{{"op":"remove","path":"{path}"}}]"#),
        |n| format!(r#"[{{"op":"add","path":"{path}","value":"{n}"}}]"#),
    );
    let args = ["patch", "node", &node, "--subresource=status", "--type=json", "-p", &patch];
    let output = try_kubectl(&args, None);
    assert!(output.status.success() || count.is_none(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_gpu_limit_reaches_the_scheduler_and_is_met_when_a_gpu_appears() {
    gpus(None);
    let story = Story::begin("gpu");
    served(&story, 1);
    let gpu =
        deployment("gpu", 1).replace("limits: {memory: 256Mi}", "limits: {memory: 256Mi, nvidia.com/gpu: 1}");
    let gpu = gpu.replace("alias: champion, candidateAlias: challenger", "alias: champion");
    story.apply(&gpu);
    let failure = until("Unschedulable in the resource", seconds(60), || {
        let object = story.get(&["mdep/gpu"]);
        let reason = text(&object, "/status/lastFailure/reason");
        if reason == "Unschedulable" { Ok(text(&object, "/status/lastFailure/message")) } else { Err(reason) }
    });
    assert!(failure.contains("nvidia.com/gpu"), "{failure}");
    let ready = condition(&story.get(&["mdep/gpu"]), "Ready");
    assert_eq!(ready.0, "False", "{ready:?}");
    gpus(Some(1));
    story.wait_for("mdep/gpu", "Ready", 90);
    story.end();
    gpus(None);
}

#[test]
fn placement_and_queue_reach_the_pods() {
    let story = Story::begin("placement");
    story.apply(&vitrine_e2e::manifests::dataset("products"));
    let run = Run::default()
        .yaml()
        .replace("metadata: {name: run}", "metadata: {name: run, labels: {kueue.x-k8s.io/queue-name: team}}");
    let run = run.replace(
        "  seed:",
        "  nodeSelector: {kubernetes.io/os: linux}\n  tolerations: [{key: gpu, operator: Exists}]\n  seed:",
    );
    story.apply(&run);
    story.wait_for("trun/run", "Succeeded", 240);
    let job = &crate::jobs_of(&story, "run")[0];
    assert_eq!(job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"], "team");
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["nodeSelector"]["kubernetes.io/os"], "linux");
    assert_eq!(pod["tolerations"][0]["key"], "gpu");
    story.end();
}

#[test]
fn the_operator_rests_in_40_megabytes() {
    let _alone = turn::alone();
    operator::wait_ready();
    let bytes = operator::resident_bytes();
    println!("operator resident memory: {:.1} MB", bytes as f64 / 1e6);
    assert!(bytes <= 40_000_000, "{bytes} bytes");
}
