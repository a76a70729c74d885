//! Children by the UID of their owner, so that a reconcile never looks through all objects of the
//! cluster.

use std::sync::Arc;

use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt as _};
use vitrine_crds::names;
use vitrine_plan::meta::{controller, is_ours, owned_by};

use crate::references::Referring;

/// A cache of children with its index. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Children<K: Resource<DynamicType = ()> + Clone + 'static>(Referring<K>);

impl<K: Resource<DynamicType = ()> + Clone + 'static> Children<K> {
    /// An index over a store; whoever writes the store keeps the index, [`Self::index`].
    pub fn new(store: Store<K>) -> Self {
        Self(Referring::new(store, owner_uid))
    }

    /// The index by owner.
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

    /// Children in a namespace whose controller is that owner, or, where none of our kinds is their
    /// controller, whose label names it (Jobs keep no labels); by name. Anybody can write a label: who needs to be sure
    /// compares the owner reference.
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

/// A child stays its owner's when somebody takes the label away. Pods have only the label: a Job or a
/// ReplicaSet is their controller.
fn owner_uid<K: Resource<DynamicType = ()>>(child: &K) -> Option<&str> {
    let ours = controller(child.meta()).filter(|owner| is_ours(owner));
    let label = || child.labels().get(names::LABEL_OWNER_UID).map(String::as_str);
    ours.map(|owner| owner.uid.as_str()).or_else(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
    use kube::runtime::reflector::{self, store::Writer};
    use kube::runtime::watcher::Event;

    fn child(name: &str, label: Option<&str>, api: &str, owner: &str) -> ConfigMap {
        let mut map = ConfigMap::default();
        map.metadata.name = Some(name.into());
        map.metadata.namespace = Some("ns".into());
        map.metadata.labels = label.map(|uid| [(names::LABEL_OWNER_UID.to_owned(), uid.to_owned())].into());
        map.metadata.owner_references = Some(vec![OwnerReference {
            api_version: api.into(),
            uid: owner.into(),
            controller: Some(true),
            ..OwnerReference::default()
        }]);
        map
    }

    fn put(writer: &mut Writer<ConfigMap>, children: &Children<ConfigMap>, map: &ConfigMap) {
        writer.apply_watcher_event(&Event::Apply(map.clone()));
        children.index().put(map);
    }

    fn names(list: &[Arc<ConfigMap>]) -> Vec<String> {
        list.iter().map(|c| c.name_any()).collect()
    }

    const OURS: &str = "vitrine.dev/v1alpha1";

    #[test]
    fn a_forged_label_makes_no_child_and_a_lost_one_loses_none() {
        let (store, mut writer) = reflector::store();
        let children = Children::new(store);
        put(&mut writer, &children, &child("a", Some("one"), OURS, "one"));
        put(&mut writer, &children, &child("forged", Some("one"), OURS, "two"));
        put(&mut writer, &children, &child("pod", Some("one"), "batch/v1", "job"));
        assert_eq!(names(&children.labelled("ns", "one")), ["a", "pod"]);
        assert_eq!(names(&children.owned("ns", "one")), ["a"]);
        assert_eq!(names(&children.owned("ns", "two")), ["forged"]);
        for label in [Some("two"), None] {
            put(&mut writer, &children, &child("a", label, OURS, "one"));
            assert_eq!(names(&children.owned("ns", "one")), ["a"], "{label:?}");
        }
    }

    #[test]
    fn a_child_is_found_in_its_namespace_until_it_is_forgotten() {
        let (store, mut writer) = reflector::store();
        let children = Children::new(store);
        let map = child("a", Some("one"), OURS, "one");
        put(&mut writer, &children, &map);
        assert_eq!(names(&children.labelled("other", "one")), [""; 0]);
        children.index().remove(&map);
        assert_eq!(names(&children.owned("ns", "one")), [""; 0]);
        children.index().rebuild();
        assert_eq!(names(&children.owned("ns", "one")), ["a"]);
    }
}
