use std::collections::BTreeSet;

use futures::stream;
use sha2::{Digest as _, Sha256};
use sqlx::AssertSqlSafe;
use tempfile::TempDir;
use vitrine_contract::report::{Blob, Failure, Ingested, Message, Outcome, Progress, Trained};
use vitrine_plan::{Registration, RegistryOp};

use super::blobs::Writer;
use super::*;

mod crash;
mod files;
mod inputs;

const NS: &str = "ns-1";
const WRITER: Writer<'static> = Writer { owner_uid: "owner", job_uid: "job" };

/// A registry with its store in a folder of its own.
struct Bench {
    dir: TempDir,
    store: Store,
    registry: Registry,
    epoch: i64,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("artifacts")).await.unwrap();
        let registry = Registry::open(&dir.path().join("registry"), store.clone()).await.unwrap();
        let epoch = registry.take_epoch().await.unwrap();
        Self { dir, store, registry, epoch }
    }

    async fn apply(&self, op: &RegistryOp) -> Result<(), Error> {
        self.registry.apply(op, self.epoch).await
    }

    /// All rows of all tables.
    async fn dump(&self) -> Vec<String> {
        let writer = &self.registry.writer;
        let tables: Vec<(String,)> = sqlx::query_as(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '\\_%' ESCAPE '\\'",
        )
        .fetch_all(writer)
        .await
        .unwrap();
        assert_eq!(tables.len(), 10, "{tables:?}");
        let mut lines = Vec::new();
        for (table,) in tables {
            let columns: Vec<(String,)> = sqlx::query_as(AssertSqlSafe(format!(
                "SELECT 'quote(' || name || ')' FROM pragma_table_info('{table}')"
            )))
            .fetch_all(writer)
            .await
            .unwrap();
            let columns = columns.into_iter().map(|(c,)| c).collect::<Vec<_>>().join(" || ' ' || ");
            let rows: Vec<(String,)> =
                sqlx::query_as(AssertSqlSafe(format!("SELECT '{table} ' || {columns} FROM {table}")))
                    .fetch_all(writer)
                    .await
                    .unwrap();
            lines.extend(rows.into_iter().map(|(line,)| line));
        }
        lines
    }
}

/// Stores and records a blob of this text.
async fn blob(registry: &Registry, store: &Store, namespace_uid: &str, text: &str) -> Blob {
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(text)));
    let body = stream::iter([Ok::<_, String>(bytes::Bytes::copy_from_slice(text.as_bytes()))]);
    let bytes = text.len() as u64;
    store.put(namespace_uid, &digest, bytes, body).await.unwrap();
    registry.record_blob(namespace_uid, &digest, bytes, WRITER).await.unwrap();
    Blob { digest, bytes }
}

/// A registration of this run, whose bytes are in the store.
async fn registration(registry: &Registry, store: &Store, namespace_uid: &str, run: &str) -> Registration {
    let report = Trained {
        model: blob(registry, store, namespace_uid, &format!("model of {run}")).await,
        report: blob(registry, store, namespace_uid, &format!("report of {run}")).await,
        ..Trained::default()
    };
    Registration {
        namespace_uid: namespace_uid.to_owned(),
        run_uid: format!("uid-{run}"),
        run: run.to_owned(),
        model: "m".to_owned(),
        accepted: true,
        dataset_digest: "data".to_owned(),
        test_digest: "test".to_owned(),
        spec_hash: "spec".to_owned(),
        trainer_image: "image".to_owned(),
        report,
    }
}

async fn ingested(registry: &Registry, store: &Store, text: &str) -> Ingested {
    Ingested {
        manifest: blob(registry, store, NS, &format!("manifest {text}")).await,
        snapshot: blob(registry, store, NS, &format!("snapshot {text}")).await,
        profile: blob(registry, store, NS, &format!("profile {text}")).await,
        rows: 7,
        ..Ingested::default()
    }
}

fn revision(dataset_uid: &str, attempt_key: &str, report: &Ingested) -> RegistryOp {
    RegistryOp::RecordRevision {
        namespace_uid: NS.to_owned(),
        dataset_uid: dataset_uid.to_owned(),
        dataset: "d".to_owned(),
        attempt_key: attempt_key.to_owned(),
        report: report.clone(),
    }
}

fn register(registration: &Registration) -> RegistryOp {
    RegistryOp::RegisterVersion(Box::new(registration.clone()))
}

