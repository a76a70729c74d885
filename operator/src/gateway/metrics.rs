//! Counters of the gateway. No names of objects, namespaces or digests become labels.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::authorise::Operation;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    operation: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Direction {
    direction: &'static str,
}

/// Counters of the gateway. A clone counts into the same.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    requests: Family<Request, Counter>,
    bytes: Family<Direction, Counter>,
    connections: Gauge,
}

impl Metrics {
    /// Makes the counters part of what is scraped.
    pub fn register(&self, registry: &mut Registry) {
        let requests = self.requests.clone();
        registry.register("vitrine_gateway_requests", "Requests by operation and status", requests);
        registry.register("vitrine_gateway_blob_bytes", "Bytes of blobs in and out", self.bytes.clone());
        registry.register("vitrine_gateway_connections", "Open connections", self.connections.clone());
    }

    /// A request was answered.
    pub(super) fn answered(&self, operation: Operation, status: u16) {
        self.requests.get_or_create(&Request { operation: operation.as_str(), status }).inc();
    }

    /// Bytes of a blob came in.
    pub(super) fn came_in(&self, bytes: u64) {
        self.bytes.get_or_create(&Direction { direction: "in" }).inc_by(bytes);
    }

    /// Bytes of a blob went out.
    pub(super) fn went_out(&self, bytes: u64) {
        self.bytes.get_or_create(&Direction { direction: "out" }).inc_by(bytes);
    }

    /// Counts a connection for as long as the guard lives.
    pub(super) fn connection(&self) -> Open {
        self.connections.inc();
        Open(self.connections.clone())
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
