//! One file from a store to the disk: streamed, counted, resumed where it broke, summed at the end.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use vitrine_gateway_client::digest_of_file;

use super::Store;
use super::patience::{Failure, Patience, persist};
use super::room::{Promise, Room};
use crate::Error;
use crate::meter::Meter;

/// Bytes moved at once.
const BUFFER: usize = 64 << 10;
/// Largest file.
const MAX_FILE: u64 = 128 << 30;
/// Largest file whose size the server does not say beforehand.
const MAX_UNANNOUNCED: u64 = 4 << 30;
/// Room that is asked for at once where the size is not known.
const AHEAD: u64 = 16 << 20;
/// How often a file may change while it is read, or have another sum than expected, until it is told.
const CHANGES: u32 = 3;
/// Least time between two words on the progress.
const TELL: Duration = Duration::from_millis(300);

/// Where a transfer goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resume {
    /// First byte that is wanted.
    pub from: u64,
    /// Mark of the file whose first bytes are there; without one nothing is resumed.
    pub etag: Option<String>,
}

/// The head of an answer and its body.
pub struct Answer {
    /// First byte of the body.
    pub from: u64,
    /// Size of the whole file, where it is said.
    pub total: Option<u64>,
    /// Strong mark of the file.
    pub etag: Option<String>,
    /// The bytes.
    pub body: Box<dyn Read + Send>,
}

/// Fetches `file` to `folder/file`.
pub fn file(
    store: &dyn Store,
    file: &str,
    folder: &Path,
    room: &Room,
    meter: &Meter,
    patience: &Patience,
) -> Result<(), Error> {
    let tell = |step: &str| meter.step(step, 0.0);
    one(store, file, folder, room, patience, &tell)
}

/// As [`file`]; `tell` is told how far it is.
pub fn one(
    store: &dyn Store,
    file: &str,
    folder: &Path,
    room: &Room,
    patience: &Patience,
    tell: &dyn Fn(&str),
) -> Result<(), Error> {
    let path = place(folder, file)?;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::io("creating", parent))?;
    }
    let out = File::create(&path).map_err(Error::io("creating", &path))?;
    let name = store.name(file);
    let mut transfer = Transfer {
        store,
        file,
        name,
        path,
        out,
        room,
        promise: None,
        have: 0,
        farthest: 0,
        total: None,
        etag: None,
        restarts: 0,
        wrong: None,
        told: None,
    };
    let what = format!("fetching {} from {}", transfer.name, store.host());
    persist(&what, patience, tell, |brought| transfer.attempt(patience, brought, tell))
}

/// `folder/file`, which may not lie elsewhere, in any spelling.
fn place(folder: &Path, file: &str) -> Result<PathBuf, Error> {
    if file.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Error::InvalidSpec(format!("file {file:?} must lie within the source's folder")));
    }
    Ok(folder.join(file))
}

struct Transfer<'a> {
    store: &'a dyn Store,
    file: &'a str,
    name: String,
    path: PathBuf,
    out: File,
    room: &'a Room,
    promise: Option<Promise<'a>>,
    have: u64,
    /// Most bytes that any try had.
    farthest: u64,
    total: Option<u64>,
    etag: Option<String>,
    restarts: u32,
    /// Sum of the last whole file that was not the expected one.
    wrong: Option<String>,
    told: Option<Instant>,
}

