//! What lies in the folder at the start.

use super::*;

async fn try_open(bench: &Bench) -> Result<Registry, Error> {
    Registry::open(&bench.dir.path().join("registry"), bench.store.clone()).await
}

/// A registry with one version, closed.
async fn closed() -> Bench {
    let bench = Bench::new().await;
    let r = registration(&bench.registry, &bench.store, NS, "a").await;
    bench.apply(&register(&r)).await.unwrap();
    bench.registry.close().await;
    bench
}

/// The bench whose registry was closed and let go; its folder stays.
fn parts(bench: Bench) -> (TempDir, Store) {
    let Bench { dir, store, .. } = bench;
    (dir, store)
}

/// A registry in a folder that this process had open before. The tests beside this one start processes,
/// which hold all locks of this one from their fork to their exec: that is waited for.
async fn again(folder: &Path, store: &Store) -> Result<Registry, Error> {
    for _ in 0..500 {
        match Registry::open(folder, store.clone()).await {
            Err(Error::Locked { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
            answer => return answer,
        }
    }
    Registry::open(folder, store.clone()).await
}

#[tokio::test]
async fn a_second_opener_is_refused_by_name_of_the_lock() {
    let bench = Bench::new().await;
    let error = try_open(&bench).await.unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    assert!(error.to_string().contains("registry.lock"), "{error}");
}

#[tokio::test]
async fn a_closed_registry_opens_again_with_all_it_had() {
    let (dir, store) = parts(closed().await);
    let registry = again(&dir.path().join("registry"), &store).await.unwrap();
    assert_eq!(registry.version_of_run(NS, "uid-a").await.unwrap().unwrap().version, 1);
    assert_eq!(registry.take_epoch().await.unwrap(), 2);
    registry.ping().await.unwrap();
}

#[tokio::test]
async fn an_empty_file_becomes_a_registry() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("artifacts")).await.unwrap();
    fs::write(database_path(dir.path()), b"").unwrap();
    let registry = Registry::open(dir.path(), store).await.unwrap();
    assert_eq!(registry.take_epoch().await.unwrap(), 1);
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_left_as_it_is() {
    let (dir, store) = parts(closed().await);
    let folder = dir.path().join("registry");
    let path = database_path(&folder);
    let whole = fs::read(&path).unwrap();
    let page = 4096;
    assert!(whole.len() > 10 * page, "{} bytes", whole.len());
    // readable to the last page, and only the check notices: a list of free pages that is not there
    let mut bad_list = whole.clone();
    bad_list[36..40].copy_from_slice(&3_u32.to_be_bytes());
    let mut torn_pages = whole.clone();
    torn_pages[page..9 * page].fill(0xff);
    let mut bad_header = whole.clone();
    bad_header[..16].copy_from_slice(b"not a database!!");
    let shortened = whole[..5 * page].to_vec();
    for (what, bytes) in
        [("list", bad_list), ("pages", torn_pages), ("header", bad_header), ("length", shortened)]
    {
        fs::write(&path, &bytes).unwrap();
        let error = again(&folder, &store).await.unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }) && !error.is_retryable(), "{what}: {error}");
        assert!(error.to_string().contains("restore a backup"), "{what}: {error}");
        assert!(fs::read(&path).unwrap() == bytes, "{what}: the file was changed");
    }
    fs::write(&path, &whole).unwrap();
    again(&folder, &store).await.unwrap();
}

#[tokio::test]
async fn a_registry_of_a_newer_operator_is_refused() {
    let bench = Bench::new().await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (99, 'from the future', 1, x'00', 0)",
    )
    .execute(&bench.registry.writer)
    .await
    .unwrap();
    bench.registry.close().await;
    let (dir, store) = parts(bench);
    let error = again(&dir.path().join("registry"), &store).await.unwrap_err();
    assert!(matches!(error, Error::Schema { .. }), "{error}");
}