fn set_alias(version: i64, who_uid: &str) -> RegistryOp {
    RegistryOp::SetAlias {
        namespace_uid: NS.to_owned(),
        model: "m".to_owned(),
        alias: "champion".to_owned(),
        version,
        who: "TrainingRun/a".to_owned(),
        who_uid: who_uid.to_owned(),
        why: "gate passed".to_owned(),
    }
}

fn rollout(result: &str, generation: i64) -> RegistryOp {
    RegistryOp::RecordRollout {
        namespace_uid: NS.to_owned(),
        deployment_uid: "dep".to_owned(),
        deployment: "dep".to_owned(),
        model: "m".to_owned(),
        version: 1,
        digest: "sha256:x".to_owned(),
        generation,
        result: result.to_owned(),
        why: "because".to_owned(),
    }
}

#[tokio::test]
async fn every_write_may_be_repeated() {
    let bench = Bench::new().await;
    let report = ingested(&bench.registry, &bench.store, "a").await;
    let first = registration(&bench.registry, &bench.store, NS, "a").await;
    let ops = [
        revision("dataset", "1/", &report),
        register(&first),
        set_alias(1, "uid-a"),
        rollout("Succeeded", 1),
    ];
    let mut before = bench.dump().await;
    for op in &ops {
        bench.apply(op).await.unwrap();
        let after = bench.dump().await;
        assert_ne!(before, after, "{op:?} wrote nothing");
        bench.apply(op).await.unwrap();
        assert_eq!(bench.dump().await, after, "{op:?} wrote twice");
        before = after;
    }
    for op in &ops {
        bench.apply(op).await.unwrap();
    }
    assert_eq!(bench.dump().await, before);
}

#[tokio::test]
async fn what_was_registered_is_found_by_every_name_it_has() {
    let bench = Bench::new().await;
    let (registry, store) = (&bench.registry, &bench.store);
    let a = registration(registry, store, NS, "a").await;
    let mut b = registration(registry, store, NS, "b").await;
    b.accepted = false;
    for r in [&a, &b] {
        bench.apply(&register(r)).await.unwrap();
    }
    bench.apply(&set_alias(1, "uid-a")).await.unwrap();
    let one = registry.version(NS, "m", 1).await.unwrap().unwrap();
    assert_eq!((one.version, one.accepted, one.run_name.as_str(), &one.report), (1, true, "a", &a.report));
    assert_eq!((&one.digest, one.bytes), (&a.report.model.digest, a.report.model.bytes as i64));
    assert_eq!(registry.version_of_run(NS, "uid-a").await.unwrap().as_ref(), Some(&one));
    assert_eq!(registry.version_by_alias(NS, "m", "champion").await.unwrap().as_ref(), Some(&one));
    assert_eq!(registry.version_by_digest(NS, "m", &one.digest).await.unwrap().as_ref(), Some(&one));
    let two = registry.version_of_run(NS, "uid-b").await.unwrap().unwrap();
    assert_eq!((two.version, two.accepted), (2, false));
    let reusable = registry.reusable(NS, "m", "data", "spec", "image").await.unwrap();
    assert_eq!(reusable, [two, one]);
    for inputs in [["x", "spec", "image"], ["data", "x", "image"], ["data", "spec", "x"]] {
        assert!(registry.reusable(NS, "m", inputs[0], inputs[1], inputs[2]).await.unwrap().is_empty());
    }
    assert_eq!(registry.version(NS, "m", 3).await.unwrap(), None);
    assert_eq!(registry.version_by_alias(NS, "m", "other").await.unwrap(), None);
    assert_eq!(registry.alias_version(NS, "m", "champion").await.unwrap(), Some(1));
}

#[tokio::test]
async fn a_namespace_that_was_made_again_inherits_nothing() {
    let bench = Bench::new().await;
    let r = registration(&bench.registry, &bench.store, NS, "a").await;
    bench.apply(&register(&r)).await.unwrap();
    bench.apply(&set_alias(1, "uid-a")).await.unwrap();
    let registry = &bench.registry;
    let other = "ns-2";
    assert_eq!(registry.version(other, "m", 1).await.unwrap(), None);
    assert_eq!(registry.version_of_run(other, "uid-a").await.unwrap(), None);
    assert_eq!(registry.version_by_digest(other, "m", &r.report.model.digest).await.unwrap(), None);
    assert_eq!(registry.version_by_alias(other, "m", "champion").await.unwrap(), None);
    assert!(registry.reusable(other, "m", "data", "spec", "image").await.unwrap().is_empty());
    assert_eq!(registry.blob(other, &r.report.model.digest).await.unwrap(), None);
    // the same bytes count only where they were stored
    let foreign = Registration { namespace_uid: other.to_owned(), ..r.clone() };
    let error = bench.apply(&register(&foreign)).await.unwrap_err();
    assert!(matches!(error, Error::MissingBytes { .. }), "{error}");
    let own = registration(registry, &bench.store, other, "a").await;
    bench.apply(&register(&own)).await.unwrap();
    assert_eq!(registry.version_of_run(other, "uid-a").await.unwrap().unwrap().version, 1);
}

