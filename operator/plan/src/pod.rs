//! What all pods have in common: Pod Security *restricted*, the token for the gateway, the config
//! file, resources and placement. No Kubernetes API token is ever mounted.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, EmptyDirVolumeSource, LocalObjectReference,
    PodSecurityContext, PodSpec, ProjectedVolumeSource, ResourceRequirements, SeccompProfile,
    SecurityContext, ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use vitrine_contract::{gateway, paths};
use vitrine_crds::common::{PodPlacement, Quantities, Resources};
use vitrine_crds::names;

use crate::diff;
use crate::policy::{DefaultResources, Policy};

/// User and group of every pod: the usual non-root user of minimal images.
pub const USER: i64 = 65_532;
/// Life of a token for the gateway in seconds; the kubelet renews it in time.
pub const TOKEN_SECONDS: i64 = 3600;

/// What differs between our pods.
pub struct PodParts<'a> {
    /// Image.
    pub image: String,
    /// First argument: what the image shall do.
    pub verb: &'a str,
    /// Name of the ConfigMap with the config file.
    pub config: &'a str,
    /// Resources of the container.
    pub resources: ResourceRequirements,
    /// Where it runs.
    pub placement: &'a PodPlacement,
    /// Further volumes, each with its mount.
    pub volumes: Vec<(Volume, VolumeMount)>,
}

/// A pod with its one container; the caller adds ports, probes and restart policy.
pub fn spec(parts: PodParts<'_>, policy: &Policy) -> PodSpec {
    let placement = parts.placement.clone();
    let mut volumes = common_volumes(parts.config);
    volumes.extend(parts.volumes);
    let (volumes, mounts) = volumes.into_iter().unzip();
    PodSpec {
        automount_service_account_token: Some(false),
        // service environment variables grow with the namespace and nobody reads them
        enable_service_links: Some(false),
        security_context: Some(pod_security()),
        image_pull_secrets: some_list(
            policy
                .image_pull_secrets
                .iter()
                .map(|name| LocalObjectReference { name: name.clone() })
                .collect(),
        ),
        node_selector: some_map(placement.node_selector),
        tolerations: some_list(placement.tolerations),
        runtime_class_name: placement.runtime_class_name,
        priority_class_name: placement.priority_class_name,
        service_account_name: placement.service_account_name,
        volumes: Some(volumes),
        containers: vec![Container {
            name: names::CONTAINER.to_owned(),
            image: Some(parts.image),
            image_pull_policy: some_text(&policy.image_pull_policy),
            args: Some(vec![parts.verb.to_owned()]),
            resources: Some(parts.resources),
            security_context: Some(container_security()),
            volume_mounts: Some(mounts),
            termination_message_policy: Some("File".to_owned()),
            termination_message_path: Some(paths::TERMINATION.to_owned()),
            ..Container::default()
        }],
        ..PodSpec::default()
    }
}

fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        // a claim with many files would otherwise be chowned file by file at every start
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), ..Capabilities::default() }),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        ..SecurityContext::default()
    }
}

fn common_volumes(config: &str) -> Vec<(Volume, VolumeMount)> {
    let token = token(gateway::AUDIENCE, paths::TOKEN_FILE);
    vec![
        (
            config_map_volume(names::VOLUME_CONFIG, config),
            mount(names::VOLUME_CONFIG, paths::CONFIG_DIR, true),
        ),
        (
            Volume {
                name: names::VOLUME_TOKEN.to_owned(),
                projected: Some(ProjectedVolumeSource {
                    sources: Some(vec![token]),
                    ..ProjectedVolumeSource::default()
                }),
                ..Volume::default()
            },
            mount(names::VOLUME_TOKEN, paths::TOKEN_DIR, true),
        ),
        (
            Volume {
                name: names::VOLUME_WORK.to_owned(),
                empty_dir: Some(EmptyDirVolumeSource::default()),
                ..Volume::default()
            },
            mount(names::VOLUME_WORK, paths::WORK_DIR, false),
        ),
    ]
}

fn token(audience: &str, file: &str) -> VolumeProjection {
    VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            audience: Some(audience.to_owned()),
            expiration_seconds: Some(TOKEN_SECONDS),
            path: file.to_owned(),
        }),
        ..VolumeProjection::default()
    }
}

