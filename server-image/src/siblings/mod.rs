//! The other side of a start without the operator: pods that have the model give it to pods of the
//! same namespace that ask with their projected token.
//!
//! It has a port of its own, so that no Service for predictions leads here, and it never asks
//! anybody who a caller is: that is the point.

mod crypto;
mod keys;
mod token;
mod transfer;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::fs::File;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use vitrine_contract::gateway::{BLOBS, ErrorBody, ErrorDetail};
use vitrine_contract::siblings::Siblings;

use crate::app::App;
use crate::config::Limits;
use crate::conn::Acceptor;
use crate::metrics::Given;
use crate::server;
use keys::Keys;
use token::Refusal;
use transfer::Transfer;

/// Transfers at once. Predictions come first: what waits asks again, here or elsewhere.
const TRANSFERS: usize = 2;
/// Open connections.
const CONNECTIONS: usize = 64;
/// Silence of a connection after which it is closed.
const IDLE: Duration = Duration::from_secs(10);

/// What a server needs to give its model away, and to get one.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where siblings are and whom to believe, as the config said at start.
    pub known: Option<Siblings>,
    /// The config file, to be read again when a caller shows a key that is not known.
    pub config: PathBuf,
    /// The projected token that siblings take.
    pub token: PathBuf,
    /// Port to listen on; 0: any free one.
    pub port: u16,
}

/// State of the routes.
struct Shelf {
    app: Arc<App>,
    keys: Keys,
    digest: String,
    file: PathBuf,
    places: Arc<Semaphore>,
}

/// Ends its task with itself.
#[derive(Debug)]
pub struct Giving(JoinHandle<()>);

impl Drop for Giving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Gives the file with that digest away as soon as the server is ready. Without its port it does
/// not: predictions do not depend on it.
pub fn start(
    app: &Arc<App>,
    settings: Settings,
    address: Option<IpAddr>,
    digest: String,
    file: PathBuf,
) -> Giving {
    let keys = Keys::new(settings.known.as_ref(), settings.config);
    let places = Arc::new(Semaphore::new(TRANSFERS));
    let shelf = Shelf { app: Arc::clone(app), keys, digest, file, places };
    let limits = Limits { max_connections: CONNECTIONS, idle: IDLE, ..app.limits.clone() };
    let router = Router::new().route(&format!("{BLOBS}{{digest}}"), get(give)).with_state(Arc::new(shelf));
    let acceptor = Acceptor::with(Arc::clone(app), router, limits);
    Giving(tokio::spawn(async move {
        match server::bind(address, settings.port, "listening for siblings").await {
            Ok(listener) => acceptor.run(&listener, &GracefulShutdown::new()).await,
            Err(failure) => tracing::warn!("siblings cannot fetch the model from here: {failure}"),
        }
    }))
}

/// `GET /v1/blobs/{digest}`.
async fn give(
    State(shelf): State<Arc<Shelf>>,
    Path(asked): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let result = shelf.answer(&asked, &headers).await;
    let given = result.as_ref().map_or_else(|problem| problem.given, |_| Given::sent);
    shelf.app.metrics.given(given);
    result
}

impl Shelf {
    async fn answer(&self, asked: &str, headers: &HeaderMap) -> Result<Response, Problem> {
        let pod = self.caller(headers).await?;
        if asked != self.digest {
            let message = format!("only {} is here", self.digest);
            return Err(Problem::new(StatusCode::NOT_FOUND, Given::not_found, "NotFound", message));
        }
        if self.app.served().is_none() {
            return Err(Problem::later(Given::not_ready, "NotReady", "the model is not ready here yet"));
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let message = format!("{TRANSFERS} siblings are being served already");
            return Err(Problem::later(Given::busy, "Overloaded", message));
        };
        let opened = async {
            let file = File::open(&self.file).await?;
            let bytes = file.metadata().await?.len();
            std::io::Result::Ok((file, bytes))
        };
        let (file, bytes) = opened.await.map_err(|error| {
            tracing::warn!(path = %self.file.display(), %error, "the model's file cannot be given to a sibling");
            Problem::later(Given::not_ready, "NotReady", format!("the file cannot be read: {error}"))
        })?;
        tracing::info!(pod, bytes, "giving the model to a sibling");
        let body = Body::new(Transfer::new(file, bytes, self.app.metrics.given_bytes.clone(), place));
        Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
    }

    /// Name of the pod that asks.
    async fn caller(&self, headers: &HeaderMap) -> Result<String, Problem> {
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(token) = value.and_then(|value| value.strip_prefix("Bearer ")) else {
            return Err(Problem::refused(StatusCode::UNAUTHORIZED, "the request carries no token"));
        };
        match self.keys.pod_of(token.trim()).await {
            Some(Ok(pod)) => Ok(pod),
            Some(Err(refusal)) => {
                // all are counted; anybody in the cluster can send nonsense, as often as they like
                if matches!(refusal, Refusal::Foreign(_)) {
                    tracing::warn!(reason = %refusal, "a caller for the model was refused");
                } else {
                    tracing::debug!(reason = %refusal, "a caller for the model was refused");
                }
                let status = match refusal {
                    Refusal::Foreign(_) => StatusCode::FORBIDDEN,
                    _ => StatusCode::UNAUTHORIZED,
                };
                Err(Problem::refused(status, refusal.to_string()))
            }
            None => {
                let message = "the operator has published no keys to recognise callers by";
                Err(Problem::later(Given::not_ready, "NotReady", message))
            }
        }
    }
}

/// Why the model is not given.
struct Problem {
    status: StatusCode,
    given: Given,
    reason: &'static str,
    message: String,
}

impl Problem {
    fn new(status: StatusCode, given: Given, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, given, reason, message: message.into() }
    }

    fn refused(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, Given::refused, "StorageDenied", message)
    }

    fn later(given: Given, reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, given, reason, message)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let error = ErrorDetail { reason: self.reason.to_owned(), message: self.message };
        let mut response = (self.status, Json(ErrorBody { error })).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
