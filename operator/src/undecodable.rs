//! Objects that this build cannot read, for example because the schema was tightened after they
//! were stored. They are set aside, and told once per version of the object: by a condition and an
//! event where their author looks.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::json;
use tokio::sync::Notify;
use vitrine_crds::condition::{Reason, clip};
use vitrine_crds::names;
use vitrine_plan::status::{Kind, undecodable};
use vitrine_plan::{Event, EventType};

use crate::apply::{status_params, status_patch};
use crate::context::Context;
use crate::error::brief;
use crate::watch::Unreadable;

/// Most characters of a parser's message that help.
const MAX_ERROR: usize = 512;
/// Most objects that are remembered: beyond it they are told again after the next list.
const MAX_KNOWN: usize = 4096;
/// Longest time to tell about one object.
const DEADLINE: Duration = Duration::from_secs(15);

/// The objects found so far.
#[derive(Debug, Default)]
pub struct Undecodable {
    known: Mutex<HashMap<String, Found>>,
    more: Notify,
}

#[derive(Clone, Debug)]
struct Found {
    kind: Kind,
    unreadable: Unreadable,
    told: bool,
}

impl Undecodable {
    /// Notes an object; one that was told before in the same version stays told.
    pub fn note(&self, kind: Kind, unreadable: Unreadable) {
        let Some(uid) = unreadable.meta.uid.clone() else { return };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.retain(|_, found| !found.told);
        }
        let before = known.get(&uid);
        let told = before.is_some_and(|f| f.told && f.unreadable.is_as(&unreadable));
        known.insert(uid, Found { kind, unreadable, told });
        self.more.notify_one();
    }

    fn next(&self) -> Option<Found> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().find(|found| !found.told).cloned()
    }

    /// Notes that this form of the object was told; there may be another one by now.
    fn told(&self, was: &Found) {
        let uid = was.unreadable.meta.uid.as_deref().unwrap_or_default();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get_mut(uid).filter(|found| found.unreadable.is_as(&was.unreadable)) {
            found.told = true;
        }
    }

    /// Tells about every object, for as long as this process leads. Best effort: what cannot be
    /// told is in the log.
    pub async fn tell(&self, ctx: &Context) {
        loop {
            while let Some(found) = self.next() {
                let meta = &found.unreadable.meta;
                let (name, namespace) =
                    (meta.name.clone().unwrap_or_default(), meta.namespace.clone().unwrap_or_default());
                let kind = kind_name(found.kind);
                tracing::error!(
                    kind,
                    namespace,
                    name,
                    error = found.unreadable.error,
                    "object cannot be read; it is left alone"
                );
                if tokio::time::timeout(DEADLINE, tell_one(ctx, &found, kind, &namespace, &name))
                    .await
                    .is_err()
                {
                    tracing::warn!(
                        kind,
                        namespace,
                        name,
                        "no answer while telling about an object that cannot be read"
                    );
                }
                self.told(&found);
            }
            self.more.notified().await;
        }
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Dataset => "Dataset",
        Kind::TrainingRun => "TrainingRun",
        Kind::ModelDeployment => "ModelDeployment",
    }
}

async fn tell_one(ctx: &Context, found: &Found, kind: &'static str, namespace: &str, name: &str) {
    let meta = &found.unreadable.meta;
    let message = format!(
        "this operator cannot read the resource ({}): correct the field and apply it again",
        clip(&found.unreadable.error, MAX_ERROR)
    );
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(names::GROUP, names::VERSION, kind));
    let api: Api<DynamicObject> = Api::namespaced_with(ctx.client.clone(), namespace, &resource);
    let status = json!({
        "observedGeneration": meta.generation,
        "conditions": undecodable(found.kind, meta.generation, &message, &Context::now()),
    });
    let written = match status_patch(meta.uid.as_deref().unwrap_or_default(), &status) {
        Ok(patch) => api.patch_status(name, &status_params(), &patch).await.map(|_| ()),
        Err(error) => Err(kube::Error::SerdeError(error)),
    };
    if let Err(error) = written {
        tracing::warn!(kind, namespace, name, error = brief(&error), "condition not written");
    }
    let reference = ObjectReference {
        api_version: Some(resource.api_version.clone()),
        kind: Some(kind.to_owned()),
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        uid: meta.uid.clone(),
        ..ObjectReference::default()
    };
    let event = Event { type_: EventType::Warning, reason: Reason::InvalidSpec, action: "Read", message };
    ctx.events.publish(&reference, &event).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(generation: i64) -> Unreadable {
        let meta =
            serde_json::from_value(json!({"name": "d", "uid": "u", "generation": generation})).unwrap();
        Unreadable { meta, error: "e".into() }
    }

    #[test]
    fn an_object_is_told_once_per_generation() {
        let all = Undecodable::default();
        all.note(Kind::Dataset, found(1));
        let first = all.next().unwrap();
        all.told(&first);
        all.note(Kind::Dataset, found(1));
        assert!(all.next().is_none(), "a relist tells nothing new");
        all.note(Kind::Dataset, found(2));
        assert!(all.next().is_some());
        all.told(&first);
        assert!(all.next().is_some(), "what came while the first was told is not told yet");
    }
}