#[tokio::test]
async fn a_hundred_registrations_at_once_get_the_versions_one_to_a_hundred() {
    let bench = Bench::new().await;
    let mut all = Vec::new();
    for n in 0..100 {
        all.push(registration(&bench.registry, &bench.store, NS, &format!("run{n}")).await);
    }
    // each one twice, as after a crash between the write and its notice
    let tasks = all.iter().chain(&all).map(|r| {
        let (registry, op, epoch) = (bench.registry.clone(), register(r), bench.epoch);
        tokio::spawn(async move { registry.apply(&op, epoch).await })
    });
    let tasks: Vec<_> = tasks.collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let mut versions = BTreeSet::new();
    for r in &all {
        versions.insert(bench.registry.version_of_run(NS, &r.run_uid).await.unwrap().unwrap().version);
    }
    assert_eq!(versions, (1..=100).collect());
}

#[tokio::test]
async fn a_deposed_leader_writes_nothing() {
    let bench = Bench::new().await;
    let r = registration(&bench.registry, &bench.store, NS, "a").await;
    let newer = bench.registry.take_epoch().await.unwrap();
    assert_eq!(newer, bench.epoch + 1);
    let before = bench.dump().await;
    let old = bench.epoch;
    for op in [register(&r), rollout("Failed", 1), set_alias(1, "x")] {
        let error = bench.apply(&op).await.unwrap_err();
        assert!(matches!(error, Error::Fenced { mine, stored } if mine == old && stored == newer), "{error}");
        assert!(!error.is_retryable());
    }
    assert_eq!(bench.dump().await, before);
    // neither does an epoch that nobody has taken yet
    assert!(matches!(bench.registry.apply(&register(&r), newer + 1).await, Err(Error::Fenced { .. })));
    bench.registry.apply(&register(&r), newer).await.unwrap();
}

#[tokio::test]
async fn history_and_versions_cannot_be_rewritten() {
    let bench = Bench::new().await;
    let r = registration(&bench.registry, &bench.store, NS, "a").await;
    for op in [register(&r), set_alias(1, "uid-a"), rollout("Succeeded", 1)] {
        bench.apply(&op).await.unwrap();
    }
    let before = bench.dump().await;
    for sql in [
        "UPDATE alias_history SET who = 'nobody'",
        "DELETE FROM alias_history",
        "UPDATE deployments_history SET result = 'Succeeded'",
        "DELETE FROM deployments_history",
        "UPDATE versions SET digest = 'sha256:other'",
        "UPDATE models SET last_version = 0",
        "DELETE FROM models",
        // no version without the record of its bytes
        "DELETE FROM blobs",
        "UPDATE aliases SET version = 9",
    ] {
        let error = sqlx::query(sql).execute(&bench.registry.writer).await.unwrap_err();
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        // SQLITE_CONSTRAINT_TRIGGER, SQLITE_CONSTRAINT_FOREIGNKEY
        assert!(matches!(code.as_deref(), Some("1811" | "787")), "{sql}: {error}");
    }
    assert_eq!(bench.dump().await, before);
}

#[tokio::test]
async fn nothing_is_registered_without_its_bytes() {
    let bench = Bench::new().await;
    let whole = registration(&bench.registry, &bench.store, NS, "a").await;
    let file = |digest: &str| bench.dir.path().join("artifacts").join(NS).join("sha256").join(&digest[7..]);
    let refused = async |r: &Registration| {
        let error = bench.apply(&register(r)).await.unwrap_err();
        assert!(matches!(error, Error::MissingBytes { .. }) && error.is_retryable(), "{error}");
        assert_eq!(bench.registry.version_of_run(NS, &r.run_uid).await.unwrap(), None);
    };
    let mut unknown = whole.clone();
    unknown.report.model.digest = format!("sha256:{}", "0".repeat(64));
    refused(&unknown).await;
    let mut no_report = whole.clone();
    no_report.report.report.digest = format!("sha256:{}", "0".repeat(64));
    refused(&no_report).await;
    let mut longer = whole.clone();
    longer.report.model.bytes += 1;
    refused(&longer).await;
    let path = file(&whole.report.model.digest);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[1..]).unwrap();
    refused(&whole).await;
    fs::remove_file(&path).unwrap();
    refused(&whole).await;
    fs::write(&path, &bytes).unwrap();
    bench.apply(&register(&whole)).await.unwrap();

    let report = ingested(&bench.registry, &bench.store, "a").await;
    fs::remove_file(file(&report.snapshot.digest)).unwrap();
    let error = bench.apply(&revision("dataset", "1/", &report)).await.unwrap_err();
    assert!(matches!(error, Error::MissingBytes { found: None, .. }), "{error}");
}

