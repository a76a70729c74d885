//! What the three kinds' statuses share: the summary conditions, events on transitions, and the
//! status of an object that could not be observed or decoded.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::Resource as _;
use vitrine_crds::common::LastFailure;
use vitrine_crds::condition::{ConditionType, Reason, Truth, Verdict, find, render};
use vitrine_crds::{
    Dataset, DatasetStatus, ModelDeployment, ModelDeploymentStatus, TrainingRun, TrainingRunStatus,
};

use crate::failure;
use crate::meta;
use crate::plan::{Event, EventType};

/// Where an object stands; kstatus reads it from `Reconciling` and `Stalled`, of which never more
/// than one is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Work goes on.
    Working(Reason, String),
    /// Nothing gets better until somebody changes something.
    Stalled(Reason, String),
    /// There is nothing to do.
    Settled,
}

impl Phase {
    /// The verdicts on `Reconciling` and `Stalled`.
    pub fn verdicts(&self) -> [Verdict; 2] {
        let no = |condition| Verdict::new(condition, false, Reason::Settled, "");
        match self {
            Self::Working(reason, message) => {
                [Verdict::new(ConditionType::Reconciling, true, *reason, message), no(ConditionType::Stalled)]
            }
            Self::Stalled(reason, message) => {
                [no(ConditionType::Reconciling), Verdict::new(ConditionType::Stalled, true, *reason, message)]
            }
            Self::Settled => [no(ConditionType::Reconciling), no(ConditionType::Stalled)],
        }
    }
}

/// The three kinds, where no typed object is at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A Dataset.
    Dataset,
    /// A TrainingRun.
    TrainingRun,
    /// A ModelDeployment.
    ModelDeployment,
}

impl Kind {
    /// Every condition that a status of this kind holds from the first visit on.
    pub fn conditions(self) -> &'static [ConditionType] {
        use ConditionType as C;
        match self {
            Self::Dataset => &[C::Ready, C::SourceReachable, C::Reconciling, C::Stalled],
            Self::TrainingRun => &[
                C::Succeeded,
                C::Ready,
                C::DatasetReady,
                C::Running,
                C::GatePassed,
                C::Registered,
                C::Suspended,
                C::Reconciling,
                C::Stalled,
            ],
            Self::ModelDeployment => &[
                C::Ready,
                C::Available,
                C::ModelResolved,
                C::RolloutSucceeded,
                C::ScalingActive,
                C::Reconciling,
                C::Stalled,
            ],
        }
    }

    /// The conditions that sum the kind up.
    fn summary(self) -> &'static [ConditionType] {
        match self {
            Self::TrainingRun => &[ConditionType::Succeeded, ConditionType::Ready],
            Self::Dataset | Self::ModelDeployment => &[ConditionType::Ready],
        }
    }
}

/// The conditions of an object whose spec cannot be carried out: the summary is False, everything
/// else Unknown, and it is stalled.
pub fn rejected(
    kind: Kind,
    before: &[Condition],
    generation: Option<i64>,
    reason: Reason,
    message: &str,
    now: &Time,
) -> Vec<Condition> {
    let mut verdicts: Vec<Verdict> = Phase::Stalled(reason, message.to_owned()).verdicts().into();
    verdicts.extend(kind.summary().iter().map(|c| Verdict::new(*c, false, reason, message)));
    let decided: Vec<ConditionType> = verdicts.iter().map(|v| v.condition).collect();
    let rest = kind.conditions().iter().filter(|c| !decided.contains(c));
    verdicts.extend(rest.map(|c| Verdict::new(*c, Truth::Unknown, reason, message)));
    render(&verdicts, before, generation, now)
}

/// The conditions of a stored object that cannot be decoded.
pub fn undecodable(kind: Kind, generation: Option<i64>, message: &str, now: &Time) -> Vec<Condition> {
    rejected(kind, &[], generation, Reason::InvalidSpec, message, &meta::whole_seconds(now))
}

/// A pass that could not read or write something.
#[derive(Clone, Copy, Debug)]
pub struct Fault<'a> {
    /// What the condition says.
    pub reason: Reason,
    /// The cause in words.
    pub message: &'a str,
    /// Whether the same pass may succeed later without a change by a person.
    pub retryable: bool,
}

/// The conditions after a fault: what is known stays. Either the operator says that it tries again,
/// or the object is stalled; then a spec that was never carried out (`unseen`) is not ready either.
fn faulted(
    kind: Kind,
    before: &[Condition],
    (generation, unseen): (Option<i64>, bool),
    fault: Fault<'_>,
    now: &Time,
) -> Vec<Condition> {
    let Fault { reason, message, retryable } = fault;
    let phase = if retryable {
        Phase::Working(reason, format!("{message}; the operator tries again"))
    } else {
        Phase::Stalled(reason, message.to_owned())
    };
    let mut verdicts: Vec<Verdict> = phase.verdicts().into();
    if !retryable && unseen {
        verdicts.extend(kind.summary().iter().map(|c| Verdict::new(*c, false, reason, message)));
    }
    let mut list = render(&verdicts, before, generation, &meta::whole_seconds(now));
    for condition in kind.conditions().iter().filter(|c| find(&list, **c).is_none()).collect::<Vec<_>>() {
        let known = find(before, *condition).cloned();
        list.push(known.unwrap_or_else(|| {
            let verdict = Verdict::new(*condition, Truth::Unknown, reason, message);
            render(&[verdict], &[], generation, &meta::whole_seconds(now)).remove(0)
        }));
    }
    list.sort_by(|a, b| a.type_.cmp(&b.type_));
    list
}

