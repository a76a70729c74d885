//! Why the server ended, for people (log), for the operator (termination message) and for the
//! kubelet (exit code).

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use vitrine_contract::report::{Failure as Words, Message, Outcome};
use vitrine_contract::{exit, paths};

/// Why the server ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// One word of the documented list of reasons.
    pub reason: &'static str,
    /// The object, the number and the fix.
    pub message: String,
    /// Exit code of the contract.
    pub exit: i32,
}

impl Failure {
    /// A failure with its exit code.
    pub fn new(reason: &'static str, exit: i32, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), exit }
    }

    /// The config or the flags cannot be carried out.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new("InvalidSpec", exit::CONFIG, message)
    }

    /// The server's own fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new("ContainerFailed", exit::INTERNAL, message)
    }

    /// Logs it and writes it to the termination log, if there is one.
    pub fn report(&self, termination: &Path) {
        tracing::error!(reason = self.reason, exit = self.exit, "{}", self.message);
        if let Err(error) = self.write(termination) {
            tracing::debug!(path = %termination.display(), %error, "no termination log written");
        }
    }

    /// The kubelet creates the file; where it is missing there is no kubelet, and making one would
    /// leave a stray file in somebody's `/dev`.
    fn write(&self, termination: &Path) -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).truncate(true).open(termination)?;
        file.write_all(self.last_words().as_bytes())
    }

    /// The contract's message, cut to what the kubelet keeps.
    fn last_words(&self) -> String {
        let mut message = self.message.clone();
        loop {
            let words = Words { reason: self.reason.to_owned(), message: message.clone() };
            let text = serde_json::to_string(&Message::new(Outcome::Failed(words))).unwrap_or_default();
            if text.len() <= paths::MAX_TERMINATION {
                return text;
            }
            // JSON writes a byte in up to six, so this never takes off too much
            let surplus = (text.len() - paths::MAX_TERMINATION).div_ceil(6);
            let keep = message.floor_char_boundary(message.len().saturating_sub(surplus));
            message.truncate(keep);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_last_words_still_parse_within_the_kubelets_limit() {
        let failure = Failure::new("DigestMismatch", exit::DIGEST_MISMATCH, "é\"\n".repeat(3000));
        let text = failure.last_words();
        assert!(
            text.len() <= paths::MAX_TERMINATION && text.len() > paths::MAX_TERMINATION - 16,
            "{}",
            text.len()
        );
        let message: Message = serde_json::from_str(&text).unwrap();
        assert!(matches!(message.outcome, Outcome::Failed(f) if f.reason == "DigestMismatch"));
    }

    #[test]
    fn no_termination_log_is_created_where_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        assert!(Failure::internal("m").write(&path).is_err());
        assert!(!path.exists());
    }
}
