//! Which objects must be looked at when another one changes. Pure: reads the change and the caches.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt as _};
use vitrine_crds::condition::{ConditionType, find};
use vitrine_crds::{Dataset, ModelDeployment, TrainingRun, names};
use vitrine_plan::meta::{controller, is_ours};

use crate::references::Referring;
use crate::seen::Pod;

/// An object to reconcile.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// A Dataset.
    Dataset(ObjectRef<Dataset>),
    /// A TrainingRun.
    TrainingRun(ObjectRef<TrainingRun>),
    /// A ModelDeployment.
    ModelDeployment(ObjectRef<ModelDeployment>),
}

/// The controller of a child, if it is one of ours.
pub fn of_child(meta: &ObjectMeta) -> Option<Target> {
    let owner = controller(meta).filter(|owner| is_ours(owner))?;
    target(&owner.kind, &owner.name, meta.namespace.as_deref()?)
}

/// Whose child it is now, and whose it was: who lost a child has to know.
pub fn of_change<K>(new: &K, old: Option<&K>, owner: fn(&K) -> Option<Target>) -> Vec<Target> {
    let (now, was) = (owner(new), old.and_then(owner));
    let lost = was.filter(|was| Some(was) != now.as_ref());
    now.into_iter().chain(lost).collect()
}

fn target(kind: &str, name: &str, namespace: &str) -> Option<Target> {
    match kind {
        "Dataset" => Some(Target::Dataset(ObjectRef::new(name).within(namespace))),
        "TrainingRun" => Some(Target::TrainingRun(ObjectRef::new(name).within(namespace))),
        "ModelDeployment" => Some(Target::ModelDeployment(ObjectRef::new(name).within(namespace))),
        _ => None,
    }
}

/// The resource behind a pod: its owner is a Job or ReplicaSet, its labels name the resource.
pub fn of_pod(pod: &Pod) -> Option<Target> {
    let name = pod.labels().get(names::LABEL_INSTANCE)?;
    let kind = match pod.labels().get(names::LABEL_COMPONENT)?.as_str() {
        names::ROLE_INGEST => "Dataset",
        names::ROLE_TRAIN => "TrainingRun",
        names::ROLE_SERVE => "ModelDeployment",
        _ => return None,
    };
    target(kind, name, &pod.namespace()?)
}

/// The Dataset that a run learns from.
pub fn learns_from(run: &TrainingRun) -> Option<&str> {
    Some(&run.spec.dataset_ref.name)
}

/// The Dataset that a Dataset tests on, if it is not its own test split.
pub fn tests_on(dataset: &Dataset) -> Option<&str> {
    dataset.spec.split.test.as_ref().map(|test| test.dataset_ref.name.as_str())
}

/// The model that a ModelDeployment serves.
pub fn serves(deployment: &ModelDeployment) -> Option<&str> {
    Some(&deployment.spec.model.name)
}

/// A Dataset is awaited by itself, by runs that learn from it and have not ended, and by Datasets that
/// test on it. A run whose status says already why the Dataset is `not_ready` need not look again.
pub fn of_dataset(
    changed: &Dataset,
    not_ready: Option<&str>,
    runs: &Referring<TrainingRun>,
    datasets: &Referring<Dataset>,
) -> Vec<Target> {
    let (namespace, name) = (changed.namespace().unwrap_or_default(), changed.name_any());
    let learning = runs
        .to(&namespace, &name)
        .into_iter()
        .filter(|run| {
            let ended = run.status.as_ref().is_some_and(|s| s.completion_time.is_some());
            !ended && not_ready.is_none_or(|why| !says(run, why))
        })
        .map(|run| Target::TrainingRun(ObjectRef::from_obj(&*run)));
    let testing =
        datasets.to(&namespace, &name).into_iter().map(|other| Target::Dataset(ObjectRef::from_obj(&*other)));
    std::iter::once(Target::Dataset(ObjectRef::from_obj(changed))).chain(learning).chain(testing).collect()
}

/// Does the run say of its Dataset that it is not ready, in these words?
fn says(run: &TrainingRun, why: &str) -> bool {
    let conditions = run.status.as_ref().map_or(&[][..], |s| &s.conditions);
    find(conditions, ConditionType::DatasetReady).is_some_and(|c| c.status == "False" && c.message == why)
}

/// A run that registered something is news for the deployments of that model.
pub fn of_run(changed: &TrainingRun, deployments: &Referring<ModelDeployment>) -> Vec<Target> {
    let mut targets = vec![Target::TrainingRun(ObjectRef::from_obj(changed))];
    let registered = changed.status.as_ref().and_then(|s| s.model.as_ref());
    if let Some(model) = registered {
        targets.extend(serving(&model.name, changed, deployments));
    }
    targets
}

/// A deployment may own or have moved an alias that others of the same model follow; those of a model that it
/// `left` may be free of it.
pub fn of_deployment(
    changed: &ModelDeployment,
    left: Option<&str>,
    deployments: &Referring<ModelDeployment>,
) -> Vec<Target> {
    let mut targets = vec![Target::ModelDeployment(ObjectRef::from_obj(changed))];
    for model in std::iter::once(changed.spec.model.name.as_str()).chain(left) {
        for target in serving(model, changed, deployments) {
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
    }
    targets
}

fn serving(model: &str, changed: &impl Resource, deployments: &Referring<ModelDeployment>) -> Vec<Target> {
    let namespace = changed.meta().namespace.as_deref().unwrap_or_default();
    let found = deployments.to(namespace, model);
    found.iter().map(|d| Target::ModelDeployment(ObjectRef::from_obj(&**d))).collect()
}

#[cfg(test)]
#[path = "relations_tests.rs"]
mod tests;
