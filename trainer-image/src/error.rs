//! Why a Job's work ended, by what can be done about it.

use std::io;
use std::path::Path;

use vitrine_contract::exit;
use vitrine_contract::report::Failure;
use vitrine_model::{ArtifactError, FitError, TrainError};

/// Why a Job's work ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A source file is missing or not readable.
    #[error("{0}")]
    SourceNotFound(String),
    /// The source refused the pod, or the Secret that opens it is not as it must be.
    #[error("{0}")]
    SourceDenied(String),
    /// The source could not be reached, or was not well, until the deadline.
    #[error("{0}")]
    SourceUnavailable(String),
    /// The data cannot be used: names file, row, column and the fix.
    #[error("{0}")]
    DataCorrupt(String),
    /// The config asks for something that does not fit together.
    #[error("{0}")]
    InvalidSpec(String),
    /// A hyperparameter has no usable value.
    #[error("{0}")]
    InvalidHyperparameter(String),
    /// A number became infinite or undefined.
    #[error("{0}")]
    NonFinite(String),
    /// The gateway did not give or take something.
    #[error(transparent)]
    Gateway(#[from] vitrine_gateway_client::Error),
    /// A file of the pod's own could not be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was done to which file.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A fault of this program.
    #[error("internal fault: {0}")]
    Internal(String),
}

impl Error {
    /// For `map_err` on what is done to a file of the pod's own.
    pub fn io(action: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let what = format!("{action} {}", path.display());
        move |source| Self::Io { what, source }
    }

    /// Exit code of the contract.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::SourceNotFound(_) | Self::DataCorrupt(_) => exit::DATA,
            Self::SourceDenied(_) => exit::DENIED,
            Self::SourceUnavailable(_) => exit::UNAVAILABLE,
            // The same numbers come out however often it is tried.
            Self::InvalidSpec(_) | Self::InvalidHyperparameter(_) | Self::NonFinite(_) => exit::CONFIG,
            Self::Gateway(error) => error.exit_code(),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => exit::STORAGE_FULL,
            Self::Io { .. } | Self::Internal(_) => exit::INTERNAL,
        }
    }

    /// One word of the documented list.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::SourceNotFound(_) => "SourceNotFound",
            Self::SourceDenied(_) => "SourceDenied",
            Self::SourceUnavailable(_) => "SourceUnavailable",
            Self::DataCorrupt(_) => "DataCorrupt",
            Self::InvalidSpec(_) => "InvalidSpec",
            Self::InvalidHyperparameter(_) => "InvalidHyperparameter",
            Self::NonFinite(_) => "NonFinite",
            Self::Gateway(error) => error.reason(),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => "StorageFull",
            Self::Io { .. } | Self::Internal(_) => "ContainerFailed",
        }
    }

    /// For the contract's message.
    pub fn failure(&self) -> Failure {
        Failure { reason: self.reason().to_owned(), message: self.to_string() }
    }
}

impl From<FitError> for Error {
    fn from(error: FitError) -> Self {
        Self::InvalidHyperparameter(error.to_string())
    }
}

impl From<TrainError> for Error {
    fn from(error: TrainError) -> Self {
        let message = error.to_string();
        match error {
            TrainError::Hyperparameter { .. } => Self::InvalidHyperparameter(message),
            TrainError::Labels { .. } => Self::DataCorrupt(message),
            TrainError::NonFinite { .. } => Self::NonFinite(message),
            // the text features are never negative, and the trainer's own matrix is sound
            TrainError::NegativeValue | TrainError::UnsoundMatrix => Self::Internal(message),
        }
    }
}

impl From<ArtifactError> for Error {
    fn from(error: ArtifactError) -> Self {
        match error {
            ArtifactError::Io { action, path, source } => Self::io(action, &path)(source),
            other => Self::Internal(other.to_string()),
        }
    }
}

impl From<parquet::errors::ParquetError> for Error {
    fn from(error: parquet::errors::ParquetError) -> Self {
        use parquet::errors::ParquetError::External;
        match error {
            External(source) => match source.downcast::<io::Error>() {
                Ok(source) => Self::Io { what: "snapshot".to_owned(), source: *source },
                Err(other) => Self::Internal(format!("snapshot: {other}")),
            },
            other => Self::Internal(format!("snapshot: {other}")),
        }
    }
}