#[tokio::test]
async fn revisions_count_changes_of_the_data_per_dataset_name() {
    let bench = Bench::new().await;
    let a = ingested(&bench.registry, &bench.store, "a").await;
    let b = ingested(&bench.registry, &bench.store, "b").await;
    let steps = [
        ("uid-1", "1/", &a, 1),
        // another generation with the same data
        ("uid-1", "2/", &a, 1),
        ("uid-1", "3/", &b, 2),
        // deleted and applied again, first with the same data
        ("uid-2", "1/", &b, 2),
        ("uid-2", "2/", &a, 3),
    ];
    for (uid, key, report, expected) in steps {
        bench.apply(&revision(uid, key, report)).await.unwrap();
        let facts = bench.registry.revision(NS, uid).await.unwrap().unwrap();
        assert_eq!((facts.revision, facts.attempt_key.as_str(), &facts.report), (expected, key, report));
        assert!(facts.recorded_at.is_some());
    }
    assert_eq!(bench.registry.revision(NS, "uid-1").await.unwrap().unwrap().attempt_key, "3/");
    for (asked, found) in [("1/", "1/"), ("unknown", "3/")] {
        let facts = bench.registry.revision_for(NS, "uid-1", Some(asked)).await.unwrap().unwrap();
        assert_eq!(facts.attempt_key, found, "the attempt's own, else the newest");
    }
    assert_eq!(bench.registry.revision("ns-2", "uid-1").await.unwrap(), None);
}

#[tokio::test]
async fn an_alias_remembers_who_set_it_also_where_nothing_moved() {
    let bench = Bench::new().await;
    for run in ["a", "b"] {
        let r = registration(&bench.registry, &bench.store, NS, run).await;
        bench.apply(&register(&r)).await.unwrap();
    }
    let moved_by = async |uid| bench.registry.alias_moved_by(NS, "m", "champion", uid).await.unwrap();
    let error = bench.apply(&set_alias(3, "x")).await.unwrap_err();
    assert!(matches!(error, Error::UnknownVersion { version: 3, .. }), "{error}");
    assert!(!moved_by("x").await);
    bench.apply(&set_alias(1, "x")).await.unwrap();
    bench.apply(&set_alias(2, "y")).await.unwrap();
    bench.apply(&set_alias(2, "z")).await.unwrap();
    bench.apply(&set_alias(1, "y")).await.unwrap();
    assert!(moved_by("x").await && moved_by("y").await && moved_by("z").await);
    assert_eq!(bench.registry.alias_version(NS, "m", "champion").await.unwrap(), Some(1));
    let history: Vec<(Option<i64>, i64, String)> =
        sqlx::query_as("SELECT from_version, to_version, who_uid FROM alias_history ORDER BY seq")
            .fetch_all(&bench.registry.writer)
            .await
            .unwrap();
    let expected = [(None, 1, "x"), (Some(1), 2, "y"), (Some(2), 2, "z"), (Some(2), 1, "y")];
    assert_eq!(history, expected.map(|(from, to, who)| (from, to, who.to_owned())));
}

#[tokio::test]
async fn a_deployment_that_goes_back_and_forth_leaves_every_rollout() {
    let bench = Bench::new().await;
    let to = |name: &str| {
        let mut op = rollout("Succeeded", 1);
        if let RegistryOp::RecordRollout { digest, .. } = &mut op {
            *digest = format!("sha256:{name}");
        }
        op
    };
    for name in ["a", "a", "b", "a", "a", "b"] {
        bench.apply(&to(name)).await.unwrap();
    }
    let mut other = to("b");
    if let RegistryOp::RecordRollout { deployment_uid, .. } = &mut other {
        *deployment_uid = "other".to_owned();
    }
    bench.apply(&other).await.unwrap();
    let digests: Vec<(String, String)> =
        sqlx::query_as("SELECT deployment_uid, digest FROM deployments_history ORDER BY seq")
            .fetch_all(&bench.registry.writer)
            .await
            .unwrap();
    let expected = [("dep", "a"), ("dep", "b"), ("dep", "a"), ("dep", "b"), ("other", "b")];
    assert_eq!(digests, expected.map(|(uid, name)| (uid.to_owned(), format!("sha256:{name}"))));
}

