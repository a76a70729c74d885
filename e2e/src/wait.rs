//! Waiting: until a fact holds, never for a fixed time.

use std::time::{Duration, Instant};

/// Polls until `probe` gives a value; panics with `what` and the probe's last word after the limit.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(last) => {
                assert!(start.elapsed() < limit, "gave up after {limit:?} waiting for {what}: {last}");
            }
        }
        // (each look starts a kubectl, and several stories look at a time)
        pause(Duration::from_millis(200));
    }
}

/// Lets time pass between two looks, or while a quiet period is observed.
pub fn pause(time: Duration) {
    #[allow(clippy::disallowed_methods)] // between two looks at a cluster there is nothing else to wait on
    std::thread::sleep(time);
}

/// Seconds, for readable limits.
pub fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
