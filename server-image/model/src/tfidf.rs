//! Term weights, as scikit-learn's `TfidfTransformer` defines them.

use serde::{Deserialize, Serialize};

use crate::csr::Csr;

/// What the value of a term in a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Weighting {
    /// Count times inverse document frequency, each row scaled to length 1.
    #[default]
    TfIdf,
    /// The count itself.
    Count,
}

/// Smooth inverse document frequency: `ln((1 + documents) / (1 + df)) + 1`.
pub(crate) fn idf(documents: usize, df: u32) -> f32 {
    (libm::log((1.0 + documents as f64) / (1.0 + f64::from(df))) + 1.0) as f32
}

/// How counts become values; the one place where this is computed, for training and serving.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weigher {
    pub weighting: Weighting,
    pub sublinear: bool,
}

impl Weigher {
    /// Appends one row to `out`. `counts` are (feature, count) pairs, ascending by feature.
    pub(crate) fn push_row(self, counts: &[(u32, u32)], idf: &[f32], out: &mut Csr) {
        let start = out.values.len();
        let mut square = 0.0f64;
        for &(feature, count) in counts {
            let mut value = f64::from(count);
            if self.sublinear {
                value = 1.0 + libm::log(value);
            }
            if self.weighting == Weighting::TfIdf {
                value *= f64::from(idf[feature as usize]);
            }
            square += value * value;
            out.indices.push(feature);
            out.values.push(value as f32);
        }
        if self.weighting == Weighting::TfIdf && square > 0.0 {
            let scale = 1.0 / square.sqrt();
            for value in &mut out.values[start..] {
                *value = (f64::from(*value) * scale) as f32;
            }
        }
        out.finish_row();
    }
}

#[cfg(test)]
mod tests {
    use super::{Weigher, Weighting, idf};
    use crate::csr::Csr;

    fn row(weighting: Weighting, sublinear: bool, counts: &[(u32, u32)], idf: &[f32]) -> Vec<f32> {
        let mut out = Csr::empty(idf.len());
        Weigher { weighting, sublinear }.push_row(counts, idf, &mut out);
        assert_eq!(out.rows(), 1);
        out.values
    }

    #[test]
    fn idf_is_one_for_a_term_of_every_document() {
        assert!((idf(9, 9) - 1.0).abs() < 1e-7);
        // ln(10 / 2) + 1
        assert!((idf(9, 1) - 2.609_438).abs() < 1e-6);
    }

    #[test]
    fn a_row_by_hand() {
        // (2 * 1.5, 1 * 2) = (3, 2); length sqrt(13)
        let values = row(Weighting::TfIdf, false, &[(0, 2), (1, 1)], &[1.5, 2.0]);
        assert!(
            (values[0] - 0.832_050_3).abs() < 1e-6 && (values[1] - 0.554_700_2).abs() < 1e-6,
            "{values:?}"
        );
        assert_eq!(row(Weighting::Count, false, &[(0, 2), (1, 1)], &[1.5, 2.0]), [2.0, 1.0]);
        // 1 + ln 2
        assert_eq!(row(Weighting::Count, true, &[(0, 2), (1, 1)], &[1.5, 2.0]), [1.693_147_2, 1.0]);
    }

    #[test]
    fn a_row_without_known_terms_is_empty() {
        assert!(row(Weighting::TfIdf, true, &[], &[1.0]).is_empty());
    }
}
