//! Carries a plan out, in the order of its fields: registry, children, deletes, status, events.
//! Nothing is decided here; a step that fails ends the pass, and the next pass observes anew.

mod children;

use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use vitrine_crds::names;
use vitrine_plan::Plan;

use crate::context::{Context, call_error};
use crate::error::ApplyError;
use crate::kind::Kind;

/// Carries the plan of an object out.
pub async fn apply<K: Kind>(ctx: &Context, object: &K, plan: Plan<K::State>) -> Result<(), ApplyError> {
    let owner = children::Owner {
        namespace: object.namespace().unwrap_or_default(),
        uid: object.uid().unwrap_or_default(),
    };
    for operation in &plan.registry {
        ctx.registry.apply(operation, ctx.epoch).await?;
    }
    for child in &plan.apply {
        children::put(ctx, &owner, child).await?;
    }
    for child in &plan.delete {
        children::delete(ctx, &owner, child).await?;
    }
    if object.state() != Some(&plan.status) {
        status(ctx, object, &plan.status).await?;
    }
    let regarding = object.object_ref(&());
    for event in &plan.events {
        ctx.events.publish(&regarding, event).await;
    }
    Ok(())
}

/// Writes the whole status. The UID keeps the status of an object from its successor of the same
/// name; an object that is gone needs none.
pub async fn status<K: Kind>(ctx: &Context, object: &K, status: &K::State) -> Result<(), ApplyError> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::NAME,
        "metadata": {"name": name, "namespace": namespace, "uid": object.uid()},
        "status": status,
    });
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    let written = ctx.api::<K>(&namespace).patch_status(&name, &params, &Patch::Apply(&body)).await;
    match written.map_err(|source| call_error("write the status of", K::NAME, &namespace, &name, source)) {
        Ok(_) => {
            ctx.metrics.wrote("status", K::PLURAL);
            Ok(())
        }
        // deleted, or deleted and made anew: the watch tells about the successor
        Err(error) if error.is_not_found() || error.is_conflict() => {
            tracing::debug!(%error, "status of an object that is gone");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
