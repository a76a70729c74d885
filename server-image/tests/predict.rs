//! `POST /predict` over a real connection.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails where it stands")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Answer, Running, start};
use http_body_util::Full;
use hyper::{Request, StatusCode};
use serde_json::{Value, json};
use vitrine_server::config::Limits;

async fn server() -> Running {
    start(Limits::default(), Duration::ZERO).await
}

/// Status, reason and field of an error.
fn problem(answer: &Answer) -> (u16, String, Option<String>) {
    let error = &answer.json()["error"];
    let field = error["field"].as_str().map(str::to_owned);
    assert!(!error["message"].as_str().unwrap().is_empty());
    (answer.status.as_u16(), error["reason"].as_str().unwrap().to_owned(), field)
}

#[tokio::test]
async fn one_product_gets_label_name_probability_and_the_models_identity() {
    let server = server().await;
    let answer = server.post("/predict", r#"{"designation":"console de salon","description":null}"#).await;
    assert_eq!(answer.status, StatusCode::OK);
    let json = answer.json();
    let first = &json["predictions"][0];
    assert_eq!((first["label"].as_str(), first["name"].as_str()), (Some("50"), Some("Games")));
    let top = first["top"].as_array().unwrap();
    assert_eq!(top.len(), 3);
    assert_eq!(top[0]["probability"], first["probability"]);
    let sum: f64 = top.iter().map(|t| t["probability"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-5, "{sum}");
    assert_eq!(json["model"], json!({"name": "rakuten", "version": 7, "digest": server.digest}));
}

#[tokio::test]
async fn a_batch_gives_each_row_what_it_gets_alone() {
    let server = server().await;
    let texts = ["livre", "piscine de jardin", "manette", "zzz unknown words", "é&amp;à <b>jeu</b>"];
    let items: Vec<Value> = texts.iter().cycle().take(40).map(|t| json!({"designation": t})).collect();
    let mut client = server.client().await;
    // above the number of rows that is scored inline, so both paths are compared
    let batch = client.post("/predict", json!({ "items": items }).to_string()).await.unwrap().json();
    let list = client.post("/predict", json!(items).to_string()).await.unwrap().json();
    assert_eq!(batch, list);
    let rows = batch["predictions"].as_array().unwrap();
    assert_eq!(rows.len(), 40);
    for (item, row) in items.iter().zip(rows) {
        let alone = client.post("/predict", item.to_string()).await.unwrap().json();
        assert_eq!(&alone["predictions"][0], row, "{item}");
    }
}

#[tokio::test]
async fn top_k_says_how_many_classes_are_told() {
    let server = server().await;
    for (query, told) in [("", 3), ("?top_k=1", 1), ("?top_k=99", 3)] {
        let answer = server.post(&format!("/predict{query}"), r#"{"designation":"livre"}"#).await.json();
        assert_eq!(answer["predictions"][0]["top"].as_array().unwrap().len(), told, "{query}");
    }
    for query in ["?top_k=0", "?top_k=-1", "?top_k=x", "?top_k", "?topk=3"] {
        let answer = server.post(&format!("/predict{query}"), r#"{"designation":"livre"}"#).await;
        assert_eq!(problem(&answer).1, "InvalidQuery", "{query}");
    }
}

#[tokio::test]
async fn mistakes_are_named_with_their_place() {
    let server = server().await;
    let mut client = server.client().await;
    let at = |field: &str| Some(field.to_owned());
    for (body, reason, field) in [
        (r#"{"title":"livre"}"#, "UnknownField", at("title")),
        (r#"[{"designation":"livre"},{"desc":"x"}]"#, "UnknownField", at("[1].desc")),
        (r#"{"items":[{"designation":"livre"}],"designation":"x"}"#, "UnknownField", at("designation")),
        (r#"{"designation":5}"#, "WrongType", at("designation")),
        (r#"{"items":[{"description":["x"]}]}"#, "WrongType", at("items[0].description")),
        (r#"{"items":[7]}"#, "WrongType", at("items[0]")),
        (r#"{"items":"x"}"#, "WrongType", at("items")),
        (r#""livre""#, "WrongType", None),
        (r#"{"designation":" ","description":""}"#, "EmptyText", None),
        ("{}", "EmptyText", None),
        (r#"{"items":[{"designation":"livre"},{"designation":null}]}"#, "EmptyText", at("items[1]")),
        ("[]", "NoItems", None),
        ("", "InvalidJson", None),
        ("{\"designation\":\n \"livre\"", "InvalidJson", None),
    ] {
        let answer = client.post("/predict", body).await.unwrap();
        assert_eq!(problem(&answer), (400, reason.to_owned(), field), "{body}");
    }
    let answer = client.post("/predict", "{\"designation\":\n nonsense}").await.unwrap();
    assert!(
        answer.json()["error"]["message"].as_str().unwrap().contains("line 2 column"),
        "{}",
        answer.text()
    );
    let deep = "[".repeat(10_000);
    assert_eq!(problem(&client.post("/predict", deep).await.unwrap()).1, "InvalidJson");
    assert_eq!(
        problem(&client.post("/predict", &b"{\"designation\":\"\xff\"}"[..]).await.unwrap()).1,
        "InvalidJson"
    );
    // after all that the same connection still works
    assert_eq!(client.post("/predict", r#"{"designation":"livre"}"#).await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn too_many_rows_are_refused() {
    let server = start(Limits { max_items: 2, ..Limits::default() }, Duration::ZERO).await;
    let row = json!({"designation": "livre"});
    assert_eq!(server.post("/predict", json!([row, row]).to_string()).await.status, StatusCode::OK);
    let answer = server.post("/predict", json!({"items": [row, row, row]}).to_string()).await;
    assert_eq!(problem(&answer), (400, "TooManyItems".to_owned(), Some("items".to_owned())));
    assert!(answer.text().contains("at most 2"));
}

#[tokio::test]
async fn content_types_are_taken_leniently_but_not_blindly() {
    let server = server().await;
    let send = async |name: &str, value: &str| {
        let request = Request::post("/predict").header(name, value);
        let body = Full::new(Bytes::from_static(br#"{"designation":"livre"}"#));
        server.client().await.send(request.body(body).unwrap()).await.unwrap()
    };
    for given in
        ["application/json; charset=utf-8", "application/x-www-form-urlencoded", "text/plain", "a/b+json"]
    {
        assert_eq!(send("content-type", given).await.status, StatusCode::OK, "{given}");
    }
    for (name, value) in [("content-type", "application/octet-stream"), ("content-encoding", "gzip")] {
        let answer = send(name, value).await;
        assert_eq!(problem(&answer).0, 415, "{value}");
    }
}

#[tokio::test]
async fn addresses_and_methods_that_do_not_exist_are_json_too() {
    let server = server().await;
    assert_eq!(problem(&server.get("/nothing").await), (404, "NotFound".to_owned(), None));
    let answer = server.get("/predict").await;
    assert_eq!(problem(&answer), (405, "MethodNotAllowed".to_owned(), None));
    assert_eq!(answer.headers["allow"], "POST");
    let index = server.get("/").await.json();
    assert_eq!((index["model"].as_str(), index["ready"].as_bool()), (Some("rakuten"), Some(true)));
    assert!(index["routes"].as_array().unwrap().iter().any(|route| route == "POST /predict"));
}

#[tokio::test]
async fn identity_and_metrics_tell_the_served_model() {
    let server = server().await;
    let mut client = server.client().await;
    let identity = client.get("/v1/model").await.unwrap().json();
    assert_eq!(identity["digest"], server.digest.as_str());
    assert_eq!((identity["version"].as_i64(), identity["formatVersion"].is_u64()), (Some(7), true));
    assert_eq!(identity["classes"][0], json!({"label": "2583", "name": "Garden"}));
    assert_eq!(identity["datasetDigest"], format!("sha256:{}", "d".repeat(64)));
    for text in ["livre", "livre ancien", "manette"] {
        client.post("/predict", json!({"designation": text}).to_string()).await.unwrap();
    }
    client.get("/no/such/route").await.unwrap();
    let answer = client.get("/metrics").await.unwrap();
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    let short = &server.digest[7..19];
    for line in [
        &format!(r#"vitrine_server_model{{name="rakuten",version="7",digest="{short}"}} 1"#),
        r#"vitrine_server_predictions_total{label="10"} 2"#,
        r#"vitrine_server_predictions_total{label="50"} 1"#,
        r#"vitrine_server_predictions_total{label="2583"} 0"#,
        r#"vitrine_server_requests_total{route="predict",result="ok"} 3"#,
        r#"vitrine_server_requests_total{route="other",result="client_error"} 1"#,
        "vitrine_server_in_flight 0",
        "process_resident_memory_bytes ",
        "process_cpu_seconds_total ",
    ] {
        assert!(answer.text().contains(line), "{line} is not in\n{}", answer.text());
    }
}
