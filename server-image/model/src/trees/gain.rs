//! The division of a node that lowers a second-order loss most (Chen, Guestrin: "XGBoost: A scalable
//! tree boosting system", KDD 2016, equations 6 and 7, algorithm 3), for `lambda` 1, `gamma` 0 and a
//! sum of Hessians of at least 1 on each side.
//!
//! Absent entries are unknown: a division puts them on the side where the gain is greater. Gradients
//! are whole multiples of `2^-30`, so sums of them, and differences of sums, are exact in any order.
//!
//! Not every feature has to be looked at closely. From the sum over the rows that have a feature, the
//! gain of dividing these rows from the others follows at once; a bound of all its other divisions
//! follows from that sum and the sum of its negative gradients alone (see [`bound`]). Only features
//! whose bound reaches the best gain so far have their entries gathered. The result is the same.

use super::bins::{Binned, threshold};
use super::gather::{Division, Entry, Gather};

/// What 1 is in fixed point.
const UNIT: f32 = (1u32 << 30) as f32;
/// `lambda`, in fixed point.
const LAMBDA: f64 = UNIT as f64;
/// Least sum of Hessians of a child, in fixed point.
pub(super) const LEAST_HESSIAN: i64 = 1 << 30;
/// A gain has to exceed this, as in XGBoost.
const LEAST_GAIN: f32 = 1e-6;
/// Features gathered in a node first; then twice as many each time.
const FIRST_BATCH: usize = 8;

/// Gradient and Hessian of a row, in fixed point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Pair {
    gradient: i32,
    hessian: i32,
}

impl Pair {
    /// Of the multinomial log loss at a probability of the class: `p - y` and `2 p (1 - p)`. The
    /// second is twice the derivative of the first and never 0, as in XGBoost's `multi:softprob`.
    pub(super) fn new(probability: f32, is_class: bool) -> Self {
        let gradient = (probability - f32::from(u8::from(is_class))) * UNIT;
        let hessian = 2.0 * probability * (1.0 - probability) * UNIT;
        Self {
            gradient: (gradient + 0.5f32.copysign(gradient)) as i32,
            hessian: ((hessian + 0.5) as i32).max(1),
        }
    }
}

/// Gradients and Hessians of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sum {
    gradient: i64,
    pub(super) hessian: i64,
}

impl Sum {
    fn add(&mut self, pair: Pair) {
        self.gradient += i64::from(pair.gradient);
        self.hessian += i64::from(pair.hessian);
    }

    /// Of all these rows.
    pub(super) fn of(pairs: &[Pair]) -> Self {
        let mut sum = Self::default();
        for &pair in pairs {
            sum.add(pair);
        }
        sum
    }

    fn plus(self, other: Self) -> Self {
        Self { gradient: self.gradient + other.gradient, hessian: self.hessian + other.hessian }
    }

    fn minus(self, other: Self) -> Self {
        Self { gradient: self.gradient - other.gradient, hessian: self.hessian - other.hessian }
    }

    /// The value of a leaf that lowers the loss most.
    pub(super) fn weight(self) -> f64 {
        -(self.gradient as f64) / (self.hessian as f64 + LAMBDA)
    }

    /// How much that leaf lowers the loss, twice, in fixed point.
    fn score(self) -> f64 {
        score(self.gradient, self.hessian)
    }
}

fn score(gradient: i64, hessian: i64) -> f64 {
    gradient as f64 * gradient as f64 / (hessian as f64 + LAMBDA)
}

/// Of the rows of a node that have a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Total {
    sum: Sum,
    /// Sum of the gradients below zero.
    negative: i64,
}

impl Total {
    fn add(&mut self, pair: Pair) {
        self.sum.add(pair);
        self.negative += i64::from(pair.gradient.min(0));
    }
}

/// Totals of every feature over all rows.
pub(super) fn all_totals(binned: &Binned<'_>, pairs: &[Pair]) -> Vec<Total> {
    let of_column = |feature| {
        let mut total = Total::default();
        binned.column(feature).0.iter().for_each(|&row| total.add(pairs[row as usize]));
        total
    };
    (0..binned.columns() as u32).map(of_column).collect()
}

