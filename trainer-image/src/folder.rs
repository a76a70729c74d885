//! The source's folder: every file of the user is opened here, and none outside of the source.
//!
//! Names come from the Dataset and from cells of the table, and the volume may hold anything: a
//! symbolic link to this pod's token, a pipe that never ends. So a file is opened first, without
//! waiting, and then the system is asked where it really is.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::Error;
use crate::table::quoted;

/// A folder below the source's root.
#[derive(Debug, Clone)]
pub struct Folder {
    /// What a link may not lead out of, without links itself.
    root: PathBuf,
    folder: PathBuf,
}

/// Why a file was not opened.
#[derive(Debug)]
pub enum Refusal {
    /// There is none.
    Missing,
    /// It is a folder, a pipe or a device.
    NotAFile,
    /// It lies, or a link leads, out of the source.
    Outside,
    /// This process may not read it.
    Denied,
    /// The system failed.
    Failed(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => Self::Missing,
            Some(Errno::ACCESS | Errno::PERM) => Self::Denied,
            // Links that lead to each other lead nowhere within the source.
            Some(Errno::LOOP) => Self::Outside,
            // A socket, or a device without its driver.
            Some(Errno::NXIO | Errno::NODEV) => Self::NotAFile,
            // A name that no file can have.
            None if error.kind() == io::ErrorKind::InvalidInput => Self::Missing,
            _ => Self::Failed(error),
        }
    }
}

impl Folder {
    /// `root/path`; `path` may not lead out of `root`.
    pub fn new(root: &Path, path: &str) -> Result<Self, Error> {
        let folder = crate::pod::below(root, path)?;
        // A root that is not there shows itself when a file is asked for.
        let root = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
        Ok(Self { root, folder })
    }

    /// Opens a file for reading.
    pub fn open(&self, name: &str) -> Result<File, Refusal> {
        let relative = Path::new(name);
        if !is_inside(relative) {
            return Err(Refusal::Outside);
        }
        // A pipe without a writer must not hold the pod.
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
        let file = File::options().read(true).custom_flags(flags).open(self.folder.join(relative))?;
        let real = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        if !real.starts_with(&self.root) {
            return Err(Refusal::Outside);
        }
        if file.metadata()?.is_file() { Ok(file) } else { Err(Refusal::NotAFile) }
    }

    /// Opens a file that the Dataset names; the error says what to mend.
    pub fn source(&self, name: &str) -> Result<File, Error> {
        let what = match self.open(name) {
            Ok(file) => return Ok(file),
            Err(Refusal::Outside) if !is_inside(Path::new(name)) => {
                return Err(Error::InvalidSpec(format!("file {name:?} must lie within the source's folder")));
            }
            Err(Refusal::Outside) => format!(
                "source file {name} is a symbolic link that leads out of the source; copy the file itself into the volume"
            ),
            Err(Refusal::Missing) => format!("source file {name} does not exist"),
            Err(Refusal::NotAFile) => format!("{name} is not a file"),
            Err(Refusal::Denied) => format!(
                "source file {name} is not readable for this pod; make it world-readable or set fsGroup on the volume"
            ),
            // A network volume may be back when the pod is tried again.
            Err(Refusal::Failed(source)) => {
                return Err(Error::Io { what: format!("opening source file {name}"), source });
            }
        };
        Err(Error::SourceNotFound(format!("{what}; {}", listing(&self.folder))))
    }
}

/// Whether a path stays below the folder that it is relative to.
pub fn is_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// What is in the folder, for somebody who mistyped a name.
fn listing(folder: &Path) -> String {
    let Ok(entries) = fs::read_dir(folder) else {
        return "its folder does not exist: check the source's path".to_owned();
    };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    if names.is_empty() { "its folder is empty".to_owned() } else { format!("there are {}", quoted(&names)) }
}
