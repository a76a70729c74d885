//! Trying again: exponential waits with full jitter, until a deadline.

use std::hash::{BuildHasher, RandomState};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::error::Error;

/// Upper bound of the first wait.
const FIRST: Duration = Duration::from_millis(200);
/// Upper bound of every wait.
const LONGEST: Duration = Duration::from_secs(10);
/// Tries of a request whose failure is likely but not surely final.
const LIMITED_TRIES: u32 = 3;

/// How one try failed.
pub(crate) enum Failure {
    /// Trying again cannot help.
    Final(Error),
    /// Trying again helps seldom: a few tries (a torn transfer, a cache that lags behind).
    Likely(Error),
    /// Trying again helps sooner or later.
    Transient {
        /// What happened.
        cause: String,
        /// Least time that the gateway asked for.
        after: Option<Duration>,
    },
}

/// Runs `attempt` until it succeeds, fails for good, or `limit` has passed. Each try is told how
/// much time is left.
pub(crate) fn retry<T>(
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut(Duration) -> Result<T, Failure>,
) -> Result<T, Error> {
    let start = Instant::now();
    let mut tries = 0;
    loop {
        tries += 1;
        let left = limit.saturating_sub(start.elapsed()).max(Duration::from_millis(1));
        let (error, least) = match attempt(left) {
            Ok(value) => return Ok(value),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Likely(error)) if tries >= LIMITED_TRIES => return Err(error),
            Err(Failure::Likely(error)) => (error, None),
            Err(Failure::Transient { cause, after }) => {
                let seconds = start.elapsed().as_secs();
                (Error::Unavailable { what: what.to_owned(), tries, seconds, cause }, after)
            }
        };
        let wait = jittered(tries).max(least.unwrap_or_default().min(LONGEST));
        if start.elapsed() + wait >= limit {
            return Err(error);
        }
        pause(wait);
    }
}

/// Runs `attempt` once, with so much time.
pub(crate) fn once<T>(
    what: &str,
    limit: Duration,
    attempt: impl FnOnce(Duration) -> Result<T, Failure>,
) -> Result<T, Error> {
    let start = Instant::now();
    attempt(limit).map_err(|failure| match failure {
        Failure::Final(error) | Failure::Likely(error) => error,
        Failure::Transient { cause, .. } => {
            Error::Unavailable { what: what.to_owned(), tries: 1, seconds: start.elapsed().as_secs(), cause }
        }
    })
}

/// A random part of a bound that doubles with each try ("full jitter"), so that pods that lost the
/// gateway together do not come back together. `tries` counts from 1.
pub fn jittered(tries: u32) -> Duration {
    jittered_within(tries, LONGEST)
}

/// As [`jittered`], with another upper bound.
pub fn jittered_within(tries: u32, longest: Duration) -> Duration {
    let bound = FIRST.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(longest);
    // The standard library seeds its hasher from the system's randomness: enough for a wait.
    let random = RandomState::new().hash_one(tries);
    bound.mul_f64(0.1 + 0.9 * (random as f64 / u64::MAX as f64))
}

/// Waits; there is nothing to be woken by.
pub fn pause(wait: Duration) {
    let (_open, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(wait);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transient<T>() -> Result<T, Failure> {
        Err(Failure::Transient { cause: "down".into(), after: None })
    }

    #[test]
    fn waits_grow_stay_bounded_and_differ() {
        for tries in 1..40 {
            for longest in [LONGEST, Duration::from_mins(1)] {
                let bound = longest.min(FIRST * (1 << (tries - 1).min(16)));
                let wait = jittered_within(tries, longest);
                assert!(wait <= bound && wait >= bound / 11, "{tries}: {wait:?}");
            }
            assert!(jittered(tries) <= LONGEST);
        }
        let waits: Vec<_> = (0..8).map(|_| jittered(6)).collect();
        assert!(waits.iter().any(|w| *w != waits[0]), "{waits:?}");
    }

    #[test]
    fn a_transient_failure_is_tried_until_it_passes() {
        let mut left = 2;
        let value = retry("x", Duration::from_mins(1), |_| {
            left -= 1;
            if left == 0 { Ok(7) } else { transient() }
        });
        assert_eq!(value.unwrap(), 7);
    }

    #[test]
    fn the_deadline_ends_it_with_the_count_and_the_last_cause() {
        let mut tries = 0;
        let error = retry::<()>("GET x", Duration::from_millis(400), |_| {
            tries += 1;
            transient()
        })
        .unwrap_err();
        let Error::Unavailable { tries: told, cause, .. } = error else { panic!("{error}") };
        assert_eq!((told, cause.as_str()), (tries, "down"));
    }

    #[test]
    fn a_likely_final_failure_is_tried_three_times_and_a_final_one_once() {
        for (likely, expected) in [(true, 3), (false, 1)] {
            let mut tries = 0;
            let error = retry::<()>("x", Duration::from_mins(1), |_| {
                tries += 1;
                let error = Error::NotFound { what: "x".into() };
                Err(if likely { Failure::Likely(error) } else { Failure::Final(error) })
            });
            assert!(matches!(error, Err(Error::NotFound { .. })));
            assert_eq!(tries, expected);
        }
    }
}
