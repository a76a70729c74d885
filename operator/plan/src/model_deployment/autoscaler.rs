//! The HorizontalPodAutoscaler of a ModelDeployment: one object for its whole life. It is pointed at
//! the Deployment that has the traffic and never made anew, because Kubernetes remembers by its name
//! how many pods the last minutes asked for: a new version is not scaled down for being new.

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec, MetricSpec, MetricTarget,
    ResourceMetricSource,
};
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use vitrine_crds::autoscaling::{Autoscaling, Behavior, Metric, MetricType, ScalingRules, TargetType};
use vitrine_crds::condition::Reason;
use vitrine_crds::model_deployment::ModelDeploymentSpec;
use vitrine_crds::names;

use crate::diff;
use crate::meta::Owner;

/// Whether Kubernetes chooses the number of pods.
pub enum Active {
    /// It does.
    Yes,
    /// It has not said yet.
    Unknown,
    /// It cannot measure the load; its own words.
    No(String),
}

/// The autoscaler of the Deployment with that name.
pub fn build(owner: &Owner, autoscaling: &Autoscaling, deployment: &str) -> HorizontalPodAutoscaler {
    diff::with_hash(HorizontalPodAutoscaler {
        metadata: owner.child(&owner.name, names::ROLE_SERVE),
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: "Deployment".to_owned(),
                name: deployment.to_owned(),
            },
            min_replicas: Some(autoscaling.min_replicas),
            max_replicas: autoscaling.max_replicas,
            metrics: Some(autoscaling.metrics.iter().map(metric).collect()),
            behavior: behavior(&autoscaling.behavior),
        }),
        status: None,
    })
}

fn metric(metric: &Metric) -> MetricSpec {
    let MetricType::Resource = metric.type_;
    let target = &metric.resource.target;
    MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource {
            name: metric.resource.name.as_str().to_owned(),
            target: MetricTarget {
                type_: target.type_.as_str().to_owned(),
                average_utilization: target.average_utilization,
                average_value: target.average_value.as_ref().map(|v| Quantity(text(v))),
                value: None,
            },
        }),
        ..MetricSpec::default()
    }
}

fn text(value: &IntOrString) -> String {
    match value {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => text.clone(),
    }
}

/// What the user left open is left out: the API fills in its own, and that is no drift.
fn behavior(behavior: &Behavior) -> Option<HorizontalPodAutoscalerBehavior> {
    let (scale_up, scale_down) = (rules(behavior.scale_up.as_ref()), rules(behavior.scale_down.as_ref()));
    let any = scale_up.is_some() || scale_down.is_some();
    any.then_some(HorizontalPodAutoscalerBehavior { scale_down, scale_up })
}

fn rules(rules: Option<&ScalingRules>) -> Option<HPAScalingRules> {
    let rules = rules.filter(|r| **r != ScalingRules::default())?;
    let policies = rules.policies.iter().map(|p| HPAScalingPolicy {
        type_: p.type_.as_str().to_owned(),
        value: p.value,
        period_seconds: p.period_seconds,
    });
    Some(HPAScalingRules {
        stabilization_window_seconds: rules.stabilization_window_seconds,
        select_policy: rules.select_policy.map(|p| p.as_str().to_owned()),
        policies: (!rules.policies.is_empty()).then(|| policies.collect()),
        tolerance: None,
    })
}

/// What Kubernetes says of its own work.
pub fn active(live: Option<&HorizontalPodAutoscaler>) -> Active {
    let status = live.and_then(|l| l.status.as_ref());
    let conditions = status.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let Some(found) = conditions.iter().find(|c| c.type_ == "ScalingActive") else {
        return Active::Unknown;
    };
    let reason = found.reason.as_deref().unwrap_or_default();
    match (found.status.as_str(), reason) {
        ("True", _) => Active::Yes,
        // somebody set the Deployment to 0, which this operator undoes
        ("False", reason) if reason != "ScalingDisabled" => {
            Active::No(format!("{reason}: {}", found.message.as_deref().unwrap_or_default()))
        }
        _ => Active::Unknown,
    }
}

impl Active {
    /// The reason of the condition.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Yes => Reason::Autoscaled,
            Self::Unknown => Reason::Pending,
            Self::No(_) => Reason::MetricsUnavailable,
        }
    }
}

/// What the schema cannot say, or did not say when the object was stored.
pub fn check(spec: &ModelDeploymentSpec, resources: &ResourceRequirements) -> Result<(), String> {
    let Some(autoscaling) = &spec.autoscaling else { return Ok(()) };
    let (min, max) = (autoscaling.min_replicas, autoscaling.max_replicas);
    if min < 1 || max < min {
        return Err(format!(
            "autoscaling.maxReplicas must be at least autoscaling.minReplicas, and that at least 1; they are {max} and {min}"
        ));
    }
    if spec.replicas < 1 {
        return Err(
            "autoscaling needs replicas of at least 1: Kubernetes scales nothing that is at 0".to_owned()
        );
    }
    if autoscaling.metrics.is_empty() {
        return Err("autoscaling.metrics must name at least one metric, or be left out".to_owned());
    }
    let checks = autoscaling.metrics.iter().enumerate().map(|(i, metric)| target(i, metric, resources));
    checks.collect()
}

fn target(index: usize, metric: &Metric, resources: &ResourceRequirements) -> Result<(), String> {
    let (name, target) = (metric.resource.name.as_str(), &metric.resource.target);
    let field = format!("autoscaling.metrics[{index}].resource.target");
    match target.type_ {
        TargetType::Utilization => {
            if target.average_utilization.is_none_or(|share| share < 1) {
                return Err(format!("{field} of type Utilization needs averageUtilization of at least 1"));
            }
            // a limit without a request is the request
            let amounts = [resources.requests.as_ref(), resources.limits.as_ref()];
            let asked = amounts.into_iter().flatten().find_map(|a| a.get(name));
            if asked.and_then(|q| diff::nanos(&q.0)).is_none_or(|amount| amount <= 0) {
                return Err(format!(
                    "{field} is a share of the {name} that the pods request, and they request none: set resources.requests.{name}, or use a target of type AverageValue"
                ));
            }
            Ok(())
        }
        TargetType::AverageValue => {
            let amount = target.average_value.as_ref().and_then(|v| diff::nanos(&text(v)));
            if amount.is_none_or(|amount| amount <= 0) {
                return Err(format!("{field} of type AverageValue needs averageValue above 0"));
            }
            Ok(())
        }
    }
}
