//! Golden probes: rows stored in the model with the scores that they had when it was made. A
//! program that computes anything else from them must not serve the model.

use crate::model::Model;
use crate::rng::Rng;

/// Largest accepted difference, relative to the expected value where that exceeds 1. Equal
/// processors give equal bits; the rest is room for another architecture's rounding.
pub const PROBE_TOLERANCE: f32 = 1e-5;

/// A probe whose result is not what was stored.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "probe {probe}: {quantity} of class {class} is {found}, expected {expected} (tolerance {PROBE_TOLERANCE}); the model was damaged or this program computes otherwise"
)]
pub struct ProbeMismatch {
    /// Number of the probe.
    pub probe: usize,
    /// Class whose value differs.
    pub class: usize,
    /// `score` or `probability`.
    pub quantity: &'static str,
    /// The stored value.
    pub expected: f32,
    /// The computed value.
    pub found: f32,
}

/// Recomputes every probe of the model.
pub(crate) fn verify(model: &Model) -> Result<(), ProbeMismatch> {
    let classes = model.info().classes.len();
    for (probe, row) in model.probe_rows().iter().enumerate() {
        let columns: Vec<Option<&str>> = row.iter().map(Option::as_deref).collect();
        let got = model.predict_one(&columns);
        let (scores, probabilities) = model.probe_expectation();
        let range = probe * classes..(probe + 1) * classes;
        compare(probe, "score", &scores[range.clone()], &got.scores)?;
        compare(probe, "probability", &probabilities[range], &got.probabilities)?;
    }
    Ok(())
}

fn compare(
    probe: usize,
    quantity: &'static str,
    expected: &[f32],
    found: &[f32],
) -> Result<(), ProbeMismatch> {
    for (class, (&expected, &found)) in expected.iter().zip(found).enumerate() {
        let close = (expected - found).abs() <= PROBE_TOLERANCE * expected.abs().max(1.0);
        if !close {
            return Err(ProbeMismatch { probe, class, quantity, expected, found });
        }
    }
    Ok(())
}

/// Up to `count` rows that make good probes: drawn by the seed, a row of every class before a
/// second one of any.
pub fn probe_rows(labels: &[u32], count: usize, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..labels.len() as u32).collect();
    Rng::new(seed, 0x9B0B).shuffle(&mut order);
    let mut seen = std::collections::HashMap::new();
    let mut ranked: Vec<(usize, usize, u32)> = order
        .into_iter()
        .enumerate()
        .map(|(place, row)| {
            let times = seen.entry(labels[row as usize]).or_insert(0usize);
            *times += 1;
            (*times, place, row)
        })
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().take(count).map(|(_, _, row)| row).collect()
}

#[cfg(test)]
mod tests {
    use super::{compare, probe_rows};

    #[test]
    fn every_class_is_probed_before_any_twice() {
        let labels: Vec<u32> = (0..1000).map(|i| if i < 980 { 0 } else { i % 10 }).collect();
        let rows = probe_rows(&labels, 16, 1);
        let mut classes: Vec<u32> = rows[..10].iter().map(|&row| labels[row as usize]).collect();
        classes.sort_unstable();
        assert_eq!(classes, (0..10).collect::<Vec<_>>());
        assert_eq!(rows.len(), 16);
        assert_eq!(rows, probe_rows(&labels, 16, 1));
        assert_eq!(probe_rows(&labels[..3], 16, 1).len(), 3);
    }

    #[test]
    fn a_difference_beyond_the_tolerance_is_named() {
        assert!(compare(0, "score", &[1.0, 100.0], &[1.0, 100.000_5]).is_ok());
        let mismatch = compare(3, "score", &[1.0, 0.5], &[1.0, 0.5001]).unwrap_err();
        assert_eq!((mismatch.probe, mismatch.class), (3, 1));
        assert!(compare(0, "score", &[1.0], &[f32::NAN]).is_err());
    }
}
