//! The Lease that elects the one process that reconciles.
//!
//! A Lease is no lock: a process that was stopped for a while still believes that it leads. So this
//! one watches the time since its last successful renewal itself and gives up before the Lease
//! expires, and the registry refuses the epoch of an older leader.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Poller, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::Config;
use kube::client::Body;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tower::{Layer, Service};
use vitrine_crds::names;

use crate::client::{self, ClientError};
use crate::error::brief;

/// Seconds for which a renewal is good.
const DURATION: u64 = 20;
/// Seconds before the end at which the Lease is renewed.
const GRACE: u64 = 12;
/// Time since the last renewal after which this process no longer leads: before [`DURATION`], so
/// that the next leader starts after this one has stopped.
const GIVE_UP: Duration = Duration::from_secs(DURATION - 4);
/// Longest time to hand the Lease back.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the election cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// No client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The Lease cannot be made or read.
    #[error("lease {} in namespace {namespace}: {}", names::LEASE, said(source))]
    Manager {
        /// Namespace of the Lease.
        namespace: String,
        /// What the manager said.
        #[source]
        source: Box<LeaseManagerError>,
    },
}

/// What the manager said, for people.
fn said(error: &LeaseManagerError) -> String {
    match error {
        LeaseManagerError::KubeError(error) => brief(error),
        other => other.to_string(),
    }
}

/// Taking part in the election.
#[derive(Debug)]
pub struct Election {
    state: watch::Receiver<bool>,
    manager: JoinHandle<Result<LeaseManager, LeaseManagerError>>,
    renewed: Clock,
}

impl Election {
    /// Starts to take part, as `identity`.
    pub async fn join(config: Config, namespace: &str, identity: &str) -> Result<Self, LeaseError> {
        let renewed = Clock::default();
        // a client of its own: a queue of other requests must not delay a renewal
        let client = client::build_with(config, &renewed)?;
        let failed =
            |source| LeaseError::Manager { namespace: namespace.to_owned(), source: Box::new(source) };
        let manager = LeaseManagerBuilder::new(client, names::LEASE)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_field_manager(format!("{}-{identity}", names::FIELD_MANAGER))
            .with_duration(DURATION)
            .with_grace(GRACE)
            .build()
            .await
            .map_err(failed)?;
        let (state, manager) = manager.watch().await;
        Ok(Self { state, manager, renewed })
    }

    /// Waits until this process leads; `false` if the election ended.
    pub async fn gained(&mut self) -> bool {
        let gained = self.state.wait_for(|leads| *leads).await.is_ok();
        self.renewed.touch();
        gained
    }

    /// Returns when this process no longer leads: the Lease went to another one, or was not renewed
    /// in time.
    pub async fn lost(&mut self) {
        let late = self.renewed.clone();
        tokio::select! {
            // an error means that the manager ended
            _ = self.state.wait_for(|leads| !*leads) => {}
            () = late.too_old() => {}
        }
    }

    /// Hands the Lease back, so that the next leader need not wait for its end.
    pub async fn release(self) {
        drop(self.state);
        match tokio::time::timeout(RELEASE_TIMEOUT, self.manager).await {
            Ok(Ok(Ok(_))) => tracing::info!("lease released"),
            Ok(Ok(Err(error))) => tracing::warn!(%error, "lease not released; it expires by itself"),
            Ok(Err(error)) => tracing::warn!(%error, "lease manager failed; the lease expires by itself"),
            Err(_) => tracing::warn!("lease not released in time; it expires by itself"),
        }
    }
}

/// When the Lease was last renewed: a layer over the client of the Lease that notes the start of
/// every write that succeeded.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<Mutex<Option<Instant>>>);

impl Clock {
    fn touch(&self) {
        self.set(Instant::now());
    }

    fn set(&self, at: Instant) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(last.map_or(at, |known| known.max(at)));
    }

    fn last(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the last renewal is too long ago.
    async fn too_old(&self) {
        while let Some(last) = self.last() {
            let end = last + GIVE_UP;
            if Instant::now() >= end {
                break;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

impl<S> Layer<S> for Clock {
    type Service = Clocked<S>;

    fn layer(&self, inner: S) -> Clocked<S> {
        Clocked { inner, clock: self.clone() }
    }
}

/// A service whose successful writes are noted.
#[derive(Clone, Debug)]
pub struct Clocked<S> {
    inner: S,
    clock: Clock,
}

impl<S, B> Service<::http::Request<Body>> for Clocked<S>
where
    S: Service<::http::Request<Body>, Response = ::http::Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Poller<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: ::http::Request<Body>) -> Self::Future {
        let (clock, started) = (self.clock.clone(), Instant::now());
        let write = request.method() != ::http::Method::GET;
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await?;
            if write && answer.status().is_success() {
                clock.set(started);
            }
            Ok(answer)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn h4_a_leader_that_cannot_renew_gives_up_before_the_lease_ends() {
        let clock = Clock::default();
        let started = Instant::now();
        clock.touch();
        let waiting = tokio::spawn({
            let clock = clock.clone();
            async move { clock.too_old().await }
        });
        tokio::time::sleep(Duration::from_secs(10)).await;
        clock.touch();
        waiting.await.unwrap();
        let took = started.elapsed();
        assert!(took >= Duration::from_secs(10) + GIVE_UP, "{took:?}");
        assert!(took < Duration::from_secs(10 + DURATION), "{took:?}");
    }

    #[tokio::test]
    async fn only_writes_that_succeeded_renew() {
        let clock = Clock::default();
        for (method, status, renews) in [("GET", 200, false), ("PATCH", 500, false), ("PATCH", 200, true)] {
            let answer = tower::service_fn(move |_: ::http::Request<Body>| async move {
                Ok::<_, std::convert::Infallible>(
                    ::http::Response::builder().status(status).body(()).unwrap(),
                )
            });
            let request = ::http::Request::builder().method(method).body(Body::empty()).unwrap();
            clock.layer(answer).call(request).await.unwrap();
            assert_eq!(clock.last().is_some(), renews, "{method} {status}");
        }
    }
}
