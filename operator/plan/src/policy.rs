//! What the administrator decided: images, gateway, defaults. Read once at start, but for the
//! cluster's keys.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use vitrine_contract::gateway::Gateway;
use vitrine_contract::siblings::Issuer;

/// What the administrator decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// Image of ingest and training pods.
    pub trainer_image: String,
    /// Image of serving pods of a new rollout.
    pub server_image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: String,
    /// Names of image pull Secrets in the tenant's namespace.
    pub image_pull_secrets: Vec<String>,
    /// How pods reach the gateway.
    pub gateway: Gateway,
    /// Resources of an ingest pod where the spec names none.
    pub ingest_resources: DefaultResources,
    /// Resources of a training pod where the spec names none.
    pub train_resources: DefaultResources,
    /// Resources of a serving pod where the spec names none.
    pub serve_resources: DefaultResources,
    /// Seconds for which a retiring serving pod still answers.
    pub drain_seconds: u64,
    /// Largest request body of the server in bytes.
    pub max_body_bytes: usize,
    /// Requests a serving pod works on at once.
    pub max_concurrency: usize,
    /// The cluster's issuer of tokens with its public keys; none where they could not be read. It
    /// may change while the operator runs.
    pub issuer: Option<Issuer>,
}

/// Resources of a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DefaultResources {
    /// Reserved amounts.
    pub requests: BTreeMap<String, Quantity>,
    /// Limits.
    pub limits: BTreeMap<String, Quantity>,
}
