//! Tables that are no CSV in UTF-8, and those that nearly are.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use vitrine_contract::exit;

use crate::case::{Case, Expect, corrupt, not_found, one, rows, table, tail};
use crate::support::challenge;

const LOGIN: &str = "<!DOCTYPE html>\n<html lang=\"en\"><head><title>Log in</title></head>\n<body>challengedata</body></html>\n";

pub fn cases() -> Vec<Case> {
    [encodings(), line_ends(), quotes(), shapes(), headers(), formats(), files(), labels(), two_files()]
        .into_iter()
        .flatten()
        .collect()
}

fn utf16(text: &str, big: bool, mark: bool) -> Vec<u8> {
    let units = mark.then_some(0xFEFF).into_iter().chain(text.encode_utf16());
    units.flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
}

fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| c as u8).collect()
}

fn accepted(rows: u64) -> Expect {
    Expect::Accepted { rows, classes: None }
}

fn classes(rows: u64, classes: u64) -> Expect {
    Expect::Accepted { rows, classes: Some(classes) }
}

fn encodings() -> Vec<Case> {
    let all = rows(10);
    let marked = format!("\u{feff}{all}");
    vec![
        tail("one row of latin-1", b"\xe9t\xe9,a\n", one("notUtf8")),
        table(
            "latin-1",
            latin1(&all),
            corrupt(&["10 of 10 rows", "X.csv", "line 2", "\"text\"", "iconv -f latin1"]),
        ),
        table(
            "header of latin-1",
            b"d\xe9signation,label\na,b\n",
            corrupt(&["X.csv line 1", "header", "iconv"]),
        ),
        table("UTF-16 LE", utf16(&all, false, true), corrupt(&["X.csv is UTF-16", "iconv -f utf-16 "])),
        table("UTF-16 BE", utf16(&all, true, true), corrupt(&["X.csv is UTF-16", "iconv -f utf-16 "])),
        table(
            "UTF-16 LE, no mark",
            utf16(&all, false, false),
            corrupt(&["X.csv is UTF-16", "iconv -f utf-16le"]),
        ),
        table(
            "UTF-16 BE, no mark",
            utf16(&all, true, false),
            corrupt(&["X.csv is UTF-16", "iconv -f utf-16be"]),
        ),
        table("UTF-8 with its mark", marked, accepted(10)),
        tail("surrogates in UTF-8", b"a\xed\xa0\x80b,a\n", one("notUtf8")),
        tail("a NUL byte", b"a\0b,a\n", one("nul")),
        table("zeros", [0; 70_000], corrupt(&["X.csv", "no column \"text\""])),
    ]
}

fn line_ends() -> Vec<Case> {
    let bad = format!("{}trop,de,cellules\n", rows(10));
    let ends = ["\n", "\r\n", "\r"].iter().cycle();
    let mixed: String = bad.lines().zip(ends).flat_map(|(line, end)| [line, end]).collect();
    vec![
        table("CRLF", bad.replace('\n', "\r\n"), one("ragged")),
        table("CR", bad.replace('\n', "\r"), one("ragged")),
        table("mixed line ends", mixed, one("ragged")),
        table(
            "empty lines",
            bad.replacen("\nproduit", "\n\r\n\nproduit", 1),
            Expect::Quarantined { rows: 10, reason: "ragged", rejected: 1, line: 14 },
        ),
        table("no line end at the end", rows(10).trim_end(), accepted(10)),
        tail("last line cut off", "produit incompl", one("ragged")),
    ]
}

fn quotes() -> Vec<Case> {
    let all = rows(10);
    vec![
        table(
            "open quote at the start",
            all.replacen("produit", "\"produit", 1),
            corrupt(&["X.csv line 2", "never closed", "\"\""]),
        ),
        table(
            "open quote in the middle",
            all.replace("produit numéro 5", "\"produit"),
            corrupt(&["X.csv line 7", "never closed"]),
        ),
        tail("open quote at the end", "\"produit,a\n", corrupt(&["X.csv line 12", "never closed"])),
        table(
            "a quote closed lines later",
            all.replace("produit numéro 2", "\"x").replace("produit numéro 5", "y\""),
            accepted(7),
        ),
        table(
            "a quote closed in the next row's quotes",
            all.replace("produit numéro 2", "\"x").replace("produit numéro 5", "\"y, z\""),
            Expect::Quarantined { rows: 6, reason: "ragged", rejected: 1, line: 4 },
        ),
        table("quote within a plain cell", all.replace("numéro", "5\" x 3\""), accepted(10)),
        table("text after a closing quote", all.replace("produit", "\"produit\""), accepted(10)),
        table("everything quoted", "\"text\",\"label\"\r\n\"a \"\"b\"\"\r\nc\",\"x\"\r\n", accepted(1)),
    ]
}

