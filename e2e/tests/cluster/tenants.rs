//! Two tenants in two namespaces: what one can name, read, write or reach of the other's. A namespace that
//! is made again and inherits nothing is a story of `deletion.rs`; wrong addresses that are refused when
//! they are applied are rows of `crds/tests/cel.yaml`, which `api.rs` runs.
//!
//! An address in a Dataset may lead anywhere, also into the cluster. That is bounded not by guessing at
//! addresses but by who goes there: the tenant's own pod, with the tenant's own network and Secrets, so
//! that it reaches what any pod of the tenant reaches. The operator goes nowhere, and that is tested.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener};
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use vitrine_e2e::kubectl::{condition, get, kubectl, list, number, stderr, text, try_kubectl};
use vitrine_e2e::manifests::{Run, dataset, deployment};
use vitrine_e2e::operator;
use vitrine_e2e::story::Story;
use vitrine_e2e::turn;
use vitrine_e2e::wait::{seconds, until};

use crate::{jobs_of, served};

/// A SHA-256 that no file has.
const SUM: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What the apiserver says to a manifest that it refuses.
fn refused(story: &Story, manifest: &str) -> String {
    let output = try_kubectl(&["-n", &story.ns, "apply", "-f", "-"], Some(manifest));
    assert!(!output.status.success(), "this was accepted:\n{manifest}");
    stderr(&output)
}

#[test]
fn nothing_of_another_namespace_can_be_named() {
    let story = Story::begin("names");
    let base = dataset("products");
    let s3 =
        |rest: &str| base.replace("pvc: {claimName: data}", &format!("s3: {{uri: 's3://bucket/', {rest}}}"));
    for (manifest, words) in [
        (base.replace("claimName: data", "claimName: other/data"), "no reference crosses a namespace"),
        (base.replace("claimName: data", "claimName: data, namespace: other"), "unknown field"),
        (s3("secretRef: {name: other/minio}"), "no reference crosses a namespace"),
        (s3("secretRef: {name: ../other/minio}"), "no reference crosses a namespace"),
        (s3("secretRef: {name: minio, namespace: other}"), "unknown field"),
        (
            base.replace(
                "label: prdtypecode",
                "label: prdtypecode, labelNames: {configMapRef: {name: other/categories}}",
            ),
            "no reference crosses a namespace",
        ),
        (base.replace("X_train_update.csv", "../team-b/X.csv"), "and without '//', '.' and '..'"),
        (s3("endpoint: 'file:///etc/'"), "spec.source.s3.endpoint must be"),
        (s3("endpoint: 'http://good@evil'"), "spec.source.s3.endpoint must be"),
        (
            Run::default()
                .yaml()
                .replace("datasetRef: {name: products}", "datasetRef: {name: other/products}"),
            "no reference crosses",
        ),
    ] {
        let said = refused(&story, &manifest);
        assert!(said.contains(words), "{words:?} is not in: {said}");
    }
    story.end();
}

/// A token of the kind that is projected into a pod, made for that pod.
fn token(story: &Story, pod: &Value, audience: &str) -> String {
    let (name, uid) = (text(pod, "/metadata/name"), text(pod, "/metadata/uid"));
    let args = ["create", "token", "default", "--bound-object-kind", "Pod", "--bound-object-name", &name];
    kubectl(&[&["-n", &story.ns][..], &args, &["--bound-object-uid", &uid, "--audience", audience]].concat())
        .trim()
        .to_owned()
}

