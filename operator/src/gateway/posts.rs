//! Progress and results.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use vitrine_contract::gateway::MAX_POST;
use vitrine_contract::report::{Message, Progress};

use super::Shared;
use super::answer::Refusal;
use super::authorise::Operation;
use super::identity::{Identity, Workload};

/// `POST /v1/progress`
pub(super) async fn progress(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Body) -> Response {
    shared.counted(Operation::PostProgress, take_progress(&shared, &headers, body).await)
}

/// `POST /v1/result`
pub(super) async fn result(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Body) -> Response {
    shared.counted(Operation::PostResult, take_result(&shared, &headers, body).await)
}

async fn take_progress(shared: &Shared, headers: &HeaderMap, body: Body) -> Result<Response, Refusal> {
    let identity = shared.admit(headers, Operation::PostProgress, None).await?;
    let mut progress: Progress = parsed(shared, headers, body).await?;
    progress.percentage = progress.percentage.min(100);
    let job = job_uid(&identity)?;
    shared.state.registry.post_progress(&identity.namespace_uid, job, &progress).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn take_result(shared: &Shared, headers: &HeaderMap, body: Body) -> Result<Response, Refusal> {
    let identity = shared.admit(headers, Operation::PostResult, None).await?;
    let message: Message = parsed(shared, headers, body).await?;
    let (job, pod) = (job_uid(&identity)?, &identity.pod_uid);
    shared.state.registry.post_result(&identity.namespace_uid, job, pod, &message).await?;
    tracing::info!(namespace = identity.namespace, pod = identity.pod, "stored result");
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn job_uid(identity: &Identity) -> Result<&str, Refusal> {
    match &identity.workload {
        Workload::Job { uid, .. } => Ok(uid),
        Workload::Serving { .. } => Err(Refusal::invalid("only pods of Jobs report")),
    }
}

async fn parsed<T: DeserializeOwned>(shared: &Shared, headers: &HeaderMap, body: Body) -> Result<T, Refusal> {
    let too_large = || Refusal::too_large(format!("a post holds at most {MAX_POST} bytes"));
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|n| n > MAX_POST) {
        return Err(too_large());
    }
    let body = timeout(shared.state.limits.stall, to_bytes(body, MAX_POST)).await;
    let bytes =
        body.map_err(|_| Refusal::invalid("the post did not end in time"))?.map_err(|_| too_large())?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Refusal::invalid(format!("the post is not what it should be: {e}")))
}
