//! Term weights, as scikit-learn's `TfidfTransformer` defines them.

use serde::{Deserialize, Serialize};

use crate::csr::Csr;
use crate::settings::{CharSettings, TextSettings};

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

/// How the counts of one block of features become values; the one place where this is computed, for
/// training and serving.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weigher {
    pub weighting: Weighting,
    pub sublinear: bool,
    /// Factor of the block.
    pub factor: f64,
    /// Number of the block's first feature.
    pub first: u32,
}

impl Weigher {
    /// The blocks of settings: the words' and, where there is one, that of the character n-grams,
    /// which begins with feature `words`.
    pub(crate) fn blocks(settings: &TextSettings, words: usize) -> (Self, Option<Self>) {
        let (weighting, sublinear) = (settings.weighting, settings.sublinear_tf);
        let of_words = Self { weighting, sublinear, factor: 1.0, first: 0 };
        let block = |chars: &CharSettings| Self { factor: chars.weight, first: words as u32, ..of_words };
        (of_words, settings.chars.as_ref().map(block))
    }

    /// Appends the block's part of the row that is being made. `counts` are (feature of the block,
    /// count) pairs, ascending; `idf` is the block's.
    pub(crate) fn push(self, counts: &[(u32, u32)], idf: &[f32], out: &mut Csr) {
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
            out.indices.push(self.first + feature);
            out.values.push(value as f32);
        }
        let scaled = self.weighting == Weighting::TfIdf && square > 0.0;
        let scale = if scaled { self.factor / square.sqrt() } else { self.factor };
        if scaled || self.factor.to_bits() != 1.0f64.to_bits() {
            for value in &mut out.values[start..] {
                *value = (f64::from(*value) * scale) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Weigher, Weighting, idf};
    use crate::csr::Csr;
    use crate::settings::{CharSettings, TextSettings};

    fn row(weighting: Weighting, sublinear: bool, counts: &[(u32, u32)], idf: &[f32]) -> Vec<f32> {
        let mut out = Csr::empty(idf.len());
        Weigher { weighting, sublinear, factor: 1.0, first: 0 }.push(counts, idf, &mut out);
        out.finish_row();
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
    fn a_second_block_has_its_own_length_and_its_factor() {
        let settings = TextSettings {
            sublinear_tf: false,
            chars: Some(CharSettings { weight: 0.5, ..CharSettings::default() }),
            ..TextSettings::default()
        };
        let (words, chars) = Weigher::blocks(&settings, 2);
        let mut out = Csr::empty(4);
        words.push(&[(0, 2), (1, 1)], &[1.5, 2.0], &mut out);
        chars.unwrap().push(&[(0, 3), (1, 4)], &[1.0, 1.0], &mut out);
        out.finish_row();
        assert_eq!(out.indices, [0, 1, 2, 3]);
        let expected = [0.832_050_3, 0.554_700_2, 0.3, 0.4];
        assert!(out.values.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{:?}", out.values);
        let counts = TextSettings { weighting: Weighting::Count, ..settings };
        let mut out = Csr::empty(4);
        Weigher::blocks(&counts, 2).1.unwrap().push(&[(0, 3)], &[1.0, 1.0], &mut out);
        assert_eq!((out.indices[0], out.values[0]), (2, 1.5));
    }

    #[test]
    fn a_row_without_known_terms_is_empty() {
        assert!(row(Weighting::TfIdf, true, &[], &[1.0]).is_empty());
    }
}
