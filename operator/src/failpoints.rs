//! Places around writes that no apiserver sees (database, blobs) where the fault campaign of `e2e/faults`
//! ends or stops this process. They do something only with the cargo feature `failpoints`, which no
//! release build has; a check of the images looks for it.
//!
//! `VITRINE_FAILPOINT=<name>:<nth>:<kill|stop>` acts at the nth time that a place is passed.
//! `VITRINE_FAILPOINT_TRACE=<file>` gets one line per place that is passed.

/// A place is passed.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn pass(_name: &'static str) {}

#[cfg(feature = "failpoints")]
pub use on::pass;

#[cfg(feature = "failpoints")]
mod on {
    use std::fs::File;
    use std::io::Write as _;
    use std::sync::{LazyLock, Mutex, PoisonError};
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};

    /// What was asked for, and how often its place was passed.
    struct Order {
        name: String,
        left: u32,
        signal: Signal,
    }

    /// More than a busy machine needs to stop a process.
    const TAKEN: Duration = Duration::from_secs(1);

    static ORDER: LazyLock<Mutex<Option<Order>>> = LazyLock::new(|| Mutex::new(order()));
    static TRACE: LazyLock<Option<Mutex<File>>> = LazyLock::new(|| {
        let path = std::env::var_os("VITRINE_FAILPOINT_TRACE")?;
        File::options().create(true).append(true).open(path).ok().map(Mutex::new)
    });

    fn order() -> Option<Order> {
        let text = std::env::var("VITRINE_FAILPOINT").ok()?;
        let mut words = text.split(':');
        let (name, nth, what) = (words.next()?, words.next()?, words.next()?);
        let signal = if what == "stop" { Signal::STOP } else { Signal::KILL };
        Some(Order { name: name.to_owned(), left: nth.parse().ok()?, signal })
    }

    /// A place is passed.
    pub fn pass(name: &'static str) {
        if let Some(trace) = &*TRACE {
            let mut file = trace.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = file.write_all(format!("{name}\n").as_bytes());
        }
        let mut order = ORDER.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(asked) = order.as_mut().filter(|o| o.name == name) else { return };
        asked.left = asked.left.saturating_sub(1);
        if asked.left == 0 {
            let signal = asked.signal;
            *order = None;
            // released first: a process that goes on after SIGCONT must find the lock free
            drop(order);
            let _ = kill_process(getpid(), signal);
            // another thread takes the signal, and until it does, this one would go on with the write
            #[allow(clippy::disallowed_methods)] // of a build that is never released
            std::thread::sleep(TAKEN);
        }
    }
}
