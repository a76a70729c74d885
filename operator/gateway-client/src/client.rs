//! Requests to the gateway.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};
use ureq::config::ConfigBuilder;
use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, RETRY_AFTER};
use ureq::http::{Method, Request, Response, StatusCode};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::typestate::AgentScope;
use ureq::{Agent, Body, RequestExt, SendBody};
use vitrine_contract::gateway::{self, ErrorBody, Gateway};
use vitrine_contract::report::{Blob, Message, Progress};

use crate::digest::{BUFFER, digest_of_bytes, digest_of_file, written};
use crate::error::Error;
use crate::retry::{Failure, once, retry};

/// How long a request is tried unless the caller says otherwise: an operator's restart must not
/// fail a training.
pub const DEFAULT_DEADLINE: Duration = Duration::from_mins(5);
/// Time for one progress post.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(2);
/// Time to connect, per try.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence of the gateway within a try.
const STALL_TIMEOUT: Duration = Duration::from_mins(1);
/// How long an upload waits for the gateway to say that it wants the bytes. It always does, or answers: where
/// it has the blob already, after it has read all of it. Bytes that were sent unasked would break the answer.
const CONTINUE_TIMEOUT: Duration = Duration::from_mins(5);
/// Largest error body that is read.
const MAX_ERROR_BODY: u64 = 16 * 1024;

/// Time to connect to a sibling: it is in the same cluster, or not there.
const SIBLING_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest silence of a sibling.
const SIBLING_STALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Talks to the gateway, or to a sibling, in the name of this pod.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    url: Arc<str>,
    token: Arc<Path>,
    deadline: Duration,
    once: bool,
}

