//! Complement naive Bayes (Rennie, Shih, Teevan, Karger: "Tackling the poor assumptions of naive Bayes text
//! classifiers", ICML 2003, sections 3.1 and 4.4 without the normalisation of weights): a class is judged by
//! how the rows of all other classes use a term, which suits classes of unlike size. The numbers are those
//! of scikit-learn's `ComplementNB(norm=False)`. Closed form: one pass over the rows.
//!
//! Weight of term `i` for class `k`: `-ln((alpha + sum of i outside of k) / (sum over all terms of the same))`,
//! less the mean of the term's weights over the classes that have rows. What all classes share decides
//! nothing, but grows with the length of a row, and no calibration could tell it from being sure (expected
//! calibration error of .64 on a real catalogue with it).

use crate::csr::Csr;
use crate::head::{Fitted, LinearHead, NEVER, Problem, TrainError};

/// Trains all classes. Values of the rows must not be negative: they count as often as a term occurs.
///
/// # Errors
/// `alpha` not positive and finite, labels that do not fit, a negative value.
pub fn fit(problem: Problem<'_>, alpha: f64) -> Result<Fitted<LinearHead>, TrainError> {
    problem.check("alpha", alpha)?;
    let Problem { x, y, classes } = problem;
    if x.values.iter().any(|&value| value < 0.0) {
        return Err(TrainError::NegativeValue);
    }
    let counts = Counts::of(x, y, classes);
    let mut head = LinearHead {
        classes,
        features: x.columns,
        weights: vec![0.0; x.columns * classes],
        intercepts: counts.rows.iter().map(|&rows| if rows == 0 { NEVER } else { 0.0 }).collect(),
    };
    let smoothed = alpha * x.columns as f64;
    let total: f64 = counts.all.iter().sum();
    let outside: Vec<f64> =
        counts.class_totals().iter().map(|own| libm::log(total + smoothed - own)).collect();
    let present: Vec<usize> = (0..classes).filter(|&class| counts.rows[class] > 0).collect();
    let mut exact = vec![0.0f64; classes];
    for (feature, weights) in head.weights.chunks_exact_mut(classes).enumerate() {
        let own = &counts.of_class[feature * classes..][..classes];
        for &class in &present {
            // never below alpha, whatever rounding did to the sums
            let complement = (counts.all[feature] - own[class]).max(0.0) + alpha;
            exact[class] = outside[class] - libm::log(complement);
        }
        let mean = present.iter().map(|&class| exact[class]).sum::<f64>() / present.len() as f64;
        for &class in &present {
            weights[class] = (exact[class] - mean) as f32;
        }
    }
    if !head.is_finite() {
        return Err(TrainError::NonFinite { name: "alpha", value: alpha });
    }
    Ok(Fitted { head, passes: 1, converged: true })
}

/// Sums of the rows' values.
struct Counts {
    /// By term.
    all: Vec<f64>,
    /// By term and class, `[feature][class]`.
    of_class: Vec<f64>,
    /// Rows of each class.
    rows: Vec<usize>,
}

impl Counts {
    fn of(x: &Csr, y: &[u32], classes: usize) -> Self {
        let mut counts = Self {
            all: vec![0.0; x.columns],
            of_class: vec![0.0; x.columns * classes],
            rows: vec![0; classes],
        };
        for (row, &class) in y.iter().enumerate() {
            counts.rows[class as usize] += 1;
            let (indices, values) = x.row(row);
            for (&feature, &value) in indices.iter().zip(values) {
                counts.all[feature as usize] += f64::from(value);
                counts.of_class[feature as usize * classes + class as usize] += f64::from(value);
            }
        }
        counts
    }

    fn class_totals(&self) -> Vec<f64> {
        let mut totals = vec![0.0; self.rows.len()];
        for own in self.of_class.chunks_exact(self.rows.len()) {
            for (total, value) in totals.iter_mut().zip(own) {
                *total += value;
            }
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::{NEVER, fit};
    use crate::csr::Csr;
    use crate::head::{Problem, TrainError, argmax};

    /// Rows {a: 2}, {a: 1, b: 1}, {b: 3}.
    fn rows() -> Csr {
        Csr {
            indptr: vec![0, 1, 3, 4],
            indices: vec![0, 0, 1, 1],
            values: vec![2.0, 1.0, 1.0, 3.0],
            columns: 2,
        }
    }

    #[test]
    fn weights_are_those_of_the_formula() {
        let x = rows();
        let fitted = fit(Problem { x: &x, y: &[0, 0, 1], classes: 2 }, 0.5).unwrap();
        // outside of class 0: a 0, b 3; of class 1: a 3, b 1
        let expected =
            [[(4.0f64 / 0.5).ln(), (5.0f64 / 3.5).ln()], [(4.0f64 / 3.5).ln(), (5.0f64 / 1.5).ln()]];
        for (got, expected) in fitted.head.weights.chunks_exact(2).zip(expected) {
            let apart = (expected[0] - expected[1]) / 2.0;
            for (got, expected) in got.iter().zip([apart, -apart]) {
                assert!((f64::from(*got) - expected).abs() < 1e-6, "{got} {expected}");
            }
        }
        assert_eq!(argmax(&fitted.head.scores(&x, 1), 2), [0, 0, 1]);
    }

    #[test]
    fn a_class_without_rows_never_wins() {
        let x = rows();
        let fitted = fit(Problem { x: &x, y: &[0, 0, 2], classes: 3 }, 1.0).unwrap();
        assert_eq!(fitted.head.intercepts, [0.0, NEVER, 0.0]);
        assert_eq!(argmax(&fitted.head.scores(&x, 1), 3), [0, 0, 2]);
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        let mut x = rows();
        for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let refused = fit(Problem { x: &x, y: &[0, 0, 1], classes: 2 }, alpha).err();
            assert!(matches!(refused, Some(TrainError::Hyperparameter { .. })), "{alpha}");
        }
        x.values[0] = -0.5;
        assert_eq!(
            fit(Problem { x: &x, y: &[0, 0, 1], classes: 2 }, 1.0).err(),
            Some(TrainError::NegativeValue)
        );
    }
}
