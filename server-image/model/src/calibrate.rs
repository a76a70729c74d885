//! Decision scores to probabilities: `p_k = sigmoid(scale * score_k + offset)^power`, divided by
//! their sum. With `power` 1 this is Platt's sigmoid for each class (Platt: "Probabilistic outputs
//! for support vector machines", 1999), shared by the classes and normalised; with a very negative
//! offset it becomes a softmax with a temperature (Guo, Pleiss, Sun, Weinberger, ICML 2017).
//!
//! Why not the plain temperature: on one-vs-rest scores it is too sure where two classes compete
//! and too timid where none is convincing (expected calibration error of .05 to .07 on a real
//! catalogue, .02 to .03 with this). Why not one set of parameters for each class: the three are
//! shared, so the order of the classes is that of the scores and no metric of labels changes.
//!
//! The parameters are fitted to scores of rows that the scoring model has not seen (out-of-fold),
//! by BFGS on the log loss.

use serde::{Deserialize, Serialize};

use crate::head::NEVER;

/// Pull towards the start, so that scores which separate everything give finite parameters.
const RIDGE: f64 = 1e-5;
const MAX_ITERATIONS: usize = 100;
const TOLERANCE: f64 = 1e-6;

/// The fitted parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Calibration {
    /// Above 0.
    pub scale: f64,
    /// Any finite number.
    pub offset: f64,
    /// Above 0.
    pub power: f64,
}

impl Default for Calibration {
    fn default() -> Self {
        Self { scale: 1.0, offset: 0.0, power: 1.0 }
    }
}

/// Why nothing could be calibrated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CalibrationError {
    /// Scores are `[row][class]`, one label below `classes` a row.
    #[error("{scores} scores do not belong to {rows} labelled rows of {classes} classes")]
    Shape {
        /// Scores given.
        scores: usize,
        /// Labels given.
        rows: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A score is NaN or infinite.
    #[error("a decision score is not finite")]
    NonFinite,
}

impl Calibration {
    /// The parameters with the least log loss. `scores` are out-of-fold, `[row][class]`. A row says
    /// nothing where its class was not among those that the scoring head learnt ([`NEVER`]).
    pub fn fit(scores: &[f32], labels: &[u32], classes: usize) -> Result<Self, CalibrationError> {
        let (rows, in_range) = (labels.len(), labels.iter().all(|&k| (k as usize) < classes));
        if rows == 0 || !in_range || scores.len() != rows * classes {
            return Err(CalibrationError::Shape { scores: scores.len(), rows, classes });
        }
        if !scores.iter().all(|s| s.is_finite()) {
            return Err(CalibrationError::NonFinite);
        }
        let learnt = |row: usize| scores[row * classes + labels[row] as usize] > NEVER;
        if !(0..rows).all(learnt) {
            let rows: Vec<usize> = (0..rows).filter(|&row| learnt(row)).collect();
            let labels: Vec<u32> = rows.iter().map(|&row| labels[row]).collect();
            let scores: Vec<f32> =
                rows.iter().flat_map(|&row| &scores[row * classes..(row + 1) * classes]).copied().collect();
            return if rows.is_empty() { Ok(Self::default()) } else { Self::fit(&scores, &labels, classes) };
        }
        let (mut square, mut known) = (0.0, 0.0);
        for score in scores.iter().filter(|&&score| score > NEVER) {
            square += f64::from(*score) * f64::from(*score);
            known += 1.0;
        }
        let square: f64 = square / known;
        let start = [-0.5 * libm::log(square.max(1e-12)), 0.0, 0.0];
        let objective = |at: [f64; 3]| {
            let (mut loss, mut gradient) = mean_loss(scores, labels, classes, Self::at(at));
            for i in 0..3 {
                loss += 0.5 * RIDGE * (at[i] - start[i]) * (at[i] - start[i]);
                gradient[i] += RIDGE * (at[i] - start[i]);
            }
            (loss, gradient)
        };
        Ok(Self::at(bfgs(start, objective)))
    }

    /// From (ln scale, offset, ln power).
    fn at([scale, offset, power]: [f64; 3]) -> Self {
        Self { scale: libm::exp(scale), offset, power: libm::exp(power) }
    }

    /// True when it can be applied.
    pub(crate) fn is_sound(self) -> bool {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        positive(self.scale) && positive(self.power) && self.offset.is_finite()
    }

    /// Logarithm of a class's share before normalisation.
    fn log_share(self, score: f32) -> f64 {
        self.power * log_sigmoid(self.scale * f64::from(score) + self.offset)
    }

