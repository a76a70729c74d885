#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]
//! The client against a real TLS server.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use support::{Answer, Server, identity};
use tempfile::TempDir;
use vitrine_contract::exit;
use vitrine_contract::gateway::Gateway;
use vitrine_contract::report::{Failure, Message, Outcome, Progress};
use vitrine_gateway_client::{Client, Error, ProgressPoster, digest_of_bytes};

fn token(dir: &TempDir) -> PathBuf {
    let path = dir.path().join("token");
    fs::write(&path, "t0\n").unwrap();
    path
}

fn client(gateway: &Gateway, dir: &TempDir) -> Client {
    Client::new(gateway, token(dir)).unwrap().with_deadline(Duration::from_secs(30))
}

fn error_body(reason: &str) -> Vec<u8> {
    format!(r#"{{"error":{{"reason":"{reason}","message":"said {reason}"}}}}"#).into_bytes()
}

fn files_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_blob_is_fetched_into_a_file_and_into_memory() {
    let bytes: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    let digest = digest_of_bytes(&bytes);
    let body = bytes.clone();
    let server = Server::start(move |_, _| Answer::Status(200, body.clone()));
    let dir = TempDir::new().unwrap();
    let client = client(&server.gateway, &dir);
    let path = dir.path().join("model");
    let blob = client.get_to_file(&digest, &path).unwrap();
    assert_eq!((blob.digest.as_str(), blob.bytes), (digest.as_str(), 300_000));
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(client.get_bytes(&digest, 300_000).unwrap(), bytes);
    let too_large = client.get_bytes(&digest, 299_999).unwrap_err();
    assert!(matches!(too_large, Error::TooLarge { .. }), "{too_large}");
    let seen = &server.seen()[0];
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("GET", format!("/v1/blobs/{digest}").as_str()));
    assert_eq!(seen.header("authorization"), Some("Bearer t0"));
}

#[test]
fn the_token_is_read_again_for_each_request() {
    let server = Server::start(|_, _| Answer::Status(204, Vec::new()));
    let dir = TempDir::new().unwrap();
    let client = client(&server.gateway, &dir);
    let message = Message::new(Outcome::Failed(Failure::default()));
    client.post_result(&message).unwrap();
    fs::write(dir.path().join("token"), "t1").unwrap();
    client.post_result(&message).unwrap();
    let tokens: Vec<_> =
        server.seen().iter().map(|s| s.header("authorization").unwrap().to_owned()).collect();
    assert_eq!(tokens, ["Bearer t0", "Bearer t1"]);
    assert_eq!(server.seen()[0].body, serde_json::to_vec(&message).unwrap());
}

#[test]
fn a_file_is_stored_with_its_digest_and_length_again_after_a_503() {
    let bytes = vec![5u8; 200_000];
    let server = Server::start(|number, _| match number {
        0 => Answer::Early(503, error_body("Busy")),
        1 => Answer::HangUp,
        _ => Answer::Status(201, Vec::new()),
    });
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("snapshot");
    fs::write(&path, &bytes).unwrap();
    let blob = client(&server.gateway, &dir).put_file(&path).unwrap();
    assert_eq!(blob.digest, digest_of_bytes(&bytes));
    let seen = server.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[2].path, format!("/v1/blobs/{}", blob.digest));
    assert_eq!(seen[2].header("content-length"), Some("200000"));
    assert_eq!(seen[2].body, bytes);
}

