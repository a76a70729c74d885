//! The best division of a node by Gini impurity (Breiman, Friedman, Olshen, Stone: "Classification
//! and regression trees", 1984, section 4.3).
//!
//! The impurity left after a division is least where `sum of l_k^2 / l + sum of r_k^2 / r` is
//! greatest, `l_k` and `r_k` being the weights of class `k` on the left and on the right. Weights
//! are whole numbers, so both sums of squares are exact, in whatever order rows came. A feature is
//! swept from its outermost values towards zero: what is at zero, most of the node, never moves.
//! Of equal divisions by a feature the lowest threshold is taken, as in scikit-learn. That matters: among
//! rows of as many classes all divisions are equal, and the lowest one parts those that have a term from
//! those that have not, while the highest would take off one row at a time until the depth is spent.

use super::bins::{Binned, threshold};
use super::gather::{Division, Entry};

/// Class and weight of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cell {
    pub(super) class: u32,
    pub(super) weight: u32,
}

/// The best division seen so far; of equal ones the first feature's, by its lowest threshold.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Best {
    score: f64,
    pub(super) division: Option<Division>,
}

/// A node, and the part of it that a sweep has moved to one side.
#[derive(Debug)]
pub(super) struct Gini<'a> {
    binned: &'a Binned<'a>,
    cells: &'a [Cell],
    rows: usize,
    node: Side,
    moved: Side,
    /// Sum of the squares of what has not moved.
    rest_squares: u64,
}

/// Weights of rows by class, their sum and the sum of their squares.
#[derive(Debug, Clone)]
struct Side {
    classes: Vec<u64>,
    weight: u64,
    squares: u64,
}

impl Side {
    fn new(classes: usize) -> Self {
        Self { classes: vec![0; classes], weight: 0, squares: 0 }
    }

    fn add(&mut self, cell: Cell) {
        let (class, weight) = (&mut self.classes[cell.class as usize], u64::from(cell.weight));
        self.squares += weight * (2 * *class + weight);
        *class += weight;
        self.weight += weight;
    }
}

impl<'a> Gini<'a> {
    /// `cells` has a place for each row.
    pub(super) fn new(binned: &'a Binned<'a>, cells: &'a [Cell], classes: usize) -> Self {
        Self { binned, cells, rows: 0, node: Side::new(classes), moved: Side::new(classes), rest_squares: 0 }
    }

    /// From now on the node is these rows.
    pub(super) fn enter(&mut self, rows: &[u32]) {
        self.rows = rows.len();
        self.node.classes.fill(0);
        (self.node.weight, self.node.squares) = (0, 0);
        for &row in rows {
            self.node.add(self.cells[row as usize]);
        }
        self.rest_squares = self.node.squares;
    }

    /// True when all rows of the node are of one class.
    pub(super) fn pure(&self) -> bool {
        self.node.squares == self.node.weight * self.node.weight
    }

    /// Share of each class in the node.
    pub(super) fn shares(&self) -> impl Iterator<Item = f32> {
        self.node.classes.iter().map(|&class| (class as f64 / self.node.weight as f64) as f32)
    }

