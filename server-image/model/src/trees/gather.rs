//! The entries of chosen features among the rows of a node, and the division of those rows.
//!
//! There are two ways to them, and the shorter one is taken: through the columns of the features,
//! leaving out rows of other nodes, or through the rows of the node, leaving out other features.
//! Near the root columns are short compared with the rows' contents, in small nodes the reverse.

use super::bins::Binned;

/// An entry found through a row costs about as much as this many looked at in a column: it has to
/// be sorted.
const ROW_COST: usize = 2;

/// One entry: `slot << 40 | bin << 32 | row`, so that sorting groups by slot and orders by bin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry(u64);

impl Entry {
    fn new(slot: usize, bin: u8, row: u32) -> Self {
        Self((slot as u64) << 40 | u64::from(bin) << 32 | u64::from(row))
    }

    fn slot(self) -> usize {
        (self.0 >> 40) as usize
    }

    pub(super) fn bin(self) -> u8 {
        (self.0 >> 32) as u8
    }

    pub(super) fn row(self) -> u32 {
        self.0 as u32
    }
}

/// Entries of features in a node; one value serves many nodes.
#[derive(Debug)]
pub(super) struct Gather<'a> {
    binned: &'a Binned<'a>,
    /// 1 + slot of a feature that is looked at, 0 of others.
    slot_of: Vec<u32>,
    /// Rows of the node last stamped bear its number.
    stamps: Vec<u32>,
    stamp: u32,
    entries: Vec<Entry>,
    /// Slot `s` is `starts[s]..starts[s + 1]` of `entries`.
    starts: Vec<usize>,
    /// Rows that leave the side of the absent entries; false outside of [`Gather::divide`].
    leaves: Vec<bool>,
}

/// Where a node is divided: entries in the first `cut` bins of the feature go left, others right,
/// and rows without an entry as `default_left` says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Division {
    pub(super) feature: u32,
    pub(super) cut: u16,
    pub(super) threshold: f32,
    pub(super) default_left: bool,
}

impl<'a> Gather<'a> {
    pub(super) fn new(binned: &'a Binned<'a>) -> Self {
        Self {
            binned,
            slot_of: vec![0; binned.columns()],
            stamps: vec![0; binned.rows()],
            stamp: 0,
            entries: Vec::new(),
            starts: Vec::new(),
            leaves: vec![false; binned.rows()],
        }
    }

    /// Finds the entries of `features` (each once, fewer than 2^24) in `rows`, but for those in bins
    /// below `least`.
    pub(super) fn collect(&mut self, features: &[u32], rows: &[u32], least: u8) {
        self.entries.clear();
        self.starts.clear();
        let of_columns: usize =
            features.iter().map(|&feature| self.binned.column_from(feature, least).0.len()).sum();
        let mut of_rows = 0;
        let enough = rows.iter().any(|&row| {
            of_rows += self.binned.row(row).0.len() * ROW_COST;
            of_rows >= of_columns
        });
        if enough {
            self.through_columns(features, rows, least);
        } else {
            self.through_rows(features, rows, least);
        }
    }

    /// Entries of the feature at that place of the last [`Gather::collect`], ascending by bin.
    pub(super) fn slot(&self, slot: usize) -> &[Entry] {
        &self.entries[self.starts[slot]..self.starts[slot + 1]]
    }

    fn through_columns(&mut self, features: &[u32], rows: &[u32], least: u8) {
        let all = rows.len() == self.binned.rows();
        if !all {
            self.stamp += 1;
            for &row in rows {
                self.stamps[row as usize] = self.stamp;
            }
        }
        for (slot, &feature) in features.iter().enumerate() {
            self.starts.push(self.entries.len());
            let (column, bins) = self.binned.column_from(feature, least);
            let found = column.iter().zip(bins);
            if all {
                self.entries.extend(found.map(|(&row, &bin)| Entry::new(slot, bin, row)));
                continue;
            }
            // written whatever it is, kept if its row is of the node: faster than a branch on chance
            let mut end = self.entries.len();
            self.entries.resize(end + column.len(), Entry::default());
            for (&row, &bin) in found {
                self.entries[end] = Entry::new(slot, bin, row);
                end += usize::from(self.stamps[row as usize] == self.stamp);
            }
            self.entries.truncate(end);
        }
        self.starts.push(self.entries.len());
    }

