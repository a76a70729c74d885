//! The listening side: TLS, timeouts, a bound on connections, and an orderly end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures::FutureExt as _;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::{Limits, Metrics};
use crate::tls::Authority;

/// How often the certificate's age is looked at.
const RENEWAL: Duration = Duration::from_hours(12);
/// Pause after the system refused a connection: it is short of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Largest head of a request in bytes, and buffer of a connection.
const BUFFER: usize = 64 * 1024;

/// Serves the gateway until `shutdown` resolves and the open requests have ended.
pub async fn serve(
    listener: TcpListener,
    authority: Authority,
    app: Router,
    metrics: Metrics,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let tls = TlsAcceptor::from(authority.server_config().map_err(io::Error::other)?);
    let slots = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut renewal = interval(RENEWAL);
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shutdown = std::pin::pin!(shutdown.fuse());
    loop {
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((slot, listener.accept().await?.0))
        };
        tokio::select! {
            () = &mut shutdown => break,
            _ = renewal.tick() => renew(&authority),
            result = accepted => match result {
                Ok((slot, stream)) => {
                    let (tls, app, watcher) = (tls.clone(), app.clone(), graceful.watcher());
                    let open = metrics.connection();
                    tokio::spawn(async move {
                        let _held = (slot, open);
                        connection(stream, tls, app, watcher, limits).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "gateway cannot take a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    if timeout(limits.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(seconds = limits.drain.as_secs(), "gateway gives up on open requests");
    }
    Ok(())
}

fn renew(authority: &Authority) {
    match authority.renew() {
        Ok(true) => tracing::info!("renewed the gateway's certificate"),
        Ok(false) => {}
        Err(error) => tracing::error!(%error, "cannot renew the gateway's certificate"),
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, app: Router, watcher: Watcher, limits: Limits) {
    let stream = match timeout(limits.handshake, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => return tracing::debug!("TLS handshake took too long"),
    };
    let mut builder = http1::Builder::new();
    // Without a timer hyper ignores the limit for the head.
    builder.timer(TokioTimer::new()).header_read_timeout(limits.header).max_buf_size(BUFFER);
    let served = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    match timeout(limits.connection, watcher.watch(served)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "connection broke"),
        Err(_) => tracing::debug!("connection reached its longest life"),
    }
}
