//! Bytes to features to scores, and the artifact format.
//!
//! The trainer and the server call the same functions of this crate, so a product gets the same
//! score in both. The path of one row is
//!
//! ```text
//! text columns -> Tokenizer -> n-grams -> Vocabulary -> tf-idf -> LinearHead -> Calibration
//! ```
//!
//! All of it is data inside one safetensors file (see [`artifact`]).
//!
//! What must not be done here: no network, no clock, no environment, no global state, no
//! randomness that is not seeded by an argument, and no arithmetic whose result depends on the
//! number of threads. `exp` and `ln` come from `libm` (plain Rust), because the C library picks
//! another variant on another processor and the digest of a model would follow it.

pub mod artifact;
pub mod calibrate;
pub mod corpus;
pub mod csr;
pub mod folds;
pub mod head;
pub mod logreg;
pub mod metrics;
pub mod model;
pub mod naive_bayes;
pub mod picture;
pub mod settings;
pub mod stopwords;
pub mod svm;
pub mod text;
pub mod tfidf;
pub mod trees;
pub mod vocab;

mod html;
mod parallel;
mod probes;
mod rng;
mod storage;
mod stored;

pub use artifact::{ArtifactError, Class, ModelInfo, sha256_file};
pub use calibrate::Calibration;
pub use corpus::{Corpus, Features, FitError};
pub use csr::Csr;
pub use folds::{FoldError, stratified_group_k_fold};
pub use head::{Algorithm, Fitted, Head, LinearHead, TrainError};
pub use metrics::Report;
pub use model::{Model, ModelParts, Prediction, Row, Scratch};
pub use probes::{PROBE_TOLERANCE, ProbeMismatch, probe_rows};
pub use settings::{CharSettings, SettingsError, Stemming, StopWords, TextSettings};
pub use text::{Tokenizer, Tokens};
pub use tfidf::Weighting;
pub use vocab::Vocabulary;
