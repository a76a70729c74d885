//! One run of a workload with its faults, from the beginning to the evidence.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use tokio::task::JoinHandle;

use crate::oracle::dump::{flat, objects, stored};
use crate::oracle::{Evidence, Reference, Violation, judge, patience};
use crate::proxy::gate::Drop;
use crate::proxy::rules::{Action, Point, Rule};
use crate::stage::{Run, Stage};
use crate::workload::Workload;

/// Longest time until what belongs to deleted resources is gone.
const SWEEP: Duration = Duration::from_secs(20);
/// Milliseconds without an apiserver after which a leader may give up: it does 16 s after the start of its
/// last renewal, which may lie 8 s back.
const LEASE_LOST: u64 = 8_000;

/// What goes wrong in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// On the wire.
    pub rules: Vec<Rule>,
    /// At a place around a database or blob write, as `name:nth:kill`.
    pub failpoint: Option<String>,
    /// Watches that lag or lose events.
    #[serde(default)]
    pub lags: Vec<Lag>,
    /// Nothing answers for so many milliseconds from the beginning of this step on.
    #[serde(default)]
    pub outage: Option<(usize, u64)>,
}

/// What the operator learns too late or never.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lag {
    /// Resource whose watch it is.
    pub resource: String,
    /// Step with which it begins, from 0.
    pub step: usize,
    /// How long it lasts.
    pub millis: u64,
    /// How.
    pub how: How,
}

/// How a watch lags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Events are held back.
    Frozen,
    /// Events are held back and the operator starts anew, with lists as they were.
    FrozenRestart,
    /// Events of the time are lost; then the watch is told that its version is too old.
    Lost,
}

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rules: Vec<String> = self.rules.iter().map(Rule::to_string).collect();
        let point = self.failpoint.iter().cloned();
        let lags = self
            .lags
            .iter()
            .map(|l| format!("{} {:?} {} ms from step {}", l.resource, l.how, l.millis, l.step));
        let outage =
            self.outage.iter().map(|(step, millis)| format!("outage of {millis} ms from step {step}"));
        f.write_str(&rules.into_iter().chain(point).chain(lags).chain(outage).collect::<Vec<_>>().join(", "))
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was collected.
    pub evidence: Evidence,
    /// Invariants that do not hold.
    pub violations: Vec<Violation>,
    /// Whether the fault happened at all.
    pub happened: bool,
    /// How often the operator was started.
    pub starts: u32,
    /// Places that were passed.
    pub failpoints: Vec<String>,
    /// Requests and places before the workload's own steps began.
    pub before: (usize, usize),
    /// How long it took.
    pub took: Duration,
}

/// Runs a workload with faults. `quiet`: how long nothing may be written at the end.
pub async fn run(
    stage: &mut Stage,
    workload: &Workload,
    faults: &Faults,
    reference: Option<&Reference>,
    quiet: Duration,
) -> Result<Outcome> {
    let mut run = stage.prepare().await?;
    // what is read at the start may go wrong too
    let (reads, writes): (Vec<_>, Vec<_>) = faults.rules.iter().cloned().partition(Rule::reads);
    for rule in reads {
        run.operator.proxy.add(rule);
    }
    run.operator.start(faults.failpoint.as_deref())?;
    run.started().await?;
    for rule in writes {
        run.operator.proxy.add(rule);
    }
    let mut before = (0, 0);
    let done = steps(&mut run, workload, faults, &mut before).await;
    let mut trouble = done.err().map(|e| format!("{e:#}"));
    if trouble.is_none() {
        trouble = run.settle(quiet).await.err().map(|e| format!("{e:#}"));
    }
    let happened = happened(&run, faults);
    let mut evidence = collect(&mut run, trouble).await?;
    if faults.outage.is_some_and(|(_, millis)| millis >= LEASE_LOST) {
        evidence.exits.retain(|exit| !exit.is_deposed());
    }
    let mut violations = judge(&evidence, reference);
    if let Some((_, millis)) = faults.outage {
        violations.extend(patience(run.operator.proxy.refused(), millis));
    }
    let outcome = Outcome {
        violations,
        happened,
        starts: run.operator.starts(),
        failpoints: run.operator.failpoints(),
        before,
        took: run.elapsed(),
        evidence,
    };
    run.end().await?;
    Ok(outcome)
}

