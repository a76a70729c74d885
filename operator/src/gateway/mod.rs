//! The artifact gateway: the only way in which pods of tenants reach the operator. They fetch and
//! store blobs and post progress and results over HTTPS, as who they provably are.
//!
//! Addresses and answers are those of [`vitrine_contract::gateway`]. Who may do what is one pure
//! function, [`authorise`]. No handler touches the cluster: that is [`KubeIdentify`]'s part, and it
//! only reads.

mod answer;
mod authorise;
mod blobs;
mod cache;
mod identity;
mod kube_identity;
mod metrics;
mod posts;
mod serve;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use tokio::sync::Semaphore;
use vitrine_contract::gateway as contract;

pub use authorise::{Denied, Operation, authorise};
pub use identity::{Identify, IdentifyError, Identity, Owner, Workload};
pub use kube_identity::KubeIdentify;
pub use metrics::Metrics;
pub use serve::serve;

use crate::registry::Registry;
use crate::store::Store;

/// What the gateway allows at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest blob in bytes.
    pub blob_bytes: u64,
    /// Uploads and downloads at once; each upload holds about 1 MiB of memory.
    pub transfers: usize,
    /// Connections at once.
    pub connections: usize,
    /// How long a transfer waits for its turn before the answer is 503.
    pub queue: Duration,
    /// Time for a TLS handshake.
    pub handshake: Duration,
    /// Time for a request's head; a kept-alive connection is closed after as long without one.
    pub header: Duration,
    /// Longest silence within an upload, and longest time in which a reader takes nothing.
    pub stall: Duration,
    /// Longest life of a connection: also a reader that takes a byte a minute ends.
    pub connection: Duration,
    /// How long open requests may go on after the shutdown began.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            blob_bytes: 16 << 30,
            transfers: 32,
            connections: 512,
            queue: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(30),
            stall: Duration::from_mins(1),
            connection: Duration::from_hours(1),
            drain: Duration::from_secs(20),
        }
    }
}

/// What the handlers work with.
#[derive(Clone)]
pub struct State {
    /// Records of blobs, progress and results.
    pub registry: Registry,
    /// The blobs.
    pub store: Store,
    /// Who a token belongs to.
    pub identify: Arc<dyn Identify>,
    /// Counters.
    pub metrics: Metrics,
    /// What is allowed at most.
    pub limits: Limits,
}

/// State shared by the handlers.
struct Shared {
    state: State,
    transfers: Arc<Semaphore>,
}

/// The gateway's routes.
pub fn router(state: State) -> Router {
    let transfers = Arc::new(Semaphore::new(state.limits.transfers));
    let shared = Arc::new(Shared { state, transfers });
    Router::new()
        .route(&format!("{}{{digest}}", contract::BLOBS), get(blobs::get).put(blobs::put))
        .route(contract::PROGRESS, post(posts::progress))
        .route(contract::RESULT, post(posts::result))
        .fallback(answer::no_such_address)
        .method_not_allowed_fallback(answer::no_such_method)
        .with_state(shared)
}