fn shapes() -> Vec<Case> {
    let all = rows(10);
    vec![
        tail("short row", "produit\n", one("ragged")),
        tail("long row", "produit,a,b\n", one("ragged")),
        table(
            "comma at every end",
            all.replace("a\n", "a,\n").replace("b\n", "b,\n"),
            corrupt(&["10 of 10 rows", "X.csv", "line 2", "3 cells, the header has 2"]),
        ),
        tail("only white space", " \t,a\n", one("noText")),
        table("infinity and NaN as text", "text,label\nInf,a\nNaN,b\n-inf,a\n1e999,b\n", accepted(4)),
        table(
            "a formula, a script, a path",
            "text,label\n=cmd|' /C calc'!A0,a\n<script>alert(1)</script>,b\n../../etc/passwd,a\n%s%n{}${jndi:x},b\n",
            accepted(4),
        ),
        table(
            "an empty text column",
            "text,label\n,a\n,b\n,a\n",
            corrupt(&["3 of 3 rows", "X.csv", "line 2", "all text columns are empty"]),
        ),
        table("one of two text columns is empty", "text,more,label\na,,x\nb,,y\n", accepted(2))
            .task(|task| task.text = vec!["text".into(), "more".into()]),
    ]
}

fn headers() -> Vec<Case> {
    vec![
        table("no byte", "", corrupt(&["X.csv is empty"])),
        table("only a mark", "\u{feff}", corrupt(&["X.csv is empty"])),
        table("blanks and line ends", "  \n \n\n", corrupt(&["X.csv has no column \"text\""])),
        table("only a header", "text,label\n", corrupt(&["X.csv", "no rows"])),
        table(
            "no header",
            "produit,a\nautre,b\n",
            corrupt(&["X.csv has no column \"text\"", "\"produit\", \"a\""]),
        ),
        table(
            "a column twice",
            "text,label,text\na,b,c\n",
            corrupt(&["X.csv line 1", "\"text\"", "more than once", "rename"]),
        ),
        table(
            "a label column twice",
            "\ntext,label,label\na,b,c\n",
            corrupt(&["X.csv line 2", "\"label\"", "more than once"]),
        ),
        table(
            "names without text",
            ",,\na,b,c\n",
            corrupt(&["X.csv has no column \"text\"", "\"\", \"\", \"\""]),
        ),
        table(
            "blanks around names",
            " text , label \na,b\n",
            corrupt(&["X.csv has no column \"text\"", "\" text \""]),
        ),
    ]
}

fn formats() -> Vec<Case> {
    let all = rows(10);
    let zip = b"PK\x03\x04\x14\0\x06\0\x08\0[Content_Types].xml";
    vec![
        table(
            "gzip",
            b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b\x04\0",
            corrupt(&["X.csv is compressed with gzip", "gunzip"]),
        ),
        table("Parquet", b"PAR1\x15\x04\x15\x10", corrupt(&["X.csv is Parquet", "to_csv"])),
        table("Excel", zip, corrupt(&["X.csv is a zip archive or an Excel workbook", "CSV"])),
        table(
            "the challenge's login page",
            LOGIN,
            corrupt(&["X.csv is a web page", "login", "download it again"]),
        ),
        table("JSON", "[{\"text\": \"a\"}]", corrupt(&["X.csv is JSON", "to_csv"])),
        table(
            "a pointer of Git LFS",
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            corrupt(&["X.csv is a pointer of Git LFS", "git lfs pull"]),
        ),
        table(
            "semicolons",
            all.replace(',', ";"),
            corrupt(&["X.csv has no column \"text\"", "separated by ';'", "sep="]),
        ),
        table(
            "tabs",
            all.replace(',', "\t"),
            corrupt(&["X.csv has no column \"text\"", "separated by '\\t'"]),
        ),
    ]
}

