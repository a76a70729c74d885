//! A client that asks a server at a fixed rate, over kept-alive and over new connections, and counts
//! every request that did not end with 200.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;

/// What the prober saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Requests with status 200.
    pub ok: u64,
    /// Everything else: at most the first 20 as text, and their number.
    pub failures: Vec<String>,
    /// Number of failures.
    pub failed: u64,
    /// Answers by model version.
    pub versions: std::collections::BTreeMap<i64, u64>,
}

/// A prober at work; ends with [`Prober::stop`].
pub struct Prober {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    started: Instant,
    thread: std::thread::JoinHandle<()>,
}

impl Prober {
    /// Starts `workers` loops of `rate / workers` requests per second; every second loop opens a new
    /// connection for each request, the others keep theirs as long as the server lets them.
    pub fn start(address: SocketAddr, body: &str, rate: u32, workers: u32) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Seen::default())));
        let (stop2, seen2, body) = (stop.clone(), seen.clone(), Bytes::from(body.to_owned()));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let period = Duration::from_secs_f64(f64::from(workers) / f64::from(rate));
            runtime.block_on(async {
                let loops = (0..workers).map(|i| {
                    tokio::spawn(work(
                        address,
                        body.clone(),
                        period,
                        i % 2 == 0,
                        stop2.clone(),
                        seen2.clone(),
                    ))
                });
                for task in loops.collect::<Vec<_>>() {
                    task.await.unwrap();
                }
            });
        });
        Self { stop, seen, started: Instant::now(), thread }
    }

    /// Requests per second so far.
    pub fn rate(&self) -> f64 {
        let seen = self.seen();
        (seen.ok + seen.failed) as f64 / self.started.elapsed().as_secs_f64()
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// Ends the loops and returns what they saw.
    pub fn stop(self) -> Seen {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
        Arc::try_unwrap(self.seen).map_or_else(|s| s.lock().unwrap().clone(), |m| m.into_inner().unwrap())
    }
}

type Sender = SendRequest<Full<Bytes>>;

async fn connect(address: SocketAddr) -> Result<Sender, String> {
    let stream = tokio::time::timeout(Duration::from_secs(5), tokio::net::TcpStream::connect(address))
        .await
        .map_err(|_| "connect: no answer in 5 s".to_owned())?
        .map_err(|e| format!("connect: {e}"))?;
    let (sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(|e| format!("handshake: {e}"))?;
    tokio::spawn(connection);
    Ok(sender)
}

/// One request; gives the sender back when the server keeps the connection.
async fn ask(mut sender: Sender, address: SocketAddr, body: Bytes) -> Result<(Option<Sender>, i64), String> {
    let request = hyper::Request::post("/predict")
        .header("host", address.to_string())
        .header("content-type", "application/json")
        .body(Full::new(body))
        .map_err(|e| e.to_string())?;
    let response = sender.send_request(request).await.map_err(|e| format!("request: {e}"))?;
    let status = response.status();
    let closes =
        response.headers().get("connection").is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"close"));
    let bytes = response.into_body().collect().await.map_err(|e| format!("body: {e}"))?.to_bytes();
    if status != 200 {
        return Err(format!("{status}: {}", String::from_utf8_lossy(&bytes)));
    }
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
    let version = value["model"]["version"].as_i64().ok_or_else(|| format!("no model version in {value}"))?;
    Ok(((!closes).then_some(sender), version))
}

async fn once(
    kept: Option<Sender>,
    address: SocketAddr,
    body: Bytes,
) -> Result<(Option<Sender>, i64), String> {
    let sender = match kept {
        Some(mut sender) => match sender.ready().await {
            Ok(()) => sender,
            Err(_) => connect(address).await?, // closed while idle, before a request was written
        },
        None => connect(address).await?,
    };
    tokio::time::timeout(Duration::from_secs(10), ask(sender, address, body))
        .await
        .map_err(|_| "no answer in 10 s".to_owned())?
}

async fn work(
    address: SocketAddr,
    body: Bytes,
    period: Duration,
    keep: bool,
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut kept = None;
    let started = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        ticks.tick().await;
        let result = once(kept.take(), address, body.clone()).await;
        let mut seen = seen.lock().unwrap();
        match result {
            Ok((sender, version)) => {
                seen.ok += 1;
                *seen.versions.entry(version).or_default() += 1;
                kept = if keep { sender } else { None };
            }
            Err(error) => {
                seen.failed += 1;
                if seen.failures.len() < 20 {
                    seen.failures.push(format!("after {:.2} s: {error}", started.elapsed().as_secs_f64()));
                }
            }
        }
    }
}
