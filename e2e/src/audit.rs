//! The apiserver's audit log: who wrote what. It is the only witness that the operator cannot
//! mislead.

use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;

use serde_json::Value;

/// The operator's user in the audit log.
pub const OPERATOR: &str = "system:serviceaccount:vitrine-system:vitrine";

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// `get`, `create`, `patch`, ...
    pub verb: String,
    /// API group, empty for the core group.
    pub group: String,
    /// Resource, with its subresource as `pods/log`.
    pub resource: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// HTTP status.
    pub code: i64,
    /// Why it was refused, if it was.
    pub message: String,
    /// Field manager of a write.
    pub manager: String,
}

fn path() -> String {
    std::env::var("VITRINE_AUDIT_LOG")
        .expect("VITRINE_AUDIT_LOG names the apiserver's audit log: run e2e/test")
}

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    inode: u64,
    offset: u64,
}

/// The end of the log as it is now.
pub fn mark() -> Mark {
    let now = std::fs::metadata(path()).expect("the audit log exists");
    Mark { inode: now.ino(), offset: now.len() }
}

/// Requests of a user since a mark. A log that was rotated since is an error, not an empty answer.
pub fn since(mark: Mark, user: &str) -> Vec<Request> {
    let mut file = std::fs::File::open(path()).unwrap();
    let now = file.metadata().unwrap();
    let same = now.ino() == mark.inode && now.len() >= mark.offset;
    assert!(same, "the audit log was rotated while it was watched: run the story again");
    file.seek(SeekFrom::Start(mark.offset)).unwrap();
    BufReader::new(file)
        .lines()
        .map(|line| line.expect("the audit log can be read"))
        .filter(|line| line.contains(user))
        .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
        .filter(|e| e["user"]["username"] == user)
        .map(|e| request(&e))
        .collect()
}

fn request(event: &Value) -> Request {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let sub = text("/objectRef/subresource");
    let resource = text("/objectRef/resource");
    let uri = text("/requestURI");
    let query = uri.split_once('?').map_or("", |(_, query)| query);
    let manager = query.split('&').find_map(|pair| pair.strip_prefix("fieldManager="));
    Request {
        verb: text("/verb"),
        group: text("/objectRef/apiGroup"),
        resource: if sub.is_empty() { resource } else { format!("{resource}/{sub}") },
        namespace: text("/objectRef/namespace"),
        name: text("/objectRef/name"),
        code: event.pointer("/responseStatus/code").and_then(Value::as_i64).unwrap_or_default(),
        message: text("/responseStatus/message"),
        manager: manager.unwrap_or_default().to_owned(),
    }
}

/// Only requests that write.
pub fn writes(requests: Vec<Request>) -> Vec<Request> {
    requests
        .into_iter()
        .filter(|r| ["create", "update", "patch", "delete", "deletecollection"].contains(&r.verb.as_str()))
        .collect()
}
