//! The status of a TrainingRun. `Succeeded` sums it up and `Ready` mirrors it, for tools that wait on
//! `Ready` only.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use vitrine_contract::report;
use vitrine_crds::common::LastFailure;
use vitrine_crds::condition::{ConditionType, Reason, Truth, Verdict, render};
use vitrine_crds::training_run::{BestTrial, Inputs, ModelStatus, Progress, SplitMetrics, Trials};
use vitrine_crds::{TrainingRun, TrainingRunStatus};

use super::gate::Judgement;
use crate::attempt::Attempt;
use crate::facts::{JobEnd, TrainingRunObserved, VersionFacts};
use crate::failure::{self, Subject};
use crate::meta;
use crate::plan::{Plan, Requeue};
use crate::refusal;
use crate::status::{Kind, Phase, decimal, duration, progress_summary, rejected, transition};

/// What is known of the Dataset.
pub enum Source {
    /// No such Dataset.
    Missing(String),
    /// It has no usable snapshot; the text says why.
    NotReady(String),
    /// It has a snapshot of that revision.
    Usable(i64),
    /// The run works with these.
    Pinned(Inputs),
}

/// What a run that has not ended does.
pub struct Outlook {
    phase: Phase,
    attempt: Option<Attempt>,
    inputs: Option<Inputs>,
    running: Verdict,
    suspended: Option<String>,
    failure: Option<LastFailure>,
}

/// The sentence of a Job that was created and has not started.
fn about_to_start(attempt: &Attempt) -> String {
    format!("Job {} was created (attempt {})", attempt.job_name, attempt.number)
}

impl Outlook {
    fn new(reason: Reason, message: &str) -> Self {
        Self {
            phase: Phase::Working(reason, message.to_owned()),
            attempt: None,
            inputs: None,
            running: Verdict::new(ConditionType::Running, false, reason, message),
            suspended: None,
            failure: None,
        }
    }

    /// The Dataset is awaited.
    pub fn waiting(reason: Reason, message: &str) -> Self {
        Self::new(reason, message)
    }

    /// `spec.suspend` holds the run.
    pub fn suspended(inputs: Option<Inputs>, message: &str) -> Self {
        Self { inputs, suspended: Some(message.to_owned()), ..Self::new(Reason::SuspendedBySpec, message) }
    }

    /// The Job was created.
    pub fn queued(attempt: &Attempt, inputs: Inputs) -> Self {
        let message = about_to_start(attempt);
        Self { attempt: Some(attempt.clone()), inputs: Some(inputs), ..Self::new(Reason::Queued, &message) }
    }

    /// The registry is being written.
    pub fn recording(attempt: Option<Attempt>, inputs: Option<Inputs>, message: &str) -> Self {
        Self { attempt, inputs, ..Self::new(Reason::InProgress, message) }
    }
}

/// The outlook of a Job that works, waits or has just ended.
pub fn of_active(
    seen: &TrainingRunObserved,
    attempt: &Attempt,
    inputs: Option<Inputs>,
    subject: &Subject,
    suspend: bool,
) -> Outlook {
    let name = &attempt.job_name;
    let current = seen.pods.iter().rev().find(|pod| !pod.terminating);
    let refused = refusal::of_active(seen.job.as_ref());
    let stuck = refused.clone().or_else(|| match current {
        Some(pod) => failure::waiting(pod, subject),
        None => failure::remembered(subject),
    });
    let held = seen.job.as_ref().is_some_and(|job| job.suspended);
    let mut runs = false;
    let (reason, message) = match (&stuck, current) {
        _ if suspend => (Reason::SuspendedBySpec, format!("spec.suspend is true: Job {name} is held")),
        _ if held => (Reason::Queued, format!("Job {name} is suspended until its queue admits it")),
        (Some(cause), _) => (failure::reason_of(cause), cause.message.clone()),
        (None, Some(pod)) if pod.phase == "Running" => {
            runs = true;
            let step = seen.progress.as_ref().map_or("starting", |p| p.step.as_str());
            (Reason::Training, format!("pod {}: {step}", pod.name))
        }
        (None, Some(pod)) if pod.phase == "Succeeded" => {
            (Reason::Training, format!("pod {} has ended: its model is being registered", pod.name))
        }
        (None, Some(pod)) if pod.phase == "Failed" => {
            (Reason::Training, format!("pod {} failed: Job {name} decides whether to try again", pod.name))
        }
        // the words of its creation, so that nothing is written while nothing happens
        _ => (Reason::Queued, about_to_start(attempt)),
    };
    Outlook {
        attempt: Some(attempt.clone()),
        inputs,
        running: Verdict::new(ConditionType::Running, runs, reason, message.clone()),
        suspended: suspend.then(|| message.clone()),
        failure: refused.or_else(|| failure::newest(&seen.pods, subject)),
        ..Outlook::new(reason, &message)
    }
}

