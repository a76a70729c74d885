//! The status of a Dataset: what the registry holds, and what the current attempt does.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use vitrine_contract::report::Ingested;
use vitrine_crds::common::LastFailure;
use vitrine_crds::condition::{ConditionType, Reason, Truth, Verdict, render};
use vitrine_crds::dataset::{ImageCounts, ProfileSummary, SplitStatus};
use vitrine_crds::{Dataset, DatasetStatus};

use super::source;
use crate::attempt::Attempt;
use crate::facts::{DatasetObserved, RevisionFacts};
use crate::failure::{self, Subject};
use crate::plan::{Plan, Requeue};
use crate::refusal;
use crate::status::{Kind, Phase, decimal, rejected};

/// What is known of the source.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Nothing yet.
    Unknown,
    /// It was read.
    Read,
    /// It could not be found, opened or read.
    Lost(Reason, String),
}

/// What the current attempt does.
pub struct Outlook {
    /// Where the object stands.
    pub phase: Phase,
    /// The attempt, once there is one.
    pub attempt: Option<Attempt>,
    /// What is known of the source.
    pub source: Source,
    /// The newest failure.
    pub failure: Option<LastFailure>,
    /// Percent done.
    pub progress: Option<i32>,
}

impl Outlook {
    /// An outlook of which only the phase is known.
    pub fn new(phase: Phase) -> Self {
        Self { phase, attempt: None, source: Source::Unknown, failure: None, progress: None }
    }
}

/// The sentence of a Job that was created and has not started.
pub fn queued(attempt: &Attempt) -> String {
    format!("Job {} was created (attempt {})", attempt.job_name, attempt.number)
}

/// The outlook of a Job that works, waits or has just ended.
pub fn of_active(seen: &DatasetObserved, attempt: &Attempt, subject: &Subject) -> Outlook {
    let name = &attempt.job_name;
    let current = seen.pods.iter().rev().find(|pod| !pod.terminating);
    let refused = refusal::of_active(seen.job.as_ref());
    let stuck = refused.clone().or_else(|| match current {
        Some(pod) => failure::waiting(pod, subject),
        None => failure::remembered(subject),
    });
    let cause = refused.or_else(|| failure::newest(&seen.pods, subject));
    let phase = match (&stuck, current) {
        (Some(cause), _) => Phase::Working(failure::reason_of(cause), cause.message.clone()),
        (None, Some(pod)) if pod.phase == "Running" => {
            let step = seen.progress.as_ref().map_or("reading the source", |p| p.step.as_str());
            Phase::Working(Reason::Ingesting, format!("pod {}: {step}", pod.name))
        }
        (None, Some(pod)) if pod.phase == "Succeeded" => Phase::Working(
            Reason::Ingesting,
            format!("pod {} has ended: its snapshot is being recorded", pod.name),
        ),
        (None, Some(pod)) if pod.phase == "Failed" => Phase::Working(
            Reason::Ingesting,
            format!("pod {} failed: Job {name} decides whether to try again", pod.name),
        ),
        _ if seen.job.as_ref().is_some_and(|j| j.suspended) => {
            Phase::Working(Reason::Queued, format!("Job {name} is suspended until its queue admits it"))
        }
        // the words of its creation, so that nothing is written while nothing happens
        _ => Phase::Working(Reason::Queued, queued(attempt)),
    };
    let lost = |c: &&LastFailure| c.reason == Reason::SourceNotFound.as_str() || source::not_mounted(c);
    let claim = cause.as_ref().filter(lost);
    Outlook {
        phase,
        attempt: Some(attempt.clone()),
        source: claim.map_or(Source::Unknown, |c| Source::Lost(failure::reason_of(c), c.message.clone())),
        failure: cause,
        progress: seen.progress.as_ref().map(|p| i32::from(p.percentage.min(100))),
    }
}

/// The outlook after the Job failed for good.
pub fn of_failure(attempt: &Attempt, failure: LastFailure) -> Outlook {
    let reason = failure::reason_of(&failure);
    let source = match reason {
        Reason::SourceNotFound | Reason::SourceDenied | Reason::SourceUnavailable => {
            Source::Lost(reason, failure.message.clone())
        }
        Reason::DataCorrupt => Source::Read,
        _ => Source::Unknown,
    };
    let message =
        format!("{}; change the Dataset, or delete Job {} to try again", failure.message, attempt.job_name);
    Outlook {
        attempt: Some(attempt.clone()),
        source,
        failure: Some(failure),
        ..Outlook::new(Phase::Stalled(reason, message))
    }
}

/// The whole status.
pub fn build(object: &Dataset, seen: &DatasetObserved, outlook: Outlook, now: &Time) -> DatasetStatus {
    let before = object.status.clone().unwrap_or_default();
    let mut status = snapshot(seen.revision.as_ref());
    let kept = outlook.attempt.is_none();
    status.observed_generation = object.metadata.generation;
    // while an input is missing there is no attempt, and the last one stays named
    status.job_name =
        if kept { before.job_name } else { outlook.attempt.as_ref().map(|a| a.job_name.clone()) };
    status.attempts = if kept { before.attempts } else { outlook.attempt.as_ref().map(|a| a.number) };
    status.progress_percentage = match outlook.phase {
        Phase::Working(..) => outlook.progress,
        _ => None,
    };
    status.last_failure = match (outlook.failure, &outlook.phase) {
        (Some(failure), _) => Some(failure),
        (None, Phase::Settled) => None,
        (None, _) => before.last_failure,
    };
    let mut verdicts: Vec<Verdict> = outlook.phase.verdicts().into();
    verdicts.push(ready(seen.revision.as_ref(), &outlook.phase));
    verdicts.push(reachable(&outlook.source, &outlook.phase, object));
    status.conditions = render(&verdicts, &before.conditions, object.metadata.generation, now);
    status
}