impl Client {
    /// For this gateway, with the token in this file. Sends nothing yet.
    pub fn new(gateway: &Gateway, token: impl Into<PathBuf>) -> Result<Self, Error> {
        let url = gateway.url.trim_end_matches('/');
        let config_error = |message: String| Error::Config { url: url.to_owned(), message };
        if !url.starts_with("https://") {
            return Err(config_error("the address must begin with https://".into()));
        }
        let mut roots = Vec::new();
        for item in parse_pem(gateway.ca.as_bytes()) {
            match item {
                Ok(PemItem::Certificate(certificate)) => roots.push(certificate),
                Ok(_) => {}
                Err(e) => return Err(config_error(format!("the authority is not PEM: {e}"))),
            }
        }
        if roots.is_empty() {
            return Err(config_error("the authority holds no certificate".into()));
        }
        let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots)).build();
        let agent =
            agent(CONNECT_TIMEOUT, STALL_TIMEOUT).tls_config(tls).https_only(true).build().new_agent();
        Ok(Self::with(agent, url, token.into()))
    }

    /// For the ready pods behind this address that have the same model, with the token for them in
    /// this file. Plain HTTP: the token is good for nothing else, and what comes is checked against
    /// its digest as everything is. Each request is one try, because there is somebody else to ask.
    pub fn for_siblings(url: &str, token: impl Into<PathBuf>) -> Result<Self, Error> {
        let url = url.trim_end_matches('/');
        if !url.starts_with("http://") {
            let message = "the address of siblings must begin with http://".into();
            return Err(Error::Config { url: url.to_owned(), message });
        }
        let agent = agent(SIBLING_CONNECT_TIMEOUT, SIBLING_STALL_TIMEOUT).build().new_agent();
        Ok(Self::with(agent, url, token.into()).once())
    }

    fn with(agent: Agent, url: &str, token: PathBuf) -> Self {
        Self { agent, url: url.into(), token: token.into(), deadline: DEFAULT_DEADLINE, once: false }
    }

    /// The same client whose requests are one try each: the deadline is that of the try.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.once = true;
        self
    }

    /// The same client whose requests are each tried for this long at most.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Fetches a blob into a file, which appears under its name only when it is whole and has that digest.
    pub fn get_to_file(&self, digest: &str, path: &Path) -> Result<Blob, Error> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let io_error = |source| Error::Io { path: part.clone(), source };
        let result = self.get(digest, |body| {
            let mut file = File::create(&part).map_err(|e| Failure::Final(io_error(e)))?;
            let mut write = |piece: &[u8]| file.write_all(piece).map_err(|e| Failure::Final(io_error(e)));
            copy_verified(digest, body, &mut write)
        });
        match result {
            Ok(bytes) => {
                fs::rename(&part, path).map_err(io_error)?;
                Ok(Blob { digest: digest.to_owned(), bytes })
            }
            Err(error) => {
                // It may not exist; the error that matters is the first.
                let _ = fs::remove_file(&part);
                Err(error)
            }
        }
    }

    /// Fetches a blob of at most `max` bytes.
    pub fn get_bytes(&self, digest: &str, max: usize) -> Result<Vec<u8>, Error> {
        self.get(digest, |body| {
            let mut bytes = Vec::new();
            let mut write = |piece: &[u8]| {
                if bytes.len() + piece.len() > max {
                    let what = format!("blob {digest}");
                    return Err(Failure::Final(Error::TooLarge { what, max: format!("{max} bytes") }));
                }
                bytes.extend_from_slice(piece);
                Ok(())
            };
            copy_verified(digest, body, &mut write)?;
            Ok(bytes)
        })
    }

    /// Stores a file under its digest. The file is read twice: for the digest and for sending.
    pub fn put_file(&self, path: &Path) -> Result<Blob, Error> {
        let io_error = |source| Error::Io { path: path.to_owned(), source };
        let blob = digest_of_file(path).map_err(io_error)?;
        self.put(&blob, |send| {
            let mut file = File::open(path).map_err(|e| Failure::Final(io_error(e)))?;
            send(&mut file)
        })?;
        Ok(blob)
    }

    /// Stores bytes under their digest.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Blob, Error> {
        let blob = Blob { digest: digest_of_bytes(bytes), bytes: bytes.len() as u64 };
        self.put(&blob, |send| send(&mut &bytes[..]))?;
        Ok(blob)
    }

    /// Reports how the pod's work ended; tried until the deadline.
    pub fn post_result(&self, message: &Message) -> Result<(), Error> {
        retry("POST result", self.deadline, |left| self.post(gateway::RESULT, message, left))
    }

    /// Reports progress: one try of two seconds. See [`crate::ProgressPoster`] for doing it aside.
    pub fn post_progress(&self, progress: &Progress) -> Result<(), Error> {
        retry("POST progress", Duration::ZERO, |_| self.post(gateway::PROGRESS, progress, PROGRESS_TIMEOUT))
    }

    fn get<T>(&self, digest: &str, mut take: impl FnMut(Body) -> Result<T, Failure>) -> Result<T, Error> {
        let what = format!("GET blob {digest}");
        let attempt = |left| {
            let request = self.request(Method::GET, &format!("{}{digest}", gateway::BLOBS))?;
            let response = self.send(&what, build(request, SendBody::none(), &what)?, left)?;
            take(response.into_body())
        };
        if self.once { once(&what, self.deadline, attempt) } else { retry(&what, self.deadline, attempt) }
    }

    /// `open` is called once a try with what sends a reader's bytes.
    fn put(
        &self,
        blob: &Blob,
        open: impl Fn(&mut dyn FnMut(&mut dyn Read) -> Result<(), Failure>) -> Result<(), Failure>,
    ) -> Result<(), Error> {
        let what = format!("PUT blob {}", blob.digest);
        retry(&what, self.deadline, |left| {
            open(&mut |reader| {
                let request = self
                    .request(Method::PUT, &format!("{}{}", gateway::BLOBS, blob.digest))?
                    .header(CONTENT_TYPE, "application/octet-stream")
                    .header(CONTENT_LENGTH, blob.bytes)
                    // The gateway answers first when it has the blob already or does not want it.
                    .header(EXPECT, "100-continue");
                self.send(&what, build(request, SendBody::from_reader(reader), &what)?, left)?;
                Ok(())
            })
        })
    }

    fn post(&self, path: &str, body: &impl Serialize, left: Duration) -> Result<(), Failure> {
        let what = format!("POST {path}");
        let refuse =
            |message: String| Failure::Final(Error::Refused { what: what.clone(), status: 0, message });
        let json = serde_json::to_vec(body).map_err(|e| refuse(e.to_string()))?;
        if json.len() > gateway::MAX_POST {
            let max = format!("{} bytes", gateway::MAX_POST);
            return Err(Failure::Final(Error::TooLarge { what, max }));
        }
        let request = self
            .request(Method::POST, path)?
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_LENGTH, json.len());
        let mut reader = json.as_slice();
        self.send(&what, build(request, SendBody::from_reader(&mut reader), &what)?, left)?;
        Ok(())
    }

    fn request(&self, method: Method, path: &str) -> Result<ureq::http::request::Builder, Failure> {
        let io_error = |source| Error::Io { path: self.token.to_path_buf(), source };
        let token = fs::read_to_string(&self.token).map_err(|e| Failure::Final(io_error(e)))?;
        Ok(Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header(AUTHORIZATION, format!("Bearer {}", token.trim())))
    }

    /// One try: a success, or what its status means.
    fn send(
        &self,
        what: &str,
        request: Request<SendBody<'_>>,
        left: Duration,
    ) -> Result<Response<Body>, Failure> {
        let sent = request.with_agent(&self.agent).configure().timeout_global(Some(left)).run();
        let response = sent.map_err(|e| self.transport_failure(e))?;
        if response.status().is_success() { Ok(response) } else { Err(judged(what, response)) }
    }

    fn transport_failure(&self, error: ureq::Error) -> Failure {
        if let Some(message) = certificate_error(&error) {
            return Failure::Final(Error::Untrusted { url: self.url.to_string(), message });
        }
        match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                Failure::Final(Error::Config { url: self.url.to_string(), message: error.to_string() })
            }
            other => Failure::Transient { cause: other.to_string(), after: None },
        }
    }
}

