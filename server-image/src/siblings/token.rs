//! Who a caller is, from its projected token alone: no question to anybody.
//!
//! The algorithm follows from the key that the cluster published, never from the token.

use std::collections::HashMap;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use vitrine_contract::siblings::{AUDIENCE, Key, Siblings};

use super::crypto;

/// Seconds by which the clocks of two nodes may differ.
const LEEWAY: u64 = 30;
/// Longest token that is looked at, in bytes.
const LONGEST: usize = 16 * 1024;
/// Most characters of a name that somebody made up which are repeated to them.
const LONGEST_NAME: usize = 64;

/// Whose tokens are believed, and for which namespace.
#[derive(Debug)]
pub struct Trust {
    namespace: String,
    issuer: String,
    keys: HashMap<String, (Algorithm, DecodingKey)>,
}

/// Why a caller is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Signed with a key that is not known here (yet).
    #[error("the token is signed with key {0:?}, which the operator has not published")]
    UnknownKey(String),
    /// Not a token of this cluster for siblings, or not now.
    #[error("the token is not valid here: {0}")]
    Invalid(String),
    /// A pod of another namespace, or no pod.
    #[error("the token belongs to {0}")]
    Foreign(String),
}

#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Bound>,
}

/// What the apiserver says of the pod that a token is bound to.
#[derive(Deserialize)]
struct Bound {
    namespace: String,
    pod: Option<Pod>,
}

#[derive(Deserialize)]
struct Pod {
    name: String,
}

impl Trust {
    /// Keys of a kind that is not known here are left out: their tokens are refused.
    pub fn new(siblings: &Siblings) -> Self {
        crypto::install();
        let keys = siblings.issuer.keys.iter();
        Self {
            namespace: siblings.namespace.clone(),
            issuer: siblings.issuer.issuer.clone(),
            keys: keys.filter_map(|key| Some((key.kid.clone(), usable(key)?))).collect(),
        }
    }

    /// The name of the pod that holds this token, if it is a pod of the namespace.
    pub fn pod_of(&self, token: &str) -> Result<String, Refusal> {
        let invalid = |error: jsonwebtoken::errors::Error| Refusal::Invalid(words(&error));
        if token.len() > LONGEST {
            return Err(Refusal::Invalid(format!("longer than {LONGEST} bytes")));
        }
        let kid = decode_header(token).map_err(invalid)?.kid.unwrap_or_default();
        let (algorithm, key) = self
            .keys
            .get(&kid)
            .ok_or_else(|| Refusal::UnknownKey(kid.chars().take(LONGEST_NAME).collect()))?;
        let mut wanted = Validation::new(*algorithm);
        wanted.leeway = LEEWAY;
        wanted.validate_nbf = true;
        wanted.set_audience(&[AUDIENCE]);
        wanted.set_issuer(&[&self.issuer]);
        wanted.set_required_spec_claims(&["exp", "aud", "iss"]);
        let claims: Claims = decode(token, key, &wanted).map_err(invalid)?.claims;
        match claims.kubernetes {
            Some(Bound { namespace, pod: Some(pod) }) if namespace == self.namespace => Ok(pod.name),
            Some(Bound { namespace, pod: Some(_) }) => {
                Err(Refusal::Foreign(format!("a pod of namespace {namespace}")))
            }
            _ => Err(Refusal::Foreign("no pod".to_owned())),
        }
    }
}

fn usable(key: &Key) -> Option<(Algorithm, DecodingKey)> {
    match (key.kty.as_str(), key.crv.as_deref()) {
        ("RSA", _) => {
            let key = DecodingKey::from_rsa_components(key.n.as_ref()?, key.e.as_ref()?).ok()?;
            Some((Algorithm::RS256, key))
        }
        ("EC", Some("P-256")) => {
            let key = DecodingKey::from_ec_components(key.x.as_ref()?, key.y.as_ref()?).ok()?;
            Some((Algorithm::ES256, key))
        }
        _ => None,
    }
}

/// What is wrong, in words for a log.
fn words(error: &jsonwebtoken::errors::Error) -> String {
    match error.kind() {
        ErrorKind::ExpiredSignature => "it has expired".to_owned(),
        ErrorKind::ImmatureSignature => "it is not valid yet".to_owned(),
        ErrorKind::InvalidAudience => format!("its audience is not {AUDIENCE}"),
        ErrorKind::InvalidIssuer => "its issuer is not this cluster".to_owned(),
        ErrorKind::InvalidSignature => "its signature is wrong".to_owned(),
        ErrorKind::InvalidAlgorithm => "its algorithm is not that of the key".to_owned(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
