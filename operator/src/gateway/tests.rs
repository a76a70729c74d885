//! The gateway over real TLS on loopback, with the pods' own client and with hand-made requests.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use vitrine_contract::gateway::{ErrorBody, Gateway};
use vitrine_gateway_client::{Client, digest_of_bytes};

use super::*;
use crate::tls::Authority;

mod hostile;
mod requests;
mod stream;

/// Digest that the pods of the table may read.
fn readable() -> String {
    digest_of_bytes(b"readable")
}

fn pod(namespace: &str, workload: Workload) -> Identity {
    Identity {
        namespace: namespace.to_owned(),
        namespace_uid: format!("uid-of-{namespace}"),
        pod: "pod".to_owned(),
        pod_uid: "pod-uid".to_owned(),
        owner: Owner { kind: "TrainingRun".into(), name: "demo".into(), uid: "run-uid".into() },
        workload,
        reads: [readable()].into(),
    }
}

fn job(uid: &str) -> Workload {
    Workload::Job { name: "job".into(), uid: uid.into() }
}

/// Identities by token.
struct Known(HashMap<&'static str, Result<Identity, IdentifyError>>);

impl Known {
    fn new(reads: &[String]) -> Self {
        let serving = Workload::Serving { name: "dep".into(), uid: "dep-uid".into() };
        let mut known = HashMap::from([
            ("job", Ok(pod("a", job("job-uid")))),
            ("other-job", Ok(pod("a", job("other-job-uid")))),
            ("foreign-job", Ok(pod("b", job("foreign-job-uid")))),
            ("serving", Ok(pod("a", serving))),
            ("stranger", Err(IdentifyError::NotOurs("pod x has no controller".into()))),
            ("outage", Err(IdentifyError::Unavailable("the apiserver does not answer".into()))),
        ]);
        for identity in known.values_mut().flatten() {
            identity.reads.extend(reads.iter().cloned());
        }
        Self(known)
    }
}

impl Identify for Known {
    fn identify<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Identity, IdentifyError>> {
        let unknown = || Err(IdentifyError::Unauthenticated("the token was refused".into()));
        let found = self.0.get(token).cloned().unwrap_or_else(unknown);
        async move { found }.boxed()
    }
}

/// A gateway that serves on loopback.
struct Server {
    dir: TempDir,
    registry: Registry,
    metrics: Metrics,
    gateway: Gateway,
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<io::Result<()>>,
}

impl Server {
    async fn start() -> Self {
        Self::with(Limits::default(), &[]).await
    }

    async fn with(limits: Limits, reads: &[String]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("artifacts")).await.unwrap();
        let registry = Registry::open(&dir.path().join("registry"), store.clone()).await.unwrap();
        let authority = Authority::open(&dir.path().join("tls"), "localhost").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let gateway = Gateway { url: format!("https://localhost:{port}"), ca: authority.ca_pem().to_owned() };
        let metrics = Metrics::default();
        let identify = Arc::new(Known::new(reads));
        let app =
            router(State { registry: registry.clone(), store, identify, metrics: metrics.clone(), limits });
        let (stop, stopped) = oneshot::channel();
        let serving = serve(listener, authority, app, metrics.clone(), limits, stopped.map(|_| ()));
        let task = tokio::spawn(serving);
        Self { dir, registry, metrics, gateway, port, stop: Some(stop), task }
    }

    /// Runs the pods' client with this token, on a thread of its own.
    async fn client<T: Send + 'static>(
        &self,
        token: &str,
        work: impl FnOnce(Client) -> T + Send + 'static,
    ) -> T {
        let path = self.dir.path().join(format!("token-{token}"));
        fs::write(&path, token).unwrap();
        let client = Client::new(&self.gateway, path).unwrap().with_deadline(Duration::from_secs(20));
        tokio::task::spawn_blocking(move || work(client)).await.unwrap()
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.gateway.ca.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    /// Sends these bytes and reads the answer to its end.
    async fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect().await;
        stream.write_all(request).await.unwrap();
        Answer::read(&mut stream).await
    }

    /// A request with these extra headers and this body.
    async fn request(&self, line: &str, token: &str, headers: &str, body: &[u8]) -> Answer {
        let head = head(line, token, headers);
        self.raw(&[head.as_bytes(), body].concat()).await
    }

    fn blob_path(&self, namespace: &str, digest: &str) -> PathBuf {
        self.dir.path().join("artifacts").join(format!("uid-of-{namespace}/sha256")).join(&digest[7..])
    }

    /// Names of all blob files, also of unfinished ones.
    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        for namespace in fs::read_dir(self.dir.path().join("artifacts")).unwrap() {
            let Ok(files) = fs::read_dir(namespace.unwrap().path().join("sha256")) else { continue };
            found.extend(files.map(|f| f.unwrap().file_name().to_string_lossy().into_owned()));
        }
        found
    }

    /// Waits until no blob file is left: what a broken upload wrote goes a moment later.
    async fn until_no_files(&self) {
        for _ in 0..500 {
            if self.files().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("left: {:?}", self.files());
    }

    async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

fn head(line: &str, token: &str, headers: &str) -> String {
    let headers = headers.replace('\n', "\r\n");
    let auth = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{auth}{headers}\r\n")
}

fn put_line(digest: &str) -> String {
    format!("PUT /v1/blobs/{digest}")
}

/// An answer as it came.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    async fn read(stream: &mut TlsStream<TcpStream>) -> Self {
        let mut bytes = Vec::new();
        // a server that closes at once may skip TLS's goodbye
        let _ = stream.read_to_end(&mut bytes).await;
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_lowercase(), body: bytes[end + 4..].to_vec() }
    }

    fn reason(&self) -> (u16, String) {
        let body: ErrorBody = serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {:?}", String::from_utf8_lossy(&self.body)));
        assert!(!body.error.message.is_empty());
        (self.status, body.error.reason)
    }

    fn message(&self) -> String {
        serde_json::from_slice::<ErrorBody>(&self.body).unwrap().error.message
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}
