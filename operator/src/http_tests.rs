//! The three addresses over a real socket.

use crate::store::Store;

use super::*;

async fn start(health: Health) -> (String, Arc<Health>, CancellationToken, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("artifacts")).await.unwrap();
    let registry = Registry::open(&dir.path().join("registry"), store).await.unwrap();
    let health = Arc::new(health);
    let app = App { health: health.clone(), metrics: Metrics::default(), registry };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    tokio::spawn(serve(listener, app, stop.clone()));
    (url, health, stop, dir)
}

#[tokio::test]
async fn ready_only_when_every_wanted_part_is() {
    let wanted = Health { controller_wanted: true, gateway_wanted: true, ..Health::default() };
    let (url, health, _stop, _dir) = start(wanted).await;
    let error = crate::selftest::run(&url).await.unwrap_err().to_string();
    assert!(error.contains("caches") && error.contains("gateway"), "{error}");
    health.synced.store(true, Ordering::Release);
    assert!(crate::selftest::run(&url).await.is_err());
    health.gateway.store(true, Ordering::Release);
    crate::selftest::run(&url).await.unwrap();
}

#[tokio::test]
async fn h7_a_client_that_never_ends_its_head_is_cut_off() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (url, _health, _stop, _dir) = start(Health::default()).await;
    let mut socket = tokio::net::TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
    socket.write_all(b"GET /healthz HTTP/1.1\r\nX-Slow: ").await.unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(HEADER_TIMEOUT * 2, socket.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "still open after {:?}", HEADER_TIMEOUT * 2);
}

#[tokio::test]
async fn one_address_that_holds_all_it_gets_keeps_no_other_out() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (url, _health, _stop, _dir) = start(Health::default()).await;
    let target: std::net::SocketAddr = url.trim_start_matches("http://").parse().unwrap();
    let asked = async |from: [u8; 4]| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let mut socket = socket.connect(target).await.unwrap();
        let mut answer = String::new();
        // one that is dropped may be cut off while it asks
        let _ = socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
        let _ = socket.read_to_string(&mut answer).await;
        answer
    };
    let mut silent = Vec::new();
    for _ in 0..OF_ONE_PEER * 10 {
        silent.push(tokio::net::TcpStream::connect(target).await.unwrap());
    }
    assert_eq!(asked([127, 0, 0, 1]).await, "", "the silent ones hold all of this address");
    assert!(asked([127, 0, 0, 2]).await.starts_with("HTTP/1.1 200"));
}
