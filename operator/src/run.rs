//! Wiring: one function per part, and the order in which they start and stop.

use std::error::Error;
use std::future::Future;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kube::{Client, Config as KubeConfig};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use vitrine_crds::{Dataset, ModelDeployment, TrainingRun};

use crate::backoff::Backoff;
use crate::caches::{self, Caches};
use crate::config::{Config, LogFormat, Role};
use crate::context::Context;
use crate::events::Events;
use crate::http::{self, Health};
use crate::issuer::{self, Known};
use crate::kind::Kind;
use crate::lease::Election;
use crate::metrics::Metrics;
use crate::queues::{Queue, Queues};
use crate::registry::Registry;
use crate::store::Store;
use crate::tls::{self, Authority};
use crate::undecodable::Undecodable;
use crate::{client, controller, gateway};

/// What a log shows where RUST_LOG says nothing; errors of calls and watches are told by our own code.
const DEFAULT_LOG: &str = "info,kube_client=off,kube_runtime=off,sqlx=warn";
/// How long reconciles in flight may go on after the signal to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

type Failure = Box<dyn Error>;

/// What all parts share.
struct Parts {
    config: Config,
    kube: KubeConfig,
    client: Client,
    registry: Registry,
    store: Store,
    authority: Authority,
    metrics: Metrics,
    health: Arc<Health>,
}

/// Why reconciling ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// As asked.
    Stopped,
    /// Another process leads, or may soon.
    Deposed,
}

/// Makes `ring` the provider of TLS for the whole process (hazard H6). Calling it twice is harmless.
pub fn install_crypto() -> Result<(), std::io::Error> {
    // an error means that a provider is installed already
    let _ = rustls::crypto::ring::default_provider().install_default();
    rustls::crypto::CryptoProvider::get_default()
        .map(|_| ())
        .ok_or_else(|| std::io::Error::other("no provider of TLS could be installed"))
}

/// Starts the log.
pub fn install_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Json => log.json().flatten_event(true).init(),
        LogFormat::Text => log.init(),
    }
}

/// Runs until SIGTERM or SIGINT; an error ends the process with a failure.
pub async fn run(config: Config) -> Result<(), Failure> {
    // the process stops when it is told to, or when a part of it ends
    let stop = CancellationToken::new();
    let told = on_signal(stop.clone())?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), roles = ?config.roles, "starting");
    let parts = Parts::open(config).await?;
    let http = start_http(&parts, &stop).await?;
    let gateway_stop = CancellationToken::new();
    let gateway = start_gateway(&parts, gateway_stop.clone(), &stop).await?;
    let ended = if parts.config.has(Role::Controller) {
        reconcile(&parts, &stop).await?
    } else {
        stop.cancelled().await;
        Ended::Stopped
    };
    // pods may still deliver results while the reconciles in flight end; now they try again later
    gateway_stop.cancel();
    if let Some(gateway) = gateway {
        gateway.await??;
    }
    http.cancel();
    parts.registry.close().await;
    match ended {
        Ended::Stopped if told.is_cancelled() => {
            tracing::info!("stopped");
            Ok(())
        }
        Ended::Stopped => Err("a part of the process ended although nobody asked".into()),
        Ended::Deposed => Err("this process no longer leads; the log says why".into()),
    }
}

fn on_signal(stop: CancellationToken) -> Result<CancellationToken, std::io::Error> {
    let signalled = CancellationToken::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let told = signalled.clone();
    tokio::spawn(async move {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        tracing::info!("told to stop");
        told.cancel();
        stop.cancel();
    });
    Ok(signalled)
}

impl Parts {
    async fn open(config: Config) -> Result<Self, Failure> {
        let host = tls::host_of(&config.gateway_url).ok_or_else(|| {
            format!(
                "--gateway-url {} names no host: write https://<service>.<namespace>.svc:8443",
                config.gateway_url
            )
        })?;
        let store = Store::open(&config.artifacts_dir).await?;
        let registry = Registry::open(&config.registry_dir, store.clone()).await?;
        let authority = Authority::open(&config.registry_dir.join("tls"), &host)?;
        let kube = client::infer().await?;
        let client = client::build(kube.clone())?;
        let health = Arc::new(Health {
            controller_wanted: config.has(Role::Controller),
            gateway_wanted: config.has(Role::Gateway),
            ..Health::default()
        });
        Ok(Self { config, kube, client, registry, store, authority, metrics: Metrics::default(), health })
    }
}

