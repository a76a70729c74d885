//! Owner references, labels and the common metadata of children: the one home of all three.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::{Resource, ResourceExt as _};
use vitrine_crds::names;

/// Label of a Kueue queue; copied from our resource to its Jobs.
pub const QUEUE_LABEL: &str = "kueue.x-k8s.io/queue-name";
/// First characters that a resource's name may have: child names and label values start with it.
const NAME_START: std::ops::RangeInclusive<u8> = b'a'..=b'z';

/// Who owns a child: what every child's metadata needs of the object that is reconciled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Namespace.
    pub namespace: String,
    /// Generation of its spec.
    pub generation: i64,
    /// Queue that the user chose with [`QUEUE_LABEL`].
    pub queue: Option<String>,
    api_version: String,
}

impl Owner {
    /// The owner that an object is.
    pub fn of<K: Resource<DynamicType = ()>>(object: &K) -> Self {
        Self {
            kind: K::kind(&()).into_owned(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            namespace: object.namespace().unwrap_or_default(),
            generation: object.meta().generation.unwrap_or_default(),
            queue: object.labels().get(QUEUE_LABEL).cloned(),
            api_version: K::api_version(&()).into_owned(),
        }
    }

    /// Kind and name in one text, such as `TrainingRun/demo`.
    pub fn who(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }

    /// Labels of a child in a role ([`names::ROLE_INGEST`], ...).
    pub fn labels(&self, role: &str) -> BTreeMap<String, String> {
        [
            (names::LABEL_MANAGED_BY, names::MANAGED_BY),
            (names::LABEL_COMPONENT, role),
            (names::LABEL_INSTANCE, &self.name),
            (names::LABEL_OWNER_UID, &self.uid),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
    }

    /// Metadata of a child: name, labels and the reference that removes it with its owner.
    pub fn child(&self, name: &str, role: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels(role)),
            owner_references: Some(vec![OwnerReference {
                api_version: self.api_version.clone(),
                kind: self.kind.clone(),
                name: self.name.clone(),
                uid: self.uid.clone(),
                controller: Some(true),
                // a child never holds up its owner's deletion
                block_owner_deletion: Some(false),
            }]),
            ..ObjectMeta::default()
        }
    }

    /// Says why the name cannot be used, if it cannot: the schema's rule, checked again for objects
    /// that were stored before it.
    pub fn invalid_name(&self) -> Option<String> {
        let bytes = self.name.as_bytes();
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        let good = bytes.len() <= names::MAX_NAME
            && bytes.first().is_some_and(|b| NAME_START.contains(b))
            && bytes.last().is_some_and(|b| *b != b'-')
            && bytes.iter().all(inner);
        (!good).then(|| vitrine_crds::common::NAME_MESSAGE.to_owned())
    }
}

/// The controller of an object; the API allows one at most.
pub fn controller(object: &ObjectMeta) -> Option<&OwnerReference> {
    object.owner_references.as_deref().unwrap_or_default().iter().find(|o| o.controller == Some(true))
}

/// Is an owner of one of our kinds, in whatever version?
pub fn is_ours(owner: &OwnerReference) -> bool {
    owner.api_version.split_once('/').is_some_and(|(group, _)| group == names::GROUP)
}

/// Is the object with this UID the controller of a child?
pub fn owned_by(child: &ObjectMeta, uid: &str) -> bool {
    controller(child).is_some_and(|o| o.uid == uid)
}

/// A time without the part below a second: the API stores none, and what is written must equal what
/// is read back.
pub fn whole_seconds(time: &Time) -> Time {
    let second = time.0.as_second();
    Time(k8s_openapi::jiff::Timestamp::from_second(second).unwrap_or(time.0))
}

/// A time some seconds later.
pub fn later(time: &Time, seconds: i64) -> Time {
    let second = time.0.as_second().saturating_add(seconds);
    Time(k8s_openapi::jiff::Timestamp::from_second(second).unwrap_or(time.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> Owner {
        Owner {
            kind: "Dataset".into(),
            name: name.into(),
            uid: "u".into(),
            namespace: "n".into(),
            generation: 1,
            queue: None,
            api_version: "vitrine.dev/v1alpha1".into(),
        }
    }

    #[test]
    fn names_follow_the_rule_of_the_schema() {
        for good in ["a", "shoes-2", &"a".repeat(52)] {
            assert_eq!(owner(good).invalid_name(), None, "{good}");
        }
        for bad in ["", "2shoes", "a.b", "a-", "-a", "A", &"a".repeat(53)] {
            assert!(owner(bad).invalid_name().is_some(), "{bad}");
        }
    }

    #[test]
    fn only_the_controller_with_the_same_uid_owns_a_child() {
        let child = owner("a").child("a-1", names::ROLE_INGEST);
        assert!(owned_by(&child, "u"));
        assert!(!owned_by(&child, "other"));
        let mut plain = child;
        plain.owner_references.as_mut().unwrap()[0].controller = None;
        assert!(!owned_by(&plain, "u"));
        assert!(!owned_by(&ObjectMeta::default(), "u"));
    }

    #[test]
    fn our_kinds_are_those_of_our_group_in_any_version() {
        let of = |api_version: &str| OwnerReference { api_version: api_version.into(), ..Default::default() };
        for ours in ["vitrine.dev/v1alpha1", "vitrine.dev/v2"] {
            assert!(is_ours(&of(ours)), "{ours}");
        }
        for other in ["v1", "apps/v1", "vitrine.dev", "x.vitrine.dev/v1", ""] {
            assert!(!is_ours(&of(other)), "{other}");
        }
    }
}
