//! Every file below a path of a store that can be listed, by several threads.

use std::path::{Component, Path};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::patience::{Patience, persist};
use super::transfer::one;
use super::{Listed, Store};
use crate::Error;
use crate::meter::Meter;

/// Transfers at once: small files are bound by the way to the store, not by its speed.
pub const THREADS: usize = 16;
/// Most files.
const MAX_FILES: usize = 1_000_000;

/// Fetches all files whose path begins with `path` into `folder`.
pub fn below(
    store: &dyn Store,
    path: &str,
    folder: &Path,
    meter: &Meter,
    patience: &Patience,
) -> Result<(), Error> {
    let files = list(store, path, meter, patience)?;
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let quiet = |_: &str| {};
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(files.len()) {
            scope.spawn(|| {
                while let Some(listed) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = one(store, &listed.file, folder, patience, &quiet) {
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

fn list(store: &dyn Store, path: &str, meter: &Meter, patience: &Patience) -> Result<Vec<Listed>, Error> {
    let name = store.name(path);
    let what = format!("listing {name} at {}", store.host());
    let (mut files, mut token): (Vec<Listed>, Option<String>) = (Vec::new(), None);
    loop {
        meter.step(&format!("listing {name}: {} files", files.len()), 0.0);
        let note = |text: &str| meter.step(text, 0.0);
        let (page, next) = persist(&what, patience, &note, |brought| {
            let page = store.list(path, token.as_deref())?;
            *brought += patience.least;
            Ok(page)
        })?;
        for listed in page {
            // what ends with a slash is a console's mark of a folder
            if !listed.file.ends_with('/') {
                check(&listed.file, &name)?;
                files.push(listed);
            }
        }
        if files.len() > MAX_FILES {
            return Err(Error::DataCorrupt(format!("below {name} are more than {MAX_FILES} files")));
        }
        match next {
            Some(next) if token.as_ref() != Some(&next) => token = Some(next),
            Some(_) => return Err(Error::SourceUnavailable(format!("{what}: the list does not end"))),
            None => break,
        }
    }
    if files.is_empty() {
        return Err(Error::SourceNotFound(format!(
            "below {name} is no file; check the path of the pictures"
        )));
    }
    Ok(files)
}

/// A key of a store can be what no file's path can be; a hostile store lists what it likes.
fn check(file: &str, of: &str) -> Result<(), Error> {
    let plain = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)))
        && file.split('/').all(|part| !part.is_empty() && part != "." && part.len() <= 255)
        && !file.contains(char::is_control);
    if plain {
        return Ok(());
    }
    Err(Error::DataCorrupt(format!("{of} lists {file:?}, which cannot be a file: rename or remove it")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_lead_elsewhere_are_no_files() {
        for good in ["a.png", "images/image_1_product_2.jpg", "é/..png"] {
            assert!(check(good, "s3://b/").is_ok(), "{good}");
        }
        for bad in ["../x", "a/../x", "/etc/x", "a//b", "./a", "a/./b", "", "a\0b", "a\nb", &"x".repeat(256)]
        {
            assert!(check(bad, "s3://b/").is_err(), "{bad:?}");
        }
    }
}
