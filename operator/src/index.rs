//! Children by the UID of their owner, so that a reconcile never looks through all objects of the
//! cluster.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};

use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt as _};
use vitrine_crds::names;
use vitrine_plan::meta::owned_by;

type Owned<K> = HashMap<String, HashSet<ObjectRef<K>>>;
type Owners<K> = Arc<RwLock<Owned<K>>>;

/// A cache of children with its index. Cheap to clone.
#[derive(Clone)]
pub struct Children<K: Resource<DynamicType = ()> + 'static> {
    store: Store<K>,
    owners: Owners<K>,
}

impl<K: Resource<DynamicType = ()> + Clone + Hash + 'static> std::fmt::Debug for Children<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Children").finish_non_exhaustive()
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Children<K> {
    /// An index over a store; whoever writes the store keeps the index by [`Self::put`],
    /// [`Self::remove`] and [`Self::rebuild`].
    pub fn new(store: Store<K>) -> Self {
        Self { store, owners: Owners::default() }
    }

    /// The store below.
    pub fn store(&self) -> &Store<K> {
        &self.store
    }

    /// The child of that name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.store.get(&ObjectRef::new(name).within(namespace))
    }

    /// Children whose label names that owner, by name. The label is only the index: who needs to be
    /// sure compares the owner reference.
    pub fn labelled(&self, owner_uid: &str) -> Vec<Arc<K>> {
        let owners = self.owners.read().unwrap_or_else(PoisonError::into_inner);
        let refs = owners.get(owner_uid).into_iter().flatten();
        let mut found: Vec<Arc<K>> = refs.filter_map(|r| self.store.get(r)).collect();
        found.sort_by_key(|child| child.name_any());
        found
    }

    /// Children whose controller is that owner, by name.
    pub fn owned(&self, owner_uid: &str) -> Vec<Arc<K>> {
        let mut found = self.labelled(owner_uid);
        found.retain(|child| owned_by(child.meta(), owner_uid));
        found
    }

    /// Notes a child.
    pub fn put(&self, child: &K) {
        note(&mut self.owners.write().unwrap_or_else(PoisonError::into_inner), child);
    }

    /// Forgets a child.
    pub fn remove(&self, child: &K) {
        if let Some(uid) = child.labels().get(names::LABEL_OWNER_UID) {
            let mut owners = self.owners.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(refs) = owners.get_mut(uid) {
                refs.remove(&ObjectRef::from_obj(child));
                if refs.is_empty() {
                    owners.remove(uid);
                }
            }
        }
    }

    /// Starts again from what the store holds, after it was listed anew.
    pub fn rebuild(&self) {
        let mut owners = Owned::new();
        for child in self.store.state() {
            note(&mut owners, &*child);
        }
        // at once: a pass that found half of it would take a live child for a missing one
        *self.owners.write().unwrap_or_else(PoisonError::into_inner) = owners;
    }
}

fn note<K: Resource<DynamicType = ()> + 'static>(owners: &mut Owned<K>, child: &K) {
    if let Some(uid) = child.labels().get(names::LABEL_OWNER_UID) {
        owners.entry(uid.clone()).or_default().insert(ObjectRef::from_obj(child));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;

    fn child(name: &str, label: &str, owner: &str) -> ConfigMap {
        let mut map = ConfigMap::default();
        map.metadata.name = Some(name.into());
        map.metadata.namespace = Some("ns".into());
        map.metadata.labels = Some([(names::LABEL_OWNER_UID.to_owned(), label.to_owned())].into());
        map.metadata.owner_references = Some(vec![OwnerReference {
            uid: owner.into(),
            controller: Some(true),
            ..OwnerReference::default()
        }]);
        map
    }

    #[test]
    fn a_forged_label_does_not_make_a_child() {
        let (store, mut writer) = reflector::store();
        let children = Children::new(store);
        for map in [child("a", "one", "one"), child("forged", "one", "two"), child("b", "two", "two")] {
            writer.apply_watcher_event(&Event::Apply(map.clone()));
            children.put(&map);
        }
        let names = |list: Vec<Arc<ConfigMap>>| list.iter().map(|c| c.name_any()).collect::<Vec<_>>();
        assert_eq!(names(children.labelled("one")), ["a", "forged"]);
        assert_eq!(names(children.owned("one")), ["a"]);
        children.remove(&child("a", "one", "one"));
        assert!(children.owned("one").is_empty());
        children.rebuild();
        assert_eq!(names(children.owned("one")), ["a"]);
    }
}
