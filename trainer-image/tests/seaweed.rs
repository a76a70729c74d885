#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
//! A bucket of a real object store (SeaweedFS) on loopback: signatures, keys with odd letters, pages,
//! ranges under a condition, refusals. `e2e/sources --check` runs it; it needs the store's program.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use tempfile::TempDir;
use vitrine_contract::job::{Remote, S3};
use vitrine_trainer::Error;
use vitrine_trainer::fetch::{Needed, Patience, fetch};
use vitrine_trainer::meter::Meter;

const HOUR: Duration = Duration::from_hours(1);

/// A store with the keys `shop-key`/`shop-secret`; it ends with the test.
struct Store {
    child: Child,
    _dir: TempDir,
    address: String,
    bucket: Bucket,
    credentials: Credentials,
}

impl Drop for Store {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn free_port() -> u16 {
    // the store's own second port is this one and 10000 more
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if port < 55_000 && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}

impl Store {
    fn start() -> Self {
        let weed =
            std::env::var("VITRINE_WEED").expect("VITRINE_WEED names the program: use e2e/sources --check");
        let dir = TempDir::new().unwrap();
        let config = dir.path().join("s3.json");
        let identity = r#"{"identities":[{"name":"shop","credentials":[{"accessKey":"shop-key","secretKey":"shop-secret"}],"actions":["Admin"]}]}"#;
        fs::write(&config, identity).unwrap();
        let [master, volume, filer, s3] = std::array::from_fn(|_| free_port());
        let mut command = Command::new(weed);
        command.args([
            "server",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-filer",
            "-s3",
            "-master.telemetry=false",
        ]);
        command.args(["-master.volumeSizeLimitMB=64", "-volume.max=20"]);
        for (name, port) in [("master", master), ("volume", volume), ("filer", filer), ("s3", s3)] {
            command.arg(format!("-{name}.port={port}")).arg(format!("-{name}.port.grpc={}", port + 10_000));
        }
        command.arg(format!("-dir={}", dir.path().display())).arg(format!("-s3.config={}", config.display()));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let address = format!("127.0.0.1:{s3}");
        let bucket = bucket(&address);
        let credentials = Credentials::new("shop-key", "shop-secret");
        let store = Self { child, _dir: dir, address, bucket, credentials };
        let start = Instant::now();
        let made =
            || ureq::put(store.bucket.create_bucket(&store.credentials).sign(HOUR).as_str()).send_empty();
        while let Err(error) = made() {
            assert!(start.elapsed() < Duration::from_mins(2), "the store does not start: {error}");
            #[allow(clippy::disallowed_methods)] // a program that starts tells nobody
            thread::sleep(Duration::from_millis(200));
        }
        store
    }

    fn put(&self, key: &str, bytes: &[u8]) {
        let url = self.bucket.put_object(Some(&self.credentials), key).sign(HOUR);
        ureq::put(url.as_str()).send(bytes).unwrap();
    }
}

fn bucket(address: &str) -> Bucket {
    Bucket::new(format!("http://{address}").parse().unwrap(), UrlStyle::Path, "rakuten", "us-east-1").unwrap()
}

fn remote(address: &str, bucket: &str, secret: bool) -> Remote {
    Remote::S3(S3 {
        endpoint: format!("http://{address}"),
        region: "us-east-1".into(),
        bucket: bucket.into(),
        prefix: "train/".into(),
        path_style: true,
        secret: secret.then(|| "keys".into()),
    })
}

/// Fetches with these keys; gives the folder.
fn get(remote: &Remote, needed: &[Needed], keys: (&str, &str)) -> Result<TempDir, Error> {
    let dir = TempDir::new().unwrap();
    let secret = dir.path().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("AWS_ACCESS_KEY_ID"), keys.0).unwrap();
    fs::write(secret.join("AWS_SECRET_ACCESS_KEY"), keys.1).unwrap();
    let patience = Patience { give_up: Duration::from_secs(20), ..Patience::default() };
    fetch(remote, needed, &secret, &dir.path().join("source"), &Meter::silent(), &patience)?;
    Ok(dir)
}

const KEYS: (&str, &str) = ("shop-key", "shop-secret");

