//! The mounted Secret: one file per key.
//!
//! Nothing here can be printed: the types have no `Debug`, and errors name keys, never values.

use std::fs;
use std::io;
use std::path::Path;

use ureq::http::{HeaderName, HeaderValue};

use crate::Error;

/// Longest value of a key in bytes.
const MAX_VALUE: u64 = 64 << 10;
/// Most headers.
const MAX_HEADERS: usize = 32;
/// Headers that decide how a request is sent, not what opens the source.
const RESERVED: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "if-match",
    "if-range",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A mounted Secret.
pub struct Secret<'a> {
    /// Name of the Secret, for messages.
    pub name: &'a str,
    /// Where it is mounted.
    pub folder: &'a Path,
}

impl Secret<'_> {
    /// The value of a key that must be there.
    pub fn required(&self, key: &str) -> Result<String, Error> {
        self.optional(key)?.filter(|value| !value.is_empty()).ok_or_else(|| {
            let name = self.name;
            Error::SourceDenied(format!("Secret {name} has no {key}, or it is empty: add the key to it"))
        })
    }

    /// The value of a key, without the white space around it that editors add.
    pub fn optional(&self, key: &str) -> Result<Option<String>, Error> {
        let path = self.folder.join(key);
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(meta) if meta.len() > MAX_VALUE => {
                return Err(self.unusable(key, &format!("it is longer than {MAX_VALUE} bytes")));
            }
            _ => {}
        }
        let bytes = fs::read(&path).map_err(|error| self.unusable(key, &error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| self.unusable(key, "it is not text"))?;
        Ok(Some(text.trim().to_owned()))
    }

    /// Each key as a header.
    pub fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, Error> {
        let failed = |error: io::Error| {
            Error::SourceDenied(format!("Secret {} cannot be read where it is mounted: {error}", self.name))
        };
        let mut keys = Vec::new();
        for entry in fs::read_dir(self.folder).map_err(failed)? {
            let key = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            // the kubelet's own links
            if !key.starts_with("..") {
                keys.push(key);
            }
        }
        keys.sort();
        if keys.is_empty() || keys.len() > MAX_HEADERS {
            return Err(Error::SourceDenied(format!(
                "Secret {} has {} keys; it needs 1 to {MAX_HEADERS}, each the name of a header",
                self.name,
                keys.len()
            )));
        }
        keys.iter().map(|key| self.header(key)).collect()
    }

    fn header(&self, key: &str) -> Result<(HeaderName, HeaderValue), Error> {
        let Ok(name) = HeaderName::try_from(key) else {
            return Err(self.unusable(key, "it is not the name of a header"));
        };
        if RESERVED.contains(&name.as_str()) {
            return Err(self.unusable(key, "this header cannot be set; remove the key"));
        }
        let value = self.required(key)?;
        let mut value =
            HeaderValue::try_from(value).map_err(|_| self.unusable(key, "no header can hold its value"))?;
        value.set_sensitive(true);
        Ok((name, value))
    }

    fn unusable(&self, key: &str, why: &str) -> Error {
        Error::SourceDenied(format!("key {key} of Secret {} cannot be used: {why}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "canary-4711";

    fn mounted(keys: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("..2026_data")).unwrap();
        for (key, value) in keys {
            fs::write(dir.path().join(key), value).unwrap();
        }
        dir
    }

    #[test]
    fn keys_are_trimmed_and_missing_ones_are_named() {
        let dir = mounted(&[("AWS_ACCESS_KEY_ID", b" id\n"), ("EMPTY", b"\n")]);
        let secret = Secret { name: "minio", folder: dir.path() };
        assert_eq!(secret.required("AWS_ACCESS_KEY_ID").unwrap(), "id");
        assert_eq!(secret.optional("AWS_SESSION_TOKEN").unwrap(), None);
        for key in ["AWS_SECRET_ACCESS_KEY", "EMPTY"] {
            let error = secret.required(key).unwrap_err();
            assert_eq!(error.reason(), "SourceDenied");
            assert!(error.to_string().contains(&format!("Secret minio has no {key}")), "{error}");
        }
    }

    #[test]
    fn each_key_is_a_header_and_the_kubelets_links_are_none() {
        let dir = mounted(&[("Cookie", b"a=b; c=d\n"), ("X-Api-Key", b"k")]);
        let headers = Secret { name: "h", folder: dir.path() }.headers().unwrap();
        let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["cookie", "x-api-key"]);
        assert_eq!(headers[0].1, "a=b; c=d");
        assert!(headers.iter().all(|(_, value)| value.is_sensitive()));
    }

    #[test]
    fn headers_that_cannot_be_are_refused_without_their_value() {
        let broken = format!("{CANARY}\r\nHost: evil");
        for (key, value) in [
            ("Host", CANARY.as_bytes()),
            ("Range", CANARY.as_bytes()),
            ("a b", b"x"),
            ("X", broken.as_bytes()),
        ] {
            let dir = mounted(&[(key, value)]);
            let error = Secret { name: "h", folder: dir.path() }.headers().err().unwrap().to_string();
            assert!(error.contains("Secret h") && error.contains(key) && !error.contains(CANARY), "{error}");
        }
        let dir = mounted(&[]);
        assert!(Secret { name: "h", folder: dir.path() }.headers().is_err());
    }
}
