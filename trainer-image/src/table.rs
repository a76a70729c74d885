//! One CSV file, row by row.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::rc::Rc;

use csv::{ByteRecord, ReaderBuilder};

use crate::Error;
use crate::folder::Folder;
use crate::guard::{Fault, Guard, Seen};
use crate::sniff::{other_format, separator_hint};

/// Most columns of a table.
const MAX_COLUMNS: usize = 10_000;
/// Most file names or columns listed in a message.
const LISTED: usize = 20;
/// Characters of a name in a message.
const LONGEST: usize = 64;
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
    header_line: u64,
    reader: csv::Reader<Guard<BufReader<File>>>,
    seen: Rc<Seen>,
}

/// One row as it stands in the file.
#[derive(Debug, Default)]
pub struct RawRow {
    record: ByteRecord,
    columns: usize,
    line: u64,
}

/// Why a row cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadRow {
    /// It has another number of cells than the header.
    Ragged,
    /// The cell in this column is not UTF-8.
    NotUtf8(usize),
    /// The cell in this column holds a NUL byte, as text never does.
    Nul(usize),
}

impl RawRow {
    /// Line where the row begins, from 1.
    pub fn line(&self) -> u64 {
        self.line
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
        let text = std::str::from_utf8(bytes).map_err(|_| BadRow::NotUtf8(column))?;
        if text.contains('\0') { Err(BadRow::Nul(column)) } else { Ok(text) }
    }
}

impl Table {
    /// Opens a file of the folder and reads its header.
    pub fn open(folder: &Folder, name: &str) -> Result<Self, Error> {
        let failed = |source| Error::Io { what: format!("reading {name}"), source };
        let file = folder.source(name)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let mut input = BufReader::with_capacity(1 << 16, file);
        let start = input.fill_buf().map_err(failed)?;
        if let Some(what) = other_format(start) {
            return Err(Error::DataCorrupt(format!("{name} {what}")));
        }
        let mark = if start.starts_with(&[0xEF, 0xBB, 0xBF]) { 3 } else { 0 };
        input.consume(mark);
        let seen = Rc::new(Seen::default());
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(Guard::new(input, Rc::clone(&seen)));
        let mut table =
            Self { name: name.to_owned(), bytes, header: Vec::new(), header_line: 1, reader, seen };
        table.header = table.read_header()?;
        Ok(table)
    }

    fn read_header(&mut self) -> Result<Vec<String>, Error> {
        let mut first = RawRow::default();
        if !self.next(&mut first)? {
            return Err(Error::DataCorrupt(format!("{} is empty: there is not even a header", self.name)));
        }
        self.header_line = first.line();
        if first.cells() > MAX_COLUMNS {
            let found = first.cells();
            return Err(
                self.corrupt(first.line(), &format!("{found} columns, at most {MAX_COLUMNS} are read"))
            );
        }
        let names = first.record.iter().map(|name| String::from_utf8(name.to_owned()));
        names.collect::<Result<_, _>>().map_err(|_| {
            self.corrupt(
                first.line(),
                "the header is not UTF-8; convert the file, for example with iconv -f latin1 -t utf-8",
            )
        })
    }

    /// Position of a column that must be there once.
    pub fn column(&self, name: &str) -> Result<usize, Error> {
        let mut found = self.header.iter().enumerate().filter(|(_, header)| *header == name);
        let Some((position, _)) = found.next() else {
            let hint = separator_hint(&self.header);
            let message =
                format!("{} has no column {name:?}; it has {}{hint}", self.name, quoted(&self.header));
            return Err(Error::DataCorrupt(message));
        };
        match found.next() {
            None => Ok(position),
            Some(_) => Err(self
                .corrupt(self.header_line, &format!("column {name:?} is there more than once; rename one"))),
        }
    }

    /// Position of pandas' unnamed index column.
    pub fn index_column(&self) -> Result<usize, Error> {
        self.header.iter().position(|header| INDEX_NAMES.contains(&header.as_str())).ok_or_else(|| {
            Error::DataCorrupt(format!(
                "{} has no unnamed index column to join labels on; it has {}{}; write it with pandas' to_csv(index=True), or put the labels into the features file and leave files.labels out",
                self.name,
                quoted(&self.header),
                separator_hint(&self.header)
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
        if self.bytes == 0 { 1.0 } else { self.seen.bytes.get() as f64 / self.bytes as f64 }
    }

    /// Reads the next row; false at the end.
    pub fn next(&mut self, row: &mut RawRow) -> Result<bool, Error> {
        row.columns = self.header.len();
        match self.reader.read_byte_record(&mut row.record) {
            Ok(more) => {
                row.line = self.seen.rows.borrow_mut().pop_front().unwrap_or(row.line);
                Ok(more)
            }
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

/// Names for a message, the first ones of many.
pub fn quoted(names: &[String]) -> String {
    let short = |name: &String| format!("{:?}", name.chars().take(LONGEST).collect::<String>());
    let shown: Vec<String> = names.iter().take(LISTED).map(short).collect();
    let more = names.len().saturating_sub(LISTED);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{tail}", shown.join(", "))
}
