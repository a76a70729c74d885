//! Ingest and training Jobs.
//!
//! `ingest` turns the user's table into a snapshot (Parquet), a manifest and a profile; `train`
//! turns a snapshot into a model and a report. Both run as a pod that speaks the contract
//! ([`pod`]) or alone on files ([`cli`]).
//!
//! What must not be done here: no text processing, no solver and no metric of its own (they are
//! `vitrine-model`'s, so that the server does the same), no Kubernetes, no runtime, and nothing
//! that makes a snapshot or a model depend on time, on the machine or on the number of threads.

pub mod archive;
pub mod cli;
pub mod error;
pub mod fetch;
mod fixed_test;
pub mod folder;
pub mod grid;
pub mod guard;
pub mod ingest;
pub mod labels;
pub mod manifest;
pub mod message;
pub mod meter;
pub mod pictures;
pub mod pod;
pub mod profile;
pub mod report;
mod rows;
pub mod search;
pub mod snapshot;
pub mod sniff;
pub mod split;
pub mod table;
pub mod train;
pub mod training_data;
pub mod usage;

pub use error::Error;
