//! The operator: the only room that talks to the cluster. It observes, carries out plans, keeps the
//! registry of models and runs the artifact gateway.
//!
//! Nothing is decided here: what should be true comes from `vitrine-plan`. A rule about conditions,
//! children or rollouts in this crate is in the wrong room.

pub mod apply;
pub mod backoff;
pub mod caches;
pub mod client;
pub mod config;
pub mod context;
pub mod controller;
pub mod error;
pub mod events;
pub mod failpoints;
pub mod gateway;
pub mod http;
pub mod index;
pub mod issuer;
pub mod kind;
pub mod lease;
pub mod metrics;
pub mod observe;
mod pruned;
pub mod queues;
pub mod rbac;
pub mod references;
pub mod registry;
pub mod relations;
pub mod run;
pub mod seen;
pub mod selftest;
pub mod store;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod undecodable;
pub mod watch;
