//! Multinomial logistic regression with L2 penalty, by L-BFGS (Nocedal, Wright: "Numerical
//! Optimization", algorithm 7.5) with a weak Wolfe line search by bisection (Lewis, Overton:
//! "Nonsmooth optimization via quasi-Newton methods", 2013, section 4.2).
//!
//! The problem is scikit-learn's `LogisticRegression`: minimise
//! `mean log loss + |W|^2 / (2 C n)`, intercepts not penalised. Scores along the search direction
//! are computed once, so a trial step of the line search reads no features. The inverse Hessian
//! that L-BFGS starts from is that of the true diagonal, brought up to date every few iterations:
//! terms are so unequally frequent that this halves the iterations or better.

use crate::csr::Csr;
use crate::head::{Fitted, LinearHead, Problem, TrainError};
use crate::parallel;

/// Rows of one piece of parallel work; fixed, because pieces are summed in their order.
const ROWS_PER_PIECE: usize = 256;
/// Features of one piece of parallel work.
const FEATURES_PER_PIECE: usize = 2048;
/// Elements of one piece of a vector operation.
const BLOCK: usize = 1 << 16;
/// Pairs of steps remembered.
const MEMORY: usize = 6;
/// Iterations that one estimate of the curvature serves.
const CURVATURE_AGE: u32 = 4;

/// Hyperparameters and limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Inverse regularisation strength.
    pub c: f64,
    /// Largest absolute value of the gradient that is accepted.
    pub tolerance: f64,
    /// Iterations after which it gives up.
    pub max_iterations: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { c: 1.0, tolerance: 1e-4, max_iterations: 500 }
    }
}

/// Trains on at most `threads` threads. Equal inputs give equal bits.
pub fn fit(
    problem: Problem<'_>,
    settings: &Settings,
    threads: usize,
) -> Result<Fitted<LinearHead>, TrainError> {
    problem.check("c", settings.c)?;
    let mut solver = Solver::new(problem, settings.c, threads);
    let (passes, converged) = solver.minimise(settings);
    let split = problem.x.columns * problem.classes;
    let intercepts = solver.params.split_off(split);
    let head = LinearHead {
        classes: problem.classes,
        features: problem.x.columns,
        weights: solver.params,
        intercepts,
    };
    if head.is_finite() {
        Ok(Fitted { head, passes, converged })
    } else {
        Err(TrainError::NonFinite { name: "c", value: settings.c })
    }
}

/// Parameters are one vector: weights `[feature][class]`, then intercepts.
struct Solver<'a> {
    x: &'a Csr,
    by_feature: Csr,
    y: &'a [u32],
    classes: usize,
    penalty: f64,
    threads: usize,
    params: Vec<f32>,
    /// `[row][class]`: scores of the parameters.
    scores: Vec<f32>,
    /// `[row][class]`: probability minus truth, over n.
    residuals: Vec<f32>,
    /// Like `params`: one over the diagonal of the Hessian, as last computed.
    preconditioner: Vec<f32>,
}

/// Value and slope along the search direction.
#[derive(Clone, Copy)]
struct Point {
    value: f64,
    slope: f64,
}

/// The search direction and what is constant along it.
struct Direction {
    vector: Vec<f32>,
    scores: Vec<f32>,
    /// `w.w`, `w.d`, `d.d` over the penalised parameters.
    products: [f64; 3],
}

impl<'a> Solver<'a> {
    fn new(problem: Problem<'a>, c: f64, threads: usize) -> Self {
        let Problem { x, y, classes } = problem;
        let (by_feature, n) = (x.transpose(), x.rows() as f64);
        let penalty = 1.0 / (c * n);
        Self {
            x,
            by_feature,
            preconditioner: vec![1.0; (x.columns + 1) * classes],
            y,
            classes,
            penalty,
            threads,
            params: vec![0.0; (x.columns + 1) * classes],
            scores: vec![0.0; x.rows() * classes],
            residuals: vec![0.0; x.rows() * classes],
        }
    }

