//! The ordinary life of the three kinds: ready, served, scaled, run again, refused by the gate.

use vitrine_e2e::kubectl::{condition, kubectl, number, text, try_kubectl};
use vitrine_e2e::manifests::{Run, dataset, deployment};
use vitrine_e2e::story::Story;
use vitrine_e2e::wait::{seconds, until};

use crate::{address, jobs_of, served};

/// Asks the server with a plain HTTP client.
fn curl(args: &[&str]) -> String {
    let output = std::process::Command::new("curl").args(["-sS", "-m", "10"]).args(args).output().unwrap();
    assert!(output.status.success(), "curl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_catalogue_becomes_a_served_classifier() {
    let story = Story::begin("life");
    served(&story, 1);

    let data = story.get(&["mlds/products"]);
    assert!(number(&data, "/status/rows").unwrap() > 1000, "{data}");
    assert_eq!(number(&data, "/status/revision"), Some(1));
    let rows: i64 = ["train", "validation", "test"]
        .iter()
        .map(|s| number(&data, &format!("/status/splits/{s}/rows")).unwrap())
        .sum();
    assert_eq!(Some(rows), number(&data, "/status/rows"));

    let run = story.get(&["trun/run"]);
    assert_eq!(number(&run, "/status/model/version"), Some(1));
    assert_eq!(number(&run, "/status/progress/percentage"), Some(100));
    assert_eq!(text(&run, "/status/inputs/datasetDigest"), text(&data, "/status/digest"));
    assert!(text(&run, "/status/best/summary").starts_with("F1Weighted 0."));

    let serve = story.get(&["mdep/serve"]);
    assert_eq!(text(&serve, "/status/stable/digest"), text(&run, "/status/model/digest"));
    assert_eq!(text(&serve, "/status/lineage/trainingRun"), "run");

    let base = format!("http://{}", address(&story, "serve"));
    let predict = format!("{base}/predict");
    let answer =
        curl(&["-d", r#"{"designation": "bibliothèque de développement pour le réseau"}"#, &predict]);
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let probability = answer["predictions"][0]["probability"].as_f64().unwrap();
    assert!(probability > 0.0 && probability <= 1.0, "{answer}");
    assert_eq!(text(&answer, "/model/digest"), text(&run, "/status/model/digest"));

    let infer = r#"{"inputs": [{"name": "designation", "shape": [1], "datatype": "BYTES", "data": ["jeu d'échecs"]}]}"#;
    let answer = curl(&["-d", infer, &format!("{base}/v2/models/products/infer")]);
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(text(&answer, "/model_name"), "products");
    assert_eq!(curl(&["-o", "/dev/null", "-w", "%{http_code}", &format!("{base}/v2/health/ready")]), "200");
    assert!(curl(&[&format!("{base}/metrics")]).contains("# TYPE "));
    story.end();
}

/// A TrainingRun with stems and character n-grams beside the words, and these candidates.
fn searching(run: &Run<'_>, candidates: &str) -> String {
    let features =
        "{word: {maxFeatures: 2000}, stemming: French, char: {ngramRange: [2, 4], maxFeatures: 2000}}";
    let yaml = run.yaml();
    let changed =
        yaml.replace("{word: {maxFeatures: 20000}}", features).replace("[{linearSvm: {c: [1]}}]", candidates);
    assert!(changed.contains(features) && changed.contains(candidates), "{changed}");
    changed
}

#[test]
fn every_family_is_tried_and_a_forest_is_served() {
    let story = Story::begin("family");
    story.apply(&dataset("products"));
    story.wait_for("mlds/products", "Ready", 120);
    story.apply(&searching(&Run::default(), "[{randomForest: {trees: [20], maxDepth: [10]}}]"));
    story.apply(&deployment("serve", 1));
    story.wait_for("trun/run", "Succeeded", 180);
    let serve = story.wait_for("mdep/serve", "Ready", 120);
    let run = story.get(&["trun/run"]);
    assert_eq!(text(&run, "/status/best/candidate"), "randomForest", "{run}");
    assert_eq!(text(&serve, "/status/stable/digest"), text(&run, "/status/model/digest"));
    let predict = format!("http://{}/predict", address(&story, "serve"));
    let answer = curl(&["-d", r#"{"designation": "serveur de bases de données"}"#, &predict]);
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let probability = answer["predictions"][0]["probability"].as_f64().unwrap();
    assert!(probability > 0.0 && probability < 1.0, "{answer}");

    let all = "[{linearSvm: {c: [1]}}, {logisticRegression: {c: [10]}}, {complementNaiveBayes: {alpha: [0.3]}}, \
               {randomForest: {trees: [10]}}, {gradientBoosting: {rounds: [5]}}]";
    story.apply(&searching(&Run { name: "all", model: "all", ..Run::default() }, all));
    let run = story.wait_for("trun/all", "Succeeded", 240);
    let trials = ["total", "succeeded", "failed"].map(|n| number(&run, &format!("/status/trials/{n}")));
    assert_eq!(trials, [Some(5), Some(5), Some(0)], "{run}");
    story.end();
}

#[test]
fn a_run_that_is_deleted_and_applied_again_is_reused() {
    let story = Story::begin("reuse");
    story.apply(&dataset("products"));
    story.apply(&Run::default().yaml());
    let first = story.wait_for("trun/run", "Succeeded", 240);
    kubectl(&["-n", &story.ns, "delete", "trun/run", "--timeout=60s"]);
    until("the Job to go", seconds(60), || {
        let jobs = jobs_of(&story, "run");
        if jobs.is_empty() { Ok(()) } else { Err(format!("{} jobs", jobs.len())) }
    });
    story.apply(&Run::default().yaml());
    let second = story.wait_for("trun/run", "Succeeded", 60);
    assert_eq!(condition(&second, "Succeeded").1, "Reused");
    assert_eq!(second.pointer("/status/model/reused"), Some(&true.into()));
    for field in ["version", "digest"] {
        let pointer = format!("/status/model/{field}");
        assert_eq!(first.pointer(&pointer), second.pointer(&pointer));
    }
    assert_eq!(jobs_of(&story, "run").len(), 0, "a reused run starts no Job");

    let again = Run { name: "again", ..Run::default() };
    let yaml = again.yaml().replace("  seed:", "  reuse: Never\n  seed:");
    story.apply(&yaml);
    let third = story.wait_for("trun/again", "Succeeded", 240);
    assert_eq!(number(&third, "/status/model/version"), Some(2));
    assert_eq!(
        third.pointer("/status/model/digest"),
        first.pointer("/status/model/digest"),
        "same inputs, same bytes"
    );
    story.end();
}

#[test]
fn a_model_below_its_gate_is_registered_as_rejected_and_gets_no_alias() {
    let story = Story::begin("gate");
    story.apply(&dataset("products"));
    story.apply(&Run { gate: 0.999, ..Run::default() }.yaml());
    story.apply(&deployment("serve", 1));
    let run = story.wait_reason("trun/run", "Succeeded", "False", "GateFailed", 240);
    assert_eq!(condition(&run, "Stalled").0, "True");
    assert_eq!(condition(&run, "Ready").0, "False");
    assert_eq!(number(&run, "/status/model/version"), Some(1), "the version exists");
    let (_, _, message) = condition(&run, "Succeeded");
    assert!(message.contains("0.999") && message.contains("F1Weighted"), "{message}");
    let serve = story.wait_reason("mdep/serve", "ModelResolved", "False", "ModelNotFound", 60);
    assert_eq!(condition(&serve, "Ready").0, "False");
    assert!(story.list(&["deployments"]).is_empty());
    story.end();
}

#[test]
fn replicas_follow_kubectl_scale_down_to_zero_and_back() {
    let story = Story::begin("scale");
    served(&story, 1);
    for count in [3, 0, 2] {
        kubectl(&["-n", &story.ns, "scale", "mdep/serve", &format!("--replicas={count}")]);
        until(&format!("{count} replicas"), seconds(120), || {
            let serve = story.get(&["mdep/serve"]);
            let (ready, reason, message) = condition(&serve, "Ready");
            let seen = number(&serve, "/status/readyReplicas").unwrap_or(0);
            let current = serve["status"]["observedGeneration"] == serve["metadata"]["generation"];
            if current && seen == count && ready == "True" && (reason == "ScaledToZero") == (count == 0) {
                Ok(())
            } else {
                Err(format!("{seen} ready, {ready}/{reason}: {message}"))
            }
        });
    }
    let selector = text(&story.get(&["mdep/serve"]), "/status/selector");
    assert_eq!(
        story
            .list(&["pods", "-l", &selector])
            .iter()
            .filter(|p| p["metadata"]["deletionTimestamp"].is_null())
            .count(),
        2
    );
    story.end();
}

#[test]
fn a_suspended_run_starts_no_pod_until_it_is_resumed() {
    let story = Story::begin("suspend");
    story.apply(&dataset("products"));
    story.wait_for("mlds/products", "Ready", 120);
    story.apply(&Run::default().yaml().replace("  seed:", "  suspend: true\n  seed:"));
    story.wait_reason("trun/run", "Suspended", "True", "SuspendedBySpec", 60);
    assert!(story.list(&["pods", "-l", "app.kubernetes.io/component=train"]).is_empty());
    kubectl(&["-n", &story.ns, "patch", "trun/run", "--type=merge", "-p", r#"{"spec":{"suspend":false}}"#]);
    story.wait_for("trun/run", "Succeeded", 180);
    story.end();
}

#[test]
fn what_is_missing_is_named_and_appears_later() {
    let story = Story::begin("missing");
    story.apply(&Run::default().yaml());
    let run = story.wait_reason("trun/run", "DatasetReady", "False", "DatasetNotFound", 60);
    assert!(condition(&run, "DatasetReady").2.contains("products"), "{run}");
    assert_eq!(condition(&run, "Stalled").0, "False", "it may still appear");
    let bad = dataset("products").replace("X_train_update.csv", "nothing.csv");
    story.apply(&bad);
    // (a claim that is not bound yet is SourceNotFound too, but may still appear)
    let data = story.wait_reason("mlds/products", "Stalled", "True", "SourceNotFound", 120);
    assert!(text(&data, "/status/lastFailure/message").contains("nothing.csv"), "{data}");
    assert_eq!(condition(&data, "Ready").0, "False");
    story.apply(&dataset("products"));
    story.wait_for("mlds/products", "Ready", 120);
    story.wait_for("trun/run", "Succeeded", 180);
    story.end();
}

#[test]
fn the_same_manifests_applied_again_change_nothing() {
    let story = Story::begin("again");
    served(&story, 1);
    let all = [dataset("products"), Run::default().yaml(), deployment("serve", 1)].join("\n---\n");
    let versions = || {
        let objects = story.list(&["mlds,trun,mdep"]);
        let field = |o: &serde_json::Value, name: &str| o["metadata"][name].to_string();
        objects.iter().map(|o| (field(o, "generation"), field(o, "resourceVersion"))).collect::<Vec<_>>()
    };
    let mut before = versions();
    until("the last status", seconds(30), || {
        let now = versions();
        if now == before {
            Ok(())
        } else {
            before = now;
            Err("it moves".into())
        }
    });
    assert_eq!(before.iter().map(|v| v.0.as_str()).collect::<Vec<_>>(), ["1"; 3]);
    let again = try_kubectl(&["-n", &story.ns, "apply", "-f", "-"], Some(&all));
    let said = String::from_utf8_lossy(&again.stdout);
    assert_eq!(said.lines().filter(|line| line.ends_with(" unchanged")).count(), 3, "{said}");
    // who goes over to server-side apply meets no conflict with a default
    let changed = ["-n", &story.ns, "apply", "--server-side", "--dry-run=server", "-f", "-"];
    let changed = try_kubectl(&changed, Some(&all));
    assert!(changed.status.success(), "{}", String::from_utf8_lossy(&changed.stderr));
    let diff = try_kubectl(&["-n", &story.ns, "diff", "-f", "-"], Some(&all));
    assert_eq!(diff.status.code(), Some(0), "{}", String::from_utf8_lossy(&diff.stdout));
    assert_eq!(versions(), before, "neither a generation nor a resource version moved");
    story.end();
}

#[test]
fn a_service_whose_name_is_taken_is_left_alone_and_nothing_is_started_until_the_name_is_free() {
    let story = Story::begin("taken");
    story.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: serve}, spec: {selector: {app: mine}, ports: [{port: 80}]}}",
    );
    let theirs = story.get(&["service/serve"]);
    story.apply(&dataset("products"));
    story.apply(&Run::default().yaml());
    story.apply(&deployment("serve", 1));
    let serve = story.wait_reason("mdep/serve", "Stalled", "True", "NameCollision", 240);
    let (_, _, message) = condition(&serve, "Stalled");
    assert!(message.contains("Service") && message.contains("serve"), "{message}");
    let now = story.get(&["service/serve"]);
    for kept in ["/spec", "/metadata/ownerReferences", "/metadata/labels", "/metadata/resourceVersion"] {
        assert_eq!(now.pointer(kept), theirs.pointer(kept), "{kept}");
    }
    assert_eq!(story.list(&["deployments"]).len(), 0, "nothing is started for an address that cannot be had");
    kubectl(&["-n", &story.ns, "delete", "service/serve", "--timeout=30s"]);
    story.wait_for("mdep/serve", "Ready", 240);
    assert_eq!(text(&story.get(&["service/serve"]), "/metadata/ownerReferences/0/name"), "serve");
    story.end();
}
