//! A start without the operator: the model comes from a pod that has it, never from one that lies,
//! and goes only to pods of the namespace. Real binaries, as two pods.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails where it stands")]

mod common;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use common::cluster::{Cluster, claims};
use common::gateway::{Behaviour, TestGateway};
use common::sibling::{Manner, TestSibling, free_address};
use common::{Answer, Client, Process, SOON, until_ready, write_model};
use http_body_util::Full;
use hyper::{Request, StatusCode};
use vitrine_contract::VERSION;
use vitrine_contract::serve::ServeConfig;
use vitrine_contract::siblings::Siblings;

const AWAY: Behaviour = Behaviour::Status(503, "StorageUnavailable");

/// A namespace of a cluster: its issuer, a gateway, a model.
struct Shop {
    cluster: Cluster,
    gateway: TestGateway,
    bytes: Vec<u8>,
    digest: String,
}

/// A pod: config, tokens and work folder.
struct Pod {
    dir: tempfile::TempDir,
    process: Process,
    config: ServeConfig,
}

impl Shop {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let digest = write_model(&dir.path().join("m"));
        let bytes = std::fs::read(dir.path().join("m")).unwrap();
        let gateway = TestGateway::start(AWAY);
        Self { cluster: Cluster::new("one"), gateway, bytes, digest }
    }

    fn has(&self) -> Behaviour {
        Behaviour::Blob(self.bytes.clone())
    }

    fn siblings(&self, at: SocketAddr) -> Siblings {
        self.cluster.siblings(&format!("http://{at}"))
    }

    fn pod(&self, siblings: Option<Siblings>) -> Pod {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let config = ServeConfig {
            version: VERSION,
            gateway: self.gateway.contract.clone(),
            model: "rakuten".into(),
            model_version: 3,
            digest: self.digest.clone(),
            drain_seconds: 0,
            max_body_bytes: 1 << 20,
            max_concurrency: 8,
            siblings,
        };
        std::fs::write(path("config.json"), serde_json::to_string(&config).unwrap()).unwrap();
        std::fs::write(path("sibling-token"), self.cluster.token()).unwrap();
        let variables = [
            ("VITRINE_TERMINATION_LOG", path("termination-log")),
            ("VITRINE_WORK_DIR", dir.path().to_owned()),
            ("VITRINE_TOKEN", self.gateway.token.clone()),
            ("VITRINE_SIBLING_TOKEN", path("sibling-token")),
        ];
        let process = Process::start(&["--config", path("config.json").to_str().unwrap()], &variables);
        Pod { dir, process, config }
    }

    /// A ready pod that has the model, while the gateway is away again.
    async fn first(&self) -> (Pod, SocketAddr) {
        self.gateway.now(self.has());
        let pod = self.pod(Some(self.siblings(free_address())));
        until_ready(pod.process.address).await;
        self.gateway.now(AWAY);
        let at = pod.process.siblings().await;
        (pod, at)
    }

    /// What a caller with that token is answered.
    async fn ask(&self, at: SocketAddr, token: Option<&str>) -> Answer {
        ask(at, &self.digest, token).await
    }
}

