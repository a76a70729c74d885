//! The children of a ModelDeployment: per version a Deployment with its config and a Service
//! for siblings; one Service for predictions.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    ConfigMap, ContainerPort, HTTPGetAction, PodTemplateSpec, Probe, ResourceRequirements, Service,
    ServicePort, ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use vitrine_contract::serve::ServeConfig;
use vitrine_contract::siblings::{self, Siblings};
use vitrine_contract::{VERSION, paths};
use vitrine_crds::model_deployment::ModelDeploymentSpec;
use vitrine_crds::names;

use crate::diff;
use crate::facts::VersionFacts;
use crate::meta::Owner;
use crate::pod::{self, PodParts};
use crate::policy::Policy;

/// Seconds beyond the drain for requests that are still worked on.
const GRACE_SECONDS: i64 = 20;
/// First argument of the server.
const VERB: &str = "serve";

/// A checked ModelDeployment: building its children cannot fail.
pub struct Valid<'a> {
    /// Spec.
    pub spec: &'a ModelDeploymentSpec,
    /// Resources of a serving pod.
    pub resources: ResourceRequirements,
}

/// Name of the Deployment, of the ConfigMap and of the Service for siblings of a model.
pub fn name(owner: &Owner, digest: &str) -> String {
    format!("{}-{}", owner.name, names::short_digest(digest))
}

