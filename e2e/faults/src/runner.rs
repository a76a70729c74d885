//! Runs many cases on a few rigs at once and reports what was found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::campaign::c4::{self, Story};
use crate::campaign::c8::{self, Poison};
use crate::campaign::{Campaign, Case, undecodable};
use crate::case::{Outcome, run};
use crate::oracle::Reference;
use crate::rig::Programs;
use crate::stage::Stage;
use crate::workload::{self, Workload};

/// How much and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Programs.
    pub programs: Programs,
    /// Rigs at once.
    pub jobs: usize,
    /// Ends after so many cases in which the fault happened, of three workloads; all if absent.
    pub sample: Option<usize>,
    /// Chooses the sample.
    pub seed: u64,
    /// How long nothing may be written at the end of a run.
    pub quiet: Duration,
    /// Only these workloads.
    pub workloads: Vec<String>,
    /// Cases that are printed with this text in them come first.
    pub first: Option<String>,
    /// Ends a campaign after so many cases with violations.
    pub stop_after: usize,
}

/// What a campaign found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Name of the campaign.
    pub campaign: String,
    /// Cases that ran.
    pub runs: usize,
    /// Cases in which the fault happened.
    pub injected: usize,
    /// Restarts of the operator.
    pub restarts: u32,
    /// Cases with violations: repro line and what was seen.
    pub findings: Vec<(String, Vec<String>)>,
    /// Seconds.
    pub seconds: f64,
}

impl Report {
    /// Violations in all cases.
    pub fn violations(&self) -> usize {
        self.findings.iter().map(|(_, v)| v.len()).sum()
    }

    /// One line for programs.
    pub fn line(&self) -> String {
        json!({"campaign": self.campaign, "runs": self.runs, "faults_injected": self.injected,
            "operator_restarts": self.restarts, "violations": self.violations(),
            "findings": self.findings.len(), "seconds": self.seconds.round()})
        .to_string()
    }
}

/// Cases of a sample that are tried at most for each one in which the fault shall happen: in six of ten
/// cases of C2 a watch has nothing to hold back at that moment.
const TRIED: usize = 5;

/// A learnt workload.
struct Learnt {
    workload: Workload,
    reference: Reference,
    cases: Vec<Case>,
}

