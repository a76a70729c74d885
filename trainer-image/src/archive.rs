//! Pictures in a zip archive. Its directory is read once; an entry is read when a row asks for it,
//! into memory and never to a path.
//!
//! What an archive says of itself is not believed: the number of entries is bounded before the
//! directory is read, and an entry's size is bounded by what it announces and by what comes out.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use vitrine_model::picture::MAX_BYTES;
use zip::ZipArchive;
use zip::result::ZipError;

use crate::Error;
use crate::folder::Folder;

/// Most entries of an archive: about 300 bytes of memory each.
const MAX_ENTRIES: u64 = 500_000;
/// How far from the end the directory's end record may lie: its comment, itself and its zip64 parts.
const TAIL: u64 = (1 << 16) + 22 + 20 + 56 + 1024;

/// An open archive.
pub struct Archive {
    /// As the user named it.
    pub name: String,
    zip: ZipArchive<BufReader<File>>,
    /// Entries that are reachable only by an unsafe name, under the name that they would have.
    unsafe_names: HashSet<String>,
}

/// Why an entry was not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryFault {
    /// There is none of that name.
    Missing,
    /// It is there and cannot be used.
    Unreadable(String),
}

impl Archive {
    /// Opens an archive and reads its directory.
    pub fn open(folder: &Folder, name: &str) -> Result<Self, Error> {
        let corrupt = |what: String| Error::DataCorrupt(format!("{name} {what}"));
        let mut file = folder.source(name)?;
        let failed = |source| Error::Io { what: format!("reading {name}"), source };
        let entries = announced(&mut file).map_err(failed)?;
        if entries > MAX_ENTRIES {
            return Err(corrupt(format!(
                "announces {entries} entries; at most {MAX_ENTRIES} are read: pack the pictures that the table names"
            )));
        }
        let zip = ZipArchive::new(BufReader::new(file)).map_err(|error| match error {
            ZipError::Io(source) if source.kind() != std::io::ErrorKind::UnexpectedEof => failed(source),
            other => corrupt(format!(
                "is not a readable zip archive ({other}); was its download cut off? Check it with unzip -t"
            )),
        })?;
        if zip.has_duplicate_names() {
            return Err(corrupt("holds two entries of the same name; pack it again".to_owned()));
        }
        let names = zip.file_names().flatten();
        let unsafe_names = names.filter_map(|name| harmless(&name).filter(|plain| *plain != name)).collect();
        Ok(Self { name: name.to_owned(), zip, unsafe_names })
    }

    /// The bytes of an entry.
    pub fn read(&mut self, path: &str) -> Result<Result<Vec<u8>, EntryFault>, Error> {
        let unreadable = |what: &str| Ok(Err(EntryFault::Unreadable(what.to_owned())));
        let Some(number) = self.zip.index_for_name(path) else {
            return if self.unsafe_names.contains(path) {
                unreadable("its entry has an absolute path, backslashes or '..' in its name")
            } else {
                Ok(Err(EntryFault::Missing))
            };
        };
        let mut entry = match self.zip.by_index(number) {
            Ok(entry) => entry,
            Err(ZipError::Io(source)) if source.kind() != std::io::ErrorKind::UnexpectedEof => {
                return Err(Error::Io { what: format!("reading {}", self.name), source });
            }
            Err(error) => return unreadable(&format!("its entry cannot be opened: {error}")),
        };
        if entry.is_symlink() {
            return unreadable("its entry is a symbolic link");
        }
        if !entry.is_file() {
            return unreadable("its entry is a folder");
        }
        let announced = entry.size();
        if announced > MAX_BYTES {
            return unreadable(&format!("its entry unpacks to {announced} bytes; at most {MAX_BYTES}"));
        }
        let mut bytes = Vec::new();
        // One byte more than allowed shows that the announcement was wrong.
        match entry.by_ref().take(MAX_BYTES + 1).read_to_end(&mut bytes) {
            Ok(_) if bytes.len() as u64 > MAX_BYTES => unreadable("its entry unpacks to more than it says"),
            Ok(_) => Ok(Ok(bytes)),
            Err(error) => unreadable(&format!("its entry is broken: {error}")),
        }
    }
}

/// A name without what would lead out of a folder; `None` when nothing is left.
fn harmless(name: &str) -> Option<String> {
    let parts: Vec<_> = name.split(['/', '\\']).filter(|part| !matches!(*part, "" | "." | "..")).collect();
    if parts.is_empty() || name.ends_with('/') { None } else { Some(parts.join("/")) }
}

/// The largest number of entries that any end record near the end of the file announces: which of
/// them a reader takes is its own affair.
fn announced(file: &mut File) -> std::io::Result<u64> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.by_ref().take(TAIL).read_to_end(&mut tail)?;
    let mut most = most_entries(&tail);
    // A locator may point to a record that lies elsewhere.
    for at in places(&tail, b"PK\x06\x07") {
        let Some(offset) = number(&tail, at + 8) else { continue };
        if offset < length {
            file.seek(SeekFrom::Start(offset))?;
            let mut record = Vec::new();
            file.by_ref().take(56).read_to_end(&mut record)?;
            most = most.max(most_entries(&record));
        }
    }
    file.rewind()?;
    Ok(most)
}

/// From zip64 records: the older ones cannot announce more than 65,535.
fn most_entries(bytes: &[u8]) -> u64 {
    let records = places(bytes, b"PK\x06\x06");
    records.filter_map(|at| number(bytes, at + 24).max(number(bytes, at + 32))).max().unwrap_or_default()
}

fn places<'a>(bytes: &'a [u8], magic: &'a [u8; 4]) -> impl Iterator<Item = usize> + 'a {
    bytes.windows(4).enumerate().filter(move |(_, window)| window == magic).map(|(at, _)| at)
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}
