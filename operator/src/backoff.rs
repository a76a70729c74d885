//! How long to wait before a failed reconcile is tried again, per object.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// First wait.
const FIRST: Duration = Duration::from_secs(1);
/// Longest wait.
const LONGEST: Duration = Duration::from_mins(2);
/// Failures older than this say nothing about the next one.
const FORGET_AFTER: Duration = Duration::from_mins(10);
/// Entries beyond which old ones are looked for.
const PRUNE_AT: usize = 1024;

/// Failures in a row by object UID. Lives in memory: after a restart everything is tried at once,
/// which the bounded concurrency makes harmless.
#[derive(Debug, Default)]
pub struct Backoff(Mutex<HashMap<String, Failures>>);

#[derive(Clone, Copy, Debug)]
struct Failures {
    in_a_row: u32,
    generation: Option<i64>,
    last: Instant,
    until: Instant,
}

impl Backoff {
    /// Notes a failure of an object in a generation of its spec; returns how many there were in a row.
    pub fn failed(&self, uid: &str, generation: Option<i64>) -> u32 {
        self.failed_at(uid, generation, Instant::now())
    }

    fn failed_at(&self, uid: &str, generation: Option<i64>, now: Instant) -> u32 {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= PRUNE_AT {
            all.retain(|_, f| now.saturating_duration_since(f.last) < FORGET_AFTER);
        }
        let before = all.get(uid).map_or(0, |f| f.in_a_row);
        let in_a_row = before.saturating_add(1);
        let until = now + delay(in_a_row);
        all.insert(uid.to_owned(), Failures { in_a_row, generation, last: now, until });
        in_a_row
    }

    /// Forgets the failures of an object that was reconciled.
    pub fn succeeded(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// How long the object still has to wait. Events of its children do not shorten the wait: a
    /// cluster in trouble must not be asked more often for being in trouble. A changed spec does.
    pub fn wait(&self, uid: &str, generation: Option<i64>) -> Option<Duration> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = all.get(uid).filter(|f| f.generation == generation)?;
        let left = failures.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

/// Doubles from [`FIRST`] to [`LONGEST`]; half of it is chance, so that objects that failed together
/// do not come back together.
fn delay(in_a_row: u32) -> Duration {
    let doubled = FIRST.saturating_mul(2_u32.saturating_pow(in_a_row.saturating_sub(1)));
    doubled.min(LONGEST).mul_f64(0.5 + 0.5 * fastrand::f64())
}

/// The duration, at most a fifth longer or shorter.
pub fn jitter(duration: Duration) -> Duration {
    duration.mul_f64(0.8 + 0.4 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_are_bounded_and_differ() {
        for (failures, most) in [(1, 1), (2, 2), (5, 16), (8, 120), (4_000_000, 120)] {
            let waits: Vec<Duration> = (0..200).map(|_| delay(failures)).collect();
            let most = Duration::from_secs(most);
            assert!(waits.iter().all(|w| *w <= most && *w >= most / 2), "{failures}: {waits:?}");
            assert!(waits.iter().collect::<std::collections::HashSet<_>>().len() > 100, "jitter");
        }
    }

    #[test]
    fn success_starts_over() {
        let backoff = Backoff::default();
        let failed = |uid| backoff.failed(uid, Some(1));
        assert_eq!((failed("u"), failed("u"), failed("v")), (1, 2, 1));
        assert!(backoff.wait("u", Some(1)).is_some());
        backoff.succeeded("u");
        assert_eq!(backoff.wait("u", Some(1)), None);
        assert_eq!(backoff.failed("u", Some(1)), 1);
    }

    #[test]
    fn a_changed_spec_is_tried_at_once() {
        let backoff = Backoff::default();
        backoff.failed("u", Some(1));
        assert!(backoff.wait("u", Some(1)).is_some());
        assert_eq!(backoff.wait("u", Some(2)), None);
    }

    #[test]
    fn memory_does_not_grow_with_every_object_that_ever_failed() {
        let backoff = Backoff::default();
        let start = Instant::now();
        for i in 0..PRUNE_AT {
            backoff.failed_at(&i.to_string(), None, start);
        }
        backoff.failed_at("new", None, start + FORGET_AFTER);
        assert_eq!(backoff.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        let base = Duration::from_mins(10);
        assert!(
            (0..1000).map(|_| jitter(base)).all(|d| d >= base.mul_f64(0.799) && d <= base.mul_f64(1.201))
        );
    }
}