/// The whole status of a run that has not ended.
pub fn build(
    object: &TrainingRun,
    seen: &TrainingRunObserved,
    outlook: Outlook,
    now: &Time,
) -> TrainingRunStatus {
    let before = object.status.clone().unwrap_or_default();
    let attempt = outlook.attempt.as_ref();
    let mut status = TrainingRunStatus {
        observed_generation: object.metadata.generation,
        job_name: attempt.map_or(before.job_name, |a| Some(a.job_name.clone())),
        attempts: attempt.map_or(before.attempts, |a| Some(a.number)),
        inputs: outlook.inputs,
        start_time: started(seen).or(before.start_time),
        last_failure: outlook.failure.or(before.last_failure),
        progress: before.progress,
        trials: before.trials,
        best: before.best,
        ..TrainingRunStatus::default()
    };
    if let Some(post) = &seen.progress {
        take_progress(&mut status, post);
    }
    let (reason, message) = match &outlook.phase {
        Phase::Working(reason, message) | Phase::Stalled(reason, message) => (*reason, message.clone()),
        Phase::Settled => (Reason::Pending, String::new()),
    };
    let mut verdicts: Vec<Verdict> = outlook.phase.verdicts().into();
    verdicts.extend([
        Verdict::new(ConditionType::Succeeded, Truth::Unknown, reason, message.clone()),
        Verdict::new(ConditionType::Ready, Truth::Unknown, reason, message.clone()),
        dataset_ready(&super::source(seen, status.inputs.as_ref(), &object.spec.dataset_ref.name)),
        outlook.running,
        suspended(outlook.suspended),
        Verdict::new(ConditionType::GatePassed, Truth::Unknown, Reason::Pending, "no model to judge yet"),
        Verdict::new(ConditionType::Registered, Truth::Unknown, Reason::Pending, "no model to register yet"),
    ]);
    status.conditions = render(&verdicts, &before.conditions, object.metadata.generation, now);
    status
}

/// How a run ended with a version.
pub struct End<'a> {
    /// The version.
    pub version: &'a VersionFacts,
    /// Whether it was taken over from an identical run.
    pub reused: bool,
    /// What this run's gate says of it.
    pub judgement: Judgement,
}