async fn ask(at: SocketAddr, digest: &str, token: Option<&str>) -> Answer {
    let mut request = Request::get(format!("/v1/blobs/{digest}"));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let mut client = Client::connect(at).await.unwrap();
    client.send(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap()
}

impl Pod {
    fn kept(&self) -> PathBuf {
        self.dir.path().join(self.config.digest.replace(':', "-"))
    }

    fn publish(&mut self, siblings: Siblings) {
        self.config.siblings = Some(siblings);
        std::fs::write(self.dir.path().join("config.json"), serde_json::to_string(&self.config).unwrap())
            .unwrap();
    }

    async fn get(&self, path: &str) -> Answer {
        Client::connect(self.process.address).await.unwrap().get(path).await.unwrap()
    }

    async fn predict(&self) -> Answer {
        let mut client = Client::connect(self.process.address).await.unwrap();
        client.post("/predict", r#"{"designation": "roman policier"}"#).await.unwrap()
    }

    async fn metrics(&self) -> String {
        self.get("/metrics").await.text().to_owned()
    }

    /// Waits until readiness names its trouble with a word.
    async fn trouble(&self, word: &str) -> String {
        let waiting = async {
            loop {
                let answer = self.get("/v2/health/ready").await;
                assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
                if answer.text().contains(word) {
                    return answer.text().to_owned();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("never said {word}"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_starts_while_the_operator_is_away_gets_the_model_from_its_sibling() {
    let shop = Shop::new();
    let (first, at) = shop.first().await;
    assert_eq!(shop.gateway.requests(), 1, "the first pod had nobody else to ask");
    let second = shop.pod(Some(shop.siblings(at)));
    until_ready(second.process.address).await;
    assert_eq!(shop.gateway.requests(), 1, "{}", second.process.log());
    assert_eq!(std::fs::read(second.kept()).unwrap(), shop.bytes);
    assert_eq!(first.get("/v1/model").await.json(), second.get("/v1/model").await.json());
    assert_eq!(first.predict().await.text(), second.predict().await.text());
    let size = shop.bytes.len();
    for (pod, lines) in [
        (
            &first,
            [r#"requests_total{result="sent"} 1"#.to_owned(), format!("sibling_sent_bytes_total {size}")],
        ),
        (&second, [format!(r#"fetched_bytes_total{{origin="sibling"}} {size}"#), "# EOF".to_owned()]),
    ] {
        let text = pod.metrics().await;
        for line in lines {
            assert!(text.contains(&line), "{line}\nin\n{text}");
        }
    }
    assert!(first.process.log().contains(r#""pod":"caller""#), "{}", first.process.log());
    // and so on, from pod to pod
    drop(first);
    let third = shop.pod(Some(shop.siblings(second.process.siblings().await)));
    until_ready(third.process.address).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nobody_to_ask_it_waits_and_takes_whoever_appears_first() {
    let shop = Shop::new();
    for gateway_comes in [true, false] {
        shop.gateway.now(AWAY);
        let at = free_address();
        let pod = shop.pod(Some(shop.siblings(at)));
        let told = pod.trouble("sibling: ").await;
        assert!(told.contains("503"), "the gateway is named too: {told}");
        assert_eq!(pod.get("/v2/health/live").await.status, StatusCode::OK);
        let _sibling;
        if gateway_comes {
            shop.gateway.now(shop.has());
        } else {
            _sibling = TestSibling::start(at, Manner::Sends(shop.bytes.clone()));
        }
        until_ready(pod.process.address).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sibling_that_lies_is_told_of_and_the_gateway_is_asked() {
    let shop = Shop::new();
    let mut lie = shop.bytes.clone();
    *lie.last_mut().unwrap() ^= 1;
    let at = free_address();
    let liar = TestSibling::start(at, Manner::Sends(lie));
    shop.gateway.now(shop.has());
    let pod = shop.pod(Some(shop.siblings(at)));
    until_ready(pod.process.address).await;
    assert_eq!((liar.requests(), shop.gateway.requests()), (1, 1));
    assert_eq!(std::fs::read(pod.kept()).unwrap(), shop.bytes);
    let log = pod.process.log();
    assert!(log.contains("it sent other bytes") && log.contains("WARN"), "{log}");
    let line = r#"fetch_failures_total{origin="sibling",reason="DigestMismatch"} 1"#;
    assert!(pod.metrics().await.contains(line), "{}", pod.metrics().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sibling_that_is_slow_busy_or_refuses_does_not_hold_the_start_up() {
    for manner in [Manner::Drips, Manner::Status(503), Manner::Status(401), Manner::Status(404)] {
        let shop = Shop::new();
        let at = free_address();
        let sibling = TestSibling::start(at, manner);
        shop.gateway.now(shop.has());
        let pod = shop.pod(Some(shop.siblings(at)));
        until_ready(pod.process.address).await;
        assert_eq!((sibling.requests(), shop.gateway.requests()), (1, 1), "{}", pod.process.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_pods_of_the_namespace_get_the_model_and_only_on_the_port_for_siblings() {
    let shop = Shop::new();
    let (first, at) = shop.first().await;
    let token = shop.cluster.token();
    let given = shop.ask(at, Some(&token)).await;
    assert_eq!((given.status, given.body.as_ref()), (StatusCode::OK, shop.bytes.as_slice()));
    let changed = |how: fn(&mut serde_json::Value)| {
        let mut claims = claims();
        how(&mut claims);
        shop.cluster.sign(&claims)
    };
    let of_gateway = changed(|c| c["aud"] = serde_json::json!(["vitrine"]));
    let foreign = changed(|c| c["kubernetes.io"]["namespace"] = "other".into());
    let expired = changed(|c| c["exp"] = 1_700_000_000.into());
    let stranger = Cluster::new("one").token();
    for (token, status) in [
        (None, StatusCode::UNAUTHORIZED),
        (Some("nonsense"), StatusCode::UNAUTHORIZED),
        (Some(of_gateway.as_str()), StatusCode::UNAUTHORIZED),
        (Some(expired.as_str()), StatusCode::UNAUTHORIZED),
        (Some(stranger.as_str()), StatusCode::UNAUTHORIZED),
        (Some(foreign.as_str()), StatusCode::FORBIDDEN),
    ] {
        let answer = shop.ask(at, token).await;
        assert_eq!(answer.status, status, "{token:?}");
        assert_eq!(answer.json()["error"]["reason"], "StorageDenied");
    }
    let other = ask(at, &format!("sha256:{}", "0".repeat(64)), Some(&token)).await;
    assert_eq!(other.status, StatusCode::NOT_FOUND);
    let text = first.metrics().await;
    assert!(text.contains(r#"sibling_requests_total{result="refused"} 6"#), "{text}");
    assert!(first.process.log().contains("a pod of namespace other"), "{}", first.process.log());
    // the port of predictions never gives it, nor does the other one predict
    assert_eq!(shop.ask(first.process.address, Some(&token)).await.status, StatusCode::NOT_FOUND);
    let answer = Client::connect(at).await.unwrap().post("/predict", "{}").await.unwrap();
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    // a pod that is not ready itself has nothing to give
    let starting = shop.pod(Some(shop.siblings(free_address())));
    let answer = shop.ask(starting.process.siblings().await, Some(&token)).await;
    assert_eq!(
        (answer.status, answer.headers["retry-after"].as_bytes()),
        (StatusCode::SERVICE_UNAVAILABLE, &b"1"[..])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn new_keys_of_the_cluster_are_taken_from_the_config_file_without_a_restart() {
    let shop = Shop::new();
    shop.gateway.now(shop.has());
    // an operator that could not read the keys, or is of a version before
    let mut pod = shop.pod(None);
    until_ready(pod.process.address).await;
    let at = pod.process.siblings().await;
    let token = shop.cluster.token();
    assert_eq!(shop.ask(at, Some(&token)).await.status, StatusCode::SERVICE_UNAVAILABLE);
    for cluster in [&shop.cluster, &Cluster::new("two")] {
        pod.publish(cluster.siblings("http://unused"));
        let waiting = async {
            while shop.ask(at, Some(&cluster.token())).await.status != StatusCode::OK {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(SOON, waiting).await.expect("the new keys were never read");
    }
    // keys that were withdrawn count no more
    assert_eq!(shop.ask(at, Some(&token)).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_transfers_at_once_in_little_memory_and_predictions_go_on() {
    const SIZE: usize = 64 << 20;
    let shop = Shop::new();
    let (first, at) = shop.first().await;
    // a large file in the place of the small one; what is served stays what was mapped
    let large = first.dir.path().join("large");
    std::fs::write(&large, vec![7_u8; SIZE]).unwrap();
    std::fs::rename(&large, first.kept()).unwrap();
    let token = shop.cluster.token();
    let begin = || {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(at).unwrap();
        let digest = &shop.digest;
        write!(stream, "GET /v1/blobs/{digest} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n")
            .unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).unwrap();
        (String::from_utf8(start.to_vec()).unwrap(), stream)
    };
    let before = memory(&first);
    let (one, two, three) = (begin(), begin(), begin());
    assert_eq!([one.0.as_str(), &two.0, &three.0], ["HTTP/1.1 200", "HTTP/1.1 200", "HTTP/1.1 503"]);
    assert_eq!(first.predict().await.status, StatusCode::OK);
    let grown = memory(&first).saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes for two transfers");
    // who leaves makes room, and a transfer is whole
    drop(one);
    let waiting = async {
        loop {
            let answer = shop.ask(at, Some(&token)).await;
            if answer.status == StatusCode::OK {
                return answer.body.len();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert_eq!(tokio::time::timeout(SOON, waiting).await.expect("no room"), SIZE);
    let text = first.metrics().await;
    assert!(text.contains(r#"sibling_requests_total{result="busy"}"#), "{text}");
}

/// Memory in RAM.
fn memory(pod: &Pod) -> usize {
    let path = format!("/proc/{}/status", pod.process.child.id());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
}
