//! A random forest (Breiman: "Random forests", Machine Learning 45, 2001), with the choices of
//! scikit-learn's `RandomForestClassifier`: Gini impurity, a bootstrap sample of the rows for each
//! tree, for each node a fresh choice of the square root of the number of features, of which more
//! are looked at only until one can divide the node at all. Nodes are divided until they are pure
//! or at `max_depth`. A class's probability is the mean of its shares in the leaves that a row
//! reaches.
//!
//! Rows of equal probability need not fall on the same side as in scikit-learn: the random numbers
//! are others. Thresholds are 32-bit numbers, and columns of more than 255 distinct values are binned.

use super::bins::Binned;
use super::gather::{Division, Gather};
use super::gini::{Best, Cell, Gini};
use super::tree::{Scratch, TreeError, Trees};
use crate::csr::Csr;
use crate::head::{Problem, TrainError, score_rows};
use crate::parallel;
use crate::rng::Rng;

/// Probabilities below this one score as this one, so that scores are finite.
const LEAST_PROBABILITY: f64 = 1e-6;

/// Hyperparameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RandomForest {
    /// Number of trees.
    pub trees: u32,
    /// Most divisions between a root and a leaf.
    pub max_depth: u32,
}

/// A trained forest. Scores are logarithms of probabilities.
#[derive(Debug, Clone, PartialEq)]
pub struct Forest {
    /// Number of classes.
    pub classes: usize,
    /// Number of features.
    pub features: usize,
    /// The trees; a leaf's value is a number of a row of `leaves`.
    pub(crate) trees: Trees,
    /// Shares of the classes, `[leaf][class]`.
    pub(crate) leaves: Vec<f32>,
}

/// Trains the trees, on at most `threads` threads. Equal arguments give equal bits, whatever
/// `threads` is.
///
/// # Errors
/// No trees, no depth, labels that do not fit, a matrix that is not sound.
pub fn fit(
    problem: Problem<'_>,
    settings: &RandomForest,
    seed: u64,
    threads: usize,
) -> Result<Forest, TrainError> {
    problem.check("trees", f64::from(settings.trees))?;
    problem.check("maxDepth", f64::from(settings.max_depth))?;
    let Problem { x, y, classes } = problem;
    let binned = Binned::new(x, threads);
    let grown = parallel::map(settings.trees as usize, threads, |tree| {
        let mut rng = Rng::new(seed, tree as u64);
        let cells = bootstrap(y, &mut rng);
        Grower::new(&binned, &cells, classes, rng, settings.max_depth).grow()
    });
    let mut forest = Forest { classes, features: x.columns, trees: Trees::default(), leaves: Vec::new() };
    for (tree, leaves) in grown {
        forest.trees.append(&tree, (forest.leaves.len() / classes) as u32);
        forest.leaves.extend(leaves);
    }
    Ok(forest)
}

/// Classes of the rows, and how often each is drawn in as many draws as there are rows.
fn bootstrap(y: &[u32], rng: &mut Rng) -> Vec<Cell> {
    let mut cells: Vec<Cell> = y.iter().map(|&class| Cell { class, weight: 0 }).collect();
    for _ in 0..cells.len() {
        let row = rng.below(cells.len());
        cells[row].weight += 1;
    }
    cells
}

/// One tree on its way.
struct Grower<'a> {
    binned: &'a Binned<'a>,
    gather: Gather<'a>,
    gini: Gini<'a>,
    /// Rows of the root.
    rows: Vec<u32>,
    rng: Rng,
    max_depth: u32,
    /// A permutation of the features, mixed further for each node.
    order: Vec<u32>,
    /// Features chosen for a node.
    tries: usize,
    tree: Trees,
    leaves: Vec<f32>,
    classes: usize,
}

impl<'a> Grower<'a> {
    fn new(binned: &'a Binned<'a>, cells: &'a [Cell], classes: usize, rng: Rng, max_depth: u32) -> Self {
        let features = binned.columns() as u32;
        Self {
            binned,
            gather: Gather::new(binned),
            gini: Gini::new(binned, cells, classes),
            rows: (0..cells.len() as u32).filter(|&row| cells[row as usize].weight > 0).collect(),
            rng,
            max_depth,
            order: (0..features).collect(),
            tries: features.isqrt().max(u32::from(features > 0)) as usize,
            tree: Trees::default(),
            leaves: Vec::new(),
            classes,
        }
    }

