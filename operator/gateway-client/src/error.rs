//! What can go wrong between a pod and the gateway, and what the pod's exit code is then.

use std::io;
use std::path::PathBuf;

use vitrine_contract::exit;

/// Why a request to the gateway failed for good.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The gateway's address or certificate authority in the config cannot be used.
    #[error("gateway {url} in the config cannot be used: {message}")]
    Config {
        /// Address in the config.
        url: String,
        /// What is wrong with it.
        message: String,
    },
    /// A local file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The gateway does not let this pod do that (401, 403).
    #[error("the gateway denied {what}: {message}")]
    Denied {
        /// The request.
        what: String,
        /// The gateway's words.
        message: String,
    },
    /// There is no such blob (404).
    #[error("the gateway does not have what {what} asked for")]
    NotFound {
        /// The request.
        what: String,
    },
    /// The volume of artifacts is full (507).
    #[error("the volume of artifacts is full at {what}: {message}; enlarge it")]
    StorageFull {
        /// The request.
        what: String,
        /// The gateway's words.
        message: String,
    },
    /// The bytes are not those of the digest.
    #[error("digest mismatch: expected {expected}, found {found}")]
    DigestMismatch {
        /// Digest that was asked for or announced.
        expected: String,
        /// Digest of the bytes, or the gateway's words about them.
        found: String,
    },
    /// More bytes than the caller or the gateway takes.
    #[error("{what} is larger than {max}")]
    TooLarge {
        /// The request.
        what: String,
        /// The limit.
        max: String,
    },
    /// The gateway's certificate is not one of the operator's authority.
    #[error("the gateway at {url} did not prove its identity: {message}")]
    Untrusted {
        /// Address of the gateway.
        url: String,
        /// What TLS said.
        message: String,
    },
    /// Another refusal that trying again cannot mend.
    #[error("the gateway refused {what} with status {status}: {message}")]
    Refused {
        /// The request.
        what: String,
        /// HTTP status.
        status: u16,
        /// The gateway's words.
        message: String,
    },
    /// The gateway could not be reached, or was not well, until the deadline.
    #[error("{what} failed {tries} times in {seconds} s, the last time with: {cause}")]
    Unavailable {
        /// The request.
        what: String,
        /// How often it was tried.
        tries: u32,
        /// Seconds from the first try to the end of the last.
        seconds: u64,
        /// The last failure.
        cause: String,
    },
}

impl Error {
    /// Exit code of a pod that ends with this error.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Config { .. } => exit::CONFIG,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => exit::STORAGE_FULL,
            Self::Io { .. } | Self::TooLarge { .. } | Self::Refused { .. } => exit::INTERNAL,
            Self::Denied { .. } => exit::DENIED,
            Self::StorageFull { .. } => exit::STORAGE_FULL,
            Self::DigestMismatch { .. } => exit::DIGEST_MISMATCH,
            Self::NotFound { .. } | Self::Untrusted { .. } | Self::Unavailable { .. } => exit::UNAVAILABLE,
        }
    }

    /// The documented reason of this error, one word of `vitrine-crds`' list.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Config { .. } => "InvalidSpec",
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => "StorageFull",
            Self::Io { .. } | Self::TooLarge { .. } | Self::Refused { .. } | Self::NotFound { .. } => {
                "ContainerFailed"
            }
            Self::Denied { .. } => "StorageDenied",
            Self::StorageFull { .. } => "StorageFull",
            Self::DigestMismatch { .. } => "DigestMismatch",
            Self::Untrusted { .. } | Self::Unavailable { .. } => "GatewayUnavailable",
        }
    }
}
