//! Writes to children. Three ways only: server-side apply, create once (Jobs), delete; and a patch
//! of single fields of a Job that the plan names.
//!
//! A child that belongs to somebody else is never touched: an existing object counts as ours only
//! if the owner's UID controls it, and patches and deletes carry the child's UID.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use vitrine_crds::names;
use vitrine_plan::meta::owned_by;
use vitrine_plan::{Child, ChildRef, diff};

use crate::context::{Context, call_error};
use crate::error::{ApplyError, CallError};
use crate::index::Children;

/// Value of [`names::ANNOTATION_SUSPENDED`] on a Job that we hold.
const SUSPENDED: &str = "true";
/// A resourceVersion that no object has: etcd's first revision is older than the first object.
const NO_VERSION: &str = "1";

/// Resource of an autoscaler.
const AUTOSCALERS: &str = "horizontalpodautoscalers";

/// Whose children are written.
pub struct Owner {
    /// Namespace of the owner and of its children.
    pub namespace: String,
    /// UID of the owner.
    pub uid: String,
}

/// What can be asked of any child.
trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + std::fmt::Debug
    + DeserializeOwned
    + Serialize
    + 'static
{
}

impl<K> Object for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Serialize
        + 'static
{
}

/// Writes one child.
pub async fn put(ctx: &Context, owner: &Owner, child: &Child) -> Result<(), ApplyError> {
    match child {
        Child::ConfigMap(config) => {
            apply(ctx, owner, "ConfigMap", "configmaps", &**config, &ctx.caches.configs).await
        }
        Child::Deployment(deployment) => {
            apply(ctx, owner, "Deployment", "deployments", &**deployment, &ctx.caches.workloads).await
        }
        Child::Service(service) => {
            apply(ctx, owner, "Service", "services", &**service, &ctx.caches.services).await
        }
        Child::Autoscaler(autoscaler) => {
            let cache = &ctx.caches.autoscalers;
            apply(ctx, owner, "HorizontalPodAutoscaler", AUTOSCALERS, &**autoscaler, cache).await
        }
        Child::CreateJob(job) => create_job(ctx, owner, job).await,
        Child::SuspendJob { name, uid, suspend } => {
            let mark = suspend.then_some(SUSPENDED);
            let change = json!({
                "metadata": {"annotations": {names::ANNOTATION_SUSPENDED: mark}},
                "spec": {"suspend": suspend},
            });
            patch::<Job>(ctx, owner, "Job", "jobs", name, uid, change).await
        }
        Child::SetJobTtl { name, uid, seconds } => {
            patch::<Job>(
                ctx,
                owner,
                "Job",
                "jobs",
                name,
                uid,
                json!({"spec": {"ttlSecondsAfterFinished": seconds}}),
            )
            .await
        }
        Child::ScaleDeployment { name, uid, replicas } => scale(ctx, owner, name, uid, *replicas).await,
    }
}

/// Server-side applies the whole child.
async fn apply<K: Object>(
    ctx: &Context,
    owner: &Owner,
    kind: &'static str,
    plural: &'static str,
    child: &K,
    cache: &Children<K>,
) -> Result<(), ApplyError> {
    let (namespace, name) = (owner.namespace.as_str(), child.name_any());
    let known = cache.get(namespace, &name).filter(|known| owned_by(known.meta(), &owner.uid));
    let known = known.and_then(|known| known.uid());
    let sent = known.as_deref().map_or_else(|| first(child), |uid| with_uid(child, uid));
    let Err(error) = write(ctx, kind, plural, namespace, &sent).await else { return Ok(()) };
    if !(error.is_conflict() || error.is_already_exists() || (known.is_some() && error.is_invalid())) {
        return Err(error.into());
    }
    // not what the cache said: nothing, or another object, has the name
    let live = ctx.get_live::<K>(kind, namespace, &name).await?;
    let uid = live.as_ref().and_then(kube::ResourceExt::uid);
    if known.is_some() && known == uid {
        return Err(error.into());
    }
    match met(live.as_ref(), child, &owner.uid) {
        Met::Done => Ok(()),
        Met::Foreign => Err(collision(kind, namespace, &name)),
        // its event brings the next pass
        Met::Newer if error.is_invalid() => Ok(()),
        Met::Newer => Err(error.into()),
        Met::Unlabelled => {
            let ours = with_uid(child, uid.as_deref().unwrap_or_default());
            Ok(write(ctx, kind, plural, namespace, &ours).await?)
        }
    }
}