/// Totals of every feature over these rows.
pub(super) fn totals(binned: &Binned<'_>, pairs: &[Pair], rows: &[u32]) -> Vec<Total> {
    let mut totals = vec![Total::default(); binned.columns()];
    for &row in rows {
        let pair = pairs[row as usize];
        binned.row(row).0.iter().for_each(|&feature| totals[feature as usize].add(pair));
    }
    totals
}

/// Takes the totals of some rows of a node out of the node's: those of the other rows remain.
pub(super) fn subtract(totals: &mut [Total], some: &[Total]) {
    for (total, some) in totals.iter_mut().zip(some) {
        total.sum = total.sum.minus(some.sum);
        total.negative -= some.negative;
    }
}

/// A division, and what lies on its sides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Split {
    pub(super) division: Division,
    pub(super) left: Sum,
    pub(super) right: Sum,
    gain: f32,
}

/// A node that may be divided.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) rows: &'a [u32],
    pub(super) sum: Sum,
    pub(super) totals: &'a [Total],
}

/// Finds divisions for one tree after another.
#[derive(Debug)]
pub(super) struct Finder<'a> {
    binned: &'a Binned<'a>,
    pub(super) gather: Gather<'a>,
    pairs: &'a [Pair],
}

impl<'a> Finder<'a> {
    pub(super) fn new(binned: &'a Binned<'a>, pairs: &'a [Pair]) -> Self {
        Self { binned, gather: Gather::new(binned), pairs }
    }

    /// The division of greatest gain; of equal ones that of the first feature. None where none gains.
    pub(super) fn find(&mut self, node: Node<'_>) -> Option<Split> {
        let mut best = None;
        for (feature, total) in node.totals.iter().enumerate() {
            if total.sum.hessian >= LEAST_HESSIAN {
                self.offer_presence(feature as u32, total, node, &mut best);
            }
        }
        let mut open = self.open(node, best.as_ref());
        let mut size = FIRST_BATCH;
        while !open.is_empty() {
            let worth = open.partition_point(|&(bound, _)| reaches(bound, best.as_ref()));
            let batch: Vec<u32> = open.drain(..worth.min(size)).map(|(_, feature)| feature).collect();
            if batch.is_empty() {
                break;
            }
            self.gather.collect(&batch, node.rows, 1);
            for (slot, &feature) in batch.iter().enumerate() {
                self.scan(feature, self.gather.slot(slot), node, &mut best);
            }
            size *= 2;
        }
        best
    }

    /// Rows with the feature to the left, others to the right.
    fn offer_presence(&self, feature: u32, total: &Total, node: Node<'_>, best: &mut Option<Split>) {
        let cut = self.binned.bins(feature) as u16;
        let division = Division { feature, cut, threshold: f32::MAX, default_left: false };
        offer(division, total.sum, node.sum, best);
    }

    /// Features that have divisions by value, and whose bound reaches the best gain: greatest bound first.
    fn open(&self, node: Node<'_>, best: Option<&Split>) -> Vec<(f32, u32)> {
        let mut open = Vec::new();
        for (feature, total) in node.totals.iter().enumerate() {
            if total.sum.hessian >= LEAST_HESSIAN && self.binned.bins(feature as u32) > 1 {
                let bound = bound(total, node.sum);
                if reaches(bound, best) {
                    open.push((bound, feature as u32));
                }
            }
        }
        open.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        open
    }

