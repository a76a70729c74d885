#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]
//! Remote sources with every fault that a test can make: what arrives, what is asked again, what is
//! told, and that nothing secret is.

mod http;
mod store;
#[path = "../support/web.rs"]
mod web;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use tempfile::TempDir;
use vitrine_contract::exit;
use vitrine_contract::job::{Http, Remote, S3};
use vitrine_gateway_client::digest_of_bytes;
use vitrine_trainer::Error;
use vitrine_trainer::fetch::{Needed, Patience, fetch};
use vitrine_trainer::meter::Meter;
use web::{Answer, Seen, Web};

/// Stands in every secret; no message may hold it.
const CANARY: &str = "canary-4711";

/// A pod's folders.
struct Pod {
    dir: TempDir,
}

impl Pod {
    fn new() -> Self {
        let pod = Self { dir: TempDir::new().unwrap() };
        let secret = pod.dir.path().join("secret");
        fs::create_dir(&secret).unwrap();
        for key in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
            fs::write(secret.join(key), format!("{CANARY}-{key}\n")).unwrap();
        }
        pod
    }

    fn headers(self, headers: &[&str]) -> Self {
        let secret = self.dir.path().join("secret");
        fs::remove_dir_all(&secret).unwrap();
        fs::create_dir(&secret).unwrap();
        for name in headers {
            fs::write(secret.join(name), format!("{CANARY}-{name}\n")).unwrap();
        }
        self
    }

    fn fetch(&self, remote: &Remote, needed: &[Needed]) -> Result<(), Error> {
        let result = fetch(
            remote,
            needed,
            &self.dir.path().join("secret"),
            &self.folder(),
            &Meter::silent(),
            &short(),
        );
        if let Err(error) = &result {
            assert!(!format!("{error} {error:?}").contains(CANARY), "a secret is told: {error:?}");
        }
        result
    }

    fn folder(&self) -> std::path::PathBuf {
        self.dir.path().join("work/source")
    }

    fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.folder().join(file)).unwrap()
    }
}

/// Patience that a test can wait for.
fn short() -> Patience {
    Patience {
        connect: Duration::from_secs(2),
        silence: Duration::from_secs(2),
        window: Duration::from_millis(300),
        least: 1000,
        give_up: Duration::from_millis(1500),
        longest: Duration::from_millis(100),
    }
}

fn files(names: &[&str]) -> Vec<Needed> {
    names.iter().map(|name| Needed::File((*name).to_owned())).collect()
}

fn http(url: &str, sums: &[(&str, &[u8])], secret: bool) -> Remote {
    let sha256: BTreeMap<_, _> =
        sums.iter().map(|(name, bytes)| ((*name).to_owned(), digest_of_bytes(bytes))).collect();
    Remote::Http(Http { url: url.to_owned(), sha256, secret: secret.then(|| "cookie".to_owned()) })
}

fn s3(web: &Web) -> Remote {
    Remote::S3(S3 {
        endpoint: format!("http://{}", web.host),
        region: "us-east-1".into(),
        bucket: "rakuten".into(),
        prefix: "train/".into(),
        path_style: true,
        secret: Some("minio".into()),
    })
}

fn check(error: &Error, reason: &str, code: i32, words: &[&str]) {
    assert_eq!((error.reason(), error.exit_code()), (reason, code), "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{word:?} is not in: {error}");
    }
}

/// A large body whose bytes tell their place.
fn large() -> Vec<u8> {
    (0..500_000_u32).flat_map(u32::to_be_bytes).collect()
}

/// Answers as a store does that is cut off after 700 kB, as often as told, and knows ranges.
fn torn(body: &[u8], etag: &str, cuts: usize, number: usize, seen: &Seen) -> Answer {
    let from: usize = seen
        .header("range")
        .map_or(0, |r| r.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap());
    let rest = &body[from..];
    let answer =
        Answer::of(if from > 0 { 206 } else { 200 }, if number < cuts { &rest[..700_000] } else { rest })
            .with("ETag", etag)
            .cut(rest.len() as u64);
    if from == 0 {
        return answer;
    }
    answer.with("Content-Range", &format!("bytes {from}-{}/{}", body.len() - 1, body.len()))
}

#[test]
fn a_broken_transfer_goes_on_where_it_broke() {
    let body = large();
    for (condition, other) in [("if-match", "if-range"), ("if-range", "if-match")] {
        let sent = body.clone();
        let web = Web::start(move |number, seen| torn(&sent, "\"v1\"", 2, number, seen));
        let pod = Pod::new();
        let remote =
            if condition == "if-match" { s3(&web) } else { http(&web.url(), &[("X.csv", &body)], false) };
        pod.fetch(&remote, &files(&["X.csv"])).unwrap();
        assert!(pod.read("X.csv") == body);
        let seen = web.seen();
        assert_eq!(seen.len(), 3);
        let asked: Vec<_> = seen.iter().map(|s| s.header("range")).collect();
        assert_eq!(asked, [None, Some("bytes=700000-"), Some("bytes=1400000-")]);
        assert!(seen[1..].iter().all(|s| s.header(condition) == Some("\"v1\"") && s.header(other).is_none()));
    }
}

