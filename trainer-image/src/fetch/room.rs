//! Room on the disk of the pod's node, which is shared with every other pod there: a source may not
//! fill it, or the kubelet evicts the neighbours too.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::transfer::size;
use crate::Error;

/// Percent of the file system that stay free: the kubelet evicts at about 10.
const RESERVE_PERCENT: u64 = 15;
/// Bytes of one ingest that are taken even from the reserve: they do not move a node's disk, and a small
/// table must not be refused on a node that is nearly full anyway.
const SMALL: u64 = 64 << 20;
/// What a file takes is counted in blocks.
const BLOCK: u64 = 4096;

/// A file system, in bytes.
#[derive(Debug, Clone, Copy)]
struct Space {
    free: u64,
    whole: u64,
}

impl Space {
    fn of(folder: &Path) -> Option<Self> {
        let stat = rustix::fs::statvfs(folder).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Some(Self { free: bytes(stat.f_bavail), whole: bytes(stat.f_blocks) })
    }

    fn reserve(self) -> u64 {
        self.whole / 100 * RESERVE_PERCENT
    }
}

/// Bytes of this ingest.
#[derive(Debug, Default)]
struct Held {
    /// Granted and not yet written.
    promised: u64,
    /// Written.
    written: u64,
}

/// The room of one ingest, over all of its transfers.
pub struct Room {
    folder: PathBuf,
    space: fn(&Path) -> Option<Space>,
    held: Mutex<Held>,
}

impl Room {
    /// The room where `folder` is.
    pub fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), space: Space::of, held: Mutex::default() }
    }

    /// Grants `bytes` to `what` ("X.csv has 3 GB"), beside all that is promised already.
    pub fn promise(&self, what: &str, bytes: u64) -> Result<Promise<'_>, Error> {
        let mut held = self.held();
        if let Some(left) = (self.space)(&self.folder).and_then(|space| lacking(space, &held, bytes)) {
            let left = size(left);
            let what = format!(
                "{what} and the pod's scratch space only {left} left beside the {RESERVE_PERCENT} % of the disk that its node keeps free; give it a node with a larger disk"
            );
            return Err(Error::Io { what, source: io::ErrorKind::StorageFull.into() });
        }
        held.promised = held.promised.saturating_add(bytes);
        Ok(Promise { room: self, left: bytes })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes that are left where `bytes` do not fit.
fn lacking(space: Space, held: &Held, bytes: u64) -> Option<u64> {
    let free = space.free.saturating_sub(held.promised);
    let left = free.saturating_sub(space.reserve());
    let small = held.written.saturating_add(held.promised).saturating_add(bytes) <= SMALL;
    (bytes > if small { free } else { left }).then_some(left)
}

/// Room that one transfer was granted; what it does not use goes back.
pub struct Promise<'a> {
    room: &'a Room,
    left: u64,
}

impl Promise<'_> {
    /// Bytes that may still be written.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// So many bytes are on the disk now, where the system counts them.
    pub fn written(&mut self, bytes: u64) {
        let used = bytes.min(self.left);
        self.left -= used;
        let mut held = self.room.held();
        held.promised = held.promised.saturating_sub(used);
        held.written = held.written.saturating_add(bytes);
    }
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        let mut held = self.room.held();
        held.promised = held.promised.saturating_sub(self.left);
    }
}

/// What files of these sizes take together.
pub fn together(sizes: impl Iterator<Item = u64>) -> u64 {
    let blocks = |bytes: u64| bytes.div_ceil(BLOCK).saturating_mul(BLOCK);
    sizes.map(blocks).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1 << 30;

    fn room(space: fn(&Path) -> Option<Space>) -> Room {
        Room { folder: PathBuf::new(), space, held: Mutex::default() }
    }

    #[test]
    fn transfers_at_once_share_what_is_free_beyond_the_reserve() {
        // 15 of 25 GB are for the source
        let room = room(|_| Some(Space { free: 30 * GB, whole: 100 * GB }));
        let one = room.promise("a has 10 GB", 10 * GB).unwrap();
        let error = room.promise("b has 10 GB", 10 * GB).err().unwrap();
        assert_eq!(error.reason(), "StorageFull");
        let text = error.to_string();
        assert!(text.starts_with("b has 10 GB and the pod's scratch space only 5368 MB left"), "{text}");
        drop(one);
        let mut two = room.promise("b has 10 GB", 10 * GB).unwrap();
        // what is written is counted by the system
        two.written(6 * GB);
        assert_eq!(two.left(), 4 * GB);
        assert!(room.promise("c", 11 * GB).is_ok() && room.promise("c", 12 * GB).is_err());
    }

    #[test]
    fn a_small_source_is_taken_by_a_node_that_is_nearly_full_and_many_small_files_are_not() {
        let room = room(|_| Some(Space { free: 5 * GB, whole: 100 * GB }));
        for _ in 0..4 {
            room.promise("small", SMALL / 4).unwrap().written(SMALL / 4);
        }
        assert!(room.promise("one more", 1).is_err());
        assert_eq!(together([1, 4096, 4097].into_iter()), 4 * 4096);
        assert_eq!(together([u64::MAX, u64::MAX].into_iter()), u64::MAX);
    }
}