/// Labels by which the pods of a model are selected.
pub fn selector(owner: &Owner, digest: &str) -> BTreeMap<String, String> {
    [(names::LABEL_OWNER_UID, owner.uid.as_str()), (names::LABEL_MODEL_DIGEST, names::short_digest(digest))]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// The config of the pods of a version. Keys that cannot be read now are no reason to take those
/// away that a live config has.
pub fn config(
    owner: &Owner,
    spec: &ModelDeploymentSpec,
    version: i64,
    digest: &str,
    policy: &Policy,
    live: Option<&ConfigMap>,
) -> ConfigMap {
    let name = name(owner, digest);
    let issuer = policy.issuer.clone().or_else(|| Some(siblings_of(live?)?.issuer));
    let config = ServeConfig {
        version: VERSION,
        gateway: policy.gateway.clone(),
        model: spec.model.name.clone(),
        model_version: version,
        digest: digest.to_owned(),
        drain_seconds: policy.drain_seconds,
        max_body_bytes: policy.max_body_bytes,
        max_concurrency: policy.max_concurrency,
        siblings: issuer.map(|issuer| Siblings {
            url: format!("http://{name}.{}.svc:{}", owner.namespace, paths::SIBLING_PORT),
            namespace: owner.namespace.clone(),
            issuer,
        }),
    };
    let mut metadata = owner.child(&name, names::ROLE_SERVE);
    label(&mut metadata, digest);
    diff::with_hash(ConfigMap {
        metadata,
        data: Some(BTreeMap::from([(paths::CONFIG_KEY.to_owned(), diff::to_json(&config).to_string())])),
        ..ConfigMap::default()
    })
}

fn siblings_of(config: &ConfigMap) -> Option<Siblings> {
    let text = config.data.as_ref()?.get(paths::CONFIG_KEY)?;
    serde_json::from_str::<ServeConfig>(text).ok()?.siblings
}

/// The Deployment of a version; [`super::kept::remember`] completes it.
pub fn deployment(
    owner: &Owner,
    valid: &Valid,
    version: &VersionFacts,
    image: &str,
    policy: &Policy,
) -> Deployment {
    let name = name(owner, &version.digest);
    let mut metadata = owner.child(&name, names::ROLE_SERVE);
    label(&mut metadata, &version.digest);
    metadata.annotations = Some(
        [
            (names::ANNOTATION_READS, version.digest.clone()),
            (names::ANNOTATION_MODEL_DIGEST, version.digest.clone()),
            (names::ANNOTATION_MODEL_VERSION, version.version.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into(),
    );
    let autoscaled = valid.spec.autoscaling.is_some();
    if autoscaled {
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.insert(names::ANNOTATION_AUTOSCALED.to_owned(), "true".to_owned());
    }
    Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            // an autoscaler's field is not ours to name: see scale.rs
            replicas: (!autoscaled).then_some(valid.spec.replicas),
            selector: LabelSelector {
                match_labels: Some(selector(owner, &version.digest)),
                ..LabelSelector::default()
            },
            progress_deadline_seconds: Some(valid.spec.rollout.progress_deadline_seconds),
            revision_history_limit: Some(2),
            // a changed template never takes a pod away before another one answers
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_unavailable: Some(IntOrString::Int(0)),
                    max_surge: Some(IntOrString::Int(1)),
                }),
            }),
            template: template(owner, valid, version, image, policy),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn template(
    owner: &Owner,
    valid: &Valid,
    version: &VersionFacts,
    image: &str,
    policy: &Policy,
) -> PodTemplateSpec {
    let mut metadata = ObjectMeta { labels: Some(owner.labels(names::ROLE_SERVE)), ..ObjectMeta::default() };
    label(&mut metadata, &version.digest);
    metadata.annotations = Some(
        [
            // the same bytes under a new number are a new config, which only new pods read
            (names::ANNOTATION_MODEL_VERSION, version.version.to_string()),
            ("prometheus.io/scrape", "true".to_owned()),
            ("prometheus.io/port", paths::SERVE_PORT.to_string()),
            ("prometheus.io/path", "/metrics".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into(),
    );
    let config = name(owner, &version.digest);
    let parts = PodParts {
        image: image.to_owned(),
        verb: VERB,
        config: &config,
        resources: valid.resources.clone(),
        placement: &valid.spec.placement,
        volumes: vec![],
    };
    let mut pod = pod::spec(parts, policy);
    // whether the keys are known or not: they come and change without a restart
    pod::add_token(&mut pod, siblings::AUDIENCE, paths::SIBLING_TOKEN_FILE);
    let drain = i64::try_from(policy.drain_seconds).unwrap_or(i64::MAX);
    // named even where nobody asked: the API copies the name into the deprecated `serviceAccount`,
    // which we do not own, and would fill a name that is taken back from there
    pod.service_account_name.get_or_insert_with(|| names::DEFAULT_SERVICE_ACCOUNT.to_owned());
    pod.termination_grace_period_seconds = Some(drain.saturating_add(GRACE_SECONDS));
    for container in &mut pod.containers {
        container.ports = Some(vec![
            port(paths::SERVE_PORT_NAME, paths::SERVE_PORT),
            port(paths::SIBLING_PORT_NAME, paths::SIBLING_PORT),
        ]);
        container.startup_probe = Some(probe(paths::LIVE_PATH, 1, 60));
        container.liveness_probe = Some(probe(paths::LIVE_PATH, 10, 3));
        container.readiness_probe = Some(probe(paths::READY_PATH, 1, 2));
    }
    PodTemplateSpec { metadata: Some(metadata), spec: Some(pod) }
}

fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        container_port: i32::from(number),
        name: Some(name.to_owned()),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(paths::SERVE_PORT_NAME.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(if period_seconds > 1 { 5 } else { 1 }),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    }
}

/// The Service, pointing at the pods of one model.
pub fn service(owner: &Owner, spec: &ModelDeploymentSpec, digest: &str) -> Service {
    diff::with_hash(Service {
        metadata: owner.child(&owner.name, names::ROLE_SERVE),
        spec: Some(ServiceSpec {
            type_: Some(spec.service.type_.as_str().to_owned()),
            selector: Some(selector(owner, digest)),
            ports: Some(vec![ServicePort {
                name: Some(paths::SERVE_PORT_NAME.to_owned()),
                port: spec.service.port,
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::String(paths::SERVE_PORT_NAME.to_owned())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    })
}

/// The Service through which the pods of a model find those that are ready. It has a cluster address
/// and no list of pods behind its name: what is asked again reaches another pod, and no cache of
/// names can hold a pod that is gone.
pub fn siblings(owner: &Owner, digest: &str) -> Service {
    let mut metadata = owner.child(&name(owner, digest), names::ROLE_SIBLINGS);
    label(&mut metadata, digest);
    diff::with_hash(Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(selector(owner, digest)),
            ports: Some(vec![ServicePort {
                name: Some(paths::SIBLING_PORT_NAME.to_owned()),
                port: i32::from(paths::SIBLING_PORT),
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::String(paths::SIBLING_PORT_NAME.to_owned())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    })
}

fn label(metadata: &mut ObjectMeta, digest: &str) {
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(names::LABEL_MODEL_DIGEST.to_owned(), names::short_digest(digest).to_owned());
}
