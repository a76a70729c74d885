//! Every file below a path of a store that can be listed, by several threads.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Component, Path};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::patience::{Patience, persist};
use super::room::{Room, together};
use super::transfer::{one, size};
use super::{Listed, Store};
use crate::Error;
use crate::meter::Meter;

/// Transfers at once: small files are bound by the way to the store, not by its speed.
pub const THREADS: usize = 16;
/// Most files.
const MAX_FILES: usize = 1_000_000;
/// Longest path of a file below the folder: the system takes 4096 bytes with the folder's own.
const MAX_PATH: usize = 3072;

/// Fetches all files whose path begins with `path` into `folder`.
pub fn below(
    store: &dyn Store,
    path: &str,
    folder: &Path,
    room: &Room,
    meter: &Meter,
    patience: &Patience,
) -> Result<(), Error> {
    let mut files = list(store, path, &MOST, meter, patience)?;
    files.retain(|listed| has_place(folder, &listed.file));
    // each alone may fit where all together do not
    let total = together(files.iter().filter_map(|listed| listed.bytes));
    room.promise(&format!("{} has {} in {} files", store.name(path), size(total), files.len()), total)?;
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let quiet = |_: &str| {};
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(files.len()) {
            scope.spawn(|| {
                while let Some(listed) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = one(store, &listed.file, folder, room, patience, &quiet) {
                        // the first failure ends the others at their next file
                        next.store(files.len(), Ordering::Relaxed);
                        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        return;
                    }
                    let count = done.fetch_add(1, Ordering::Relaxed) + 1;
                    if count.is_multiple_of(16) || count == files.len() {
                        let name = store.name(path);
                        meter.step(&format!("fetching {name}: {count} of {} files", files.len()), 0.0);
                    }
                }
            });
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Bounds of a list; a store may say what it likes.
struct Most {
    files: usize,
    pages: usize,
    key_bytes: usize,
}

/// A page has up to 1000 files; a few may be empty.
const MOST: Most = Most { files: MAX_FILES, pages: MAX_FILES / 1000 + 100, key_bytes: 256 << 20 };

/// The files below `path`, without those that no folder can hold.
fn list(
    store: &dyn Store,
    path: &str,
    most: &Most,
    meter: &Meter,
    patience: &Patience,
) -> Result<Vec<Listed>, Error> {
    let name = store.name(path);
    let what = format!("listing {name} at {}", store.host());
    let (mut files, mut token): (Vec<Listed>, Option<String>) = (Vec::new(), None);
    let (mut key_bytes, mut skipped) = (0, 0_usize);
    for _ in 0..most.pages {
        meter.step(&format!("listing {name}: {} files", files.len()), 0.0);
        let note = |text: &str| meter.step(text, 0.0);
        let (page, next) = persist(&what, patience, &note, |brought| {
            let page = store.list(path, token.as_deref())?;
            *brought += patience.least;
            Ok(page)
        })?;
        for listed in page {
            key_bytes += listed.file.len();
            if is_file(&listed.file) {
                files.push(listed);
            } else if !listed.file.ends_with('/') {
                // what ends with a slash is a console's mark of a folder
                skipped += 1;
            }
        }
        if files.len() > most.files {
            return Err(Error::DataCorrupt(format!("below {name} are more than {} files", most.files)));
        }
        if key_bytes > most.key_bytes {
            let (bytes, files) = (size(most.key_bytes as u64), files.len());
            return Err(Error::DataCorrupt(format!(
                "the names of the {files} files below {name} take more than {bytes}: shorten them, or put the pictures into one archive"
            )));
        }
        if next.is_none() {
            return usable(files, skipped, &name);
        }
        if token == next {
            break;
        }
        token = next;
    }
    Err(Error::DataCorrupt(format!(
        "{what}: the list does not end; put the pictures into one archive, or mend the store"
    )))
}

/// The files that can lie in one folder beside each other; keys of a store need not.
fn usable(mut files: Vec<Listed>, skipped: usize, name: &str) -> Result<Vec<Listed>, Error> {
    let folders: HashSet<String> =
        files.iter().flat_map(|listed| parents(&listed.file)).map(str::to_owned).collect();
    files.retain(|listed| !folders.contains(&listed.file));
    if !files.is_empty() {
        return Ok(files);
    }
    let odd = match skipped {
        0 => String::new(),
        count => format!(", and {count} keys with empty or dotted parts cannot be files"),
    };
    Err(Error::SourceNotFound(format!("below {name} is no file{odd}; check the path of the pictures")))
}

/// The folders that a file lies in, from the innermost.
fn parents(file: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(file.rsplit_once('/'), |(folder, _)| folder.rsplit_once('/'))
        .map(|(folder, _)| folder)
}

/// Whether a listed file can be put into the folder: a file that is there was fetched by its name, and
/// nothing can lie below it.
fn has_place(folder: &Path, file: &str) -> bool {
    fs::symlink_metadata(folder.join(file)).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// A key of a store can be what no file's path can be: such a key is no picture of any row.
fn is_file(file: &str) -> bool {
    Path::new(file).components().all(|part| matches!(part, Component::Normal(_)))
        && file.split('/').all(|part| !part.is_empty() && part != "." && part.len() <= 255)
        && file.len() <= MAX_PATH
        && !file.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::patience::Failure;
    use crate::fetch::transfer::{Answer, Resume};

    /// The page of a token, and the next token.
    type Pages = fn(Option<&str>) -> (Vec<String>, Option<String>);

    /// A store whose pages are told by their token.
    struct Lists(Pages);

    impl Store for Lists {
        fn open(&self, _: &str, _: &Resume) -> Result<Answer, Failure> {
            Err(Failure::passing("nothing is fetched"))
        }

        fn list(&self, _: &str, token: Option<&str>) -> Result<(Vec<Listed>, Option<String>), Failure> {
            let (files, next) = self.0(token);
            Ok((files.into_iter().map(|file| Listed { file, bytes: None }).collect(), next))
        }

        fn name(&self, file: &str) -> String {
            format!("s3://b/{file}")
        }

        fn host(&self) -> &'static str {
            "h"
        }

        fn digest(&self, _: &str) -> Option<&str> {
            None
        }
    }

    fn listed(most: &Most, pages: Pages) -> Result<Vec<String>, Error> {
        let files = list(&Lists(pages), "", most, &Meter::silent(), &Patience::default())?;
        Ok(files.into_iter().map(|listed| listed.file).collect())
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_list_that_goes_in_circles_ends() {
        let error =
            listed(&MOST, |token| (Vec::new(), Some(if token == Some("a") { "b" } else { "a" }.to_owned())))
                .unwrap_err();
        assert!(vitrine_contract::exit::FINAL.contains(&error.exit_code()), "{error}");
        assert!(error.to_string().contains("the list does not end"), "{error}");
    }

    #[test]
    fn names_that_would_fill_the_memory_are_refused() {
        let pages = |_: Option<&str>| (names(&["a/long/name.png", "another//odd"]), None);
        assert!(listed(&Most { key_bytes: 27, ..MOST }, pages).is_ok());
        let error = listed(&Most { key_bytes: 26, ..MOST }, pages).unwrap_err();
        assert_eq!(error.reason(), "DataCorrupt");
        assert!(error.to_string().contains("take more than 26 bytes"), "{error}");
    }

    #[test]
    fn keys_that_cannot_lie_beside_each_other_are_left_out() {
        let files = listed(&MOST, |_| {
            let keys = ["images/", "images/a", "images/a-b", "images/a/b", "images//c", "images/../d", "./e"];
            (names(&keys), None)
        });
        assert_eq!(files.unwrap(), ["images/a-b", "images/a/b"]);
        let error = listed(&MOST, |_| (names(&["a//b"]), None)).unwrap_err();
        assert!(error.to_string().contains("1 keys with empty or dotted parts"), "{error}");
    }

    #[test]
    fn keys_that_lead_elsewhere_are_no_files() {
        for good in ["a.png", "images/image_1_product_2.jpg", "é/..png"] {
            assert!(is_file(good), "{good}");
        }
        for bad in ["../x", "a/../x", "/etc/x", "a//b", "./a", "a/./b", "", "a\0b", "a\nb", &"x".repeat(256)]
        {
            assert!(!is_file(bad), "{bad:?}");
        }
    }
}
