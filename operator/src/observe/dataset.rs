//! Facts for a Dataset.

use kube::runtime::reflector::ObjectRef;
use vitrine_crds::Dataset;
use vitrine_plan::attempt;
use vitrine_plan::{DatasetFacts, DatasetObserved, Reference};

use super::Subject;
use super::jobs::{self, Stage};
use crate::caches::Caches;
use crate::context::{Context, call_error};
use crate::error::ObserveError;

/// Reads everything that the plan of a Dataset needs.
pub async fn observe(ctx: &Context, object: &Dataset) -> Result<DatasetObserved, ObserveError> {
    let subject = Subject::of(ctx, object).await?;
    let test = object.spec.split.test.as_ref();
    let test_dataset = test.map(|t| reference(&ctx.caches, &subject.namespace, &t.dataset_ref.name));
    let key = attempt::key_of_dataset(object, test_dataset.as_ref());
    let revision = ctx.registry.revision_for(&subject.namespace_uid, &subject.uid, key.as_deref()).await?;
    let settled = key.is_some() && key == revision.as_ref().map(|r| r.attempt_key.clone());
    let label_names = label_names(ctx, object, &subject, settled).await?;
    let attempt = attempt::of_dataset(object, test_dataset.as_ref());
    let name = attempt.as_ref().map(|a| a.job_name.as_str());
    let noted = object.status.as_ref().and_then(|s| s.job_name.as_deref());
    let work = jobs::observe(ctx, &subject, name, Stage::of(settled, noted, name)).await?;
    Ok(DatasetObserved {
        namespace_uid: subject.namespace_uid,
        test_dataset,
        label_names,
        revision,
        job: work.job,
        pods: work.pods,
        result: work.result,
        progress: work.progress,
        config: work.config,
        leftovers: work.leftovers,
    })
}

/// A Dataset as others refer to it.
pub fn reference(caches: &Caches, namespace: &str, name: &str) -> Reference<DatasetFacts> {
    let found = caches.datasets.get(&ObjectRef::new(name).within(namespace));
    found.map_or(Reference::Missing, |dataset| vitrine_plan::dataset::facts(&dataset))
}

/// Does the user's ConfigMap exist? It is not ours and therefore not watched; once the snapshot is
/// made nobody asks any more.
async fn label_names(
    ctx: &Context,
    object: &Dataset,
    subject: &Subject,
    settled: bool,
) -> Result<Option<bool>, ObserveError> {
    let Some(names) = &object.spec.schema.label_names else { return Ok(None) };
    if settled {
        return Ok(Some(true));
    }
    let name = &names.config_map_ref.name;
    let api = ctx.api::<k8s_openapi::api::core::v1::ConfigMap>(&subject.namespace);
    let found = api.get_metadata_opt(name).await;
    let found = found.map_err(|source| call_error("get", "ConfigMap", &subject.namespace, name, source))?;
    Ok(Some(found.is_some()))
}
