//! A small real model, a server in this process, and a client that hides nothing: one connection,
//! no pool, no second try.
#![allow(dead_code, reason = "every test file uses a part")]

pub mod cluster;
pub mod gateway;
pub mod sibling;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use vitrine_model::head::Problem;
use vitrine_model::{Algorithm, Calibration, Class, Corpus, Model, ModelParts, TextSettings};
use vitrine_server::app::App;
use vitrine_server::config::{Limits, Settings, Source};
use vitrine_server::failure::Failure;
use vitrine_server::server;
use vitrine_server::stop::Stop;

/// Longest that a test waits for what must come.
pub const SOON: Duration = Duration::from_secs(20);

const ROWS: &[(u32, &str, &str)] = &[
    (0, "piscine gonflable", "pour le jardin et la terrasse"),
    (0, "tondeuse à gazon", "jardin fleuri"),
    (0, "parasol de terrasse", "jardin"),
    (1, "console de jeu", "manette sans fil"),
    (1, "manette de console", "jeu vidéo"),
    (1, "jeu vidéo", "pour console de salon"),
    (2, "roman policier", "livre de poche"),
    (2, "livre ancien", "édition reliée"),
    (2, "livre pour enfant", "roman illustré"),
];

/// Writes a model of three classes over `designation` and `description`; gives its digest.
pub fn write_model(path: &Path) -> String {
    let mut corpus = Corpus::new(&TextSettings::default()).unwrap();
    for (_, designation, description) in ROWS {
        corpus.push(&[Some(designation), Some(description)]).unwrap();
    }
    let all: Vec<u32> = (0..ROWS.len() as u32).collect();
    let labels: Vec<u32> = ROWS.iter().map(|row| row.0).collect();
    let (features, x) = corpus.fit_transform(&all).unwrap();
    let algorithm = Algorithm::LogisticRegression { c: 10.0 };
    let fitted = algorithm.fit(Problem { x: &x, y: &labels, classes: 3 }, 1, 1).unwrap();
    let calibration = Calibration::fit(&fitted.head.scores(&x, 1), &labels, 3).unwrap();
    let class = |label: &str, name: &str| Class { label: label.into(), name: name.into() };
    let probe = |row: &(u32, &str, &str)| vec![Some(row.1.to_owned()), Some(row.2.to_owned())];
    let model = Model::build(ModelParts {
        algorithm,
        classes: vec![class("2583", "Garden"), class("50", "Games"), class("10", "Books")],
        text_columns: vec!["designation".into(), "description".into()],
        text: TextSettings::default(),
        vocabulary: corpus.vocabulary(&features),
        head: fitted.head,
        calibration,
        dataset_digest: format!("sha256:{}", "d".repeat(64)),
        seed: 1,
        probes: ROWS.iter().map(probe).collect(),
    });
    format!("sha256:{}", model.unwrap().write(path).unwrap())
}

/// A server in this process.
pub struct Running {
    pub address: SocketAddr,
    pub app: Arc<App>,
    pub digest: String,
    pub stop: watch::Sender<Stop>,
    pub task: tokio::task::JoinHandle<Result<(), Failure>>,
    _dir: tempfile::TempDir,
}

/// Starts a server with a local model and waits until it is ready.
pub async fn start(limits: Limits, drain: Duration) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let digest = write_model(&path);
    let running = start_with(dir, Source::File(path), digest, limits, drain).await;
    running.until_ready().await;
    running
}

async fn start_with(
    dir: tempfile::TempDir,
    source: Source,
    digest: String,
    limits: Limits,
    drain: Duration,
) -> Running {
    let name = "rakuten".to_owned();
    let settings = Settings { address: None, port: 0, name, version: 7, source, drain, limits };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(Stop::No);
    let app = App::new(&settings);
    let task = tokio::spawn(server::run(Arc::clone(&app), settings, listener, stopped));
    Running { address, app, digest, stop, task, _dir: dir }
}

impl Running {
    pub async fn until_ready(&self) {
        until_ready(self.address).await;
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.address).await.unwrap()
    }

    /// One request on a connection of its own.
    pub async fn get(&self, path: &str) -> Answer {
        self.client().await.get(path).await.unwrap()
    }

    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.client().await.post(path, body).await.unwrap()
    }
}

pub async fn until_ready(address: SocketAddr) {
    let waiting = async {
        loop {
            if let Ok(mut client) = Client::connect(address).await
                && client.get("/v2/health/ready").await.is_ok_and(|answer| answer.status == StatusCode::OK)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.expect("not ready in time");
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn closes(&self) -> bool {
        self.headers.get("connection").is_some_and(|value| value == "close")
    }
}

/// One connection.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    pub async fn get(&mut self, path: &str) -> hyper::Result<Answer> {
        self.send(Request::get(path).body(Full::default()).unwrap()).await
    }

    pub async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> hyper::Result<Answer> {
        let request = Request::post(path).header("content-type", "application/json");
        self.send(request.body(Full::new(body.into())).unwrap()).await
    }

    pub async fn send(&mut self, mut request: Request<Full<Bytes>>) -> hyper::Result<Answer> {
        request.headers_mut().insert("host", "server".parse().unwrap());
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }
}

/// The server's binary as its own process; killed on drop.
pub struct Process {
    pub child: std::process::Child,
    pub address: SocketAddr,
    log: Arc<std::sync::Mutex<String>>,
}

impl Process {
    /// Starts `vitrine-server serve` on a free port and waits until it listens.
    pub fn start(flags: &[&str], variables: &[(&str, PathBuf)]) -> Self {
        use std::io::BufRead;
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_vitrine-server"))
            .args(["serve", "--port", "0", "--address", "127.0.0.1", "--log-format", "json"])
            .args(["--sibling-port", "0"])
            .args(flags)
            .envs(variables.iter().map(|(key, value)| (key, value)))
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufReader::new(child.stderr.take().unwrap()).lines();
        let mut seen = String::new();
        let address = lines
            .by_ref()
            .map(Result::unwrap)
            .inspect(|line| seen.push_str(line))
            .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
            .find(|line| line["message"] == "listening")
            .unwrap_or_else(|| panic!("it never listened: {seen}"));
        let address = address["address"].as_str().unwrap().parse().unwrap();
        let log = Arc::new(std::sync::Mutex::new(String::new()));
        let sink = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                sink.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Self { child, address, log }
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Where siblings may fetch the model.
    pub async fn siblings(&self) -> SocketAddr {
        let waiting = async {
            loop {
                let log = self.log();
                let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
                if let Some(line) = lines.into_iter().find(|l| l["message"] == "listening for siblings") {
                    return line["address"].as_str().unwrap().parse().unwrap();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, waiting).await.expect("it does not listen for siblings")
    }

    pub fn signal(&self, signal: &str) {
        let status =
            std::process::Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the end; gives the exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        let waiting = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status.code();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, waiting).await.expect("it did not end in time")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
