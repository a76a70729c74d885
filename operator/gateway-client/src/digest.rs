//! Digests of bytes and files, as the contract writes them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};
use vitrine_contract::DIGEST_PREFIX;
use vitrine_contract::report::Blob;

/// Bytes moved at once.
pub(crate) const BUFFER: usize = 64 * 1024;

/// `sha256:` digest of these bytes.
pub fn digest_of_bytes(bytes: &[u8]) -> String {
    written(Sha256::new_with_prefix(bytes))
}

/// Digest and size of a file, read once in pieces.
pub fn digest_of_file(path: &Path) -> io::Result<Blob> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(Blob { digest: written(hash), bytes });
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
}

/// The digest of what was hashed.
pub(crate) fn written(hash: Sha256) -> String {
    format!("{DIGEST_PREFIX}{}", hex::encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_and_its_bytes_have_the_known_digest() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest_of_bytes(b""), empty);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let bytes = vec![7; BUFFER * 2 + 1];
        std::fs::write(&path, &bytes).unwrap();
        let blob = digest_of_file(&path).unwrap();
        assert_eq!(blob, Blob { digest: digest_of_bytes(&bytes), bytes: bytes.len() as u64 });
    }
}
