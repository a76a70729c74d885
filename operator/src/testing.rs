//! What unit tests of the loop need: an apiserver made of a function, and a context around it. Tests
//! against a real apiserver live in `e2e/`.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use vitrine_crds::{Dataset, ModelDeployment};
use vitrine_plan::Policy;

use crate::backoff::Backoff;
use crate::caches::testing::Filled;
use crate::context::Context;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::store::Store;

/// One request as the server saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Query, empty if there was none.
    pub query: String,
    /// Body, `Null` if there was none.
    pub body: Value,
}

type Answer = Pin<Box<dyn Future<Output = (u16, Value)> + Send>>;

/// A server that answers by a function and remembers what it was asked.
#[derive(Clone)]
pub struct Server {
    seen: Arc<Mutex<Vec<Seen>>>,
    answer: Arc<dyn Fn(Seen) -> Answer + Send + Sync>,
}

impl Server {
    /// A server whose answers may take time.
    pub fn slow<F>(answer: impl Fn(Seen) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = (u16, Value)> + Send + 'static,
    {
        Self { seen: Arc::default(), answer: Arc::new(move |seen| Box::pin(answer(seen))) }
    }

    /// A server that answers at once.
    pub fn new(answer: impl Fn(&Seen) -> (u16, Value) + Send + Sync + 'static) -> Self {
        Self::slow(move |seen| std::future::ready(answer(&seen)))
    }

    /// Requests so far as `METHOD path`.
    pub fn log(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|s| format!("{} {}", s.method, s.path)).collect()
    }

    /// Requests with that method.
    pub fn with_method(&self, method: &str) -> Vec<Seen> {
        self.seen.lock().unwrap().iter().filter(|s| s.method == method).cloned().collect()
    }

    /// The client of this server.
    pub fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: ::http::Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let seen = Seen {
                    method: head.method.to_string(),
                    path: head.uri.path().to_owned(),
                    query: head.uri.query().unwrap_or_default().to_owned(),
                    body: object_of(head.uri.path(), serde_json::from_slice(&body).unwrap_or(Value::Null)),
                };
                server.seen.lock().unwrap().push(seen.clone());
                let (code, answer) = (server.answer)(seen).await;
                let response = ::http::Response::builder().status(code);
                Ok::<_, std::convert::Infallible>(
                    response.body(Body::from(answer.to_string().into_bytes())).unwrap(),
                )
            }
        });
        Client::new(service, "default")
    }
}

/// An error as the API answers it.
pub fn refusal(code: u16, reason: &str) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": reason}),
    )
}

/// The usual answers: reads find nothing, writes give back what was sent.
pub fn usual(seen: &Seen) -> (u16, Value) {
    match seen.method.as_str() {
        "GET" => refusal(404, "NotFound"),
        _ => (200, with_spec(seen)),
    }
}

/// A JSON patch of a status as the part of the object that it speaks of.
fn object_of(path: &str, body: Value) -> Value {
    let Some(operations) = body.as_array() else { return body };
    let of = |path: &str| operations.iter().find(|o| o["path"] == path).map(|o| o["value"].clone());
    let kind = if path.contains("/datasets/") { "Dataset" } else { "ModelDeployment" };
    json!({
        "apiVersion": "vitrine.dev/v1alpha1", "kind": kind,
        "metadata": {"name": "x", "uid": of("/metadata/uid")}, "status": of("/status"),
    })
}

/// What was sent, with what the type needs to be read back.
fn with_spec(seen: &Seen) -> Value {
    let mut body = seen.body.clone();
    if seen.path.ends_with("/status") {
        body["spec"] = match body["kind"].as_str() {
            Some("Dataset") => serde_json::to_value(dataset("x").spec).unwrap(),
            _ => serde_json::to_value(deployment("x").spec).unwrap(),
        };
    }
    body
}

/// A context around a server and caches that the test fills; the folder lives as long as the value.
pub struct World {
    /// The context.
    pub ctx: Arc<Context>,
    /// The caches.
    pub filled: Filled,
    /// The artifact store.
    pub store: Store,
    _dir: tempfile::TempDir,
}

/// A world around a server, with a deadline for reconciles.
pub async fn world(server: &Server, timeout: Duration) -> World {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("artifacts")).await.unwrap();
    let registry = Registry::open(&dir.path().join("registry"), store.clone()).await.unwrap();
    let filled = Filled::new();
    let metrics = Metrics::default();
    let ctx = Context {
        client: server.client(),
        caches: filled.caches.clone(),
        epoch: registry.take_epoch().await.unwrap(),
        registry,
        issuer: crate::issuer::Known::default(),
        policy: Policy { trainer_image: "t".into(), server_image: "s".into(), ..Policy::default() },
        events: Events::new(server.client(), "pod".into(), metrics.clone()),
        metrics,
        backoff: Backoff::default(),
        timeout,
        deposed: CancellationToken::new(),
    };
    World { ctx: Arc::new(ctx), filled, store, _dir: dir }
}

/// A Dataset in namespace `a` with UID `<name>-uid`.
pub fn dataset(name: &str) -> Dataset {
    object(json!({
        "apiVersion": "vitrine.dev/v1alpha1", "kind": "Dataset",
        "metadata": {"namespace": "a", "name": name, "uid": format!("{name}-uid"), "generation": 1},
        "spec": {"source": {"pvc": {"claimName": "c"}, "files": {"features": "f.csv"}}, "schema": {"text": ["t"]}},
    }))
}

/// A ModelDeployment in namespace `a` with UID `<name>-uid`; its model does not exist.
pub fn deployment(name: &str) -> ModelDeployment {
    object(json!({
        "apiVersion": "vitrine.dev/v1alpha1", "kind": "ModelDeployment",
        "metadata": {"namespace": "a", "name": name, "uid": format!("{name}-uid"), "generation": 1,
                     "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"model": {"name": "m", "alias": "champion", "candidateAlias": "challenger"}},
    }))
}

/// Any object from JSON.
pub fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// Metadata of a child in namespace `a`, controlled by `owner` and labelled with it.
pub fn child_meta(name: &str, owner: &str) -> Value {
    json!({
        "namespace": "a", "name": name, "uid": format!("{name}-uid"), "generation": 1,
        "labels": {vitrine_crds::names::LABEL_OWNER_UID: owner},
        "ownerReferences": [{"apiVersion": "vitrine.dev/v1alpha1", "kind": "K", "name": "o", "uid": owner, "controller": true}],
    })
}
