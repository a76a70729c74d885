//! Grid search by cross-validation over the train part.
//!
//! Every trial is one point of the grid, judged on the same folds. The numbers of a trial depend
//! on nothing that other trials or threads do, and the best one is chosen by a total order, so the
//! result does not depend on how the work was spread.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use vitrine_contract::report::{BestTrial, Trials};
use vitrine_model::head::{Problem, argmax};
use vitrine_model::{Algorithm, Corpus, Csr, FitError, metrics};

use crate::Error;
use crate::grid::{Grid, Objective, Point};
use crate::meter::Meter;
use crate::profile::round;
use crate::training_data::TrainingData;
use crate::usage::Stopwatch;

/// Share of the whole work before and after the search, for the meter.
const BEFORE: f64 = 0.02;
const AFTER: f64 = 0.92;

/// What the search needs.
pub struct Search<'a> {
    /// The data.
    pub data: &'a TrainingData,
    /// Points to compare.
    pub grid: &'a Grid,
    /// Fold of each train row.
    pub fold_of: Vec<u32>,
    /// Number of folds.
    pub folds: usize,
    /// What is maximised.
    pub objective: Objective,
    /// Seed of the solvers.
    pub seed: u64,
    /// Threads to use.
    pub threads: usize,
    /// Where to tell how far it is.
    pub meter: &'a Meter,
}

/// One trial.
#[derive(Debug, Clone, Default)]
pub struct Trial {
    /// The objective on each fold.
    pub folds: Vec<f64>,
    /// Mean over the folds.
    pub mean: f64,
    /// Standard deviation over the folds (of the population, as scikit-learn's `std_test_score`).
    pub deviation: f64,
    /// Wall seconds of its fits and scorings, summed over folds.
    pub wall_seconds: f64,
    /// CPU seconds of the same.
    pub cpu_seconds: f64,
    /// Most passes of its solver.
    pub passes: u32,
    /// Whether every fit reached its tolerance.
    pub converged: bool,
    /// Why it failed.
    pub failure: Option<String>,
}

/// What the search found.
#[derive(Debug)]
pub struct Found {
    /// All trials, in the order of the grid.
    pub trials: Vec<Trial>,
    /// Position of the best.
    pub best: usize,
    /// Its out-of-fold scores, `[train row][class]`.
    pub scores: Vec<f32>,
}

/// What one fit on one fold gave.
struct Outcome {
    scores: Vec<f32>,
    value: f64,
    wall: f64,
    cpu: f64,
    passes: u32,
    converged: bool,
}

/// Rows and features of one fold.
struct Fold {
    train: Csr,
    train_classes: Vec<u32>,
    held_out: Csr,
    held_out_classes: Vec<u32>,
}

/// What threads share while the search runs.
struct Live {
    trials: Vec<Trial>,
    outcomes: Vec<Vec<Option<Result<Outcome, Error>>>>,
    first_failure: Option<(usize, Error)>,
    best: Option<(usize, Vec<f32>)>,
    tally: Trials,
    units: usize,
}

