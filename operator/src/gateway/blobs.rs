//! Blobs in and out.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{self, error::SendTimeoutError};
use tokio::time::timeout;
use vitrine_contract::is_digest;

use super::Shared;
use super::answer::Refusal;
use super::authorise::{Operation, authorise};
use super::identity::{IdentifyError, Identity, Workload};
use crate::registry::blobs::Writer;

/// Most bytes of an unwanted body that are read, so that the sender sees the answer.
const DISCARD: usize = 1024 * 1024;
/// Longest time for that.
const DISCARD_TIME: Duration = Duration::from_secs(2);
/// Pieces (of 8 KiB) that are read ahead of a reader.
const AHEAD: usize = 16;

/// `GET /v1/blobs/{digest}`
pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> Response {
    shared.counted(Operation::ReadBlob, read(&shared, &digest, &headers).await)
}

/// `PUT /v1/blobs/{digest}`
pub(super) async fn put(
    State(shared): State<Arc<Shared>>,
    Path(digest): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let mut body = body.into_data_stream();
    let result = write(&shared, &digest, &headers, &mut body).await;
    // A sender that waits for "100 Continue" has sent nothing yet. Any other one may be deaf while
    // it sends: a small rest is read, or it would see a broken connection in place of the answer.
    if !headers.contains_key(header::EXPECT) {
        discard(&mut body).await;
    }
    shared.counted(Operation::WriteBlob, result)
}

impl Shared {
    /// Who sends this, if it may do that.
    pub(super) async fn admit(
        &self,
        headers: &HeaderMap,
        operation: Operation,
        digest: Option<&str>,
    ) -> Result<Identity, Refusal> {
        let token = bearer(headers).ok_or_else(|| {
            IdentifyError::Unauthenticated("the request carries no bearer token".to_owned())
        })?;
        let identity = self.state.identify.identify(token).await?;
        if digest.is_some_and(|d| !is_digest(d)) {
            return Err(Refusal::invalid("the address must end with sha256: and 64 lower-case hex digits"));
        }
        authorise(&identity, operation, digest)?;
        Ok(identity)
    }

    /// Counts the answer and turns a refusal into one.
    pub(super) fn counted(&self, operation: Operation, result: Result<Response, Refusal>) -> Response {
        let response = result.unwrap_or_else(|refusal| {
            let Refusal { status, reason, message } = &refusal;
            tracing::info!(
                operation = operation.as_str(),
                status = status.as_u16(),
                reason,
                message,
                "refused"
            );
            refusal.into_response()
        });
        self.state.metrics.answered(operation, response.status().as_u16());
        response
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let turn = Arc::clone(&self.transfers).acquire_owned();
        let busy = || Refusal::unavailable("too many transfers at once: try again");
        timeout(self.state.limits.queue, turn).await.map_err(|_| busy())?.map_err(|_| busy())
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

async fn read(shared: &Shared, digest: &str, headers: &HeaderMap) -> Result<Response, Refusal> {
    let identity = shared.admit(headers, Operation::ReadBlob, Some(digest)).await?;
    let turn = shared.turn().await?;
    let found = shared.state.store.get(&identity.namespace_uid, digest).await?;
    let reading = found.ok_or_else(|| {
        let message = format!("namespace {} has no blob {digest}", identity.namespace);
        Refusal::new(StatusCode::NOT_FOUND, "NotFound", message)
    })?;
    let metrics = shared.state.metrics.clone();
    let stream = reading.stream.inspect(move |piece| {
        if let Ok(piece) = piece {
            metrics.went_out(piece.len() as u64);
        }
    });
    let mut response = Body::from_stream(taken(stream, turn, shared.state.limits.stall)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(reading.bytes));
    Ok(response)
}

async fn write(
    shared: &Shared,
    digest: &str,
    headers: &HeaderMap,
    body: &mut BodyDataStream,
) -> Result<Response, Refusal> {
    let identity = shared.admit(headers, Operation::WriteBlob, Some(digest)).await?;
    let Workload::Job { uid: job_uid, .. } = &identity.workload else {
        return Err(Refusal::invalid("only pods of Jobs store blobs"));
    };
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let length = length.ok_or_else(|| {
        Refusal::new(StatusCode::LENGTH_REQUIRED, "InvalidRequest", "an upload needs its Content-Length")
    })?;
    let limit = shared.state.limits.blob_bytes;
    if length > limit {
        return Err(Refusal::too_large(format!(
            "a blob of {length} bytes is above the limit of {limit} bytes"
        )));
    }
    let namespace_uid = &identity.namespace_uid;
    let known = stored(shared, namespace_uid, digest).await?;
    if let Some(bytes) = known.filter(|bytes| *bytes != length) {
        let message = format!("digest mismatch: {digest} has {bytes} bytes, {length} were announced");
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "DigestMismatch", message));
    }
    let _turn = shared.turn().await?;
    if known.is_some() {
        if shared.state.store.verify(namespace_uid, digest).await? {
            return Ok(StatusCode::OK.into_response());
        }
        // Bytes that rotted on the volume are taken anew, or nothing could ever repair them.
        tracing::warn!(namespace = identity.namespace, digest, "stored blob is damaged: replacing it");
    }
    let pieces = unstalled(body, shared.state.limits.stall);
    shared.state.store.put(namespace_uid, digest, length, pieces).await?;
    shared.state.metrics.came_in(length);
    let writer = Writer { owner_uid: &identity.owner.uid, job_uid };
    shared.state.registry.record_blob(namespace_uid, digest, length, writer).await?;
    tracing::info!(namespace = identity.namespace, pod = identity.pod, digest, bytes = length, "stored blob");
    Ok(StatusCode::CREATED.into_response())
}

