//! `/healthz`, `/readyz` and `/metrics`. Healthy means that the process works; ready means that it
//! can do its part. A process that cannot reach the cluster is alive but not ready: killing it
//! would help nobody.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::registry::Registry;

/// Longest time until a request's head is read (hazard H7: hyper waits for ever by default).
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time to ask the registry.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections at once.
const CONNECTIONS: usize = 1024;
/// Connections of one address at once: probes and scrapes need few. Any pod can reach this port; one that
/// holds as many as it gets must not keep the kubelet out, which would kill this process.
const OF_ONE_PEER: usize = 8;
/// Longest life of a connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(2);

/// What `/readyz` looks at.
#[derive(Debug, Default)]
pub struct Health {
    /// The caches were filled once.
    pub synced: AtomicBool,
    /// The gateway listens.
    pub gateway: AtomicBool,
    /// Parts that this process does not play count as ready.
    pub controller_wanted: bool,
    /// As above.
    pub gateway_wanted: bool,
}

/// What the handlers need.
#[derive(Clone, Debug)]
pub struct App {
    /// Readiness.
    pub health: Arc<Health>,
    /// Counters.
    pub metrics: Metrics,
    /// Registry.
    pub registry: Registry,
}

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, app: App, stop: CancellationToken) {
    let router = router(app);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut peers: HashMap<IpAddr, Arc<Semaphore>> = HashMap::new();
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        while open.try_join_next().is_some() {}
        let (socket, peer) = match accepted {
            Ok((socket, address)) => (socket, address.ip()),
            Err(error) => {
                // such as too many open files: wait for some to close
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        peers.retain(|_, slots| slots.available_permits() < OF_ONE_PEER);
        let of_peer = peers.entry(peer).or_insert_with(|| Arc::new(Semaphore::new(OF_ONE_PEER)));
        let Ok(slot_of_peer) = of_peer.clone().try_acquire_owned() else { continue };
        let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
        let service = TowerToHyperService::new(router.clone());
        open.spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(socket), service);
            // a broken connection is the client's affair
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
            drop((slot, slot_of_peer));
        });
    }
}

fn router(app: App) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(app)
}

async fn ready(State(app): State<App>) -> Response {
    let health = &app.health;
    let mut lacks: Vec<String> = Vec::new();
    if health.controller_wanted && !health.synced.load(Ordering::Acquire) {
        lacks.push("caches are not synced: is the cluster reachable, are the CRDs installed?".into());
    }
    if health.gateway_wanted && !health.gateway.load(Ordering::Acquire) {
        lacks.push("the gateway does not listen".into());
    }
    match tokio::time::timeout(PING_TIMEOUT, app.registry.ping()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => lacks.push(format!("the registry: {error}")),
        Err(_) => lacks.push("the registry does not answer".into()),
    }
    if lacks.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", lacks.join("\n"))).into_response()
}

async fn metrics(State(app): State<App>) -> Response {
    match app.metrics.text() {
        Ok(text) => {
            ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
                .into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
