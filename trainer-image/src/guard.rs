//! Reads CSV bytes through a watch that knows where cells begin, so that a quote which is never
//! closed ends as an error with a line number, not as one cell of the size of the file.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// Largest cell in bytes.
pub const MAX_CELL: u64 = 16 << 20;
/// Largest row in bytes.
pub const MAX_ROW: u64 = 64 << 20;

/// What the watch found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The file ends within a quoted cell.
    #[error("line {line}: a quoted cell begins here and is never closed; write \" inside a cell as \"\"")]
    Unclosed {
        /// Line where the cell begins, from 1.
        line: u64,
    },
    /// A cell is too large.
    #[error("line {line}: a cell of more than {} MiB begins here; a quote may be missing", MAX_CELL >> 20)]
    Cell {
        /// Line where the cell begins, from 1.
        line: u64,
    },
    /// A row is too large.
    #[error("line {line}: a row of more than {} MiB begins here", MAX_ROW >> 20)]
    Row {
        /// Line where the row begins, from 1.
        line: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    CellStart,
    Plain,
    Quoted,
    /// After a quote within a quoted cell: its end, or the first half of `""`.
    Quote,
}

/// A reader that watches what it reads.
#[derive(Debug)]
pub struct Guard<R> {
    inner: R,
    state: State,
    line: u64,
    cell: (u64, u64),
    row: (u64, u64),
    read: Rc<Cell<u64>>,
}

impl<R: Read> Guard<R> {
    /// Watches `inner`, which must not begin with a byte order mark. Adds the bytes it has read to `read`.
    pub fn new(inner: R, read: Rc<Cell<u64>>) -> Self {
        Self { inner, state: State::CellStart, line: 1, cell: (1, 0), row: (1, 0), read }
    }

    fn watch(&mut self, byte: u8) {
        self.cell.1 += 1;
        self.row.1 += 1;
        if byte == b'\n' {
            self.line += 1;
        }
        self.state = match (self.state, byte) {
            (State::Quoted, b'"') => State::Quote,
            (State::CellStart | State::Quote, b'"') | (State::Quoted, _) => State::Quoted,
            (_, b',' | b'\n' | b'\r') => {
                self.cell = (self.line, 0);
                if byte != b',' {
                    self.row = (self.line, 0);
                }
                State::CellStart
            }
            _ => State::Plain,
        };
    }

    fn fault(&self) -> Option<Fault> {
        if self.cell.1 > MAX_CELL {
            return Some(Fault::Cell { line: self.cell.0 });
        }
        (self.row.1 > MAX_ROW).then_some(Fault::Row { line: self.row.0 })
    }
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if read == 0 && !buffer.is_empty() && self.state == State::Quoted {
            return Err(io::Error::other(Fault::Unclosed { line: self.cell.0 }));
        }
        buffer[..read].iter().for_each(|&byte| self.watch(byte));
        self.read.set(self.read.get() + read as u64);
        // Looked at once a buffer: a limit may be passed by the size of one.
        self.fault().map_or(Ok(read), |fault| Err(io::Error::other(fault)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault_of(bytes: impl Read) -> Option<Fault> {
        let mut guard = Guard::new(bytes, Rc::default());
        let error = io::copy(&mut guard, &mut io::sink()).err()?;
        error.get_ref()?.downcast_ref().copied()
    }

    #[test]
    fn sound_files_pass() {
        for text in
            ["", "a,b\n1,2\n", "a\r\n\"x \"\"y\"\" \nz\"\r\n", "a,\"\"\n", "5\" nail,x\n", "\"a\"b,c\n"]
        {
            assert_eq!(fault_of(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn an_open_quote_at_the_end_names_the_line_where_the_cell_begins() {
        for (text, line) in [("a,b\n1,\"2\n3,4\n", 2), ("\"", 1), ("a\n\n\"x\"\"\n", 3)] {
            assert_eq!(fault_of(text.as_bytes()), Some(Fault::Unclosed { line }), "{text:?}");
        }
    }

    #[test]
    fn endless_cells_and_rows_end() {
        let endless = b"a\n\"".chain(io::repeat(b'x'));
        assert_eq!(fault_of(endless), Some(Fault::Cell { line: 2 }));
        let endless = b"a\nb\n".chain(io::repeat(b','));
        assert_eq!(fault_of(endless), Some(Fault::Row { line: 3 }));
    }
}
