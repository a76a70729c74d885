//! What can go wrong in a reconcile, by step; every error has a class for metrics, a reason for
//! conditions, and says whether trying again can help.

use std::error::Error;
use std::time::Duration;

use kube::runtime::watcher;
use vitrine_crds::condition::Reason;

use crate::registry;

/// A call to the cluster failed.
#[derive(Debug, thiserror::Error)]
#[error("{verb} {kind} {namespace}/{name}: {}", brief(source))]
pub struct CallError {
    /// What was being done, such as `get`, `apply`.
    pub verb: &'static str,
    /// Kind of the object.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What the client or the server said.
    #[source]
    pub source: Box<kube::Error>,
}

/// An error with its causes in one line, each said once.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

/// What the server or the client said, for people: the client's own text repeats the answer as code.
pub fn brief(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({} {})", status.message, status.code, status.reason),
        kube::Error::Service(error) => format!("no answer: {}", chain(&**error)),
        other => other.to_string(),
    }
}

/// What a watch said, for people.
pub fn brief_watch(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error) => format!("listing: {}", brief(error)),
        watcher::Error::WatchStartFailed(error) => format!("starting to watch: {}", brief(error)),
        watcher::Error::WatchFailed(error) => format!("watching: {}", brief(error)),
        watcher::Error::WatchError(status) => {
            format!("watching: {} ({} {})", status.message, status.code, status.reason)
        }
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}

impl CallError {
    fn status(&self) -> Option<&kube::core::Status> {
        match &*self.source {
            kube::Error::Api(status) => Some(status),
            _ => None,
        }
    }

    /// The object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_not_found)
    }

    /// An object of that name exists.
    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_already_exists)
    }

    /// The object is not the one that was meant (another UID), or it changed meanwhile.
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(|s| s.code == 409 && !s.is_already_exists())
    }

    /// The request cannot be carried out as it is.
    pub fn is_invalid(&self) -> bool {
        self.status().is_some_and(|s| s.code == 422)
    }

    /// One word of a short list.
    pub fn category(&self) -> &'static str {
        match self.status().map(|s| s.code) {
            Some(401) => "unauthorized",
            Some(403) => "forbidden",
            Some(404) => "not-found",
            Some(409) => "conflict",
            Some(400 | 405 | 406 | 415 | 422) => "invalid",
            Some(429) => "throttled",
            Some(_) => "server",
            None => "network",
        }
    }

    /// Can the same call succeed later without a change by a person?
    pub fn is_retryable(&self) -> bool {
        !matches!(self.category(), "forbidden" | "invalid")
    }
}

/// Reading failed.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// A read from the cluster failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The registry failed.
    #[error("registry: {0}")]
    Registry(#[from] registry::Error),
}

/// Writing failed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A write to the cluster failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The registry failed.
    #[error("registry: {0}")]
    Registry(#[from] registry::Error),
    /// A child of that name belongs to somebody else.
    #[error(
        "{kind} {namespace}/{name} exists and belongs to somebody else: delete or rename it, or choose another name for this resource"
    )]
    NameCollision {
        /// Kind of the child.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// An object cannot be written as JSON.
    #[error("{what} cannot be written as JSON: {source}")]
    Json {
        /// What was being written.
        what: &'static str,
        /// What the serializer said.
        #[source]
        source: serde_json::Error,
    },
}

/// A reconcile failed.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Reading failed.
    #[error("observing: {0}")]
    Observe(#[from] ObserveError),
    /// Writing failed.
    #[error("applying: {0}")]
    Apply(#[from] ApplyError),
    /// It took too long.
    #[error("given up after {} seconds: the cluster or the registry does not answer", .0.as_secs())]
    Timeout(Duration),
}

impl ReconcileError {
    /// One word of a short list, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Observe(ObserveError::Call(e)) | Self::Apply(ApplyError::Call(e)) => e.category(),
            Self::Observe(ObserveError::Registry(e)) | Self::Apply(ApplyError::Registry(e)) => e.category(),
            Self::Apply(ApplyError::NameCollision { .. }) => "collision",
            Self::Apply(ApplyError::Json { .. }) => "json",
            Self::Timeout(_) => "timeout",
        }
    }

    /// Can a later pass succeed without a change by a person? If not, it is told at once.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Observe(ObserveError::Call(e)) | Self::Apply(ApplyError::Call(e)) => e.is_retryable(),
            Self::Observe(ObserveError::Registry(e)) | Self::Apply(ApplyError::Registry(e)) => {
                e.is_retryable()
            }
            Self::Apply(ApplyError::NameCollision { .. } | ApplyError::Json { .. }) => false,
            Self::Timeout(_) => true,
        }
    }

    /// Another process leads: this one must stop.
    pub fn is_fenced(&self) -> bool {
        self.category() == "fenced"
    }

    /// What the condition says.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Observe(ObserveError::Registry(e)) | Self::Apply(ApplyError::Registry(e)) => e.reason(),
            Self::Apply(ApplyError::NameCollision { .. }) => Reason::NameCollision,
            _ => Reason::OperatorError,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(code: u16, reason: &str) -> CallError {
        let status = kube::core::Status::failure("m", reason).with_code(code);
        CallError {
            verb: "apply",
            kind: "Service",
            namespace: "ns".into(),
            name: "n".into(),
            source: Box::new(kube::Error::Api(status.boxed())),
        }
    }

    #[test]
    fn classes_tell_what_helps() {
        for (code, reason, class, retry) in [
            (403, "Forbidden", "forbidden", false),
            (404, "NotFound", "not-found", true),
            (409, "Conflict", "conflict", true),
            (422, "Invalid", "invalid", false),
            (429, "TooManyRequests", "throttled", true),
            (504, "Timeout", "server", true),
        ] {
            let error = call(code, reason);
            assert_eq!((error.category(), error.is_retryable()), (class, retry));
        }
    }

    #[test]
    fn causes_are_told_once() {
        let source = kube::Error::Service(Box::new(std::io::Error::other("disk full")));
        assert_eq!(brief(&source), "no answer: disk full");
        let outer = crate::client::ClientError::Build(Box::new(source));
        assert_eq!(chain(&outer), "the client of the cluster cannot be built: ServiceError: disk full");
    }

    #[test]
    fn people_read_the_answer_once_and_no_code() {
        let text = call(403, "Forbidden").to_string();
        assert_eq!(text, "apply Service ns/n: m (403 Forbidden)");
        let source = kube::Error::Api(kube::core::Status::failure("m", "Expired").with_code(410).boxed());
        assert_eq!(
            brief_watch(&watcher::Error::WatchStartFailed(source)),
            "starting to watch: m (410 Expired)"
        );
    }

    #[test]
    fn a_taken_name_and_a_changed_object_differ() {
        let (taken, changed) = (call(409, "AlreadyExists"), call(409, "Conflict"));
        assert!(taken.is_already_exists() && !taken.is_conflict());
        assert!(changed.is_conflict() && !changed.is_already_exists());
    }

    #[test]
    fn a_collision_is_told_with_its_own_reason() {
        let error = ReconcileError::from(ApplyError::NameCollision {
            kind: "Service",
            namespace: "ns".into(),
            name: "shop".into(),
        });
        assert_eq!(
            (error.reason(), error.category(), error.is_retryable()),
            (Reason::NameCollision, "collision", false)
        );
        assert!(error.to_string().contains("Service ns/shop"), "{error}");
    }
}