#[test]
fn a_blob_that_is_there_already_is_not_sent() {
    let server = Server::start(|_, _| Answer::Early(200, Vec::new()));
    let dir = TempDir::new().unwrap();
    client(&server.gateway, &dir).put_bytes(&vec![1; 5_000_000]).unwrap();
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_truncated_body_is_fetched_again_and_leaves_nothing_behind() {
    let whole = b"whole".to_vec();
    let digest = digest_of_bytes(&whole);
    let server = Server::start(move |number, _| match number {
        0 => Answer::Truncated(5, b"who".to_vec()),
        _ => Answer::Status(200, whole.clone()),
    });
    let dir = TempDir::new().unwrap();
    client(&server.gateway, &dir).get_to_file(&digest, &dir.path().join("m")).unwrap();
    assert_eq!(server.seen().len(), 2);
    assert_eq!(files_in(dir.path()), ["m", "token"]);
}

#[test]
fn a_body_that_stays_truncated_is_unavailable_and_leaves_no_file() {
    let server = Server::start(|_, _| Answer::Truncated(5, b"who".to_vec()));
    let dir = TempDir::new().unwrap();
    let client = client(&server.gateway, &dir).with_deadline(Duration::from_millis(500));
    let error = client.get_to_file(&digest_of_bytes(b"whole"), &dir.path().join("m")).unwrap_err();
    assert!(matches!(&error, Error::Unavailable { cause, .. } if cause.contains("after 3 bytes")), "{error}");
    assert_eq!(error.exit_code(), exit::UNAVAILABLE);
    assert_eq!(files_in(dir.path()), ["token"]);
}

#[test]
fn wrong_bytes_are_a_digest_mismatch_and_leave_no_file() {
    let server = Server::start(|_, _| Answer::Status(200, b"wrong".to_vec()));
    let dir = TempDir::new().unwrap();
    let expected = digest_of_bytes(b"right");
    let error = client(&server.gateway, &dir).get_to_file(&expected, &dir.path().join("m")).unwrap_err();
    assert_eq!(error.exit_code(), exit::DIGEST_MISMATCH);
    let Error::DigestMismatch { expected: told, found } = error else { panic!("{error}") };
    assert_eq!((told, found), (expected, digest_of_bytes(b"wrong")));
    assert_eq!(server.seen().len(), 3, "a torn transfer deserves three tries");
    assert_eq!(files_in(dir.path()), ["token"]);
}

#[test]
fn statuses_have_their_errors_and_exit_codes() {
    let cases = [
        (403, "StorageDenied", exit::DENIED, "StorageDenied"),
        (404, "NotFound", exit::UNAVAILABLE, "ContainerFailed"),
        (507, "StorageFull", exit::STORAGE_FULL, "StorageFull"),
        (413, "TooLarge", exit::INTERNAL, "ContainerFailed"),
        (400, "DigestMismatch", exit::DIGEST_MISMATCH, "DigestMismatch"),
        (400, "BadRequest", exit::INTERNAL, "ContainerFailed"),
        (302, "Moved", exit::INTERNAL, "ContainerFailed"),
    ];
    for (status, said, code, reason) in cases {
        let server = Server::start(move |_, _| Answer::Early(status, error_body(said)));
        let dir = TempDir::new().unwrap();
        let error = client(&server.gateway, &dir).put_bytes(b"x").unwrap_err();
        assert_eq!((error.exit_code(), error.reason()), (code, reason), "{status}: {error}");
        if status != 404 {
            assert!(error.to_string().contains(&format!("said {said}")), "{error}");
        }
    }
}

#[test]
fn a_gateway_of_another_authority_gets_no_token() {
    let server = Server::start(|_, _| Answer::Status(204, Vec::new()));
    let dir = TempDir::new().unwrap();
    let (other_ca, _) = identity();
    let gateway = Gateway { ca: other_ca, ..server.gateway.clone() };
    let error = client(&gateway, &dir).put_bytes(b"x").unwrap_err();
    assert!(matches!(error, Error::Untrusted { .. }), "{error}");
    assert!(server.seen().is_empty());
}

#[test]
fn a_config_that_cannot_work_is_refused_before_any_request() {
    let (ca, _) = identity();
    let gateway = |url: &str, ca: &str| Gateway { url: url.into(), ca: ca.into() };
    for bad in [gateway("http://localhost:1", &ca), gateway("https://localhost:1", ""), gateway("", &ca)] {
        let error = Client::new(&bad, "token").unwrap_err();
        assert_eq!(error.exit_code(), exit::CONFIG, "{error}");
    }
}

#[test]
fn a_gateway_that_is_away_is_waited_for_until_the_deadline() {
    let (ca, _) = identity();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let gateway = Gateway { url: format!("https://localhost:{port}"), ca };
    let dir = TempDir::new().unwrap();
    let start = Instant::now();
    let client = client(&gateway, &dir).with_deadline(Duration::from_secs(1));
    let error = client.put_bytes(b"x").unwrap_err();
    assert!(matches!(error, Error::Unavailable { tries: 2.., .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn the_poster_never_blocks_and_ends_with_the_newest() {
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let server = Server::start(move |number, _| {
        if number == 0 {
            held.lock().unwrap().recv().unwrap();
        }
        Answer::Status(204, Vec::new())
    });
    let dir = TempDir::new().unwrap();
    let poster = ProgressPoster::start(client(&server.gateway, &dir));
    let start = Instant::now();
    for percentage in 0..=100 {
        poster.post(Progress { percentage, ..Progress::default() });
    }
    assert!(start.elapsed() < Duration::from_secs(1), "posting must not wait for the gateway");
    hold.send(()).unwrap();
    drop(poster);
    let posted: Vec<Progress> =
        server.seen().iter().map(|s| serde_json::from_slice(&s.body).unwrap()).collect();
    assert_eq!(posted.last().unwrap().percentage, 100);
    assert!(posted.len() <= 3, "{} posts", posted.len());
}
