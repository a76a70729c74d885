//! The picture of each row: read, checked by decoding, counted.

use std::io::Read;

use vitrine_contract::job::Image;
use vitrine_contract::report::Images;
use vitrine_contract::template::Template;
use vitrine_model::picture::{self, MAX_BYTES};

use crate::Error;
use crate::archive::{Archive, EntryFault};
use crate::folder::{Folder, Refusal, is_inside};
use crate::table::{RawRow, Table};

/// Where the rows' pictures come from.
pub struct Pictures {
    template: Template,
    /// Positions of the template's columns.
    columns: Vec<usize>,
    /// Whether a row may be without one.
    pub optional: bool,
    place: Place,
    /// What was found so far.
    pub counts: Images,
}

enum Place {
    Folder(Folder),
    Archive(Archive),
}

/// Why a row has no picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PictureFault {
    /// There is none under this path.
    Missing(String),
    /// It cannot be used.
    Unreadable {
        /// Where it is.
        path: String,
        /// What is wrong with it.
        what: String,
    },
}

impl PictureFault {
    /// One word for the profile.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing(_) => "noPicture",
            Self::Unreadable { .. } => "pictureUnreadable",
        }
    }
}

impl std::fmt::Display for PictureFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(path) => write!(f, "there is no picture {path}"),
            Self::Unreadable { path, what } => write!(f, "picture {path}: {what}"),
        }
    }
}

impl Pictures {
    /// Parses the template, finds its columns in the table and opens the archive.
    pub fn open(image: &Image, table: &Table, folder: &Folder) -> Result<Self, Error> {
        let template = Template::parse(&image.path_template).map_err(|why| {
            Error::InvalidSpec(format!("schema.image.pathTemplate {:?} {why}", image.path_template))
        })?;
        let columns = template.columns().map(|name| table.column(name)).collect::<Result<_, _>>()?;
        let place = match &image.archive {
            Some(archive) => Place::Archive(Archive::open(folder, archive)?),
            None => Place::Folder(folder.clone()),
        };
        Ok(Self { template, columns, optional: image.optional, place, counts: Images::default() })
    }

    /// The row's picture, byte for byte as it was found.
    pub fn read(&mut self, row: &RawRow) -> Result<Result<Vec<u8>, PictureFault>, Error> {
        let found = self.find(row)?;
        match &found {
            Ok(_) => self.counts.count += 1,
            Err(PictureFault::Missing(_)) => self.counts.missing += 1,
            Err(PictureFault::Unreadable { .. }) => self.counts.unreadable += 1,
        }
        Ok(found)
    }

    fn find(&mut self, row: &RawRow) -> Result<Result<Vec<u8>, PictureFault>, Error> {
        let values: Result<Vec<_>, _> = self.columns.iter().map(|&column| row.cell(column)).collect();
        let Ok(values) = values else {
            let path = self.template.fill(self.columns.iter().map(|_| "?"));
            let what = "a cell of its path is not usable text".to_owned();
            return Ok(Err(PictureFault::Unreadable { path, what }));
        };
        let path = self.template.fill(values.into_iter().map(str::trim));
        let bytes = match &mut self.place {
            Place::Folder(folder) => from_folder(folder, &path)?,
            Place::Archive(archive) => archive.read(&path)?,
        };
        Ok(bytes
            .and_then(|bytes| match picture::check(&bytes) {
                Ok(_) => Ok(bytes),
                Err(error) => Err(EntryFault::Unreadable(error.to_string())),
            })
            .map_err(|fault| match fault {
                EntryFault::Missing => PictureFault::Missing(path),
                EntryFault::Unreadable(what) => PictureFault::Unreadable { path, what },
            }))
    }
}

fn from_folder(folder: &Folder, path: &str) -> Result<Result<Vec<u8>, EntryFault>, Error> {
    let unreadable = |what: &str| Ok(Err(EntryFault::Unreadable(what.to_owned())));
    let failed = |source| Error::Io { what: format!("reading picture {path}"), source };
    let file = match folder.open(path) {
        Ok(file) => file,
        Err(Refusal::Missing) => return Ok(Err(EntryFault::Missing)),
        Err(Refusal::NotAFile) => return unreadable("it is not a file"),
        Err(Refusal::Outside) if !is_inside(path.as_ref()) => {
            return unreadable("its path leads out of the source's folder");
        }
        Err(Refusal::Outside) => return unreadable("it is a symbolic link that leads out of the source"),
        Err(Refusal::Denied) => return unreadable("it is not readable for this pod"),
        // A network volume may be back when the pod is tried again: no picture is lost for it.
        Err(Refusal::Failed(source)) => return Err(failed(source)),
    };
    let mut bytes = Vec::new();
    // One byte more than allowed is enough to be refused.
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Ok(bytes))
}
