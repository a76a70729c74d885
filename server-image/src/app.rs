//! State shared by all requests: how far the start has come, the model once it is verified, and
//! the counters that bound the work.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use tokio::sync::Semaphore;

use crate::config::{Limits, Settings};
use crate::metrics::Metrics;
use crate::served::Served;

/// What the server is doing before it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Such as `fetching model`.
    pub name: &'static str,
    /// The last trouble with it, if any.
    pub trouble: Option<String>,
}

/// State shared by all requests.
#[derive(Debug)]
pub struct App {
    /// Model name, as clients address it; known before the model is.
    pub name: String,
    /// Version in the registry; 0 outside of one.
    pub version: i64,
    /// Bounds on what clients may ask for.
    pub limits: Limits,
    /// Counters and histograms.
    pub metrics: Metrics,
    /// One permit per processor for batches that run beside the event loop.
    pub processors: Arc<Semaphore>,
    step: RwLock<Step>,
    served: OnceLock<Arc<Served>>,
    draining: AtomicBool,
    in_flight: AtomicUsize,
    buffered: AtomicUsize,
}

impl App {
    /// State of a server that has just started.
    pub fn new(settings: &Settings) -> Arc<Self> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Arc::new(Self {
            name: settings.name.clone(),
            version: settings.version,
            limits: settings.limits.clone(),
            metrics: Metrics::new(),
            processors: Arc::new(Semaphore::new(processors)),
            step: RwLock::new(Step { name: "starting", trouble: None }),
            served: OnceLock::new(),
            draining: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            buffered: AtomicUsize::new(0),
        })
    }

    /// What is being done before the server is ready.
    pub fn step(&self) -> Step {
        self.step.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says what is being done, and what went wrong with it last.
    pub fn set_step(&self, name: &'static str, trouble: Option<String>) {
        *self.step.write().unwrap_or_else(PoisonError::into_inner) = Step { name, trouble };
    }

    /// The model, once it is verified.
    pub fn served(&self) -> Option<&Arc<Served>> {
        self.served.get()
    }

    /// The model is verified: from now on predictions are answered.
    pub fn serve(&self, served: Served) {
        self.metrics.describe(&served);
        if self.served.set(Arc::new(served)).is_ok() {
            self.set_step("serving", None);
        }
    }

    /// The server was told to stop; it still answers.
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// From now on readiness is refused and every answer closes its connection.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether new traffic is welcome.
    pub fn ready(&self) -> bool {
        self.served().is_some() && !self.draining()
    }

    /// A place among the requests worked on; none when all are taken.
    pub fn enter(self: &Arc<Self>) -> Option<Slot> {
        let taken = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let slot = Slot(Arc::clone(self));
        self.metrics.in_flight.inc();
        (taken < self.limits.max_concurrency).then_some(slot)
    }

    /// Room for request bodies that are being received.
    pub fn buffer(self: &Arc<Self>) -> Room {
        Room { app: Arc::clone(self), bytes: 0 }
    }
}

/// A place among the requests worked on; given back on drop.
#[derive(Debug)]
pub struct Slot(Arc<App>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.in_flight.dec();
    }
}

/// Bytes of one request body, counted against [`Limits::max_buffered_bytes`]; given back on drop.
#[derive(Debug)]
pub struct Room {
    app: Arc<App>,
    bytes: usize,
}

impl Room {
    /// Takes more; false when there is no room left.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let before = self.app.buffered.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        before + bytes <= self.app.limits.max_buffered_bytes
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.app.buffered.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;
    use std::time::Duration;

    fn app(limits: Limits) -> Arc<App> {
        let source = Source::File("m".into());
        let drain = Duration::ZERO;
        App::new(&Settings { address: None, port: 0, name: "m".into(), version: 1, source, drain, limits })
    }

    #[test]
    fn slots_are_bounded_and_given_back() {
        let app = app(Limits { max_concurrency: 2, ..Limits::default() });
        let first = app.enter().unwrap();
        let _second = app.enter().unwrap();
        assert!(app.enter().is_none());
        assert!(app.enter().is_none(), "a refusal takes no place for good");
        drop(first);
        assert!(app.enter().is_some());
    }

    #[test]
    fn room_for_bodies_is_bounded_over_all_requests() {
        let app = app(Limits { max_buffered_bytes: 10, ..Limits::default() });
        let mut one = app.buffer();
        let mut two = app.buffer();
        assert!(one.grow(6) && two.grow(4));
        assert!(!two.grow(1));
        drop((one, two));
        assert!(app.buffer().grow(10));
    }
}
