//! The `ModelDeployment` kind: which version of a model is served, by how many pods.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::autoscaling::Autoscaling;
use crate::common::{LastFailure, NAME_MESSAGE, NAME_RULE, PodPlacement, Resources, conditions_schema};

/// Serves one version of a registered model and rolls out the next one.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "vitrine.dev",
    version = "v1alpha1",
    kind = "ModelDeployment",
    plural = "modeldeployments",
    namespaced,
    shortname = "mdep",
    category = "vitrine",
    status = "ModelDeploymentStatus",
    derive = "PartialEq",
    doc = "Serves one version of a registered model and rolls out the next one.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    validation = Rule::new(NAME_RULE).message(NAME_MESSAGE),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.model.name"),
    printcolumn(name = "Stable", type_ = "integer", json_path = ".status.stable.version"),
    printcolumn(name = "Rolling", type_ = "integer", json_path = ".status.candidate.version"),
    printcolumn(name = "Replicas", type_ = "string", json_path = ".status.replicaSummary"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url", priority = 1),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.stable.digest", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.autoscaling) || self.replicas > 0").message("spec.autoscaling needs spec.replicas of at least 1: Kubernetes scales nothing that is at 0"))]
#[x_kube(validation = Rule::new("!(has(self.autoscaling) && has(oldSelf.autoscaling)) || self.replicas == oldSelf.replicas").message("spec.replicas cannot change while spec.autoscaling is set: change autoscaling.minReplicas and autoscaling.maxReplicas"))]
pub struct ModelDeploymentSpec {
    /// Which version is served.
    pub model: ModelSelector,
    /// Serving pods. With `autoscaling` only the number to start with. Default: 1.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    /// Lets Kubernetes choose the number of serving pods by their load; needs a metrics server. Default: `replicas` decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// The inference server.
    #[serde(default)]
    pub server: Server,
    /// How a new version takes over.
    #[serde(default)]
    pub rollout: Rollout,
    /// The Service in front of the pods.
    #[serde(default)]
    pub service: Service,
    /// Compute resources of each serving pod; a GPU goes to `limits["nvidia.com/gpu"]`. Default: the operator's.
    #[serde(default)]
    pub resources: Resources,
    /// Placement of the serving pods.
    #[serde(flatten)]
    pub placement: PodPlacement,
}

fn default_replicas() -> i32 {
    1
}

/// Which version of a model is served; exactly one of version, alias and digest.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.version) ? 1 : 0) + (has(self.alias) ? 1 : 0) + (has(self.digest) ? 1 : 0) == 1").message("spec.model needs exactly one of version, alias and digest: name one and remove the others"))]
#[x_kube(validation = Rule::new("!has(self.candidateAlias) || (has(self.alias) && self.candidateAlias != self.alias)").message("spec.model.candidateAlias goes with spec.model.alias and must differ from it: set both, or remove candidateAlias"))]
pub struct ModelSelector {
    /// Model, as in `output.model` of the TrainingRun.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// A fixed version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub version: Option<i64>,
    /// The version that an alias points at, such as `champion`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub alias: Option<String>,
    /// A fixed artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<String>,
    /// Alias whose version is rolled out; when it has survived, `alias` is moved to it. Without a
    /// version under `alias` yet, the first candidate becomes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub candidate_alias: Option<String>,
}

/// The inference server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// Image that honours the server's contract. Default: the operator's at the time of the rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
}

/// How a new version takes over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Seconds within which a new version must become available; else it is removed and the old
    /// one goes on. Default: 600.
    #[serde(default = "default_progress_deadline")]
    #[schemars(range(min = 10, max = 86_400))]
    pub progress_deadline_seconds: i32,
}

impl Default for Rollout {
    fn default() -> Self {
        Self { progress_deadline_seconds: default_progress_deadline() }
    }
}

fn default_progress_deadline() -> i32 {
    600
}

/// The Service in front of the pods; it has the name of the ModelDeployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Type of the Service. Default: ClusterIP.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
    /// Port of the Service. Default: 80.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
}

impl Default for Service {
    fn default() -> Self {
        Self { type_: ServiceType::default(), port: default_port() }
    }
}

fn default_port() -> i32 {
    80
}

/// Type of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Reachable inside the cluster.
    #[default]
    ClusterIP,
    /// On a port of each node as well.
    NodePort,
    /// Behind the cloud's load balancer as well.
    LoadBalancer,
}

impl ServiceType {
    /// The name users write.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// What is known of the deployment.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelDeploymentStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Address inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Serving pods of the version that has the traffic.
    #[serde(default)]
    pub replicas: i32,
    /// Those of them that answer.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Ready and wanted pods in one text, such as `2/2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_summary: Option<String>,
    /// Label selector of the serving pods, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Version that has the traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<ServedVersion>,
    /// Version that is being brought up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<ServedVersion>,
    /// How the last rollout ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rollout: Option<LastRollout>,
    /// What was chosen where the spec leaves it open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<Effective>,
    /// Where the served model comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
    /// Cause of the latest failure of a pod; gone when the rollout succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LastFailure>,
    /// Standard conditions.
    #[serde(default)]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// A version with its pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServedVersion {
    /// Version in the registry.
    pub version: i64,
    /// `sha256:` digest of the artifact.
    pub digest: String,
    /// Name of the child Deployment.
    pub deployment: String,
    /// Pods wanted.
    pub replicas: i32,
    /// Pods that answer.
    pub ready_replicas: i32,
}

/// How a rollout ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastRollout {
    /// Version that was rolled out.
    pub version: i64,
    /// `sha256:` digest of the artifact.
    pub digest: String,
    /// Generation of the spec at the time.
    pub generation: i64,
    /// Hash of what the spec said of the version's pods and of the rollout: when that changes, a version
    /// that failed is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec_hash: Option<String>,
    /// `Succeeded` or `Failed`.
    pub result: String,
    /// Why it failed, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it ended.
    pub finished_at: Time,
}

/// What was chosen where the spec leaves it open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Effective {
    /// Image of the serving pods, fixed until the next rollout.
    pub image: String,
}

/// Where a model comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lineage {
    /// `sha256:` digest of the snapshot it learned from.
    pub dataset_digest: String,
    /// TrainingRun that made it.
    pub training_run: String,
    /// `sha256:` digest of the artifact.
    pub model_digest: String,
}