/// The plan of a Dataset that cannot be carried out: what is known of its data stays.
pub fn invalid(object: &Dataset, reason: Reason, message: &str, now: &Time) -> Plan<DatasetStatus> {
    let mut status = object.status.clone().unwrap_or_default();
    let before = std::mem::take(&mut status.conditions);
    let generation = object.metadata.generation;
    status.observed_generation = generation;
    status.progress_percentage = None;
    status.conditions = rejected(Kind::Dataset, &before, generation, reason, message, now);
    let events = crate::status::transition(ConditionType::Ready, "Validate", &before, &status.conditions);
    Plan {
        registry: vec![],
        apply: vec![],
        delete: vec![],
        events: events.into_iter().collect(),
        status,
        requeue: Requeue::AwaitChange,
    }
}

fn ready(revision: Option<&RevisionFacts>, phase: &Phase) -> Verdict {
    match (phase, revision) {
        (Phase::Stalled(reason, message), _) | (Phase::Working(reason, message), None) => {
            Verdict::new(ConditionType::Ready, false, *reason, message.clone())
        }
        (Phase::Settled, Some(revision)) => {
            Verdict::new(ConditionType::Ready, true, Reason::SnapshotReady, sentence(revision))
        }
        (Phase::Working(..), Some(revision)) => {
            let text = format!("{}; a newer one is in the making", sentence(revision));
            Verdict::new(ConditionType::Ready, true, Reason::SnapshotReady, text)
        }
        (Phase::Settled, None) => Verdict::new(ConditionType::Ready, false, Reason::Pending, ""),
    }
}

fn sentence(revision: &RevisionFacts) -> String {
    let report = &revision.report;
    let parts: Vec<String> =
        report.splits.iter().map(|(name, split)| format!("{name} {}", split.rows)).collect();
    let overlap = match report.overlap_rows {
        None | Some(0) => String::new(),
        Some(rows) => format!(", without {rows} that resemble the fixed test set"),
    };
    format!(
        "revision {} holds {} rows of {} classes ({}){overlap}",
        revision.revision,
        report.rows,
        report.classes,
        parts.join(", ")
    )
}

fn reachable(source: &Source, phase: &Phase, object: &Dataset) -> Verdict {
    match (source, phase) {
        (Source::Read, _) => {
            let text = format!("{} was read", source::title(&object.spec.source));
            Verdict::new(ConditionType::SourceReachable, true, Reason::Succeeded, text)
        }
        (Source::Lost(reason, message), _) => {
            Verdict::new(ConditionType::SourceReachable, false, *reason, message.clone())
        }
        (Source::Unknown, Phase::Working(reason, message) | Phase::Stalled(reason, message)) => {
            Verdict::new(ConditionType::SourceReachable, Truth::Unknown, *reason, message.clone())
        }
        (Source::Unknown, Phase::Settled) => {
            Verdict::new(ConditionType::SourceReachable, Truth::Unknown, Reason::Pending, "")
        }
    }
}

/// The part of the status that the registry holds.
fn snapshot(revision: Option<&RevisionFacts>) -> DatasetStatus {
    let Some(revision) = revision else { return DatasetStatus::default() };
    let report = &revision.report;
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let split = |(name, split): (&String, &vitrine_contract::report::SplitReport)| {
        (name.clone(), SplitStatus { rows: count(split.rows), digest: split.digest.clone() })
    };
    DatasetStatus {
        revision: Some(revision.revision),
        digest: Some(report.manifest.digest.clone()),
        snapshot_digest: Some(report.snapshot.digest.clone()),
        bytes: Some(count(report.snapshot.bytes)),
        rows: Some(count(report.rows)),
        rejected_rows: Some(count(report.rejected_rows)),
        overlap_rows: report.overlap_rows.map(count),
        images: report.images.map(|images| ImageCounts {
            count: count(images.count),
            missing: count(images.missing),
            unreadable: count(images.unreadable),
        }),
        classes: Some(count(report.classes)),
        splits: report.splits.iter().map(split).collect(),
        profile: Some(profile(report)),
        last_refresh_time: revision.recorded_at.as_ref().map(crate::meta::whole_seconds),
        ..DatasetStatus::default()
    }
}

fn profile(report: &Ingested) -> ProfileSummary {
    let largest = report.null_ratios.values().copied().fold(0.0, f64::max);
    ProfileSummary {
        digest: report.profile.digest.clone(),
        null_ratios: report
            .null_ratios
            .iter()
            .map(|(column, ratio)| (column.clone(), decimal(*ratio)))
            .collect::<BTreeMap<_, _>>(),
        max_null_ratio: decimal(largest),
        imbalance_ratio: report.imbalance_ratio.map(decimal),
        mean_text_length: report.mean_text_length.round() as i64,
        groups: i64::try_from(report.groups).unwrap_or(i64::MAX),
    }
}
