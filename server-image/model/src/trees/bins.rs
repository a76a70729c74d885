//! Values to small numbers: each column's stored values fall into at most 255 bins in ascending
//! order. A column with no more distinct values than that has a bin for each, so nothing is lost;
//! in others a bin holds a run of neighbouring values, about as many entries in each bin. Values
//! below, at and above zero never share a bin, because the absent entries of a column are 0 to the
//! forest. Absent entries have no bin and take no memory.

use crate::csr::Csr;
use crate::parallel;

/// Bins of a column.
pub(super) const MAX_BINS: usize = 255;
/// Entries of a bin are counted such that these bins and 3 more, closed for the sake of zero or of
/// the column's end, are at most [`MAX_BINS`].
const COUNTED_BINS: usize = MAX_BINS - 3;
/// Columns of one piece of parallel work.
const COLUMNS_PER_PIECE: usize = 256;

/// A matrix with bins beside its values, by rows and by columns.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Binned<'a> {
    x: &'a Csr,
    /// Bin of each stored value, at the same place as in `x.values`.
    bins: Vec<u8>,
    /// Column `f` is `starts[f]..starts[f + 1]` of the two following ones.
    starts: Vec<usize>,
    /// Rows of a column's entries, ascending by (bin, row).
    column_rows: Vec<u32>,
    column_bins: Vec<u8>,
    /// Bin `b` of column `f` is at `edge_starts[f] + b` of `low` and `high`.
    edge_starts: Vec<usize>,
    low: Vec<f32>,
    high: Vec<f32>,
}

/// Consecutive columns, binned.
#[derive(Default)]
struct Part {
    rows: Vec<u32>,
    bins: Vec<u8>,
    low: Vec<f32>,
    high: Vec<f32>,
    /// Bins of each column.
    counts: Vec<usize>,
}

impl<'a> Binned<'a> {
    /// Bins every column, on at most `threads` threads.
    pub(super) fn new(x: &'a Csr, threads: usize) -> Self {
        let by_column = x.transpose();
        let pieces = x.columns.div_ceil(COLUMNS_PER_PIECE);
        let parts = parallel::map(pieces, threads, |piece| {
            let first = piece * COLUMNS_PER_PIECE;
            let mut part = Part::default();
            for column in first..x.columns.min(first + COLUMNS_PER_PIECE) {
                let (rows, values) = by_column.row(column);
                part.push(rows, values);
            }
            part
        });
        let mut out = Self {
            x,
            bins: vec![0; x.values.len()],
            starts: by_column.indptr,
            column_rows: Vec::with_capacity(x.values.len()),
            column_bins: Vec::with_capacity(x.values.len()),
            edge_starts: vec![0],
            low: Vec::new(),
            high: Vec::new(),
        };
        for part in parts {
            for bins in part.counts {
                out.edge_starts.push(out.edge_starts[out.edge_starts.len() - 1] + bins);
            }
            out.column_rows.extend(part.rows);
            out.column_bins.extend(part.bins);
            out.low.extend(part.low);
            out.high.extend(part.high);
        }
        // Columns come in ascending order, as the entries of a row do.
        let mut next = x.indptr.clone();
        for (&row, &bin) in out.column_rows.iter().zip(&out.column_bins) {
            out.bins[next[row as usize]] = bin;
            next[row as usize] += 1;
        }
        out
    }

    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        self.x.rows()
    }

    /// Number of columns.
    pub(super) fn columns(&self) -> usize {
        self.x.columns
    }

    /// Columns and bins of the entries of a row, ascending by column.
    #[inline]
    pub(super) fn row(&self, row: u32) -> (&[u32], &[u8]) {
        let range = self.x.indptr[row as usize]..self.x.indptr[row as usize + 1];
        (&self.x.indices[range.clone()], &self.bins[range])
    }

    /// Rows and bins of the entries of a column, ascending by (bin, row).
    pub(super) fn column(&self, column: u32) -> (&[u32], &[u8]) {
        let range = self.starts[column as usize]..self.starts[column as usize + 1];
        (&self.column_rows[range.clone()], &self.column_bins[range])
    }

    /// Those of the entries of a column that are not below a bin.
    pub(super) fn column_from(&self, column: u32, least: u8) -> (&[u32], &[u8]) {
        let (rows, bins) = self.column(column);
        let start = if least == 0 { 0 } else { bins.partition_point(|&bin| bin < least) };
        (&rows[start..], &bins[start..])
    }

    /// Bins of a column.
    pub(super) fn bins(&self, column: u32) -> usize {
        self.edge_starts[column as usize + 1] - self.edge_starts[column as usize]
    }

    /// Lowest and highest value of a bin.
    pub(super) fn edges(&self, column: u32, bin: u8) -> (f32, f32) {
        let at = self.edge_starts[column as usize] + usize::from(bin);
        (self.low[at], self.high[at])
    }

    /// Bin of a row's entry in a column.
    pub(super) fn bin(&self, row: u32, column: u32) -> Option<u8> {
        let (columns, bins) = self.row(row);
        columns.binary_search(&column).ok().map(|at| bins[at])
    }
}