    /// Every division by value of a feature. `entries` are those in the node, but for those of its first
    /// bin, ascending by bin: terms mostly occur once in a row, so counting down saves most of the work.
    ///
    /// Among equals a division that puts the absent on the right is taken, and of these the one with the
    /// lowest threshold; of those that put them on the left the one with the highest. As XGBoost does.
    fn scan(&self, feature: u32, entries: &[Entry], node: Node<'_>, best: &mut Option<Split>) {
        let total = node.totals[feature as usize].sum;
        let absent = node.sum.minus(total);
        let hurdle = Hurdle::new(node.sum, best.as_ref());
        let (mut high, mut absent_right, mut absent_left) = (Sum::default(), *best, None);
        for (at, entry) in entries.iter().enumerate().rev() {
            high.add(self.pairs[entry.row() as usize]);
            let next = at.checked_sub(1).map_or(0, |at| entries[at].bin());
            let low = total.minus(high);
            // every row has a Hessian above 0
            if next == entry.bin() || low.hessian == 0 {
                continue;
            }
            let division = |default_left| {
                let (_, below) = self.binned.edges(feature, next);
                let (above, _) = self.binned.edges(feature, entry.bin());
                let cut = u16::from(entry.bin());
                Division { feature, cut, threshold: threshold(below, above), default_left }
            };
            if hurdle.is_taken_by(low) {
                offer(division(false), low, node.sum, &mut absent_right);
            }
            if absent.hessian > 0 && hurdle.is_taken_by(low.plus(absent)) {
                offer(division(true), low.plus(absent), node.sum, &mut absent_left);
            }
        }
        *best = absent_right;
        if let Some(Split { division, left, .. }) = absent_left {
            offer(division, left, node.sum, best);
        }
    }
}

/// What a division has to reach to be worth a closer look; without dividing numbers.
struct Hurdle {
    node: Sum,
    /// A little less than the sum of the scores of both sides at the best gain.
    scores: f64,
}

impl Hurdle {
    fn new(node: Sum, best: Option<&Split>) -> Self {
        let gain = f64::from(best.map_or(LEAST_GAIN, |best| best.gain)) * LAMBDA;
        Self { node, scores: (gain * (1.0 - 1e-6) + node.score()) * (1.0 - 1e-9) }
    }

    fn is_taken_by(&self, left: Sum) -> bool {
        let right = self.node.minus(left);
        let (l, r) = (left.gradient as f64, right.gradient as f64);
        let (over_l, over_r) = (left.hessian as f64 + LAMBDA, right.hessian as f64 + LAMBDA);
        let large = left.hessian >= LEAST_HESSIAN && right.hessian >= LEAST_HESSIAN;
        large && l * l * over_r + r * r * over_l >= self.scores * over_l * over_r
    }
}

/// Could a gain up to this one replace the best?
fn reaches(bound: f32, best: Option<&Split>) -> bool {
    best.map_or(bound > LEAST_GAIN, |best| bound >= best.gain)
}

fn offer(division: Division, left: Sum, node: Sum, best: &mut Option<Split>) {
    let right = node.minus(left);
    if left.hessian < LEAST_HESSIAN || right.hessian < LEAST_HESSIAN {
        return;
    }
    let gain = ((left.score() + right.score() - node.score()) / LAMBDA) as f32;
    let better = match best {
        None => gain > LEAST_GAIN,
        Some(best) => gain > best.gain || (gain >= best.gain && comes_before(division, best.division)),
    };
    if better {
        *best = Some(Split { division, left, right, gain });
    }
}

/// Is the first of two divisions of equal gain taken?
fn comes_before(one: Division, other: Division) -> bool {
    let lower = one.cut < other.cut && !one.default_left && !other.default_left;
    one.feature < other.feature || (one.feature == other.feature && lower)
}

/// No division by a feature gains more than this.
///
/// One side, A, holds only rows that have the feature. Its gradient is at least the sum `low` of the
/// negative ones of these rows, at most the sum `high` of the others; its Hessian is at least 1, and
/// that of the other side B at least that of the rows without the feature. With denominators at these
/// least values the gain is a convex function of A's gradient: it is greatest at `low` or at `high`.
fn bound(total: &Total, node: Sum) -> f32 {
    let others = (node.hessian - total.sum.hessian).max(LEAST_HESSIAN);
    let at = |gradient: i64| score(gradient, LEAST_HESSIAN) + score(node.gradient - gradient, others);
    let most = at(total.negative).max(at(total.sum.gradient - total.negative));
    // rounding must not lower it
    ((most * (1.0 + 1e-9) - node.score()) / LAMBDA) as f32 * (1.0 + 1e-6)
}

