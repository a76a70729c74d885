//! Gradient boosting of trees for many classes: in each round one tree for each class, grown on the
//! gradients of the multinomial log loss at what all rounds before gave (Friedman: "Greedy function
//! approximation: a gradient boosting machine", 2001, algorithm 6; second order as in Chen and
//! Guestrin, see [`super::gain`]).
//!
//! On rows like those learnt from the numbers are those of XGBoost 3 with `objective=multi:softprob`, `tree_method=exact` and its
//! defaults (`lambda` 1, `gamma` 0, `min_child_weight` 1): the Hessian is `2 p (1 - p)`, scores start
//! from the logarithms of the classes' shares less their mean, a threshold is the middle of two values,
//! absent entries are unknown and go where each node learned. A stored 0 is a value, not an absent
//! entry. Columns of more than 255 distinct values are binned, as in `tree_method=hist`.

use super::bins::Binned;
use super::gain::{self, Finder, LEAST_HESSIAN, Node, Pair, Split, Sum, Total};
use super::tree::{Scratch, TreeError, Trees};
use crate::csr::Csr;
use crate::head::{Problem, TrainError, score_rows};
use crate::parallel;

/// Rows whose gradients are computed as one piece of parallel work.
const ROWS_PER_PIECE: usize = 256;
/// Added to the share of a class before its logarithm, as in XGBoost: a class may have no rows.
const LEAST_SHARE: f64 = 1e-6;

/// Hyperparameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GradientBoosting {
    /// Trees of each class.
    pub rounds: u32,
    /// Most divisions between a root and a leaf.
    pub max_depth: u32,
    /// What every leaf's value is multiplied with.
    pub learning_rate: f64,
}

/// A trained ensemble. Scores are margins: their softmax is the probabilities.
#[derive(Debug, Clone, PartialEq)]
pub struct Boosted {
    /// Number of classes.
    pub classes: usize,
    /// Number of features.
    pub features: usize,
    /// Margins of a row before the first tree, by class.
    pub(crate) base: Vec<f32>,
    /// `rounds * classes` trees, `[round][class]`; a leaf's value is a place in `values`.
    pub(crate) trees: Trees,
    /// What a leaf adds to the margin of its tree's class.
    pub(crate) values: Vec<f32>,
}

/// Trains the rounds, on at most `threads` threads. Equal arguments give equal bits, whatever
/// `threads` is. Nothing here is random.
///
/// # Errors
/// No rounds, no depth, a learning rate that is not positive and finite or so large that scores
/// overflow, labels that do not fit, a matrix that is not sound.
pub fn fit(problem: Problem<'_>, settings: &GradientBoosting, threads: usize) -> Result<Boosted, TrainError> {
    let rate = settings.learning_rate;
    problem.check("rounds", f64::from(settings.rounds))?;
    problem.check("maxDepth", f64::from(settings.max_depth))?;
    problem.check("learningRate", rate)?;
    let Problem { x, y, classes } = problem;
    let binned = Binned::new(x, threads);
    let base = base_margins(y, classes);
    let mut boosted =
        Boosted { classes, features: x.columns, base, trees: Trees::default(), values: Vec::new() };
    let mut blocks: Vec<Block> =
        y.chunks(ROWS_PER_PIECE).map(|labels| Block::new(labels, &boosted.base)).collect();
    let mut steps: Vec<Vec<f32>> = Vec::new();
    for _ in 0..settings.rounds {
        parallel::map_chunks(&mut blocks, 1, threads, |number, chunk| {
            for block in chunk {
                block.advance(number * ROWS_PER_PIECE, &steps);
            }
        });
        let grown = parallel::map(classes, threads, |class| {
            let pairs: Vec<Pair> = blocks.iter().flat_map(|block| block.pairs(class)).copied().collect();
            Grower::new(&binned, &pairs, settings).grow()
        });
        steps.clear();
        for one in grown {
            boosted.trees.append(&one.tree, boosted.values.len() as u32);
            boosted.values.extend(one.values);
            steps.push(one.steps);
        }
    }
    if boosted.overflows() {
        return Err(TrainError::NonFinite { name: "learningRate", value: rate });
    }
    Ok(boosted)
}

/// `ln(share of the class)`, less the mean of these over the classes.
fn base_margins(y: &[u32], classes: usize) -> Vec<f32> {
    let mut counts = vec![0u32; classes];
    for &class in y {
        counts[class as usize] += 1;
    }
    let log = |&count: &u32| libm::log(f64::from(count) / y.len() as f64 + LEAST_SHARE);
    let logs: Vec<f64> = counts.iter().map(log).collect();
    let mean = logs.iter().sum::<f64>() / classes as f64;
    logs.iter().map(|log| (log - mean) as f32).collect()
}

