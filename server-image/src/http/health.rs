//! Liveness and readiness. Live: the process answers. Ready: a verified model is there and the
//! server was not told to stop. Neither is ever shed.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::error::Problem;
use super::metadata::{Address, known};
use crate::app::App;

/// `GET /v2/health/live`.
pub async fn live() -> Json<Value> {
    Json(json!({"live": true}))
}

/// `GET /v2/health/ready`: 503 names the step that is under way.
pub async fn ready(State(app): State<Arc<App>>) -> Response {
    if app.ready() {
        return Json(json!({"live": true, "ready": true})).into_response();
    }
    let step = app.step();
    let name = if app.draining() { "draining" } else { step.name };
    let mut body = json!({"live": true, "ready": false, "step": name});
    if let Some(trouble) = step.trouble {
        body["trouble"] = trouble.into();
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

/// `GET /v2/models/{model}[/versions/{version}]/ready`.
pub async fn model_ready(
    State(app): State<Arc<App>>,
    Path(address): Path<Address>,
) -> Result<Response, Problem> {
    known(&app, &address)?;
    let status = if app.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(json!({"name": app.name, "ready": app.ready()}))).into_response())
}
