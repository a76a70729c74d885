//! One watch: keeps a cache, tells what changed, and reports every error of the stream.

use std::fmt::Debug;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event};
use serde::de::DeserializeOwned;
use vitrine_crds::names;

use crate::error::brief_watch;
use crate::metrics::Metrics;

/// What happened to a cache.
#[derive(Debug)]
pub enum Change<'a, K> {
    /// An object appeared, or changed from an older form.
    Put {
        /// As it is.
        new: &'a K,
        /// As it was.
        old: Option<&'a K>,
    },
    /// An object is gone.
    Gone(&'a K),
    /// Everything was listed anew after the first time: anything may have happened in between.
    Relisted,
    /// Everything was listed for the first time.
    Listed,
}

/// An object as it comes from the wire; one that cannot be read must not stop the others.
pub trait Incoming: Clone + Debug + DeserializeOwned + Send + 'static {
    /// What is cached.
    type Object: Resource<DynamicType = ()> + Clone + Send + Sync + 'static;
    /// The object without what nobody reads, or the reason why it cannot be read.
    fn object(self) -> Result<Self::Object, Box<Unreadable>>;
    /// Does the difference between two forms of an object matter to anybody?
    fn wakes(_old: &Self::Object, _new: &Self::Object) -> bool {
        true
    }
}

/// An object that this build cannot read.
#[derive(Clone, Debug, PartialEq)]
pub struct Unreadable {
    /// Its metadata.
    pub meta: ObjectMeta,
    /// Why.
    pub error: String,
}

impl Unreadable {
    /// Is that the same form of the object? The generation says so and not the resource version, which
    /// changes when its author is told.
    pub fn is_as(&self, other: &Self) -> bool {
        self.meta.generation == other.meta.generation && self.error == other.error
    }
}

impl<K> Incoming for DeserializeGuard<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    type Object = K;

    fn object(self) -> Result<K, Box<Unreadable>> {
        match self.0 {
            Ok(mut object) => {
                prune(object.meta_mut());
                Ok(object)
            }
            Err(invalid) => Err(Box::new(Unreadable { meta: invalid.metadata, error: invalid.error })),
        }
    }
}

/// Drops what no decision reads and what is often the largest part of an object.
pub fn prune(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove(names::ANNOTATION_LAST_APPLIED);
    }
}

/// Runs until the stream ends: a watch that is polled recovers by itself.
pub async fn run<W, S>(
    resource: &'static str,
    stream: S,
    mut writer: Writer<W::Object>,
    metrics: Metrics,
    mut on_change: impl FnMut(Change<'_, W::Object>),
    mut on_unreadable: impl FnMut(Unreadable),
) where
    W: Incoming,
    S: Stream<Item = Result<Event<W>, watcher::Error>>,
{
    let mut stream = std::pin::pin!(stream);
    let mut listed = false;
    while let Some(item) = stream.next().await {
        let event = match item {
            Ok(event) => event,
            Err(error) => {
                metrics.watch_error(resource);
                tracing::warn!(resource, error = brief_watch(&error), "watch failed; trying again");
                continue;
            }
        };
        match decode(event) {
            Ok(event) => {
                let old = match &event {
                    Event::Apply(new) => cached(&writer, new.meta()),
                    _ => None,
                };
                let old = old.as_deref();
                writer.apply_watcher_event(&event);
                match &event {
                    Event::Apply(new) if old.is_some_and(|old| !W::wakes(old, new)) => {}
                    Event::Apply(new) => on_change(Change::Put { new, old }),
                    Event::Delete(object) => on_change(Change::Gone(object)),
                    Event::InitDone if listed => on_change(Change::Relisted),
                    Event::InitDone => {
                        listed = true;
                        on_change(Change::Listed);
                    }
                    // cached only when the list is complete
                    Event::Init | Event::InitApply(_) => {}
                }
            }
            Err(Undecoded { unreadable, deleted }) => {
                // its last readable form must not be acted upon, least of all after its deletion
                if let Some(last) = cached(&writer, &unreadable.meta) {
                    writer.apply_watcher_event(&Event::Delete((*last).clone()));
                    on_change(Change::Gone(&last));
                }
                if !deleted {
                    metrics.unreadable(resource);
                    on_unreadable(*unreadable);
                }
            }
        }
    }
}

fn cached<K: Resource<DynamicType = ()> + Clone + 'static>(
    writer: &Writer<K>,
    meta: &ObjectMeta,
) -> Option<Arc<K>> {
    let mut key = ObjectRef::<K>::new(meta.name.as_deref()?);
    key.namespace.clone_from(&meta.namespace);
    writer.as_reader().get(&key)
}

struct Undecoded {
    unreadable: Box<Unreadable>,
    deleted: bool,
}

/// The event with a readable object.
fn decode<W: Incoming>(event: Event<W>) -> Result<Event<W::Object>, Undecoded> {
    let kept = |unreadable| Undecoded { unreadable, deleted: false };
    Ok(match event {
        Event::Apply(object) => Event::Apply(object.object().map_err(kept)?),
        Event::InitApply(object) => Event::InitApply(object.object().map_err(kept)?),
        Event::Delete(object) => {
            Event::Delete(object.object().map_err(|unreadable| Undecoded { unreadable, deleted: true })?)
        }
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    })
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