    fn grow(mut self) -> (Trees, Vec<f32>) {
        let root = self.tree.start();
        let mut waiting = vec![(root, std::mem::take(&mut self.rows), 0)];
        while let Some((node, rows, depth)) = waiting.pop() {
            self.gini.enter(&rows);
            let division =
                if depth == self.max_depth || self.gini.pure() { None } else { self.division(&rows) };
            if let Some(at) = division {
                let (left, right) = self.tree.set_split(node, at.feature, at.threshold, at.default_left);
                let (left_rows, right_rows) = self.gather.divide(&rows, at);
                waiting.push((right, right_rows, depth + 1));
                waiting.push((left, left_rows, depth + 1));
            } else {
                self.tree.set_leaf(node, (self.leaves.len() / self.classes) as u32);
                self.leaves.extend(self.gini.shares());
            }
        }
        (self.tree, self.leaves)
    }

    /// The best division by the features chosen for this node.
    fn division(&mut self, rows: &[u32]) -> Option<Division> {
        for place in 0..self.tries {
            let other = place + self.rng.below(self.order.len() - place);
            self.order.swap(place, other);
        }
        let chosen = &self.order[..self.tries];
        self.gather.collect(chosen, rows, 0);
        let mut best = Best::default();
        for (slot, &feature) in chosen.iter().enumerate() {
            self.gini.scan(feature, self.gather.slot(slot), &mut best);
        }
        best.division.or_else(|| self.any_division(rows))
    }

    /// Going on with one feature after another until one varies is to choose among those that vary.
    fn any_division(&mut self, rows: &[u32]) -> Option<Division> {
        let varying = self.varying(rows);
        if varying.is_empty() {
            return None;
        }
        let feature = varying[self.rng.below(varying.len())];
        self.gather.collect(&[feature], rows, 0);
        let mut best = Best::default();
        self.gini.scan(feature, self.gather.slot(0), &mut best);
        best.division
    }

    /// Features with more than one value among these rows, ascending.
    fn varying(&self, rows: &[u32]) -> Vec<u32> {
        let mut entries = Vec::new();
        for &row in rows {
            let (columns, bins) = self.binned.row(row);
            entries.extend(columns.iter().zip(bins).map(|(&column, &bin)| (column, bin)));
        }
        entries.sort_unstable();
        let varies = |same: &[(u32, u8)]| {
            let ((feature, first), (_, last)) = (same[0], same[same.len() - 1]);
            let zero = same.len() < rows.len() && self.binned.edges(feature, first) != (0.0, 0.0);
            (zero || first != last).then_some(feature)
        };
        entries.chunk_by(|a, b| a.0 == b.0).filter_map(varies).collect()
    }
}

impl Forest {
    /// Number of trees.
    pub fn trees(&self) -> usize {
        self.trees.len()
    }

    /// Number of nodes, leaves included.
    pub fn nodes(&self) -> usize {
        self.trees.nodes()
    }

    /// Scores of every row, `[row][class]`: `ln(max(p, 1e-6))`, `p` being the class's probability.
    pub fn scores(&self, x: &Csr, threads: usize) -> Vec<f32> {
        let scratch = || Scratch::new(self.features);
        score_rows(x, self.classes, threads, scratch, |indices, values, scratch, out| {
            self.score_row(indices, values, scratch, out);
        })
    }

    /// Scores of one row. `scratch` is for rows of as many features, `out` has a place for each class.
    pub fn score_row(&self, indices: &[u32], values: &[f32], scratch: &mut Scratch, out: &mut [f32]) {
        out.fill(0.0);
        scratch.with(indices, values, |row| {
            for tree in 0..self.trees.len() {
                let start = self.trees.leaf(tree, row) * self.classes;
                for (sum, share) in out.iter_mut().zip(&self.leaves[start..start + self.classes]) {
                    *sum += share;
                }
            }
        });
        for score in out {
            let probability = f64::from(*score) / self.trees.len() as f64;
            *score = libm::log(probability.max(LEAST_PROBABILITY)) as f32;
        }
    }