impl Part {
    /// Bins one more column.
    fn push(&mut self, rows: &[u32], values: &[f32]) {
        // adding 0 makes one zero of the two
        let mut entries: Vec<(f32, u32)> = values.iter().map(|v| v + 0.0).zip(rows.iter().copied()).collect();
        entries.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let equal = |a: &(f32, u32), b: &(f32, u32)| a.0.to_bits() == b.0.to_bits();
        let distinct = entries.chunk_by(equal).count();
        let enough = if distinct <= MAX_BINS { 1 } else { entries.len().div_ceil(COUNTED_BINS) };
        let (first_edge, mut in_bin) = (self.low.len(), 0);
        for same in entries.chunk_by(equal) {
            let value = same[0].0;
            let last = self.high.len();
            let opens = in_bin == 0 || in_bin >= enough || side(self.high[last - 1]) != side(value);
            if opens {
                self.low.push(value);
                self.high.push(value);
                in_bin = 0;
            } else {
                self.high[last - 1] = value;
            }
            in_bin += same.len();
            let bin = (self.low.len() - 1 - first_edge) as u8;
            self.rows.extend(same.iter().map(|&(_, row)| row));
            self.bins.resize(self.rows.len(), bin);
        }
        // By row, so that whoever reads something of these rows goes forward through memory.
        let start = self.rows.len() - entries.len();
        let mut at = start;
        for bin in self.bins[start..].chunk_by(|a, b| a == b) {
            self.rows[at..at + bin.len()].sort_unstable();
            at += bin.len();
        }
        self.counts.push(self.low.len() - first_edge);
    }
}

/// Which side of zero.
fn side(value: f32) -> i8 {
    i8::from(value > 0.0) - i8::from(value < 0.0)
}

/// A threshold between two neighbouring values of a column, `below < above`: their middle, such
/// that `below <= threshold < above` holds whatever rounding did.
pub(super) fn threshold(below: f32, above: f32) -> f32 {
    let middle = f64::midpoint(f64::from(below), f64::from(above)) as f32;
    if middle >= below && middle < above { middle } else { below }
}

#[cfg(test)]
mod tests {
    use super::{Binned, MAX_BINS, threshold};
    use crate::csr::Csr;
    use proptest::prelude::*;

    fn column(values: &[f32]) -> Csr {
        let mut x = Csr::empty(1);
        for &value in values {
            x.indices.push(0);
            x.values.push(value);
            x.finish_row();
        }
        x
    }

    #[test]
    fn few_values_have_a_bin_each() {
        let x = column(&[3.0, -1.0, 0.0, 3.0, -0.0, 0.5]);
        let binned = Binned::new(&x, 1);
        assert_eq!(binned.bins(0), 4);
        assert_eq!(binned.column(0), (&[1, 2, 4, 5, 0, 3][..], &[0, 1, 1, 2, 3, 3][..]));
        let bins: Vec<_> = (0..6).map(|row| binned.bin(row, 0).unwrap()).collect();
        assert_eq!(bins, [3, 0, 1, 3, 1, 2]);
        assert_eq!(binned.edges(0, 2), (0.5, 0.5));
    }

    #[test]
    fn absent_entries_have_no_bin() {
        let x =
            Csr { indptr: vec![0, 1, 1, 3], indices: vec![2, 0, 2], values: vec![1.0, 5.0, 2.0], columns: 4 };
        let binned = Binned::new(&x, 1);
        assert_eq!(binned.row(2), (&[0, 2][..], &[0, 1][..]));
        assert_eq!((binned.bin(1, 2), binned.bins(1), binned.column_from(2, 1).0), (None, 0, &[2][..]));
    }

    #[test]
    fn a_threshold_parts_its_two_values() {
        for (below, above) in [(0.0, f32::from_bits(1)), (-f32::MAX, f32::MAX), (1.0, 1.0 + f32::EPSILON)] {
            let at = threshold(below, above);
            assert!(below <= at && at < above, "{below} {at} {above}");
        }
    }

    proptest! {
        #[test]
        fn bins_are_ordered_few_and_do_not_mix_signs(
            values in prop::collection::vec(prop_oneof![-2.0f32..2.0, Just(0.0), Just(1.0), -1e-3f32..1e-3], 1..2000)
        ) {
            let x = column(&values);
            let binned = Binned::new(&x, 1);
            prop_assert!(binned.bins(0) <= MAX_BINS);
            let mut last = f32::NEG_INFINITY;
            for bin in 0..binned.bins(0) as u8 {
                let (low, high) = binned.edges(0, bin);
                prop_assert!(last < low && low <= high && (low > 0.0 || high < 0.0 || low >= high));
                last = high;
            }
            for (row, value) in values.iter().enumerate() {
                let (low, high) = binned.edges(0, binned.bin(row as u32, 0).unwrap());
                prop_assert!(low <= *value && *value <= high);
            }
            let (rows, bins) = binned.column(0);
            let entries: Vec<_> = bins.iter().zip(rows).collect();
            prop_assert!(entries.is_sorted());
        }
    }
}
