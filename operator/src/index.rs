//! Children by the UID of their owner, so that a reconcile never looks through all objects of the
//! cluster.

use std::sync::Arc;

use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt as _};
use vitrine_crds::names;
use vitrine_plan::meta::owned_by;

use crate::references::Referring;

/// A cache of children with its index. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Children<K: Resource<DynamicType = ()> + Clone + 'static>(Referring<K>);

impl<K: Resource<DynamicType = ()> + Clone + 'static> Children<K> {
    /// An index over a store; whoever writes the store keeps the index, [`Self::index`].
    pub fn new(store: Store<K>) -> Self {
        Self(Referring::new(store, |child| child.labels().get(names::LABEL_OWNER_UID).map(String::as_str)))
    }

    /// The index by the owner that the label names.
    pub fn index(&self) -> &Referring<K> {
        &self.0
    }

    /// The store below.
    pub fn store(&self) -> &Store<K> {
        self.0.store()
    }

    /// The child of that name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.store().get(&ObjectRef::new(name).within(namespace))
    }

    /// Children in a namespace whose label names that owner, by name. The label is only the index:
    /// who needs to be sure compares the owner reference.
    pub fn labelled(&self, namespace: &str, owner_uid: &str) -> Vec<Arc<K>> {
        self.0.to(namespace, owner_uid)
    }

    /// Children whose controller is that owner, by name.
    pub fn owned(&self, namespace: &str, owner_uid: &str) -> Vec<Arc<K>> {
        let mut found = self.labelled(namespace, owner_uid);
        found.retain(|child| owned_by(child.meta(), owner_uid));
        found
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
            children.index().put(&map);
        }
        let names = |list: Vec<Arc<ConfigMap>>| list.iter().map(|c| c.name_any()).collect::<Vec<_>>();
        assert_eq!(names(children.labelled("ns", "one")), ["a", "forged"]);
        assert_eq!(names(children.owned("ns", "one")), ["a"]);
        children.index().remove(&child("a", "one", "one"));
        assert!(children.owned("ns", "one").is_empty());
        children.index().rebuild();
        assert_eq!(names(children.owned("ns", "one")), ["a"]);
    }
}
