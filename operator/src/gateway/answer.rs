//! Answers that are not a success: one place where a cause becomes a status and a word.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use vitrine_contract::gateway::{ErrorBody, ErrorDetail};

use super::authorise::Denied;
use super::identity::IdentifyError;
use crate::{registry, store};

/// An answer that is not a success.
#[derive(Debug)]
pub(super) struct Refusal {
    /// HTTP status.
    pub status: StatusCode,
    /// One word for programs.
    pub reason: &'static str,
    /// The object, the number and the fix.
    pub message: String,
}

impl Refusal {
    pub fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidRequest", message)
    }

    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", message)
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let detail = ErrorDetail { reason: self.reason.to_owned(), message: self.message };
        let mut response = (self.status, Json(ErrorBody { error: detail })).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Denied> for Refusal {
    fn from(Denied(message): Denied) -> Self {
        Self::new(StatusCode::FORBIDDEN, "StorageDenied", message)
    }
}

impl From<IdentifyError> for Refusal {
    fn from(error: IdentifyError) -> Self {
        let message = error.to_string();
        match error {
            IdentifyError::Unauthenticated(_) => {
                Self::new(StatusCode::UNAUTHORIZED, "StorageDenied", message)
            }
            IdentifyError::NotOurs(_) => Self::new(StatusCode::FORBIDDEN, "StorageDenied", message),
            IdentifyError::Unavailable(_) => Self::unavailable(message),
        }
    }
}

impl From<store::Error> for Refusal {
    fn from(error: store::Error) -> Self {
        let message = error.to_string();
        match error {
            store::Error::Full { .. } => Self::new(StatusCode::INSUFFICIENT_STORAGE, "StorageFull", message),
            store::Error::Mismatch { .. } => Self::new(StatusCode::BAD_REQUEST, "DigestMismatch", message),
            store::Error::Length { .. } | store::Error::Source { .. } | store::Error::Key { .. } => {
                Self::invalid(message)
            }
            store::Error::Locked { .. } | store::Error::Io { .. } | store::Error::Backend { .. } => {
                tracing::error!(error = %message, "artifact store failed");
                Self::unavailable("the artifact store failed; the operator's log says why")
            }
        }
    }
}

impl From<registry::Error> for Refusal {
    fn from(error: registry::Error) -> Self {
        match error {
            registry::Error::Store(e) => e.into(),
            registry::Error::Full { .. } => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "StorageFull", error.to_string())
            }
            _ => {
                tracing::error!(%error, "registry failed");
                Self::unavailable("the registry failed; the operator's log says why")
            }
        }
    }
}

/// Any other address.
pub(super) async fn no_such_address() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "NotFound", "the gateway has no such address")
}

/// Any other method.
pub(super) async fn no_such_method() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "InvalidRequest", "the gateway has no such method here")
}
