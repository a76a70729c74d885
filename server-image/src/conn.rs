//! Connections: accepting, time limits on the wire, and the end of a connection.
//!
//! hyper has one timer for the head of a request, and it also runs while a kept-alive connection is
//! silent between two requests. A limit short enough against slow clients would close idle
//! connections under the feet of healthy ones. So hyper's timer is set to the long limit of
//! silence, and [`Guarded`] watches the short limits: from the first byte of a head to its end, and
//! for a client that does not take its answer. (The beginning of a head that comes in one piece with
//! the request before it counts as silence: that client has the long limit, as a silent one has.)

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};
use tower::ServiceExt;

use crate::app::App;
use crate::config::Limits;
use crate::http;

/// Largest head of a request in bytes; hyper answers 431 beyond it.
const MAX_HEAD: usize = 64 * 1024;

/// Connections that the kernel holds at most before they are accepted.
const BACKLOG: usize = 1024;

/// Accepts connections and serves them.
#[derive(Debug, Clone)]
pub struct Acceptor {
    app: Arc<App>,
    router: Router,
    limits: Limits,
    http: http1::Builder,
}

impl Acceptor {
    /// An acceptor for the routes of this server.
    pub fn new(app: Arc<App>) -> Self {
        let (router, limits) = (http::router(&app), app.limits.clone());
        Self::with(app, router, limits)
    }

    /// An acceptor for other routes with other limits.
    pub fn with(app: Arc<App>, router: Router, limits: Limits) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(limits.idle).max_buf_size(MAX_HEAD);
        Self { app, router, limits, http }
    }

    /// Accepts for ever.
    pub async fn run(&self, listener: &TcpListener, graceful: &GracefulShutdown) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => self.start(stream, graceful),
                Err(error) => {
                    // out of file descriptors, or the client has gone: neither is a reason to end
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Accepts what has come and was not accepted yet, then closes the port: closing alone would
    /// reset those connections.
    pub fn rest(&self, listener: TcpListener, graceful: &GracefulShutdown) {
        let Ok(listener) = listener.into_std() else { return };
        for _ in 0..BACKLOG {
            match listener.accept() {
                Ok((stream, _)) => {
                    let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                    match stream {
                        Ok(stream) => self.start(stream, graceful),
                        Err(error) => tracing::warn!(%error, "a connection could not be accepted"),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // that client has gone
                Err(_) => {}
            }
        }
    }

    fn start(&self, stream: TcpStream, graceful: &GracefulShutdown) {
        if graceful.count() >= self.limits.max_connections {
            tracing::warn!(limit = self.limits.max_connections, "too many connections, a new one is closed");
            return;
        }
        // an answer is one write; waiting for more would only delay it
        let _ = stream.set_nodelay(true);
        let turns = Arc::new(AtomicU64::new(0));
        let io = TokioIo::new(Guarded::new(stream, Arc::clone(&turns), self.limits.head, self.limits.write));
        let router = self.router.clone();
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            turns.fetch_add(1, Ordering::Relaxed);
            let (router, turns) = (router.clone(), Arc::clone(&turns));
            async move {
                let request: Request = request.map(Body::new);
                let response = router.oneshot(request).await;
                turns.fetch_add(1, Ordering::Relaxed);
                response
            }
        });
        let connection = graceful.watch(self.http.serve_connection(io, service));
        let app = Arc::clone(&self.app);
        app.metrics.connections.inc();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            app.metrics.connections.dec();
        });
    }
}

/// A stream with time limits for slow clients.
#[derive(Debug)]
pub struct Guarded<S> {
    inner: S,
    /// Counted up when a request goes to the service and when its answer comes back: odd while one
    /// is there, and then the body has its own limit.
    turns: Arc<AtomicU64>,
    /// The turn in which `head` was started.
    seen: u64,
    head: Stall,
    write: Stall,
}

/// A time limit that runs while something is unfinished.
#[derive(Debug)]
struct Stall {
    limit: Duration,
    since: Option<Instant>,
    // made only when it has to be waited for: most requests come and go in one piece
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    fn new(limit: Duration) -> Self {
        Self { limit, since: None, timer: None }
    }

    fn start(&mut self) {
        if self.since.is_none() {
            self.since = Some(Instant::now());
        }
    }

    fn clear(&mut self) {
        self.since = None;
        self.timer = None;
    }

    /// True when the limit has passed; else the task is woken when it passes.
    fn passed(&mut self, context: &mut Context<'_>) -> bool {
        let Some(since) = self.since else { return false };
        let deadline = since + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        timer.as_mut().poll(context).is_ready()
    }
}

impl<S> Guarded<S> {
    /// Guards a stream.
    pub fn new(inner: S, turns: Arc<AtomicU64>, head: Duration, write: Duration) -> Self {
        Self { inner, turns, seen: 0, head: Stall::new(head), write: Stall::new(write) }
    }

    fn written(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            self.write.clear();
            return result;
        }
        self.write.start();
        if self.write.passed(context) {
            Poll::Ready(Err(late("the client does not take its answer")))
        } else {
            result
        }
    }
}

fn late(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let turn = this.turns.load(Ordering::Relaxed);
        if turn != this.seen {
            this.seen = turn;
            this.head.clear();
        }
        let before = buffer.filled().len();
        let result = Pin::new(&mut this.inner).poll_read(context, buffer);
        if turn % 2 == 1 {
            return result;
        }
        if buffer.filled().len() > before {
            this.head.start();
        }
        let unfinished =
            result.is_pending() || this.head.since.is_some_and(|since| since.elapsed() >= this.head.limit);
        if unfinished && this.head.passed(context) {
            return Poll::Ready(Err(late("the head of a request did not come in time")));
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.written(context, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_write_vectored(context, slices);
        this.written(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}
