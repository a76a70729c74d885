//! One-vs-rest linear SVM with squared hinge loss and L2 penalty, by dual coordinate descent with
//! shrinking (Hsieh, Chang, Lin, Keerthi, Sundararajan: "A dual coordinate descent method for
//! large-scale linear SVM", ICML 2008, algorithm 3). The problem is scikit-learn's `LinearSVC`:
//! the intercept is the weight of a feature that is always 1, and is penalised with the others.
//!
//! Per class: minimise `|w|^2 / 2 + C * sum(max(0, 1 - y w.x)^2)`.

use crate::csr::Csr;
use crate::head::{Fitted, LinearHead, Problem, TrainError};
use crate::parallel;
use crate::rng::Rng;

/// Hyperparameters and limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Inverse regularisation strength.
    pub c: f64,
    /// Largest violation of the optimality conditions that is accepted.
    pub eps: f64,
    /// Passes over the rows after which a class gives up.
    pub max_passes: u32,
    /// Seed of the orders in which rows are visited; every class has its own stream.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { c: 1.0, eps: 1e-3, max_passes: 1000, seed: 0 }
    }
}

/// Trains all classes, on at most `threads` threads. Equal inputs give equal bits.
pub fn fit(
    problem: Problem<'_>,
    settings: &Settings,
    threads: usize,
) -> Result<Fitted<LinearHead>, TrainError> {
    problem.check("c", settings.c)?;
    let Problem { x, y, classes } = problem;
    let squares: Vec<f64> = (0..x.rows())
        .map(|i| 1.0 + x.row(i).1.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>())
        .collect();
    let solved = parallel::map(classes, threads, |class| {
        let signs: Vec<f64> = y.iter().map(|&k| if k as usize == class { 1.0 } else { -1.0 }).collect();
        Solver::new(x, &signs, &squares, settings, class as u64).run()
    });
    let mut head = LinearHead {
        classes,
        features: x.columns,
        weights: vec![0.0; x.columns * classes],
        intercepts: Vec::new(),
    };
    for (class, one) in solved.iter().enumerate() {
        for (feature, &weight) in one.weights.iter().enumerate() {
            head.weights[feature * classes + class] = weight as f32;
        }
        head.intercepts.push(one.bias as f32);
    }
    if !head.is_finite() {
        return Err(TrainError::NonFinite { name: "c", value: settings.c });
    }
    let passes = solved.iter().map(|one| one.passes).max().unwrap_or(0);
    Ok(Fitted { head, passes, converged: solved.iter().all(|one| one.converged) })
}

struct Solved {
    weights: Vec<f64>,
    bias: f64,
    passes: u32,
    converged: bool,
}

/// One binary problem. `alpha` are the dual variables (at least 0, no upper bound with squared hinge).
struct Solver<'a> {
    x: &'a Csr,
    signs: &'a [f64],
    squares: &'a [f64],
    settings: &'a Settings,
    diagonal: f64,
    rng: Rng,
    alpha: Vec<f64>,
    weights: Vec<f64>,
    bias: f64,
    /// Rows still visited are `active[..live]`; the others are at the bound 0 and look as if they stay there.
    active: Vec<u32>,
    live: usize,
}

/// The range of projected gradients seen in one pass.
#[derive(Clone, Copy)]
struct Range {
    low: f64,
    high: f64,
}

impl<'a> Solver<'a> {
    fn new(x: &'a Csr, signs: &'a [f64], squares: &'a [f64], settings: &'a Settings, stream: u64) -> Self {
        Self {
            x,
            signs,
            squares,
            settings,
            diagonal: 0.5 / settings.c,
            rng: Rng::new(settings.seed, stream),
            alpha: vec![0.0; x.rows()],
            weights: vec![0.0; x.columns],
            bias: 0.0,
            active: (0..x.rows() as u32).collect(),
            live: x.rows(),
        }
    }

    fn run(mut self) -> Solved {
        let rows = self.active.len();
        let mut bound = f64::INFINITY;
        for pass in 1..=self.settings.max_passes {
            let range = self.pass(bound);
            if range.high - range.low <= self.settings.eps {
                if self.live == rows {
                    return self.solved(pass, true);
                }
                // Optimal on what is left: look at all rows again, without shrinking at first.
                self.live = rows;
                bound = f64::INFINITY;
            } else {
                bound = if range.high > 0.0 { range.high } else { f64::INFINITY };
            }
        }
        let passes = self.settings.max_passes;
        self.solved(passes, false)
    }

    fn solved(self, passes: u32, converged: bool) -> Solved {
        Solved { weights: self.weights, bias: self.bias, passes, converged }
    }

