//! What can go wrong with the registry, by class.

use std::io;
use std::path::PathBuf;

use sqlx::migrate::MigrateError;
use vitrine_crds::condition::Reason;

use crate::store;

/// Why the registry did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process holds the registry.
    #[error("{} is locked by another process: only one operator may use this registry", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The database file is damaged. It is never made anew: that would hand out used version numbers.
    #[error("registry {} is damaged ({message}): restore a backup; it was left as it is", path.display())]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What the check found.
        message: String,
    },
    /// The database cannot be brought to this build's schema.
    #[error("the schema of registry {} does not fit this build ({source}): use the newest operator that opened it", path.display())]
    Schema {
        /// The database file.
        path: PathBuf,
        /// What the migration said.
        source: MigrateError,
    },
    /// The folder cannot be used.
    #[error("cannot use {} for the registry: {source}", path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A newer leader took over.
    #[error("epoch {mine} is not the registry's ({stored}): another leader took over")]
    Fenced {
        /// Epoch of the caller.
        mine: i64,
        /// Epoch of the latest leader.
        stored: i64,
    },
    /// A blob that is about to be registered is not whole in the store.
    #[error(
        "blob {digest} of {bytes} bytes is not in the store of namespace {namespace_uid} (found: {found:?} bytes): \
         nothing is registered without its bytes"
    )]
    MissingBytes {
        /// UID of the namespace.
        namespace_uid: String,
        /// Digest.
        digest: String,
        /// Reported size.
        bytes: u64,
        /// Size of what the store has.
        found: Option<u64>,
    },
    /// An alias was to point at a version that does not exist.
    #[error("model {model} has no version {version} for alias {alias} to point at")]
    UnknownVersion {
        /// Model.
        model: String,
        /// Version.
        version: i64,
        /// Alias.
        alias: String,
    },
    /// The volume is full.
    #[error("the volume of the registry is full while {doing}: enlarge it")]
    Full {
        /// What was being done.
        doing: &'static str,
    },
    /// The database failed.
    #[error("{doing} failed: {source}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// What the database said.
        source: sqlx::Error,
    },
    /// A stored report is not one that this build can read or write.
    #[error("{doing}: the stored report cannot be read: {source}")]
    Report {
        /// What was being done.
        doing: &'static str,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The artifact store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// Is it worth trying the same again without any change by a person?
    pub fn is_retryable(&self) -> bool {
        match self {
            // The bytes may still be on their way, space may be made, a lock ends.
            Self::MissingBytes { .. } | Self::Full { .. } | Self::Database { .. } | Self::Io { .. } => true,
            Self::Store(e) => !matches!(e, store::Error::Key { .. } | store::Error::Locked { .. }),
            Self::Locked { .. }
            | Self::Corrupt { .. }
            | Self::Schema { .. }
            | Self::Fenced { .. }
            | Self::UnknownVersion { .. }
            | Self::Report { .. } => false,
        }
    }

    /// One word of a short list, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "locked",
            Self::Corrupt { .. } => "corrupt",
            Self::Schema { .. } => "schema",
            Self::Io { .. } | Self::Database { .. } => "unavailable",
            Self::Fenced { .. } => "fenced",
            Self::MissingBytes { .. } => "missing-bytes",
            Self::UnknownVersion { .. } => "unknown-version",
            Self::Full { .. } | Self::Store(store::Error::Full { .. }) => "full",
            Self::Report { .. } => "report",
            Self::Store(_) => "store",
        }
    }

    /// The documented reason for conditions.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Full { .. } | Self::Store(store::Error::Full { .. }) => Reason::StorageFull,
            Self::UnknownVersion { .. } => Reason::ModelNotFound,
            Self::Report { .. } => Reason::OperatorError,
            _ => Reason::RegistryUnavailable,
        }
    }
}

/// Low byte of SQLite's extended result codes: the class.
fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

/// The file is no database or its pages do not fit together (`SQLITE_CORRUPT`, `SQLITE_NOTADB`).
pub(super) fn is_corrupt(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(11 | 26))
}

/// Names what was being done, and tells a full volume (`SQLITE_FULL`) from other failures.
pub(super) fn database(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| {
        let full =
            primary_code(&source) == Some(13) || matches!(&source, sqlx::Error::Io(e) if store::is_full(e));
        if full { Error::Full { doing } } else { Error::Database { doing, source } }
    }
}

/// Names what was being done when a report could not be read or written.
pub(super) fn report(doing: &'static str) -> impl FnOnce(serde_json::Error) -> Error {
    move |source| Error::Report { doing, source }
}
