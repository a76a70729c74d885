//! Slow, greedy and too many clients, over real connections.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails where it stands")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{SOON, start};
use hyper::StatusCode;
use serde_json::json;
use vitrine_server::config::Limits;

const SHORT: Duration = Duration::from_millis(300);

/// Sends the bytes and reads until the server closes; gives what came and how long it took.
fn exchange(mut stream: TcpStream, bytes: &[u8]) -> (String, Duration) {
    stream.set_read_timeout(Some(SOON)).unwrap();
    let started = Instant::now();
    stream.write_all(bytes).unwrap();
    let mut seen = Vec::new();
    match stream.read_to_end(&mut seen) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the server did not close: {error}"),
    }
    (String::from_utf8_lossy(&seen).into_owned(), started.elapsed())
}

async fn raw(address: std::net::SocketAddr, bytes: impl Into<Vec<u8>>) -> (String, Duration) {
    let bytes = bytes.into();
    let task = tokio::task::spawn_blocking(move || exchange(TcpStream::connect(address).unwrap(), &bytes));
    task.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_head_is_cut_but_a_silent_kept_alive_connection_is_not() {
    let server = start(Limits { head: SHORT, ..Limits::default() }, Duration::ZERO).await;
    let mut idle = server.client().await;
    let mut untouched = server.client().await;
    assert_eq!(idle.get("/v2/health/live").await.unwrap().status, StatusCode::OK);
    let (seen, took) = raw(server.address, "POST /predict HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
    assert!(seen.is_empty(), "{seen}");
    assert!(took >= SHORT && took < SOON / 2, "{took:?}");
    // the same in the second request of a connection
    let address = server.address;
    let second = tokio::task::spawn_blocking(move || {
        let whole = "GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n";
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(whole.as_bytes()).unwrap();
        let mut seen = String::new();
        while !seen.ends_with('}') {
            let mut part = [0; 4096];
            let read = stream.read(&mut part).unwrap();
            seen.push_str(std::str::from_utf8(&part[..read]).unwrap());
        }
        exchange(stream, &whole.as_bytes()[..20])
    });
    let (seen, took) = second.await.unwrap();
    assert!(seen.is_empty() && took >= SHORT && took < SOON / 2, "{seen} {took:?}");
    // both have been silent for longer than a head may take
    assert_eq!(idle.get("/v2/health/live").await.unwrap().status, StatusCode::OK);
    assert_eq!(untouched.get("/v2/health/live").await.unwrap().status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_drips_is_cut_in_the_same_time() {
    let server = start(Limits { head: SHORT, ..Limits::default() }, Duration::ZERO).await;
    let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let started = Instant::now();
    let dripping = async {
        use tokio::io::AsyncWriteExt;
        let (_reader, mut writer) = stream.into_split();
        while writer.write_all(b"G").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, dripping).await.expect("never cut");
    assert!(started.elapsed() >= SHORT, "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_ends_at_its_own_limit() {
    let server = start(Limits { idle: SHORT, ..Limits::default() }, Duration::ZERO).await;
    let (seen, took) = raw(server.address, "GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(seen.ends_with(r#"{"live":true}"#), "{seen}");
    assert!(took >= SHORT && took < SOON / 2, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_gets_408_and_holds_no_place() {
    let server = start(Limits { body: SHORT, max_concurrency: 1, ..Limits::default() }, Duration::ZERO).await;
    let head =
        "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    let slow = tokio::spawn(raw(server.address, head));
    let other = tokio::spawn(raw(server.address, head));
    let answer = server.post("/predict", r#"{"designation":"livre"}"#).await;
    assert_eq!(answer.status, StatusCode::OK, "slow bodies take no place");
    for slow in [slow, other] {
        let (seen, took) = slow.await.unwrap();
        assert!(seen.starts_with("HTTP/1.1 408") && seen.contains("connection: close"), "{seen}");
        assert!(took >= SHORT, "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_too_large_gets_413_even_while_it_is_still_being_sent() {
    let server = start(Limits { max_body_bytes: 100_000, ..Limits::default() }, Duration::ZERO).await;
    let text = "x".repeat(99_900);
    let answer = server.post("/predict", json!({"designation": text}).to_string()).await;
    assert_eq!(answer.status, StatusCode::OK, "just below the limit");
    let answer = server.post("/predict", vec![b' '; 100_001]).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(answer.text().contains("BodyTooLarge") && answer.text().contains("100000"), "{}", answer.text());
    assert!(answer.closes());
    let chunked = "POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n30d40\r\n";
    let chunk = [chunked.as_bytes(), &vec![b' '; 200_000], b"\r\n0\r\n\r\n"].concat();
    let (seen, _) = raw(server.address, chunk).await;
    assert!(seen.starts_with("HTTP/1.1 413"), "{seen}");
    let polite =
        "POST /predict HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 999999999\r\n\r\n";
    let (seen, took) = raw(server.address, polite).await;
    assert!(seen.starts_with("HTTP/1.1 413") && took < SOON / 2, "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_all_requests_together_are_bounded() {
    let server = start(Limits { max_buffered_bytes: 50_000, ..Limits::default() }, Duration::ZERO).await;
    let answer = server.post("/predict", json!({"designation": "x".repeat(60_000)}).to_string()).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    let answer = server.post("/predict", r#"{"designation":"livre"}"#).await;
    assert_eq!(answer.status, StatusCode::OK, "the room was given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn overload_is_an_answer_and_health_and_metrics_are_never_shed() {
    let server = start(Limits { max_concurrency: 2, ..Limits::default() }, Duration::ZERO).await;
    let places = (server.app.enter().unwrap(), server.app.enter().unwrap());
    let answer = server.post("/predict", r#"{"designation":"livre"}"#).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(answer.json()["error"]["reason"], "Overloaded");
    let infer =
        json!({"inputs": [{"name": "designation", "shape": [1], "datatype": "BYTES", "data": ["a"]}]});
    let answer = server.post("/v2/models/rakuten/infer", infer.to_string()).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(answer.json()["error"].is_string());
    for path in ["/v2/health/live", "/v2/health/ready", "/metrics", "/v1/model"] {
        assert_eq!(server.get(path).await.status, StatusCode::OK, "{path}");
    }
    assert!(server.get("/metrics").await.text().contains("vitrine_server_in_flight 2"));
    drop(places);
    assert_eq!(server.post("/predict", r#"{"designation":"livre"}"#).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_are_closed_and_the_others_live_on() {
    let server = start(Limits { max_connections: 2, ..Limits::default() }, Duration::ZERO).await;
    let mut first = server.client().await;
    assert_eq!(first.get("/v2/health/live").await.unwrap().status, StatusCode::OK);
    // the connection that asked for readiness may still be closing
    let full = async {
        loop {
            let mut second = server.client().await;
            if second.get("/v2/health/live").await.is_ok() {
                break second;
            }
        }
    };
    let mut second = tokio::time::timeout(SOON, full).await.unwrap();
    let (seen, took) = raw(server.address, "GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(seen.is_empty() && took < SOON / 2, "{seen}");
    for client in [&mut first, &mut second] {
        assert_eq!(client.get("/v2/health/live").await.unwrap().status, StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_of_its_answer_is_cut() {
    let limits = Limits { write: SHORT, max_body_bytes: 8 << 20, ..Limits::default() };
    let server = start(limits, Duration::ZERO).await;
    let texts: Vec<&str> = std::iter::repeat_n("livre", 4096).collect();
    let infer = json!({
        "inputs": [{"name": "designation", "shape": [4096], "datatype": "BYTES", "data": texts}],
        "outputs": [{"name": "probabilities"}, {"name": "name"}],
    })
    .to_string();
    let head = "POST /v2/models/rakuten/infer HTTP/1.1\r\nhost: x";
    let request = format!("{head}\r\ncontent-length: {}\r\n\r\n{infer}", infer.len());
    let address = server.address;
    // pipelined requests whose answers fill the buffers of both kernels
    let greedy = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        let started = Instant::now();
        let cut = (0..2000).any(|_| stream.write_all(request.as_bytes()).is_err());
        (cut, started.elapsed())
    });
    let (cut, took) = greedy.await.unwrap();
    assert!(cut && took < SOON, "{cut} {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_waits_too_long_for_a_processor_is_given_up_with_its_place() {
    let server =
        start(Limits { request: SHORT, max_concurrency: 1, ..Limits::default() }, Duration::ZERO).await;
    let all = u32::try_from(server.app.processors.available_permits()).unwrap();
    let busy = server.app.processors.clone().acquire_many_owned(all).await.unwrap();
    let items: Vec<_> = std::iter::repeat_n(json!({"designation": "livre"}), 100).collect();
    let batch = json!(items).to_string();
    let answer = server.post("/predict", batch.clone()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.json()["error"]["reason"], "Timeout");
    assert!(answer.closes() && answer.headers.contains_key("retry-after"));
    // a client that leaves while it waits gives its place back as well
    let mut client = server.client().await;
    let leaving = client.post("/predict", batch.clone());
    assert!(tokio::time::timeout(SHORT / 3, leaving).await.is_err());
    let free = async {
        while server.post("/predict", r#"{"designation":"livre"}"#).await.status != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, free).await.unwrap();
    drop(busy);
    assert_eq!(server.post("/predict", batch).await.status, StatusCode::OK);
}
