//! The one loop of all three kinds: observe, plan, apply. It decides when, never what.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use kube::runtime::controller::{self, Action, ReconcileRequest};
use kube::runtime::{Config, applier};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use vitrine_plan::Requeue;
use vitrine_plan::status::Fault;

use crate::apply;
use crate::backoff::jitter;
use crate::context::Context;
use crate::error::ReconcileError;
use crate::kind::Kind;

/// Changes of one object within this time are one reconcile.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// Failures in a row after which the object says so.
const TELL_AFTER: u32 = 3;
/// Longest time to tell.
const TELL_TIMEOUT: Duration = Duration::from_secs(10);

/// Reconciles a kind until `stop`; returns when the reconciles in flight have ended.
pub async fn run<K: Kind>(
    ctx: Arc<Context>,
    mut queue: UnboundedReceiver<ReconcileRequest<K>>,
    concurrency: u16,
    stop: CancellationToken,
) where
    kube::runtime::reflector::ObjectRef<K>: std::hash::Hash + Eq,
{
    let requests = futures::stream::poll_fn(move |cx| queue.poll_recv(cx))
        .map(Ok::<_, Infallible>)
        .take_until(stop.cancelled_owned().boxed());
    let config = Config::default().concurrency(concurrency).debounce(DEBOUNCE);
    let cache = K::cache(&ctx.caches).clone();
    applier(
        |object, ctx| reconcile::<K>(object, ctx).boxed(),
        |object, error, ctx| error_policy(&*object, error, &ctx),
        ctx,
        cache,
        requests,
        config,
    )
    .for_each(|ended| {
        report::<K>(ended);
        futures::future::ready(())
    })
    .await;
}

/// One pass over one object.
///
/// 1. leave alone what is being deleted, and what failed a moment ago (pure)
/// 2. observe, plan, apply within the deadline (IO, pure, IO)
/// 3. count how it ended
/// 4. on failure: tell the object's author, if it goes on (IO, best effort)
pub async fn reconcile<K: Kind>(object: Arc<K>, ctx: Arc<Context>) -> Result<Action, ReconcileError> {
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let span = tracing::info_span!("reconcile", kind = K::NAME, namespace, name);
    async {
        // 1
        let (uid, generation) = (object.uid().unwrap_or_default(), object.meta().generation);
        let deleted = object.meta().deletion_timestamp.is_some();
        if deleted || ctx.caches.is_terminating(&namespace) || ctx.deposed.is_cancelled() {
            return Ok(Action::await_change());
        }
        if let Some(left) = ctx.backoff.wait(&uid, generation) {
            return Ok(Action::requeue(left));
        }
        // 2
        let started = Instant::now();
        let ended = match tokio::time::timeout(ctx.timeout, pass(&*object, &ctx)).await {
            Ok(ended) => ended,
            Err(_) => Err(ReconcileError::Timeout(ctx.timeout)),
        };
        // 3
        ctx.metrics.reconciled(
            K::NAME,
            started.elapsed(),
            ended.as_ref().err().map(ReconcileError::category),
        );
        match ended {
            Ok(requeue) => {
                ctx.backoff.succeeded(&uid);
                Ok(action(&requeue, K::RESYNC, &Context::now()))
            }
            // 4
            Err(error) => {
                let failures = ctx.backoff.failed(&uid, generation);
                failed(&*object, &ctx, &error, failures).await;
                Err(error)
            }
        }
    }
    .instrument(span)
    .await
}

/// Observe, plan, apply.
async fn pass<K: Kind>(object: &K, ctx: &Context) -> Result<Requeue, ReconcileError> {
    let seen = object.observe(ctx).await?;
    let plan = object.plan(&seen, &ctx.policy(), &Context::now());
    let registered = !plan.registry.is_empty();
    let requeue = plan.requeue.clone();
    apply::apply(ctx, object, plan).await?;
    // what the registry now holds becomes status in the next pass
    Ok(if registered { Requeue::After(Duration::ZERO) } else { requeue })
}

/// Stops everything when another process leads; else tells the author of an object that keeps failing.
async fn failed<K: Kind>(object: &K, ctx: &Context, error: &ReconcileError, failures: u32) {
    if error.is_fenced() {
        tracing::error!(%error, "another process leads; this one stops");
        ctx.deposed.cancel();
        return;
    }
    if error.is_retryable() && failures < TELL_AFTER {
        return;
    }
    let message = error.to_string();
    let fault = Fault { reason: error.reason(), message: &message, retryable: error.is_retryable() };
    let status = object.failed(fault, &Context::now());
    if object.state() == Some(&status) {
        return;
    }
    let told = tokio::time::timeout(TELL_TIMEOUT, apply::status(ctx, object, &status)).await;
    match told {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the failure could not be written to status"),
        Err(_) => tracing::warn!("no answer while writing the failure to status"),
    }
}

/// When to look again.
fn action(requeue: &Requeue, resync: Option<Duration>, now: &Time) -> Action {
    match requeue {
        Requeue::AwaitChange => {
            resync.map_or_else(Action::await_change, |every| Action::requeue(jitter(every)))
        }
        Requeue::After(Duration::ZERO) => Action::requeue(Duration::ZERO),
        Requeue::After(wait) => Action::requeue(jitter(*wait)),
        Requeue::At(time) => {
            let left = time.0.duration_since(now.0);
            // a second late rather than early: times are whole seconds
            Action::requeue(Duration::try_from(left).unwrap_or_default() + Duration::from_secs(1))
        }
    }
}

/// The wait after a failure.
fn error_policy<K: Kind>(object: &K, _error: &ReconcileError, ctx: &Context) -> Action {
    let left = ctx.backoff.wait(&object.uid().unwrap_or_default(), object.meta().generation);
    Action::requeue(left.unwrap_or_default())
}

/// Every item of the stream is reported.
fn report<K: Kind>(
    ended: Result<
        (kube::runtime::reflector::ObjectRef<K>, Action),
        controller::Error<ReconcileError, Infallible>,
    >,
) {
    match ended {
        Ok((object, action)) => {
            tracing::debug!(
                kind = K::NAME,
                name = object.name,
                namespace = object.namespace,
                ?action,
                "reconciled"
            );
        }
        Err(controller::Error::ReconcilerFailed(error, object)) => {
            tracing::warn!(
                kind = K::NAME,
                name = object.name,
                namespace = object.namespace,
                class = error.category(),
                retryable = error.is_retryable(),
                %error,
                "reconcile failed"
            );
        }
        // deleted between the request and its turn
        Err(controller::Error::ObjectNotFound(object)) => {
            tracing::debug!(
                kind = K::NAME,
                name = object.name,
                namespace = object.namespace,
                "object is gone"
            );
        }
        Err(error) => tracing::error!(kind = K::NAME, error = &error as &dyn std::error::Error, "controller"),
    }
}

#[cfg(test)]
#[path = "controller_tests.rs"]
mod tests;
