//! What the operator counts, as Prometheus metrics. Labels are kinds, resources and classes of
//! errors, never names of objects: their number must not grow with the cluster.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// Upper borders of the buckets in seconds: a pass over caches takes a millisecond, a deadline a minute.
const BUCKETS: [f64; 10] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    kind: &'static str,
    class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Resource {
    resource: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    verb: &'static str,
    resource: &'static str,
}

/// The operator's metrics. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Mutex<Registry>,
    reconciles: Family<Kind, Counter>,
    errors: Family<Failure, Counter>,
    duration: Family<Kind, Histogram, fn() -> Histogram>,
    age: Family<Kind, Gauge<f64, AtomicU64>>,
    last: Mutex<Vec<(&'static str, Instant)>>,
    watch_errors: Family<Resource, Counter>,
    unreadable: Family<Resource, Counter>,
    writes: Family<Write, Counter>,
    event_errors: Counter,
    leader: Gauge,
    memory: Gauge,
}

impl Default for Inner {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        let mut inner = Self {
            registry: Mutex::default(),
            reconciles: Family::default(),
            errors: Family::default(),
            duration: Family::new_with_constructor(histogram),
            age: Family::default(),
            last: Mutex::default(),
            watch_errors: Family::default(),
            unreadable: Family::default(),
            writes: Family::default(),
            event_errors: Counter::default(),
            leader: Gauge::default(),
            memory: Gauge::default(),
        };
        inner.register();
        inner
    }
}

impl Inner {
    fn register(&mut self) {
        let r = self.registry.get_mut().unwrap_or_else(PoisonError::into_inner);
        let v = r.sub_registry_with_prefix("vitrine");
        v.register("reconciles", "Reconciles that ended well", self.reconciles.clone());
        v.register("reconcile_errors", "Reconciles that failed, by class of the error", self.errors.clone());
        let duration = self.duration.clone();
        v.register_with_unit("reconcile_duration", "Time of a reconcile", Unit::Seconds, duration);
        let age = self.age.clone();
        v.register_with_unit("reconcile_last_age", "Time since the last reconcile ended", Unit::Seconds, age);
        v.register("watch_errors", "Errors of watches", self.watch_errors.clone());
        v.register("unreadable_objects", "Objects that this build cannot read", self.unreadable.clone());
        v.register("writes", "Writes to the cluster, except Lease and events", self.writes.clone());
        v.register("event_errors", "Events that could not be written", self.event_errors.clone());
        v.register("leader", "1 while this process reconciles", self.leader.clone());
        v.register("build", "Version of the operator", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let memory = self.memory.clone();
        r.register_with_unit("process_resident_memory", "Resident memory", Unit::Bytes, memory);
    }
}

impl Metrics {
    /// Lets another part of the process add its own metrics.
    pub fn extend(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.0.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A reconcile ended; `class` is the class of its error.
    pub fn reconciled(&self, kind: &'static str, took: Duration, class: Option<&'static str>) {
        match class {
            None => self.0.reconciles.get_or_create(&Kind { kind }).inc(),
            Some(class) => self.0.errors.get_or_create(&Failure { kind, class }).inc(),
        };
        self.0.duration.get_or_create(&Kind { kind }).observe(took.as_secs_f64());
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|(known, _)| *known != kind);
        last.push((kind, Instant::now()));
    }

    /// A watch failed.
    pub fn watch_error(&self, resource: &'static str) {
        self.0.watch_errors.get_or_create(&Resource { resource }).inc();
    }

    /// An object could not be read.
    pub fn unreadable(&self, resource: &'static str) {
        self.0.unreadable.get_or_create(&Resource { resource }).inc();
    }

    /// Something was written to the cluster.
    pub fn wrote(&self, verb: &'static str, resource: &'static str) {
        self.0.writes.get_or_create(&Write { verb, resource }).inc();
    }

    /// An event was lost.
    pub fn event_error(&self) {
        self.0.event_errors.inc();
    }

    /// This process reconciles, or no longer does.
    pub fn leads(&self, leads: bool) {
        self.0.leader.set(i64::from(leads));
    }

    /// Everything in the text form of OpenMetrics.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        if let Some(bytes) = resident_bytes() {
            self.0.memory.set(bytes);
        }
        for (kind, at) in self.0.last.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            self.0.age.get_or_create(&Kind { kind }).set(at.elapsed().as_secs_f64());
        }
        let mut out = String::new();
        text::encode(&mut out, &self.0.registry.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(out)
    }
}

/// Resident memory of this process, where the system tells.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_tells_what_happened() {
        let metrics = Metrics::default();
        metrics.reconciled("Dataset", Duration::from_millis(2), None);
        metrics.reconciled("Dataset", Duration::from_millis(2), Some("timeout"));
        metrics.wrote("apply", "services");
        metrics.leads(true);
        let text = metrics.text().unwrap();
        for line in [
            r#"vitrine_reconciles_total{kind="Dataset"} 1"#,
            r#"vitrine_reconcile_errors_total{kind="Dataset",class="timeout"} 1"#,
            r#"vitrine_reconcile_duration_seconds_count{kind="Dataset"} 2"#,
            r#"vitrine_reconcile_last_age_seconds{kind="Dataset"}"#,
            r#"vitrine_writes_total{verb="apply",resource="services"} 1"#,
            "vitrine_leader 1",
            "vitrine_build_info{version=",
            "process_resident_memory_bytes ",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