fn files() -> Vec<Case> {
    let link = |target: &'static str| {
        move |source: &crate::case::Source| {
            source.write("real.csv", rows(10));
            symlink(target, source.path("X.csv")).unwrap();
        }
    };
    let outside = |name, target| {
        Case::new(name, link(target), not_found(&["X.csv", "symbolic link", "out of the source", "copy"]))
    };
    vec![
        Case::new(
            "no file",
            |source| source.write("x.csv", ""),
            not_found(&["X.csv does not exist", "\"x.csv\""]),
        ),
        Case::new(
            "a folder",
            |source| fs::create_dir(source.path("X.csv")).unwrap(),
            not_found(&["X.csv is not a file"]),
        ),
        outside("a link to /etc/passwd", "/etc/passwd"),
        outside("a link to the pod's token", "../token"),
        outside("a link to endless zeros", "/dev/zero"),
        outside("a link to itself", "X.csv"),
        Case::new("a link to nothing", link("nothing"), not_found(&["X.csv does not exist"])),
        Case::new("a link within the source", link("./real.csv"), accepted(10)),
        Case::new(
            "a pipe",
            |source| assert!(Command::new("mkfifo").arg(source.path("X.csv")).status().unwrap().success()),
            not_found(&["X.csv is not a file"]),
        ),
        Case::new(
            "unreadable",
            |source| {
                source.write("X.csv", rows(10));
                fs::set_permissions(source.path("X.csv"), fs::Permissions::from_mode(0o000)).unwrap();
            },
            not_found(&["X.csv is not readable", "fsGroup"]),
        )
        .unprivileged(),
        table(
            "a name that climbs",
            rows(10),
            Expect::Refused {
                code: exit::CONFIG,
                reason: "InvalidSpec",
                words: &["../source/X.csv", "within"],
            },
        )
        .task(|task| task.features = "../source/X.csv".into()),
    ]
}

fn labels() -> Vec<Case> {
    let ids = "id,text,label\n1,un,a\n2,deux,b\n2,trois,a\n1,quatre,b\n5,cinq,a\n";
    let long = format!("produit,{}\n", "x".repeat(2000));
    vec![
        table(
            "duplicate ids",
            ids,
            Expect::Quarantined { rows: 3, reason: "duplicateId", rejected: 2, line: 4 },
        )
        .task(|task| task.id = Some("id".into())),
        tail("no label", "produit,\n", one("noLabel")),
        tail("a label of blanks", "produit, \t\n", one("noLabel")),
        tail("a label that is a text", long, one("longLabel")),
        table("labels of one class", "text,label\nun,a\ndeux,a\n", classes(2, 1)),
        table("one row a class", "text,label\nun,a\ndeux,b\ntrois,c\n", classes(3, 3)),
        table("no label column", "text\nun\n", corrupt(&["X.csv has no column \"label\"", "\"text\""])),
    ]
}

/// The challenge's two files, of which the second is this.
fn second(name: &'static str, bytes: impl AsRef<[u8]>, expect: Expect) -> Case {
    let bytes = bytes.as_ref().to_vec();
    let make = move |source: &crate::case::Source| {
        let x = ",designation,description,productid\n0,un,,10\n1,deux,,11\n2,trois,,12\n3,quatre,,13\n";
        source.write("X.csv", x);
        source.write("Y.csv", &bytes);
    };
    Case::new(name, make, expect).task(|task| *task = challenge())
}

fn two_files() -> Vec<Case> {
    let quarantined = |line| Expect::Quarantined { rows: 3, reason: "noLabel", rejected: 1, line };
    vec![
        second(
            "labels of another download",
            ",prdtypecode\n70,1\n71,2\n72,1\n",
            corrupt(&["4 of 4 rows of X.csv", "line 2", "Y.csv", "same download"]),
        ),
        second("labels with a gap", ",prdtypecode\n0,1\n1,2\n3,1\n", quarantined(4)),
        second("a label row of latin-1", b",prdtypecode\n0,1\n1,2\n2,\xe9\n3,1\n", quarantined(4)),
        second("labels that differ in blanks", ",prdtypecode\n0,1\n1, 1\n2,1 \n3,\"1\n\"\n", classes(4, 1)),
        second(
            "an index twice",
            ",prdtypecode\n0,1\n1,2\n1,3\n",
            corrupt(&["Y.csv line 4", "\"1\"", "second time"]),
        ),
        second("no labels", ",prdtypecode\n", corrupt(&["Y.csv has no usable row"])),
        second("labels behind a login", LOGIN, corrupt(&["Y.csv is a web page", "login"])),
        second(
            "labels with semicolons",
            ";prdtypecode\n0;1\n",
            corrupt(&["Y.csv", "unnamed index column", "';'"]),
        ),
        second(
            "labels with an open quote",
            ",prdtypecode\n0,1\n1,\"2\n",
            corrupt(&["Y.csv line 3", "never closed"]),
        ),
        second(
            "labels in UTF-16",
            utf16(",prdtypecode\n0,1\n", false, false),
            corrupt(&["Y.csv is UTF-16", "iconv"]),
        ),
    ]
}