#[cfg(test)]
mod tests {
    use super::{Finder, LAMBDA, Node, Pair, Split, Sum, all_totals, bound, subtract, totals};
    use crate::csr::Csr;
    use crate::rng::Rng;
    use crate::trees::bins::Binned;
    use crate::trees::samples;

    fn find(x: &Csr, pairs: &[Pair], rows: &[u32]) -> Option<Split> {
        let binned = Binned::new(x, 1);
        let totals = totals(&binned, pairs, rows);
        let mut sum = Sum::default();
        for &row in rows {
            sum.add(pairs[row as usize]);
        }
        Finder::new(&binned, pairs).find(Node { rows, sum, totals: &totals })
    }

    fn real(value: i64) -> f64 {
        value as f64 / LAMBDA
    }

    #[test]
    fn gradients_and_hessians_by_hand() {
        assert_eq!(Pair::new(0.25, false), Pair { gradient: 1 << 28, hessian: 3 << 27 });
        assert_eq!(Pair::new(0.25, true), Pair { gradient: -3 << 28, hessian: 3 << 27 });
        assert_eq!(Pair::new(1.0, true), Pair { gradient: 0, hessian: 1 });
        // a value lies on its nearest multiple
        assert_eq!(Pair::new(1.6 / (1u32 << 30) as f32, false).gradient, 2);
    }

