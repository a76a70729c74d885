//! How many serving pods there are, where their load decides: the part of `autoscaling/v2` that a
//! ModelDeployment passes on to Kubernetes, field by field and with its meaning there.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Lets Kubernetes choose the number of serving pods by their load.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.maxReplicas >= self.minReplicas").message("autoscaling.maxReplicas must be at least autoscaling.minReplicas"))]
pub struct Autoscaling {
    /// Fewest serving pods. Default: 1.
    #[serde(default = "default_min")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_replicas: i32,
    /// Most serving pods.
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: i32,
    /// What is measured; the metric that asks for most pods decides. Default: cpu at 80 % of what the pods request.
    #[serde(default = "default_metrics")]
    #[schemars(length(min = 1, max = 4))]
    pub metrics: Vec<Metric>,
    /// How fast the number may change. Default: Kubernetes' own, which adds at once and removes after five calm minutes.
    #[serde(default)]
    pub behavior: Behavior,
}

fn default_min() -> i32 {
    1
}

fn default_metrics() -> Vec<Metric> {
    vec![Metric {
        type_: MetricType::Resource,
        resource: ResourceMetric {
            name: ResourceName::Cpu,
            target: Target {
                type_: TargetType::Utilization,
                average_utilization: Some(80),
                average_value: None,
            },
        },
    }]
}

/// One thing that is measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metric {
    /// Kind of metric: Resource.
    #[serde(rename = "type")]
    pub type_: MetricType,
    /// What the pods use of a resource.
    pub resource: ResourceMetric,
}

/// Kind of metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MetricType {
    /// CPU or memory, as the cluster's metrics server reports it.
    Resource,
}

/// What the pods use of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceMetric {
    /// Resource: cpu or memory.
    pub name: ResourceName,
    /// Use at which the number of pods is right.
    pub target: Target,
}

/// A resource that the metrics server reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ResourceName {
    /// Processor time.
    Cpu,
    /// Memory.
    Memory,
}

impl ResourceName {
    /// The name users write.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }
}

/// Use at which the number of pods is right.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.type == 'Utilization' ? (has(self.averageUtilization) && !has(self.averageValue)) : (has(self.averageValue) && !has(self.averageUtilization))").message("a target of type Utilization needs averageUtilization, one of type AverageValue needs averageValue, and neither the other"))]
pub struct Target {
    /// Whether the target is a share of what the pods request (Utilization) or an amount (AverageValue).
    #[serde(rename = "type")]
    pub type_: TargetType,
    /// Mean use over the pods in percent of what they request of the resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub average_utilization: Option<i32>,
    /// Mean use over the pods as an amount, such as `500m` or `1Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity_schema")]
    pub average_value: Option<IntOrString>,
}

/// What a target is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TargetType {
    /// A share of what the pods request.
    Utilization,
    /// An amount.
    AverageValue,
}

impl TargetType {
    /// The name users write.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Utilization => "Utilization",
            Self::AverageValue => "AverageValue",
        }
    }
}

/// A quantity without a sign: what is below nothing cannot be used.
fn quantity_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "maxLength": 32,
        "pattern": r"^(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?[0-9]+))?$",
    })
}

/// How fast the number of pods may change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Behavior {
    /// When load grows. Default: Kubernetes'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_up: Option<ScalingRules>,
    /// When load falls. Default: Kubernetes'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_down: Option<ScalingRules>,
}

/// Rules for one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalingRules {
    /// Seconds over which the calmest recommendation counts. Default: 0 up, 300 down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub stabilization_window_seconds: Option<i32>,
    /// Which of the policies counts. Default: Max.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub select_policy: Option<SelectPolicy>,
    /// Bounds on one step. Default: Kubernetes'.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 8))]
    pub policies: Vec<ScalingPolicy>,
}

/// Which of several policies counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SelectPolicy {
    /// The one that allows most.
    Max,
    /// The one that allows least.
    Min,
    /// None: no step in this direction.
    Disabled,
}

impl SelectPolicy {
    /// The name users write.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Max => "Max",
            Self::Min => "Min",
            Self::Disabled => "Disabled",
        }
    }
}

/// A bound on one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalingPolicy {
    /// Whether value counts pods (Pods) or percent of the pods that exist (Percent).
    #[serde(rename = "type")]
    pub type_: PolicyType,
    /// Pods or percent.
    #[schemars(range(min = 1, max = 10_000))]
    pub value: i32,
    /// Seconds for which the value is allowed once.
    #[schemars(range(min = 1, max = 1800))]
    pub period_seconds: i32,
}

/// What the value of a policy counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PolicyType {
    /// Pods.
    Pods,
    /// Percent of the pods that exist.
    Percent,
}

impl PolicyType {
    /// The name users write.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pods => "Pods",
            Self::Percent => "Percent",
        }
    }
}
