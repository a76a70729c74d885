//! A plain HTTP server on loopback whose answers a test writes down, faults included.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The path without what follows `?`.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }
}

/// What the server answers.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Announced size; none: the body's.
    pub length: Option<u64>,
    /// Bytes that are sent one by one with a pause, before the connection stays silent.
    pub drip: bool,
}

impl Answer {
    pub fn of(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Announces so many bytes and hangs up after the body.
    pub fn cut(mut self, length: u64) -> Self {
        self.length = Some(length);
        self
    }
}

/// The server; it lives as long as the test's process.
pub struct Web {
    pub host: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Web {
    /// `answer` is asked with the request's number (from 0) and the request.
    pub fn start(answer: impl Fn(usize, &Seen) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (seen, answer) = (Arc::new(Mutex::new(Vec::new())), Arc::new(answer));
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                // A client that hangs up ends here.
                thread::spawn(move || serve(stream.unwrap(), &log, answer.as_ref()).ok());
            }
        });
        Self { host, seen }
    }

    /// Serves these files below `/data/`, with a mark and ranges.
    pub fn files(files: &[(&'static str, Vec<u8>)]) -> Self {
        let files: Vec<_> =
            files.iter().map(|(name, body)| (format!("/data/{name}"), body.clone())).collect();
        Self::start(move |_, seen| {
            let found = files.iter().find(|(path, _)| path == seen.path());
            found.map_or(Answer::of(404, "no"), |(_, body)| Answer::of(200, body.clone()))
        })
    }

    pub fn url(&self) -> String {
        format!("http://{}/data/", self.host)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(
    stream: TcpStream,
    log: &Mutex<Vec<Seen>>,
    answer: &dyn Fn(usize, &Seen) -> Answer,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut seen = Seen {
        method: words.next().unwrap_or_default(),
        target: words.next().unwrap_or_default(),
        ..Seen::default()
    };
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        seen.headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let number = {
        let mut log = log.lock().unwrap();
        log.push(seen.clone());
        log.len() - 1
    };
    let Answer { status, headers, body, length, drip } = answer(number, &seen);
    let mut out = reader.into_inner();
    let length = length.unwrap_or(body.len() as u64);
    write!(out, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n")?;
    for (name, value) in headers {
        write!(out, "{name}: {value}\r\n")?;
    }
    out.write_all(b"\r\n")?;
    if !drip {
        return out.write_all(&body);
    }
    for byte in body {
        out.write_all(&[byte])?;
        #[allow(clippy::disallowed_methods)] // the pause is what is tested
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