    /// Tries every division by a feature whose entries in the node are `entries`, ascending by bin.
    /// False when there is none, because the feature has one value in the node.
    pub(super) fn scan(&mut self, feature: u32, entries: &[Entry], best: &mut Best) -> bool {
        let binned = self.binned;
        let edges = |entry: &Entry| binned.edges(feature, entry.bin());
        let below = entries.partition_point(|entry| edges(entry).1 < 0.0);
        let upto_zero = entries.partition_point(|entry| edges(entry).0 <= 0.0);
        let (below, above) = (&entries[..below], &entries[upto_zero..]);
        let zero = below.len() + above.len() < self.rows;
        let same = |a: &Entry, b: &Entry| a.bin() == b.bin();
        let (mut found, mut won) = (false, false);
        let mut groups = below.chunk_by(same).peekable();
        while let Some(group) = groups.next() {
            self.shift(group);
            let next = groups.peek().map(|higher| edges(&higher[0]).0).or(zero.then_some(0.0));
            if let Some(next) = next.or(above.first().map(|entry| edges(entry).0)) {
                let at = threshold(edges(&group[0]).1, next);
                self.offer(feature, u16::from(group[0].bin()) + 1, at, false, best);
                found = true;
            }
        }
        self.reset(below);
        let mut groups = above.chunk_by(same).rev().peekable();
        while let Some(group) = groups.next() {
            self.shift(group);
            let next = groups.peek().map(|lower| edges(&lower[0]).1).or(zero.then_some(0.0));
            if let Some(next) = next {
                let at = threshold(next, edges(&group[0]).0);
                won |= self.offer(feature, u16::from(group[0].bin()), at, won, best);
                found = true;
            }
        }
        self.reset(above);
        found
    }

    fn shift(&mut self, entries: &[Entry]) {
        for entry in entries {
            let cell = self.cells[entry.row() as usize];
            let (class, weight) = (cell.class as usize, u64::from(cell.weight));
            let rest = self.node.classes[class] - self.moved.classes[class];
            self.rest_squares -= weight * (2 * rest - weight);
            self.moved.add(cell);
        }
    }

    fn reset(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.moved.classes[self.cells[entry.row() as usize].class as usize] = 0;
        }
        (self.moved.weight, self.moved.squares) = (0, 0);
        self.rest_squares = self.node.squares;
    }

    /// The division between what has moved and the rest. `ties`: an equal one is better, too. True
    /// when it became the best.
    fn offer(&self, feature: u32, cut: u16, threshold: f32, ties: bool, best: &mut Best) -> bool {
        let rest = self.node.weight - self.moved.weight;
        let score =
            self.moved.squares as f64 / self.moved.weight as f64 + self.rest_squares as f64 / rest as f64;
        let better = score > best.score || (ties && score >= best.score);
        if better {
            let division = Division { feature, cut, threshold, default_left: threshold >= 0.0 };
            *best = Best { score, division: Some(division) };
        }
        better
    }
}

#[cfg(test)]
mod tests {
    use super::{Best, Cell, Gini};
    use crate::csr::Csr;
    use crate::rng::Rng;
    use crate::trees::bins::Binned;
    use crate::trees::gather::{Division, Gather};
    use crate::trees::samples;

    fn best(x: &Csr, cells: &[Cell], classes: usize, rows: &[u32]) -> (Best, Vec<bool>) {
        let binned = Binned::new(x, 1);
        let (mut gather, mut gini) = (Gather::new(&binned), Gini::new(&binned, cells, classes));
        let features: Vec<u32> = (0..x.columns as u32).collect();
        gather.collect(&features, rows, 0);
        gini.enter(rows);
        let mut best = Best::default();
        let found = features.iter().map(|&f| gini.scan(f, gather.slot(f as usize), &mut best)).collect();
        (best, found)
    }

    fn cells(classes: &[u32]) -> Vec<Cell> {
        classes.iter().map(|&class| Cell { class, weight: 1 }).collect()
    }

    #[test]
    fn a_division_by_hand() {
        // -1 and 0 are of class 0; 2 and 3 of class 1
        let x = samples::dense(&[3.0, -1.0, 0.0, 2.0]);
        let (best, found) = best(&x, &cells(&[1, 0, 0, 1]), 2, &[0, 1, 2, 3]);
        let expected = Division { feature: 0, cut: 2, threshold: 1.0, default_left: true };
        assert_eq!(best, Best { score: 4.0, division: Some(expected) });
        assert_eq!(found, [true]);
    }