    /// Iterations done, and whether the tolerance was reached.
    fn minimise(&mut self, settings: &Settings) -> (u32, bool) {
        let zero = vec![0.0; self.scores.len()];
        let mut value = self.evaluate(&zero, 0.0).value;
        let mut gradient = self.gradient();
        let mut memory = Memory::default();
        for iteration in 0..settings.max_iterations {
            let steepest = gradient.iter().fold(0.0f32, |most, g| most.max(g.abs()));
            if f64::from(steepest) <= settings.tolerance {
                return (iteration, true);
            }
            if iteration % CURVATURE_AGE == 0 {
                self.precondition();
            }
            let mut vector = memory.direction(&gradient, &self.preconditioner, self.threads);
            let slope = dot(&gradient, &vector, self.threads);
            if slope >= 0.0 {
                // Rounding spoilt the curvature estimate: start again from the gradient.
                memory = Memory::default();
                vector = memory.direction(&gradient, &self.preconditioner, self.threads);
            }
            let direction = self.along(vector);
            let start = Point { value, slope: dot(&gradient, &direction.vector, self.threads) };
            let Some((step, reached)) = self.line_search(&direction, start) else {
                return (iteration, false);
            };
            value = reached.value;
            axpy(&mut self.params, step as f32, &direction.vector, self.threads);
            axpy(&mut self.scores, step as f32, &direction.scores, self.threads);
            let next = self.gradient();
            memory.remember(step as f32, direction.vector, &next, gradient, self.threads);
            gradient = next;
        }
        (settings.max_iterations, false)
    }

    fn along(&self, vector: Vec<f32>) -> Direction {
        let weights = self.x.columns * self.classes;
        let head = LinearHead {
            classes: self.classes,
            features: self.x.columns,
            intercepts: vector[weights..].to_vec(),
            weights: vector,
        };
        let scores = head.scores(self.x, self.threads);
        let (w, d) = (&self.params[..weights], &head.weights[..weights]);
        let products = [dot(w, w, self.threads), dot(w, d, self.threads), dot(d, d, self.threads)];
        Direction { vector: head.weights, scores, products }
    }

    /// A step with enough decrease and enough less slope; `None` when rounding leaves no progress.
    fn line_search(&mut self, direction: &Direction, start: Point) -> Option<(f64, Point)> {
        let (mut low, mut high, mut step) = (0.0, f64::INFINITY, 1.0);
        for _ in 0..40 {
            let mut at = self.evaluate(&direction.scores, step);
            let [ww, wd, dd] = direction.products;
            at.value += 0.5 * self.penalty * (ww + 2.0 * step * wd + step * step * dd);
            at.slope += self.penalty * (wd + step * dd);
            let decreased = at.value <= start.value + 1e-4 * step * start.slope;
            // Near the optimum the decrease drowns in rounding: judge it by the slope then
            // (Hager, Zhang: "A new conjugate gradient method with guaranteed descent", 2005).
            let level = at.value <= start.value + 1e-6 * start.value.abs();
            if !(decreased || level && at.slope <= -0.9998 * start.slope) {
                high = step;
            } else if at.slope < 0.9 * start.slope {
                low = step;
            } else {
                return Some((step, at));
            }
            step = if high.is_finite() { 0.5 * (low + high) } else { 2.0 * low };
        }
        None
    }

    /// Mean log loss and its slope at `scores + step * direction`; leaves the residuals there.
    fn evaluate(&mut self, direction: &[f32], step: f64) -> Point {
        let (classes, n) = (self.classes, self.x.rows() as f64);
        let (scores, y) = (&self.scores, self.y);
        let pieces = parallel::map_chunks(
            &mut self.residuals,
            ROWS_PER_PIECE * classes,
            self.threads,
            |start, chunk| {
                let (mut loss, mut slope) = (0.0, 0.0);
                for (i, out) in chunk.chunks_exact_mut(classes).enumerate() {
                    let at = start + i * classes;
                    let along = &direction[at..at + classes];
                    for ((out, &score), &d) in out.iter_mut().zip(&scores[at..at + classes]).zip(along) {
                        *out = (f64::from(score) + step * f64::from(d)) as f32;
                    }
                    loss += row_loss(out, y[start / classes + i] as usize);
                    slope += out.iter().zip(along).map(|(&r, &d)| f64::from(r) * f64::from(d)).sum::<f64>();
                    for r in out.iter_mut() {
                        *r = (f64::from(*r) / n) as f32;
                    }
                }
                Point { value: loss, slope }
            },
        );
        let sum = |of: fn(&Point) -> f64| pieces.iter().map(of).sum::<f64>() / n;
        Point { value: sum(|p| p.value), slope: sum(|p| p.slope) }
    }

