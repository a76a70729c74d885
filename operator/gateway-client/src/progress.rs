//! Posting progress without ever holding up the work.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use vitrine_contract::report::Progress;

use crate::client::Client;

/// Least time between two posts.
const INTERVAL: Duration = Duration::from_secs(1);

/// Posts the newest progress, once a second at most, from a thread of its own. What comes while a post is under way
/// replaces what was waiting; a failed post is forgotten. Dropping it sends what still waits (one
/// try) and ends the thread.
#[derive(Debug)]
pub struct ProgressPoster {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    newest: Option<Progress>,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProgressPoster {
    /// Starts the thread. Without one (the system refuses), progress is not posted: it is never
    /// worth a training.
    pub fn start(client: Client) -> Self {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let run = move || post_until_closed(&client, &of_thread);
        let thread = std::thread::Builder::new().name("progress".into()).spawn(run).ok();
        Self { shared, thread }
    }

    /// Hands over the newest progress; returns at once.
    pub fn post(&self, progress: Progress) {
        self.shared.lock().newest = Some(progress);
        self.shared.changed.notify_one();
    }
}

impl Drop for ProgressPoster {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn post_until_closed(client: &Client, shared: &Shared) {
    loop {
        let mut state = shared.lock();
        while state.newest.is_none() && !state.closed {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let Some(newest) = state.newest.take() else { return };
        drop(state);
        // Lost progress is made good by the next post, and the end by the result.
        let _ = client.post_progress(&newest);
        let state = shared.lock();
        let _pause = shared.changed.wait_timeout_while(state, INTERVAL, |state| !state.closed);
    }
}
