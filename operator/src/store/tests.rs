use super::*;
use futures::stream;
use tempfile::TempDir;

fn digest(bytes: &[u8]) -> String {
    format!("{DIGEST_PREFIX}{}", hex::encode(Sha256::digest(bytes)))
}

type Pieces = Vec<Result<Bytes, String>>;

fn pieces(bytes: &[u8]) -> Pieces {
    bytes.chunks(1000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect()
}

async fn put(store: &Store, digest: &str, length: usize, pieces: Pieces) -> Result<(), Error> {
    store.put("ns-1", digest, length as u64, stream::iter(pieces)).await
}

async fn read(store: &Store, namespace_uid: &str, digest: &str) -> Option<Vec<u8>> {
    let reading = store.get(namespace_uid, digest).await.unwrap()?;
    let bytes: Vec<Bytes> = reading.stream.try_collect().await.unwrap();
    assert_eq!(reading.bytes, bytes.iter().map(|b| b.len() as u64).sum::<u64>());
    Some(bytes.concat())
}

fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.file_name().unwrap() != LOCK {
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    found
}

async fn fresh() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    (dir, store)
}

#[tokio::test]
async fn what_was_put_is_read_back_in_its_namespace_only() {
    let (_dir, store) = fresh().await;
    // more than two parts, and not a multiple of anything
    for bytes in [vec![7; 2 * PART + 12_345], Vec::new(), b"x".to_vec()] {
        let name = digest(&bytes);
        assert_eq!(store.size("ns-1", &name).await.unwrap(), None);
        put(&store, &name, bytes.len(), pieces(&bytes)).await.unwrap();
        assert_eq!(store.size("ns-1", &name).await.unwrap(), Some(bytes.len() as u64));
        assert_eq!(read(&store, "ns-1", &name).await, Some(bytes));
        assert_eq!(read(&store, "ns-2", &name).await, None);
    }
}

#[tokio::test]
async fn bytes_of_another_digest_or_length_leave_nothing() {
    let (dir, store) = fresh().await;
    let bytes = vec![1_u8; 3 * PART];
    let name = digest(&bytes);
    let mut flipped = bytes.clone();
    flipped[PART] ^= 1;
    let mut broken = pieces(&bytes[..PART + 5000]);
    broken.push(Err("reset".to_owned()));
    let error = put(&store, &name, bytes.len(), pieces(&flipped)).await.unwrap_err();
    assert!(
        matches!(&error, Error::Mismatch { expected, found } if *expected == name && *found == digest(&flipped))
    );
    let error = put(&store, &name, bytes.len(), pieces(&bytes[..PART * 2])).await.unwrap_err();
    assert!(matches!(error, Error::Length { found, .. } if found == 2 * PART as u64));
    let error = put(&store, &name, PART * 2, pieces(&bytes)).await.unwrap_err();
    assert!(matches!(error, Error::Length { found, .. } if found > 2 * PART as u64));
    let error = put(&store, &name, bytes.len(), broken).await.unwrap_err();
    assert!(matches!(&error, Error::Source { message, .. } if message == "reset"));
    assert_eq!(files(dir.path()), Vec::<String>::new());
    assert_eq!(store.size("ns-1", &name).await.unwrap(), None);
}

#[tokio::test]
async fn an_abandoned_upload_leaves_nothing() {
    let (dir, store) = fresh().await;
    let bytes = vec![1_u8; 2 * PART];
    let name = digest(&bytes);
    let (started, begun) = tokio::sync::oneshot::channel();
    let mut started = Some(started);
    let body = stream::iter(pieces(&bytes)).chain(stream::poll_fn(move |_| {
        if let Some(started) = started.take() {
            started.send(()).unwrap();
        }
        std::task::Poll::Pending
    }));
    let upload = store.put("ns-1", &name, u64::MAX, body);
    tokio::select! {
        _ = upload => panic!("it cannot end"),
        began = begun => began.unwrap(),
    }
    // the file goes on a thread of the runtime's pool
    for _ in 0..500 {
        if files(dir.path()).is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("left: {:?}", files(dir.path()));
}

#[tokio::test]
async fn what_a_killed_process_left_goes_at_the_next_start_and_blobs_stay() {
    let (dir, store) = fresh().await;
    let name = digest(b"kept");
    put(&store, &name, 4, pieces(b"kept")).await.unwrap();
    drop(store);
    let folder = dir.path().join("ns-1/sha256");
    fs::write(folder.join(format!("{}#1", "a".repeat(64))), b"torn").unwrap();
    assert_eq!(files(dir.path()).len(), 2);
    let store = Store::open(dir.path()).await.unwrap();
    assert_eq!(files(dir.path()).len(), 1);
    assert_eq!(read(&store, "ns-1", &name).await, Some(b"kept".to_vec()));
}

#[tokio::test]
async fn a_second_opener_is_refused_until_the_first_lets_go() {
    let (dir, store) = fresh().await;
    let refused = Store::open(dir.path()).await.unwrap_err();
    assert!(matches!(&refused, Error::Locked { .. }), "{refused}");
    drop(store);
    Store::open(dir.path()).await.unwrap();
}

#[tokio::test]
async fn no_text_but_a_uid_and_a_digest_reaches_the_file_system() {
    let (dir, store) = fresh().await;
    let good = digest(b"x");
    let hostile = ["", ".", "..", "../ns", "a/b", "a\\b", "a%2fb", "a\0b", "a#1", "é", &"a".repeat(65)];
    for uid in hostile {
        assert!(matches!(store.size(uid, &good).await, Err(Error::Key { .. })), "{uid}");
        assert!(matches!(store.get(uid, &good).await, Err(Error::Key { .. })), "{uid}");
        let put = store.put(uid, &good, 1, stream::iter(pieces(b"x"))).await;
        assert!(matches!(put, Err(Error::Key { .. })), "{uid}");
    }
    let dots = format!("sha256:{}", "../".repeat(21));
    for name in ["", "sha256:", "sha256:..", &dots, &good[7..], &good.to_uppercase(), &format!("{good}#1")] {
        assert!(matches!(store.size("ns-1", name).await, Err(Error::Key { .. })), "{name}");
        assert!(matches!(put(&store, name, 1, pieces(b"x")).await, Err(Error::Key { .. })), "{name}");
    }
    assert_eq!(files(dir.path()), Vec::<String>::new());
}

#[test]
fn a_full_volume_is_told_from_other_failures() {
    let failure = |kind: io::ErrorKind| {
        let source = Box::new(io::Error::from(kind));
        backend("writing".into(), object_store::Error::Generic { store: "local", source })
    };
    assert!(matches!(failure(io::ErrorKind::StorageFull), Error::Full { .. }));
    assert!(matches!(failure(io::ErrorKind::QuotaExceeded), Error::Full { .. }));
    assert!(matches!(failure(io::ErrorKind::PermissionDenied), Error::Backend { .. }));
}