/// The whole status of a run whose version is registered and whose alias, if any, is set.
pub fn ended(
    object: &TrainingRun,
    seen: &TrainingRunObserved,
    end: &End<'_>,
    inputs: Option<Inputs>,
    now: &Time,
) -> TrainingRunStatus {
    let version = end.version;
    let model = &version.model;
    let mut status = finished(object, seen, inputs, now);
    let report = &version.report;
    status.progress = Some(Progress {
        percentage: 100,
        estimated_remaining_seconds: None,
        step: if end.reused { "reused" } else { "done" }.to_owned(),
        summary: progress_summary(100, None),
    });
    status.trials = Some(trials(&report.trials));
    status.best = Some(best(&report.best));
    status.metrics = report.metrics.iter().map(metrics).collect();
    status.gate.clone_from(&end.judgement.lines);
    status.report_digest = Some(report.report.digest.clone()).filter(|d| !d.is_empty());
    status.model = Some(ModelStatus {
        name: model.clone(),
        version: version.version,
        digest: version.digest.clone(),
        bytes: version.bytes,
        reused: end.reused,
    });
    status.last_failure = None;
    let alias = &object.spec.output.alias;
    let judged = &end.judgement.message;
    let (phase, reason, message) = if version.accepted {
        let origin = if end.reused {
            format!(", taken over from TrainingRun {}", version.run_name)
        } else {
            String::new()
        };
        let reason = if end.reused { Reason::Reused } else { Reason::Registered };
        (
            Phase::Settled,
            reason,
            format!(
                "version {} of model {model} is registered{origin}; alias {alias}: {judged}",
                version.version
            ),
        )
    } else {
        let text = format!(
            "version {} of model {model} is registered as rejected and has no alias: {judged}",
            version.version
        );
        (Phase::Stalled(Reason::GateFailed, text.clone()), Reason::GateFailed, text)
    };
    let gate_reason = if end.judgement.passed { Reason::GatePassed } else { Reason::GateFailed };
    let registered = if end.reused { Reason::Reused } else { Reason::Registered };
    let text = format!("version {} of model {model}", version.version);
    let mut verdicts = summary(&phase, version.accepted, reason, &message);
    verdicts.extend([
        Verdict::new(ConditionType::GatePassed, end.judgement.passed, gate_reason, judged.clone()),
        Verdict::new(ConditionType::Registered, true, registered, text),
        dataset_ready(&super::source(seen, status.inputs.as_ref(), &object.spec.dataset_ref.name)),
    ]);
    conclude(object, status, &verdicts, now)
}

/// The whole status of a run whose Job failed for good.
pub fn failed(
    object: &TrainingRun,
    seen: &TrainingRunObserved,
    attempt: &Attempt,
    inputs: Option<Inputs>,
    failure: LastFailure,
    now: &Time,
) -> TrainingRunStatus {
    let reason = failure::reason_of(&failure);
    let message = format!("{}; create another TrainingRun to try again", failure.message);
    let mut status = finished(object, seen, inputs, now);
    status.job_name = Some(attempt.job_name.clone());
    status.attempts = Some(attempt.number);
    status.last_failure = Some(failure);
    let phase = Phase::Stalled(reason, message.clone());
    let mut verdicts = summary(&phase, false, reason, &message);
    verdicts.extend([
        Verdict::new(ConditionType::GatePassed, Truth::Unknown, reason, "there is no model to judge"),
        Verdict::new(ConditionType::Registered, false, reason, "there is no model to register"),
        dataset_ready(&super::source(seen, status.inputs.as_ref(), &object.spec.dataset_ref.name)),
    ]);
    conclude(object, status, &verdicts, now)
}

/// What both ends have in common: what was known, and the times.
fn finished(
    object: &TrainingRun,
    seen: &TrainingRunObserved,
    inputs: Option<Inputs>,
    now: &Time,
) -> TrainingRunStatus {
    let before = object.status.clone().unwrap_or_default();
    let mut status = TrainingRunStatus {
        start_time: started(seen).or(before.start_time.clone()),
        inputs: inputs.or(before.inputs.clone()),
        observed_generation: object.metadata.generation,
        ..before
    };
    if let Some(post) = &seen.progress {
        take_progress(&mut status, post);
    }
    let at = seen.job.as_ref().and_then(|job| match &job.end {
        Some(JobEnd::Complete { at } | JobEnd::Failed { at, .. }) => at.as_ref(),
        None => None,
    });
    let completion = meta::whole_seconds(at.unwrap_or(now));
    status.duration = status
        .start_time
        .as_ref()
        .map(|start| duration(completion.0.as_second().saturating_sub(start.0.as_second())));
    status.completion_time = Some(completion);
    status
}

fn summary(phase: &Phase, succeeded: bool, reason: Reason, message: &str) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> = phase.verdicts().into();
    verdicts.extend([
        Verdict::new(ConditionType::Succeeded, succeeded, reason, message),
        Verdict::new(ConditionType::Ready, succeeded, reason, message),
        Verdict::new(ConditionType::Running, false, reason, "the run has ended"),
        suspended(None),
    ]);
    verdicts
}