/// Size of a blob that is recorded and has that size in the store.
async fn stored(shared: &Shared, namespace_uid: &str, digest: &str) -> Result<Option<u64>, Refusal> {
    let Some(recorded) = shared.state.registry.blob(namespace_uid, digest).await? else { return Ok(None) };
    let size = shared.state.store.size(namespace_uid, digest).await?;
    Ok(size.filter(|size| *size == recorded))
}

/// The pieces on their way to a reader. The permit goes with them, not with the handler, and it is
/// given back when the reader takes nothing for long: hyper asks for no piece while the connection
/// is blocked, so only a task of its own can notice. The body then ends short of its length.
fn taken<S>(stream: S, turn: OwnedSemaphorePermit, stall: Duration) -> impl Stream<Item = io::Result<Bytes>>
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let _turn = turn;
        let mut stream = std::pin::pin!(stream);
        while let Some(piece) = stream.next().await {
            match sender.send_timeout(piece, stall).await {
                Ok(()) => {}
                Err(SendTimeoutError::Timeout(_)) => {
                    return tracing::info!(seconds = stall.as_secs(), "a reader takes nothing: given up");
                }
                Err(SendTimeoutError::Closed(_)) => return,
            }
        }
    });
    futures::stream::unfold(receiver, async |mut receiver| {
        let piece = receiver.recv().await?;
        Some((piece, receiver))
    })
}

/// The body's pieces, ending with an error after a long silence.
fn unstalled(body: &mut BodyDataStream, stall: Duration) -> impl Stream<Item = Result<Bytes, String>> {
    futures::stream::unfold(Some(body), move |body| async move {
        let body = body?;
        match timeout(stall, body.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some(body))),
            Ok(Some(Err(e))) => Some((Err(e.to_string()), None)),
            Err(_) => Some((Err(format!("no bytes for {} s", stall.as_secs())), None)),
        }
    })
}

async fn discard(body: &mut BodyDataStream) {
    let mut left = DISCARD;
    let rest = async {
        while let Some(Ok(piece)) = body.next().await {
            match left.checked_sub(piece.len()) {
                Some(less) => left = less,
                None => break,
            }
        }
    };
    // Whether it was read to its end does not matter: the connection is closed if not.
    let _ = timeout(DISCARD_TIME, rest).await;
}
