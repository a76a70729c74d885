//! A TLS server on loopback whose answers a test writes down.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use vitrine_contract::gateway::Gateway;

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// What the server does with a request.
pub enum Answer {
    /// Reads the body and answers.
    Status(u16, Vec<u8>),
    /// Answers before it takes the body, as a gateway does that does not want it.
    Early(u16, Vec<u8>),
    /// Announces so many bytes and hangs up after these.
    Truncated(usize, Vec<u8>),
    /// Hangs up without a word.
    HangUp,
}

/// The server; it lives as long as the test's process.
pub struct Server {
    pub gateway: Gateway,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// `answer` is asked with the request's number (from 0) and the request.
    pub fn start(answer: impl Fn(usize, &Seen) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let (ca, config) = identity();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that distrusts the certificate ends here; the next one is served.
                let _ = serve(stream.unwrap(), &config, &log, &answer);
            }
        });
        Self { gateway: Gateway { url, ca }, seen }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// A fresh authority (PEM) and a server for `localhost` that it signed.
pub fn identity() -> (String, Arc<ServerConfig>) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    (ca_pem, Arc::new(config))
}

fn serve(
    stream: TcpStream,
    config: &Arc<ServerConfig>,
    log: &Mutex<Vec<Seen>>,
    answer: &dyn Fn(usize, &Seen) -> Answer,
) -> std::io::Result<()> {
    let tls = ServerConnection::new(Arc::clone(config)).map_err(std::io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(tls, stream));
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut seen = Seen {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        ..Seen::default()
    };
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        seen.headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let number = log.lock().unwrap().len();
    let what = answer(number, &seen);
    if !matches!(what, Answer::Early(..) | Answer::HangUp) {
        if seen.header("expect").is_some() {
            stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let length = seen.header("content-length").map_or(0, |v| v.parse().unwrap());
        seen.body = vec![0; length];
        stream.read_exact(&mut seen.body)?;
    }
    log.lock().unwrap().push(seen);
    let (status, length, body) = match what {
        Answer::Status(status, body) | Answer::Early(status, body) => (status, body.len(), body),
        Answer::Truncated(length, body) => (200, length, body),
        Answer::HangUp => return Ok(()),
    };
    let out = stream.get_mut();
    write!(out, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    out.write_all(&body)?;
    out.conn.send_close_notify();
    out.flush()
}
