//! A cluster's issuer of tokens: signs as an apiserver does and publishes its key.
#![allow(dead_code, reason = "every test uses a part")]

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use vitrine_contract::siblings::{AUDIENCE, Issuer, Key, Siblings};

pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

pub struct Cluster {
    pub kid: String,
    pair: EcdsaKeyPair,
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What an apiserver writes into the token of a pod `caller` of namespace `shop`.
pub fn claims() -> Value {
    json!({
        "aud": [AUDIENCE], "iss": ISSUER, "iat": now(), "nbf": now(), "exp": now() + 3600,
        "sub": "system:serviceaccount:shop:default", "jti": "1",
        "kubernetes.io": {
            "namespace": "shop", "node": {"name": "n", "uid": "1"}, "pod": {"name": "caller", "uid": "2"},
            "serviceaccount": {"name": "default", "uid": "3"},
        },
    })
}

impl Cluster {
    pub fn new(kid: &str) -> Self {
        let random = SystemRandom::new();
        let secret = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, secret.as_ref(), &random).unwrap();
        Self { kid: kid.to_owned(), pair }
    }

    pub fn key(&self) -> Key {
        let point = self.pair.public_key().as_ref();
        let (x, y) = (Some(encode(&point[1..33])), Some(encode(&point[33..])));
        let (kty, crv) = ("EC".to_owned(), Some("P-256".to_owned()));
        Key { kid: self.kid.clone(), kty, crv, x, y, ..Key::default() }
    }

    /// What the operator publishes for namespace `shop`.
    pub fn siblings(&self, url: &str) -> Siblings {
        let issuer = Issuer { issuer: ISSUER.to_owned(), keys: vec![self.key()] };
        Siblings { url: url.to_owned(), namespace: "shop".to_owned(), issuer }
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with_head(&json!({"alg": "ES256", "kid": self.kid}), claims)
    }

    pub fn sign_with_head(&self, head: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", encode(head.to_string()), encode(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", encode(signature))
    }

    /// The token of a pod that may have the model.
    pub fn token(&self) -> String {
        self.sign(&claims())
    }
}
