//! The objects of a kind by what they refer to, so that a change never looks through all objects of the
//! cluster for those that it matters to. Children (`index.rs`) refer to their owner.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use kube::Resource;
use kube::runtime::reflector::{ObjectRef, Store};

/// Namespace of the object, and what it refers to there.
type Target = (String, String);

/// What an object refers to in its own namespace, by name or UID, if to anything.
type Name<K> = fn(&K) -> Option<&str>;

/// A cache with its index. Cheap to clone.
#[derive(Clone)]
pub struct Referring<K: Resource<DynamicType = ()> + 'static> {
    store: Store<K>,
    name: Name<K>,
    index: Arc<RwLock<Index<K>>>,
}

/// Both ways, because an object may come to refer to something else. Each name is held once: with
/// thousands of objects they are what the index costs.
struct Index<K: Resource<DynamicType = ()> + 'static> {
    objects: HashMap<Arc<Target>, HashSet<Arc<ObjectRef<K>>>>,
    targets: HashMap<Arc<ObjectRef<K>>, Arc<Target>>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> std::fmt::Debug for Referring<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Referring").finish_non_exhaustive()
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Referring<K> {
    /// An index over a store; whoever writes the store keeps the index by [`Self::put`],
    /// [`Self::remove`] and [`Self::rebuild`].
    pub fn new(store: Store<K>, name: Name<K>) -> Self {
        Self { store, name, index: Arc::new(RwLock::new(Index::new())) }
    }

    /// The store below.
    pub fn store(&self) -> &Store<K> {
        &self.store
    }

    /// The objects of a namespace that refer to that name, by name.
    pub fn to(&self, namespace: &str, name: &str) -> Vec<Arc<K>> {
        let target = (namespace.to_owned(), name.to_owned());
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let refs = index.objects.get(&target).into_iter().flatten();
        let mut found: Vec<Arc<K>> = refs.filter_map(|r| self.store.get(r)).collect();
        found.sort_by(|a, b| a.meta().name.cmp(&b.meta().name));
        found
    }

    /// Notes an object; gives the name that it referred to before, if that was another one.
    pub fn put(&self, object: &K) -> Option<String> {
        self.index.write().unwrap_or_else(PoisonError::into_inner).put(object, self.name)
    }

    /// Forgets an object.
    pub fn remove(&self, object: &K) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.remove(&reference(object));
    }

    /// Starts again from what the store holds, after it was listed anew.
    pub fn rebuild(&self) {
        let mut index = Index::new();
        for object in self.store.state() {
            index.put(&*object, self.name);
        }
        // at once: nobody finds half of it
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = index;
    }
}

impl<K: Resource<DynamicType = ()> + 'static> Index<K> {
    fn new() -> Self {
        Self { objects: HashMap::new(), targets: HashMap::new() }
    }

    fn put(&mut self, object: &K, name: Name<K>) -> Option<String> {
        let reference = reference(object);
        let namespace = object.meta().namespace.clone().unwrap_or_default();
        let target = name(object).map(|name| (namespace, name.to_owned()));
        if self.targets.get(&reference).map(|target| &**target) == target.as_ref() {
            return None;
        }
        let left = self.remove(&reference);
        if let Some(target) = target {
            let known = self.objects.get_key_value(&target).map(|(known, _)| known.clone());
            let (target, reference) = (known.unwrap_or_else(|| Arc::new(target)), Arc::new(reference));
            self.objects.entry(target.clone()).or_default().insert(reference.clone());
            self.targets.insert(reference, target);
        }
        left
    }

    fn remove(&mut self, reference: &ObjectRef<K>) -> Option<String> {
        let target = self.targets.remove(reference)?;
        if let Some(objects) = self.objects.get_mut(&target) {
            objects.remove(reference);
            if objects.is_empty() {
                self.objects.remove(&target);
            }
        }
        Some(target.1.clone())
    }
}

/// Namespace and name alone; `from_obj` would keep the UID and the version too.
fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectRef<K> {
    let meta = object.meta();
    ObjectRef::new(meta.name.as_deref().unwrap_or_default())
        .within(meta.namespace.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use kube::ResourceExt as _;
    use kube::runtime::reflector::{self, store::Writer};
    use kube::runtime::watcher::Event;

    fn pod(namespace: &str, name: &str, node: Option<&str>) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.namespace = Some(namespace.into());
        pod.metadata.name = Some(name.into());
        pod.spec = Some(k8s_openapi::api::core::v1::PodSpec {
            node_name: node.map(ToOwned::to_owned),
            ..Default::default()
        });
        pod
    }

    fn index() -> (Referring<Pod>, Writer<Pod>) {
        let (store, writer) = reflector::store();
        (Referring::new(store, |pod: &Pod| pod.spec.as_ref()?.node_name.as_deref()), writer)
    }

    fn names(referring: &Referring<Pod>, namespace: &str, node: &str) -> Vec<String> {
        referring.to(namespace, node).iter().map(|pod| pod.name_any()).collect()
    }

    #[test]
    fn an_object_is_found_by_what_it_refers_to_now_and_in_its_namespace() {
        let (referring, mut writer) = index();
        let put = |writer: &mut Writer<Pod>, pod: Pod| {
            writer.apply_watcher_event(&Event::Apply(pod.clone()));
            referring.put(&pod)
        };
        for (namespace, name, node) in
            [("a", "two", Some("n")), ("a", "one", Some("n")), ("b", "far", Some("n")), ("a", "free", None)]
        {
            assert_eq!(put(&mut writer, pod(namespace, name, node)), None);
        }
        assert_eq!(names(&referring, "a", "n"), ["one", "two"]);
        assert_eq!(put(&mut writer, pod("a", "one", Some("m"))).as_deref(), Some("n"), "what it left");
        assert_eq!(put(&mut writer, pod("a", "two", Some("n"))), None);
        assert_eq!(names(&referring, "a", "n"), ["two"]);
        assert_eq!(names(&referring, "a", "m"), ["one"]);
        put(&mut writer, pod("a", "one", None));
        assert_eq!(names(&referring, "a", "m"), [""; 0]);
    }

    #[test]
    fn nothing_is_left_of_what_is_gone_and_a_list_begins_anew() {
        let (referring, mut writer) = index();
        let one = pod("a", "one", Some("n"));
        writer.apply_watcher_event(&Event::Apply(one.clone()));
        referring.put(&one);
        referring.remove(&one);
        assert_eq!(names(&referring, "a", "n"), [""; 0]);
        let left = |r: &Referring<Pod>| {
            let index = r.index.read().unwrap();
            (index.objects.len(), index.targets.len())
        };
        assert_eq!(left(&referring), (0, 0));
        referring.rebuild();
        assert_eq!(names(&referring, "a", "n"), ["one"]);
        assert_eq!(left(&referring), (1, 1));
    }
}
