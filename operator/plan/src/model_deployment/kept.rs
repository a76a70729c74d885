//! What the pods of a served version are made of, kept as it was rolled out.
//!
//! A pod follows from what the user asks for, from the version, and from the operator: its own build
//! and the administrator's defaults. Only the first two may restart pods that serve. So each child
//! Deployment carries the template that was applied and the settings of its config, with a hash of
//! what the user asked for; while that is the same, both are applied again as they were. What is
//! remembered, and not what is live, is wanted: a change that somebody makes to the Deployment is
//! still put right. A memory that was changed is none.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PodTemplateSpec};
use serde::{Deserialize, Serialize};
use vitrine_contract::paths;
use vitrine_contract::serve::ServeConfig;
use vitrine_crds::model_deployment::ModelDeploymentSpec;
use vitrine_crds::names;

use crate::facts::VersionFacts;
use crate::{diff, hash};

/// What is remembered of the pods of a Deployment.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Memory {
    /// Hash of what the user asked for.
    asked: String,
    settings: Settings,
    template: PodTemplateSpec,
}

/// The part of a config that must fit the template and the image; the rest of it says where things
/// are, and pods that start later need to know where they are then.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Settings {
    version: u32,
    drain_seconds: u64,
    max_body_bytes: usize,
    max_concurrency: usize,
}

/// What a live Deployment remembers. Its text is the hash of a JSON text, a blank, and that text.
pub struct Kept {
    memory: Memory,
    text: String,
}

/// Hash of what the user asks of the pods of a version. A change of it for an unchanged spec would
/// restart every serving pod at an upgrade of the operator: new fields are left out while they are
/// at their default, and a test holds the hash of a minimal spec.
pub fn asked(spec: &ModelDeploymentSpec, target: &VersionFacts) -> String {
    let value = serde_json::json!({
        "model": spec.model.name,
        "version": target.version,
        "digest": target.digest,
        "server": spec.server,
        "resources": spec.resources,
        "placement": spec.placement,
    });
    hash::sha256_hex(hash::canonical(&value).as_bytes())
}

/// What the Deployment remembers, if it does.
pub fn read(live: &Deployment) -> Option<Kept> {
    let text = live.metadata.annotations.as_ref()?.get(names::ANNOTATION_PODS)?;
    let (sha256, json) = text.split_once(' ')?;
    if hash::sha256_hex(json.as_bytes()) != sha256 {
        return None;
    }
    Some(Kept { memory: serde_json::from_str(json).ok()?, text: text.clone() })
}

impl Kept {
    /// Was it made for what the user asks for now?
    pub fn is_for(&self, asked: &str) -> bool {
        self.memory.asked == asked
    }

    /// Image of the container.
    pub fn image(&self) -> Option<&str> {
        let pod = self.memory.template.spec.as_ref()?;
        pod.containers.iter().find(|c| c.name == names::CONTAINER)?.image.as_deref()
    }

    /// The config as built now, with the settings that the pods were made for.
    pub fn config(&self, mut built: ConfigMap) -> ConfigMap {
        let Some(config) = config_of(&built) else { return built };
        let Settings { version, drain_seconds, max_body_bytes, max_concurrency } = self.memory.settings;
        let config = ServeConfig { version, drain_seconds, max_body_bytes, max_concurrency, ..config };
        let text = diff::to_json(&config).to_string();
        built.data.get_or_insert_default().insert(paths::CONFIG_KEY.to_owned(), text);
        diff::with_hash(built)
    }
}

fn config_of(built: &ConfigMap) -> Option<ServeConfig> {
    serde_json::from_str(built.data.as_ref()?.get(paths::CONFIG_KEY)?).ok()
}

/// The Deployment as built now with the pods that are kept, or with a memory of its own.
pub fn remember(mut built: Deployment, config: &ConfigMap, asked: &str, kept: Option<Kept>) -> Deployment {
    let Some(spec) = &mut built.spec else { return built };
    let text = if let Some(kept) = kept {
        spec.template = kept.memory.template;
        kept.text
    } else {
        let config = config_of(config).unwrap_or_default();
        let memory = Memory {
            asked: asked.to_owned(),
            settings: Settings {
                version: config.version,
                drain_seconds: config.drain_seconds,
                max_body_bytes: config.max_body_bytes,
                max_concurrency: config.max_concurrency,
            },
            template: spec.template.clone(),
        };
        let json = hash::canonical(&diff::to_json(&memory));
        format!("{} {json}", hash::sha256_hex(json.as_bytes()))
    };
    built.metadata.annotations.get_or_insert_default().insert(names::ANNOTATION_PODS.to_owned(), text);
    diff::with_hash(built)
}
