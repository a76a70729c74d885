//! The ingest Job.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, ResourceRequirements, Volume, VolumeMount};
use vitrine_contract::job::{Image, Ingest, JobConfig, Sample, Split, Task};
use vitrine_contract::{VERSION, paths};
use vitrine_crds::dataset::DatasetSpec;
use vitrine_crds::names;

use super::source;
use crate::job::{self, JobParts};
use crate::meta::Owner;
use crate::pod::{self, PodParts};
use crate::policy::Policy;

/// Retries of a failed ingest pod.
const BACKOFF_LIMIT: i32 = 3;
/// Seconds after which an ingest is given up: a stuck volume must not hold a Dataset for ever.
pub const DEADLINE_SECONDS: i64 = 6 * 3600;
/// Seconds for which a finished ingest Job and its pods (their logs) are kept.
pub const TTL_SECONDS: i32 = 86_400;

/// A checked Dataset: building its Job cannot fail.
pub struct Valid<'a> {
    /// Spec.
    pub spec: &'a DatasetSpec,
    /// Resources of the ingest pod.
    pub resources: ResourceRequirements,
}

/// What the ingest pod shall do; `fixed_test` is the snapshot digest of the fixed test set.
pub fn task(spec: &DatasetSpec, fixed_test: Option<&str>) -> Ingest {
    let seed = |value: i64| u64::try_from(value).unwrap_or_default();
    Ingest {
        path: source::path(&spec.source),
        features: spec.source.files.features.clone(),
        labels: spec.source.files.labels.clone(),
        id: spec.schema.id.clone(),
        text: spec.schema.text.clone(),
        label: spec.schema.label.clone(),
        label_names: spec.schema.label_names.is_some(),
        image: spec.schema.image.as_ref().map(|image| Image {
            path_template: image.path_template.clone(),
            optional: image.optional,
            archive: spec.source.images.as_ref().map(|images| images.archive.clone()),
        }),
        sample: spec.sample.map(|s| Sample { fraction: s.fraction, seed: seed(s.seed) }),
        split: Split {
            seed: seed(spec.split.seed),
            train: spec.split.fractions.train,
            validation: spec.split.fractions.validation,
            test: spec.split.fractions.test,
            group_by: spec.split.group_by.clone(),
            fixed_test: fixed_test.map(str::to_owned),
        },
        remote: source::remote(&spec.source),
    }
}

/// The config of an attempt.
pub fn config(
    owner: &Owner,
    valid: &Valid,
    name: &str,
    fixed_test: Option<&str>,
    policy: &Policy,
) -> ConfigMap {
    let config = JobConfig {
        version: VERSION,
        gateway: policy.gateway.clone(),
        task: Task::Ingest(task(valid.spec, fixed_test)),
    };
    job::config_map(owner, name, names::ROLE_INGEST, &config, None)
}

/// The Job of an attempt.
pub fn build(owner: &Owner, valid: &Valid, name: &str, fixed_test: Option<&str>, policy: &Policy) -> Job {
    let parts = JobParts {
        name,
        role: names::ROLE_INGEST,
        reads: fixed_test.map(str::to_owned).into_iter().collect(),
        backoff_limit: BACKOFF_LIMIT,
        deadline_seconds: DEADLINE_SECONDS,
        pod: PodParts {
            image: policy.trainer_image.clone(),
            verb: names::ROLE_INGEST,
            config: name,
            resources: valid.resources.clone(),
            placement: &valid.spec.placement,
            volumes: volumes(valid.spec),
        },
    };
    job::build(owner, parts, policy)
}

fn volumes(spec: &DatasetSpec) -> Vec<(Volume, VolumeMount)> {
    let mut all = source::volumes(&spec.source);
    all.extend(spec.schema.label_names.as_ref().map(|labels| {
        (
            pod::config_map_volume(names::VOLUME_LABELS, &labels.config_map_ref.name),
            pod::mount(names::VOLUME_LABELS, paths::LABELS_DIR, true),
        )
    }));
    all
}
