//! Tables that want more memory or time than there is.

use std::fs::File;
use std::io::{BufWriter, Write};

use crate::case::{Case, Expect, Source, corrupt, rows};

/// A table that these pieces make up, written without being held.
fn written(
    name: &'static str,
    pieces: impl Fn(&mut dyn Write) -> std::io::Result<()> + Send + Sync + 'static,
    expect: Expect,
) -> Case {
    let make = move |source: &Source| {
        let mut file = BufWriter::new(File::create(source.path("X.csv")).unwrap());
        pieces(&mut file).unwrap();
        file.flush().unwrap();
    };
    Case::new(name, make, expect)
}

fn many(out: &mut dyn Write, piece: &[u8], times: usize) -> std::io::Result<()> {
    (0..times).try_for_each(|_| out.write_all(piece))
}

static MIB: [u8; 1 << 20] = [b'x'; 1 << 20];

pub fn cases() -> Vec<Case> {
    vec![
        written(
            "a cell of 100 MB",
            |out| {
                out.write_all(rows(10).as_bytes())?;
                many(out, &MIB, 100)?;
                out.write_all(b",a\n")
            },
            corrupt(&["X.csv line 12", "a cell of more than 16 MiB"]),
        ),
        written(
            "a quoted cell of 100 MB",
            |out| {
                out.write_all(b"text,label\n\"")?;
                many(out, &MIB, 100)?;
                out.write_all(b"\",a\n")
            },
            corrupt(&["X.csv line 2", "a cell of more than 16 MiB", "quote"]),
        ),
        written(
            "an open quote before 100 MB",
            |out| {
                out.write_all(b"text,label\nun,a\n\"deux,b\n")?;
                many(out, b"encore un produit,a\n", 5 << 20)
            },
            corrupt(&["X.csv line 3", "a cell of more than 16 MiB", "quote"]),
        ),
        written(
            "a row that never ends",
            |out| {
                out.write_all(b"text,label\n")?;
                many(out, b"encore une cellule,", 5 << 20)
            },
            corrupt(&["X.csv line 2", "a row of more than 64 MiB"]),
        ),
        written(
            "100,000 columns",
            |out| {
                out.write_all(b"text,label")?;
                many(out, b",x", 99_998)?;
                out.write_all(b"\n")
            },
            corrupt(&["X.csv line 1", "100000 columns, at most 10000"]),
        ),
        written(
            "a million rows",
            |out| {
                out.write_all(b"text,label\n")?;
                (0..1_000_000).try_for_each(|row| writeln!(out, "{row},{}", row % 7))
            },
            Expect::Accepted { rows: 1_000_000, classes: Some(7) },
        ),
        written(
            "large cells that are allowed",
            |out| {
                out.write_all(b"text,label\n")?;
                (0..4).try_for_each(|_| {
                    many(out, &MIB, 15)?;
                    out.write_all(b",a\n")
                })
            },
            Expect::Accepted { rows: 4, classes: Some(1) },
        ),
        written(
            "a label for every row",
            |out| {
                out.write_all(b"text,label\n")?;
                (0..20_000).try_for_each(|row| writeln!(out, "produit {row},{row}"))
            },
            corrupt(&["X.csv line 10002", "\"label\"", "more than 10000 different labels"]),
        ),
        Case::new(
            "a hole of 10 GB",
            |source| File::create(source.path("X.csv")).unwrap().set_len(10 << 30).unwrap(),
            corrupt(&["X.csv line 1", "a cell of more than 16 MiB"]),
        ),
    ]
}
