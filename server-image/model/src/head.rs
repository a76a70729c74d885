//! Classifiers: what is trained with which hyperparameters, and what scores rows.

use serde::{Deserialize, Serialize};

use crate::csr::Csr;
use crate::trees::{Boosted, Forest, GradientBoosting, RandomForest, boost, forest};
use crate::{logreg, naive_bayes, parallel, svm};

/// Score of a class that was not among the rows learnt from, where weights cannot say so: below
/// anything that they give, and finite.
pub(crate) const NEVER: f32 = -1e9;

/// Rows scored as one piece of parallel work.
const ROWS_PER_PIECE: usize = 256;

/// A model family and its hyperparameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Algorithm {
    /// One-vs-rest linear SVM, squared hinge loss, L2 penalty; see [`svm`].
    LinearSvm {
        /// Inverse regularisation strength, as in scikit-learn.
        c: f64,
    },
    /// Multinomial logistic regression with L2 penalty; see [`logreg`].
    LogisticRegression {
        /// Inverse regularisation strength, as in scikit-learn.
        c: f64,
    },
    /// Complement naive Bayes; see [`naive_bayes`].
    ComplementNaiveBayes {
        /// Additive smoothing, as in scikit-learn.
        alpha: f64,
    },
    /// Random forest; see [`forest`].
    RandomForest {
        /// Number of trees.
        trees: u32,
        /// Most divisions between a root and a leaf.
        max_depth: u32,
    },
    /// Gradient boosting of trees with a softmax loss; see [`boost`].
    GradientBoosting {
        /// Trees of each class.
        rounds: u32,
        /// Most divisions between a root and a leaf.
        max_depth: u32,
        /// What every leaf's value is multiplied with.
        learning_rate: f64,
    },
}

/// Why nothing could be trained.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TrainError {
    /// A hyperparameter is not a positive number.
    #[error("{name} {value} must be a positive finite number")]
    Hyperparameter {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// A family that counts met a value below zero.
    #[error("the feature matrix holds a negative value, and complementNaiveBayes counts terms")]
    NegativeValue,
    /// The labels and the rows do not fit each other.
    #[error(
        "{rows} rows with {labels} labels, {distinct} distinct ones of {classes} classes; at least 2 distinct labels below the number of classes are needed"
    )]
    Labels {
        /// Rows of the matrix.
        rows: usize,
        /// Labels given.
        labels: usize,
        /// Distinct labels among them.
        distinct: usize,
        /// Number of classes.
        classes: usize,
    },
    /// The matrix holds NaN, infinity or columns that do not exist.
    #[error("the feature matrix holds a value that is not finite, or a column that does not exist")]
    UnsoundMatrix,
    /// The weights left the range of numbers.
    #[error("the weights became infinite or NaN with {name} {value}; try one nearer to 1")]
    NonFinite {
        /// Name of the hyperparameter.
        name: &'static str,
        /// Its value.
        value: f64,
    },
}

/// A trained classifier and how its solver ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted<H = Head> {
    /// The classifier.
    pub head: H,
    /// Passes over the rows (SVM: most of any class), iterations (logistic regression) or trees.
    pub passes: u32,
    /// False when the solver stopped at its limit of passes, before its tolerance.
    pub converged: bool,
}

/// What a solver needs: rows, class of each row (`0..classes`), number of classes.
#[derive(Debug, Clone, Copy)]
pub struct Problem<'a> {
    /// Features of the rows.
    pub x: &'a Csr,
    /// Class of each row.
    pub y: &'a [u32],
    /// Number of classes; a class without rows is allowed and never wins.
    pub classes: usize,
}

impl Problem<'_> {
    /// Can this be trained at all, with a hyperparameter of that name and value?
    pub(crate) fn check(&self, name: &'static str, value: f64) -> Result<(), TrainError> {
        if !(value.is_finite() && value > 0.0) {
            return Err(TrainError::Hyperparameter { name, value });
        }
        let mut present = vec![false; self.classes];
        let mut in_range = self.x.rows() == self.y.len();
        for &class in self.y {
            match present.get_mut(class as usize) {
                Some(seen) => *seen = true,
                None => in_range = false,
            }
        }
        let distinct = present.iter().filter(|&&seen| seen).count();
        if !in_range || distinct < 2 {
            let (rows, labels, classes) = (self.x.rows(), self.y.len(), self.classes);
            return Err(TrainError::Labels { rows, labels, distinct, classes });
        }
        if self.x.is_sound() { Ok(()) } else { Err(TrainError::UnsoundMatrix) }
    }
}

