//! Carries a plan out, in the order of its fields: registry, children, deletes, status, events.
//! Nothing is decided here; a step that fails ends the pass, and the next pass observes anew.

mod children;

use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use vitrine_crds::names;
use vitrine_plan::Plan;

use crate::context::{Context, call_error};
use crate::error::{ApplyError, CallError};
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

/// Writes the whole status; an object that is gone needs none.
pub async fn status<K: Kind>(ctx: &Context, object: &K, status: &K::State) -> Result<(), ApplyError> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let failed = |source| call_error("write the status of", K::NAME, &namespace, &name, source);
    let uid = object.uid().unwrap_or_default();
    let patch = status_patch(&uid, status).map_err(|e| failed(kube::Error::SerdeError(e)))?;
    let written = ctx.api::<K>(&namespace).patch_status(&name, &status_params(), &patch).await;
    match written.map_err(failed) {
        Ok(_) => {
            ctx.metrics.wrote("status", K::PLURAL);
            Ok(())
        }
        Err(error) if error.is_not_found() => {
            gone(&error);
            Ok(())
        }
        // a refusal of the test is a successor of the same name: its own events tell about it
        Err(error) if error.is_conflict() || error.is_invalid() => {
            let live = ctx.get_live::<K>(K::NAME, &namespace, &name).await?;
            if live.is_some_and(|live| live.uid() == object.uid()) {
                return Err(error.into());
            }
            gone(&error);
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// The write of a whole status, for the object with this UID only. Server-side apply cannot say that: the
/// status of a custom resource is written whatever UID the applied object names, and the successor of a
/// deleted object would get its predecessor's status.
pub fn status_patch(uid: &str, status: &impl serde::Serialize) -> Result<Patch<()>, serde_json::Error> {
    let operations = json!([
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "add", "path": "/status", "value": status},
    ]);
    Ok(Patch::Json(serde_json::from_value(operations)?))
}

/// Who writes status.
pub fn status_params() -> PatchParams {
    PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// Nobody reads the status of an object that does not exist.
fn gone(error: &CallError) {
    tracing::debug!(%error, "status of an object that is gone");
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