#[test]
fn an_object_that_changes_while_it_is_read_is_read_anew() {
    let (old, new) = (large(), b"new".to_vec());
    let (sent, last) = (old.clone(), new.clone());
    let web = Web::start(move |number, seen| match number {
        0 => torn(&sent, "\"v1\"", 1, 0, seen),
        1 => Answer::of(412, "<Error><Code>PreconditionFailed</Code></Error>"),
        _ => Answer::of(200, last.clone()).with("ETag", "\"v2\""),
    });
    let pod = Pod::new();
    pod.fetch(&s3(&web), &files(&["X.csv"])).unwrap();
    assert_eq!(pod.read("X.csv"), new);
    assert_eq!(web.seen()[2].header("range"), None);
    // one that never rests is told
    let web = Web::start(move |number, seen| match number % 2 {
        0 => torn(&old, "\"v\"", usize::MAX, 0, seen),
        _ => Answer::of(412, ""),
    });
    let error = Pod::new().fetch(&s3(&web), &files(&["X.csv"])).unwrap_err();
    check(
        &error,
        "SourceUnavailable",
        exit::UNAVAILABLE,
        &["s3://rakuten/train/X.csv", "changed while it was read"],
    );
}

#[test]
fn a_store_that_does_not_heed_the_condition_is_found_out_by_its_marks() {
    let (old, new) = (large(), large().into_iter().rev().collect::<Vec<u8>>());
    let last = new.clone();
    let web = Web::start(move |number, seen| match number {
        0 => torn(&old, "\"v1\"", 1, 0, seen),
        _ => torn(&last, "\"v2\"", 0, number, seen),
    });
    let pod = Pod::new();
    pod.fetch(&s3(&web), &files(&["X.csv"])).unwrap();
    assert!(pod.read("X.csv") == new);
    // and one that offers a rest beyond its end
    let web = Web::start(|number, seen| match number {
        0 => Answer::of(200, vec![1; 2000]).with("ETag", "\"v\"").cut(4000),
        1 => Answer::of(206, "").with("Content-Range", "bytes 2000-2000/10"),
        _ => Answer::of(200, seen.path().to_owned()),
    });
    pod.fetch(&s3(&web), &files(&["X.csv"])).unwrap();
    assert_eq!(pod.read("X.csv"), b"/rakuten/train/X.csv");
}

#[test]
fn a_server_without_marks_or_ranges_starts_anew() {
    let body = large();
    let sent = body.clone();
    let web = Web::start(move |number, _| {
        let part = if number < 2 { sent[..900_000].to_vec() } else { sent.clone() };
        Answer::of(200, part).cut(sent.len() as u64)
    });
    let pod = Pod::new();
    pod.fetch(&http(&web.url(), &[("X.csv", &body)], false), &files(&["X.csv"])).unwrap();
    assert!(pod.read("X.csv") == body);
    assert!(web.seen().iter().all(|seen| seen.header("range").is_none()));
}

#[test]
fn what_is_read_again_and_again_is_no_progress() {
    let body = large();
    let web = Web::start(move |_, _| Answer::of(200, body[..900_000].to_vec()).cut(body.len() as u64));
    let error = Pod::new().fetch(&http(&web.url(), &[], false), &files(&["X.csv"])).unwrap_err();
    check(&error, "SourceUnavailable", exit::UNAVAILABLE, &["X.csv", "given up after"]);
}

#[test]
fn a_trickle_is_given_up() {
    let web = Web::start(|_, _| Answer { drip: true, ..Answer::of(200, vec![b'x'; 10_000]) });
    let error = Pod::new().fetch(&s3(&web), &files(&["X.csv"])).unwrap_err();
    check(&error, "SourceUnavailable", exit::UNAVAILABLE, &["bytes came in", "given up after"]);
}

#[test]
fn what_does_not_fit_is_told_before_it_is_fetched() {
    let web = Web::start(|_, _| Answer::of(200, "").cut(1 << 50));
    let error = Pod::new().fetch(&s3(&web), &files(&["X.csv"])).unwrap_err();
    check(&error, "DataCorrupt", exit::DATA, &["s3://rakuten/train/X.csv", "at most 137 GB"]);
    let pod = Pod::new();
    let free = rustix::fs::statvfs(pod.dir.path()).unwrap();
    let (free, whole) = (free.f_bavail * free.f_frsize, free.f_blocks * free.f_frsize);
    if free < 100 << 30 {
        // more than is free, and more than the node can give without evicting somebody
        for bytes in [free + (1 << 30), free.saturating_sub(whole / 10).max(1 << 30)] {
            let web = Web::start(move |_, _| Answer::of(200, "").cut(bytes));
            let error = pod.fetch(&s3(&web), &files(&["X.csv"])).unwrap_err();
            check(&error, "StorageFull", exit::STORAGE_FULL, &["s3://rakuten/train/X.csv", "scratch space"]);
        }
    }
}

#[test]
fn files_outside_of_the_sources_folder_are_refused() {
    let web = Web::start(|_, _| Answer::of(200, "rows"));
    for file in ["../X.csv", "a/../../X.csv", "/etc/passwd"] {
        for remote in [s3(&web), http(&web.url(), &[(file, b"rows")], false)] {
            let error = Pod::new().fetch(&remote, &files(&[file])).unwrap_err();
            assert_eq!(error.exit_code(), exit::CONFIG, "{file}: {error}");
        }
    }
    assert!(web.seen().is_empty());
}
