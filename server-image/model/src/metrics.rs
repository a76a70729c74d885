//! Quality of predictions, by scikit-learn's definitions (`zero_division=0`).
//!
//! `truth` and `predicted` are class numbers below `classes`; probabilities are `[row][class]`.
//! Averages over no rows are 0.

use serde::{Deserialize, Serialize};

use crate::head::argmax;

/// Bins of the expected calibration error.
const BINS: usize = 15;

/// All figures of one set of predictions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Rows.
    pub rows: usize,
    /// Share of rows with the right class.
    pub accuracy: f64,
    /// F1 averaged over classes by their number of true rows.
    pub f1_weighted: f64,
    /// F1 averaged over the classes that occur in truth or prediction.
    pub f1_macro: f64,
    /// Mean negative natural logarithm of the true class's probability.
    pub log_loss: f64,
    /// See [`expected_calibration_error`].
    pub expected_calibration_error: f64,
    /// One for each class, in order.
    pub per_class: Vec<ClassScore>,
    /// `confusion[true][predicted]` rows.
    pub confusion: Vec<Vec<u64>>,
}

/// Figures of one class.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassScore {
    /// Right ones among the predicted.
    pub precision: f64,
    /// Right ones among the true.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
    /// True rows.
    pub support: u64,
    /// Predicted rows.
    pub predicted: u64,
}

impl Report {
    /// From probabilities; the predicted class is the most probable one.
    pub fn new(truth: &[u32], probabilities: &[f32], classes: usize) -> Self {
        let predicted = argmax(probabilities, classes);
        let confusion = confusion(truth, &predicted, classes);
        let per_class = class_scores(&confusion);
        Self {
            rows: truth.len(),
            accuracy: accuracy(truth, &predicted),
            f1_weighted: f1_weighted(&per_class),
            f1_macro: f1_macro(&per_class),
            log_loss: log_loss(truth, probabilities, classes),
            expected_calibration_error: expected_calibration_error(truth, probabilities, classes),
            per_class,
            confusion,
        }
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// Share of rows with the right class.
pub fn accuracy(truth: &[u32], predicted: &[u32]) -> f64 {
    let right = truth.iter().zip(predicted).filter(|(a, b)| a == b).count();
    ratio(right as f64, truth.len() as f64)
}

/// `[true][predicted]` counts.
pub fn confusion(truth: &[u32], predicted: &[u32], classes: usize) -> Vec<Vec<u64>> {
    let mut out = vec![vec![0; classes]; classes];
    for (&t, &p) in truth.iter().zip(predicted) {
        out[t as usize][p as usize] += 1;
    }
    out
}

/// Precision, recall and F1 of each class.
pub fn class_scores(confusion: &[Vec<u64>]) -> Vec<ClassScore> {
    let score = |class: usize| {
        let right = confusion[class][class] as f64;
        let support: u64 = confusion[class].iter().sum();
        let predicted: u64 = confusion.iter().map(|row| row[class]).sum();
        ClassScore {
            precision: ratio(right, predicted as f64),
            recall: ratio(right, support as f64),
            f1: ratio(2.0 * right, (support + predicted) as f64),
            support,
            predicted,
        }
    };
    (0..confusion.len()).map(score).collect()
}

/// F1 averaged by support.
pub fn f1_weighted(classes: &[ClassScore]) -> f64 {
    let rows: u64 = classes.iter().map(|c| c.support).sum();
    ratio(classes.iter().map(|c| c.f1 * c.support as f64).sum(), rows as f64)
}

/// F1 averaged over the classes that occur in truth or prediction, each counting the same.
pub fn f1_macro(classes: &[ClassScore]) -> f64 {
    let seen: Vec<_> = classes.iter().filter(|c| c.support + c.predicted > 0).collect();
    ratio(seen.iter().map(|c| c.f1).sum(), seen.len() as f64)
}

/// Mean log loss; probabilities are clipped at f32's smallest step, as scikit-learn does.
pub fn log_loss(truth: &[u32], probabilities: &[f32], classes: usize) -> f64 {
    let of_truth = probabilities.chunks_exact(classes).zip(truth).map(|(row, &t)| row[t as usize]);
    let sum: f64 = of_truth.map(|p| -libm::log(f64::from(p.clamp(f32::EPSILON, 1.0 - f32::EPSILON)))).sum();
    ratio(sum, truth.len() as f64)
}

/// Rows are put into 15 bins of equal width by their highest probability; the gaps between mean
/// probability and accuracy are averaged over the bins by their number of rows
/// (Guo et al., ICML 2017, equation 3).
pub fn expected_calibration_error(truth: &[u32], probabilities: &[f32], classes: usize) -> f64 {
    let mut bins = [(0.0f64, 0.0f64); BINS];
    let predicted = argmax(probabilities, classes);
    for (i, (row, &class)) in probabilities.chunks_exact(classes).zip(&predicted).enumerate() {
        let top = f64::from(row[class as usize]);
        let bin = ((top * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        bins[bin].0 += top;
        bins[bin].1 += f64::from(u8::from(truth[i] == class));
    }
    ratio(bins.iter().map(|(top, right)| (top - right).abs()).sum(), truth.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::{Report, class_scores, confusion, expected_calibration_error, f1_macro, f1_weighted};

    #[test]
    fn scores_by_hand() {
        // class 0: 2 of 3 found, 1 false; class 1: 1 of 1 found, 1 false; class 2 never occurs
        let matrix = confusion(&[0, 0, 0, 1], &[0, 0, 1, 1], 3);
        assert_eq!(matrix, [[2, 1, 0], [0, 1, 0], [0, 0, 0]]);
        let scores = class_scores(&matrix);
        assert!((scores[0].precision - 1.0).abs() < 1e-12 && (scores[0].recall - 2.0 / 3.0).abs() < 1e-12);
        assert!((scores[0].f1 - 0.8).abs() < 1e-12 && (scores[1].f1 - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!((scores[2].f1, scores[2].support), (0.0, 0));
        assert!((f1_weighted(&scores) - (0.8 * 0.75 + 0.25 * 2.0 / 3.0)).abs() < 1e-12);
        assert!((f1_macro(&scores) - f64::midpoint(0.8, 2.0 / 3.0)).abs() < 1e-12);
    }

    #[test]
    fn calibration_error_is_the_gap_in_each_bin() {
        // bin of .9: two rows, one right, gap .4; bin of .6: two rows, both right, gap .4
        let probabilities = [0.9, 0.1, 0.9, 0.1, 0.6, 0.4, 0.6, 0.4];
        let error = expected_calibration_error(&[0, 1, 0, 0], &probabilities, 2);
        assert!((error - 0.4).abs() < 1e-6, "{error}");
        // gaps within one bin cancel, gaps of different bins do not
        let error = expected_calibration_error(&[0, 1], &[0.5, 0.5, 0.5, 0.5], 2);
        assert!(error.abs() < 1e-6, "{error}");
        assert!(expected_calibration_error(&[0], &[1.0, 0.0], 2).abs() < 1e-9);
    }

    #[test]
    fn no_rows_are_zero_and_not_nan() {
        let report = Report::new(&[], &[], 2);
        assert_eq!(
            (report.accuracy, report.f1_weighted, report.f1_macro, report.log_loss),
            (0.0, 0.0, 0.0, 0.0)
        );
    }
}