impl Transfer<'_> {
    fn attempt(
        &mut self,
        patience: &Patience,
        brought: &mut u64,
        tell: &dyn Fn(&str),
    ) -> Result<(), Failure> {
        let resume = match &self.etag {
            Some(etag) => Resume { from: self.have, etag: Some(etag.clone()) },
            None => Resume::default(),
        };
        let mut answer = match self.store.open(self.file, &resume) {
            Err(Failure::Changed(cause)) => return Err(self.restart(cause)),
            opened => opened?,
        };
        self.begin(&answer)?;
        let result = self.copy(&mut answer.body, patience, brought, tell);
        self.out.flush().map_err(|e| self.full(e))?;
        result?;
        match self.total {
            Some(total) if total != self.have => {
                let (have, name) = (self.have, &self.name);
                Err(Failure::passing(format!("the transfer of {name} ended after {have} of {total} bytes")))
            }
            _ => self.verify(),
        }
    }

    /// Sets the file to where the answer begins.
    fn begin(&mut self, answer: &Answer) -> Result<(), Failure> {
        if answer.from != 0 && answer.from != self.have {
            return Err(self.restart("the server answered with another range than was asked for".to_owned()));
        }
        let other = answer.etag.is_some() && answer.etag != self.etag;
        if answer.from != 0 && (other || answer.total.is_some_and(|total| total < self.have)) {
            // not every store heeds the condition of a range
            return Err(self.restart(format!("{} was changed while it was read", self.name)));
        }
        if answer.from == 0 && self.have > 0 {
            self.out.set_len(0).map_err(|e| self.full(e))?;
            io::Seek::rewind(&mut self.out).map_err(|e| self.full(e))?;
            self.have = 0;
        }
        if answer.from == 0 || answer.etag.is_some() {
            self.etag.clone_from(&answer.etag);
        }
        self.total = answer.total;
        self.promise = None;
        let Some(total) = self.total else { return Ok(()) };
        if total > MAX_FILE {
            return Err(Failure::Final(self.too_large(total, MAX_FILE)));
        }
        let what = format!("{} has {}", self.name, size(total));
        self.ask(&what, total.saturating_sub(self.have))
    }

    /// Asks for room on the disk, instead of what was granted before.
    fn ask(&mut self, what: &str, bytes: u64) -> Result<(), Failure> {
        self.promise = None;
        self.promise = Some(self.room.promise(what, bytes).map_err(Failure::Final)?);
        Ok(())
    }

    /// Writes a part of the body, for which there is room.
    fn write(&mut self, part: &[u8]) -> Result<(), Failure> {
        let bytes = part.len() as u64;
        if self.promise.as_ref().is_none_or(|promise| promise.left() < bytes) {
            let what = format!("{} has more than {}", self.name, size(self.have));
            self.ask(&what, AHEAD)?;
        }
        self.out.write_all(part).map_err(|e| self.full(e))?;
        if let Some(promise) = &mut self.promise {
            promise.written(bytes);
        }
        self.have += bytes;
        Ok(())
    }

    /// The next try begins anew; a few times, and then it is told.
    fn restart(&mut self, cause: String) -> Failure {
        self.etag = None;
        self.restarts += 1;
        if self.restarts < CHANGES {
            return Failure::Changed(cause);
        }
        let text = format!("{}: {cause}, {CHANGES} times; write it once and leave it", self.name);
        Failure::Final(Error::SourceUnavailable(text))
    }

    fn copy(
        &mut self,
        body: &mut dyn Read,
        patience: &Patience,
        brought: &mut u64,
        tell: &dyn Fn(&str),
    ) -> Result<(), Failure> {
        let most = self.total.unwrap_or(MAX_UNANNOUNCED);
        let mut buffer = vec![0; BUFFER];
        let (mut window, mut mark) = (Instant::now(), self.have);
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let so_far = size(self.have);
                    return Err(Failure::passing(format!(
                        "the transfer broke after {so_far}: {}",
                        plain(&error)
                    )));
                }
            };
            if self.have + read as u64 > most {
                return Err(Failure::Final(self.too_large(self.have + read as u64, most)));
            }
            self.write(&buffer[..read])?;
            // what is read again is no progress
            *brought += self.have.saturating_sub(self.farthest);
            self.farthest = self.farthest.max(self.have);
            self.tell(tell);
            if window.elapsed() >= patience.window {
                if self.have - mark < patience.least {
                    let (bytes, seconds) = (self.have - mark, window.elapsed().as_secs());
                    return Err(Failure::passing(format!("only {bytes} bytes came in {seconds} s")));
                }
                (window, mark) = (Instant::now(), self.have);
            }
        }
    }

    fn tell(&mut self, tell: &dyn Fn(&str)) {
        if self.told.is_some_and(|told| told.elapsed() < TELL) {
            return;
        }
        self.told = Some(Instant::now());
        let of = self.total.map_or(String::new(), |total| format!(" of {}", size(total)));
        tell(&format!("fetching {}: {}{of}", self.name, size(self.have)));
    }

    /// The sum of the whole file, where one is expected.
    fn verify(&mut self) -> Result<(), Failure> {
        let Some(expected) = self.store.digest(self.file) else { return Ok(()) };
        let found = digest_of_file(&self.path)
            .map_err(|e| Failure::Final(Error::io("reading", &self.path)(e)))?
            .digest;
        if found == expected {
            return Ok(());
        }
        self.restarts += 1;
        self.etag = None;
        // a torn transfer tears elsewhere the next time: the same sum twice is another file
        if self.restarts < CHANGES && self.wrong.as_ref() != Some(&found) {
            self.wrong = Some(found);
            return Err(Failure::passing(format!("{} has another sha256 than expected", self.name)));
        }
        Err(Failure::Final(Error::DataCorrupt(format!(
            "{} has another sha256 than source.http.sha256 says: expected {expected}, found {found}; if the new file is right, write its sum there",
            self.name
        ))))
    }

    fn too_large(&self, bytes: u64, most: u64) -> Error {
        let (name, bytes, most) = (&self.name, size(bytes), size(most));
        Error::DataCorrupt(format!("{name} has {bytes} or more, at most {most} are fetched; split it"))
    }

    /// A fault of the disk: that it is full is told apart by its kind.
    fn full(&self, source: io::Error) -> Failure {
        let what = format!(
            "writing {} of {} to the pod's scratch space",
            self.total.map_or_else(|| size(self.have), size),
            self.name
        );
        Failure::Final(Error::Io { what, source })
    }
}

/// What broke a transfer, without what was asked.
fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the server hung up".to_owned(),
        io::ErrorKind::TimedOut => "no more bytes in time".to_owned(),
        io::ErrorKind::ConnectionReset => "the connection was reset".to_owned(),
        kind => kind.to_string(),
    }
}

/// A size for a reader.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        10_000_000..10_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{} GB", bytes / 1_000_000_000),
    }
}
