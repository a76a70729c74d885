//! Addresses of the artifact gateway, its answers, and how a pod reaches it.
//!
//! | request | answer |
//! | --- | --- |
//! | `PUT /v1/blobs/{digest}` with `Content-Length` | 201 stored, 200 already there, 400 the bytes have another digest, 403, 413, 507 volume full |
//! | `GET /v1/blobs/{digest}` | 200 with `Content-Length`, 403, 404 |
//! | `POST /v1/progress`, JSON [`crate::report::Progress`] | 204 |
//! | `POST /v1/result`, JSON [`crate::report::Message`] | 204; the first success of a Job stands, a failure gives way to a later result |
//!
//! Every request carries `Authorization: Bearer <projected token>`. Errors are JSON [`ErrorBody`].

use serde::{Deserialize, Serialize};

/// Audience of the projected tokens.
pub const AUDIENCE: &str = "vitrine";
/// Path prefix of blobs; the digest follows.
pub const BLOBS: &str = "/v1/blobs/";
/// Path of progress posts.
pub const PROGRESS: &str = "/v1/progress";
/// Path of result posts.
pub const RESULT: &str = "/v1/result";
/// Largest progress or result post in bytes.
pub const MAX_POST: usize = 64 * 1024;

/// How a pod reaches the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// Base address, such as `https://vitrine-gateway.vitrine-system.svc:8443`.
    pub url: String,
    /// PEM of the operator's own certificate authority: the only one a pod trusts here.
    pub ca: String,
}

/// Body of an answer that is not a success.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// One word, such as `StorageDenied`, `StorageFull`, `DigestMismatch`, `NotFound`.
    pub reason: String,
    /// The object, the number and the fix.
    pub message: String,
}
