//! Facts for a ModelDeployment.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use vitrine_crds::{ModelDeployment, names};
use vitrine_plan::meta::owned_by;
use vitrine_plan::{DeploymentFacts, ModelDeploymentObserved, VersionFacts};

use super::{Subject, pods};
use crate::caches::Caches;
use crate::context::Context;
use crate::error::ObserveError;
use crate::registry;

/// Reads everything that the plan of a ModelDeployment needs.
pub async fn observe(
    ctx: &Context,
    object: &ModelDeployment,
) -> Result<ModelDeploymentObserved, ObserveError> {
    let subject = Subject::of(ctx, object).await?;
    let workloads = ctx.caches.workloads.owned(&subject.namespace, &subject.uid);
    let configs = ctx.caches.configs.owned(&subject.namespace, &subject.uid);
    let mut pods = pods::serving(&ctx.caches, &subject.namespace, &subject.uid);
    pods::ask(ctx, &subject.namespace, &mut pods).await;
    Ok(ModelDeploymentObserved {
        stable: stable(ctx, object, &subject.namespace_uid).await?,
        candidate: candidate(ctx, object, &subject.namespace_uid).await?,
        alias_owner: alias_owner(&ctx.caches, object),
        deployments: workloads
            .iter()
            .filter(|d| d.metadata.deletion_timestamp.is_none())
            .map(|d| facts(d, &subject.uid))
            .collect(),
        configs: configs
            .iter()
            .filter(|c| c.metadata.deletion_timestamp.is_none())
            .map(|c| (**c).clone())
            .collect(),
        service: service(&ctx.caches, &subject),
        autoscaler: autoscaler(ctx, object, &subject).await?,
        siblings: siblings(ctx, &subject),
        pods,
        namespace_uid: subject.namespace_uid,
    })
}

async fn stable(
    ctx: &Context,
    object: &ModelDeployment,
    namespace_uid: &str,
) -> Result<Option<VersionFacts>, registry::Error> {
    let model = &object.spec.model;
    if let Some(version) = model.version {
        return ctx.registry.version(namespace_uid, &model.name, version).await;
    }
    if let Some(alias) = &model.alias {
        return ctx.registry.version_by_alias(namespace_uid, &model.name, alias).await;
    }
    match &model.digest {
        Some(digest) => ctx.registry.version_by_digest(namespace_uid, &model.name, digest).await,
        None => Ok(None),
    }
}

async fn candidate(
    ctx: &Context,
    object: &ModelDeployment,
    namespace_uid: &str,
) -> Result<Option<VersionFacts>, registry::Error> {
    let model = &object.spec.model;
    match &model.candidate_alias {
        Some(alias) => ctx.registry.version_by_alias(namespace_uid, &model.name, alias).await,
        None => Ok(None),
    }
}

/// The oldest other ModelDeployment that moves the same alias, if it is older than this one.
fn alias_owner(caches: &Caches, object: &ModelDeployment) -> Option<String> {
    let model = &object.spec.model;
    let (alias, _) = (model.alias.as_ref()?, model.candidate_alias.as_ref()?);
    let age = |d: &ModelDeployment| (d.creation_timestamp(), d.uid());
    let namespace = object.namespace().unwrap_or_default();
    let mut others = caches.serving.to(&namespace, &model.name);
    others.retain(|other| {
        other.uid() != object.uid()
            && other.spec.model.alias.as_ref() == Some(alias)
            && other.spec.model.candidate_alias.is_some()
            && other.metadata.deletion_timestamp.is_none()
            && age(other) < age(object)
    });
    others.into_iter().min_by_key(|other| age(other)).map(|other| other.name_any())
}

/// The Service of that name, if the cache knows it. Its name is the user's choice and may be taken by
/// a Service that we do not watch: the first apply, which comes before all others, finds that out.
fn service(caches: &Caches, subject: &Subject) -> Option<(Service, bool)> {
    let service = caches.services.get(&subject.namespace, &subject.name)?;
    Some(((*service).clone(), owned_by(&service.metadata, &subject.uid)))
}

/// The autoscaler of that name; one that is not ours matters only where one is asked for.
async fn autoscaler(
    ctx: &Context,
    object: &ModelDeployment,
    subject: &Subject,
) -> Result<Option<(HorizontalPodAutoscaler, bool)>, ObserveError> {
    let cached = ctx.caches.autoscalers.get(&subject.namespace, &subject.name);
    let found = match cached {
        Some(autoscaler) => Some((*autoscaler).clone()),
        None if object.spec.autoscaling.is_some() => {
            let kind = "HorizontalPodAutoscaler";
            ctx.get_live::<HorizontalPodAutoscaler>(kind, &subject.namespace, &subject.name).await?
        }
        None => None,
    };
    let found = found.filter(|a| a.metadata.deletion_timestamp.is_none());
    Ok(found.map(|autoscaler| {
        let ours = owned_by(&autoscaler.metadata, &subject.uid);
        (autoscaler, ours)
    }))
}

/// Our Services but the one for predictions.
fn siblings(ctx: &Context, subject: &Subject) -> Vec<Service> {
    let ours = ctx.caches.services.owned(&subject.namespace, &subject.uid);
    ours.iter()
        .filter(|s| s.name_any() != subject.name && s.metadata.deletion_timestamp.is_none())
        .map(|s| (**s).clone())
        .collect()
}

/// Facts of a child Deployment.
pub fn facts(deployment: &Deployment, owner_uid: &str) -> DeploymentFacts {
    let annotation = |key: &str| deployment.annotations().get(key).cloned().unwrap_or_default();
    let empty = DeploymentStatus::default();
    let status = deployment.status.as_ref().unwrap_or(&empty);
    let ready = status.ready_replicas.unwrap_or_default();
    let old = status.replicas.unwrap_or_default() - status.updated_replicas.unwrap_or_default();
    DeploymentFacts {
        name: deployment.name_any(),
        uid: deployment.uid().unwrap_or_default(),
        owned: owned_by(&deployment.metadata, owner_uid),
        digest: annotation(names::ANNOTATION_MODEL_DIGEST),
        version: annotation(names::ANNOTATION_MODEL_VERSION).parse().unwrap_or_default(),
        image: image(deployment).unwrap_or_default(),
        replicas: deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1),
        ready,
        // the API counts ready pods of all templates: every old pod may be one of them
        updated_ready: (ready - old.max(0)).max(0),
        observed: status.observed_generation >= deployment.metadata.generation,
        deadline_exceeded: deadline_exceeded(status),
        refused: refused(status),
        live: deployment.clone(),
    }
}

fn image(deployment: &Deployment) -> Option<String> {
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    pod.containers.iter().find(|c| c.name == names::CONTAINER)?.image.clone()
}

fn deadline_exceeded(status: &DeploymentStatus) -> bool {
    status.conditions.iter().flatten().any(|c| {
        c.type_ == "Progressing"
            && c.status == "False"
            && c.reason.as_deref() == Some("ProgressDeadlineExceeded")
    })
}

/// Why its pods are not created, which its ReplicaSet was told.
fn refused(status: &DeploymentStatus) -> Option<String> {
    let fails =
        status.conditions.iter().flatten().find(|c| c.type_ == "ReplicaFailure" && c.status == "True");
    fails.map(|c| c.message.clone().unwrap_or_default())
}

#[cfg(test)]
#[path = "model_deployment_tests.rs"]
mod tests;
