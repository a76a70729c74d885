//! The registry: dataset revisions, versions of models, aliases with their history, and what the
//! gateway learnt from pods.
//!
//! Facts only: what should be registered is decided in the plan, and [`Registry::apply`] carries it
//! out once, however often it is asked. No Kubernetes here. SQL is written for SQLite and PostgreSQL
//! alike; what only one of them understands stays in this file and in the migrations.

mod apply;
pub mod blobs;
mod error;
mod query;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use sqlx::SqlitePool;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

pub use error::Error;

use crate::store::{LockError, Store, lock};
use error::{database, is_corrupt};

/// Database in the registry's folder.
const FILE: &str = "registry.db";
/// File whose lock keeps a second process out.
const LOCK: &str = "registry.lock";
/// How long SQLite waits for another connection's lock.
const BUSY: Duration = Duration::from_secs(5);
/// How long a task waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(30);
/// Connections that read at once.
const READERS: u32 = 4;
/// Pages that each of them keeps, as SQLite counts them: 512 KiB in place of 2 MiB. The system keeps the
/// file's pages anyway.
const READER_CACHE: &str = "-512";
/// Schema changes in order; one that was released is never edited.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "init", include_str!("../../migrations/sqlite/0001_init.sql")),
    (2, "revisions by digest", include_str!("../../migrations/sqlite/0002_revisions_by_digest.sql")),
];

/// The registry. A clone is the same registry.
#[derive(Clone, Debug)]
pub struct Registry {
    /// The only connection that writes: SQLite lets one write at a time, and a queue of tasks is
    /// fairer than its busy loop.
    writer: SqlitePool,
    readers: SqlitePool,
    store: Store,
    /// Held for as long as any clone lives; the system drops it with the process.
    _lock: Arc<File>,
}

impl Registry {
    /// Opens the registry in this folder, makes it if there is none, and brings its schema up to
    /// date. A damaged database is refused and left as it is.
    pub async fn open(dir: &Path, store: Store) -> Result<Self, Error> {
        let io_error = |source| Error::Io { path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(io_error)?;
        let lock = lock(&dir.join(LOCK)).map_err(|e| match e {
            LockError::Held(path) => Error::Locked { path },
            LockError::Io(path, source) => Error::Io { path, source },
        })?;
        let path = dir.join(FILE);
        let writer = open_checked(&path).await?;
        if let Err(source) = migrator().run(&writer).await {
            return Err(Error::Schema { path, source });
        }
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .read_only(true)
            .pragma("cache_size", READER_CACHE)
            .busy_timeout(BUSY);
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(ACQUIRE)
            // a file does not hang up: the ping before each query would double its cost
            .test_before_acquire(false)
            .connect_lazy_with(options);
        Ok(Self { writer, readers, store, _lock: Arc::new(lock) })
    }

    /// Makes the caller the leader: from now on only writes with the returned epoch succeed.
    pub async fn take_epoch(&self) -> Result<i64, Error> {
        let taken = sqlx::query_as("UPDATE fence SET epoch = epoch + 1 WHERE id = 1 RETURNING epoch")
            .fetch_one(&self.writer)
            .await;
        let (epoch,): (i64,) = taken.map_err(database("taking the leader's epoch"))?;
        crate::failpoints::pass("epoch-taken");
        Ok(epoch)
    }

    /// Does the registry answer?
    pub async fn ping(&self) -> Result<(), Error> {
        let answer = sqlx::query_as("SELECT epoch FROM fence WHERE id = 1").fetch_one(&self.readers).await;
        let (_,): (i64,) = answer.map_err(database("asking the registry for its epoch"))?;
        Ok(())
    }

    /// Lets the database file grow by no page more, as on a full volume.
    #[cfg(test)]
    pub(crate) async fn fill(&self) {
        let (pages,): (i64,) = sqlx::query_as("PRAGMA page_count").fetch_one(&self.writer).await.unwrap();
        let sql = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
        sqlx::query(sql).execute(&self.writer).await.unwrap();
    }

    /// Ends all connections; the write-ahead log goes into the database file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// The writing connection of a database whose pages are in order.
async fn open_checked(path: &Path) -> Result<SqlitePool, Error> {
    let corrupt = |message: String| Error::Corrupt { path: path.to_owned(), message };
    let judge = |e: sqlx::Error| {
        if is_corrupt(&e) { corrupt(e.to_string()) } else { database("opening the registry")(e) }
    };
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // A registered version survives a power cut.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY);
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options)
        .await
        .map_err(judge)?;
    let found: Vec<(String,)> =
        sqlx::query_as("PRAGMA quick_check(10)").fetch_all(&pool).await.map_err(judge)?;
    let faults: Vec<&str> = found.iter().map(|(line,)| line.as_str()).filter(|line| *line != "ok").collect();
    if !faults.is_empty() {
        pool.close().await;
        return Err(corrupt(faults.join("; ")));
    }
    Ok(pool)
}

fn migrator() -> Migrator {
    let migration = |&(version, name, sql): &(i64, &'static str, &'static str)| {
        let sql = sqlx::SqlStr::from_static(sql);
        Migration::new(version, name.into(), MigrationType::Simple, sql, false)
    };
    Migrator::with_migrations(MIGRATIONS.iter().map(migration).collect())
}

/// Seconds since 1970.
fn now() -> i64 {
    Timestamp::now().as_second()
}

/// Path of the database in a registry's folder, for messages and tests.
pub fn database_path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}