async fn write<K: Object>(
    ctx: &Context,
    kind: &'static str,
    plural: &'static str,
    namespace: &str,
    child: &K,
) -> Result<(), CallError> {
    let name = child.name_any();
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    let written = ctx.api::<K>(namespace).patch(&name, &params, &Patch::Apply(child)).await;
    written.map_err(|source| call_error("apply", kind, namespace, &name, source))?;
    ctx.metrics.wrote("apply", plural);
    Ok(())
}

/// Server-side applies the number of pods of a Deployment, alone and as a manager of its own: the
/// number outlives an apply that does not name it, and the first write of an autoscaler takes it.
async fn scale(ctx: &Context, owner: &Owner, name: &str, uid: &str, replicas: i32) -> Result<(), ApplyError> {
    let body = json!({
        "apiVersion": Deployment::api_version(&()),
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": owner.namespace, "uid": uid},
        "spec": {"replicas": replicas},
    });
    let params = PatchParams::apply(names::SCALE_MANAGER).force();
    let written = ctx.api::<Deployment>(&owner.namespace).patch(name, &params, &Patch::Apply(&body)).await;
    match written.map_err(|source| call_error("scale", "Deployment", &owner.namespace, name, source)) {
        Ok(_) => {
            ctx.metrics.wrote("apply", "deployments");
            Ok(())
        }
        Err(error) => missed::<Deployment>(ctx, owner, "Deployment", name, uid, error).await,
    }
}

/// A write to an object of this UID failed. That is well if it is gone or another one has the name: its
/// event brings the next pass. The server says the latter with 409 or, where the object exists, 422.
async fn missed<K: Object>(
    ctx: &Context,
    owner: &Owner,
    kind: &'static str,
    name: &str,
    uid: &str,
    error: CallError,
) -> Result<(), ApplyError> {
    if error.is_not_found() {
        return Ok(());
    }
    if error.is_conflict() || error.is_invalid() {
        let live = ctx.get_live::<K>(kind, &owner.namespace, name).await?;
        if live.and_then(|live| live.uid()).as_deref() != Some(uid) {
            return Ok(());
        }
    }
    Err(error.into())
}

/// The child as it is applied for the first time. Force takes over whatever it meets, so this one asks
/// for a version that no object has: the server makes what is missing and refuses what exists.
fn first<K: Object>(child: &K) -> K {
    let mut first = child.clone();
    first.meta_mut().resource_version = Some(NO_VERSION.to_owned());
    first
}

/// The child as it is applied to the object with this UID, and to no other one.
fn with_uid<K: Object>(child: &K, uid: &str) -> K {
    let mut sent = child.clone();
    sent.meta_mut().uid = Some(uid.to_owned());
    sent
}

/// What an apply met in place of what the cache knew.
#[derive(Debug, PartialEq)]
enum Met {
    /// What was to be written: an earlier answer was lost, or the cache is behind.
    Done,
    /// An object of somebody else.
    Foreign,
    /// Ours and another one than is wanted, or gone again: the caller decided on a cache that is
    /// behind, and decides anew when it has caught up.
    Newer,
    /// Ours, without the label by which the cache would know it: to be repaired.
    Unlabelled,
}

