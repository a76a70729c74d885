//! One CSV file, row by row.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Component, Path};
use std::rc::Rc;

use csv::{ByteRecord, ReaderBuilder};

use crate::Error;
use crate::guard::{Fault, Guard};

/// Most columns of a table.
const MAX_COLUMNS: usize = 10_000;
/// Most file names or columns listed in a message.
const LISTED: usize = 20;
/// Names under which pandas' unnamed index column is known.
const INDEX_NAMES: [&str; 2] = ["", "Unnamed: 0"];

/// A CSV file that is being read.
#[derive(Debug)]
pub struct Table {
    /// The file as the user named it.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    header: Vec<String>,
    reader: csv::Reader<Guard<BufReader<File>>>,
    read: Rc<Cell<u64>>,
}

/// One row as it stands in the file.
#[derive(Debug, Default)]
pub struct RawRow {
    record: ByteRecord,
    columns: usize,
}

/// Why a row cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadRow {
    /// It has another number of cells than the header.
    Ragged,
    /// The cell in this column is not UTF-8.
    NotUtf8(usize),
}

impl RawRow {
    /// Line where the row begins, from 1.
    pub fn line(&self) -> u64 {
        self.record.position().map_or(0, csv::Position::line)
    }

    /// Number of cells.
    pub fn cells(&self) -> usize {
        self.record.len()
    }

    /// The cell of a column.
    pub fn cell(&self, column: usize) -> Result<&str, BadRow> {
        if self.record.len() != self.columns {
            return Err(BadRow::Ragged);
        }
        let bytes = self.record.get(column).ok_or(BadRow::Ragged)?;
        std::str::from_utf8(bytes).map_err(|_| BadRow::NotUtf8(column))
    }
}

impl Table {
    /// Opens `folder/name` and reads its header.
    pub fn open(folder: &Path, name: &str) -> Result<Self, Error> {
        let relative = Path::new(name);
        if relative.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(Error::InvalidSpec(format!("file {name:?} must lie within the source's folder")));
        }
        let path = folder.join(relative);
        let unreadable = |e: io::Error| source_error(folder, name, &e);
        let file = File::open(&path).map_err(unreadable)?;
        let meta = file.metadata().map_err(unreadable)?;
        if !meta.is_file() {
            return Err(Error::SourceNotFound(format!("{name} is not a file; {}", listing(folder))));
        }
        let mut input = BufReader::with_capacity(1 << 16, file);
        skip_mark(&mut input, name)?;
        let read = Rc::new(Cell::new(0));
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(Guard::new(input, Rc::clone(&read)));
        let mut table = Self { name: name.to_owned(), bytes: meta.len(), header: Vec::new(), reader, read };
        table.header = table.read_header()?;
        Ok(table)
    }

    fn read_header(&mut self) -> Result<Vec<String>, Error> {
        let mut first = RawRow::default();
        if !self.next(&mut first)? {
            return Err(Error::DataCorrupt(format!("{} is empty: there is not even a header", self.name)));
        }
        if first.cells() > MAX_COLUMNS {
            let found = first.cells();
            return Err(self.corrupt(1, &format!("{found} columns, at most {MAX_COLUMNS} are read")));
        }
        let names = first.record.iter().map(|name| String::from_utf8(name.to_owned()));
        names.collect::<Result<_, _>>().map_err(|_| {
            self.corrupt(
                1,
                "the header is not UTF-8; convert the file, for example with iconv -f latin1 -t utf-8",
            )
        })
    }

    /// Position of a column that must be there once.
    pub fn column(&self, name: &str) -> Result<usize, Error> {
        let mut found = self.header.iter().enumerate().filter(|(_, header)| *header == name);
        let Some((position, _)) = found.next() else {
            let message = format!("{} has no column {name:?}; it has {}", self.name, quoted(&self.header));
            return Err(Error::DataCorrupt(message));
        };
        match found.next() {
            None => Ok(position),
            Some(_) => Err(self.corrupt(1, &format!("column {name:?} is there more than once; rename one"))),
        }
    }

    /// Position of pandas' unnamed index column.
    pub fn index_column(&self) -> Result<usize, Error> {
        self.header.iter().position(|header| INDEX_NAMES.contains(&header.as_str())).ok_or_else(|| {
            Error::DataCorrupt(format!(
                "{} has no unnamed index column to join labels on; it has {}; write it with pandas' to_csv(index=True), or put the labels into the features file and leave files.labels out",
                self.name,
                quoted(&self.header)
            ))
        })
    }

    /// Name of a column, for messages.
    pub fn header(&self, column: usize) -> &str {
        self.header.get(column).map_or("", String::as_str)
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.header.len()
    }

    /// Share of the file that was read.
    pub fn fraction_read(&self) -> f64 {
        if self.bytes == 0 { 1.0 } else { self.read.get() as f64 / self.bytes as f64 }
    }

    /// Reads the next row; false at the end.
    pub fn next(&mut self, row: &mut RawRow) -> Result<bool, Error> {
        row.columns = self.header.len();
        match self.reader.read_byte_record(&mut row.record) {
            Ok(more) => Ok(more),
            Err(error) => Err(self.broken(error)),
        }
    }

    /// An error that names this file and a line.
    pub fn corrupt(&self, line: u64, what: &str) -> Error {
        Error::DataCorrupt(format!("{} line {line}: {what}", self.name))
    }

    fn broken(&self, error: csv::Error) -> Error {
        let text = error.to_string();
        let csv::ErrorKind::Io(source) = error.into_kind() else {
            return Error::DataCorrupt(format!("{}: {text}", self.name));
        };
        match source.get_ref().and_then(|inner| inner.downcast_ref::<Fault>()) {
            Some(fault) => Error::DataCorrupt(format!("{} {fault}", self.name)),
            None => Error::Io { what: format!("reading {}", self.name), source },
        }
    }
}

/// Skips a UTF-8 byte order mark; refuses UTF-16.
fn skip_mark(input: &mut impl BufRead, name: &str) -> Result<(), Error> {
    let failed = |source| Error::Io { what: format!("reading {name}"), source };
    let start = input.fill_buf().map_err(failed)?;
    if start.starts_with(&[0xFF, 0xFE]) || start.starts_with(&[0xFE, 0xFF]) {
        let message = format!("{name} is UTF-16; convert it, for example with iconv -f utf-16 -t utf-8");
        return Err(Error::DataCorrupt(message));
    }
    let skipped = if start.starts_with(&[0xEF, 0xBB, 0xBF]) { 3 } else { 0 };
    input.consume(skipped);
    Ok(())
}

fn source_error(folder: &Path, name: &str, error: &io::Error) -> Error {
    let what = match error.kind() {
        io::ErrorKind::NotFound => format!("source file {name} does not exist"),
        io::ErrorKind::PermissionDenied => format!(
            "source file {name} is not readable for this pod; make it world-readable or set fsGroup on the volume"
        ),
        _ => format!("source file {name}: {error}"),
    };
    Error::SourceNotFound(format!("{what}; {}", listing(folder)))
}

/// What is in the folder, for somebody who mistyped a name.
fn listing(folder: &Path) -> String {
    let Ok(entries) = fs::read_dir(folder) else {
        return "its folder does not exist: check the source's path".to_owned();
    };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    if names.is_empty() { "its folder is empty".to_owned() } else { format!("there are {}", quoted(&names)) }
}

/// Names for a message, the first ones of many.
pub fn quoted(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(LISTED).map(|name| format!("{name:?}")).collect();
    let more = names.len().saturating_sub(LISTED);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{tail}", shown.join(", "))
}