/// The status after a pass that could not read or write something.
pub trait Faulted {
    /// The kind's status.
    type Status;

    /// Keeps what is known and says what went wrong; a finished object is left as it is.
    fn faulted(&self, fault: Fault<'_>, now: &Time) -> Self::Status;
}

impl Faulted for Dataset {
    type Status = DatasetStatus;

    fn faulted(&self, fault: Fault<'_>, now: &Time) -> DatasetStatus {
        let mut status = self.status.clone().unwrap_or_default();
        let before = std::mem::take(&mut status.conditions);
        let generation = self.meta().generation;
        let unseen = status.observed_generation != generation;
        if !fault.retryable {
            // else readers wait for a visit that cannot succeed
            status.observed_generation = generation;
        }
        status.conditions = faulted(Kind::Dataset, &before, (generation, unseen), fault, now);
        status
    }
}

impl Faulted for TrainingRun {
    type Status = TrainingRunStatus;

    fn faulted(&self, fault: Fault<'_>, now: &Time) -> TrainingRunStatus {
        let mut status = self.status.clone().unwrap_or_default();
        if status.completion_time.is_some() {
            return status;
        }
        let before = std::mem::take(&mut status.conditions);
        let generation = self.meta().generation;
        let unseen = status.observed_generation != generation;
        if !fault.retryable {
            // else readers wait for a visit that cannot succeed
            status.observed_generation = generation;
        }
        status.conditions = faulted(Kind::TrainingRun, &before, (generation, unseen), fault, now);
        status
    }
}

impl Faulted for ModelDeployment {
    type Status = ModelDeploymentStatus;

    fn faulted(&self, fault: Fault<'_>, now: &Time) -> ModelDeploymentStatus {
        let mut status = self.status.clone().unwrap_or_default();
        let before = std::mem::take(&mut status.conditions);
        let generation = self.meta().generation;
        let unseen = status.observed_generation != generation;
        if !fault.retryable {
            // else readers wait for a visit that cannot succeed
            status.observed_generation = generation;
        }
        status.conditions = faulted(Kind::ModelDeployment, &before, (generation, unseen), fault, now);
        status
    }
}

/// An event where the reason or the truth of a condition changed, with the condition's words.
pub fn transition(
    condition: ConditionType,
    action: &'static str,
    before: &[Condition],
    after: &[Condition],
) -> Option<Event> {
    let new = find(after, condition)?;
    let old = find(before, condition);
    if old.is_some_and(|old| old.status == new.status && old.reason == new.reason) {
        return None;
    }
    let reason = Reason::ALL.iter().copied().find(|r| r.as_str() == new.reason)?;
    let stalled = find(after, ConditionType::Stalled).is_some_and(|c| c.status == Truth::True.as_str());
    // a version that failed is bad news, although the one before goes on
    let bad = (stalled && new.status != Truth::True.as_str()) || reason == Reason::RolloutFailed;
    let type_ = if bad { EventType::Warning } else { EventType::Normal };
    Some(Event { type_, reason, action, message: new.message.clone() })
}

/// The failure that status holds, where it is also what the object waits for, and not of a pod that
/// others have followed.
pub fn held_up(conditions: &[Condition], failure: Option<&LastFailure>) -> Option<LastFailure> {
    let waits = find(conditions, ConditionType::Reconciling)?;
    failure.filter(|failure| failure.reason == waits.reason).cloned()
}

/// The events of a pass: the turns of conditions, and a warning of a new failure that was seen, be it
/// a turn's or one of which no turn tells.
pub fn events(
    turns: impl IntoIterator<Item = Event>,
    action: &'static str,
    (before, after): (Option<&LastFailure>, Option<&LastFailure>),
) -> Vec<Event> {
    let mut events: Vec<Event> = turns.into_iter().collect();
    let known = |new: &LastFailure| before.is_some_and(|old| old.pod == new.pod && old.reason == new.reason);
    if let Some(new) = after.filter(|new| !known(new)) {
        let reason = failure::reason_of(new);
        match events.iter_mut().find(|event| event.reason == reason) {
            // somebody should look, although it may still recover
            Some(turn) => turn.type_ = EventType::Warning,
            None => {
                events.push(Event {
                    type_: EventType::Warning,
                    reason,
                    action,
                    message: new.message.clone(),
                });
            }
        }
    }
    events
}

/// A share or metric as a decimal text: at most six decimals, no trailing zeros.
pub fn decimal(value: f64) -> String {
    let text = format!("{value:.6}");
    let short = text.trim_end_matches('0').trim_end_matches('.');
    if short == "-0" { "0".to_owned() } else { short.to_owned() }
}

/// Percent and time left in one text, such as `40% ~12s`.
pub fn progress_summary(percentage: i32, remaining_seconds: Option<i64>) -> String {
    match remaining_seconds {
        Some(seconds) if percentage < 100 => format!("{percentage}% ~{}", duration(seconds)),
        _ => format!("{percentage}%"),
    }
}

/// A duration as people write it: `12s`, `1m12s`, `2h3m`.
pub fn duration(seconds: i64) -> String {
    let seconds = seconds.max(0);
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, _) => format!("{h}h{m}m"),
    }
}
