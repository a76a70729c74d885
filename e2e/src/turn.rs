//! Whose turn it is: most stories have a namespace of their own and run several at a time; those that stop,
//! kill, replace or load what all share run alone, after the others.
//!
//! Which of them a story is, it says itself; nothing here knows a story.

use std::cell::Cell;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Stories beside each other unless `VITRINE_E2E_STORIES` says otherwise; they mostly wait for pods.
const BESIDE: usize = 8;

struct Table {
    /// Shared turns that are taken.
    shared: usize,
    /// Those of them that need none of the machine.
    resting: usize,
    /// Stories that wait for a shared turn.
    waiting: usize,
    /// Whether one story has the cluster for itself.
    alone: bool,
}

static TABLE: Mutex<Table> = Mutex::new(Table { shared: 0, resting: 0, waiting: 0, alone: false });
static CHANGED: Condvar = Condvar::new();

thread_local! {
    /// Turns of this thread, which is one story: only the first of them has to wait.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// A turn, until it is dropped.
#[must_use = "a turn ends when it is dropped"]
pub struct Turn {
    resting: bool,
}

fn table() -> MutexGuard<'static, Table> {
    // a story that fails must not take the others along
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait(table: MutexGuard<'static, Table>, not_yet: impl Fn(&Table) -> bool) -> MutexGuard<'static, Table> {
    CHANGED.wait_while(table, |table| not_yet(table)).unwrap_or_else(PoisonError::into_inner)
}

fn take(resting: bool, first: impl FnOnce()) -> Turn {
    if HELD.get() == 0 {
        first();
    }
    HELD.set(HELD.get() + 1);
    Turn { resting }
}

/// A turn beside other stories.
pub fn beside() -> Turn {
    let limit = std::env::var("VITRINE_E2E_STORIES").map_or(BESIDE, |n| {
        n.parse().unwrap_or_else(|_| panic!("VITRINE_E2E_STORIES is {n:?}, which is no number"))
    });
    take(false, || {
        let mut table = table();
        table.waiting += 1;
        let mut table = wait(table, |t| t.alone || t.shared - t.resting >= limit.max(1));
        table.waiting -= 1;
        table.shared += 1;
    })
}

/// A turn beside others that takes the place of none: for a story that observes what does not happen.
pub fn resting() -> Turn {
    take(true, || {
        let mut table = wait(table(), |t| t.alone);
        table.shared += 1;
        table.resting += 1;
    })
}

/// A turn with no other story, after those that may run side by side; to be taken by who holds no turn.
pub fn alone() -> Turn {
    assert_eq!(HELD.get(), 0, "a story that has a shared turn would wait for itself");
    take(false, || wait(table(), |t| t.alone || t.shared > 0 || t.waiting > 0).alone = true)
}

impl Drop for Turn {
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
        if HELD.get() > 0 {
            return;
        }
        let mut table = table();
        if table.alone {
            table.alone = false;
        } else {
            table.shared -= 1;
            table.resting -= usize::from(self.resting);
        }
        drop(table);
        CHANGED.notify_all();
    }
}