fn agent(connect: Duration, stall: Duration) -> ConfigBuilder<AgentScope> {
    Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .timeout_connect(Some(connect))
        .timeout_await_100(Some(CONTINUE_TIMEOUT))
        .timeout_per_read(Some(stall))
        .timeout_per_write(Some(stall))
        .user_agent(concat!("vitrine/", env!("CARGO_PKG_VERSION")))
}

/// What is wrong with the gateway's certificate, if that is why the request failed. Other TLS
/// errors (a restarting gateway's torn handshake) pass.
fn certificate_error(error: &ureq::Error) -> Option<String> {
    let tls = match error {
        ureq::Error::Rustls(e) => e,
        ureq::Error::Io(e) => e.get_ref()?.downcast_ref()?,
        _ => return None,
    };
    matches!(tls, rustls::Error::InvalidCertificate(_)).then(|| tls.to_string())
}

fn build<'a>(
    request: ureq::http::request::Builder,
    body: SendBody<'a>,
    what: &str,
) -> Result<Request<SendBody<'a>>, Failure> {
    request.body(body).map_err(|e| {
        // A token or a digest with bytes that no header can hold.
        Failure::Final(Error::Refused { what: what.to_owned(), status: 0, message: e.to_string() })
    })
}

/// Hands every piece of the body to `write`; ends well only if the digest is the expected one.
fn copy_verified(
    expected: &str,
    body: Body,
    write: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<u64, Failure> {
    let mut reader = body.into_reader();
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    let mut bytes = 0;
    loop {
        let read = reader.read(&mut buffer).map_err(|e| {
            let cause = format!("the transfer broke after {bytes} bytes: {e}");
            Failure::Transient { cause, after: None }
        })?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        write(&buffer[..read])?;
        bytes += read as u64;
    }
    let found = written(hash);
    if found == expected {
        return Ok(bytes);
    }
    Err(Failure::Likely(Error::DigestMismatch { expected: expected.to_owned(), found }))
}

/// What an answer that is no success means.
fn judged(what: &str, mut response: Response<Body>) -> Failure {
    let status = response.status();
    let after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
    let after = after.map(Duration::from_secs);
    let text = response.body_mut().with_config().limit(MAX_ERROR_BODY).read_to_string().unwrap_or_default();
    let detail = serde_json::from_str::<ErrorBody>(&text).unwrap_or_default().error;
    let message = if detail.message.is_empty() { text } else { detail.message };
    let what = what.to_owned();
    match status {
        // A pod may be quicker than the gateway's view of the cluster, and a token may just have
        // been rotated: worth a second look.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::Likely(Error::Denied { what, message }),
        StatusCode::NOT_FOUND => Failure::Final(Error::NotFound { what }),
        StatusCode::INSUFFICIENT_STORAGE => Failure::Final(Error::StorageFull { what, message }),
        StatusCode::PAYLOAD_TOO_LARGE => Failure::Final(Error::TooLarge { what, max: message }),
        StatusCode::BAD_REQUEST if detail.reason == "DigestMismatch" => {
            let expected = what.trim_start_matches("PUT blob ").to_owned();
            Failure::Likely(Error::DigestMismatch { expected, found: message })
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Failure::Transient { cause: format!("{status}: {message}"), after }
        }
        _ if status.is_server_error() => Failure::Transient { cause: format!("{status}: {message}"), after },
        _ => Failure::Final(Error::Refused { what, status: status.as_u16(), message }),
    }
}