/// Is there evidence of each fault? One that met nothing proves nothing.
fn happened(run: &Run<'_>, faults: &Faults) -> bool {
    let proxy = &run.operator.proxy;
    let cut_off = faults.outage.is_none() || proxy.refused() + proxy.gates().broken() > 0;
    let late = |lag: &Lag| proxy.gates().injected(&lag.resource) > 0;
    proxy.rules_left() == 0
        && (faults.failpoint.is_none() || run.operator.starts() > 1)
        && cut_off
        && faults.lags.iter().all(late)
}

/// The workload's steps, with what begins at one of them; returns when what began has ended too.
async fn steps(
    run: &mut Run<'_>,
    workload: &Workload,
    faults: &Faults,
    before: &mut (usize, usize),
) -> Result<()> {
    let mut faulty: Vec<JoinHandle<Result<()>>> = Vec::new();
    for (number, step) in workload.steps.iter().enumerate() {
        if number == workload.shared {
            *before = (run.operator.proxy.log().len(), run.operator.failpoints().len());
        }
        for lag in faults.lags.iter().filter(|l| l.step == number) {
            faulty.push(begin(run, lag).await?);
        }
        if let Some((_, millis)) = faults.outage.filter(|(step, _)| *step == number) {
            let proxy = run.operator.proxy.clone();
            proxy.set_down(true);
            faulty.push(tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                proxy.set_down(false);
                Ok(())
            }));
        }
        run.step(step).await.with_context(|| format!("step {number}: {step:?}"))?;
    }
    for fault in faulty {
        fault.await??;
    }
    Ok(())
}

/// A watch begins to lag, and ends to in its time.
async fn begin(run: &mut Run<'_>, lag: &Lag) -> Result<JoinHandle<Result<()>>> {
    let (proxy, lag) = (run.operator.proxy.clone(), lag.clone());
    if lag.how == How::Lost {
        proxy.gates().drop_events(Drop { resource: lag.resource.clone(), ..Drop::default() });
    } else {
        proxy.freeze(&lag.resource).await?;
    }
    if lag.how == How::FrozenRestart {
        run.operator.kill();
        run.operator.start(None)?;
    }
    Ok(tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(lag.millis)).await;
        if lag.how == How::FrozenRestart {
            proxy.count_stale(&lag.resource).await?;
        }
        if lag.how == How::Lost {
            proxy.add(Rule::nth("watch", &lag.resource, 1, Point::Before, Action::gone()));
        }
        proxy.gates().open();
        if lag.how == How::Lost {
            proxy.gates().cut(&lag.resource);
        }
        Ok(())
    }))
}

/// Collects the evidence of a run, then deletes everything and looks at what is left.
pub async fn collect(run: &mut Run<'_>, trouble: Option<String>) -> Result<Evidence> {
    let trouble = trouble.map(|t| match run.stage.completer.trouble() {
        found if found.is_empty() => t,
        found => format!("{t} (completer: {found:?})"),
    });
    let (objects, stored) = (objects(run).await?, stored(run).await?);
    let mut evidence = Evidence {
        flat: flat(run, &objects, &stored),
        objects,
        stored,
        log: run.operator.proxy.log(),
        arrived: run.operator.proxy.arrived(),
        resident: Some(run.operator.peak()),
        harmed: run.harmed().await?,
        trouble,
        ..Evidence::default()
    };
    run.delete_all().await?;
    let end = tokio::time::Instant::now() + SWEEP;
    loop {
        evidence.orphans = run.left().await?;
        if evidence.orphans.is_empty() || tokio::time::Instant::now() > end {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    evidence.exits = run.operator.exits();
    evidence.forbidden = run.forbidden()?;
    evidence.text = run.operator.log();
    Ok(evidence)
}
