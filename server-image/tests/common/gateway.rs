//! The gateway's side of the wire, as the contract describes it: TLS of an authority of its own,
//! a bearer token, blobs by digest. The real gateway is tested with the operator and in the cluster.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use vitrine_contract::gateway::Gateway;

/// What the gateway answers.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// These bytes, whatever was asked for.
    Blob(Vec<u8>),
    /// This status, with an error body.
    Status(u16, &'static str),
}

pub struct TestGateway {
    pub contract: Gateway,
    pub token: PathBuf,
    pub requests: Arc<AtomicUsize>,
    behaviour: Arc<Mutex<Behaviour>>,
    _dir: tempfile::TempDir,
}

impl TestGateway {
    pub fn start(behaviour: Behaviour) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join("token");
        std::fs::write(&token, "the-token").unwrap();
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["localhost".to_owned()])
            .unwrap()
            .signed_by(&key, &authority)
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], secret)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let behaviour = Arc::new(Mutex::new(behaviour));
        let requests = Arc::new(AtomicUsize::new(0));
        let (shared, counted, tls) = (Arc::clone(&behaviour), Arc::clone(&requests), Arc::new(tls));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let tls = StreamOwned::new(ServerConnection::new(Arc::clone(&tls)).unwrap(), stream);
                let (behaviour, counted) = (Arc::clone(&shared), Arc::clone(&counted));
                std::thread::spawn(move || answer(tls, &behaviour, &counted));
            }
        });
        let contract = Gateway { url, ca: authority.pem() };
        Self { contract, token, requests, behaviour, _dir: dir }
    }

    pub fn now(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

type Tls = StreamOwned<ServerConnection, std::net::TcpStream>;

/// One request, one answer, end of connection. A client that leaves early is no failure here.
fn answer(tls: Tls, behaviour: &Mutex<Behaviour>, counted: &AtomicUsize) -> Option<()> {
    let mut reader = BufReader::new(tls);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_ascii_lowercase());
    }
    counted.fetch_add(1, Ordering::SeqCst);
    let asked = head.first()?.starts_with(&format!("get {}sha256:", vitrine_contract::gateway::BLOBS));
    let trusted = head.iter().any(|line| line == "authorization: bearer the-token");
    let (status, body) = match behaviour.lock().unwrap().clone() {
        _ if !asked => (404, error_body("NotFound")),
        _ if !trusted => (401, error_body("StorageDenied")),
        Behaviour::Blob(bytes) => (200, bytes),
        Behaviour::Status(status, reason) => (status, error_body(reason)),
    };
    let mut tls = reader.into_inner();
    write!(tls, "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len()).ok()?;
    tls.write_all(&body).ok()?;
    tls.conn.send_close_notify();
    tls.flush().ok()
}

fn error_body(reason: &str) -> Vec<u8> {
    format!(r#"{{"error":{{"reason":"{reason}","message":"said by the test gateway"}}}}"#).into_bytes()
}