    fn through_rows(&mut self, features: &[u32], rows: &[u32], least: u8) {
        for (slot, &feature) in features.iter().enumerate() {
            self.slot_of[feature as usize] = slot as u32 + 1;
        }
        for &row in rows {
            let (columns, bins) = self.binned.row(row);
            for (&column, &bin) in columns.iter().zip(bins) {
                let slot = self.slot_of[column as usize];
                if slot != 0 && bin >= least {
                    self.entries.push(Entry::new(slot as usize - 1, bin, row));
                }
            }
        }
        self.entries.sort_unstable();
        let mut at = 0;
        for slot in 0..features.len() {
            self.starts.push(at);
            at += self.entries[at..].iter().take_while(|entry| entry.slot() == slot).count();
        }
        self.starts.push(at);
        for &feature in features {
            self.slot_of[feature as usize] = 0;
        }
    }

    /// Rows on the left and on the right, each in the order of `rows`.
    pub(super) fn divide(&mut self, rows: &[u32], at: Division) -> (Vec<u32>, Vec<u32>) {
        let (column, bins) = self.binned.column(at.feature);
        let boundary = bins.partition_point(|&bin| u16::from(bin) < at.cut);
        let leaving = if at.default_left { &column[boundary..] } else { &column[..boundary] };
        let (mut stay, mut leave) = (Vec::with_capacity(rows.len()), Vec::new());
        if leaving.len() <= rows.len() * 8 {
            for &row in leaving {
                self.leaves[row as usize] = true;
            }
            for &row in rows {
                if self.leaves[row as usize] { &mut leave } else { &mut stay }.push(row);
            }
            for &row in leaving {
                self.leaves[row as usize] = false;
            }
        } else {
            for &row in rows {
                let bin = self.binned.bin(row, at.feature);
                let left = bin.map_or(at.default_left, |bin| u16::from(bin) < at.cut);
                if left == at.default_left { &mut stay } else { &mut leave }.push(row);
            }
        }
        if at.default_left { (stay, leave) } else { (leave, stay) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Division, Entry, Gather};
    use crate::trees::bins::Binned;
    use crate::trees::samples;

    #[test]
    fn both_ways_find_the_same_entries() {
        let (x, _) = samples::noisy(60, 12, 3, 5);
        let binned = Binned::new(&x, 1);
        let mut gather = Gather::new(&binned);
        let rows: Vec<u32> = (0..60).filter(|row| row % 3 != 1).collect();
        for features in [&[4, 0, 11][..], &[7], &[]] {
            let mut take = |by_rows, least| -> Vec<Vec<Entry>> {
                gather.entries.clear();
                gather.starts.clear();
                if by_rows {
                    gather.through_rows(features, &rows, least);
                } else {
                    gather.through_columns(features, &rows, least);
                }
                (0..features.len()).map(|slot| gather.slot(slot).to_vec()).collect()
            };
            let found = [take(false, 0), take(true, 0)];
            let mut high = found[0].clone();
            for slot in &mut high {
                slot.retain(|entry| entry.bin() >= 2);
            }
            assert_eq!([take(false, 2), take(true, 2)], [high.clone(), high]);
            assert_eq!(found[0], found[1]);
            assert!(features.is_empty() || found[0].iter().any(|slot| !slot.is_empty()));
            for (slot, &feature) in features.iter().enumerate() {
                for entry in &found[0][slot] {
                    assert_eq!(binned.bin(entry.row(), feature), Some(entry.bin()));
                }
            }
        }
    }

    #[test]
    fn rows_are_divided_by_bin_and_absence() {
        let (x, _) = samples::noisy(200, 12, 3, 6);
        let binned = Binned::new(&x, 1);
        let mut gather = Gather::new(&binned);
        let all: Vec<u32> = (0..200).collect();
        // few rows take the way of a search in each
        for rows in [&all[..], &all[3..5]] {
            for feature in 0..12 {
                for default_left in [false, true] {
                    let at = Division { feature, cut: 2, threshold: 0.0, default_left };
                    let (left, right) = gather.divide(rows, at);
                    let is_left = |row: &u32| binned.bin(*row, feature).map_or(default_left, |bin| bin < 2);
                    assert_eq!(left, rows.iter().copied().filter(is_left).collect::<Vec<_>>());
                    assert_eq!(right, rows.iter().copied().filter(|row| !is_left(row)).collect::<Vec<_>>());
                }
            }
        }
        assert!(gather.leaves.iter().all(|leaves| !leaves));
    }
}
