//! How long a source is waited for, and trying again.

use std::time::{Duration, Instant};

use vitrine_gateway_client::{jittered_within, pause};

use crate::Error;

/// How long a source is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Time to connect.
    pub connect: Duration,
    /// Longest silence within a transfer.
    pub silence: Duration,
    /// Time in which a transfer must bring [`Patience::least`] bytes.
    pub window: Duration,
    /// Least bytes of a window.
    pub least: u64,
    /// Time without that progress after which the source is given up.
    pub give_up: Duration,
    /// Upper bound of every wait between two tries.
    pub longest: Duration,
}

impl Default for Patience {
    /// A restart of the store must not fail an ingest, and a mistyped host must be told within minutes.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            window: Duration::from_mins(1),
            least: 64 << 10,
            give_up: Duration::from_mins(2),
            longest: Duration::from_secs(10),
        }
    }
}

/// How one try failed.
#[derive(Debug)]
pub enum Failure {
    /// Trying again cannot help.
    Final(Error),
    /// The file is not what it was when its transfer began: trying again begins anew.
    Changed(String),
    /// Trying again helps sooner or later.
    Passing {
        /// What happened, without anything secret in it.
        cause: String,
        /// Least time that the source asked for.
        after: Option<Duration>,
    },
}

impl Failure {
    /// A failure that may pass.
    pub fn passing(cause: impl Into<String>) -> Self {
        Self::Passing { cause: cause.into(), after: None }
    }
}

/// Runs `attempt` until it succeeds, fails for good, or time has passed without progress. An attempt
/// says itself how many bytes it has brought so far, those of earlier tries once; `note` is told why there is a wait.
pub fn persist<T>(
    what: &str,
    patience: &Patience,
    note: &dyn Fn(&str),
    mut attempt: impl FnMut(&mut u64) -> Result<T, Failure>,
) -> Result<T, Error> {
    let start = Instant::now();
    let (mut since, mut brought, mut counted, mut tries, mut row) = (start, 0, 0, 0_u32, 0);
    loop {
        tries += 1;
        row += 1;
        let (cause, after) = match attempt(&mut brought) {
            Ok(value) => return Ok(value),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Changed(cause)) => (cause, None),
            Err(Failure::Passing { cause, after }) => (cause, after),
        };
        if brought >= counted + patience.least {
            (since, counted, row) = (Instant::now(), brought, 1);
        }
        let wait =
            jittered_within(row, patience.longest).max(after.unwrap_or_default().min(patience.longest));
        if since.elapsed() + wait >= patience.give_up {
            let seconds = start.elapsed().as_secs();
            return Err(Error::SourceUnavailable(format!(
                "{what}: {cause}; given up after {tries} tries in {seconds} s"
            )));
        }
        note(&format!("{what}: {cause}; try {} follows", tries + 1));
        pause(wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short() -> Patience {
        Patience { give_up: Duration::from_millis(400), least: 10, ..Patience::default() }
    }

    #[test]
    fn a_source_that_stays_away_is_given_up_with_its_cause_and_the_count() {
        let notes = std::cell::RefCell::new(Vec::new());
        let note = |text: &str| notes.borrow_mut().push(text.to_owned());
        let error = persist::<()>("reading X from h", &short(), &note, |_| Err(Failure::passing("refused")));
        let text = error.unwrap_err().to_string();
        assert!(text.starts_with("reading X from h: refused; given up after "), "{text}");
        assert_eq!(notes.borrow()[0], "reading X from h: refused; try 2 follows");
    }

    #[test]
    fn whoever_makes_progress_is_waited_for() {
        let (mut tries, start) = (0, Instant::now());
        let result = persist("x", &short(), &|_| {}, |brought| {
            tries += 1;
            *brought += 10;
            // longer than is waited without progress
            if start.elapsed() > Duration::from_millis(900) { Ok(()) } else { Err(Failure::passing("cut")) }
        });
        assert!(result.is_ok() && tries > 2, "{result:?} after {tries}");
        let trickle = persist::<()>("x", &short(), &|_| {}, |brought| {
            *brought += 1;
            Err(Failure::passing("cut"))
        });
        assert!(matches!(trickle, Err(Error::SourceUnavailable(_))));
    }

    #[test]
    fn what_cannot_help_is_not_tried_again() {
        let mut tries = 0;
        let error = persist::<()>("x", &short(), &|_| {}, |_| {
            tries += 1;
            Err(Failure::Final(Error::SourceNotFound("gone".into())))
        });
        assert!(matches!(error, Err(Error::SourceNotFound(_))) && tries == 1);
    }
}
