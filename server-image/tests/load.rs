//! From a digest to a ready server, and every way in which it must not become ready: the real
//! binary, its exit code and its last words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails where it stands")]

mod common;

use std::path::PathBuf;
use std::time::Duration;

use common::gateway::{Behaviour, TestGateway};
use common::{Client, Process, SOON, until_ready, write_model};
use hyper::StatusCode;
use serde_json::{Value, json};
use vitrine_contract::report::{Failure, Message, Outcome};
use vitrine_contract::serve::ServeConfig;
use vitrine_contract::{VERSION, exit};

/// A pod: config, token, work folder and termination log.
struct Pod {
    dir: tempfile::TempDir,
    gateway: TestGateway,
    digest: String,
}

impl Pod {
    fn new(digest: &str, behaviour: Behaviour) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("work")).unwrap();
        std::fs::write(dir.path().join("termination-log"), "").unwrap();
        Self { dir, gateway: TestGateway::start(behaviour), digest: digest.to_owned() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&self) -> Process {
        let config = ServeConfig {
            version: VERSION,
            gateway: self.gateway.contract.clone(),
            model: "rakuten".into(),
            model_version: 3,
            digest: self.digest.clone(),
            drain_seconds: 0,
            max_body_bytes: 1 << 20,
            max_concurrency: 8,
            siblings: None,
        };
        std::fs::write(self.path("config.json"), serde_json::to_string(&config).unwrap()).unwrap();
        let variables = [
            ("VITRINE_TERMINATION_LOG", self.path("termination-log")),
            ("VITRINE_WORK_DIR", self.path("work")),
            ("VITRINE_TOKEN", self.gateway.token.clone()),
        ];
        Process::start(&["--config", self.path("config.json").to_str().unwrap()], &variables)
    }

    fn last_words(&self) -> Failure {
        let text = std::fs::read_to_string(self.path("termination-log")).unwrap();
        match serde_json::from_str::<Message>(&text).unwrap_or_else(|e| panic!("{e}: {text:?}")).outcome {
            Outcome::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    fn kept(&self) -> PathBuf {
        self.path("work").join(self.digest.replace(':', "-"))
    }
}

/// The bytes and the digest of a model.
fn model() -> (Vec<u8>, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m");
    let digest = write_model(&path);
    (std::fs::read(path).unwrap(), digest)
}

/// The digest of any bytes, as the contract writes it.
fn digest_of(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("m"), bytes).unwrap();
    format!("sha256:{}", vitrine_model::sha256_file(&dir.path().join("m")).unwrap())
}