    /// Visits every live row once. A row at 0 whose gradient exceeds `bound` is no longer visited.
    fn pass(&mut self, bound: f64) -> Range {
        let mut range = Range { low: f64::INFINITY, high: f64::NEG_INFINITY };
        self.rng.shuffle(&mut self.active[..self.live]);
        let mut at = 0;
        while at < self.live {
            let row = self.active[at] as usize;
            let gradient = self.gradient(row);
            let projected = if self.alpha[row] > 0.0 {
                gradient
            } else if gradient > bound {
                self.live -= 1;
                self.active.swap(at, self.live);
                continue;
            } else {
                gradient.min(0.0)
            };
            range.low = range.low.min(projected);
            range.high = range.high.max(projected);
            if projected.abs() > 1e-12 {
                self.step(row, gradient);
            }
            at += 1;
        }
        range
    }

    fn gradient(&self, row: usize) -> f64 {
        let (indices, values) = self.x.row(row);
        let mut score = self.bias;
        for (&feature, &value) in indices.iter().zip(values) {
            score += self.weights[feature as usize] * f64::from(value);
        }
        self.signs[row] * score - 1.0 + self.diagonal * self.alpha[row]
    }

    fn step(&mut self, row: usize, gradient: f64) {
        let old = self.alpha[row];
        let new = (old - gradient / (self.squares[row] + self.diagonal)).max(0.0);
        self.alpha[row] = new;
        let change = (new - old) * self.signs[row];
        let (indices, values) = self.x.row(row);
        for (&feature, &value) in indices.iter().zip(values) {
            self.weights[feature as usize] += change * f64::from(value);
        }
        self.bias += change;
    }
}

#[cfg(test)]
mod tests {
    use super::{Settings, fit};
    use crate::csr::Csr;
    use crate::head::{Problem, argmax};

    /// One feature for each class, and one that all rows share.
    fn rows(classes: u32, each: u32) -> (Csr, Vec<u32>) {
        let (mut x, mut y) = (Csr::empty(classes as usize + 1), Vec::new());
        for row in 0..classes * each {
            x.indices.extend([row % classes, classes]);
            x.values.extend([1.0, (row as f32 * 0.37).sin()]);
            x.finish_row();
            y.push(row % classes);
        }
        (x, y)
    }

    /// Value of the dual problem at its optimum equals that of the primal: the gap is what is
    /// missing to the optimum. With w = sum of alpha y x, both follow from the solver's state.
    #[test]
    fn the_duality_gap_closes() {
        let (x, y) = rows(3, 40);
        let settings = Settings { c: 2.0, eps: 1e-8, ..Settings::default() };
        let signs: Vec<f64> = y.iter().map(|&k| if k == 1 { 1.0 } else { -1.0 }).collect();
        let squares: Vec<f64> = (0..x.rows())
            .map(|i| 1.0 + x.row(i).1.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>())
            .collect();
        let mut solver = super::Solver::new(&x, &signs, &squares, &settings, 1);
        let mut range = solver.pass(f64::INFINITY);
        for _ in 0..500 {
            range = solver.pass(f64::INFINITY);
        }
        assert!(range.high - range.low < 1e-8);
        let square = solver.weights.iter().map(|w| w * w).sum::<f64>() + solver.bias * solver.bias;
        let hinge = |i: usize| {
            // gradient + 1 - diagonal * alpha is sign * score
            let margin = solver.gradient(i) + 1.0 - solver.diagonal * solver.alpha[i];
            (1.0 - margin).max(0.0).powi(2)
        };
        let primal = 0.5 * square + settings.c * (0..x.rows()).map(hinge).sum::<f64>();
        let alphas: f64 = solver.alpha.iter().sum();
        let dual =
            alphas - 0.5 * square - 0.5 * solver.diagonal * solver.alpha.iter().map(|a| a * a).sum::<f64>();
        assert!(dual > 0.0 && primal >= dual - 1e-9, "primal {primal} dual {dual}");
        assert!((primal - dual) / primal < 1e-6, "primal {primal} dual {dual}");
    }

    #[test]
    fn separable_rows_are_separated_and_a_class_without_rows_never_wins() {
        let (x, y) = rows(3, 10);
        let fitted = fit(Problem { x: &x, y: &y, classes: 4 }, &Settings::default(), 2).unwrap();
        assert!(fitted.converged && fitted.passes > 1);
        assert_eq!(argmax(&fitted.head.scores(&x, 1), 4), y);
    }

    #[test]
    fn giving_up_is_reported() {
        let (x, y) = rows(3, 10);
        let hasty = Settings { eps: 1e-12, max_passes: 2, ..Settings::default() };
        let fitted = fit(Problem { x: &x, y: &y, classes: 3 }, &hasty, 1).unwrap();
        assert_eq!((fitted.converged, fitted.passes), (false, 2));
    }

    #[test]
    fn another_seed_gives_another_path_to_the_same_place() {
        let (x, y) = rows(4, 50);
        let run = |seed| {
            let settings = Settings { seed, eps: 1e-6, ..Settings::default() };
            fit(Problem { x: &x, y: &y, classes: 4 }, &settings, 1).unwrap().head
        };
        let (one, two) = (run(1), run(2));
        assert!(one.weights != two.weights, "the seed is not used");
        let gap = one.weights.iter().zip(&two.weights).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(gap < 1e-4, "{gap}");
    }
}
