//! A process that is killed while it writes. The victim is this test binary, started again.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use super::*;

/// Folder of the victim.
const FOLDER: &str = "VITRINE_TEST_CRASH_DIR";

/// Registers versions until it is killed; says each number once it is committed.
#[tokio::test]
#[ignore = "started by the test below"]
async fn victim() {
    let Ok(dir) = std::env::var(FOLDER) else { return };
    let dir = Path::new(&dir);
    let store = Store::open(&dir.join("artifacts")).await.unwrap();
    let registry = Registry::open(&dir.join("registry"), store.clone()).await.unwrap();
    let epoch = registry.take_epoch().await.unwrap();
    for n in 0.. {
        let r = registration(&registry, &store, NS, &format!("run-{epoch}-{n}")).await;
        registry.apply(&register(&r), epoch).await.unwrap();
        println!("committed uid-run-{epoch}-{n}");
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing_that_it_committed_and_keeps_others_out_while_it_lives() {
    let dir = tempfile::tempdir().unwrap();
    let name = format!("{}::victim", module_path!().split_once("::").unwrap().1);
    let mut committed = Vec::new();
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--ignored", "--nocapture"])
            .env(FOLDER, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let is_commit = |line: &String| line.starts_with("committed ");
        committed.extend(lines.by_ref().filter(is_commit).take(4 + round));
        let locked = Store::open(&dir.path().join("artifacts")).await.unwrap_err();
        assert!(matches!(locked, crate::store::Error::Locked { .. }), "{locked}");
        child.kill().unwrap();
        child.wait().unwrap();
        // what it said between the last line and its death counts too
        committed.extend(lines.filter(is_commit));

        let store = Store::open(&dir.path().join("artifacts")).await.unwrap();
        let registry = Registry::open(&dir.path().join("registry"), store.clone()).await.unwrap();
        for line in &committed {
            let uid = line.strip_prefix("committed ").unwrap();
            let found = registry.version_of_run(NS, uid).await.unwrap().unwrap();
            assert_eq!(store.size(NS, &found.digest).await.unwrap(), Some(found.bytes as u64), "{uid}");
        }
        let numbers: Vec<(i64,)> = sqlx::query_as("SELECT version FROM versions ORDER BY version")
            .fetch_all(&registry.writer)
            .await
            .unwrap();
        let numbers: Vec<i64> = numbers.into_iter().map(|(n,)| n).collect();
        let last = numbers.len() as i64;
        assert_eq!(numbers, (1..=last).collect::<Vec<_>>());
        assert!(last >= committed.len() as i64);
        let (counter,): (i64,) =
            sqlx::query_as("SELECT last_version FROM models").fetch_one(&registry.writer).await.unwrap();
        assert_eq!(counter, last);
        registry.close().await;
    }
}