fn met<K: Object>(live: Option<&K>, wanted: &K, owner_uid: &str) -> Met {
    let Some(live) = live else { return Met::Newer };
    if !owned_by(live.meta(), owner_uid) {
        return Met::Foreign;
    }
    if live.labels().get(names::LABEL_MANAGED_BY).is_none_or(|by| by != names::MANAGED_BY) {
        return Met::Unlabelled;
    }
    if diff::same_hash(wanted, live) { Met::Done } else { Met::Newer }
}

/// Creates a Job. That it exists already is success if it is ours: an earlier create was carried
/// out although its answer was lost.
async fn create_job(ctx: &Context, owner: &Owner, job: &Job) -> Result<(), ApplyError> {
    let (namespace, name) = (owner.namespace.as_str(), job.name_any());
    let params = PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let created = ctx.api::<Job>(namespace).create(&params, job).await;
    match created.map_err(|source| call_error("create", "Job", namespace, &name, source)) {
        Ok(_) => {
            ctx.metrics.wrote("create", "jobs");
            Ok(())
        }
        Err(error) if error.is_already_exists() => {
            match ctx.get_live::<Job>("Job", namespace, &name).await? {
                Some(live) if !owned_by(&live.metadata, &owner.uid) => {
                    Err(collision("Job", namespace, &name))
                }
                // ours: the next pass observes it
                Some(_) => Ok(()),
                // gone again, or never there: it was not made, and is no attempt
                None => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Merges a change into a child that has this UID.
async fn patch<K: Object>(
    ctx: &Context,
    owner: &Owner,
    kind: &'static str,
    plural: &'static str,
    name: &str,
    uid: &str,
    mut change: Value,
) -> Result<(), ApplyError> {
    change["metadata"]["uid"] = json!(uid);
    let params =
        PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let written = ctx.api::<K>(&owner.namespace).patch(name, &params, &Patch::Merge(&change)).await;
    match written.map_err(|source| call_error("patch", kind, &owner.namespace, name, source)) {
        Ok(_) => {
            ctx.metrics.wrote("patch", plural);
            Ok(())
        }
        Err(error) => missed::<K>(ctx, owner, kind, name, uid, error).await,
    }
}

/// Deletes a child that has this UID.
pub async fn delete(ctx: &Context, owner: &Owner, child: &ChildRef) -> Result<(), ApplyError> {
    match child.kind {
        "ConfigMap" => delete_one::<ConfigMap>(ctx, owner, child, "configmaps").await,
        "Deployment" => delete_one::<Deployment>(ctx, owner, child, "deployments").await,
        "HorizontalPodAutoscaler" => {
            delete_one::<HorizontalPodAutoscaler>(ctx, owner, child, AUTOSCALERS).await
        }
        "Service" => delete_one::<Service>(ctx, owner, child, "services").await,
        "Job" => delete_one::<Job>(ctx, owner, child, "jobs").await,
        other => {
            // the plan's kinds are a closed list; a new one must be added above
            tracing::error!(kind = other, name = child.name, "a plan deletes a kind that is not known here");
            Ok(())
        }
    }
}

async fn delete_one<K: Object>(
    ctx: &Context,
    owner: &Owner,
    child: &ChildRef,
    plural: &'static str,
) -> Result<(), ApplyError> {
    let uid = Preconditions { uid: Some(child.uid.clone()), resource_version: None };
    let params = DeleteParams::background().preconditions(uid);
    let deleted = ctx.api::<K>(&owner.namespace).delete(&child.name, &params).await;
    match deleted.map_err(|source| call_error("delete", child.kind, &owner.namespace, &child.name, source)) {
        Ok(_) => {
            ctx.metrics.wrote("delete", plural);
            Ok(())
        }
        // that it is gone, or another object has the name, is what was asked for
        Err(error) => missed::<K>(ctx, owner, child.kind, &child.name, &child.uid, error).await,
    }
}

fn collision(kind: &'static str, namespace: &str, name: &str) -> ApplyError {
    ApplyError::NameCollision { kind, namespace: namespace.to_owned(), name: name.to_owned() }
}
