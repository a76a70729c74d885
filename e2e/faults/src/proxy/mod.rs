//! A proxy between an operator and the apiserver: plain HTTP on loopback in, TLS out, with the
//! operator's own token. It lets the released operator be tested as it is: the fault layer lies on the
//! wire and not in the program.
//!
//! What must not be done here: no judgement about what the operator does. The log is for the oracles.

pub mod call;
pub mod gate;
pub mod rules;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::process::signal_pid;
use call::Call;
use gate::{Gates, Kept};
use rules::{Action, Point, Rule, Rules};

type Error = std::io::Error;
type Body = UnsyncBoxBody<Bytes, Error>;

/// A request that the apiserver answered.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What was asked.
    pub call: Call,
    /// Status of the apiserver's answer.
    pub code: u16,
    /// Whether it changed what is stored.
    pub effective: bool,
    /// What was sent.
    pub body: Value,
    /// When the answer came.
    pub at: Instant,
}

/// The proxy of one operator. A clone is the same proxy.
#[derive(Clone)]
pub struct Proxy(Arc<Shared>);

struct Shared {
    address: SocketAddr,
    upstream: Client,
    gates: Gates,
    state: Mutex<State>,
    released: Notify,
}

#[derive(Default)]
struct State {
    rules: Rules,
    log: Vec<Entry>,
    /// Requests that arrived, whether they were answered or not.
    arrived: usize,
    /// Those of them that came while nothing answered.
    refused: usize,
    /// Process that a rule kills.
    victim: Option<u32>,
    /// A rule killed it, and nobody asked yet.
    killed: bool,
    /// Kill it with the next request.
    armed: bool,
    /// Newest resource version by object, to tell writes that changed nothing.
    versions: HashMap<String, String>,
    down: bool,
}

impl State {
    fn refuse(&mut self, call: &Call) {
        self.refused += usize::from(!call.is_lease());
    }
}

impl Proxy {
    /// Listens on loopback in front of an apiserver.
    pub async fn start(upstream: Client) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let shared = Shared {
            address: listener.local_addr()?,
            upstream,
            gates: Gates::default(),
            state: Mutex::default(),
            released: Notify::new(),
        };
        let proxy = Self(Arc::new(shared));
        tokio::spawn(accept(proxy.clone(), listener));
        Ok(proxy)
    }

    /// Address for the operator's kubeconfig.
    pub fn url(&self) -> String {
        format!("http://{}", self.0.address)
    }

    /// The gates of its watches.
    pub fn gates(&self) -> &Gates {
        &self.0.gates
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a rule.
    pub fn add(&self, rule: Rule) {
        self.state().rules.add(rule);
    }

    /// Rules that have not happened yet.
    pub fn rules_left(&self) -> usize {
        self.state().rules.left()
    }

    /// Lets what [`Action::Hold`] holds go on.
    pub fn release(&self) {
        self.0.released.notify_waiters();
    }

    /// No connection works (or they do again): no request is answered, and what is open breaks.
    pub fn set_down(&self, down: bool) {
        self.state().down = down;
        if down {
            self.0.gates.break_all();
        }
    }

    /// From now on nothing about the resource is news: events are held back, and lists are answered as
    /// they are now, not as they were when the operator last asked.
    pub async fn freeze(&self, resource: &str) -> Result<()> {
        self.0.gates.freeze(resource);
        for (address, kept) in self.0.gates.lists(resource) {
            let body = self.ask_again(&kept).await?;
            self.0.gates.keep_list(&address, Kept { body, given: false, ..kept });
        }
        Ok(())
    }

    /// Counts the lists of a frozen resource that were given out and are no longer true.
    pub async fn count_stale(&self, resource: &str) -> Result<()> {
        for (_, kept) in self.0.gates.lists(resource).into_iter().filter(|(_, kept)| kept.given) {
            if json_of(&self.ask_again(&kept).await?)["items"] != json_of(&kept.body)["items"] {
                self.0.gates.was_stale(resource);
            }
        }
        Ok(())
    }

    async fn ask_again(&self, kept: &Kept) -> Result<Bytes> {
        let request = Request::from_parts(kept.head.clone(), kube::client::Body::empty());
        let response = self.0.upstream.send(request).await?;
        anyhow::ensure!(response.status().is_success(), "{}: {}", kept.head.uri, response.status());
        Ok(response.into_body().collect().await?.to_bytes())
    }

    /// Did a rule kill the process since this was last asked?
    pub fn take_kill(&self) -> bool {
        std::mem::take(&mut self.state().killed)
    }

    /// Which process a rule kills.
    pub fn set_victim(&self, pid: u32) {
        self.state().victim = Some(pid);
    }

    /// Requests that arrived so far, but for those of the Lease.
    pub fn arrived(&self) -> usize {
        self.state().arrived
    }

    /// Requests that came while nothing answered, but for those of the Lease.
    pub fn refused(&self) -> usize {
        self.state().refused
    }

    /// What was answered so far.
    pub fn log(&self) -> Vec<Entry> {
        self.state().log.clone()
    }

    /// Successful writes of workloads, those that changed nothing included.
    pub fn writes(&self) -> Vec<Entry> {
        let all = self.state().log.clone();
        all.into_iter().filter(|e| e.call.writes() && !e.call.is_bookkeeping() && e.code < 300).collect()
    }

    fn kill(&self) {
        let mut state = self.state();
        if let Some(pid) = state.victim.take() {
            state.killed = true;
            signal_pid(pid, Signal::KILL);
        }
    }

    fn note(&self, call: &Call, code: u16, sent: &Bytes, answer: &Bytes) {
        let (body, answer) = if call.writes() && !call.is_bookkeeping() {
            (object_of(json_of(sent)), json_of(answer))
        } else {
            (Value::Null, Value::Null)
        };
        let version = answer.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default();
        let key = format!("{}/{}", call.namespace, answer.pointer("/metadata/uid").unwrap_or(&Value::Null));
        let mut state = self.state();
        let before = state.versions.insert(key, version.to_owned());
        let effective = code < 300 && (call.verb == "delete" || before.as_deref() != Some(version));
        state.log.push(Entry { call: call.clone(), code, effective, body, at: Instant::now() });
    }
}