    /// Probabilities of one row of scores; they sum to 1 and have the order of the scores.
    pub fn apply(self, scores: &[f32], out: &mut [f32]) {
        // The greatest share is the greatest score's, because the shares grow with the scores.
        let most = self.log_share(scores.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let mut sum = 0.0;
        for (out, &score) in out.iter_mut().zip(scores) {
            let share = libm::exp(self.log_share(score) - most);
            sum += share;
            *out = share as f32;
        }
        for out in out.iter_mut() {
            *out = (f64::from(*out) / sum) as f32;
        }
    }

    /// [`Calibration::apply`] on every row.
    pub fn probabilities(self, scores: &[f32], classes: usize) -> Vec<f32> {
        let mut out = vec![0.0; scores.len()];
        for (scores, out) in scores.chunks_exact(classes).zip(out.chunks_exact_mut(classes)) {
            self.apply(scores, out);
        }
        out
    }
}

/// `ln(1 / (1 + e^-z))` without overflow.
fn log_sigmoid(z: f64) -> f64 {
    z.min(0.0) - libm::log1p(libm::exp(-z.abs()))
}

/// Mean log loss and its gradient in (ln scale, offset, ln power).
fn mean_loss(scores: &[f32], labels: &[u32], classes: usize, at: Calibration) -> (f64, [f64; 3]) {
    let (mut loss, mut gradient) = (0.0, [0.0; 3]);
    let mut shares = vec![0.0f64; classes];
    let mut probabilities = vec![0.0f64; classes];
    for (row, &label) in scores.chunks_exact(classes).zip(labels) {
        for (share, &score) in shares.iter_mut().zip(row) {
            *share = at.log_share(score);
        }
        let most = shares.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut sum = 0.0;
        for (p, share) in probabilities.iter_mut().zip(&shares) {
            *p = libm::exp(share - most);
            sum += *p;
        }
        let truth = label as usize;
        loss += libm::log(sum) + most - shares[truth];
        for class in 0..classes {
            let residual = probabilities[class] / sum - f64::from(u8::from(class == truth));
            // The derivative of ln sigmoid(z) is 1 - sigmoid(z), and sigmoid(z)^power = e^share.
            let slope = at.power * (1.0 - libm::exp(shares[class] / at.power));
            gradient[0] += residual * slope * at.scale * f64::from(row[class]);
            gradient[1] += residual * slope;
            gradient[2] += residual * shares[class];
        }
    }
    let n = labels.len() as f64;
    (loss / n, gradient.map(|g| g / n))
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// BFGS with Armijo backtracking (Nocedal, Wright: "Numerical Optimization", algorithm 6.1).
fn bfgs(start: [f64; 3], objective: impl Fn([f64; 3]) -> (f64, [f64; 3])) -> [f64; 3] {
    let identity = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let (mut at, mut inverse) = (start, identity);
    let (mut value, mut gradient) = objective(at);
    for _ in 0..MAX_ITERATIONS {
        if gradient.iter().all(|g| g.abs() <= TOLERANCE) {
            break;
        }
        let mut direction = inverse.map(|row| -dot(row, gradient));
        if dot(direction, gradient) >= 0.0 {
            inverse = identity;
            direction = gradient.map(|g| -g);
        }
        // No parameter moves by more than 2 at once: they are logarithms or like ones.
        let longest = direction.iter().fold(0.0f64, |most, d| most.max(d.abs()));
        let mut step = (2.0 / longest).min(1.0);
        let slope = dot(direction, gradient);
        let reached = (0..30).find_map(|_| {
            let next = [0, 1, 2].map(|i| at[i] + step * direction[i]);
            let (next_value, next_gradient) = objective(next);
            let enough = next_value <= value + 1e-4 * step * slope;
            step *= 0.5;
            enough.then_some((next, next_value, next_gradient))
        });
        let Some((next, next_value, next_gradient)) = reached else { break };
        let moved = [0, 1, 2].map(|i| next[i] - at[i]);
        let change = [0, 1, 2].map(|i| next_gradient[i] - gradient[i]);
        update(&mut inverse, moved, change);
        (at, value, gradient) = (next, next_value, next_gradient);
    }
    at
}

/// The BFGS update of the inverse Hessian; skipped where the curvature is not positive.
fn update(inverse: &mut [[f64; 3]; 3], moved: [f64; 3], change: [f64; 3]) {
    let curvature = dot(moved, change);
    if curvature <= 1e-14 {
        return;
    }
    let mapped = inverse.map(|row| dot(row, change));
    let factor = (1.0 + dot(change, mapped) / curvature) / curvature;
    for i in 0..3 {
        for j in 0..3 {
            inverse[i][j] +=
                factor * moved[i] * moved[j] - (mapped[i] * moved[j] + moved[i] * mapped[j]) / curvature;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Calibration, CalibrationError, mean_loss};
    use crate::metrics::{expected_calibration_error, log_loss};
    use crate::rng::Rng;

    /// Random scores and labels drawn from the probabilities that `truth` gives them.
    fn drawn(truth: Calibration) -> (Vec<f32>, Vec<u32>) {
        let mut rng = Rng::new(3, 0);
        let (mut scores, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..20_000 {
            let row: Vec<f32> = (0..5).map(|_| rng.below(3000) as f32 / 1000.0 - 2.0).collect();
            let mut p = [0.0; 5];
            truth.apply(&row, &mut p);
            let mut left = rng.below(1_000_000) as f32 / 1e6;
            let label = p.iter().position(|q| {
                left -= q;
                left < 0.0
            });
            labels.push(label.unwrap_or(4) as u32);
            scores.extend(row);
        }
        (scores, labels)
    }

    /// A class with one group of rows: the fold that holds them out never learnt it.
    #[test]
    fn rows_of_a_class_that_a_fold_never_learnt_spoil_nothing() {
        let (mut scores, mut labels) = (Vec::new(), Vec::new());
        for row in 0..300u32 {
            let (class, wave) = (row % 2, (row as f32 * 0.7).sin());
            let mut of_row = [10.0 + wave, 10.0 - wave, 7.0];
            of_row[class as usize] += 0.8;
            scores.extend(of_row);
            labels.push(class);
        }
        let without = Calibration::fit(&scores, &labels, 3).unwrap();
        scores.extend([11.0, 10.0, crate::head::NEVER]);
        labels.push(2);
        let with = Calibration::fit(&scores, &labels, 3).unwrap();
        assert_eq!(with, without);
        scores[5] = crate::head::NEVER;
        let some = Calibration::fit(&scores, &labels, 3).unwrap();
        assert!((some.scale / without.scale - 1.0).abs() < 0.1, "{some:?} {without:?}");
        for (row, probabilities) in scores.chunks(3).zip(some.probabilities(&scores, 3).chunks(3)) {
            assert_eq!(crate::head::best(row), crate::head::best(probabilities), "{row:?} {probabilities:?}");
        }
        assert_eq!(Calibration::fit(&scores[900..], &labels[300..], 3).unwrap(), Calibration::default());
    }

    #[test]
    fn the_fit_finds_the_probabilities_that_labels_were_drawn_from() {
        let truth = Calibration { scale: 3.0, offset: -1.0, power: 2.0 };
        let (scores, labels) = drawn(truth);
        let fitted = Calibration::fit(&scores, &labels, 5).unwrap();
        let (raw, good) =
            (Calibration::default().probabilities(&scores, 5), fitted.probabilities(&scores, 5));
        let ideal = truth.probabilities(&scores, 5);
        assert!(expected_calibration_error(&labels, &raw, 5) > 0.2);
        assert!(expected_calibration_error(&labels, &good, 5) < 0.02);
        assert!(log_loss(&labels, &good, 5) <= log_loss(&labels, &ideal, 5) + 1e-4, "{fitted:?}");
        let gap = good.iter().zip(&ideal).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(gap < 0.05, "{gap} {fitted:?}");
    }

    #[test]
    fn the_gradient_is_the_difference_quotient() {
        let (scores, labels) = drawn(Calibration::default());
        let (scores, labels) = (&scores[..500], &labels[..100]);
        let at = [0.4, -0.7, 0.3];
        let (_, gradient) = mean_loss(scores, labels, 5, Calibration::at(at));
        for i in 0..3 {
            let (mut up, mut down) = (at, at);
            up[i] += 1e-5;
            down[i] -= 1e-5;
            let value = |at| mean_loss(scores, labels, 5, Calibration::at(at)).0;
            assert!(((value(up) - value(down)) / 2e-5 - gradient[i]).abs() < 1e-7, "parameter {i}");
        }
    }

    #[test]
    fn probabilities_sum_to_one_and_keep_the_order() {
        let mut out = [0.0; 3];
        for scale in [1e-3, 1.0, 50.0] {
            for offset in [-40.0, 0.0, 3.0] {
                let calibration = Calibration { scale, offset, power: 2.0 };
                calibration.apply(&[1.0, -5.0, 3.0], &mut out);
                assert!((out.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{calibration:?}: {out:?}");
                assert!(out[2] >= out[0] && out[0] >= out[1], "{calibration:?}: {out:?}");
            }
        }
    }

    #[test]
    fn scores_that_separate_everything_give_finite_parameters() {
        let fitted = Calibration::fit(&[1.0, -1.0, -1.0, 1.0], &[0, 1], 2).unwrap();
        assert!(fitted.is_sound() && fitted.scale < 1e6, "{fitted:?}");
        assert!(Calibration::fit(&[0.0; 4], &[0, 1], 2).unwrap().is_sound());
    }

    #[test]
    fn misfits_are_refused() {
        assert!(matches!(Calibration::fit(&[0.0; 3], &[0, 1], 2), Err(CalibrationError::Shape { .. })));
        assert!(matches!(Calibration::fit(&[0.0; 4], &[0, 2], 2), Err(CalibrationError::Shape { .. })));
        assert!(matches!(Calibration::fit(&[], &[], 2), Err(CalibrationError::Shape { .. })));
        assert_eq!(Calibration::fit(&[0.0, f32::NAN], &[0], 2), Err(CalibrationError::NonFinite));
    }
}
