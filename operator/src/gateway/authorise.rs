//! Who may do what: one pure function.

use super::identity::{Identity, Workload};

/// What a request wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Fetch a blob.
    ReadBlob,
    /// Store a blob.
    WriteBlob,
    /// Report progress.
    PostProgress,
    /// Report the end.
    PostResult,
}

impl Operation {
    /// Name in metrics and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadBlob => "read-blob",
            Self::WriteBlob => "write-blob",
            Self::PostProgress => "post-progress",
            Self::PostResult => "post-result",
        }
    }
}

/// A refusal, in words for the pod's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied(pub String);

/// May this pod do that? Pods of Jobs write blobs and post for their own Job; every pod reads only
/// what its Job or Deployment names. The namespace is never asked for: it is the pod's own.
pub fn authorise(identity: &Identity, operation: Operation, digest: Option<&str>) -> Result<(), Denied> {
    let allowed = match (operation, digest, &identity.workload) {
        (Operation::ReadBlob, Some(digest), _) => identity.reads.contains(digest),
        (Operation::WriteBlob, Some(_), Workload::Job { .. })
        | (Operation::PostProgress | Operation::PostResult, None, Workload::Job { .. }) => true,
        _ => false,
    };
    if allowed {
        return Ok(());
    }
    let (kind, name) = match &identity.workload {
        Workload::Job { name, .. } => ("Job", name),
        Workload::Serving { name, .. } => ("Deployment", name),
    };
    let what = digest.map_or_else(String::new, |d| format!(" of {d}"));
    Err(Denied(format!(
        "pod {}/{} of {kind} {name} ({} {}) may not {}{what}",
        identity.namespace,
        identity.pod,
        identity.owner.kind,
        identity.owner.name,
        operation.as_str()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::identity::Owner;

    fn pod(workload: Workload, reads: &[&str]) -> Identity {
        Identity {
            namespace: "ns".into(),
            namespace_uid: "ns-uid".into(),
            pod: "pod".into(),
            pod_uid: "pod-uid".into(),
            owner: Owner { kind: "TrainingRun".into(), name: "demo".into(), uid: "run-uid".into() },
            workload,
            reads: reads.iter().map(|&d| d.to_owned()).collect(),
        }
    }

    #[test]
    fn the_table_of_who_may_do_what() {
        use Operation::{PostProgress, PostResult, ReadBlob, WriteBlob};
        let job = || Workload::Job { name: "job".into(), uid: "job-uid".into() };
        let serving = || Workload::Serving { name: "dep".into(), uid: "dep-uid".into() };
        let trainer = pod(job(), &["sha256:a", "sha256:b"]);
        let ingest = pod(job(), &[]);
        let server = pod(serving(), &["sha256:m"]);
        let table = [
            (&trainer, ReadBlob, Some("sha256:a"), true),
            (&trainer, ReadBlob, Some("sha256:b"), true),
            (&trainer, ReadBlob, Some("sha256:m"), false),
            (&trainer, ReadBlob, Some("sha256:"), false),
            (&trainer, ReadBlob, Some(""), false),
            (&trainer, ReadBlob, None, false),
            (&trainer, WriteBlob, Some("sha256:new"), true),
            (&trainer, WriteBlob, None, false),
            (&trainer, PostProgress, None, true),
            (&trainer, PostResult, None, true),
            (&ingest, ReadBlob, Some("sha256:a"), false),
            (&ingest, WriteBlob, Some("sha256:a"), true),
            (&ingest, PostResult, None, true),
            (&server, ReadBlob, Some("sha256:m"), true),
            (&server, ReadBlob, Some("sha256:a"), false),
            (&server, WriteBlob, Some("sha256:m"), false),
            (&server, PostProgress, None, false),
            (&server, PostResult, None, false),
        ];
        for (identity, operation, digest, expected) in table {
            let got = authorise(identity, operation, digest);
            assert_eq!(got.is_ok(), expected, "{:?} {operation:?} {digest:?}", identity.workload);
        }
    }

    #[test]
    fn a_refusal_names_pod_owner_and_what_was_asked() {
        let server = pod(Workload::Serving { name: "dep".into(), uid: "u".into() }, &[]);
        let Err(Denied(text)) = authorise(&server, Operation::ReadBlob, Some("sha256:x")) else { panic!() };
        assert_eq!(text, "pod ns/pod of Deployment dep (TrainingRun demo) may not read-blob of sha256:x");
    }
}
