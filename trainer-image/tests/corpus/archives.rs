//! Pictures in a zip archive: ten rows, of which the one on line 5 has the bad entry.

use std::fs::File;
use std::io::{Cursor, Seek, SeekFrom, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::case::{Case, Expect, Source, corrupt, not_found};
use crate::made::jpeg;
use crate::pictures::catalogue;

const BAD: &str = "3.jpg";

/// An archive of the nine good pictures and what `add` adds.
fn archive(add: impl Fn(&mut ZipWriter<Cursor<Vec<u8>>>, SimpleFileOptions)) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let deflated = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let stored = deflated.compression_method(CompressionMethod::Stored);
    for row in (0..10).filter(|row| *row != 3) {
        zip.start_file(format!("{row}.jpg"), if row % 2 == 0 { stored } else { deflated }).unwrap();
        zip.write_all(&jpeg(row)).unwrap();
    }
    add(&mut zip, deflated);
    zip.finish().unwrap().into_inner()
}

/// With one more entry.
fn entry(name: &str, bytes: &[u8]) -> Vec<u8> {
    archive(|zip, options| {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    })
}

/// With these bytes in the place of those, wherever they are.
fn patched(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let places: Vec<_> = (0..=bytes.len() - from.len()).filter(|&at| bytes[at..].starts_with(from)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}

/// Sets bytes of the two headers of the entry `3.jpg`, at these distances from their names.
fn headers(mut bytes: Vec<u8>, local: usize, central: usize, value: &[u8]) -> Vec<u8> {
    let places: Vec<_> = (0..bytes.len() - 5).filter(|&at| bytes[at..].starts_with(b"3.jpg")).collect();
    let &[first, second] = places.as_slice() else { panic!("{places:?}") };
    for at in [first - 30 + local, second - 46 + central] {
        bytes[at..at + value.len()].copy_from_slice(value);
    }
    bytes
}

/// Length of the record that ends an archive without a comment.
const END: usize = 22;

/// Ends an archive as zip64 does and in no other way, with these figures.
fn zip64(bytes: &[u8], entries: u64, size: u64, offset: u64) -> Vec<u8> {
    let mut out = bytes[..bytes.len().saturating_sub(END)].to_vec();
    let at = out.len() as u64;
    out.extend(b"PK\x06\x06");
    out.extend(44_u64.to_le_bytes());
    out.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for number in [entries, entries, size, offset] {
        out.extend(number.to_le_bytes());
    }
    out.extend(b"PK\x06\x07\0\0\0\0");
    out.extend(at.to_le_bytes());
    out.extend([1, 0, 0, 0]);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([0xFF; 12]);
    out.extend([0, 0]);
    out
}

fn with(name: &'static str, bytes: Vec<u8>, expect: Expect) -> Case {
    let make = move |source: &Source| {
        source.write("X.csv", catalogue());
        source.write("images.zip", &bytes);
    };
    zipped(name, make, expect)
}

fn zipped(name: &'static str, make: impl Fn(&Source) + Send + Sync + 'static, expect: Expect) -> Case {
    Case::new(name, make, expect).image("{file}.jpg", Some("images.zip"), true)
}

fn good() -> Expect {
    Expect::Pictures { count: 10, missing: 0, unreadable: 0, line: 0, says: "" }
}

fn bad(says: &'static str) -> Expect {
    Expect::Pictures { count: 9, missing: 0, unreadable: 1, line: 5, says }
}

fn gone() -> Expect {
    Expect::Pictures { count: 9, missing: 1, unreadable: 0, line: 5, says: "there is no picture 3.jpg" }
}

pub fn cases() -> Vec<Case> {
    let mut all = entries();
    all.extend(names());
    all.extend(directories());
    all
}

fn entries() -> Vec<Case> {
    let sound = entry(BAD, &jpeg(3));
    let bomb = entry(BAD, &vec![0; 100 << 20]);
    assert!(bomb.len() < 200 << 10, "{} bytes are no bomb", bomb.len());
    // It announces 1000 bytes, and a check sum of other bytes.
    let lying = headers(bomb.clone(), 22, 24, &1000_u32.to_le_bytes());
    let crc = headers(sound.clone(), 14, 16, &[1, 2, 3, 4]);
    let nested = entry(BAD, &entry("x.jpg", &jpeg(3)));
    vec![
        with("a sound archive", sound.clone(), good()),
        with("a bomb of 1:1000", bomb, bad("unpacks to 104857600 bytes")),
        with("a bomb that says it is small", lying, bad("its entry is broken")),
        with("a wrong check sum", crc, bad("its entry is broken")),
        with("an encrypted entry", headers(sound.clone(), 6, 8, &[1, 0]), bad("its entry cannot be opened")),
        with(
            "an unknown compression",
            headers(sound, 8, 10, &[98, 0]),
            bad("compression method not supported"),
        ),
        with("an archive in the archive", nested, bad("not a JPEG")),
        with("an empty entry", entry(BAD, b""), bad("it is empty")),
        with(
            "a folder of that name",
            archive(|zip, options| zip.add_directory("3.jpg/", options).unwrap()),
            gone(),
        ),
        with(
            "a symbolic link",
            archive(|zip, options| zip.add_symlink(BAD, "/etc/passwd", options).unwrap()),
            bad("symbolic link"),
        ),
    ]
}

fn names() -> Vec<Case> {
    let unsafe_name = || bad("absolute path, backslashes or '..'");
    // Names are written as they shall be read: a writer may mend them.
    let named =
        |name: &[u8]| patched(entry(&"Q".repeat(name.len()), &jpeg(3)), &vec![b'Q'; name.len()], name);
    vec![
        with("a name that climbs", named(b"../../3.jpg"), unsafe_name()),
        with("an absolute name", named(b"/3.jpg"), unsafe_name()),
        with("a name with backslashes", named(b"..\\3.jpg"), unsafe_name()),
        with("a name with a NUL byte", named(b"3.jpg\0"), gone()),
        with("a name that is not UTF-8", named(b"\xff\xfe.jpg"), gone()),
        with(
            "two entries of one name",
            named(b"4.jpg"),
            corrupt(&["images.zip holds two entries of the same name"]),
        ),
    ]
}

fn directories() -> Vec<Case> {
    let sound = entry(BAD, &jpeg(3));
    let unreadable = || corrupt(&["images.zip is not a readable zip archive", "unzip -t"]);
    let length = sound.len() as u64;
    let sparse = move |source: &Source| {
        // Room for as many entries as it announces, so that only the number is wrong.
        source.write("X.csv", catalogue());
        let mut file = File::create(source.path("images.zip")).unwrap();
        let end = 8 << 30;
        file.seek(SeekFrom::Start(end)).unwrap();
        let tail = zip64(&[], 100_000_000, 46 * 100_000_000, end - 46 * 100_000_000);
        let tail = patched(
            tail,
            &[0_u64.to_le_bytes(), [1, 0, 0, 0, b'P', b'K', 5, 6]].concat(),
            &[end.to_le_bytes(), [1, 0, 0, 0, b'P', b'K', 5, 6]].concat(),
        );
        file.write_all(&tail).unwrap();
    };
    vec![
        with("a truncated archive", sound[..sound.len() / 2].to_vec(), unreadable()),
        with("an archive without its last byte", sound[..sound.len() - 1].to_vec(), unreadable()),
        with("no archive", b"<!doctype html><title>Log in</title>".to_vec(), unreadable()),
        with("no byte", Vec::new(), unreadable()),
        with(
            "zip64 with too many entries",
            zip64(&sound, u64::MAX, 46, 0),
            corrupt(&["images.zip announces 18446744073709551615 entries", "at most 500000"]),
        ),
        with(
            "zip64 that points behind the end",
            zip64(&sound, 10, 1 << 40, length + 1_000_000),
            unreadable(),
        ),
        with("zip64 that points into a picture", zip64(&sound, 10, 460, 5), unreadable()),
        zipped(
            "zip64 of 100 million entries that fit",
            sparse,
            corrupt(&["images.zip announces 100000000 entries"]),
        ),
        zipped(
            "no archive file",
            |source| source.write("X.csv", catalogue()),
            not_found(&["images.zip does not exist", "\"X.csv\""]),
        ),
    ]
}
