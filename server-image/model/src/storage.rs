//! The bytes of an artifact: mapped from a file or owned. The one place with `unsafe`.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;

use memmap2::Mmap;

/// Artifact bytes that start at an address divisible by 8, so that numbers in them can be read in place.
#[derive(Debug)]
pub(crate) enum Storage {
    Mapped(Mmap),
    Owned { words: Vec<u64>, len: usize },
}

impl Storage {
    /// Maps the file: pages are shared between processes and come in when first read.
    #[allow(unsafe_code)]
    pub(crate) fn map(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the mapping is read-only. Changing or truncating the file under it would be
        // undefined behaviour; artifacts are written to a temporary name and renamed, and never
        // written again (`artifact::write_file`), and the server maps its own private copy.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self::Mapped(map))
    }

    pub(crate) fn copy_of(bytes: &[u8]) -> Self {
        let mut words = vec![0u64; bytes.len().div_ceil(8)];
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Self::Owned { words, len: bytes.len() }
    }

    /// Numbers in place. The range was checked when the artifact was read (see `artifact::Layout`).
    pub(crate) fn numbers<T: bytemuck::AnyBitPattern>(&self, range: &Range<usize>) -> &[T] {
        bytemuck::cast_slice(&self[range.clone()])
    }
}

impl Deref for Storage {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned { words, len } => &bytemuck::cast_slice(words)[..*len],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Storage;

    #[test]
    fn a_copy_holds_the_same_bytes_at_any_length() {
        for len in 0..20usize {
            let bytes: Vec<u8> = (0..len as u8).collect();
            assert_eq!(&*Storage::copy_of(&bytes), bytes);
        }
    }

    #[test]
    fn a_mapped_file_reads_as_numbers() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytemuck::cast_slice::<f32, u8>(&[1.5, -2.0, 4.0])).unwrap();
        let storage = Storage::map(file.path()).unwrap();
        assert_eq!(storage.numbers::<f32>(&(4..12)), [-2.0, 4.0]);
    }
}
