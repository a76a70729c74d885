//! When and how to stop: signals, as one value that the server watches.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How to stop; later values are stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Not at all.
    No,
    /// Let clients move on, then finish.
    Drain,
    /// Finish what is under way.
    Finish,
    /// At once.
    Now,
}

/// SIGTERM drains, SIGINT finishes; any second one ends at once.
pub fn on_signals() -> std::io::Result<watch::Receiver<Stop>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, receiver) = watch::channel(Stop::No);
    tokio::spawn(async move {
        loop {
            let first = tokio::select! {
                _ = terminate.recv() => Stop::Drain,
                _ = interrupt.recv() => Stop::Finish,
            };
            sender.send_modify(|stop| *stop = if *stop == Stop::No { first } else { Stop::Now });
        }
    });
    Ok(receiver)
}
