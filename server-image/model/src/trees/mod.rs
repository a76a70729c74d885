//! Decision trees over sparse rows: a random forest ([`forest`]) and gradient boosting ([`boost`]).
//!
//! Both learn from the same binned matrix ([`bins`]), look at the entries of chosen features in a
//! node through the same door ([`gather`]) and give the same flat node arrays ([`tree`]). What a
//! node's rows are summed in is integers, so that no order of additions can change a bit of a
//! model: bootstrap counts in the forest, gradients in fixed point in boosting.
//!
//! What an absent entry means differs, as it does in the programs whose results these reach: the
//! forest reads it as 0, boosting as unknown, with a direction that each split learns.

pub mod boost;
pub mod forest;
pub mod tree;

mod bins;
mod gain;
mod gather;
mod gini;

pub use boost::{Boosted, GradientBoosting};
pub use forest::{Forest, RandomForest};
pub use tree::{Scratch, TreeError, Trees};

#[cfg(test)]
mod samples;