/// Some consecutive rows between rounds. Numbers are `[class][row]`.
#[derive(Debug)]
struct Block<'a> {
    labels: &'a [u32],
    margins: Vec<f32>,
    pairs: Vec<Pair>,
}

impl<'a> Block<'a> {
    fn new(labels: &'a [u32], base: &[f32]) -> Self {
        let margins: Vec<f32> = base.iter().flat_map(|&margin| labels.iter().map(move |_| margin)).collect();
        Self { labels, pairs: vec![Pair::default(); margins.len()], margins }
    }

    fn pairs(&self, class: usize) -> &[Pair] {
        &self.pairs[class * self.labels.len()..][..self.labels.len()]
    }

    /// Adds what the last round's tree of each class gives to these rows, which start at row `first`
    /// of all, and computes their gradients.
    fn advance(&mut self, first: usize, steps: &[Vec<f32>]) {
        let rows = self.labels.len();
        for (margins, step) in self.margins.chunks_exact_mut(rows).zip(steps) {
            margins.iter_mut().zip(&step[first..first + rows]).for_each(|(margin, step)| *margin += step);
        }
        let mut most = vec![f32::NEG_INFINITY; rows];
        for margins in self.margins.chunks_exact(rows) {
            most.iter_mut().zip(margins).for_each(|(most, &margin)| *most = most.max(margin));
        }
        let mut sums = vec![0.0f64; rows];
        let mut powers = Vec::with_capacity(self.margins.len());
        for margins in self.margins.chunks_exact(rows) {
            for ((sum, margin), most) in sums.iter_mut().zip(margins).zip(&most) {
                let power = libm::expf(margin - most);
                *sum += f64::from(power);
                powers.push(power);
            }
        }
        for (class, (pairs, powers)) in self.pairs.chunks_exact_mut(rows).zip(powers.chunks(rows)).enumerate()
        {
            for (row, (pair, power)) in pairs.iter_mut().zip(powers).enumerate() {
                *pair = Pair::new(power / sums[row] as f32, self.labels[row] as usize == class);
            }
        }
    }
}

/// A tree, the values of its leaves, and what it gives to each row that it was grown on.
#[derive(Debug, Default)]
struct Grown {
    tree: Trees,
    values: Vec<f32>,
    steps: Vec<f32>,
}

/// A node that is not in the tree yet. Without totals it becomes a leaf.
struct Waiting {
    node: u32,
    depth: u32,
    rows: Vec<u32>,
    sum: Sum,
    totals: Option<Vec<Total>>,
}

/// One tree on its way.
struct Grower<'a> {
    binned: &'a Binned<'a>,
    pairs: &'a [Pair],
    settings: &'a GradientBoosting,
    finder: Finder<'a>,
    grown: Grown,
}

impl<'a> Grower<'a> {
    fn new(binned: &'a Binned<'a>, pairs: &'a [Pair], settings: &'a GradientBoosting) -> Self {
        let grown = Grown { steps: vec![0.0; pairs.len()], ..Grown::default() };
        Self { binned, pairs, settings, finder: Finder::new(binned, pairs), grown }
    }

    fn grow(mut self) -> Grown {
        let root = Waiting {
            node: self.grown.tree.start(),
            depth: 0,
            rows: (0..self.pairs.len() as u32).collect(),
            sum: Sum::of(self.pairs),
            totals: Some(gain::all_totals(self.binned, self.pairs)),
        };
        let mut waiting = vec![root];
        while let Some(next) = waiting.pop() {
            let node = next.totals.as_ref().map(|totals| Node { rows: &next.rows, sum: next.sum, totals });
            match node.and_then(|node| self.finder.find(node)) {
                Some(split) => waiting.extend(self.divide(next, &split)),
                None => self.leaf(&next),
            }
        }
        self.grown
    }

    fn leaf(&mut self, at: &Waiting) {
        let value = (at.sum.weight() * self.settings.learning_rate) as f32;
        self.grown.tree.set_leaf(at.node, self.grown.values.len() as u32);
        self.grown.values.push(value);
        for &row in &at.rows {
            self.grown.steps[row as usize] = value;
        }
    }

    /// The two children; those that may be divided have their totals. The smaller one's come from its
    /// rows, the other's are what is left of the parent's.
    fn divide(&mut self, parent: Waiting, split: &Split) -> [Waiting; 2] {
        let at = split.division;
        let ids = self.grown.tree.set_split(parent.node, at.feature, at.threshold, at.default_left);
        let (left, right) = self.finder.gather.divide(&parent.rows, at);
        let depth = parent.depth + 1;
        let mut children = [(ids.0, left, split.left), (ids.1, right, split.right)]
            .map(|(node, rows, sum)| Waiting { node, depth, rows, sum, totals: None });
        let small = usize::from(children[1].rows.len() < children[0].rows.len());
        let large = 1 - small;
        let divisible =
            |child: &Waiting| depth < self.settings.max_depth && child.sum.hessian >= 2 * LEAST_HESSIAN;
        let (small_too, large_too) = (divisible(&children[small]), divisible(&children[large]));
        if small_too || large_too {
            let some = gain::totals(self.binned, self.pairs, &children[small].rows);
            if large_too && let Some(mut rest) = parent.totals {
                gain::subtract(&mut rest, &some);
                children[large].totals = Some(rest);
            }
            children[small].totals = small_too.then_some(some);
        }
        children
    }
}

