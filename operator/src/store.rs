//! The artifact store: blobs by namespace UID and digest, on the volume of artifacts.
//!
//! A blob appears under its key only whole, verified and flushed to the disk. Keys are made of a
//! checked namespace UID and a checked digest and of nothing else: no text of a client reaches the
//! file system. What is registered is not decided here.

use std::error::Error as _;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt as _, path::Path as Key};
use sha2::{Digest as _, Sha256};
use vitrine_contract::{DIGEST_PREFIX, is_digest};

use crate::failpoints;

/// Bytes that are gathered before they are written: the memory of one upload.
const PART: usize = 1024 * 1024;
/// File whose lock keeps a second process out.
const LOCK: &str = "store.lock";
/// Mark in the name of a file that is being written: [`LocalFileSystem`] appends it and a number.
const STAGED: char = '#';

/// What went wrong with a blob.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process holds the volume.
    #[error("{} is locked by another process: only one operator may use this volume", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The volume cannot be used.
    #[error("cannot use {} for artifacts: {source}", path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The volume is full.
    #[error("the volume of artifacts is full while {doing}: enlarge the volume")]
    Full {
        /// What was being done to which blob.
        doing: String,
    },
    /// Not a namespace UID, or not a digest.
    #[error("{namespace_uid}/{digest} is not the key of a blob")]
    Key {
        /// The UID.
        namespace_uid: String,
        /// The digest.
        digest: String,
    },
    /// The bytes have another digest.
    #[error("digest mismatch: expected {expected}, found {found}")]
    Mismatch {
        /// Announced digest.
        expected: String,
        /// Digest of the bytes.
        found: String,
    },
    /// More or fewer bytes than announced.
    #[error("blob {digest} was announced with {announced} bytes and ended after {found}")]
    Length {
        /// Digest.
        digest: String,
        /// Announced bytes.
        announced: u64,
        /// Bytes that came (where more came: up to the piece that was too much).
        found: u64,
    },
    /// The sender's stream broke.
    #[error("the upload of blob {digest} broke after {found} bytes: {message}")]
    Source {
        /// Digest.
        digest: String,
        /// Bytes that came.
        found: u64,
        /// What the transport said.
        message: String,
    },
    /// The store failed.
    #[error("{doing} failed: {source}")]
    Backend {
        /// What was being done to which blob.
        doing: String,
        /// What the store said.
        source: object_store::Error,
    },
}

/// Blobs of all namespaces. A clone is the same store.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    /// Held for as long as any clone lives; the system drops it with the process.
    _lock: Arc<File>,
}

/// A blob that is being read.
pub struct Reading {
    /// Size of the whole blob.
    pub bytes: u64,
    /// Its bytes, in order.
    pub stream: BoxStream<'static, io::Result<Bytes>>,
}

impl Store {
    /// Opens the store in this folder, makes it if it is missing, and removes what broken uploads left.
    pub async fn open(dir: &Path) -> Result<Self, Error> {
        let dir = dir.to_owned();
        let opened = tokio::task::spawn_blocking(move || open_blocking(&dir)).await;
        opened.unwrap_or_else(|e| Err(Error::Io { path: PathBuf::new(), source: io::Error::other(e) }))
    }

    /// Size of a blob in bytes; none if it is not there.
    pub async fn size(&self, namespace_uid: &str, digest: &str) -> Result<Option<u64>, Error> {
        match self.inner.head(&key(namespace_uid, digest)?).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(backend(format!("looking for blob {digest}"), source)),
        }
    }

    /// Reads a blob; none if it is not there. The bytes are not verified: the reader does that.
    pub async fn get(&self, namespace_uid: &str, digest: &str) -> Result<Option<Reading>, Error> {
        let got = match self.inner.get(&key(namespace_uid, digest)?).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(source) => return Err(backend(format!("reading blob {digest}"), source)),
        };
        let bytes = got.meta.size;
        let name = digest.to_owned();
        let stream = got.into_stream().map(move |piece| match piece {
            // A file that shrank would give empty pieces without end.
            Ok(piece) if piece.is_empty() => Err(io::Error::other(format!("blob {name} shrank while read"))),
            other => other.map_err(io::Error::other),
        });
        Ok(Some(Reading { bytes, stream: stream.boxed() }))
    }

    /// Loses a blob, as a damaged volume does.
    #[cfg(test)]
    pub(crate) async fn remove(&self, namespace_uid: &str, digest: &str) {
        self.inner.delete(&key(namespace_uid, digest).unwrap()).await.unwrap();
    }

    /// Does the stored blob still have its digest? Reads the whole file; what cannot be read does not.
    pub async fn verify(&self, namespace_uid: &str, digest: &str) -> Result<bool, Error> {
        let Some(mut reading) = self.get(namespace_uid, digest).await? else { return Ok(false) };
        let mut hash = Sha256::new();
        while let Some(piece) = reading.stream.next().await {
            match piece {
                Ok(piece) => hash.update(&piece),
                Err(error) => {
                    tracing::warn!(digest, %error, "stored blob cannot be read");
                    return Ok(false);
                }
            }
        }
        Ok(digest.strip_prefix(DIGEST_PREFIX) == Some(hex::encode(hash.finalize()).as_str()))
    }

    /// Writes a blob of exactly `length` bytes from a stream, with bounded memory. It appears only
    /// if its bytes have this digest; what an abandoned call wrote is removed. A blob that is there
    /// already is replaced by the same bytes.
    pub async fn put<E: std::fmt::Display>(
        &self,
        namespace_uid: &str,
        digest: &str,
        length: u64,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<(), Error> {
        let key = key(namespace_uid, digest)?;
        let doing = || format!("writing blob {digest} of {length} bytes");
        let mut upload = self.inner.put_multipart(&key).await.map_err(|e| backend(doing(), e))?;
        let written = match write_verified(upload.as_mut(), digest, length, body).await {
            Ok(()) => {
                failpoints::pass("blob-staged");
                upload.complete().await.map(|_| ()).map_err(|e| backend(doing(), e))
            }
            Err(e) => Err(e),
        };
        if let Err(error) = written {
            // The error that matters is the first; a file left behind goes at the next start.
            if let Err(e) = upload.abort().await {
                tracing::debug!(digest, error = %e, "broken upload not removed");
            }
            return Err(error);
        }
        failpoints::pass("blob-written");
        Ok(())
    }
}

