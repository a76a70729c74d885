//! Reads CSV bytes through a watch that knows where cells begin, so that a quote which is never
//! closed ends as an error with a line number, not as one cell of the size of the file.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
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

/// What the watch has seen, for whoever parses the bytes behind it.
#[derive(Debug, Default)]
pub struct Seen {
    /// Bytes read.
    pub bytes: Cell<u64>,
    /// Lines where rows begin that the parser has not reached. Lines end as editors count them: with
    /// a line feed, a carriage return or both; empty ones are no rows.
    pub rows: RefCell<VecDeque<u64>>,
}

/// A reader that watches what it reads.
#[derive(Debug)]
pub struct Guard<R> {
    inner: R,
    state: State,
    line: u64,
    cell: (u64, u64),
    row: (u64, u64),
    /// Whether the byte before was a carriage return: a line feed after it ends no second line.
    returned: bool,
    seen: Rc<Seen>,
}

impl<R: Read> Guard<R> {
    /// Watches `inner`, which must not begin with a byte order mark, and notes in `seen` what it sees.
    pub fn new(inner: R, seen: Rc<Seen>) -> Self {
        let (cell, row) = ((1, 0), (1, 0));
        Self { inner, state: State::CellStart, line: 1, cell, row, returned: false, seen }
    }

    fn watch(&mut self, byte: u8) {
        if self.row.1 == 0 && !matches!(byte, b'\n' | b'\r') {
            self.seen.rows.borrow_mut().push_back(self.line);
        }
        self.cell.1 += 1;
        self.row.1 += 1;
        if byte == b'\r' || byte == b'\n' && !self.returned {
            self.line += 1;
        }
        self.returned = byte == b'\r';
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
        self.seen.bytes.set(self.seen.bytes.get() + read as u64);
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
    fn rows_begin_where_an_editor_shows_them() {
        for (text, lines) in [
            ("a,b\n1,2\n", &[1, 2][..]),
            ("a\r1\r2", &[1, 2, 3]),
            ("a\r\n1\r\n\r\n2\r\n", &[1, 2, 4]),
            ("\n\na\n\"x\r\ny\rz\n\"\nb", &[3, 4, 8]),
            ("a\n\"\"\nb\n \n", &[1, 2, 3, 4]),
            ("", &[]),
        ] {
            let seen = Rc::new(Seen::default());
            io::copy(&mut Guard::new(text.as_bytes(), Rc::clone(&seen)), &mut io::sink()).unwrap();
            assert_eq!(seen.rows.take(), lines, "{text:?}");
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