    #[test]
    fn below_zero_the_absent_go_right() {
        let x = Csr { indptr: vec![0, 1, 1, 2], indices: vec![0, 0], values: vec![-1.0, 2.0], columns: 1 };
        let (best, _) = best(&x, &cells(&[0, 1, 1]), 2, &[0, 1, 2]);
        let expected = Division { feature: 0, cut: 1, threshold: -0.5, default_left: false };
        assert_eq!(best.division, Some(expected));
    }

    #[test]
    fn of_equal_divisions_the_lowest_threshold_is_taken() {
        let classes = [0, 1, 2, 3, 4, 5];
        for (values, threshold) in
            [([0.0, 0.0, 0.0, 1.0, 2.0, 3.0], 0.5), ([-2.0, -1.0, 0.0, 0.0, 1.0, 2.0], -1.5)]
        {
            let (best, _) = best(&samples::dense(&values), &cells(&classes), 6, &classes);
            assert_eq!((best.score, best.division.map(|at| at.threshold)), (2.0, Some(threshold)));
        }
    }

    #[test]
    fn a_stored_zero_is_an_absent_one() {
        let x = Csr { indptr: vec![0, 1, 1], indices: vec![0], values: vec![0.0], columns: 1 };
        assert_eq!(best(&x, &cells(&[0, 1]), 2, &[0, 1]), (Best::default(), vec![false]));
    }

    #[test]
    fn a_weight_counts_as_so_many_rows() {
        let x = samples::dense(&[1.0, 2.0, 3.0, 3.0, 3.0]);
        let heavy = [(0, 1), (1, 1), (0, 3)].map(|(class, weight)| Cell { class, weight });
        let (weighted, _) = best(&samples::dense(&[1.0, 2.0, 3.0]), &heavy, 2, &[0, 1, 2]);
        assert_eq!(weighted, best(&x, &cells(&[0, 1, 0, 0, 0]), 2, &[0, 1, 2, 3, 4]).0);
    }

    /// Score of a division, from its definition.
    fn score(x: &Csr, cells: &[Cell], rows: &[u32], feature: u32, at: f32) -> Option<f64> {
        let mut sides = [[0.0f64; 3]; 2];
        for &row in rows {
            let (indices, values) = x.row(row as usize);
            let value = indices.binary_search(&feature).map_or(0.0, |place| values[place]);
            let cell = cells[row as usize];
            sides[usize::from(value > at)][cell.class as usize] += f64::from(cell.weight);
        }
        let of = |side: &[f64; 3]| side.iter().map(|k| k * k).sum::<f64>() / side.iter().sum::<f64>();
        let sum = of(&sides[0]) + of(&sides[1]);
        sum.is_finite().then_some(sum)
    }

    #[test]
    fn no_other_threshold_is_better_and_the_order_of_rows_does_not_count() {
        for seed in 0..40 {
            let (x, y) = samples::noisy(30, 5, 3, seed);
            let mut rng = Rng::new(seed, 1);
            let cells: Vec<Cell> =
                y.iter().map(|&class| Cell { class, weight: 1 + rng.below(3) as u32 }).collect();
            let mut rows: Vec<u32> = (0..30).filter(|_| rng.below(3) > 0).collect();
            let (found, varying) = best(&x, &cells, 3, &rows);
            let thresholds = [-3.0, -1.0, -0.1, 0.0, 0.7, 1.5, 2.5];
            let pairs = (0..5).flat_map(|feature| thresholds.map(|at| (feature, at)));
            let all: Vec<_> =
                pairs.map(|(feature, at)| (feature, score(&x, &cells, &rows, feature, at))).collect();
            let most = all.iter().filter_map(|(_, score)| *score).fold(0.0, f64::max);
            assert!((found.score - most).abs() < 1e-9, "seed {seed}: {found:?} {most}");
            for (feature, varies) in varying.iter().enumerate() {
                assert_eq!(*varies, all.iter().any(|&(f, score)| f == feature as u32 && score.is_some()));
            }
            rng.shuffle(&mut rows);
            assert_eq!(best(&x, &cells, 3, &rows).0, found);
        }
    }
}