impl Boosted {
    /// Number of trees.
    pub fn trees(&self) -> usize {
        self.trees.len()
    }

    /// Number of nodes, leaves included.
    pub fn nodes(&self) -> usize {
        self.trees.nodes()
    }

    /// Scores of every row, `[row][class]`: margins, whose softmax is the probabilities.
    pub fn scores(&self, x: &Csr, threads: usize) -> Vec<f32> {
        let scratch = || Scratch::new(self.features);
        score_rows(x, self.classes, threads, scratch, |indices, values, scratch, out| {
            self.score_row(indices, values, scratch, out);
        })
    }

    /// Scores of one row. `scratch` is for rows of as many features, `out` has a place for each class.
    pub fn score_row(&self, indices: &[u32], values: &[f32], scratch: &mut Scratch, out: &mut [f32]) {
        out.copy_from_slice(&self.base);
        scratch.with(indices, values, |row| {
            for tree in 0..self.trees.len() {
                out[tree % self.classes] += self.values[self.trees.leaf(tree, row)];
            }
        });
    }

    /// Can rows be scored with these arrays, wherever they come from?
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), TreeError> {
        let fits = self.classes > 0 && self.base.len() == self.classes;
        if !fits || !self.trees.len().is_multiple_of(self.classes) {
            return Err(TreeError::Shape);
        }
        if self.base.iter().any(|value| !value.is_finite()) || self.overflows() {
            return Err(TreeError::NonFinite);
        }
        self.trees.check(self.features, self.values.len())
    }

    /// Could a row's score leave the range of numbers? Judged by the largest value alone.
    fn overflows(&self) -> bool {
        let greatest =
            |values: &[f32]| values.iter().fold(0.0f64, |most, value| most.max(f64::from(value.abs())));
        let rounds = self.trees.len() as f64;
        let known = self.values.iter().all(|value| value.is_finite());
        !known || greatest(&self.base) + greatest(&self.values) * rounds >= f64::from(f32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::{Binned, Boosted, GradientBoosting, Grower, Pair, base_margins, fit};
    use crate::csr::Csr;
    use crate::head::{Problem, TrainError, argmax};
    use crate::rng::Rng;
    use crate::trees::samples;
    use crate::trees::tree::{LEAF, Scratch, TreeError};

    const SMALL: GradientBoosting = GradientBoosting { rounds: 12, max_depth: 3, learning_rate: 0.3 };

    fn problem<'a>(x: &'a Csr, y: &'a [u32], classes: usize) -> Problem<'a> {
        Problem { x, y, classes }
    }

    #[test]
    fn one_round_by_hand() {
        // rows with the feature are of class 1
        let mut x = Csr::empty(1);
        for row in 0..8 {
            x.indices.extend((row < 4).then_some(0));
            x.values.extend((row < 4).then_some(2.0));
            x.finish_row();
        }
        let y = [1, 1, 1, 1, 0, 0, 0, 0];
        let settings = GradientBoosting { rounds: 1, max_depth: 1, learning_rate: 0.5 };
        let boosted = fit(problem(&x, &y, 2), &settings, 1).unwrap();
        boosted.check().unwrap();
        assert_eq!(boosted.trees.feature, [0, LEAF, LEAF, 0, LEAF, LEAF]);
        assert_eq!(boosted.base, [0.0, 0.0]);
        // gradient 4 * .5, Hessian 4 * .5: 2 / 3, times .5
        let expected = [-1.0f32 / 3.0, 1.0 / 3.0, 1.0 / 3.0, -1.0 / 3.0];
        for (score, expected) in boosted.scores(&x, 1)[6..10].iter().zip(expected) {
            assert!((score - expected).abs() < 1e-6, "{score} {expected}");
        }
    }

    #[test]
    fn scores_start_from_the_shares_of_the_classes() {
        let base = base_margins(&[0, 0, 0, 1], 3);
        let logs = [0.75f64 + 1e-6, 0.25 + 1e-6, 1e-6].map(f64::ln);
        let mean = logs.iter().sum::<f64>() / 3.0;
        for (base, log) in base.iter().zip(logs) {
            assert!((f64::from(*base) - (log - mean)).abs() < 1e-6);
        }
    }

    /// What a tree adds to the rows that it was grown on is what scoring them gives, bit by bit.
    #[test]
    fn rows_take_the_same_way_in_training_and_in_scoring() {
        let settings = GradientBoosting { max_depth: 7, ..SMALL };
        let mut rng = Rng::new(3, 3);
        let many = samples::dense(&(0..900).map(|_| rng.below(100_000) as f32 - 5e4).collect::<Vec<_>>());
        for x in [samples::noisy(900, 14, 3, 8).0, many] {
            let pairs: Vec<Pair> =
                (0..900).map(|_| Pair::new(rng.below(1000) as f32 / 1000.0, rng.below(3) == 0)).collect();
            let binned = Binned::new(&x, 1);
            let grown = Grower::new(&binned, &pairs, &settings).grow();
            assert!(grown.values.len() > 20);
            let mut scratch = Scratch::new(x.columns);
            for (row, step) in grown.steps.iter().enumerate() {
                let (indices, values) = x.row(row);
                let leaf = scratch.with(indices, values, |row| grown.tree.leaf(0, row));
                assert_eq!(grown.values[leaf].to_bits(), step.to_bits(), "row {row}");
            }
        }
    }

    #[test]
    fn equal_arguments_give_equal_bits_on_any_number_of_threads() {
        let (x, y) = samples::noisy(600, 20, 3, 1);
        let one = fit(problem(&x, &y, 3), &SMALL, 1).unwrap();
        for threads in [2, 3] {
            let other = fit(problem(&x, &y, 3), &SMALL, threads).unwrap();
            assert_eq!(other, one);
            assert_eq!(other.scores(&x, threads), one.scores(&x, 1));
        }
        assert_eq!(one.trees(), 36);
    }

    #[test]
    fn an_ensemble_learns_and_a_class_without_rows_never_wins() {
        let (x, y) = samples::noisy(600, 12, 3, 2);
        let boosted = fit(problem(&x, &y, 4), &GradientBoosting { rounds: 30, ..SMALL }, 2).unwrap();
        let (other, truth) = samples::noisy(600, 12, 3, 3);
        let predicted = argmax(&boosted.scores(&other, 2), 4);
        let right = predicted.iter().zip(&truth).filter(|(a, b)| a == b).count();
        assert!(right > 400 && predicted.iter().all(|&class| class < 3), "{right}");
    }

    #[test]
    fn what_cannot_be_trained_is_refused() {
        let (x, y) = samples::noisy(60, 4, 2, 1);
        let with = |rounds, max_depth, learning_rate| {
            let settings = GradientBoosting { rounds, max_depth, learning_rate };
            fit(problem(&x, &y, 2), &settings, 1).map(|boosted| boosted.trees())
        };
        let hyperparameter = |name, value| Err(TrainError::Hyperparameter { name, value });
        assert_eq!(with(0, 1, 0.1), hyperparameter("rounds", 0.0));
        assert_eq!(with(1, 0, 0.1), hyperparameter("maxDepth", 0.0));
        for rate in [0.0, -1.0, f64::INFINITY] {
            assert_eq!(with(1, 1, rate), hyperparameter("learningRate", rate));
        }
        assert!(matches!(with(1, 1, f64::NAN), Err(TrainError::Hyperparameter { .. })));
        assert_eq!(with(5, 3, 1e300), Err(TrainError::NonFinite { name: "learningRate", value: 1e300 }));
        assert_eq!(with(1, 1, 0.1), Ok(2));
        let empty = Csr { indptr: vec![0; 61], ..Csr::empty(0) };
        assert_eq!(fit(problem(&empty, &y, 2), &SMALL, 1).unwrap().nodes(), 24);
    }

    #[test]
    fn ensembles_that_cannot_be_walked_are_told_apart() {
        let (x, y) = samples::noisy(60, 4, 2, 1);
        let boosted = fit(problem(&x, &y, 2), &SMALL, 1).unwrap();
        let broken = |change: &dyn Fn(&mut Boosted)| {
            let mut boosted = boosted.clone();
            change(&mut boosted);
            boosted.check()
        };
        assert_eq!(broken(&|_| ()), Ok(()));
        assert_eq!(broken(&|b| b.classes = 0), Err(TreeError::Shape));
        assert_eq!(broken(&|b| b.base.push(0.0)), Err(TreeError::Shape));
        assert_eq!(broken(&|b| b.trees.roots.truncate(23)), Err(TreeError::Shape));
        assert_eq!(broken(&|b| b.base[0] = f32::NAN), Err(TreeError::NonFinite));
        assert_eq!(broken(&|b| b.values[0] = f32::INFINITY), Err(TreeError::NonFinite));
        assert!(matches!(broken(&|b| b.values.clear()), Err(TreeError::Leaf { .. })));
    }
}