impl Algorithm {
    /// Names and values of the hyperparameters.
    pub fn hyperparameters(&self) -> Vec<(&'static str, f64)> {
        match *self {
            Self::LinearSvm { c } | Self::LogisticRegression { c } => vec![("c", c)],
            Self::ComplementNaiveBayes { alpha } => vec![("alpha", alpha)],
            Self::RandomForest { trees, max_depth } => {
                vec![("trees", f64::from(trees)), ("maxDepth", f64::from(max_depth))]
            }
            Self::GradientBoosting { rounds, max_depth, learning_rate } => vec![
                ("rounds", f64::from(rounds)),
                ("maxDepth", f64::from(max_depth)),
                ("learningRate", learning_rate),
            ],
        }
    }

    /// Trains with the default tolerances. Equal arguments give equal bits, whatever `threads` is.
    pub fn fit(&self, problem: Problem<'_>, seed: u64, threads: usize) -> Result<Fitted, TrainError> {
        let linear = match *self {
            Self::LinearSvm { c } => {
                svm::fit(problem, &svm::Settings { c, seed, ..Default::default() }, threads)?
            }
            Self::LogisticRegression { c } => {
                logreg::fit(problem, &logreg::Settings { c, ..Default::default() }, threads)?
            }
            Self::ComplementNaiveBayes { alpha } => naive_bayes::fit(problem, alpha)?,
            Self::RandomForest { trees, max_depth } => {
                let head = forest::fit(problem, &RandomForest { trees, max_depth }, seed, threads)?;
                return Ok(Fitted { head: Head::Forest(head), passes: trees, converged: true });
            }
            Self::GradientBoosting { rounds, max_depth, learning_rate } => {
                let settings = GradientBoosting { rounds, max_depth, learning_rate };
                let head = boost::fit(problem, &settings, threads)?;
                return Ok(Fitted { head: Head::Boosted(head), passes: rounds, converged: true });
            }
        };
        let Fitted { head, passes, converged } = linear;
        Ok(Fitted { head: Head::Linear(head), passes, converged })
    }
}

/// A trained classifier of any family.
#[derive(Debug, Clone, PartialEq)]
pub enum Head {
    /// One weight for each feature and class.
    Linear(LinearHead),
    /// A random forest.
    Forest(Forest),
    /// Boosted trees.
    Boosted(Boosted),
}

impl Head {
    /// Number of classes.
    pub fn classes(&self) -> usize {
        match self {
            Self::Linear(head) => head.classes,
            Self::Forest(head) => head.classes,
            Self::Boosted(head) => head.classes,
        }
    }

    /// Number of features.
    pub fn features(&self) -> usize {
        match self {
            Self::Linear(head) => head.features,
            Self::Forest(head) => head.features,
            Self::Boosted(head) => head.features,
        }
    }

    /// Scores of every row, `[row][class]`; the highest is the predicted class's.
    pub fn scores(&self, x: &Csr, threads: usize) -> Vec<f32> {
        match self {
            Self::Linear(head) => head.scores(x, threads),
            Self::Forest(head) => head.scores(x, threads),
            Self::Boosted(head) => head.scores(x, threads),
        }
    }
}

/// Weights `[feature][class]` (row-major) and one intercept per class.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearHead {
    /// Number of classes.
    pub classes: usize,
    /// Number of features.
    pub features: usize,
    /// `features * classes` weights.
    pub weights: Vec<f32>,
    /// `classes` intercepts.
    pub intercepts: Vec<f32>,
}

impl LinearHead {
    /// Scores of every row, `[row][class]`.
    pub fn scores(&self, x: &Csr, threads: usize) -> Vec<f32> {
        score_rows(
            x,
            self.classes,
            threads,
            || (),
            |indices, values, (), out| {
                score_row(&self.weights, &self.intercepts, indices, values, out);
            },
        )
    }