#[tokio::test]
async fn no_alias_moves_to_a_version_whose_bytes_are_lost() {
    let bench = Bench::new().await;
    for run in ["a", "b"] {
        let r = registration(&bench.registry, &bench.store, NS, run).await;
        bench.apply(&register(&r)).await.unwrap();
    }
    let lost = bench.registry.version(NS, "m", 2).await.unwrap().unwrap();
    let path = bench.dir.path().join("artifacts").join(NS).join("sha256").join(&lost.digest[7..]);
    let bytes = fs::read(&path).unwrap();
    bench.apply(&set_alias(1, "x")).await.unwrap();
    for damage in [None, Some(&bytes[1..])] {
        match damage {
            None => fs::remove_file(&path).unwrap(),
            Some(rest) => fs::write(&path, rest).unwrap(),
        }
        assert!(!bench.registry.has_bytes(NS, &lost).await.unwrap());
        let error = bench.apply(&set_alias(2, "x")).await.unwrap_err();
        assert!(matches!(error, Error::MissingBytes { .. }), "{error}");
        assert_eq!(bench.registry.alias_version(NS, "m", "champion").await.unwrap(), Some(1));
    }
    fs::write(&path, &bytes).unwrap();
    assert!(bench.registry.has_bytes(NS, &lost).await.unwrap());
    bench.apply(&set_alias(2, "x")).await.unwrap();
    fs::remove_file(&path).unwrap();
    // nothing moves
    bench.apply(&set_alias(2, "x")).await.unwrap();
}

#[tokio::test]
async fn a_success_stands_and_a_failure_gives_way() {
    let bench = Bench::new().await;
    let registry = &bench.registry;
    let failed = |reason: &str| {
        Message::new(Outcome::Failed(Failure { reason: reason.to_owned(), message: String::new() }))
    };
    let trained =
        |seconds| Message::new(Outcome::Trained(Trained { wall_seconds: seconds, ..Trained::default() }));
    assert_eq!(registry.result("job").await.unwrap(), None);
    let posts = [
        (failed("A"), failed("A")),
        (failed("B"), failed("B")),
        (trained(1.0), trained(1.0)),
        (failed("C"), trained(1.0)),
        (trained(2.0), trained(1.0)),
    ];
    for (posted, standing) in posts {
        registry.post_result(NS, "job", "pod", &posted).await.unwrap();
        assert_eq!(registry.result("job").await.unwrap(), Some(standing.outcome));
    }
    assert_eq!(registry.result("other").await.unwrap(), None);
    for percentage in [10, 5, 100] {
        let progress = Progress { percentage, step: "s".into(), ..Progress::default() };
        registry.post_progress(NS, "job", &progress).await.unwrap();
        assert_eq!(registry.progress("job").await.unwrap(), Some(progress));
    }
}

#[tokio::test]
async fn a_full_volume_is_an_error_of_its_own_and_passes() {
    let bench = Bench::new().await;
    let r = registration(&bench.registry, &bench.store, NS, "a").await;
    bench.registry.fill().await;
    let mut big = r.clone();
    big.report.best.parameters = "p".repeat(100_000);
    let error = bench.apply(&register(&big)).await.unwrap_err();
    assert!(matches!(error, Error::Full { .. }) && error.is_retryable(), "{error}");
    assert_eq!(error.reason(), vitrine_crds::condition::Reason::StorageFull);
    assert_eq!(bench.registry.version_of_run(NS, "uid-a").await.unwrap(), None);
    sqlx::query("PRAGMA max_page_count = 1000000").execute(&bench.registry.writer).await.unwrap();
    bench.apply(&register(&big)).await.unwrap();
    assert_eq!(bench.registry.version_of_run(NS, "uid-a").await.unwrap().unwrap().version, 1);
}

#[tokio::test]
async fn hostile_text_is_data() {
    let bench = Bench::new().await;
    let hostile = "'; DROP TABLE versions; --\u{202e}\u{1f600}";
    let mut r = registration(&bench.registry, &bench.store, NS, "a").await;
    r.model = hostile.to_owned();
    r.run = hostile.to_owned();
    bench.apply(&register(&r)).await.unwrap();
    let found = bench.registry.version(NS, hostile, 1).await.unwrap().unwrap();
    assert_eq!(found.run_name, hostile);
}