/// One more token beside the one for the gateway, for another audience.
pub fn add_token(pod: &mut PodSpec, audience: &str, file: &str) {
    let volumes = pod.volumes.iter_mut().flatten();
    for volume in volumes.filter(|v| v.name == names::VOLUME_TOKEN) {
        let sources = volume.projected.get_or_insert_default().sources.get_or_insert_default();
        sources.push(token(audience, file));
    }
}

/// A volume with the keys of a ConfigMap.
pub fn config_map_volume(volume: &str, config_map: &str) -> Volume {
    Volume {
        name: volume.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: config_map.to_owned(),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// A mount of a volume.
pub fn mount(volume: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

/// Resources of the container: the user's amounts over the administrator's defaults, name by name.
///
/// A default never contradicts the user: it moves to the user's amount where a request would exceed
/// a limit. Two amounts of the user that contradict each other are an error, in words for the user.
pub fn resources(asked: &Resources, defaults: &DefaultResources) -> Result<ResourceRequirements, String> {
    let mut requests = overlay(&defaults.requests, &asked.requests);
    let mut limits = overlay(&defaults.limits, &asked.limits);
    for (name, limit) in &mut limits {
        let Some(request) = requests.get_mut(name) else { continue };
        let (Some(most), Some(least)) = (diff::nanos(&limit.0), diff::nanos(&request.0)) else { continue };
        if least <= most {
            continue;
        }
        match (asked.requests.contains_key(name), asked.limits.contains_key(name)) {
            (true, true) => {
                return Err(format!(
                    "resources.requests[{name}] is {} and resources.limits[{name}] only {}: raise the limit or lower the request",
                    request.0, limit.0
                ));
            }
            (true, false) => *limit = request.clone(),
            (false, _) => *request = limit.clone(),
        }
    }
    Ok(ResourceRequirements {
        requests: some_map(requests),
        limits: some_map(limits),
        ..ResourceRequirements::default()
    })
}

/// The memory limit of the container, as written.
pub fn memory_limit(resources: &ResourceRequirements) -> Option<String> {
    resources.limits.as_ref()?.get("memory").map(|q| q.0.clone())
}

fn overlay(defaults: &BTreeMap<String, Quantity>, asked: &Quantities) -> BTreeMap<String, Quantity> {
    let mut all = defaults.clone();
    all.extend(asked.iter().map(|(name, amount)| {
        let text = match amount {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(text) => text.clone(),
        };
        (name.clone(), Quantity(text))
    }));
    all
}

fn some_map<V>(map: BTreeMap<String, V>) -> Option<BTreeMap<String, V>> {
    (!map.is_empty()).then_some(map)
}

fn some_list<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn some_text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> DefaultResources {
        let amount = |memory: &str| BTreeMap::from([("memory".to_owned(), Quantity(memory.into()))]);
        DefaultResources { requests: amount("1Gi"), limits: amount("2Gi") }
    }

    fn asked(request: Option<&str>, limit: Option<&str>) -> Resources {
        let map = |value: Option<&str>| {
            value.map(|v| ("memory".to_owned(), IntOrString::String(v.to_owned()))).into_iter().collect()
        };
        Resources { requests: map(request), limits: map(limit) }
    }

    fn memory(asked: &Resources) -> (String, String) {
        let found = resources(asked, &defaults()).unwrap();
        (found.requests.unwrap()["memory"].0.clone(), found.limits.unwrap()["memory"].0.clone())
    }

    #[test]
    fn a_default_never_contradicts_the_user() {
        assert_eq!(memory(&asked(None, None)), ("1Gi".into(), "2Gi".into()));
        assert_eq!(memory(&asked(None, Some("512Mi"))), ("512Mi".into(), "512Mi".into()));
        assert_eq!(memory(&asked(Some("4Gi"), None)), ("4Gi".into(), "4Gi".into()));
        assert_eq!(memory(&asked(Some("1500Mi"), None)), ("1500Mi".into(), "2Gi".into()));
    }

    #[test]
    fn a_request_above_its_limit_is_named() {
        let error = resources(&asked(Some("2Gi"), Some("512Mi")), &defaults()).unwrap_err();
        assert!(error.contains("requests[memory] is 2Gi") && error.contains("only 512Mi"), "{error}");
    }
}