/// Runs a campaign of cases.
pub async fn campaign(plan: &Plan, campaign: Campaign) -> Result<Report> {
    let started = Instant::now();
    let mut stages = start(plan, usize::MAX).await?;
    let learnt = Arc::new(learn(plan, campaign, &mut stages).await?);
    let mut cases: Vec<(usize, Case)> =
        learnt.iter().enumerate().flat_map(|(i, l)| l.cases.iter().map(move |c| (i, c.clone()))).collect();
    eprintln!("{}: {} cases in {} workloads", campaign.name(), cases.len(), learnt.len());
    let mut random = fastrand::Rng::with_seed(plan.seed);
    random.shuffle(&mut cases);
    if let Some(text) = &plan.first {
        anyhow::ensure!(
            cases.iter().any(|(_, c)| c.to_string().contains(text)),
            "no case has {text:?} in it"
        );
        cases.sort_by_key(|(_, case)| !case.to_string().contains(text));
    }
    cases.truncate(plan.sample.map_or(usize::MAX, |wanted| wanted * TRIED));
    // they are taken from the end, and a smaller sample shall be the beginning of a larger one
    cases.reverse();
    let total = plan.sample.unwrap_or(usize::MAX).min(cases.len());
    let queue = Arc::new(Mutex::new(cases));
    let report = Arc::new(Mutex::new(Report { campaign: campaign.name().to_owned(), ..Report::default() }));
    let mut workers = Vec::new();
    for stage in stages {
        let (queue, report, learnt, plan) = (queue.clone(), report.clone(), learnt.clone(), plan.clone());
        workers.push(work(stage, plan, learnt, queue, report, total));
    }
    futures::future::try_join_all(workers).await?;
    let mut report = report.lock().unwrap_or_else(PoisonError::into_inner).clone();
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

async fn learn(plan: &Plan, campaign: Campaign, stages: &mut [Stage]) -> Result<Vec<Learnt>> {
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let mut all: Vec<Workload> = workload::all()
        .into_iter()
        .filter(|w| {
            campaign.uses(w) && (plan.workloads.is_empty() || plan.workloads.iter().any(|o| o == w.name))
        })
        .collect();
    if plan.sample.is_some() && plan.workloads.is_empty() {
        random.shuffle(&mut all);
        all.truncate(3);
    }
    let queue = Arc::new(Mutex::new(all));
    let learnt = futures::future::try_join_all(stages.iter_mut().map(|stage| {
        let queue = queue.clone();
        async move {
            let mut learnt = Vec::new();
            while let Some(workload) = take(&queue) {
                let (reference, outcome) = reference(stage, &workload, plan.quiet).await?;
                let cases = campaign.cases(&workload, &outcome);
                learnt.push(Learnt { workload, reference, cases });
            }
            anyhow::Ok(learnt)
        }
    }))
    .await?;
    let mut learnt: Vec<Learnt> = learnt.into_iter().flatten().collect();
    let in_registry = learnt.iter().flat_map(|l| &l.cases).any(|c| c.faults.failpoint.is_some());
    anyhow::ensure!(
        campaign != Campaign::C1 || in_registry || !plan.workloads.is_empty(),
        "no failpoint was passed: is {} built without them?",
        plan.programs.operator.display()
    );
    // who was first must not decide what the seed chooses
    learnt.sort_by_key(|l| l.workload.name);
    Ok(learnt)
}

/// A reference from two runs without faults, and the first of them.
pub async fn reference(
    stage: &mut Stage,
    workload: &Workload,
    quiet: Duration,
) -> Result<(Reference, Outcome)> {
    let none = crate::case::Faults::default();
    let first = run(stage, workload, &none, None, quiet).await?;
    let second = run(stage, workload, &none, None, quiet).await?;
    for outcome in [&first, &second] {
        let shown: Vec<String> = outcome.violations.iter().map(ToString::to_string).collect();
        anyhow::ensure!(shown.is_empty(), "workload {} without faults: {shown:?}", workload.name);
    }
    Ok((Reference::learn(first.evidence.clone(), &second.evidence), first))
}

fn take<T>(queue: &Mutex<Vec<T>>) -> Option<T> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

/// The next case of a campaign; none when the fault has happened in enough of them.
fn next(queue: &Mutex<Vec<(usize, Case)>>, report: &Mutex<Report>, wanted: usize) -> Option<(usize, Case)> {
    let enough = report.lock().unwrap_or_else(PoisonError::into_inner).injected >= wanted;
    if enough { None } else { take(queue) }
}

async fn work(
    mut stage: Stage,
    plan: Plan,
    learnt: Arc<Vec<Learnt>>,
    queue: Arc<Mutex<Vec<(usize, Case)>>>,
    report: Arc<Mutex<Report>>,
    total: usize,
) -> Result<()> {
    while let Some((i, case)) = next(&queue, &report, total) {
        let of = &learnt[i];
        let outcome = run(&mut stage, &of.workload, &case.faults, Some(&of.reference), plan.quiet).await?;
        let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
        report.runs += 1;
        report.injected += usize::from(outcome.happened);
        report.restarts += outcome.starts.saturating_sub(1);
        let verdict = if outcome.violations.is_empty() { "ok" } else { "VIOLATED" };
        let missed = if outcome.happened { "" } else { " (the fault did not happen)" };
        let (runs, took) = (report.runs, outcome.took.as_secs_f64());
        eprintln!("[{runs}: {}/{total}] {verdict} {case}{missed}, {took:.1} s", report.injected);
        if !outcome.violations.is_empty() {
            let seen: Vec<String> = outcome.violations.iter().map(ToString::to_string).collect();
            let repro = serde_json::to_string(&case)?;
            for line in &seen {
                eprintln!("    {line}");
            }
            eprintln!("    again: e2e/faults/run {} --repro '{repro}'", report.campaign);
            report.findings.push((repro, seen));
        }
        if report.findings.len() >= plan.stop_after {
            break;
        }
    }
    Ok(())
}

/// C4: every story once.
pub async fn leaders(plan: &Plan, only: Option<Story>) -> Result<Report> {
    let started = Instant::now();
    let mut stories: Vec<Story> =
        Story::all().iter().copied().filter(|s| only.is_none_or(|o| o == *s)).collect();
    fastrand::Rng::with_seed(plan.seed).shuffle(&mut stories);
    stories.truncate(plan.sample.unwrap_or(usize::MAX));
    let mut stages = start(plan, stories.len()).await?;
    let promote = workload::named("promote").context("workload promote")?;
    let (reference, _) = reference(&mut stages[0], &promote, plan.quiet).await?;
    let (queue, reference, quiet) = (Mutex::new(stories), &reference, plan.quiet);
    let workers = stages.iter_mut().map(|stage| async {
        let mut played = Vec::new();
        while let Some(story) = take(&queue) {
            let ended = c4::play(stage, story, reference, quiet).await?;
            let mut seen: Vec<String> = ended.violations.iter().map(ToString::to_string).collect();
            if !ended.happened && seen.is_empty() {
                seen.push("it did not happen".into());
            }
            eprintln!("{} {story:?} {seen:#?}", if seen.is_empty() { "ok" } else { "VIOLATED" });
            played.push((story, ended.happened, seen));
        }
        anyhow::Ok(played)
    });
    let played: Vec<_> = futures::future::try_join_all(workers).await?.into_iter().flatten().collect();
    Ok(Report {
        campaign: "c4".into(),
        runs: played.len(),
        injected: played.iter().filter(|(_, happened, _)| *happened).count(),
        findings: played
            .into_iter()
            .filter(|(_, _, seen)| !seen.is_empty())
            .map(|(story, _, seen)| (format!("--story {}", story.name()), seen))
            .collect(),
        seconds: started.elapsed().as_secs_f64(),
        ..Report::default()
    })
}

/// The stages beside each other, one for each job, and no more than `most`.
async fn start(plan: &Plan, most: usize) -> Result<Vec<Stage>> {
    let mut stages = Vec::new();
    for _ in 0..plan.jobs.min(most).max(1) {
        stages.push(Stage::start(&plan.programs, Duration::ZERO).await?);
    }
    Ok(stages)
}

/// C8: every poison once, or `only` one again.
pub async fn poison(plan: &Plan, only: Option<Poison>) -> Result<Report> {
    let started = Instant::now();
    let mut stage = Stage::start(&plan.programs, Duration::ZERO).await?;
    let mut poisons = c8::poisons();
    fastrand::Rng::with_seed(plan.seed).shuffle(&mut poisons);
    poisons.truncate(plan.sample.unwrap_or(usize::MAX));
    if let Some(only) = only {
        poisons = vec![only];
    }
    let mut tally = c8::play(&mut stage, &poisons, plan.quiet).await?;
    let unreadable = undecodable::play(&mut stage, plan.quiet).await?;
    if !unreadable.is_empty() {
        tally.wrong.push(("unreadable".into(), unreadable.iter().map(ToString::to_string).collect()));
    }
    eprintln!(
        "{} poisons: {} refused when applied, {} answered in status, {} changed nothing",
        poisons.len(),
        tally.refused,
        tally.answered,
        tally.unchanged
    );
    anyhow::ensure!(
        poisons.len() < 6 || tally.answered > 0,
        "the apiserver refused each of {} poisons: the operator saw none",
        poisons.len()
    );
    Ok(Report {
        campaign: "c8".into(),
        runs: poisons.len() + 1,
        // and the objects that cannot be read
        injected: tally.refused + tally.answered + 1,
        findings: tally.wrong,
        seconds: started.elapsed().as_secs_f64(),
        ..Report::default()
    })
}

/// Runs one case again.
pub async fn again(plan: &Plan, case: &Case) -> Result<Report> {
    let started = Instant::now();
    let workload = workload::named(&case.workload).context("no such workload")?;
    let mut stage = Stage::start(&plan.programs, Duration::ZERO).await?;
    let (reference, _) = reference(&mut stage, &workload, plan.quiet).await?;
    let outcome = run(&mut stage, &workload, &case.faults, Some(&reference), plan.quiet).await?;
    let seen: Vec<String> = outcome.violations.iter().map(ToString::to_string).collect();
    anyhow::ensure!(outcome.happened || !seen.is_empty(), "the fault did not happen: {case}");
    let findings = if seen.is_empty() { vec![] } else { vec![(serde_json::to_string(case)?, seen)] };
    let path = std::env::temp_dir().join("vitrine-faults-operator.log");
    std::fs::write(&path, &outcome.evidence.text)?;
    for entry in outcome.evidence.log.iter().filter(|e| e.call.writes() && !e.call.is_bookkeeping()) {
        eprintln!(
            "    {} -> {}{}",
            entry.call,
            entry.code,
            if entry.effective { "" } else { " (no change)" }
        );
    }
    eprintln!("the operator's log is in {}", path.display());
    Ok(Report {
        campaign: "repro".into(),
        runs: 1,
        injected: usize::from(outcome.happened),
        restarts: outcome.starts.saturating_sub(1),
        findings,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// How many findings violate each invariant, for a summary.
pub fn by_invariant(report: &Report) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for (_, seen) in &report.findings {
        let violated: BTreeSet<&str> = seen.iter().filter_map(|line| line.split(':').next()).collect();
        for invariant in violated {
            *all.entry(invariant.to_owned()).or_default() += 1;
        }
    }
    all
}
