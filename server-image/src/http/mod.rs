//! Routes, and what holds for all of them: errors, time limit, counting, the drain.

mod body;
mod elements;
mod error;
mod health;
mod json;
mod metadata;
mod oip;
mod predict;
mod score;
mod tensors;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;

use crate::app::App;
use crate::metrics::{CONTENT_TYPE, Route};
use error::Problem;

/// Addresses that `GET /` lists.
const ROUTES: &[&str] = &[
    "POST /predict",
    "GET /v1/model",
    "GET /metrics",
    "GET /v2",
    "GET /v2/health/live",
    "GET /v2/health/ready",
    "GET /v2/models/{model}[/versions/{version}]",
    "GET /v2/models/{model}[/versions/{version}]/ready",
    "POST /v2/models/{model}[/versions/{version}]/infer",
];

/// All routes of the server.
pub fn router(app: &Arc<App>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/predict", post(predict::predict))
        .route("/v1/model", get(metadata::identity))
        .route("/metrics", get(metrics))
        .route("/v2", get(metadata::server))
        .route("/v2/", get(metadata::server))
        .route("/v2/health/live", get(health::live))
        .route("/v2/health/ready", get(health::ready))
        .route("/v2/models/{model}", get(metadata::model))
        .route("/v2/models/{model}/versions/{version}", get(metadata::model))
        .route("/v2/models/{model}/ready", get(health::model_ready))
        .route("/v2/models/{model}/versions/{version}/ready", get(health::model_ready))
        .route("/v2/models/{model}/infer", post(oip::infer))
        .route("/v2/models/{model}/versions/{version}/infer", post(oip::infer))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(app), around))
        .with_state(Arc::clone(app))
}

/// Around every request: its time limit, the farewell of a draining server, and the counting.
async fn around(
    State(app): State<Arc<App>>,
    path: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let route = path.as_ref().map_or(Route::other, |path| route_of(path.as_str()));
    let limit = app.limits.request;
    let mut response = match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::timeout(limit).into_response(),
    };
    if app.draining() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    app.metrics.request(route, response.status().as_u16(), started.elapsed());
    response
}

fn route_of(path: &str) -> Route {
    match path {
        "/predict" => Route::predict,
        "/metrics" => Route::metrics,
        path if path.ends_with("/infer") => Route::infer,
        path if path.starts_with("/v2/health/") || path.ends_with("/ready") => Route::health,
        "/" => Route::other,
        _ => Route::metadata,
    }
}

async fn index(State(app): State<Arc<App>>) -> Response {
    let version = env!("CARGO_PKG_VERSION");
    Json(json!({"server": "vitrine-server", "version": version, "model": app.name, "ready": app.ready(), "routes": ROUTES}))
        .into_response()
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    match app.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => Problem::internal(format!("metrics cannot be written: {error}")).into_response(),
    }
}

async fn not_found(request: Request) -> Response {
    let path = request.uri().path();
    Problem::not_found(format!("no route {path}; GET / lists them")).for_path(path).into_response()
}

async fn wrong_method(request: Request) -> Response {
    let path = request.uri().path();
    let message = format!("{} is not a method of {path}; GET / lists the routes", request.method());
    Problem::wrong_method(message).for_path(path).into_response()
}