    /// The diagonal of the Hessian at the residuals: `penalty + sum of x^2 p (1 - p) / n`.
    fn precondition(&mut self) {
        let (classes, n, penalty) = (self.classes, self.x.rows() as f32, self.penalty as f32);
        // A residual is p/n or (p - 1)/n, so that p (1 - p) / n is |r| (1 - n |r|).
        let curvature: Vec<f32> =
            self.residuals.iter().map(|r| (r.abs() * (1.0 - n * r.abs())).max(0.0)).collect();
        let (of_weights, of_intercepts) = self.preconditioner.split_at_mut(self.x.columns * classes);
        parallel::map_chunks(of_weights, FEATURES_PER_PIECE * classes, self.threads, |start, chunk| {
            for (i, out) in chunk.chunks_exact_mut(classes).enumerate() {
                out.fill(penalty);
                let (rows, values) = self.by_feature.row(start / classes + i);
                for (&row, &value) in rows.iter().zip(values) {
                    add_scaled(out, value * value, &curvature[row as usize * classes..]);
                }
                for sum in out.iter_mut() {
                    *sum = 1.0 / *sum;
                }
            }
        });
        of_intercepts.fill(penalty);
        curvature.chunks_exact(classes).for_each(|row| add_scaled(of_intercepts, 1.0, row));
        for sum in of_intercepts.iter_mut() {
            *sum = 1.0 / *sum;
        }
    }

    /// From the residuals and the parameters. Each feature's part is summed over its rows in order.
    fn gradient(&self) -> Vec<f32> {
        let classes = self.classes;
        let mut out: Vec<f32> = vec![0.0; self.params.len()];
        let (of_weights, of_intercepts) = out.split_at_mut(self.x.columns * classes);
        parallel::map_chunks(of_weights, FEATURES_PER_PIECE * classes, self.threads, |start, chunk| {
            for (i, out) in chunk.chunks_exact_mut(classes).enumerate() {
                let at = start + i * classes;
                for (out, &w) in out.iter_mut().zip(&self.params[at..at + classes]) {
                    *out = (self.penalty * f64::from(w)) as f32;
                }
                let (rows, values) = self.by_feature.row(start / classes + i);
                for (&row, &value) in rows.iter().zip(values) {
                    add_scaled(out, value, &self.residuals[row as usize * classes..]);
                }
            }
        });
        let mut sums = vec![0.0f64; classes];
        for row in self.residuals.chunks_exact(classes) {
            sums.iter_mut().zip(row).for_each(|(sum, &r)| *sum += f64::from(r));
        }
        of_intercepts.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum as f32);
        out
    }
}

/// Log loss of one row; its scores become probability minus truth.
fn row_loss(scores: &mut [f32], truth: usize) -> f64 {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let of_truth = f64::from(scores[truth] - most);
    let mut sum = 0.0f64;
    for score in scores.iter_mut() {
        let e = libm::expf(*score - most);
        sum += f64::from(e);
        *score = e;
    }
    let scale = (1.0 / sum) as f32;
    for score in scores.iter_mut() {
        *score *= scale;
    }
    scores[truth] -= 1.0;
    libm::log(sum) - of_truth
}

/// The last steps and changes of gradient.
#[derive(Default)]
struct Memory {
    pairs: std::collections::VecDeque<Pair>,
}

struct Pair {
    step: Vec<f32>,
    change: Vec<f32>,
    curvature: f64,
}

