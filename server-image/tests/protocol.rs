//! The Open Inference Protocol's REST routes over a real connection.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails where it stands")]

mod common;

use std::time::Duration;

use common::{Running, start};
use hyper::StatusCode;
use serde_json::{Value, json};
use vitrine_server::config::Limits;

async fn server() -> Running {
    start(Limits::default(), Duration::ZERO).await
}

fn tensor(name: &str, data: &Value) -> Value {
    json!({"name": name, "shape": [data.as_array().unwrap().len()], "datatype": "BYTES", "data": data})
}

#[tokio::test]
async fn health_and_metadata_have_the_protocols_form() {
    let server = server().await;
    let mut client = server.client().await;
    let mut get = async |path: &str| client.get(path).await.unwrap();
    assert_eq!(get("/v2/health/live").await.json(), json!({"live": true}));
    assert_eq!(get("/v2/health/ready").await.json(), json!({"live": true, "ready": true}));
    for path in ["/v2", "/v2/"] {
        let json = get(path).await.json();
        assert_eq!(
            (json["name"].as_str(), &json["extensions"]),
            (Some("vitrine-server"), &json!([])),
            "{path}"
        );
        assert!(json["version"].is_string());
    }
    for path in ["/v2/models/rakuten", "/v2/models/rakuten/versions/7"] {
        let json = get(path).await.json();
        assert_eq!(json["name"], "rakuten");
        assert_eq!(json["versions"], json!(["7"]));
        assert!(json["platform"].is_string());
        assert_eq!(json["inputs"][1], json!({"name": "description", "datatype": "BYTES", "shape": [-1]}));
        assert_eq!(
            json["outputs"][3],
            json!({"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]})
        );
        let ready = get(&format!("{path}/ready")).await;
        assert_eq!((ready.status, ready.json()), (StatusCode::OK, json!({"name": "rakuten", "ready": true})));
    }
}

#[tokio::test]
async fn other_models_and_versions_are_not_found() {
    let server = server().await;
    let mut client = server.client().await;
    for path in [
        "/v2/models/other",
        "/v2/models/rakuten/versions/8",
        "/v2/models/..%2frakuten",
        "/v2/models/rakuten%252f",
    ] {
        for path in [path.to_owned(), format!("{path}/ready")] {
            let answer = client.get(&path).await.unwrap();
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
            assert!(answer.json()["error"].is_string(), "{path}");
        }
        let answer = client.post(&format!("{path}/infer"), "{}").await.unwrap();
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    let answer = client.get("/v2/nothing").await.unwrap();
    assert!(answer.status == StatusCode::NOT_FOUND && answer.json()["error"].is_string());
}

#[tokio::test]
async fn inference_answers_label_and_probability_and_echoes_the_id() {
    let server = server().await;
    let request = json!({
        "id": "42", "parameters": {"trace": "x"},
        "inputs": [tensor("designation", &json!(["console", null])), tensor("description", &json!([null, "livre"]))],
    });
    for path in ["/v2/models/rakuten/infer", "/v2/models/rakuten/versions/7/infer"] {
        let answer = server.post(path, request.to_string()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let json = answer.json();
        assert_eq!((&json["id"], &json["parameters"]), (&json!("42"), &json!({"trace": "x"})));
        assert_eq!((&json["model_name"], &json["model_version"]), (&json!("rakuten"), &json!("7")));
        let outputs = json["outputs"].as_array().unwrap();
        assert_eq!(outputs.len(), 2);
        assert_eq!(
            outputs[0],
            json!({"name": "label", "shape": [2], "datatype": "BYTES", "data": ["50", "10"]})
        );
        assert_eq!((&outputs[1]["name"], &outputs[1]["shape"]), (&json!("probability"), &json!([2])));
    }
    let without = json!({"inputs": [tensor("designation", &json!(["console"]))]}).to_string();
    let json = server.post("/v2/models/rakuten/infer", without).await.json();
    assert!(json.get("id").is_none() && json.get("parameters").is_none(), "{json}");
}

#[tokio::test]
async fn outputs_come_as_they_are_asked_for_and_agree_with_predict() {
    let server = server().await;
    let request = json!({
        "inputs": [{"name": "designation", "shape": [2, 1], "datatype": "BYTES", "data": [["jeu vidéo"], ["roman"]]}],
        "outputs": [{"name": "probabilities"}, {"name": "name"}, {"name": "probability"}],
    });
    let json = server.post("/v2/models/rakuten/infer", request.to_string()).await.json();
    let outputs = json["outputs"].as_array().unwrap();
    let names: Vec<&Value> = outputs.iter().map(|output| &output["name"]).collect();
    assert_eq!(names, ["probabilities", "name", "probability"]);
    assert_eq!((&outputs[0]["shape"], &outputs[0]["datatype"]), (&json!([2, 3]), &json!("FP32")));
    assert_eq!(outputs[1]["data"], json!(["Games", "Books"]));
    let rows = json!([{"designation": "jeu vidéo"}, {"designation": "roman"}]).to_string();
    let predicted = server.post("/predict", rows).await.json();
    for row in 0..2 {
        let probability = &predicted["predictions"][row]["probability"];
        assert_eq!(probability, &outputs[2]["data"][row]);
        // classes of the model in order: Garden, Games, Books
        assert_eq!(probability, &outputs[0]["data"][row * 3 + 1 + row]);
    }
}

#[tokio::test]
async fn wrong_tensors_are_refused_in_the_protocols_form() {
    let server = server().await;
    let mut client = server.client().await;
    let good = || tensor("designation", &json!(["a", "b"]));
    let with = |key: &str, value: Value| {
        let mut input = good();
        input[key] = value;
        json!({ "inputs": [input] })
    };
    for (request, word) in [
        (json!({}), "missing field `inputs`"),
        (json!({"inputs": []}), "no row"),
        (json!({"inputs": [tensor("designation", &json!([]))]}), "no row"),
        (with("name", json!("title")), "this model reads designation, description"),
        (with("datatype", json!("FP32")), "must be BYTES"),
        (with("shape", json!([3])), "shape says 3 rows, data has 2"),
        (with("shape", json!([2, 2])), "[n] or [n, 1]"),
        (with("shape", json!([-2])), "inference request"),
        (with("shape", json!([18_446_744_073_709_551_615_u64])), "data has 2"),
        (with("data", json!(["a", 5])), "element 1 must be a text, found a number"),
        (with("data", json!(["a", ["b", "c"]])), "found a list"),
        (with("data", json!(["a", " "])), "row 1 has no text"),
        (with("parameters", json!({"content_type": "base64"})), "base64"),
        (json!({"inputs": [good(), good()]}), "sent twice"),
        (
            json!({"inputs": [good(), tensor("description", &json!(["a"]))]}),
            "1 rows, but input \"designation\" has 2",
        ),
        (json!({"inputs": [good()], "outputs": [{"name": "score"}]}), "unknown output"),
        (json!({"inputs": [good()], "outputs": [{"name": "label"}, {"name": "label"}]}), "twice"),
        (json!([1]), "inference request"),
    ] {
        let answer = client.post("/v2/models/rakuten/infer", request.to_string()).await.unwrap();
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{request}");
        let json = answer.json();
        let error = json["error"].as_str().unwrap();
        assert!(error.contains(word), "{request}: {error}");
    }
    let answer = client.post("/v2/models/rakuten/infer", "{\"inputs\":").await.unwrap();
    assert!(
        answer.status == StatusCode::BAD_REQUEST && answer.text().contains("line 1 column"),
        "{}",
        answer.text()
    );
}