impl Search<'_> {
    /// Runs all trials.
    pub fn run(&self) -> Result<Found, Error> {
        let trials = self.grid.len();
        let live = Mutex::new(Live {
            trials: vec![Trial::default(); trials],
            outcomes: (0..trials).map(|_| (0..self.folds).map(|_| None).collect()).collect(),
            first_failure: None,
            best: None,
            tally: Trials { total: trials as u32, ..Trials::default() },
            units: 0,
        });
        for setting in 0..self.grid.settings.len() {
            self.tell(&lock(&live), "reading texts");
            let corpus = self.data.corpus(&self.grid.settings[setting])?;
            self.run_setting(setting, &corpus, &live);
        }
        let live = live.into_inner().unwrap_or_else(PoisonError::into_inner);
        match (live.best, live.first_failure) {
            (Some((best, scores)), _) => Ok(Found { trials: live.trials, best, scores }),
            (None, Some((_, error))) => Err(error),
            (None, None) => Err(Error::Internal("the search ended without a trial".to_owned())),
        }
    }

    /// All trials that share features. Threads take (candidate, fold) pairs in order; the features
    /// of a fold are made by the first that needs them.
    fn run_setting(&self, setting: usize, corpus: &Corpus, live: &Mutex<Live>) {
        let units = self.grid.algorithms.len() * self.folds;
        let next = AtomicUsize::new(0);
        let made: Vec<OnceLock<Result<Fold, FitError>>> = (0..self.folds).map(|_| OnceLock::new()).collect();
        let work = || {
            loop {
                let unit = next.fetch_add(1, Ordering::Relaxed);
                if unit >= units {
                    return;
                }
                let (candidate, fold) = (unit / self.folds, unit % self.folds);
                let trial = self.grid.trial(setting, candidate);
                self.begin(trial, fold, live);
                let features = made[fold].get_or_init(|| self.features(corpus, fold as u32));
                let outcome = match features {
                    Ok(features) => self.fit(features, self.grid.algorithms[candidate]),
                    Err(error) => Err(error.clone().into()),
                };
                self.end(trial, fold, outcome, live);
            }
        };
        thread::scope(|scope| {
            for _ in 1..self.threads.min(units) {
                scope.spawn(work);
            }
            work();
        });
    }

    fn features(&self, corpus: &Corpus, fold: u32) -> Result<Fold, FitError> {
        let rows = 0..self.fold_of.len() as u32;
        let (held_out_rows, train_rows): (Vec<u32>, Vec<u32>) =
            rows.partition(|&row| self.fold_of[row as usize] == fold);
        let (features, train) = corpus.fit_transform(&train_rows)?;
        let classes = |rows: &[u32]| rows.iter().map(|&row| self.data.classes[row as usize]).collect();
        Ok(Fold {
            train,
            train_classes: classes(&train_rows),
            held_out: corpus.transform(&features, &held_out_rows),
            held_out_classes: classes(&held_out_rows),
        })
    }

    fn fit(&self, fold: &Fold, algorithm: Algorithm) -> Result<Outcome, Error> {
        let watch = Stopwatch::of_thread();
        let classes = self.data.labels.len();
        let problem = Problem { x: &fold.train, y: &fold.train_classes, classes };
        // One thread each: the units themselves are spread over the threads.
        let fitted = algorithm.fit(problem, self.seed, 1)?;
        let scores = fitted.head.scores(&fold.held_out, 1);
        let confusion = metrics::confusion(&fold.held_out_classes, &argmax(&scores, classes), classes);
        Ok(Outcome {
            value: self.objective.of(&metrics::class_scores(&confusion)),
            scores,
            wall: watch.wall_seconds(),
            cpu: watch.cpu_seconds(),
            passes: fitted.passes,
            converged: fitted.converged,
        })
    }

    fn begin(&self, trial: usize, fold: usize, live: &Mutex<Live>) {
        let mut live = lock(live);
        if fold == 0 {
            live.tally.running += 1;
        }
        let step = format!(
            "cross-validation, trial {} of {}, fold {} of {}",
            trial + 1,
            self.grid.len(),
            fold + 1,
            self.folds
        );
        self.tell(&live, &step);
    }

    fn end(&self, trial: usize, fold: usize, outcome: Result<Outcome, Error>, live: &Mutex<Live>) {
        let mut live = lock(live);
        live.units += 1;
        live.outcomes[trial][fold] = Some(outcome);
        if live.outcomes[trial].iter().all(Option::is_some) {
            let outcomes = std::mem::take(&mut live.outcomes[trial]);
            self.conclude(trial, outcomes.into_iter().flatten().collect(), &mut live);
        }
        let step = format!("cross-validation, trial {} of {}", trial + 1, self.grid.len());
        self.tell(&live, &step);
    }

    /// The trial's numbers, and its scores if it is the best so far.
    fn conclude(&self, trial: usize, outcomes: Vec<Result<Outcome, Error>>, live: &mut Live) {
        live.tally.running -= 1;
        let outcomes: Vec<Outcome> = match outcomes.into_iter().collect() {
            Ok(outcomes) => outcomes,
            Err(error) => {
                live.tally.failed += 1;
                live.trials[trial].failure = Some(error.to_string());
                if live.first_failure.as_ref().is_none_or(|(first, _)| trial < *first) {
                    live.first_failure = Some((trial, error));
                }
                return;
            }
        };
        live.tally.succeeded += 1;
        live.trials[trial] = summary(&outcomes);
        let mean = live.trials[trial].mean;
        let better = live.best.as_ref().is_none_or(|&(best, _)| {
            let known = live.trials[best].mean;
            mean > known || (mean >= known && trial < best)
        });
        if better {
            live.best = Some((trial, self.out_of_fold(&outcomes)));
        }
    }

    /// Scores of the folds, in the order of the train rows.
    fn out_of_fold(&self, outcomes: &[Outcome]) -> Vec<f32> {
        let classes = self.data.labels.len();
        let mut next: Vec<_> = outcomes.iter().map(|outcome| outcome.scores.chunks_exact(classes)).collect();
        let rows = self.fold_of.iter().filter_map(|&fold| next[fold as usize].next());
        rows.flatten().copied().collect()
    }

    fn tell(&self, live: &Live, step: &str) {
        let done = live.units as f64 / (self.grid.len() * self.folds).max(1) as f64;
        let best = live.best.as_ref().map(|&(trial, _)| self.best_trial(trial, &live.trials[trial]));
        self.meter.search(step, BEFORE + (AFTER - BEFORE) * done, live.tally, best);
    }

    /// A trial for the contract's report.
    pub fn best_trial(&self, trial: usize, result: &Trial) -> BestTrial {
        let point = self.grid.point(trial);
        BestTrial {
            trial: trial as u32 + 1,
            candidate: point.candidate().to_owned(),
            parameters: point.parameters(),
            metric: self.objective.name().to_owned(),
            mean: round(result.mean),
            deviation: round(result.deviation),
        }
    }

    /// The grid's point of a trial.
    pub fn point(&self, trial: usize) -> Point<'_> {
        self.grid.point(trial)
    }
}

impl Found {
    /// Trials by state, at the end.
    pub fn tally(&self) -> Trials {
        let failed = self.trials.iter().filter(|trial| trial.failure.is_some()).count() as u32;
        let total = self.trials.len() as u32;
        Trials { total, running: 0, succeeded: total - failed, failed }
    }
}

fn summary(outcomes: &[Outcome]) -> Trial {
    let count = outcomes.len() as f64;
    let folds: Vec<f64> = outcomes.iter().map(|outcome| outcome.value).collect();
    let mean = folds.iter().sum::<f64>() / count;
    let variance = folds.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    Trial {
        mean,
        deviation: variance.sqrt(),
        wall_seconds: outcomes.iter().map(|outcome| outcome.wall).sum(),
        cpu_seconds: outcomes.iter().map(|outcome| outcome.cpu).sum(),
        passes: outcomes.iter().map(|outcome| outcome.passes).max().unwrap_or_default(),
        converged: outcomes.iter().all(|outcome| outcome.converged),
        failure: None,
        folds,
    }
}

fn lock(live: &Mutex<Live>) -> MutexGuard<'_, Live> {
    live.lock().unwrap_or_else(PoisonError::into_inner)
}
