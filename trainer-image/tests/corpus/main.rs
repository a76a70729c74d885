#![allow(clippy::unwrap_used, clippy::panic, missing_docs, dead_code)]
//! Malformed data: every case is a source as somebody has it, and what must come of it. The real
//! program reads it in a process of its own with 512 MiB of address space and limits of time, beside a
//! gateway, and ends with a snapshot that counts what it left out or with an error that names the
//! file and the place: never with a panic, never for want of memory.
//!
//! The sources are made by code: nothing malformed is committed.

#[path = "../../../operator/gateway-client/tests/support/mod.rs"]
mod gateway;
#[path = "../support/mod.rs"]
mod support;

mod archives;
mod case;
mod made;
mod mutations;
mod pictures;
mod tables;
mod tables_large;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use case::Case;

/// Processes at a time.
const AT_A_TIME: usize = 2;

/// Runs all cases and then tells of every one that went otherwise.
fn run(cases: &[Case]) {
    let names: BTreeSet<_> = cases.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), cases.len(), "two cases of one name");
    let (next, wrong, slowest) =
        (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new((Duration::ZERO, "")));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let start = Instant::now();
                    if let Err(what) = case.check() {
                        wrong.lock().unwrap().push(format!("{}: {what}", case.name));
                    }
                    let mut slowest = slowest.lock().unwrap();
                    *slowest = (*slowest).max((start.elapsed(), case.name));
                }
            });
        }
    });
    println!("{} cases, the slowest: {:?}", cases.len(), slowest.lock().unwrap());
    let wrong = wrong.into_inner().unwrap();
    assert!(
        wrong.is_empty(),
        "{} of {} cases went otherwise:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

#[test]
fn malformed_tables() {
    run(&tables::cases());
}

#[test]
fn large_tables() {
    run(&tables_large::cases());
}

#[test]
fn malformed_pictures() {
    run(&pictures::cases());
}

#[test]
fn malformed_archives() {
    run(&archives::cases());
}