async fn write_verified<E: std::fmt::Display>(
    upload: &mut dyn MultipartUpload,
    digest: &str,
    length: u64,
    body: impl Stream<Item = Result<Bytes, E>>,
) -> Result<(), Error> {
    let doing = || format!("writing blob {digest} of {length} bytes");
    let mut body = std::pin::pin!(body);
    let mut hash = Sha256::new();
    let mut found = 0;
    let mut part = BytesMut::new();
    while let Some(piece) = body.try_next().await.map_err(|e| Error::Source {
        digest: digest.to_owned(),
        found,
        message: e.to_string(),
    })? {
        found += piece.len() as u64;
        if found > length {
            return Err(Error::Length { digest: digest.to_owned(), announced: length, found });
        }
        hash.update(&piece);
        part.extend_from_slice(&piece);
        if part.len() >= PART {
            upload.put_part(part.split().freeze().into()).await.map_err(|e| backend(doing(), e))?;
        }
    }
    if found != length {
        return Err(Error::Length { digest: digest.to_owned(), announced: length, found });
    }
    let sum = format!("{DIGEST_PREFIX}{}", hex::encode(hash.finalize()));
    if sum != digest {
        return Err(Error::Mismatch { expected: digest.to_owned(), found: sum });
    }
    upload.put_part(part.freeze().into()).await.map_err(|e| backend(doing(), e))
}

fn open_blocking(dir: &Path) -> Result<Store, Error> {
    let io_error = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    };
    fs::create_dir_all(dir).map_err(io_error(dir))?;
    let lock = lock(&dir.join(LOCK)).map_err(|e| match e {
        LockError::Held(path) => Error::Locked { path },
        LockError::Io(path, source) => Error::Io { path, source },
    })?;
    remove_staged(dir).map_err(io_error(dir))?;
    let inner = LocalFileSystem::new_with_prefix(dir)
        .map_err(|e| backend(format!("opening {}", dir.display()), e))?
        .with_fsync(true);
    Ok(Store { inner: Arc::new(inner), _lock: Arc::new(lock) })
}

/// Why a lock file could not be locked.
pub(crate) enum LockError {
    /// Another process holds it.
    Held(PathBuf),
    /// It cannot be opened or locked.
    Io(PathBuf, io::Error),
}

/// Locks a file for this process alone; the system lets go when the process ends, however it ends.
pub(crate) fn lock(path: &Path) -> Result<File, LockError> {
    let open = File::options().create(true).truncate(false).write(true).open(path);
    let file = open.map_err(|e| LockError::Io(path.to_owned(), e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LockError::Held(path.to_owned())),
        Err(TryLockError::Error(e)) => Err(LockError::Io(path.to_owned(), e)),
    }
}

/// Removes the files of uploads that ended with the process: `<namespace UID>/sha256/<hex>#<n>`.
fn remove_staged(dir: &Path) -> io::Result<()> {
    for namespace in fs::read_dir(dir)? {
        let blobs = namespace?.path().join("sha256");
        let files = match fs::read_dir(&blobs) {
            Ok(files) => files,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(e) => return Err(e),
        };
        for file in files {
            let file = file?;
            if file.file_name().to_string_lossy().contains(STAGED) {
                fs::remove_file(file.path())?;
            }
        }
    }
    Ok(())
}

/// Could this be the UID of a Kubernetes object? Letters, digits and dashes only.
fn is_uid(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn key(namespace_uid: &str, digest: &str) -> Result<Key, Error> {
    let hex = digest.strip_prefix(DIGEST_PREFIX).filter(|_| is_uid(namespace_uid) && is_digest(digest));
    hex.map(|hex| Key::from_iter([namespace_uid, "sha256", hex]))
        .ok_or_else(|| Error::Key { namespace_uid: namespace_uid.to_owned(), digest: digest.to_owned() })
}

/// Tells a full volume from any other failure by the system's error at the root of the chain.
fn backend(doing: String, source: object_store::Error) -> Error {
    let mut cause = source.source();
    while let Some(e) = cause {
        if e.downcast_ref::<io::Error>().is_some_and(is_full) {
            return Error::Full { doing };
        }
        cause = e.source();
    }
    Error::Backend { doing, source }
}

/// Does the system say that there is no room?
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests;
