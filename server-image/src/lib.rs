//! The inference server: one model, mapped from its file, behind HTTP.
//!
//! ```text
//! cli -> config -> server ─┬─ load: sibling or gateway -> file -> digest, probes -> served model
//!                          ├─ conn -> http -> served model -> answer
//!                          └─ conn -> siblings -> file -> a pod that starts
//! ```
//!
//! What must not be done here: no preprocessing and no arithmetic on scores (both live in
//! `vitrine-model`, which the trainer calls too), no Kubernetes API, no write outside the work
//! folder and the termination log.

pub mod app;
pub mod cli;
pub mod config;
pub mod conn;
pub mod failure;
pub mod http;
pub mod load;
pub mod metrics;
pub mod process;
pub mod served;
pub mod server;
pub mod siblings;
pub mod stop;
