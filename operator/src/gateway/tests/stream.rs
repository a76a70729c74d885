//! Large blobs, many at once, and the end of the server in the middle of one.

use std::process::Command;

use super::*;

/// Bytes of the large blob.
const LARGE: usize = 64 << 20;

/// A file of bytes that do not repeat soon, and its digest.
fn large_file(path: &Path, bytes: usize) -> String {
    let mut state = 1_u64;
    let words = (0..bytes / 8).flat_map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_le_bytes()
    });
    fs::write(path, words.collect::<Vec<u8>>()).unwrap();
    vitrine_gateway_client::digest_of_file(path).unwrap().digest
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_blob_from_many_pods_at_once_is_stored_once() {
    let server = Server::start().await;
    let body = Arc::new(vec![3; (3 << 20) + 17]);
    let puts = (0..8).map(|n| {
        let body = Arc::clone(&body);
        server.client(if n % 2 == 0 { "job" } else { "other-job" }, move |c| c.put_bytes(&body))
    });
    for put in futures::future::join_all(puts).await {
        assert_eq!(put.unwrap().bytes, body.len() as u64);
    }
    let digest = digest_of_bytes(&body);
    assert_eq!(server.files(), [&digest[7..]]);
    assert_eq!(read(&server.blob_path("a", &digest)), *body);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_download_ends_before_the_server_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blob");
    let digest = large_file(&path, LARGE / 4);
    let server = Server::with(Limits::default(), std::slice::from_ref(&digest)).await;
    server.client("job", move |c| c.put_file(&path)).await.unwrap();
    let mut download = server.connect().await;
    let request = head(&format!("GET /v1/blobs/{digest}"), "serving", "");
    download.write_all(request.as_bytes()).await.unwrap();
    let mut start = vec![0; 100_000];
    download.read_exact(&mut start).await.unwrap();
    let port = server.port;
    let stopping = tokio::spawn(server.stop());
    while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!stopping.is_finished());
    download.read_to_end(&mut start).await.unwrap();
    let answer = Answer::parse(&start);
    assert_eq!((answer.status, answer.body.len()), (200, LARGE / 4));
    assert_eq!(digest_of_bytes(&answer.body), digest);
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_gives_its_turn_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blob");
    let digest = large_file(&path, LARGE / 4);
    let limits = Limits { transfers: 1, stall: Duration::from_millis(300), ..Limits::default() };
    let server = Server::with(limits, std::slice::from_ref(&digest)).await;
    server.client("job", move |c| c.put_file(&path)).await.unwrap();
    let request = head(&format!("GET /v1/blobs/{digest}"), "serving", "");
    let mut deaf = server.connect().await;
    deaf.write_all(request.as_bytes()).await.unwrap();
    deaf.read_exact(&mut [0; 100]).await.unwrap();
    let answer = server.raw(request.as_bytes()).await;
    assert_eq!((answer.status, answer.body.len()), (200, LARGE / 4));
    // and it sees that it did not get everything
    let mut rest = Vec::new();
    let _ = deaf.read_to_end(&mut rest).await;
    assert!(rest.len() < LARGE / 4, "{}", rest.len());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_was_damaged_on_the_volume_is_repaired_by_the_next_upload() {
    let server = Server::start().await;
    let body = b"readable";
    server.client("job", move |c| c.put_bytes(body)).await.unwrap();
    let path = server.blob_path("a", &readable());
    fs::write(&path, b"readablX").unwrap();
    server.client("job", move |c| c.put_bytes(body)).await.unwrap();
    assert_eq!(read(&path), body);
    assert_eq!(server.client("serving", |c| c.get_bytes(&readable(), 100)).await.unwrap(), body);
    // whole bytes are not written again
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    server.client("other-job", move |c| c.put_bytes(body)).await.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
    server.stop().await;
}

/// Peak resident memory of this process in bytes.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<usize>().unwrap() * 1024
}

/// Sends a large blob in and out in a process of its own; says how much memory that took.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by the test below"]
async fn measured() {
    let server = Server::with(Limits::default(), &[large_digest()]).await;
    // what TLS, the runtime and the database take once
    server.client("job", |c| c.put_bytes(b"readable")).await.unwrap();
    server.client("job", |c| c.get_bytes(&readable(), 100)).await.unwrap();
    let before = peak();
    let path = PathBuf::from(std::env::var(LARGE_FILE).unwrap());
    let copy = path.with_extension("copy");
    let digest = large_digest();
    assert_eq!(server.client("job", move |c| c.put_file(&path)).await.unwrap().digest, digest);
    let got = server.client("serving", move |c| c.get_to_file(&digest, &copy)).await.unwrap();
    assert_eq!(got.bytes, LARGE as u64);
    println!("grew {}", peak() - before);
    server.stop().await;
}

const LARGE_FILE: &str = "VITRINE_TEST_LARGE_FILE";
const LARGE_DIGEST: &str = "VITRINE_TEST_LARGE_DIGEST";

fn large_digest() -> String {
    std::env::var(LARGE_DIGEST).unwrap()
}

#[test]
fn a_large_blob_passes_with_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blob");
    let digest = large_file(&path, LARGE);
    let name = format!("{}::measured", module_path!().split_once("::").unwrap().1);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--ignored", "--nocapture"])
        .env(LARGE_FILE, &path)
        .env(LARGE_DIGEST, digest)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let grew: usize = text.lines().find_map(|l| l.strip_prefix("grew ")).unwrap().parse().unwrap();
    assert!(grew < LARGE / 4, "{grew} bytes for a blob of {LARGE}");
}

/// Runs the test below on a small volume of its own; needs root, which CI has, to mount one.
#[test]
fn a_full_volume_of_our_own_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    let test = "a_volume_that_fills_up_refuses_one_blob_and_keeps_the_others";
    let name = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
    let script =
        r#"mount -t tmpfs -o size=12m tmpfs "$1" && TMPDIR=$1 exec "$2" --exact "$3" --ignored --nocapture"#;
    let output = Command::new("unshare")
        .args(["--mount", "--", "sh", "-c", script, "sh"])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .output();
    let Ok(output) = output else { return println!("skipped: no unshare on this machine") };
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if ["not permitted", "permission denied"].iter().any(|no| errors.to_lowercase().contains(no)) {
        return println!("skipped: this user may not mount a volume: {errors}");
    }
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{errors}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TMPDIR on a volume of its own of 16 MiB or less: started by the test above"]
async fn a_volume_that_fills_up_refuses_one_blob_and_keeps_the_others() {
    let server = Server::start().await;
    let blob = |n: u8| vec![n; 1 << 20];
    let mut kept = Vec::new();
    let full = loop {
        let n = kept.len() as u8;
        match server.client("job", move |c| c.put_bytes(&blob(n))).await {
            Ok(stored) => kept.push(stored.digest),
            Err(error) => break error,
        }
        assert!(kept.len() < 16, "the volume is too large for this test");
    };
    assert!(matches!(full, vitrine_gateway_client::Error::StorageFull { .. }), "{full}");
    for (n, digest) in kept.iter().enumerate() {
        assert!(read(&server.blob_path("a", digest)) == blob(n as u8), "blob {n}");
    }
    // room is made: the next one fits, so nothing of the refused one was left
    fs::remove_file(server.blob_path("a", &kept[0])).unwrap();
    server.client("job", move |c| c.put_bytes(&blob(200))).await.unwrap();
    server.stop().await;
}
