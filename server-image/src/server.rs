//! The life of the process: bind, load beside answering, drain, finish.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use vitrine_contract::exit;

use crate::app::App;
use crate::config::Settings;
use crate::conn::Acceptor;
use crate::failure::Failure;
use crate::load;
use crate::stop::{Stop, on_signals};

/// From the closing of the port: time in which a connection that came last can still send a request.
const LAST_WORD: Duration = Duration::from_millis(100);

/// Runs until a signal or a failure.
pub fn main(settings: Settings) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::internal(format!("cannot start the event loop: {error}")))?;
    let outcome = runtime.block_on(async {
        let stop =
            on_signals().map_err(|error| Failure::internal(format!("cannot watch signals: {error}")))?;
        let listener = bind(settings.address, settings.port, "listening").await?;
        run(App::new(&settings), settings, listener, stop).await
    });
    // a thread in the middle of a download or a batch must not hold the end up
    runtime.shutdown_background();
    outcome
}

/// Answers on the listener while the model is being loaded, until told to stop or until the model
/// cannot be served.
pub async fn run(
    app: Arc<App>,
    settings: Settings,
    listener: TcpListener,
    stop: watch::Receiver<Stop>,
) -> Result<(), Failure> {
    let _giving = load::give(&app, &settings);
    let loading = load::load(Arc::clone(&app), settings.source);
    let ended = async {
        match loading.await {
            Ok(()) => std::future::pending().await,
            Err(failure) => failure,
        }
    };
    tokio::select! {
        () = serve(listener, app, settings.drain, stop) => Ok(()),
        failure = ended => Err(failure),
    }
}

/// Answers until told to stop, then stops as told.
pub async fn serve(listener: TcpListener, app: Arc<App>, drain: Duration, mut stop: watch::Receiver<Stop>) {
    let graceful = GracefulShutdown::new();
    let acceptor = Acceptor::new(Arc::clone(&app));
    let told = tokio::select! {
        told = reached(&mut stop, Stop::Drain) => told,
        () = acceptor.run(&listener, &graceful) => return,
    };
    app.start_draining();
    if told == Stop::Drain && !drain.is_zero() {
        tracing::info!(seconds = drain.as_secs_f64(), "draining");
        let end = Instant::now() + drain;
        tokio::select! {
            _ = reached(&mut stop, Stop::Now) => return,
            () = tokio::time::sleep_until(end) => {}
            () = acceptor.run(&listener, &graceful) => return,
        }
    }
    acceptor.rest(listener, &graceful);
    tracing::info!(connections = graceful.count(), "finishing");
    // a connection that has sent nothing is closed at once: the last ones get time to send
    tokio::select! {
        () = tokio::time::sleep(LAST_WORD) => {}
        _ = reached(&mut stop, Stop::Now) => return,
    }
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(app.limits.finish) => tracing::warn!("requests under way were cut off"),
        _ = reached(&mut stop, Stop::Now) => {}
    }
}

/// Waits until the wish to stop is at least this strong.
async fn reached(stop: &mut watch::Receiver<Stop>, least: Stop) -> Stop {
    // the guard of the value must not be held over an await
    let told = stop.wait_for(|stop| *stop >= least).await.map(|stop| *stop);
    match told {
        Ok(told) => told,
        // nobody is left who could tell
        Err(_) => std::future::pending().await,
    }
}

/// Binds a port, for IPv6 and IPv4 where the machine has both.
pub async fn bind(address: Option<IpAddr>, port: u16, what: &'static str) -> Result<TcpListener, Failure> {
    let bound = match address {
        Some(address) => listen(SocketAddr::from((address, port)), what).await,
        None => match listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), what).await {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), what).await
            }
            bound => bound,
        },
    };
    bound.map_err(|error| {
        Failure::new("ContainerFailed", exit::INTERNAL, format!("cannot listen on port {port}: {error}"))
    })
}

async fn listen(address: SocketAddr, what: &'static str) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "{what}");
    Ok(listener)
}