fn json_of(bytes: &Bytes) -> Value {
    serde_json::from_slice(bytes).unwrap_or(Value::Null)
}

/// A JSON patch of a status as the part of the object that it speaks of.
fn object_of(body: Value) -> Value {
    let Some(operations) = body.as_array() else { return body };
    let of = |path: &str| operations.iter().find(|o| o["path"] == path).map(|o| o["value"].clone());
    json!({"metadata": {"uid": of("/metadata/uid")}, "status": of("/status")})
}

async fn accept(proxy: Proxy, listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let proxy = proxy.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let proxy = proxy.clone();
                // a task of its own: what was sent is carried out and noted, also if the sender ends meanwhile
                async move { tokio::spawn(async move { proxy.handle(request).await }).await? }
            });
            // an error is a connection that we or the operator ended: both are meant
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// The end of a connection, as an error of the service.
fn gone<T>() -> Result<T, Error> {
    Err(Error::other("the connection ends here"))
}

impl Proxy {
    async fn handle(&self, request: Request<Incoming>) -> Result<Response<Body>, Error> {
        let call = Call::of(request.method(), request.uri());
        let rule = {
            let mut state = self.state();
            state.arrived += usize::from(!call.is_lease());
            if state.down {
                state.refuse(&call);
                return gone();
            }
            if state.armed && !call.is_lease() {
                state.armed = false;
                drop(state);
                self.kill();
                return gone();
            }
            state.rules.take(&call)
        };
        let (head, body) = request.into_parts();
        let sent = body.collect().await.map_err(Error::other)?.to_bytes();
        if let Some(rule) = rule.as_ref().filter(|r| r.point == Point::Before)
            && let Some(answer) = self.act(&rule.action, None).await?
        {
            return Ok(answer);
        }
        // the apiserver may have gone away while the request was delayed
        if rule.is_some() && self.is_down(&call) {
            return gone();
        }
        let address = head.uri.to_string();
        let frozen = self.0.gates.is_frozen(&call.resource);
        if call.verb == "list" && frozen {
            match self.0.gates.list(&address) {
                Some(body) => return Ok(answer(StatusCode::OK, body)),
                None => self.0.gates.opened(&call.resource).await,
            }
        }
        if call.verb == "watch" {
            self.0.gates.opened(&call.resource).await;
        }
        let kept = (call.verb == "list").then(|| head.clone());
        let forwarded = Request::from_parts(head, kube::client::Body::from(sent.to_vec()));
        let response = self.0.upstream.send(forwarded).await.map_err(Error::other)?;
        if call.verb == "watch" {
            self.note(&call, response.status().as_u16(), &sent, &Bytes::new());
            let watch = self.watch(&call, response);
            // only now is it broken by an outage
            return if self.is_down(&call) { gone() } else { Ok(watch) };
        }
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(Error::other)?.to_bytes();
        self.note(&call, head.status.as_u16(), &sent, &body);
        // an outage ends what is on its way too
        if self.is_down(&call) {
            return gone();
        }
        if let Some(asked) = kept.filter(|_| head.status.is_success()) {
            let resource = call.resource.clone();
            self.0
                .gates
                .keep_list(&address, Kept { resource, head: asked, body: body.clone(), given: false });
        }
        match rule.filter(|r| r.point != Point::Before) {
            Some(rule) if rule.point == Point::After && rule.action == Action::Kill => {
                self.arm();
            }
            Some(rule) => {
                if let Some(answer) = self.act(&rule.action, Some(&body)).await? {
                    return Ok(answer);
                }
            }
            None => {}
        }
        Ok(rebuilt(&head, body))
    }