    pub(crate) fn is_finite(&self) -> bool {
        self.weights.iter().chain(&self.intercepts).all(|w| w.is_finite())
    }
}

/// Scores of every row, `[row][class]`, in pieces on at most `threads` threads. `score` gets a row, what
/// `scratch` made for its piece, and a place for each class.
pub(crate) fn score_rows<S>(
    x: &Csr,
    classes: usize,
    threads: usize,
    scratch: impl Fn() -> S + Sync,
    score: impl Fn(&[u32], &[f32], &mut S, &mut [f32]) + Sync,
) -> Vec<f32> {
    let mut out = vec![0.0; x.rows() * classes];
    parallel::map_chunks(&mut out, ROWS_PER_PIECE * classes, threads, |start, chunk| {
        let (first, mut scratch) = (start / classes, scratch());
        for (i, scores) in chunk.chunks_exact_mut(classes).enumerate() {
            let (indices, values) = x.row(first + i);
            score(indices, values, &mut scratch, scores);
        }
    });
    out
}

/// Scores of one row: the one scoring loop, for training and serving. `out` has one place per class.
/// Feature-major: the weights of a feature for all classes lie together.
pub(crate) fn score_row(
    weights: &[f32],
    intercepts: &[f32],
    indices: &[u32],
    values: &[f32],
    out: &mut [f32],
) {
    out.copy_from_slice(intercepts);
    let classes = out.len();
    for (&feature, &value) in indices.iter().zip(values) {
        let start = feature as usize * classes;
        for (score, weight) in out.iter_mut().zip(&weights[start..start + classes]) {
            *score += weight * value;
        }
    }
}

/// The highest score's class of every row; the first of equal ones.
pub fn argmax(scores: &[f32], classes: usize) -> Vec<u32> {
    scores.chunks_exact(classes).map(|row| best(row) as u32).collect()
}

/// Position of the highest value; the first of equal ones.
pub(crate) fn best(row: &[f32]) -> usize {
    let mut best = 0;
    for (i, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = i;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::{Algorithm, LinearHead, Problem, TrainError, argmax};
    use crate::csr::Csr;

    fn rows() -> Csr {
        Csr { indptr: vec![0, 1, 3], indices: vec![1, 0, 1], values: vec![2.0, 1.0, -1.0], columns: 2 }
    }

    #[test]
    fn scores_are_intercept_plus_weights() {
        let head = LinearHead {
            classes: 2,
            features: 2,
            weights: vec![1.0, 2.0, 3.0, 4.0],
            intercepts: vec![0.5, -0.5],
        };
        assert_eq!(head.scores(&rows(), 1), [6.5, 7.5, -1.5, -2.5]);
        assert_eq!(argmax(&head.scores(&rows(), 2), 2), [1, 0]);
    }

    #[test]
    fn the_first_of_equal_scores_wins() {
        assert_eq!(argmax(&[1.0, 1.0, 0.0, 0.0, 2.0, 2.0], 3), [0, 1]);
    }

    #[test]
    fn problems_that_cannot_be_trained_are_refused() {
        let x = rows();
        let svm = Algorithm::LinearSvm { c: 1.0 };
        let fit = |algorithm: Algorithm, y: &[u32], classes| {
            algorithm.fit(Problem { x: &x, y, classes }, 0, 1).err()
        };
        assert_eq!(fit(svm, &[0, 1], 2), None);
        assert!(matches!(fit(svm, &[0], 2), Some(TrainError::Labels { labels: 1, .. })));
        assert!(matches!(fit(svm, &[0, 0], 2), Some(TrainError::Labels { distinct: 1, .. })));
        assert!(matches!(fit(svm, &[0, 2], 2), Some(TrainError::Labels { .. })));
        for c in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            for algorithm in [Algorithm::LinearSvm { c }, Algorithm::LogisticRegression { c }] {
                assert!(
                    matches!(fit(algorithm, &[0, 1], 2), Some(TrainError::Hyperparameter { name: "c", .. })),
                    "{c}"
                );
            }
        }
        let mut bad = rows();
        bad.values[0] = f32::INFINITY;
        let unsound = svm.fit(Problem { x: &bad, y: &[0, 1], classes: 2 }, 0, 1);
        assert_eq!(unsound.err(), Some(TrainError::UnsoundMatrix));
    }
}
