//! The pods' side of the artifact gateway and of siblings: token, trust, streamed and verified blobs.
//!
//! Blocking, so that the trainer needs no runtime; asynchronous callers use a blocking thread.
//! A pod trusts the operator's own certificate authority here and nothing else, and reads its
//! projected token again for each request, because the kubelet rotates it.
//!
//! What must not be done here: no decision about what a failure means for the pod (see
//! [`Error::exit_code`] for the contract's table), and no credential other than the token.

mod client;
mod digest;
mod error;
mod progress;
mod retry;

pub use client::{Client, DEFAULT_DEADLINE};
pub use digest::{digest_of_bytes, digest_of_file};
pub use error::Error;
pub use progress::ProgressPoster;
pub use retry::{jittered, jittered_within, pause};