    /// Does nothing answer? Then the call is one that is refused.
    fn is_down(&self, call: &Call) -> bool {
        let mut state = self.state();
        if state.down {
            state.refuse(call);
        }
        state.down
    }

    /// The kill comes with the next request, or soon if there is none.
    fn arm(&self) {
        self.state().armed = true;
        let proxy = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let armed = std::mem::take(&mut proxy.state().armed);
            if armed {
                proxy.kill();
            }
        });
    }

    /// What goes wrong; an answer, an end of the connection, or nothing (and all goes on).
    async fn act(&self, action: &Action, answered: Option<&Bytes>) -> Result<Option<Response<Body>>, Error> {
        match action {
            Action::Kill => {
                self.kill();
                gone()
            }
            Action::Reset => gone(),
            Action::Hang => {
                std::future::pending::<()>().await;
                gone()
            }
            Action::Status { code, reason, retry_after } => Ok(Some(status(*code, reason, *retry_after))),
            Action::Truncate => Ok(Some(half(answered, false))),
            Action::CutJson => Ok(Some(half(answered, true))),
            Action::Delay(_) => {
                tokio::time::sleep(action.delay().unwrap_or_default()).await;
                Ok(None)
            }
            Action::Hold => {
                self.0.released.notified().await;
                Ok(None)
            }
        }
    }

    fn watch(&self, call: &Call, response: Response<kube::client::Body>) -> Response<Body> {
        let (head, body) = response.into_parts();
        let frames = futures::TryStreamExt::map_err(BodyStream::new(body), Error::other);
        let chunks = frames.filter_map(|frame| async {
            match frame {
                Ok(frame) => frame.into_data().ok().map(Ok),
                Err(error) => Some(Err(error)),
            }
        });
        let gated = self.0.gates.pass(&call.resource, Box::pin(chunks));
        let body = StreamBody::new(gated.map_ok(Frame::data));
        let mut response = Response::new(http_body_util::BodyExt::boxed_unsync(body));
        *response.status_mut() = head.status;
        if let Some(kind) = head.headers.get(header::CONTENT_TYPE) {
            response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
        }
        response
    }
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn answer(code: StatusCode, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// The apiserver's answer, with its body in one piece.
fn rebuilt(head: &http::response::Parts, body: Bytes) -> Response<Body> {
    let mut response = answer(head.status, body);
    for name in [header::CONTENT_TYPE, header::RETRY_AFTER] {
        if let Some(value) = head.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// A refusal in the API's words.
fn status(code: u16, reason: &str, retry_after: Option<u32>) -> Response<Body> {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("{reason} (injected)"), "reason": reason, "code": code});
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = answer(code, Bytes::from(body.to_string()));
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// Half of an answer: with an orderly end (`whole`), or with a connection that breaks.
fn half(answered: Option<&Bytes>, whole: bool) -> Response<Body> {
    let bytes = answered.cloned().unwrap_or_default();
    let first = bytes.slice(..bytes.len() / 2);
    if whole {
        return answer(StatusCode::OK, first);
    }
    let pieces: [Result<Frame<Bytes>, Error>; 2] = [Ok(Frame::data(first)), Err(Error::other("broken"))];
    let mut response =
        Response::new(http_body_util::BodyExt::boxed_unsync(StreamBody::new(futures::stream::iter(pieces))));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
