//! Which Job belongs to an object now: its name follows from the object's UID, what the attempt is
//! for and its number, so that a create can be repeated after a crash.

use kube::ResourceExt as _;
use vitrine_crds::{Dataset, TrainingRun, names};

use crate::facts::{DatasetFacts, Reference};

/// What the attempts of a TrainingRun are for: its spec never changes.
pub const TRAIN_KEY: &str = "train";

/// One attempt: its number (from 1) and the name of its Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// From 1; above 1 only after a Job vanished.
    pub number: i32,
    /// Name of the Job and of its ConfigMap.
    pub job_name: String,
}

/// What the attempts of a Dataset are for: a generation of its spec and the snapshot digest of its
/// fixed test set, if it names one.
pub fn dataset_key(generation: i64, fixed_test: Option<&str>) -> String {
    format!("{generation}/{}", fixed_test.unwrap_or_default())
}

/// The attempt with a given number.
pub fn numbered(owner: &str, uid: &str, key: &str, number: i32) -> Attempt {
    Attempt { number, job_name: names::child_name(owner, &[uid, key, &number.to_string()]) }
}

/// The attempt that status names, if it is one of this key; else the first.
pub fn current(
    owner: &str,
    uid: &str,
    key: &str,
    status_job: Option<&str>,
    status_attempts: Option<i32>,
) -> Attempt {
    let named = status_attempts
        .filter(|n| *n >= 1)
        .map(|n| numbered(owner, uid, key, n))
        .filter(|a| Some(a.job_name.as_str()) == status_job);
    named.unwrap_or_else(|| numbered(owner, uid, key, 1))
}

/// The attempt after a given one.
pub fn next(owner: &str, uid: &str, key: &str, after: &Attempt) -> Attempt {
    numbered(owner, uid, key, after.number.saturating_add(1))
}

/// What a Dataset's attempts are for now; `None` while its fixed test set is not ready.
pub fn key_of_dataset(object: &Dataset, test: Option<&Reference<DatasetFacts>>) -> Option<String> {
    let generation = object.metadata.generation.unwrap_or_default();
    match (&object.spec.split.test, test) {
        (None, _) => Some(dataset_key(generation, None)),
        (Some(_), Some(Reference::Ready(facts))) => {
            Some(dataset_key(generation, Some(&facts.snapshot_digest)))
        }
        (Some(_), _) => None,
    }
}

/// The Job of a Dataset to look at; `None` while its fixed test set is not ready.
pub fn of_dataset(object: &Dataset, test: Option<&Reference<DatasetFacts>>) -> Option<Attempt> {
    let key = key_of_dataset(object, test)?;
    let status = object.status.as_ref();
    Some(current(
        &object.name_any(),
        object.metadata.uid.as_deref().unwrap_or_default(),
        &key,
        status.and_then(|s| s.job_name.as_deref()),
        status.and_then(|s| s.attempts),
    ))
}

/// The Job of a TrainingRun to look at.
pub fn of_training_run(object: &TrainingRun) -> Attempt {
    let status = object.status.as_ref();
    current(
        &object.name_any(),
        object.metadata.uid.as_deref().unwrap_or_default(),
        TRAIN_KEY,
        status.and_then(|s| s.job_name.as_deref()),
        status.and_then(|s| s.attempts),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_counted_on_only_from_its_own_job() {
        let second = numbered("run", "uid", TRAIN_KEY, 2);
        assert_eq!(current("run", "uid", TRAIN_KEY, Some(&second.job_name), Some(2)), second);
        let first = numbered("run", "uid", TRAIN_KEY, 1);
        // another generation's Job, another UID's Job, no Job, a number that was tampered with
        assert_eq!(current("run", "uid", TRAIN_KEY, Some("run-0123456789"), Some(2)), first);
        assert_eq!(current("run", "uid", TRAIN_KEY, None, Some(2)), first);
        assert_eq!(current("run", "uid", TRAIN_KEY, Some(&second.job_name), Some(-1)), first);
        assert_ne!(current("run", "other", TRAIN_KEY, Some(&second.job_name), Some(2)), second);
    }

    #[test]
    fn a_changed_spec_or_test_set_is_another_attempt() {
        let keys = [dataset_key(1, None), dataset_key(2, None), dataset_key(1, Some("sha256:a"))];
        assert_eq!(keys.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
    }
}
