//! What the server and its model say about themselves.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Problem;
use crate::app::App;
use crate::served::Served;

/// A model as an address names it.
#[derive(Debug, Clone, Deserialize)]
pub struct Address {
    model: String,
    version: Option<String>,
}

/// Refuses another model or version than the one that is served.
pub fn known(app: &App, address: &Address) -> Result<(), Problem> {
    let served = app.version.to_string();
    if address.model != app.name {
        let message = format!("no model {:?} here, only {:?}", address.model, app.name);
        return Err(Problem::not_found(message).in_protocol());
    }
    match &address.version {
        Some(version) if *version != served => {
            let message = format!("no version {version:?} of model {:?} here, only {served:?}", app.name);
            Err(Problem::not_found(message).in_protocol())
        }
        _ => Ok(()),
    }
}

/// The model, or why there is none yet.
pub fn served(app: &App) -> Result<&Arc<Served>, Problem> {
    app.served().ok_or_else(|| {
        let step = app.step();
        let trouble = step.trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default();
        Problem::not_ready(&format!("{}{trouble}", step.name))
    })
}

/// `GET /v1/model`: the identity, to be compared with registry and status.
pub async fn identity(State(app): State<Arc<App>>) -> Result<Json<Value>, Problem> {
    let served = served(&app)?;
    let (identity, info) = (served.identity(), served.model().info());
    Ok(Json(json!({
        "name": identity.name,
        "version": identity.version,
        "digest": identity.digest,
        "datasetDigest": info.dataset_digest,
        "formatVersion": info.format_version,
        "algorithm": info.algorithm,
        "textColumns": info.text_columns,
        "classes": info.classes,
        "features": served.model().features(),
        "probes": served.model().probes(),
        "bytes": served.model().bytes().len(),
    })))
}

/// `GET /v2`.
pub async fn server() -> Json<Value> {
    Json(json!({"name": "vitrine-server", "version": env!("CARGO_PKG_VERSION"), "extensions": []}))
}

/// `GET /v2/models/{model}[/versions/{version}]`.
pub async fn model(
    State(app): State<Arc<App>>,
    Path(address): Path<Address>,
) -> Result<Json<Value>, Problem> {
    known(&app, &address)?;
    let served = served(&app).map_err(Problem::in_protocol)?;
    let tensor = |name: &str, datatype: &str, shape: &[i64]| json!({"name": name, "datatype": datatype, "shape": shape});
    let inputs: Vec<Value> = served.columns().iter().map(|column| tensor(column, "BYTES", &[-1])).collect();
    let classes = served.classes().len() as i64;
    let outputs = [
        tensor("label", "BYTES", &[-1]),
        tensor("probability", "FP32", &[-1]),
        tensor("name", "BYTES", &[-1]),
        tensor("probabilities", "FP32", &[-1, classes]),
    ];
    Ok(Json(json!({
        "name": app.name,
        "versions": [app.version.to_string()],
        "platform": format!("vitrine_safetensors_v{}", served.model().info().format_version),
        "inputs": inputs,
        "outputs": outputs,
    })))
}
