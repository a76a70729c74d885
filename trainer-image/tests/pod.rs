#![allow(clippy::unwrap_used, clippy::panic, missing_docs, dead_code)]
//! A Job's pod against a gateway: what it sends, what it leaves, how it ends.

#[path = "../../operator/gateway-client/tests/support/mod.rs"]
mod gateway;
mod support;

use std::collections::HashMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use gateway::{Answer, Seen, Server, identity};
use support::{Shop, challenge, products, search};
use tempfile::TempDir;
use vitrine_contract::gateway::Gateway;
use vitrine_contract::job::{JobConfig, Task};
use vitrine_contract::report::{Message, Outcome, Progress};
use vitrine_contract::{VERSION, exit};
use vitrine_gateway_client::digest_of_bytes;
use vitrine_model::Model;

/// A pod's file system.
struct Pod {
    dir: TempDir,
}

impl Pod {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        for name in ["work", "source", "labels"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("token"), "secret").unwrap();
        // The kubelet makes the log before the container starts.
        fs::write(dir.path().join("termination"), "").unwrap();
        Self { dir }
    }

    fn command(&self, config: &str) -> Command {
        let path = |name: &str| self.dir.path().join(name);
        fs::write(path("config.json"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_vitrine-trainer"));
        command.arg("run").arg("--config").arg(path("config.json"));
        for name in ["token", "source", "labels", "work", "termination"] {
            command.arg(format!("--{name}")).arg(path(name));
        }
        command
    }

    fn run(&self, gateway: &Gateway, task: Task) -> i32 {
        self.command(&config(gateway, task)).status().unwrap().code().unwrap()
    }

    fn last_words(&self) -> Message {
        serde_json::from_slice(&fs::read(self.dir.path().join("termination")).unwrap()).unwrap()
    }
}

fn config(gateway: &Gateway, task: Task) -> String {
    serde_json::to_string(&JobConfig { version: VERSION, gateway: gateway.clone(), task }).unwrap()
}

fn blobs(seen: &[Seen]) -> HashMap<String, Vec<u8>> {
    let puts = seen.iter().filter(|s| s.method == "PUT");
    puts.map(|s| (s.path.trim_start_matches("/v1/blobs/").to_owned(), s.body.clone())).collect()
}

fn posted<T: serde::de::DeserializeOwned>(seen: &[Seen], path: &str) -> Vec<T> {
    let posts = seen.iter().filter(|s| s.path == path);
    posts.map(|s| serde_json::from_slice(&s.body).unwrap()).collect()
}

fn accepting() -> Server {
    Server::start(|_, seen| Answer::Status(if seen.method == "PUT" { 201 } else { 204 }, Vec::new()))
}

fn fill_source(pod: &Pod, rows: usize) {
    let (x, y) = products(rows);
    fs::create_dir(pod.dir.path().join("source/shop")).unwrap();
    fs::write(pod.dir.path().join("source/shop/X.csv"), x).unwrap();
    fs::write(pod.dir.path().join("source/shop/Y.csv"), y).unwrap();
    fs::write(pod.dir.path().join("labels/2583"), "Jardin > Piscine\n").unwrap();
    fs::write(pod.dir.path().join("labels/..data"), "not a label").unwrap();
}

fn ingest_task() -> Task {
    let mut task = challenge();
    task.path = "/shop".into();
    task.label_names = true;
    Task::Ingest(task)
}

#[test]
fn an_ingest_pod_and_a_training_pod_make_a_model_from_files() {
    let server = accepting();
    let pod = Pod::new();
    fill_source(&pod, 200);
    assert_eq!(pod.run(&server.gateway, ingest_task()), exit::OK);
    let seen = server.seen();
    assert!(seen.iter().all(|s| s.header("authorization") == Some("Bearer secret")));
    let Outcome::Ingested(ingested) = pod.last_words().outcome else { panic!("{:?}", pod.last_words()) };
    let stored = blobs(&seen);
    for blob in [&ingested.manifest, &ingested.snapshot, &ingested.profile] {
        assert_eq!(digest_of_bytes(&stored[&blob.digest]), blob.digest);
    }
    assert_eq!(posted::<Message>(&seen, "/v1/result"), [pod.last_words()]);
    let progress: Vec<Progress> = posted(&seen, "/v1/progress");
    assert_eq!(progress.last().unwrap().percentage, 100);

    let server = Server::start(move |_, seen| match seen.method.as_str() {
        "GET" => match stored.get(seen.path.trim_start_matches("/v1/blobs/")) {
            Some(bytes) => Answer::Status(200, bytes.clone()),
            None => Answer::Status(404, Vec::new()),
        },
        "PUT" => Answer::Status(201, Vec::new()),
        _ => Answer::Status(204, Vec::new()),
    });
    let mut task = search();
    task.dataset_digest.clone_from(&ingested.manifest.digest);
    task.snapshot_digest.clone_from(&ingested.snapshot.digest);
    let pod = Pod::new();
    assert_eq!(pod.run(&server.gateway, Task::Train(task)), exit::OK);
    let Outcome::Trained(trained) = pod.last_words().outcome else { panic!("{:?}", pod.last_words()) };
    let stored = blobs(&server.seen());
    assert!(stored.contains_key(&trained.report.digest));
    let path = pod.dir.path().join("fetched");
    fs::write(&path, &stored[&trained.model.digest]).unwrap();
    let model = Model::open(&path).unwrap();
    assert_eq!(model.info().dataset_digest, ingested.manifest.digest);
    let names: Vec<_> = model.info().classes.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["category 10", "category 60", "Jardin > Piscine"]);
    let progress: Vec<Progress> = posted(&server.seen(), "/v1/progress");
    assert_eq!(progress.last().unwrap().trials, Some(trained.trials));
}

