//! `POST /v2/models/{model}[/versions/{version}]/infer`: the Open Inference Protocol's REST form.
//!
//! Inputs: one BYTES tensor per text column, shape `[n]` or `[n, 1]`, elements are JSON texts (or
//! null for a missing cell, which the protocol leaves open); a column that is not sent is missing.
//! Outputs: `label` and `probability`; on request also `name` and `probabilities`, which would
//! make every answer as wide as the number of classes.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::value::RawValue;

use super::error::Problem;
use super::json::Refused;
use super::tensors::{Reader, Tensor};
use super::{body, metadata, score};
use crate::app::App;
use crate::served::Served;

#[derive(Serialize)]
struct InferResponse<'a> {
    model_name: &'a str,
    model_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a RawValue>,
    outputs: Vec<Output<'a>>,
}

#[derive(Serialize)]
struct Output<'a> {
    name: &'static str,
    shape: Vec<usize>,
    datatype: &'static str,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Texts(Vec<&'a str>),
    Numbers(Vec<f32>),
}

/// What is kept of a row.
struct Kept {
    class: usize,
    probability: f32,
    all: Vec<f32>,
}

/// Answers an inference request.
pub async fn infer(
    State(app): State<Arc<App>>,
    Path(address): Path<metadata::Address>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    metadata::known(&app, &address)?;
    answer(&app, &headers, body).await.map_err(Problem::in_protocol)
}

async fn answer(app: &Arc<App>, headers: &HeaderMap, body: Body) -> Result<Response, Problem> {
    let served = metadata::served(app)?;
    let payload = body::receive(app, headers, body).await?;
    let request = {
        let refused = Refused::default();
        let reader = Reader { columns: served.columns(), most: app.limits.max_items, refused: &refused };
        payload.read(&refused, reader)?
    };
    let table = request.table;
    let wanted = match request.outputs {
        none if none.is_empty() => vec![Tensor::Label, Tensor::Probability],
        wanted => wanted,
    };
    let every = wanted.contains(&Tensor::Probabilities);
    let kept = score::score(app, served, table, move |prediction| {
        let class = prediction.class();
        let all = if every { prediction.probabilities.clone() } else { Vec::new() };
        Kept { class, probability: prediction.probabilities[class], all }
    })
    .await?;
    let response = InferResponse {
        model_name: &app.name,
        model_version: app.version.to_string(),
        id: request.id,
        parameters: request.parameters,
        outputs: wanted.iter().map(|tensor| output(*tensor, served, &kept)).collect(),
    };
    Ok(Json(response).into_response())
}

fn output<'a>(tensor: Tensor, served: &'a Served, kept: &[Kept]) -> Output<'a> {
    let rows = kept.len();
    let classes = served.classes();
    let texts = |text: fn(&'a vitrine_model::Class) -> &'a str| {
        Data::Texts(kept.iter().map(|row| text(&classes[row.class])).collect())
    };
    match tensor {
        Tensor::Label => {
            Output { name: "label", shape: vec![rows], datatype: "BYTES", data: texts(|c| &c.label) }
        }
        Tensor::Name => {
            Output { name: "name", shape: vec![rows], datatype: "BYTES", data: texts(|c| &c.name) }
        }
        Tensor::Probability => {
            let data = Data::Numbers(kept.iter().map(|row| row.probability).collect());
            Output { name: "probability", shape: vec![rows], datatype: "FP32", data }
        }
        Tensor::Probabilities => {
            let data = Data::Numbers(kept.iter().flat_map(|row| &row.all).copied().collect());
            Output { name: "probabilities", shape: vec![rows, classes.len()], datatype: "FP32", data }
        }
    }
}
