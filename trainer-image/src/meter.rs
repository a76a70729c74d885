//! How far the work is, for whoever watches: the gateway, a terminal, or a log.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vitrine_contract::report::{BestTrial, Progress, Trials};
use vitrine_gateway_client::ProgressPoster;

/// Least time between two lines of a log.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Least time between two drawings of a terminal's line.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);
/// An estimate needs this share of the work done.
const ENOUGH_FOR_ESTIMATE: f64 = 0.02;

/// Takes progress from any thread.
#[derive(Debug)]
pub struct Meter {
    start: Instant,
    poster: Option<ProgressPoster>,
    screen: Screen,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Screen {
    None,
    Log,
    Terminal,
}

#[derive(Debug, Default)]
struct State {
    progress: Progress,
    shown: Option<Instant>,
    shown_step: String,
}

impl Meter {
    /// Shows nothing.
    pub fn silent() -> Self {
        Self::new(None, Screen::None)
    }

    /// Draws a line where stderr is a terminal, else logs lines there.
    pub fn on_stderr() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self::new(None, if terminal { Screen::Terminal } else { Screen::Log })
    }

    /// Posts to the gateway and logs to stderr.
    pub fn posting(poster: ProgressPoster) -> Self {
        Self::new(Some(poster), Screen::Log)
    }

    fn new(poster: Option<ProgressPoster>, screen: Screen) -> Self {
        Self { start: Instant::now(), poster, screen, state: Mutex::default() }
    }

    /// What is being done, and the share of all the work that is done (0 to 1).
    pub fn step(&self, step: &str, done: f64) {
        self.update(|progress| step.clone_into(&mut progress.step), done);
    }

    /// As [`Meter::step`], with the state of the search.
    pub fn search(&self, step: &str, done: f64, trials: Trials, best: Option<BestTrial>) {
        let change = |progress: &mut Progress| {
            step.clone_into(&mut progress.step);
            progress.trials = Some(trials);
            progress.best = best;
        };
        self.update(change, done);
    }

    fn update(&self, change: impl FnOnce(&mut Progress), done: f64) {
        let mut state = self.lock();
        let done = done.clamp(0.0, 1.0);
        change(&mut state.progress);
        state.progress.percentage = (done * 100.0) as u8;
        let elapsed = self.start.elapsed().as_secs_f64();
        state.progress.estimated_remaining_seconds =
            (done >= ENOUGH_FOR_ESTIMATE).then(|| (elapsed * (1.0 - done) / done).ceil() as u64);
        if let Some(poster) = &self.poster {
            poster.post(state.progress.clone());
        }
        self.show(&mut state);
    }

    fn show(&self, state: &mut State) {
        let since = state.shown.map_or(Duration::MAX, |shown| shown.elapsed());
        let new_step = state.shown_step != state.progress.step;
        let due = match self.screen {
            Screen::None => false,
            Screen::Log => new_step && since >= LOG_INTERVAL,
            Screen::Terminal => since >= DRAW_INTERVAL,
        };
        if !due {
            return;
        }
        state.shown = Some(Instant::now());
        state.shown_step.clone_from(&state.progress.step);
        let line = line(&state.progress);
        let mut stderr = std::io::stderr().lock();
        // Nobody is left to tell when stderr is closed.
        let _ = match self.screen {
            // Back to the line's start, and clear what is left of the old one.
            Screen::Terminal => write!(stderr, "\r{line}\x1b[K"),
            _ => writeln!(stderr, "{line}"),
        };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if self.screen == Screen::Terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(progress: &Progress) -> String {
    let rest = progress.estimated_remaining_seconds.filter(|_| progress.percentage < 100);
    let rest = rest.map_or(String::new(), |seconds| format!(", about {seconds} s left"));
    let best = progress.best.as_ref();
    let best = best.map_or(String::new(), |best| format!(", best {} {:.4}", best.metric, best.mean));
    format!("{:>3} %  {}{rest}{best}", progress.percentage, progress.step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_step_rest_and_best() {
        let best = BestTrial { metric: "F1Weighted".into(), mean: 0.70312, ..BestTrial::default() };
        let progress = Progress {
            percentage: 40,
            estimated_remaining_seconds: Some(12),
            step: "trial 3 of 8".into(),
            best: Some(best),
            trials: None,
        };
        assert_eq!(line(&progress), " 40 %  trial 3 of 8, about 12 s left, best F1Weighted 0.7031");
    }

    #[test]
    fn the_estimate_waits_for_some_work() {
        let meter = Meter::silent();
        meter.step("reading", 0.01);
        assert_eq!(meter.lock().progress.estimated_remaining_seconds, None);
        meter.step("reading", 0.5);
        assert!(meter.lock().progress.estimated_remaining_seconds.is_some());
        assert_eq!(meter.lock().progress.percentage, 50);
    }
}