#[test]
fn a_data_error_is_told_twice_and_ends_with_its_code() {
    let server = accepting();
    let pod = Pod::new();
    assert_eq!(pod.run(&server.gateway, ingest_task()), exit::DATA);
    let Outcome::Failed(failure) = pod.last_words().outcome else { panic!("{:?}", pod.last_words()) };
    assert_eq!(failure.reason, "SourceNotFound");
    assert_eq!(posted::<Message>(&server.seen(), "/v1/result"), [pod.last_words()]);
}

#[test]
fn the_gateways_refusals_have_their_codes() {
    for (status, code, reason) in
        [(403, exit::DENIED, "StorageDenied"), (507, exit::STORAGE_FULL, "StorageFull")]
    {
        let server = Server::start(move |_, seen| match seen.method.as_str() {
            "PUT" => Answer::Early(status, Vec::new()),
            _ => Answer::Status(204, Vec::new()),
        });
        let pod = Pod::new();
        fill_source(&pod, 30);
        assert_eq!(pod.run(&server.gateway, ingest_task()), code);
        let Outcome::Failed(failure) = pod.last_words().outcome else { panic!("{:?}", pod.last_words()) };
        assert_eq!(failure.reason, reason);
    }
}

#[test]
fn a_snapshot_of_other_bytes_is_not_trained_on() {
    let server = Server::start(|_, seen| match seen.method.as_str() {
        "GET" => Answer::Status(200, b"other bytes".to_vec()),
        _ => Answer::Status(204, Vec::new()),
    });
    let pod = Pod::new();
    assert_eq!(pod.run(&server.gateway, Task::Train(search())), exit::DIGEST_MISMATCH);
}

#[test]
fn a_config_that_this_trainer_does_not_speak_is_final() {
    let pod = Pod::new();
    for text in ["", "{}", r#"{"version":99,"gateway":{},"task":{}}"#, r#"{"version":1,"task":{"dance":{}}}"#]
    {
        let code = pod.command(text).status().unwrap().code();
        assert_eq!(code, Some(exit::CONFIG), "{text}");
        assert!(
            matches!(pod.last_words().outcome, Outcome::Failed(f) if f.reason == "InvalidSpec"),
            "{text}"
        );
    }
}

#[test]
fn sigterm_ends_it_at_once_and_without_a_report() {
    // A gateway that takes the connection and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let gateway = Gateway { url, ca: identity().0 };
    let pod = Pod::new();
    let mut child = pod.command(&config(&gateway, Task::Train(search()))).spawn().unwrap();
    let _silent = listener.accept().unwrap();
    let start = Instant::now();
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(start.elapsed().as_secs() < 5);
    assert_eq!(fs::read_to_string(pod.dir.path().join("termination")).unwrap(), "");
}

#[test]
fn the_command_line_does_the_same_alone() {
    let (x, y) = products(200);
    let shop = Shop::new(&[("X.csv", &x), ("Y.csv", &y)]);
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_vitrine-trainer"))
            .args(arguments)
            .current_dir(shop.dir.path())
            .output()
            .unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let base = ["ingest", "--text", "designation,description", "--label", "prdtypecode", "--id", "productid"];
    let files = ["--features", "source/X.csv", "--labels", "source/Y.csv", "--out", "data"];
    let (code, out) = run(&[&base[..], &files].concat());
    assert_eq!(code, exit::OK, "{out}");
    let mut fields = serde_json::to_value(search()).unwrap();
    for known_only_in_a_cluster in ["model", "datasetDigest", "snapshotDigest"] {
        fields.as_object_mut().unwrap().remove(known_only_in_a_cluster);
    }
    fs::write(shop.out("train.json"), fields.to_string()).unwrap();
    let train = ["train", "--config", "train.json", "--out", "m", "--report", "r.json", "--data"];
    let (code, out) = run(&[&train[..], &["data"]].concat());
    assert_eq!(code, exit::OK, "{out}");
    assert!(Model::open(Path::new(&shop.out("m"))).unwrap().verify_probes().is_ok());
    let (code, out) = run(&[&train[..], &["nowhere"]].concat());
    assert_eq!(code, exit::INTERNAL);
    assert!(out.contains("nowhere"), "{out}");
    let (code, out) = run(&["--version"]);
    assert!(code == 0 && out.contains(env!("CARGO_PKG_VERSION")), "{out}");
}
