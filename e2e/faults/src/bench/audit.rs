//! What the operator asked the apiserver, from the apiserver's own audit log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use vitrine_faults::rig::{ACCOUNT, SYSTEM};

/// One answered request of the operator.
#[derive(Clone, Debug)]
pub struct Call {
    /// Verb.
    pub verb: String,
    /// Resource, with its subresource after a slash.
    pub resource: String,
    /// Namespace.
    pub namespace: String,
    /// Name, empty for lists.
    pub name: String,
    /// Code of the answer.
    pub code: u64,
    /// Microseconds since 1970 when it came.
    pub start: i64,
    /// And when it was answered.
    pub end: i64,
}

impl Call {
    /// Does it change something? The Lease is the operator's own.
    pub fn writes(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
            && !self.is_lease()
            && !self.resource.contains("reviews")
    }

    /// Is it about the Lease?
    pub fn is_lease(&self) -> bool {
        self.resource == "leases"
    }

    /// Is it an event?
    pub fn is_event(&self) -> bool {
        self.resource == "events"
    }

    /// Verb and resource.
    pub fn what(&self) -> String {
        format!("{} {}", self.verb, self.resource)
    }

    /// Name of the resource of the user that it is about: children are called `<owner>-<digits>`,
    /// events `<owner>.<digits>`, the rest as the owner.
    pub fn owner(&self) -> &str {
        match self.resource.as_str() {
            "jobs" | "configmaps" | "deployments" => {
                self.name.rsplit_once('-').map_or("", |(owner, _)| owner)
            }
            "events" => self.name.split_once('.').map_or(self.name.as_str(), |(owner, _)| owner),
            _ => &self.name,
        }
    }
}

/// Reads the log from where it was read last.
pub struct Audit {
    path: PathBuf,
    offset: u64,
}

impl Audit {
    /// Begins at the log's start.
    pub fn new(path: PathBuf) -> Self {
        Self { path, offset: 0 }
    }

    /// What the operator asked since the last time.
    pub fn next(&mut self) -> Result<Vec<Call>> {
        let user = format!("system:serviceaccount:{SYSTEM}:{ACCOUNT}");
        let mut file = File::open(&self.path).context("the audit log")?;
        // a log that began anew would silently hide what was written
        ensure!(file.metadata()?.len() >= self.offset, "{} is shorter than it was", self.path.display());
        file.seek(SeekFrom::Start(self.offset))?;
        let mut reader = BufReader::new(file);
        let mut calls = Vec::new();
        let mut line = String::new();
        loop {
            line.clear();
            let read = reader.read_line(&mut line)?;
            // a line that is being written is read the next time
            if read == 0 || !line.ends_with('\n') {
                return Ok(calls);
            }
            self.offset += read as u64;
            if line.contains(&user) {
                let entry: Value = serde_json::from_str(&line)?;
                calls.extend(call(&entry));
            }
        }
    }
}

fn call(entry: &Value) -> Option<Call> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = &entry["objectRef"];
    let micros = |key: &str| text(&entry[key]).parse::<Timestamp>().ok().map(Timestamp::as_microsecond);
    let resource = match object["subresource"].as_str() {
        Some(sub) => format!("{}/{sub}", text(&object["resource"])),
        None => text(&object["resource"]),
    };
    Some(Call {
        verb: text(&entry["verb"]),
        resource,
        namespace: text(&object["namespace"]),
        name: text(&object["name"]),
        code: entry["responseStatus"]["code"].as_u64().unwrap_or_default(),
        start: micros("requestReceivedTimestamp")?,
        end: micros("stageTimestamp")?,
    })
}

/// How often each kind of call was made.
pub fn tally<'a>(calls: impl Iterator<Item = &'a Call>) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for call in calls {
        *all.entry(call.what()).or_default() += 1;
    }
    all
}

/// Most calls that were under way at once.
pub fn most_at_once<'a>(calls: impl Iterator<Item = &'a Call>) -> usize {
    let mut edges: Vec<(i64, i32)> = calls.flat_map(|c| [(c.start, 1), (c.end, -1)]).collect();
    edges.sort_unstable();
    let (mut now, mut most) = (0, 0);
    for (_, step) in edges {
        now += step;
        most = most.max(now);
    }
    usize::try_from(most).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(resource: &str, name: &str, start: i64, end: i64) -> Call {
        let (verb, namespace) = ("patch".to_owned(), "n".to_owned());
        Call { verb, resource: resource.into(), namespace, name: name.into(), code: 200, start, end }
    }

    #[test]
    fn calls_are_told_by_their_owner() {
        assert_eq!(at("jobs", "data-d-49-0123456789", 0, 0).owner(), "data-d-49");
        assert_eq!(at("services", "m-1", 0, 0).owner(), "m-1");
        assert_eq!(at("events", "r-1.18a2", 0, 0).owner(), "r-1");
    }

    #[test]
    fn calls_under_way_at_once_are_counted() {
        let calls = [at("jobs", "a", 0, 10), at("jobs", "b", 5, 8), at("jobs", "c", 10, 12)];
        assert_eq!(most_at_once(calls.iter()), 2);
    }
}
