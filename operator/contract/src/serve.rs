//! Config of the serving pods.

use serde::{Deserialize, Serialize};

use crate::gateway::Gateway;
use crate::siblings::Siblings;

/// Config file of a serving pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServeConfig {
    /// Contract version.
    pub version: u32,
    /// How to reach the gateway.
    pub gateway: Gateway,
    /// Model name, as clients address it.
    pub model: String,
    /// Version in the registry.
    pub model_version: i64,
    /// `sha256:` digest of the artifact.
    pub digest: String,
    /// Seconds for which a pod that was told to stop still answers, each answer with
    /// `Connection: close`, so that kept-alive clients move on without an error.
    pub drain_seconds: u64,
    /// Largest request body in bytes.
    pub max_body_bytes: usize,
    /// Requests worked on at once; beyond it the answer is 429.
    pub max_concurrency: usize,
    /// Where the model may come from while the operator is away; none where the operator could not
    /// read the cluster's keys, or is of a version before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub siblings: Option<Siblings>,
}
