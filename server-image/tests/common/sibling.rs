//! A sibling that does whatever a test wants of it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What it does with every request.
#[derive(Clone)]
pub enum Manner {
    /// Sends these bytes.
    Sends(Vec<u8>),
    /// Announces a large body and sends a byte now and then.
    Drips,
    /// Answers with this status.
    Status(u16),
}

pub struct TestSibling {
    pub requests: Arc<AtomicUsize>,
}

/// An address of this machine on which nobody listens.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl TestSibling {
    pub fn start(address: SocketAddr, manner: Manner) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (manner, counted) = (manner.clone(), Arc::clone(&counted));
                std::thread::spawn(move || answer(stream, &manner, &counted));
            }
        });
        Self { requests }
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// A caller that leaves early is no failure here.
#[allow(clippy::disallowed_methods, reason = "slowness is what is tested")]
fn answer(stream: TcpStream, manner: &Manner, counted: &AtomicUsize) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && !line.trim().is_empty() {
        line.clear();
    }
    counted.fetch_add(1, Ordering::SeqCst);
    let mut out = reader.into_inner();
    let mut head = |status: u16, length: usize| {
        write!(out, "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n")
    };
    match manner {
        Manner::Status(status) => head(*status, 0),
        Manner::Sends(bytes) => {
            head(200, bytes.len())?;
            out.write_all(bytes)
        }
        Manner::Drips => {
            head(200, 1 << 20)?;
            loop {
                out.write_all(b"x")?;
                out.flush()?;
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }
}