fn conclude(
    object: &TrainingRun,
    mut status: TrainingRunStatus,
    verdicts: &[Verdict],
    now: &Time,
) -> TrainingRunStatus {
    let before = object.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    status.conditions = render(verdicts, before, object.metadata.generation, now);
    status
}

/// The status of a run that ended before: only its generation can have moved on.
pub fn settled(object: &TrainingRun) -> TrainingRunStatus {
    let mut status = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    status.observed_generation = generation;
    let moved = |c: Condition| Condition { observed_generation: generation, ..c };
    status.conditions = status.conditions.into_iter().map(moved).collect();
    status
}

/// The plan of a run that cannot be carried out.
pub fn invalid(object: &TrainingRun, reason: Reason, message: &str, now: &Time) -> Plan<TrainingRunStatus> {
    let mut status = object.status.clone().unwrap_or_default();
    let before = std::mem::take(&mut status.conditions);
    let generation = object.metadata.generation;
    status.observed_generation = generation;
    status.conditions = rejected(Kind::TrainingRun, &before, generation, reason, message, now);
    let events = transition(ConditionType::Succeeded, "Validate", &before, &status.conditions);
    Plan {
        registry: vec![],
        apply: vec![],
        delete: vec![],
        events: events.into_iter().collect(),
        status,
        requeue: Requeue::AwaitChange,
    }
}

fn started(seen: &TrainingRunObserved) -> Option<Time> {
    seen.job.as_ref().and_then(|job| job.start_time.as_ref()).map(meta::whole_seconds)
}

fn dataset_ready(source: &Source) -> Verdict {
    let of =
        |truth: bool, reason, text: String| Verdict::new(ConditionType::DatasetReady, truth, reason, text);
    match source {
        Source::Missing(name) => of(false, Reason::DatasetNotFound, format!("Dataset {name} does not exist")),
        Source::NotReady(why) => of(false, Reason::DatasetNotReady, why.clone()),
        Source::Usable(revision) => {
            of(true, Reason::SnapshotReady, format!("revision {revision} can be used"))
        }
        Source::Pinned(inputs) => of(
            true,
            Reason::SnapshotReady,
            format!("revision {} is used ({})", inputs.dataset_revision, inputs.dataset_digest),
        ),
    }
}

fn suspended(message: Option<String>) -> Verdict {
    match message {
        Some(message) => Verdict::new(ConditionType::Suspended, true, Reason::SuspendedBySpec, message),
        None => Verdict::new(
            ConditionType::Suspended,
            false,
            Reason::NotSuspended,
            "spec.suspend does not hold the run",
        ),
    }
}

fn take_progress(status: &mut TrainingRunStatus, post: &report::Progress) {
    let remaining = post.estimated_remaining_seconds.and_then(|s| i64::try_from(s).ok());
    let percentage = i32::from(post.percentage.min(100));
    status.progress = Some(Progress {
        percentage,
        estimated_remaining_seconds: remaining,
        step: post.step.clone(),
        summary: progress_summary(percentage, remaining),
    });
    if let Some(found) = &post.trials {
        status.trials = Some(trials(found));
    }
    if let Some(found) = &post.best {
        status.best = Some(best(found));
    }
}

fn trials(found: &report::Trials) -> Trials {
    let count = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    Trials {
        total: count(found.total),
        running: count(found.running),
        succeeded: count(found.succeeded),
        failed: count(found.failed),
    }
}

fn best(found: &report::BestTrial) -> BestTrial {
    BestTrial {
        trial: i32::try_from(found.trial).unwrap_or(i32::MAX),
        candidate: found.candidate.clone(),
        parameters: found.parameters.clone(),
        mean: decimal(found.mean),
        deviation: decimal(found.deviation),
        summary: format!("{} {:.3}", found.metric, found.mean),
    }
}

fn metrics(found: &report::SplitMetrics) -> SplitMetrics {
    SplitMetrics {
        split: found.split.clone(),
        rows: i64::try_from(found.rows).unwrap_or(i64::MAX),
        values: found.values.iter().map(|(name, value)| (name.clone(), decimal(*value))).collect(),
    }
}
