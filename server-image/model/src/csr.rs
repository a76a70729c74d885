//! Sparse rows: the only matrix type between features and solvers.

/// Compressed sparse rows. Row `i` holds `indices[indptr[i]..indptr[i + 1]]` (columns, strictly
/// ascending) and `values` at the same places.
#[derive(Debug, Clone, PartialEq)]
pub struct Csr {
    /// `rows + 1` offsets into `indices` and `values`; the first is 0.
    pub indptr: Vec<usize>,
    /// Column of each stored value.
    pub indices: Vec<u32>,
    /// Stored values.
    pub values: Vec<f32>,
    /// Number of columns.
    pub columns: usize,
}

impl Csr {
    /// No rows yet, `columns` columns.
    pub fn empty(columns: usize) -> Self {
        Self { indptr: vec![0], indices: Vec::new(), values: Vec::new(), columns }
    }

    /// Closes the row whose values were pushed since the last call.
    pub(crate) fn finish_row(&mut self) {
        self.indptr.push(self.indices.len());
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.indptr.len() - 1
    }

    /// Columns and values of row `i`.
    pub fn row(&self, i: usize) -> (&[u32], &[f32]) {
        let range = self.indptr[i]..self.indptr[i + 1];
        (&self.indices[range.clone()], &self.values[range])
    }

    /// The rows with these numbers, in this order.
    #[must_use]
    pub fn select(&self, rows: &[u32]) -> Self {
        let mut out = Self::empty(self.columns);
        for &row in rows {
            let (indices, values) = self.row(row as usize);
            out.indices.extend_from_slice(indices);
            out.values.extend_from_slice(values);
            out.finish_row();
        }
        out
    }

    /// The same matrix with rows and columns exchanged (rows of the result stay ascending).
    #[must_use]
    pub fn transpose(&self) -> Self {
        let mut indptr = vec![0usize; self.columns + 1];
        for &column in &self.indices {
            indptr[column as usize + 1] += 1;
        }
        for i in 1..indptr.len() {
            indptr[i] += indptr[i - 1];
        }
        let mut next = indptr.clone();
        let mut indices = vec![0; self.indices.len()];
        let mut values = vec![0.0; self.values.len()];
        for row in 0..self.rows() {
            let (columns, row_values) = self.row(row);
            for (&column, &value) in columns.iter().zip(row_values) {
                let at = next[column as usize];
                indices[at] = row as u32;
                values[at] = value;
                next[column as usize] = at + 1;
            }
        }
        Self { indptr, indices, values, columns: self.rows() }
    }

    /// True when every value is a finite number, every column exists, and those of a row ascend.
    pub fn is_sound(&self) -> bool {
        self.values.iter().all(|v| v.is_finite())
            && self.indices.iter().all(|&c| (c as usize) < self.columns)
            && self.indices.len() == self.values.len()
            && self.indptr.first() == Some(&0)
            && self.indptr.last() == Some(&self.indices.len())
            && self.indptr.is_sorted()
            && (0..self.rows()).all(|row| self.row(row).0.is_sorted_by(|a, b| a < b))
    }
}

#[cfg(test)]
mod tests {
    use super::Csr;

    fn small() -> Csr {
        // 1 0 2
        // 0 0 0
        // 0 3 4
        Csr {
            indptr: vec![0, 2, 2, 4],
            indices: vec![0, 2, 1, 2],
            values: vec![1.0, 2.0, 3.0, 4.0],
            columns: 3,
        }
    }

    #[test]
    fn transposing_exchanges_rows_and_columns() {
        let t = small().transpose();
        assert_eq!(t.row(0), (&[0][..], &[1.0][..]));
        assert_eq!(t.row(1), (&[2][..], &[3.0][..]));
        assert_eq!(t.row(2), (&[0, 2][..], &[2.0, 4.0][..]));
        assert_eq!(t.transpose(), small());
    }

    #[test]
    fn selecting_keeps_the_asked_order() {
        let s = small().select(&[2, 0]);
        assert_eq!(s.rows(), 2);
        assert_eq!(s.row(0), (&[1, 2][..], &[3.0, 4.0][..]));
        assert_eq!(s.row(1), (&[0, 2][..], &[1.0, 2.0][..]));
    }

    #[test]
    fn unsound_matrices_are_told_apart() {
        assert!(small().is_sound());
        let mut bad = small();
        bad.values[0] = f32::NAN;
        assert!(!bad.is_sound());
        let mut bad = small();
        bad.indices[0] = 3;
        assert!(!bad.is_sound());
    }
}
