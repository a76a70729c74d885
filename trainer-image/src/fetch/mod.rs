//! From a remote source to a local folder that looks like the source's folder: `ingest` then reads it
//! as it reads a volume.
//!
//! Only the files that the task names are fetched, streamed to disk, with retries that go on where
//! a transfer broke. What opens the source (keys, headers) is read from the mounted Secret and goes
//! into requests only: no message, log or error may hold it, which is why messages here are put
//! together from the source's own names and never from an address as it was sent.

mod agent;
mod folder;
mod http;
mod patience;
mod room;
mod s3;
mod secret;
mod transfer;

use std::fs;
use std::path::Path;

use vitrine_contract::job::{Ingest, Remote};

use crate::Error;
use crate::meter::Meter;
use patience::Failure;
use room::Room;
use transfer::{Answer, Resume};

pub use patience::Patience;

/// What a task needs of its source, relative to the source's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Needed {
    /// One file.
    File(String),
    /// Every file whose path begins with this.
    Below(String),
}

/// What the task needs: the table, and what goes with it.
pub fn needed(task: &Ingest) -> Vec<Needed> {
    let mut all = vec![Needed::File(task.features.clone())];
    all.extend(task.labels.clone().map(Needed::File));
    all.extend(pictures(task));
    all.dedup();
    all
}

/// Pictures in an archive are one file; pictures as files are all that begin as their paths do before
/// the first column: which of them a row names is known only once the table is read.
fn pictures(task: &Ingest) -> Option<Needed> {
    let image = task.image.as_ref()?;
    Some(match &image.archive {
        Some(archive) => Needed::File(archive.clone()),
        None => Needed::Below(image.path_template.split('{').next().unwrap_or_default().to_owned()),
    })
}

/// A file of a source that can be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    /// Relative to the source's folder.
    file: String,
    /// Size in bytes, where the list has it.
    bytes: Option<u64>,
}

/// Somewhere that files are fetched from. Each call is one try.
trait Store: Sync {
    /// Begins the transfer of a file.
    fn open(&self, file: &str, resume: &Resume) -> Result<Answer, Failure>;

    /// One page of the files whose path begins so; `token` is where the page before ended.
    fn list(&self, below: &str, token: Option<&str>) -> Result<(Vec<Listed>, Option<String>), Failure>;

    /// The file as messages name it.
    fn name(&self, file: &str) -> String;

    /// The host as messages name it.
    fn host(&self) -> &str;

    /// `sha256:` digest that the file must have, where that is known.
    fn digest(&self, file: &str) -> Option<&str>;
}

/// Fetches what `needed` names into `folder`, with the Secret's keys in `secret`.
pub fn fetch(
    remote: &Remote,
    needed: &[Needed],
    secret: &Path,
    folder: &Path,
    meter: &Meter,
    patience: &Patience,
) -> Result<(), Error> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(Error::io("emptying", folder))?;
    }
    fs::create_dir_all(folder).map_err(Error::io("creating", folder))?;
    let store: Box<dyn Store> = match remote {
        Remote::S3(s3) => Box::new(s3::Bucket::open(s3, secret, patience)?),
        Remote::Http(http) => Box::new(http::Site::open(http, secret, patience)?),
    };
    let room = Room::of(folder);
    for needed in needed {
        match needed {
            Needed::File(file) => transfer::file(store.as_ref(), file, folder, &room, meter, patience)?,
            Needed::Below(path) => folder::below(store.as_ref(), path, folder, &room, meter, patience)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vitrine_contract::job::Image;

    #[test]
    fn pictures_are_fetched_as_their_archive_or_as_the_files_that_begin_alike() {
        let table = Ingest { features: "X.csv".into(), labels: Some("Y.csv".into()), ..Ingest::default() };
        let image = |template: &str, archive: Option<&str>| Ingest {
            image: Some(Image {
                path_template: template.into(),
                optional: true,
                archive: archive.map(str::to_owned),
            }),
            ..table.clone()
        };
        let files = [Needed::File("X.csv".into()), Needed::File("Y.csv".into())];
        assert_eq!(needed(&table), files);
        let beside = needed(&image("images/image_{imageid}.jpg", None));
        assert_eq!(beside[2..], [Needed::Below("images/image_".into())]);
        let zip = needed(&image("image_{imageid}.jpg", Some("images.zip")));
        assert_eq!(zip[2..], [Needed::File("images.zip".into())]);
    }
}
