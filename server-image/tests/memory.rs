//! What a request may cost in memory: the real binary, with the largest bodies that it takes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails where it stands")]

mod common;

use std::fmt::Write;

use bytes::Bytes;
use common::gateway::{Behaviour, TestGateway};
use common::{Client, Process, until_ready, write_model};
use hyper::StatusCode;
use vitrine_contract::VERSION;
use vitrine_contract::serve::ServeConfig;

/// As the operator sets it.
const BODY: usize = 4 << 20;
/// Requests at the same time.
const AT_ONCE: usize = 4;
/// kB by which the peak may rise: four bodies as received and once more for whatever is made of them.
const RISE: u64 = 64 << 10;
/// The same where the rows are scored, which costs a few times their texts.
const RISE_SCORED: u64 = 192 << 10;

const PREDICT: &str = "/predict";
const INFER: &str = "/v2/models/rakuten/infer";

/// The largest list of this item that is not over the limit.
fn list(item: &str) -> String {
    let items = vec![item; (BODY - 2) / (item.len() + 1)];
    format!("[{}]", items.join(","))
}

/// Bodies that take a lot of room when they are read without care.
fn hostile() -> Vec<(&'static str, String, String)> {
    let chain = format!("{}0{}", r#"{"":"#.repeat(119), "}".repeat(119));
    let chains = list(&chain);
    let objects = list(r#"{"":0}"#);
    let numbers = list("0");
    let empty = list("{}");
    let named = list(r#"{"name":""}"#);
    let mut keys = String::from("{");
    while keys.len() < BODY - 20 {
        let number = keys.len();
        write!(keys, r#""{number}":0,"#).unwrap();
    }
    keys.pop();
    keys.push('}');
    let cut = |list: &str| format!("{}]", &list[..list[..BODY - 400].rfind(',').unwrap()]);
    let input = |data: &str| {
        format!(r#"{{"inputs":[{{"data":{data},"name":"designation","datatype":"BYTES","shape":[1]}}]}}"#)
    };
    let short_keys = format!("{}}}", &keys[..keys[..BODY - 400].rfind(',').unwrap()]);
    let escapes = "\\u007f".repeat((BODY - 400) / 6);
    let deletes = "\u{7f}".repeat(BODY - 400);
    let row = format!(r#"{{"designation":"{}"}}"#, "piscine ".repeat(160));
    let rows = vec![row; 3000].join(",");
    vec![
        (PREDICT, chains.clone(), "UnknownField".into()),
        (PREDICT, format!("{{\"items\":{}}}", cut(&chains)), "UnknownField".into()),
        (PREDICT, format!("{{\"designation\":{}}}", cut(&chains)), "WrongType".into()),
        (PREDICT, objects.clone(), "UnknownField".into()),
        (PREDICT, numbers.clone(), "WrongType".into()),
        (PREDICT, empty.clone(), "EmptyText".into()),
        (PREDICT, list(r#"{"designation":"x"}"#), "TooManyItems".into()),
        (PREDICT, keys, "UnknownField".into()),
        (PREDICT, "[".repeat(BODY), "InvalidJson".into()),
        (PREDICT, format!("{{\"{deletes}\":0}}"), "UnknownField".into()),
        (PREDICT, format!("{{\"{escapes}\":0}}"), "UnknownField".into()),
        (INFER, input(&cut(&chains)), "shape says".into()),
        (INFER, input(&cut(&objects)), "shape says".into()),
        (INFER, input(&cut(&numbers)), "shape says".into()),
        (INFER, input(&cut(&list("\"\""))), "shape says".into()),
        (INFER, format!("{{\"inputs\":{}}}", cut(&empty)), "missing field".into()),
        (INFER, format!("{{\"inputs\":{}}}", cut(&named)), "missing field".into()),
        (INFER, format!("{{\"outputs\":{}}}", cut(&named)), "unknown output".into()),
        (INFER, format!("{{\"other\":{}}}", cut(&chains)), "missing field".into()),
        (INFER, format!("{{\"parameters\":{short_keys}}}"), "missing field".into()),
        (INFER, input(&format!("[1],\"shape\":\"{deletes}\"")), "inputs[0].shape".into()),
        (INFER, input("[\"x\"]").replace("[1]", &cut(&numbers)), "[n] or [n, 1]".into()),
        (INFER, input(&format!("[\"x\"],\"parameters\":{short_keys}")), String::new()),
        // what is allowed costs its scoring as well
        (PREDICT, format!("[{rows}]"), String::new()),
        (PREDICT, format!(r#"{{"designation":"{}"}}"#, "x".repeat(BODY - 400)), String::new()),
        (
            PREDICT,
            format!(r#"{{"designation":"{}"}}"#, "abc <b> de&eacute; ".repeat((BODY - 400) / 19)),
            String::new(),
        ),
    ]
}

/// A figure of the process in kB, such as `VmHWM`.
fn figure(process: &Process, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// Lets the peak start anew from what is used now.
fn forget_the_peak(process: &Process) {
    std::fs::write(format!("/proc/{}/clear_refs", process.child.id()), "5").unwrap();
}

/// The binary as in a pod, with a small model.
async fn pod() -> (tempfile::TempDir, TestGateway, Process) {
    let dir = tempfile::tempdir().unwrap();
    let digest = write_model(&dir.path().join("m"));
    let gateway = TestGateway::start(Behaviour::Blob(std::fs::read(dir.path().join("m")).unwrap()));
    let config = ServeConfig {
        version: VERSION,
        gateway: gateway.contract.clone(),
        model: "rakuten".into(),
        model_version: 3,
        digest,
        drain_seconds: 0,
        max_body_bytes: BODY,
        max_concurrency: 64,
        siblings: None,
    };
    let path = dir.path().join("config.json");
    std::fs::write(&path, serde_json::to_string(&config).unwrap()).unwrap();
    let variables = [("VITRINE_WORK_DIR", dir.path().to_owned()), ("VITRINE_TOKEN", gateway.token.clone())];
    let process = Process::start(&["--config", path.to_str().unwrap()], &variables);
    until_ready(process.address).await;
    (dir, gateway, process)
}

/// Posts the body several times at once; gives status and text of the answers.
async fn flood(process: &Process, path: &'static str, body: Bytes) -> Vec<(StatusCode, String)> {
    let address = process.address;
    let post = |body: Bytes| async move {
        let answer = Client::connect(address).await.unwrap().post(path, body).await.unwrap();
        (answer.status, answer.text().to_owned())
    };
    let posts: Vec<_> = (0..AT_ONCE).map(|_| tokio::spawn(post(body.clone()))).collect();
    let mut answers = Vec::new();
    for post in posts {
        answers.push(post.await.unwrap());
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn no_body_takes_more_than_a_small_multiple_of_its_size() {
    let (_dir, _gateway, process) = pod().await;
    let before = figure(&process, "VmRSS");
    for (number, (path, body, words)) in hostile().into_iter().enumerate() {
        assert!(body.len() <= BODY && body.len() > BODY / 2, "{number}: {} bytes", body.len());
        forget_the_peak(&process);
        let answers = flood(&process, path, Bytes::from(body)).await;
        let rise = figure(&process, "VmHWM").saturating_sub(before);
        println!("{number} {path} {words:?}: {rise} kB");
        for (status, answer) in answers {
            let expected = if words.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
            assert_eq!(status, expected, "{number}: {answer:.300}");
            assert!(answer.contains(&words), "{number}: {words} is not in {answer:.300}");
            assert!(words.is_empty() || answer.len() < 1000, "{number}: {} bytes of error", answer.len());
        }
        let most = if words.is_empty() { RISE_SCORED } else { RISE };
        assert!(rise < most, "{number} {path} {words:?}: the peak rose by {rise} kB");
    }
}