async fn start_http(parts: &Parts, process: &CancellationToken) -> Result<CancellationToken, Failure> {
    let bind = parts.config.http_bind;
    let listener = TcpListener::bind(bind).await.map_err(|e| format!("cannot listen on {bind}: {e}"))?;
    let app = http::App {
        health: parts.health.clone(),
        metrics: parts.metrics.clone(),
        registry: parts.registry.clone(),
    };
    let stop = CancellationToken::new();
    let (until, process) = (stop.clone(), process.clone());
    tokio::spawn(async move {
        let _part = process.drop_guard();
        http::serve(listener, app, until).await;
    });
    Ok(stop)
}

/// The gateway as a task, if this process plays that part. As with the other parts, its end, also
/// by a panic, is the end of the process: a part that is missing in silence is worse.
async fn start_gateway(
    parts: &Parts,
    stop: CancellationToken,
    process: &CancellationToken,
) -> Result<Option<JoinHandle<std::io::Result<()>>>, Failure> {
    if !parts.config.has(Role::Gateway) {
        return Ok(None);
    }
    let bind = parts.config.gateway_bind;
    let listener = TcpListener::bind(bind).await.map_err(|e| format!("cannot listen on {bind}: {e}"))?;
    let metrics = gateway::Metrics::default();
    parts.metrics.extend(|registry| metrics.register(registry));
    let limits = gateway::Limits::default();
    let app = gateway::router(gateway::State {
        registry: parts.registry.clone(),
        store: parts.store.clone(),
        identify: Arc::new(gateway::KubeIdentify::new(parts.client.clone())),
        metrics: metrics.clone(),
        limits,
    });
    let authority = parts.authority.clone();
    parts.health.gateway.store(true, Ordering::Release);
    let process = process.clone();
    Ok(Some(tokio::spawn(async move {
        let _part = process.drop_guard();
        gateway::serve(listener, authority, app, metrics, limits, stop.cancelled_owned()).await
    })))
}

/// Waits for caches and Lease, then reconciles until told to stop or deposed.
async fn reconcile(parts: &Parts, stop: &CancellationToken) -> Result<Ended, Failure> {
    let queues = Arc::new(Queues::default());
    let undecodable = Arc::new(Undecodable::default());
    let (caches, mut watches) =
        caches::start(parts.client.clone(), queues.clone(), undecodable.clone(), parts.metrics.clone());
    if !until(stop, caches.synced()).await.unwrap_or(false) {
        return stopped_or(stop, "a watch ended");
    }
    parts.health.synced.store(true, Ordering::Release);
    tracing::info!("caches are synced");
    let config = &parts.config;
    let mut election = Election::join(parts.kube.clone(), &config.namespace, &config.pod_name).await?;
    if !until(stop, election.gained()).await.unwrap_or(false) {
        election.release().await;
        return stopped_or(stop, "the election ended");
    }
    let ctx = Arc::new(lead(parts, caches, stop).await?);
    let ended = work(
        parts,
        &ctx,
        &queues,
        &undecodable,
        &mut Outside { election: &mut election, watches: &mut watches, stop },
    )
    .await;
    parts.metrics.leads(false);
    if ended == Ended::Stopped {
        election.release().await;
    }
    watches.shutdown().await;
    Ok(ended)
}

/// The future's value, or nothing if the stop came first.
async fn until<T>(stop: &CancellationToken, future: impl Future<Output = T>) -> Option<T> {
    stop.run_until_cancelled(future).await
}

fn stopped_or(stop: &CancellationToken, what: &str) -> Result<Ended, Failure> {
    if stop.is_cancelled() { Ok(Ended::Stopped) } else { Err(what.into()) }
}