/// Readiness, asked until it says `trouble`.
async fn trouble(address: std::net::SocketAddr, word: &str) -> Value {
    let waiting = async {
        loop {
            let mut client = Client::connect(address).await.unwrap();
            let answer = client.get("/v2/health/ready").await.unwrap();
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            if answer.text().contains(word) {
                return answer.json();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("never said {word}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_fetched_once_and_a_restart_needs_no_gateway() {
    let (bytes, digest) = model();
    let pod = Pod::new(&digest, Behaviour::Blob(bytes));
    let process = pod.start();
    until_ready(process.address).await;
    let identity = Client::connect(process.address).await.unwrap().get("/v1/model").await.unwrap().json();
    assert_eq!((&identity["digest"], &identity["version"]), (&json!(digest), &json!(3)));
    drop(process);
    assert_eq!(pod.gateway.requests(), 1);
    pod.gateway.now(Behaviour::Status(503, "StorageUnavailable"));
    let process = pod.start();
    until_ready(process.address).await;
    assert_eq!(pod.gateway.requests(), 1, "{}", process.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_kept_model_is_fetched_again() {
    let (bytes, digest) = model();
    let pod = Pod::new(&digest, Behaviour::Blob(bytes.clone()));
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(pod.kept(), damaged).unwrap();
    let process = pod.start();
    until_ready(process.address).await;
    assert_eq!(pod.gateway.requests(), 1);
    assert_eq!(std::fs::read(pod.kept()).unwrap(), bytes);
    assert!(process.log().contains("kept model is damaged"), "{}", process.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_is_a_digest_mismatch_with_both_digests_as_last_words() {
    let (mut bytes, digest) = model();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let found = digest_of(&bytes);
    let pod = Pod::new(&digest, Behaviour::Blob(bytes));
    let mut process = pod.start();
    assert_eq!(process.ended().await, Some(exit::DIGEST_MISMATCH), "{}", process.log());
    let words = pod.last_words();
    assert_eq!(words.reason, "DigestMismatch");
    assert!(words.message.contains("digest mismatch"), "{}", words.message);
    assert!(words.message.contains(&digest) && words.message.contains(&found), "{}", words.message);
    assert!(!pod.kept().exists(), "the next start must not find it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_scores_otherwise_than_its_trainer_is_a_probe_mismatch() {
    let (bytes, _) = model();
    let bytes = with_other_intercept(bytes);
    let digest = digest_of(&bytes);
    let pod = Pod::new(&digest, Behaviour::Blob(bytes));
    let mut process = pod.start();
    assert_eq!(process.ended().await, Some(exit::PROBE_MISMATCH), "{}", process.log());
    let words = pod.last_words();
    assert_eq!(words.reason, "ProbeMismatch");
    assert!(words.message.contains("probe mismatch") && words.message.contains(&digest), "{}", words.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_model_of_ours_are_incompatible() {
    let (bytes, _) = model();
    let text = format!("\"formatVersion\\\":{}", vitrine_model::artifact::FORMAT_VERSION);
    let at =
        bytes.windows(text.len()).position(|w| w == text.as_bytes()).expect("the metadata names its version");
    let mut newer = bytes;
    newer[at + text.len() - 1] = b'9';
    for (bytes, word) in [(newer, "9 is not supported"), (b"PK zip".to_vec(), "cannot be served")] {
        let pod = Pod::new(&digest_of(&bytes), Behaviour::Blob(bytes));
        let mut process = pod.start();
        assert_eq!(process.ended().await, Some(exit::CONFIG), "{}", process.log());
        let words = pod.last_words();
        assert_eq!(words.reason, "IncompatibleModel");
        assert!(words.message.contains(word), "{}", words.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_away_is_waited_for_and_named() {
    let (bytes, digest) = model();
    let pod = Pod::new(&digest, Behaviour::Status(404, "NotFound"));
    let process = pod.start();
    let ready = trouble(process.address, "trouble").await;
    assert_eq!(ready["step"], "fetching model");
    assert!(ready["trouble"].as_str().unwrap().contains(&digest), "{ready}");
    let mut client = Client::connect(process.address).await.unwrap();
    assert_eq!(client.get("/v2/health/live").await.unwrap().status, StatusCode::OK);
    let answer = client.post("/predict", r#"{"designation":"livre"}"#).await.unwrap();
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        (answer.headers["retry-after"].to_str().unwrap(), &answer.json()["error"]["reason"]),
        ("1", &json!("NotReady"))
    );
    let model = client.get("/v2/models/rakuten/ready").await.unwrap();
    assert_eq!((model.status, &model.json()["ready"]), (StatusCode::SERVICE_UNAVAILABLE, &json!(false)));
    pod.gateway.now(Behaviour::Blob(bytes));
    until_ready(process.address).await;
    assert_eq!(std::fs::read(pod.path("termination-log")).unwrap(), b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_final_after_a_short_while() {
    let (_, digest) = model();
    let pod = Pod::new(&digest, Behaviour::Status(403, "StorageDenied"));
    let mut process = pod.start();
    trouble(process.address, "denied").await;
    assert_eq!(process.ended().await, Some(exit::DENIED), "{}", process.log());
    assert_eq!(pod.last_words().reason, "StorageDenied");
    assert!(pod.gateway.requests() > 1, "a new pod may be unknown for a moment");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_while_fetching_ends_the_process_with_zero() {
    let (_, digest) = model();
    let pod = Pod::new(&digest, Behaviour::Status(404, "NotFound"));
    let mut process = pod.start();
    trouble(process.address, "trouble").await;
    process.signal("-TERM");
    assert_eq!(process.ended().await, Some(exit::OK), "{}", process.log());
}

#[test]
fn a_config_of_another_contract_is_final_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (config, log) = (dir.path().join("config.json"), dir.path().join("log"));
    std::fs::write(&config, r#"{"version": 99}"#).unwrap();
    std::fs::write(&log, "").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_vitrine-server"))
        .args(["serve", "--config"])
        .arg(&config)
        .env("VITRINE_TERMINATION_LOG", &log)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(exit::CONFIG));
    assert!(std::fs::read_to_string(&log).unwrap().contains("contract version 99"));
}

/// The same file with one number of the tensor `intercepts` changed: sound, but not what was trained.
fn with_other_intercept(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let (_, tensor) =
        header.as_object().unwrap().iter().find(|(name, _)| name.contains("intercept")).unwrap();
    let at = 8 + length + usize::try_from(tensor["data_offsets"][0].as_u64().unwrap()).unwrap();
    let number = f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) + 0.5;
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
    bytes
}
