//! What the server is to do, resolved once at start.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use vitrine_contract::gateway::Gateway;

use crate::siblings;

/// What the server is to do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address to listen on; none: all addresses.
    pub address: Option<IpAddr>,
    /// Port to listen on; 0: any free one.
    pub port: u16,
    /// Model name, as clients address it.
    pub name: String,
    /// Version in the registry; 0 outside of one.
    pub version: i64,
    /// Where the model comes from.
    pub source: Source,
    /// For how long a server that was told to stop still answers.
    pub drain: Duration,
    /// Bounds on what clients may ask for.
    pub limits: Limits,
}

/// Where the model comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file at hand.
    File(PathBuf),
    /// A sibling, or the operator's gateway.
    Gateway {
        /// How to reach it.
        gateway: Gateway,
        /// `sha256:` digest of the artifact.
        digest: String,
        /// The projected token.
        token: PathBuf,
        /// Where the file is kept; it survives a restart of the container.
        work_dir: PathBuf,
        /// Pods that have the same model, or shall have it.
        siblings: Box<siblings::Settings>,
    },
}

/// Bounds on what clients may ask for.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest request body in bytes.
    pub max_body_bytes: usize,
    /// Bytes of request bodies held at once, over all requests.
    pub max_buffered_bytes: usize,
    /// Predictions worked on or waiting at once; beyond it the answer is 429.
    pub max_concurrency: usize,
    /// Rows in one request.
    pub max_items: usize,
    /// Open connections; a newer one is closed at once.
    pub max_connections: usize,
    /// From the first byte of a request's head to its end.
    pub head: Duration,
    /// Silence between two requests of a connection. Longer than load balancers keep theirs
    /// (up to 10 minutes), so that it is the client's side that closes: a server that closes an
    /// idle connection can cross a request that is on its way.
    pub idle: Duration,
    /// From the end of the head to the end of the body.
    pub body: Duration,
    /// From the end of the head to the answer.
    pub request: Duration,
    /// For how long a client may take nothing of an answer.
    pub write: Duration,
    /// For how long requests under way may go on after the port is closed.
    pub finish: Duration,
}

impl Limits {
    /// The limits that the operator's config leaves open get their defaults.
    pub fn of(max_body_bytes: usize, max_concurrency: usize) -> Self {
        Self {
            max_body_bytes,
            max_buffered_bytes: max_body_bytes.saturating_mul(4).max(32 << 20),
            max_concurrency,
            ..Self::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body_bytes: 1 << 20,
            max_buffered_bytes: 32 << 20,
            max_concurrency: 256,
            max_items: 4096,
            max_connections: 8192,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(650),
            body: Duration::from_secs(10),
            request: Duration::from_secs(30),
            write: Duration::from_secs(30),
            finish: Duration::from_secs(5),
        }
    }
}