/// Takes the epoch: from here on an older leader cannot write to the registry any more.
async fn lead(parts: &Parts, caches: Caches, stop: &CancellationToken) -> Result<Context, Failure> {
    let epoch = parts.registry.take_epoch().await?;
    parts.metrics.leads(true);
    tracing::info!(epoch, "leading");
    let issuer = Known::default();
    // before the first plan, which would otherwise be made a second time
    until(stop, issuer.read(&parts.client)).await;
    Ok(Context {
        issuer,
        client: parts.client.clone(),
        caches,
        registry: parts.registry.clone(),
        policy: parts.config.policy(parts.authority.ca_pem()),
        metrics: parts.metrics.clone(),
        backoff: Backoff::default(),
        events: Events::new(parts.client.clone(), parts.config.pod_name.clone(), parts.metrics.clone()),
        epoch,
        timeout: parts.config.reconcile_timeout(),
        deposed: CancellationToken::new(),
    })
}

/// What ends the work from outside.
struct Outside<'a> {
    election: &'a mut Election,
    watches: &'a mut JoinSet<()>,
    stop: &'a CancellationToken,
}

/// Runs the controllers; on the way out the reconciles in flight end first, unless deposed.
async fn work(
    parts: &Parts,
    ctx: &Arc<Context>,
    queues: &Arc<Queues>,
    undecodable: &Arc<Undecodable>,
    outside: &mut Outside<'_>,
) -> Ended {
    let stop_controllers = CancellationToken::new();
    let mut controllers = JoinSet::new();
    let concurrency = parts.config.concurrency;
    spawn::<Dataset>(&mut controllers, ctx, &queues.datasets, concurrency, &stop_controllers);
    spawn::<TrainingRun>(&mut controllers, ctx, &queues.runs, concurrency, &stop_controllers);
    spawn::<ModelDeployment>(&mut controllers, ctx, &queues.deployments, concurrency, &stop_controllers);
    queues.push_all(ctx.caches.everything());
    let telling = tokio::spawn({
        let (ctx, undecodable) = (ctx.clone(), undecodable.clone());
        async move { undecodable.tell(&ctx).await }
    });
    let reading = tokio::spawn({
        let (ctx, queues) = (ctx.clone(), queues.clone());
        async move { issuer::keep_reading(&ctx, &queues).await }
    });
    let ended = tokio::select! {
        () = outside.stop.cancelled() => Ended::Stopped,
        () = outside.election.lost() => {
            tracing::error!("the lease was lost or could not be renewed in time: another process may lead");
            Ended::Deposed
        }
        () = ctx.deposed.cancelled() => Ended::Deposed,
        // a watch or a controller ends only by a defect; another process may do better
        ended = outside.watches.join_next() => {
            tracing::error!(?ended, "a watch ended");
            Ended::Deposed
        }
        ended = controllers.join_next() => {
            tracing::error!(?ended, "a controller ended");
            Ended::Deposed
        }
    };
    telling.abort();
    reading.abort();
    stop_controllers.cancel();
    if ended == Ended::Deposed {
        // nothing more may be written: what is in flight is dropped
        ctx.deposed.cancel();
        controllers.shutdown().await;
    } else {
        let all = async { while controllers.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
            tracing::warn!("reconciles in flight did not end in time; the next process takes over");
        }
    }
    ended
}

fn spawn<K: Kind>(
    controllers: &mut JoinSet<()>,
    ctx: &Arc<Context>,
    queue: &Queue<K>,
    concurrency: u16,
    stop: &CancellationToken,
) where
    kube::runtime::reflector::ObjectRef<K>: std::hash::Hash + Eq,
{
    if let Some(receiver) = queue.open() {
        controllers.spawn(controller::run::<K>(ctx.clone(), receiver, concurrency, stop.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn h6_tls_works_although_other_crates_bring_providers() {
        install_crypto().unwrap();
        install_crypto().unwrap();
        // panics without a default provider as soon as two are compiled in
        let config = KubeConfig::new("https://127.0.0.1:1".parse().unwrap());
        client::build(config).unwrap();
    }

    #[test]
    fn h8_the_artifact_store_brings_no_remote_client_that_retries_for_minutes() {
        let manifest = include_str!("../../Cargo.toml");
        let line = manifest.lines().find(|l| l.starts_with("object_store = ")).unwrap();
        assert!(line.contains("default-features = false"), "{line}");
        assert!(
            !["aws", "gcp", "azure", "http"].iter().any(|f| line.contains(&format!("\"{f}\""))),
            "{line}"
        );
    }
}
