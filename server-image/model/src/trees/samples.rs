//! Small problems for tests of trees.

use crate::csr::Csr;
use crate::rng::Rng;

/// Rows of which about a third of the entries are stored, with few distinct values of both signs,
/// and labels that two of the columns and chance decide.
pub(super) fn noisy(rows: usize, columns: usize, classes: u32, seed: u64) -> (Csr, Vec<u32>) {
    let mut rng = Rng::new(seed, 0);
    let (mut x, mut y) = (Csr::empty(columns), Vec::new());
    for _ in 0..rows {
        let mut label = u32::from(rng.below(4) == 0);
        for column in 0..columns as u32 {
            if rng.below(3) == 0 {
                let value = [-1.5, -0.25, 0.0, 0.5, 1.0, 2.0, 3.0][rng.below(7)];
                x.indices.push(column);
                x.values.push(value);
                if column < 2 && value > 0.7 {
                    label += column + 1;
                }
            }
        }
        x.finish_row();
        y.push(label % classes);
    }
    (x, y)
}

/// One column with an entry in each row.
pub(super) fn dense(values: &[f32]) -> Csr {
    Csr {
        indptr: (0..=values.len()).collect(),
        indices: vec![0; values.len()],
        values: values.to_vec(),
        columns: 1,
    }
}