/// Passes on to the store, and cuts what comes back after so many bytes in the first connections; before
/// each cut `between` is done.
fn cutting(to: &str, after: usize, cuts: usize, between: impl Fn() + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (to, count, between) = (to.to_owned(), AtomicUsize::new(0), Arc::new(between));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut near, mut far) = (stream.unwrap(), TcpStream::connect(&to).unwrap());
            let cut = count.fetch_add(1, Ordering::SeqCst) < cuts;
            let (mut asked, mut on) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            let between = Arc::clone(&between);
            thread::spawn(move || std::io::copy(&mut asked, &mut on));
            thread::spawn(move || {
                let (mut buffer, mut passed) = (vec![0; 1 << 16], 0);
                while let Ok(read) = far.read(&mut buffer) {
                    if read == 0 || near.write_all(&buffer[..read]).is_err() {
                        break;
                    }
                    passed += read;
                    if cut && passed > after {
                        between();
                        break;
                    }
                }
                let _ = near.shutdown(Shutdown::Both);
                let _ = far.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

#[test]
#[ignore = "needs VITRINE_WEED, the program of SeaweedFS: e2e/sources --check"]
fn a_bucket_of_a_real_store() {
    let store = Store::start();
    let files = |names: &[&str]| -> Vec<Needed> { names.iter().map(|n| Needed::File((*n).into())).collect() };

    // keys of all kinds, signed
    let names = ["X.csv", "deep/er/Y.csv", "a b+c=é&%2f?#.csv"];
    for name in names {
        store.put(&format!("train/{name}"), name.as_bytes());
    }
    let dir = get(&remote(&store.address, "rakuten", true), &files(&names), KEYS).unwrap();
    for name in names {
        assert_eq!(fs::read(dir.path().join("source").join(name)).unwrap(), name.as_bytes());
    }

    // refusals
    let refused = |remote: &Remote, name: &str, keys| get(remote, &files(&[name]), keys).err().unwrap();
    let here = remote(&store.address, "rakuten", true);
    for (error, reason, words) in [
        (refused(&here, "X.csv", ("shop-key", "wrong")), "SourceDenied", "SignatureDoesNotMatch"),
        (refused(&here, "X.csv", ("nobody", "shop-secret")), "SourceDenied", "InvalidAccessKeyId"),
        (
            refused(&remote(&store.address, "rakuten", false), "X.csv", KEYS),
            "SourceDenied",
            "source.s3.secretRef",
        ),
        (refused(&here, "Z.csv", KEYS), "SourceNotFound", "\"X.csv\""),
        (
            refused(&remote(&store.address, "nothing", true), "X.csv", KEYS),
            "SourceNotFound",
            "bucket nothing",
        ),
    ] {
        assert_eq!(error.reason(), reason, "{error}");
        assert!(error.to_string().contains(words), "{words:?} is not in: {error}");
        assert!(!error.to_string().contains("shop-secret"));
    }

    // pages of a list, many transfers at once
    let count = 2300;
    thread::scope(|scope| {
        for part in 0..8 {
            let store = &store;
            scope.spawn(move || {
                (part..count).step_by(8).for_each(|i| store.put(&format!("train/images/{i}.png"), b"png"));
            });
        }
    });
    store.put("train-b/secret.png", b"another folder whose name begins so");
    let start = Instant::now();
    let dir = get(&here, &[Needed::Below("images/".into())], KEYS).unwrap();
    println!("{count} objects in {:.1} s", start.elapsed().as_secs_f64());
    assert_eq!(fs::read_dir(dir.path().join("source/images")).unwrap().count(), count);
    let dir = get(&here, &[Needed::Below(String::new())], KEYS).unwrap();
    assert!(
        !dir.path().join("source/secret.png").exists() && dir.path().join("source/deep/er/Y.csv").exists()
    );

    // a transfer that breaks twice goes on, under the condition that the object is the same
    let large: Vec<u8> = (0..8_000_000_u32).flat_map(u32::to_be_bytes).collect();
    store.put("train/large.csv", &large);
    let way = cutting(&store.address, 9_000_000, 2, || {});
    let dir = get(&remote(&way, "rakuten", true), &files(&["large.csv"]), KEYS).unwrap();
    assert!(fs::read(dir.path().join("source/large.csv")).unwrap() == large);

    // one that is overwritten meanwhile is read anew, whole
    let new: Vec<u8> = large.iter().rev().copied().collect();
    let (url, sent) =
        (store.bucket.put_object(Some(&store.credentials), "train/large.csv").sign(HOUR), new.clone());
    let once = Mutex::new(Some(move || ureq::put(url.as_str()).send(sent.as_slice()).map(drop).unwrap()));
    let way = cutting(&store.address, 9_000_000, 1, move || {
        if let Some(overwrite) = once.lock().unwrap().take() {
            overwrite();
        }
    });
    let dir = get(&remote(&way, "rakuten", true), &files(&["large.csv"]), KEYS).unwrap();
    assert!(fs::read(dir.path().join("source/large.csv")).unwrap() == new);
}
