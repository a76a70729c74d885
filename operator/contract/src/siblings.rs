//! How a serving pod gets its model from another one that has it, without the operator.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/blobs/{digest}` ([`crate::gateway::BLOBS`]) | 200 with `Content-Length`, 401 no token or none of this cluster, 403 another namespace, 404 another model, 503 with `Retry-After` not ready or busy |
//!
//! The request carries `Authorization: Bearer <projected token>` of the audience [`AUDIENCE`]. It goes
//! over plain HTTP between two pods of one namespace, so that token is good for nothing else: neither
//! the gateway nor the apiserver takes it. The bytes need no secrecy on the way that the predictions
//! do not need, and their digest is checked by who asked. Errors are JSON
//! [`crate::gateway::ErrorBody`].

use serde::{Deserialize, Serialize};

/// Audience of the tokens for siblings: another one than the gateway's.
pub const AUDIENCE: &str = "vitrine-sibling";

/// Where ready pods with the same model are, and by which keys a pod recognises its siblings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Siblings {
    /// Base address of the Service, such as `http://shop-e0b908b9f8.shop.svc:8081`.
    pub url: String,
    /// Namespace whose pods are served.
    pub namespace: String,
    /// Who signs the tokens of the cluster's pods.
    pub issuer: Issuer,
}

/// Who signs the tokens of the cluster's pods, and the public keys for that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Issuer {
    /// Claim `iss` of the tokens.
    pub issuer: String,
    /// Public keys, by `kid`.
    pub keys: Vec<Key>,
}

/// A public key as a JSON Web Key (RFC 7517): RSA has `n` and `e`, an elliptic curve `crv`, `x` and `y`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// Name of the key in the head of a token.
    pub kid: String,
    /// Type: `RSA` or `EC`.
    pub kty: String,
    /// Modulus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<String>,
    /// Exponent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e: Option<String>,
    /// Curve, such as `P-256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crv: Option<String>,
    /// First coordinate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    /// Second coordinate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub y: Option<String>,
}
