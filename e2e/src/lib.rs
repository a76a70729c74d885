//! Helpers of the end-to-end tests: `kubectl` as a user calls it, a namespace of its own for each
//! story, waiting on conditions, a prober, the audit log, and evidence when something fails.
//!
//! Nothing here decides whether Vitrine is right; the tests in `tests/` do. These are tests: a
//! broken premise panics with the evidence.
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)] // test code

pub mod audit;
pub mod kubectl;
pub mod manifests;
pub mod operator;
pub mod prober;
pub mod story;
pub mod turn;
pub mod wait;