    /// Can rows be scored with these arrays, wherever they come from?
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), TreeError> {
        if self.classes == 0 || !self.leaves.len().is_multiple_of(self.classes) {
            return Err(TreeError::Shape);
        }
        if self.leaves.iter().any(|share| !(0.0..=1.0).contains(share)) {
            return Err(TreeError::Share);
        }
        self.trees.check(self.features, self.leaves.len() / self.classes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Cell, Forest, Grower, RandomForest, bootstrap, fit};
    use crate::csr::Csr;
    use crate::head::{Problem, TrainError, argmax};
    use crate::rng::Rng;
    use crate::trees::bins::Binned;
    use crate::trees::samples;
    use crate::trees::tree::{LEAF, Scratch, TreeError};

    const SMALL: RandomForest = RandomForest { trees: 20, max_depth: 6 };

    fn grown(x: &Csr, y: &[u32], max_depth: u32, seed: u64) -> (super::Trees, Vec<f32>) {
        let cells: Vec<Cell> = y.iter().map(|&class| Cell { class, weight: 1 }).collect();
        let binned = Binned::new(x, 1);
        let classes = y.iter().max().map_or(0, |&most| most as usize + 1);
        Grower::new(&binned, &cells, classes, Rng::new(seed, 0), max_depth).grow()
    }

    #[test]
    fn a_tree_by_hand() {
        let x = samples::dense(&[1.0, 2.0, 3.0, 4.0]);
        let (tree, leaves) = grown(&x, &[0, 1, 0, 0], 9, 0);
        assert_eq!(tree.feature, [0, 0, LEAF, LEAF, LEAF]);
        assert_eq!(tree.threshold[..2], [2.5, 1.5]);
        // left first: its two leaves come before that of 3 and 4
        assert_eq!((&tree.left[..], &tree.right[..2]), (&[1, 3, 2, 0, 1][..], &[2, 4][..]));
        assert_eq!(leaves, [1.0, 0.0, 0.0, 1.0, 1.0, 0.0]);
        let (shallow, leaves) = grown(&x, &[0, 1, 0, 0], 1, 0);
        assert_eq!((shallow.nodes(), &leaves[..]), (3, &[0.5, 0.5, 1.0, 0.0][..]));
    }

    #[test]
    fn rows_that_differ_are_told_apart_however_many_features_say_nothing() {
        // 2 of 900 features, 30 of which are tried, vary
        let mut x = Csr::empty(900);
        for row in 0..4u32 {
            x.indices.extend((row % 2 == 1).then_some(411));
            x.indices.extend((row / 2 == 1).then_some(877));
            x.values.resize(x.indices.len(), 1.0);
            x.finish_row();
        }
        let mut roots = [0, 0];
        for seed in 0..40 {
            let (tree, leaves) = grown(&x, &[0, 1, 2, 3], 9, seed);
            assert_eq!((tree.nodes(), leaves.iter().filter(|&&share| share >= 1.0).count()), (7, 4));
            roots[usize::from(tree.feature[0] == 877)] += 1;
        }
        assert!(roots.iter().all(|&times| times > 8), "{roots:?}");
        let (tree, leaves) = grown(&samples::dense(&[2.0, 2.0]), &[0, 1], 9, 0);
        assert_eq!((tree.nodes(), &leaves[..]), (1, &[0.5, 0.5][..]));
    }

    #[test]
    fn rows_take_the_same_way_in_training_and_in_scoring() {
        let mut rng = Rng::new(3, 3);
        let many = samples::dense(&(0..900).map(|_| rng.below(100_000) as f32 - 5e4).collect::<Vec<_>>());
        for x in [samples::noisy(900, 14, 3, 8).0, many] {
            let y: Vec<u32> = (0..900).map(|_| rng.below(3) as u32).collect();
            let (tree, leaves) = grown(&x, &y, 99, 4);
            assert!(leaves.len() > 300);
            // leaves hold one row, or such as no feature or no bin tells apart
            let (mut scratch, mut sizes) = (Scratch::new(x.columns), vec![[0.0f32; 3]; leaves.len() / 3]);
            for (row, &class) in y.iter().enumerate() {
                let (indices, values) = x.row(row);
                let leaf = scratch.with(indices, values, |row| tree.leaf(0, row));
                sizes[leaf][class as usize] += 1.0;
            }
            for (leaf, size) in sizes.iter().enumerate() {
                let sum: f32 = size.iter().sum();
                assert_eq!(leaves[leaf * 3..][..3], size.map(|one| one / sum), "leaf {leaf}");
            }
        }
    }

    #[test]
    fn a_bootstrap_draws_as_often_as_there_are_rows() {
        let cells = bootstrap(&[7; 1000], &mut Rng::new(1, 2));
        assert_eq!(cells.iter().map(|cell| cell.weight).sum::<u32>(), 1000);
        let missed = cells.iter().filter(|cell| cell.weight == 0).count();
        assert!((330..410).contains(&missed), "{missed}");
    }

    #[test]
    fn equal_arguments_give_equal_bits_on_any_number_of_threads() {
        let (x, y) = samples::noisy(300, 20, 3, 1);
        let run = |seed, threads| fit(Problem { x: &x, y: &y, classes: 3 }, &SMALL, seed, threads).unwrap();
        let one = run(5, 1);
        for threads in [2, 3] {
            assert_eq!(run(5, threads), one);
            assert_eq!(run(5, threads).scores(&x, threads), one.scores(&x, 1));
        }
        assert_ne!(run(6, 1), one);
    }

    #[test]
    fn a_forest_learns_and_its_scores_are_logarithms_of_probabilities() {
        let (x, y) = samples::noisy(600, 12, 3, 2);
        let forest = fit(Problem { x: &x, y: &y, classes: 4 }, &SMALL, 1, 2).unwrap();
        forest.check().unwrap();
        assert_eq!((forest.trees(), forest.features, forest.classes), (20, 12, 4));
        let (other, truth) = samples::noisy(600, 12, 3, 3);
        let scores = forest.scores(&other, 2);
        let right = argmax(&scores, 4).iter().zip(&truth).filter(|(a, b)| a == b).count();
        assert!(right > 400, "{right}");
        for row in scores.chunks_exact(4) {
            let sum: f64 = row[..3].iter().map(|&score| f64::from(score).exp()).sum();
            assert!((sum - 1.0).abs() < 1e-4, "{row:?}");
            assert!((f64::from(row[3]) - 1e-6f64.ln()).abs() < 1e-5);
        }
    }

    #[test]
    fn what_cannot_be_grown_is_refused() {
        let (x, y) = samples::noisy(20, 4, 2, 1);
        let with = |trees, max_depth| {
            let problem = Problem { x: &x, y: &y, classes: 2 };
            fit(problem, &RandomForest { trees, max_depth }, 0, 1).map(|forest| forest.trees())
        };
        assert_eq!(with(0, 1), Err(TrainError::Hyperparameter { name: "trees", value: 0.0 }));
        assert_eq!(with(1, 0), Err(TrainError::Hyperparameter { name: "maxDepth", value: 0.0 }));
        assert_eq!(with(1, 1), Ok(1));
        let empty = Csr { indptr: vec![0; 21], ..Csr::empty(0) };
        let forest = fit(Problem { x: &empty, y: &y, classes: 2 }, &SMALL, 0, 1).unwrap();
        assert_eq!(forest.nodes(), 20);
    }

    #[test]
    fn forests_that_cannot_be_walked_are_told_apart() {
        let (x, y) = samples::noisy(60, 4, 2, 1);
        let forest = fit(Problem { x: &x, y: &y, classes: 2 }, &SMALL, 0, 1).unwrap();
        let broken = |change: &dyn Fn(&mut Forest)| {
            let mut forest = forest.clone();
            change(&mut forest);
            forest.check()
        };
        assert_eq!(broken(&|_| ()), Ok(()));
        assert_eq!(broken(&|f| f.classes = 0), Err(TreeError::Shape));
        assert_eq!(broken(&|f| f.leaves.push(0.5)), Err(TreeError::Shape));
        assert_eq!(broken(&|f| f.leaves[1] = f32::NAN), Err(TreeError::Share));
        assert!(matches!(broken(&|f| f.leaves.clear()), Err(TreeError::Leaf { .. })));
        assert!(matches!(broken(&|f| f.features = 1), Err(TreeError::Feature { .. })));
    }
}