    #[test]
    fn the_weight_of_a_leaf_by_hand() {
        let sum = Sum::of(&[Pair::new(0.5, true); 4]);
        // gradient -2, Hessian 2: 2 / (2 + 1)
        assert!((sum.weight() - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn totals_of_parts_are_the_whole() {
        let (x, y) = samples::noisy(80, 9, 2, 4);
        let binned = Binned::new(&x, 1);
        let pairs: Vec<Pair> = y.iter().map(|&k| Pair::new(0.3, k == 0)).collect();
        let (some, rest): (Vec<u32>, Vec<u32>) = (0..80).partition(|row| row % 3 == 0);
        let mut all = all_totals(&binned, &pairs);
        assert_eq!(all, totals(&binned, &pairs, &(0..80).collect::<Vec<_>>()));
        subtract(&mut all, &totals(&binned, &pairs, &some));
        assert_eq!(all, totals(&binned, &pairs, &rest));
    }

    #[test]
    fn a_side_with_too_small_a_hessian_is_no_side() {
        let x = samples::dense(&[1.0, 1.0, 2.0, 2.0]);
        let pairs = |p| [true, true, false, false].map(|is_class| Pair::new(p, is_class));
        let split = find(&x, &pairs(0.5), &[0, 1, 2, 3]).unwrap();
        assert_eq!((split.division.threshold, split.division.default_left), (1.5, false));
        // each side: 1 / (1 + 1); nothing before
        assert!((split.gain - 1.0).abs() < 1e-6);
        assert_eq!(find(&x, &pairs(0.4), &[0, 1, 2, 3]), None);
    }

    #[test]
    fn absent_entries_go_where_they_gain() {
        // rows of the class have 1 or nothing, others 2
        let mut x = Csr::empty(1);
        for row in 0..12 {
            if row % 3 > 0 {
                x.indices.push(0);
                x.values.push((row % 3) as f32);
            }
            x.finish_row();
        }
        let pairs: Vec<Pair> = (0..12).map(|row| Pair::new(0.5, row % 3 < 2)).collect();
        let split = find(&x, &pairs, &(0..12).collect::<Vec<_>>()).unwrap();
        assert_eq!((split.division.threshold, split.division.default_left), (1.5, true));
        assert_eq!((real(split.left.gradient), real(split.right.gradient)), (-4.0, 2.0));
    }

    /// Gains of all divisions by a feature, from their definition: the greatest.
    fn brute(x: &Csr, pairs: &[Pair], rows: &[u32], feature: u32) -> f64 {
        let sum = |keep: &dyn Fn(Option<f32>) -> bool| {
            let mut sum = (0.0, 0.0);
            for &row in rows {
                let (indices, values) = x.row(row as usize);
                if keep(indices.binary_search(&feature).ok().map(|at| values[at])) {
                    let pair = pairs[row as usize];
                    sum.0 += real(i64::from(pair.gradient));
                    sum.1 += real(i64::from(pair.hessian));
                }
            }
            sum
        };
        let score = |(g, h): (f64, f64)| g * g / (h + 1.0);
        let mut most = f64::NEG_INFINITY;
        for at in [-9.0f32, -1.0, -0.1, 0.2, 0.7, 1.5, 2.5, 9.0] {
            for absent_left in [false, true] {
                let is_left = |value: Option<f32>| value.map_or(absent_left, |value| value <= at);
                let (left, right) = (sum(&is_left), sum(&|value| !is_left(value)));
                if left.1 >= 1.0 && right.1 >= 1.0 {
                    most = most.max(score(left) + score(right) - score(sum(&|_| true)));
                }
            }
        }
        most
    }

    #[test]
    fn no_division_is_better_and_no_bound_is_passed() {
        let mut splits = 0;
        for seed in 0..60 {
            let (x, y) = samples::noisy(120, 6, 2, seed);
            let mut rng = Rng::new(seed, 9);
            let pairs: Vec<Pair> =
                y.iter().map(|&k| Pair::new(rng.below(1000) as f32 / 1000.0, k == 0)).collect();
            let mut rows: Vec<u32> = (0..120).filter(|_| rng.below(3) > 0).collect();
            let (binned, found) = (Binned::new(&x, 1), find(&x, &pairs, &rows));
            let sum = rows.iter().fold(Sum::default(), |sum, &row| sum.plus(Sum::of(&[pairs[row as usize]])));
            let totals = totals(&binned, &pairs, &rows);
            let gains: Vec<f64> = (0..6).map(|feature| brute(&x, &pairs, &rows, feature)).collect();
            let most = gains.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert_eq!(found.is_some(), most > 1e-6, "seed {seed}");
            if let Some(found) = found {
                splits += 1;
                assert!((f64::from(found.gain) - most).abs() < 1e-5 * most, "seed {seed}: {found:?} {most}");
                let own = gains[found.division.feature as usize];
                assert!((f64::from(found.gain) - own).abs() < 1e-5 * own, "seed {seed}");
                assert_eq!(found.left.plus(found.right), sum);
            }
            for (total, gain) in totals.iter().zip(&gains) {
                assert!(f64::from(bound(total, sum)) >= *gain, "seed {seed}: {total:?} {gain}");
            }
            rng.shuffle(&mut rows);
            assert_eq!(find(&x, &pairs, &rows), found);
        }
        assert!(splits > 50, "{splits}");
    }

    #[test]
    fn of_equal_divisions_the_lowest_and_with_absence_on_the_right_is_taken() {
        // a row that changes nothing between two and two others
        let pairs = [(0.5, true), (0.5, true), (0.0, false), (0.5, false), (0.5, false)];
        let pairs = pairs.map(|(p, is_class)| Pair::new(p, is_class));
        let rows = [0, 1, 2, 3, 4];
        let division = |x: &Csr| find(x, &pairs, &rows).unwrap().division;
        let dense = division(&samples::dense(&[1.0, 1.0, 2.0, 3.0, 3.0]));
        assert_eq!((dense.threshold, dense.default_left), (1.5, false));
        // the first two have nothing: all that is present goes left
        let mut sparse = samples::dense(&[2.0, 3.0, 3.0]);
        sparse.indptr.splice(0..0, [0, 0]);
        let present = division(&sparse);
        assert_eq!((present.cut, present.default_left), (2, false));
    }

    #[test]
    fn the_first_of_equal_features_divides() {
        let mut x = Csr::empty(4);
        let mut pairs = Vec::new();
        for row in 0..40u32 {
            let value = if row % 4 < 2 { 1.0 } else { 2.0 };
            x.indices.extend([1, 2, 3]);
            x.values.extend([(row % 3) as f32, value, value]);
            x.finish_row();
            pairs.push(Pair::new(0.5, row % 4 < 2));
        }
        let split = find(&x, &pairs, &(0..40).collect::<Vec<_>>()).unwrap();
        assert_eq!((split.division.feature, split.division.cut), (2, 1));
    }
}
