//! What a client is told when its request cannot be answered: on our own routes an object with
//! field, reason and message; on the routes of the Open Inference Protocol one text, as it says.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Why a request is not answered with a prediction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    /// Where in the request, such as `items[3].description`.
    field: Option<String>,
    reason: &'static str,
    message: String,
    retry_after: bool,
    /// The connection is in an unknown place, such as the middle of a body.
    close: bool,
    protocol: bool,
}

impl Problem {
    fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, field: None, reason, message, retry_after: false, close: false, protocol: false }
    }

    /// 400.
    pub fn bad(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason, message)
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// 405.
    pub fn wrong_method(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    /// 408: the body did not come in time.
    pub fn slow_body(limit: Duration) -> Self {
        let message = format!("the body did not come within {} s", limit.as_secs_f64());
        Self { close: true, ..Self::new(StatusCode::REQUEST_TIMEOUT, "Timeout", message) }
    }

    /// 413.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("the body is larger than {limit} bytes; send fewer rows at once");
        Self { close: true, ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, "BodyTooLarge", message) }
    }

    /// 415.
    pub fn media_type(message: impl Into<String>) -> Self {
        Self { close: true, ..Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message) }
    }

    /// 429.
    pub fn overloaded(message: impl Into<String>) -> Self {
        Self { retry_after: true, ..Self::new(StatusCode::TOO_MANY_REQUESTS, "Overloaded", message) }
    }

    /// 429 before the whole body was read.
    pub fn no_room() -> Self {
        Self { close: true, ..Self::overloaded("too many bytes are being received at once") }
    }

    /// 500.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal", message)
    }

    /// 503: no verified model yet.
    pub fn not_ready(step: &str) -> Self {
        let message = format!("the model is not ready yet: {step}");
        Self { retry_after: true, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "NotReady", message) }
    }

    /// 503: it took too long.
    pub fn timeout(limit: Duration) -> Self {
        let message = format!("no answer within {} s; send fewer rows at once", limit.as_secs_f64());
        Self {
            retry_after: true,
            close: true,
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "Timeout", message)
        }
    }

    /// Names the place in the request.
    #[must_use]
    pub fn at(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// In the words of the Open Inference Protocol.
    #[must_use]
    pub fn in_protocol(self) -> Self {
        Self { protocol: true, ..self }
    }

    /// In the words of whatever lives under this address.
    #[must_use]
    pub fn for_path(self, path: &str) -> Self {
        if path == "/v2" || path.starts_with("/v2/") { self.in_protocol() } else { self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = if self.protocol {
            let place = self.field.map(|field| format!("{field}: ")).unwrap_or_default();
            json!({"error": format!("{place}{}", self.message)})
        } else {
            let mut error = json!({"reason": self.reason, "message": self.message});
            if let Some(field) = self.field {
                error["field"] = field.into();
            }
            json!({ "error": error })
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        if self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