impl Memory {
    fn remember(&mut self, scale: f32, mut step: Vec<f32>, new: &[f32], mut old: Vec<f32>, threads: usize) {
        for s in &mut step {
            *s *= scale;
        }
        old.iter_mut().zip(new).for_each(|(old, new)| *old = new - *old);
        let curvature = dot(&step, &old, threads);
        if curvature > 0.0 {
            if self.pairs.len() == MEMORY {
                self.pairs.pop_front();
            }
            self.pairs.push_back(Pair { step, change: old, curvature });
        }
    }

    /// Minus the gradient times the estimate of the inverse Hessian, which starts from the
    /// preconditioner, scaled to the last step.
    fn direction(&self, gradient: &[f32], preconditioner: &[f32], threads: usize) -> Vec<f32> {
        let mut d: Vec<f32> = gradient.iter().map(|g| -g).collect();
        let mut factors = Vec::with_capacity(self.pairs.len());
        for pair in self.pairs.iter().rev() {
            let factor = dot(&pair.step, &d, threads) / pair.curvature;
            axpy(&mut d, -factor as f32, &pair.change, threads);
            factors.push(factor);
        }
        let scale = self.pairs.back().map_or(1.0, |last| {
            let of_change: f64 =
                last.change.iter().zip(preconditioner).map(|(&c, &p)| f64::from(c * c * p)).sum();
            (last.curvature / of_change) as f32
        });
        d.iter_mut().zip(preconditioner).for_each(|(d, p)| *d *= p * scale);
        for (pair, factor) in self.pairs.iter().zip(factors.into_iter().rev()) {
            let correction = factor - dot(&pair.change, &d, threads) / pair.curvature;
            axpy(&mut d, correction as f32, &pair.step, threads);
        }
        d
    }
}

/// Sum of products in f64, eight fixed lanes a block, blocks summed in order.
fn dot(a: &[f32], b: &[f32], threads: usize) -> f64 {
    let blocks = a.len().div_ceil(BLOCK);
    let partial = parallel::map(blocks, threads, |i| {
        let range = i * BLOCK..((i + 1) * BLOCK).min(a.len());
        let (a, b) = (&a[range.clone()], &b[range]);
        let mut lanes = [0.0f64; 8];
        let (mut left, mut right) = (a.chunks_exact(8), b.chunks_exact(8));
        for (x, y) in (&mut left).zip(&mut right) {
            for ((lane, &x), &y) in lanes.iter_mut().zip(x).zip(y) {
                *lane += f64::from(x) * f64::from(y);
            }
        }
        let rest = left.remainder().iter().zip(right.remainder());
        lanes.iter().sum::<f64>() + rest.map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>()
    });
    partial.iter().sum()
}

/// `out += scale * row` for the length of `out`.
fn add_scaled(out: &mut [f32], scale: f32, row: &[f32]) {
    for (sum, value) in out.iter_mut().zip(row) {
        *sum += scale * value;
    }
}

/// `a += scale * b`.
fn axpy(a: &mut [f32], scale: f32, b: &[f32], threads: usize) {
    parallel::map_chunks(a, BLOCK, threads, |start, chunk| {
        chunk.iter_mut().zip(&b[start..]).for_each(|(a, b)| *a += scale * b);
    });
}

#[cfg(test)]
mod tests {
    use super::{Settings, Solver, dot, fit};
    use crate::csr::Csr;
    use crate::head::{Problem, argmax};
    use crate::rng::Rng;

    fn rows() -> (Csr, Vec<u32>) {
        let mut rng = Rng::new(5, 0);
        let (mut x, mut y) = (Csr::empty(20), Vec::new());
        for row in 0..300 {
            let class = row % 3;
            for column in 0..20u32 {
                if rng.below(4) == 0 || (column % 3 == class && rng.below(2) == 0) {
                    x.indices.push(column);
                    x.values.push(0.2 + rng.below(100) as f32 / 100.0);
                }
            }
            x.finish_row();
            y.push(class);
        }
        (x, y)
    }

