//! The end of a server: clients move on without an error.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails where it stands")]

mod common;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use common::{Client, Process, SOON, start, until_ready, write_model};
use hyper::StatusCode;
use vitrine_contract::exit;
use vitrine_server::app::App;
use vitrine_server::config::{Limits, Settings, Source};
use vitrine_server::server;
use vitrine_server::stop::Stop;

const BODY: &str = r#"{"designation":"livre"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn kept_alive_clients_move_on_without_one_error() {
    let old = start(Limits::default(), Duration::from_millis(800)).await;
    let new = start(Limits::default(), Duration::ZERO).await;
    let (from, to) = (old.address, new.address);
    // busy clients post without a pause, lazy ones are silent for most of the drain
    let mut clients = Vec::new();
    for pause in [0, 1, 3, 250] {
        let mut client = Client::connect(from).await.unwrap();
        clients.push(tokio::spawn(async move {
            let mut answered = (0, 0);
            loop {
                let answer = client.post("/predict", BODY).await.expect("a request was lost");
                assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
                answered.0 += 1;
                if answer.closes() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            let mut client = Client::connect(to).await.unwrap();
            for _ in 0..10 {
                assert_eq!(client.post("/predict", BODY).await.expect("lost").status, StatusCode::OK);
                answered.1 += 1;
            }
            answered
        }));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    old.stop.send_replace(Stop::Drain);
    for client in clients {
        let (before, after) = tokio::time::timeout(SOON, client).await.unwrap().unwrap();
        assert!(before > 1 && after == 10, "{before} {after}");
    }
    old.task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_server_is_not_ready_but_answers_old_and_new_connections() {
    let server = start(Limits::default(), Duration::from_secs(2)).await;
    let mut idle = server.client().await;
    assert!(!idle.get("/v2/health/live").await.unwrap().closes());
    server.stop.send_replace(Stop::Drain);
    while !server.app.draining() {
        tokio::task::yield_now().await;
    }
    let ready = server.get("/v2/health/ready").await;
    assert_eq!(
        (ready.status, ready.json()["step"].as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, Some("draining"))
    );
    assert!(ready.closes());
    assert_eq!(server.get("/v2/health/live").await.status, StatusCode::OK);
    let answer = server.post("/predict", BODY).await;
    assert!(answer.status == StatusCode::OK && answer.closes());
    tokio::time::sleep(Duration::from_millis(500)).await;
    let answer = idle.post("/predict", BODY).await.expect("the silent connection was closed too early");
    assert!(answer.status == StatusCode::OK && answer.closes());
    tokio::time::timeout(SOON, server.task).await.unwrap().unwrap().unwrap();
    assert!(Client::connect(server.address).await.is_err(), "the port is closed in the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_does_not_hold_up_the_end() {
    let server = start(Limits::default(), Duration::from_millis(100)).await;
    let mut silent = server.client().await;
    silent.get("/v2/health/live").await.unwrap();
    let _untouched = server.client().await;
    let started = Instant::now();
    server.stop.send_replace(Stop::Drain);
    tokio::time::timeout(SOON, server.task).await.unwrap().unwrap().unwrap();
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(100) && took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_and_exits_with_zero() {
    let (_dir, mut process) = process("1").await;
    let mut client = Client::connect(process.address).await.unwrap();
    assert_eq!(client.post("/predict", BODY).await.unwrap().status, StatusCode::OK);
    let started = Instant::now();
    process.signal("-TERM");
    loop {
        let answer = client.post("/predict", BODY).await.expect("a request was lost");
        assert_eq!(answer.status, StatusCode::OK);
        if answer.closes() {
            break;
        }
    }
    assert_eq!(process.ended().await, Some(exit::OK), "{}", process.log());
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_ends_at_once_and_sigint_does_not_drain() {
    for signals in [["-TERM", "-TERM"], ["-INT", "-0"]] {
        let (_dir, mut process) = process("600").await;
        let started = Instant::now();
        process.signal(signals[0]);
        if signals[1] == "-TERM" {
            // two signals sent at once may arrive as one
            let draining = async {
                while !process.log().contains("draining") {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(SOON, draining).await.unwrap();
            process.signal(signals[1]);
        }
        assert_eq!(process.ended().await, Some(exit::OK), "{}", process.log());
        assert!(started.elapsed() < SOON, "{signals:?}");
    }
}

async fn process(drain: &str) -> (tempfile::TempDir, Process) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.safetensors");
    write_model(&path);
    let process = Process::start(&["--model", path.to_str().unwrap(), "--drain-seconds", drain], &[]);
    until_ready(process.address).await;
    (dir, process)
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_wait_to_be_accepted_are_answered_before_the_port_is_closed() {
    // whether the listener or the signal is looked at first is left to chance
    for round in 0..16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting: Vec<std::net::TcpStream> = Vec::new();
        for _ in 0..5 {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            waiting.push(stream);
        }
        let settings = Settings {
            address: None,
            port: 0,
            name: "m".into(),
            version: 1,
            source: Source::File("never read".into()),
            drain: Duration::ZERO,
            limits: Limits::default(),
        };
        let (_stop, stopped) = tokio::sync::watch::channel(Stop::Finish);
        let served = server::serve(listener, App::new(&settings), settings.drain, stopped);
        tokio::time::timeout(SOON, served).await.unwrap();
        for (number, mut stream) in waiting.into_iter().enumerate() {
            let mut seen = String::new();
            stream.set_read_timeout(Some(SOON)).unwrap();
            let read = stream.read_to_string(&mut seen);
            assert!(read.is_ok() && seen.starts_with("HTTP/1.1 200"), "{round} {number}: {read:?} {seen}");
        }
        assert!(std::net::TcpStream::connect(address).is_err(), "the port is closed");
    }
}