/// The gateway's answer: its status.
fn gateway(method: &str, path: &str, token: &str, body: &str) -> String {
    let service = get(operator::NAMESPACE, &["service", operator::DEPLOYMENT]);
    let ports = service["spec"]["ports"].as_array().unwrap();
    let port = ports.iter().find(|p| p["name"] == "gateway").unwrap()["port"].as_u64().unwrap();
    let url = format!("https://{}:{port}{path}", text(&service, "/spec/clusterIP"));
    // the gateway's own certificate is not the matter here
    let mut curl = Command::new("curl");
    curl.args(["-sSk", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}", "-X", method]);
    curl.args(["-H", &format!("Authorization: Bearer {token}")]);
    if !body.is_empty() {
        curl.args(["-H", "Content-Type: application/json", "-d", body]);
    }
    let output = curl.arg(url).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn pod_of(story: &Story, role: &str) -> Value {
    story.list(&["pods", "-l", &format!("app.kubernetes.io/component={role}")]).remove(0)
}

/// What of a resource changes whenever anything of it does.
fn versions(story: &Story) -> Vec<String> {
    story.list(&["mlds,trun,mdep"]).iter().map(|o| text(o, "/metadata/resourceVersion")).collect()
}

/// Waits until the resources of a story rest.
fn rest(story: &Story) -> Vec<String> {
    let mut before = versions(story);
    until("the last status", seconds(30), || {
        let now = versions(story);
        let same = now == before;
        before.clone_from(&now);
        if same { Ok(now) } else { Err("it moves".to_owned()) }
    })
}

#[test]
fn a_pod_reads_and_writes_for_its_own_namespace_only() {
    let (a, b) = (Story::begin("tenant-a"), Story::begin("tenant-b"));
    for (story, seed) in [(&a, 42), (&b, 7)] {
        story.apply(&dataset("products"));
        story.apply(&Run { seed, ..Run::default() }.yaml());
        story.apply(&deployment("serve", 1));
    }
    let model = |story: &Story| {
        story.wait_for("trun/run", "Succeeded", 240);
        story.wait_for("mdep/serve", "Ready", 120);
        text(&story.get(&["trun/run"]), "/status/model/digest")
    };
    let (of_a, of_b) = (model(&a), model(&b));
    assert_ne!(of_a, of_b, "another seed, another model");
    let before = rest(&b);

    // the serving pod of A, and the one that trained there
    let audience = "vitrine";
    let serving = token(&a, &pod_of(&a, "serve"), audience);
    let training = token(&a, &pod_of(&a, "train"), audience);
    let blob = |digest: &str| format!("/v1/blobs/{digest}");
    assert_eq!(gateway("GET", &blob(&of_a), &serving, ""), "200", "its own model");
    let snapshot_of_b = text(&b.get(&["mlds/products"]), "/status/snapshotDigest");
    for pod in [&serving, &training] {
        for digest in [&of_b, &text(&b.get(&["mdep/serve"]), "/status/stable/digest")] {
            assert_eq!(gateway("GET", &blob(digest), pod, ""), "403", "a model of the other namespace");
        }
    }
    // A's snapshot is B's, byte for byte, and still nobody reads it who was not given it
    assert_eq!(gateway("GET", &blob(&snapshot_of_b), &serving, ""), "403");
    let result = r#"{"version":1,"outcome":{"failed":{"reason":"DataCorrupt","message":"forged"}}}"#;
    assert_eq!(gateway("POST", "/v1/result", &serving, result), "403", "a serving pod ends no run");
    assert_eq!(gateway("PUT", &blob(&of_b), &serving, "{}"), "403", "nor does it store anything");
    // what the pod of A's run posts is taken for A's run: it cannot even name another
    let posted = gateway("POST", "/v1/result", &training, result);
    assert!(["204", "403"].contains(&posted.as_str()), "{posted}");
    for (what, bad) in [
        ("a token for the apiserver", token(&a, &pod_of(&a, "serve"), "https://kubernetes.default.svc")),
        (
            "no pod's token",
            kubectl(&["-n", &a.ns, "create", "token", "default", "--audience", audience]).trim().to_owned(),
        ),
        ("no token at all", "nonsense".to_owned()),
    ] {
        assert_eq!(gateway("GET", &blob(&of_a), &bad, ""), "401", "{what}");
    }
    assert_eq!(rest(&b), before, "nothing of B has moved");
    assert_eq!(condition(&a.get(&["trun/run"]), "Succeeded").0, "True", "A's run stands, too");
    a.end();
    b.end();
}

#[test]
fn models_and_aliases_of_one_name_do_not_meet() {
    let (a, b) = (Story::begin("names-a"), Story::begin("names-b"));
    served(&a, 1);
    let before = rest(&a);
    // the same run in B: it is trained there, and not taken over from A
    served(&b, 1);
    let run = b.get(&["trun/run"]);
    assert_eq!(run.pointer("/status/model/reused"), Some(&false.into()));
    assert_eq!(jobs_of(&b, "run").len(), 1);
    assert_eq!(number(&run, "/status/model/version"), Some(1));
    // a second version in B moves B's aliases only
    b.apply(&Run { name: "second", seed: 7, ..Run::default() }.yaml());
    b.wait_for("trun/second", "Succeeded", 240);
    until("B to serve its second version", seconds(180), || {
        match number(&b.get(&["mdep/serve"]), "/status/stable/version") {
            Some(2) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let digest = text(&b.get(&["mdep/serve"]), "/status/stable/digest");
    assert_eq!(rest(&a), before, "nothing of A has moved");
    assert_eq!(number(&a.get(&["mdep/serve"]), "/status/stable/version"), Some(1));
    // and A cannot serve it, not even by its digest
    a.apply(&format!(
        "apiVersion: vitrine.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {{name: stolen}}\nspec: {{model: {{name: products, digest: '{digest}'}}}}\n"
    ));
    a.wait_reason("mdep/stolen", "ModelResolved", "False", "ModelNotFound", 60);
    a.end();
    b.end();
}

/// A web server on the node, which pods and the operator reach alike; it says no and writes down who asked.
fn listener() -> (String, Arc<Mutex<BTreeSet<IpAddr>>>) {
    let node = list("default", &["nodes"]).remove(0);
    let addresses = node["status"]["addresses"].as_array().unwrap();
    let ip = addresses.iter().find(|a| a["type"] == "InternalIP").unwrap()["address"].as_str().unwrap();
    let server = TcpListener::bind((ip, 0)).unwrap();
    let address = server.local_addr().unwrap().to_string();
    let seen: Arc<Mutex<BTreeSet<IpAddr>>> = Arc::default();
    let log = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            log.lock().unwrap().insert(stream.peer_addr().unwrap().ip());
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    (address, seen)
}

#[test]
fn the_operator_goes_nowhere_that_a_dataset_names() {
    // it waits for minutes until pods that reach nothing give up
    let _rests = turn::resting();
    let story = Story::begin("reach");
    let (address, seen) = listener();
    let http = |name: &str, url: &str| {
        let source = format!(
            "http: {{url: '{url}', sha256: {{X_train_update.csv: '{SUM}', Y_train_CVw08PX.csv: '{SUM}'}}}}"
        );
        dataset(name).replace("pvc: {claimName: data}", &source)
    };
    let s3 = |name: &str, endpoint: &str| {
        let source = format!("s3: {{uri: 's3://bucket/', endpoint: '{endpoint}'}}");
        dataset(name).replace("pvc: {claimName: data}", &source)
    };
    story.apply(&http("web", &format!("http://{address}/")));
    story.apply(&s3("bucket", &format!("http://{address}")));
    // where a server would look for what it must not give away; all of them are only the pod's own reach
    let inward = [
        http("metadata", "http://169.254.169.254/latest/"),
        http("mapped", "http://[::ffff:a9fe:a9fe]/latest/"),
        http("short", "http://127.1/"),
        http("hex", "http://0x7f000001/"),
        s3("apiserver", "https://kubernetes.default.svc"),
        http("gateway", "http://vitrine.vitrine-system.svc:8443/"),
    ];
    for manifest in &inward {
        story.apply(manifest);
    }
    for name in ["web", "bucket"] {
        story.wait_reason(&format!("mlds/{name}"), "Ready", "False", "SourceNotFound", 180);
    }
    let pods = story.list(&["pods", "-l", "app.kubernetes.io/component=ingest"]);
    let of_pods: BTreeSet<IpAddr> =
        pods.iter().filter_map(|p| text(p, "/status/podIP").parse().ok()).collect();
    let seen = seen.lock().unwrap().clone();
    assert!(!seen.is_empty() && seen.is_subset(&of_pods), "{seen:?} asked, the ingest pods are {of_pods:?}");
    let (operator, _) = operator::pod().unwrap();
    let own = text(&get(operator::NAMESPACE, &["pod", &operator]), "/status/podIP");
    assert!(!seen.contains(&own.parse::<IpAddr>().unwrap()), "the operator was there");
    for name in ["metadata", "mapped", "short", "hex", "apiserver", "gateway"] {
        let object = format!("mlds/{name}");
        until(&format!("{name} to say that it got nothing"), seconds(300), || {
            let value = story.get(&[&object]);
            let reason = text(&value, "/status/lastFailure/reason");
            let told = ["SourceUnavailable", "SourceDenied", "SourceNotFound"].contains(&reason.as_str());
            assert_ne!(condition(&value, "Ready").0, "True", "{value}");
            if told { Ok(()) } else { Err(format!("{reason:?}: {}", condition(&value, "Ready").2)) }
        });
    }
    story.end();
}
