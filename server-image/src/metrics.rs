//! Metrics in OpenMetrics text. Every label has a value out of a closed list: routes and status
//! classes of this file, and the classes of the one served model.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::process::Process;
use crate::served::Served;

/// Content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the names are label values")]
pub enum Route {
    /// `POST /predict`.
    predict,
    /// `POST /v2/models/../infer`.
    infer,
    /// Liveness and readiness.
    health,
    /// Metadata of server and model.
    metadata,
    /// `GET /metrics`.
    metrics,
    /// Anything else.
    other,
}

/// First digit of the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the names are label values")]
pub enum Class {
    /// It worked.
    ok,
    /// The client's fault.
    client_error,
    /// Shed: too much at once.
    overloaded,
    /// The server's fault, or not ready.
    server_error,
}

/// Who was asked for the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the names are label values")]
pub enum Origin {
    /// A pod that has the same model.
    sibling,
    /// The operator's gateway.
    gateway,
}

/// How a sibling's question for the model was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the names are label values")]
pub enum Given {
    /// With the bytes.
    sent,
    /// No token, or none that counts here.
    refused,
    /// Another model was asked for.
    not_found,
    /// There is no model yet, or no key to recognise the caller by.
    not_ready,
    /// Others are being served.
    busy,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OriginLabels {
    origin: Origin,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    origin: Origin,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GivenLabels {
    result: Given,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: Route,
    result: Class,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: Route,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LabelLabels {
    label: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    name: String,
    version: String,
    digest: String,
}

/// Counters, gauges and histograms of the server.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<RequestLabels, Counter>,
    seconds: Family<RouteLabels, Histogram>,
    /// Predictions worked on or waiting.
    pub in_flight: Gauge,
    /// Open connections.
    pub connections: Gauge,
    by_label: Family<LabelLabels, Counter>,
    by_class: OnceLock<Vec<Counter>>,
    model: Family<ModelLabels, Gauge>,
    fetched: Family<OriginLabels, Counter>,
    fetch_failures: Family<FailureLabels, Counter>,
    given: Family<GivenLabels, Counter>,
    /// Bytes of the model that went to siblings.
    pub given_bytes: Counter,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process));
        let vitrine = registry.sub_registry_with_prefix("vitrine_server");
        let requests = Family::default();
        vitrine.register("requests", "Requests by route and result", requests.clone());
        let seconds = Family::<RouteLabels, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.000_05, 2.0, 17))
        });
        let help = "Time from the end of a request's head to its answer, receiving the body included";
        vitrine.register_with_unit("request_duration", help, Unit::Seconds, seconds.clone());
        let in_flight = Gauge::default();
        vitrine.register("in_flight", "Predictions worked on or waiting", in_flight.clone());
        let connections = Gauge::default();
        vitrine.register("connections", "Open connections", connections.clone());
        let by_label = Family::default();
        vitrine.register("predictions", "Rows by predicted label", by_label.clone());
        let model = Family::default();
        vitrine.register("model", "1 for the served model, once it is verified", model.clone());
        let fetched = Family::default();
        let help = "Bytes of the model that were fetched and verified, by where they came from";
        vitrine.register_with_unit("fetched", help, Unit::Bytes, fetched.clone());
        let fetch_failures = Family::default();
        let help = "Questions for the model that failed, by who was asked and why";
        vitrine.register("fetch_failures", help, fetch_failures.clone());
        let given = Family::default();
        vitrine.register("sibling_requests", "Questions of siblings for the model, by result", given.clone());
        let given_bytes = Counter::default();
        let help = "Bytes of the model that went to siblings";
        vitrine.register_with_unit("sibling_sent", help, Unit::Bytes, given_bytes.clone());
        let by_class = OnceLock::new();
        Self {
            registry: Mutex::new(registry),
            requests,
            seconds,
            in_flight,
            connections,
            by_label,
            by_class,
            model,
            fetched,
            fetch_failures,
            given,
            given_bytes,
        }
    }

    /// Names the served model, and every label that can be predicted, at zero.
    pub fn describe(&self, served: &Served) {
        let identity = served.identity();
        let labels = ModelLabels {
            name: identity.name.clone(),
            version: identity.version.to_string(),
            digest: identity.short_digest().to_owned(),
        };
        self.model.get_or_create(&labels).set(1);
        let counter =
            |label: &str| self.by_label.get_or_create_owned(&LabelLabels { label: label.to_owned() });
        let counters = served.classes().iter().map(|class| counter(&class.label)).collect();
        // a second model is never served by one process, so the first setting stands
        self.by_class.get_or_init(|| counters);
    }

    /// Counts a request.
    pub fn request(&self, route: Route, status: u16, took: Duration) {
        let result = match status {
            429 => Class::overloaded,
            400..=499 => Class::client_error,
            500.. => Class::server_error,
            _ => Class::ok,
        };
        self.requests.get_or_create(&RequestLabels { route, result }).inc();
        if matches!(route, Route::predict | Route::infer) {
            self.seconds.get_or_create(&RouteLabels { route }).observe(took.as_secs_f64());
        }
    }

    /// Counts a model that was fetched.
    pub fn fetched(&self, origin: Origin, bytes: u64) {
        self.fetched.get_or_create(&OriginLabels { origin }).inc_by(bytes);
    }

    /// Counts a question for the model that failed; `reason` is a word of a closed list.
    pub fn fetch_failed(&self, origin: Origin, reason: &'static str) {
        self.fetch_failures.get_or_create(&FailureLabels { origin, reason }).inc();
    }

    /// Counts a sibling's question for the model.
    pub fn given(&self, result: Given) {
        self.given.get_or_create(&GivenLabels { result }).inc();
    }

    /// Counts a predicted row by class number.
    pub fn predicted(&self, class: usize) {
        if let Some(counter) = self.by_class.get().and_then(|all| all.get(class)) {
            counter.inc();
        }
    }

    /// All metrics as text of type [`CONTENT_TYPE`].
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        text::encode(&mut out, &registry)?;
        Ok(out)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_closed_labels() {
        let metrics = Metrics::new();
        metrics.request(Route::predict, 200, Duration::from_micros(80));
        metrics.request(Route::predict, 429, Duration::ZERO);
        metrics.request(Route::health, 503, Duration::ZERO);
        let text = metrics.render().unwrap();
        for line in [
            r#"vitrine_server_requests_total{route="predict",result="ok"} 1"#,
            r#"vitrine_server_requests_total{route="predict",result="overloaded"} 1"#,
            r#"vitrine_server_requests_total{route="health",result="server_error"} 1"#,
            r#"vitrine_server_request_duration_seconds_bucket{le="0.0001",route="predict"} 2"#,
            "# UNIT process_resident_memory_bytes bytes",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line}\nin\n{text}");
        }
        assert!(!text.contains(r#"duration_seconds_count{route="health"}"#), "only predictions are timed");
    }
}