    #[test]
    fn the_gradient_is_the_difference_quotient() {
        let (x, y) = rows();
        let mut solver = Solver::new(Problem { x: &x, y: &y, classes: 3 }, 0.5, 2);
        let mut rng = Rng::new(6, 0);
        let mut vector = || (0..63).map(|_| rng.below(2000) as f32 / 1000.0 - 1.0).collect::<Vec<_>>();
        solver.params = vector();
        let here = solver.along(solver.params.clone());
        solver.scores = here.scores;
        let direction = solver.along(vector());
        let [ww, wd, dd] = direction.products;
        let mut value = |step: f64| {
            solver.evaluate(&direction.scores, step).value
                + 0.5 * solver.penalty * (ww + 2.0 * step * wd + step * step * dd)
        };
        let quotient = (value(1e-2) - value(-1e-2)) / 2e-2;
        let slope = solver.evaluate(&direction.scores, 0.0).slope + solver.penalty * wd;
        assert!((quotient - slope).abs() < 1e-4 * slope.abs().max(1.0), "{quotient} {slope}");
        let by_gradient = dot(&solver.gradient(), &direction.vector, 1);
        assert!((by_gradient - slope).abs() < 1e-5 * slope.abs().max(1.0), "{by_gradient} {slope}");
    }

    /// Bits, because a difference here is too small to show in most weights, yet not in all.
    #[test]
    fn a_product_over_many_blocks_has_the_same_bits_on_any_number_of_threads() {
        let mut rng = Rng::new(9, 0);
        let mut vector =
            || (0..5 * super::BLOCK + 13).map(|_| rng.below(1 << 24) as f32 / 7.0).collect::<Vec<_>>();
        let (a, b) = (vector(), vector());
        let one = dot(&a, &b, 1);
        for threads in [2, 3, 5] {
            assert_eq!(dot(&a, &b, threads).to_bits(), one.to_bits(), "{threads} threads");
        }
    }

    #[test]
    fn a_loose_penalty_fits_the_rows_and_a_tight_one_gives_small_weights() {
        let (x, y) = rows();
        let run = |c| {
            let fitted =
                fit(Problem { x: &x, y: &y, classes: 3 }, &Settings { c, ..Settings::default() }, 1).unwrap();
            assert!(fitted.converged);
            fitted.head
        };
        let (loose, tight) = (run(100.0), run(0.001));
        let right = argmax(&loose.scores(&x, 1), 3).iter().zip(&y).filter(|(a, b)| a == b).count();
        assert!(right > 200, "{right} of 300");
        let most = |w: &[f32]| w.iter().fold(0.0f32, |most, w| most.max(w.abs()));
        assert!(most(&tight.weights) < 0.1 && most(&loose.weights) > 1.0);
    }

    #[test]
    fn unpenalised_intercepts_learn_the_shares_of_the_classes() {
        // no features at all: the probabilities must be the shares 1/2, 1/3, 1/6
        let x = Csr { indptr: vec![0; 601], indices: vec![], values: vec![], columns: 1 };
        let y: Vec<u32> = (0..600).map(|i| [0, 0, 0, 1, 1, 2][i % 6]).collect();
        let settings = Settings { tolerance: 1e-6, ..Settings::default() };
        let head = fit(Problem { x: &x, y: &y, classes: 3 }, &settings, 1).unwrap().head;
        let e: Vec<f32> = head.intercepts.iter().map(|b| b.exp()).collect();
        let sum: f32 = e.iter().sum();
        for (got, expected) in e.iter().zip([1.0 / 2.0, 1.0 / 3.0, 1.0 / 6.0]) {
            assert!((got / sum - expected).abs() < 1e-4, "{e:?}");
        }
    }

    #[test]
    fn giving_up_is_reported() {
        let (x, y) = rows();
        let hasty = Settings { tolerance: 1e-9, max_iterations: 2, ..Settings::default() };
        let fitted = fit(Problem { x: &x, y: &y, classes: 3 }, &hasty, 1).unwrap();
        assert_eq!((fitted.converged, fitted.passes), (false, 2));
    }
}
