//! Conditions: the closed lists of types and reasons, and the one merge rule.
//!
//! Types and reasons are enums here and become strings only in [`render`]; no other file writes a
//! condition literal. Which condition applies when is decided in the plan, not here.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde::{Deserialize, Serialize};

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every value, for documentation and tests.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The text that users see.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

names! {
    /// Condition types of all three kinds.
    ConditionType {
        /// Summary: the resource can be used.
        Ready,
        /// The operator is working towards the spec (kstatus: in progress).
        Reconciling,
        /// Nothing will get better until somebody changes something (kstatus: failed).
        Stalled,
        /// Dataset: the source was found and read.
        SourceReachable,
        /// TrainingRun: the model is trained, passed its gate and is registered.
        Succeeded,
        /// TrainingRun: the dataset has a snapshot to train on.
        DatasetReady,
        /// TrainingRun: a training pod runs.
        Running,
        /// TrainingRun: the model met every line of the gate.
        GatePassed,
        /// TrainingRun: the registry holds the version.
        Registered,
        /// TrainingRun: held by `spec.suspend`.
        Suspended,
        /// ModelDeployment: enough pods answer with the served model.
        Available,
        /// ModelDeployment: the reference names a version that exists.
        ModelResolved,
        /// ModelDeployment: the last rollout reached its end.
        RolloutSucceeded,
        /// ModelDeployment: Kubernetes chooses the number of pods.
        ScalingActive,
    }
}

names! {
    /// Reasons of all conditions, events and failures.
    Reason {
        /// First visit; nothing is known yet.
        Pending,
        /// The spec cannot be carried out as written.
        InvalidSpec,
        /// A child of that name belongs to somebody else.
        NameCollision,
        /// The operator could not read or write something; it tries again.
        OperatorError,
        /// The registry does not answer.
        RegistryUnavailable,
        /// The Job was created and its pod has not started.
        Queued,
        /// The ingest pod reads the source.
        Ingesting,
        /// The snapshot is complete.
        SnapshotReady,
        /// The ConfigMap with label names does not exist.
        LabelNamesNotFound,
        /// The Dataset that holds the fixed test set is missing or not ready.
        TestDatasetNotReady,
        /// The referenced Dataset does not exist.
        DatasetNotFound,
        /// The referenced Dataset has no snapshot yet.
        DatasetNotReady,
        /// The training pod works.
        Training,
        /// `spec.suspend` holds the run.
        SuspendedBySpec,
        /// The run is not suspended.
        NotSuspended,
        /// The version is in the registry and the alias points at it.
        Registered,
        /// An identical run exists: its version was taken over, nothing was trained.
        Reused,
        /// The model is registered as rejected: it missed a line of the gate.
        GateFailed,
        /// Every line of the gate was met.
        GatePassed,
        /// A ResourceQuota leaves no room for the pod: it is not created.
        QuotaExceeded,
        /// The namespace's Pod Security level refuses the pod: it is not created.
        PodSecurityViolation,
        /// The cluster refuses the pod (a missing ServiceAccount or PriorityClass, a LimitRange, a policy, a webhook): it is not created.
        PodRejected,
        /// No node can take the pod.
        Unschedulable,
        /// A volume of the pod cannot be mounted: a Secret, a ConfigMap or a key is missing, or the storage does not answer.
        MountFailed,
        /// The image cannot be pulled.
        ImagePullBackOff,
        /// The container cannot be configured: a Secret, ConfigMap or key is missing.
        CreateContainerConfigError,
        /// The container exceeded its memory limit.
        OOMKilled,
        /// The pod was evicted or preempted.
        Evicted,
        /// `activeDeadlineSeconds` or the progress deadline passed.
        DeadlineExceeded,
        /// The Job used up its retries.
        BackoffLimitExceeded,
        /// The container ended with an error that is not one of the contract's.
        ContainerFailed,
        /// The source's claim or files are missing or not readable.
        SourceNotFound,
        /// The source refused the pod: the Secret's keys or headers are missing, wrong or not enough.
        SourceDenied,
        /// The source cannot be reached from the pod, or does not answer.
        SourceUnavailable,
        /// The source's data cannot be used: the message names file and row, or the digest that was expected.
        DataCorrupt,
        /// A hyperparameter has no usable value.
        InvalidHyperparameter,
        /// A number became infinite or undefined in training.
        NonFinite,
        /// The gateway refused the pod.
        StorageDenied,
        /// The volume of artifacts or of the registry is full.
        StorageFull,
        /// The gateway cannot be reached from the pod.
        GatewayUnavailable,
        /// Stored bytes are not the bytes that were registered.
        DigestMismatch,
        /// The server computes other scores than the trainer did.
        ProbeMismatch,
        /// The artifact's format is outside of what this server reads.
        IncompatibleModel,
        /// No such model, version, alias or digest in this namespace.
        ModelNotFound,
        /// Another ModelDeployment moves the same alias.
        AliasConflict,
        /// The reference was resolved.
        ModelResolved,
        /// The new version is being brought up.
        Progressing,
        /// The served version is available.
        Available,
        /// Too few pods answer.
        Unavailable,
        /// `spec.replicas` is 0.
        ScaledToZero,
        /// `spec.autoscaling` is not set: `spec.replicas` decides.
        NotAutoscaled,
        /// Kubernetes chooses the number of pods by their load.
        Autoscaled,
        /// Kubernetes cannot measure the load: the number of pods stays as it is.
        MetricsUnavailable,
        /// The last rollout reached its end.
        RolloutComplete,
        /// The new version did not become available in time and was removed.
        RolloutFailed,
        /// Everything is as asked.
        Succeeded,
        /// Work goes on.
        InProgress,
        /// There is nothing to do.
        Settled,
    }
}

/// Truth of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Not known yet.
    Unknown,
}

impl Truth {
    /// The text of the API convention.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// One condition as the plan decides it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What is judged.
    pub condition: ConditionType,
    /// Whether it holds.
    pub truth: Truth,
    /// Why, in one word.
    pub reason: Reason,
    /// Names the object, the number and the fix; at most [`MAX_MESSAGE`] bytes are kept.
    pub message: String,
}

impl Verdict {
    /// A verdict from its four parts.
    pub fn new(
        condition: ConditionType,
        truth: impl Into<Truth>,
        reason: Reason,
        message: impl Into<String>,
    ) -> Self {
        Self { condition, truth: truth.into(), reason, message: message.into() }
    }
}

/// Longest message kept, in bytes: the API allows 32 KiB, a reader far less.
pub const MAX_MESSAGE: usize = 2048;

/// Renders the whole list: `lastTransitionTime` is `now` where the truth changed and is kept
/// otherwise, so that equal verdicts give an equal list. Conditions that nobody decided disappear.
pub fn render(
    verdicts: &[Verdict],
    before: &[Condition],
    generation: Option<i64>,
    now: &Time,
) -> Vec<Condition> {
    let mut list: Vec<Condition> = verdicts.iter().map(|v| render_one(v, before, generation, now)).collect();
    list.sort_by(|a, b| a.type_.cmp(&b.type_));
    list.dedup_by(|later, first| later.type_ == first.type_);
    list
}

fn render_one(v: &Verdict, before: &[Condition], generation: Option<i64>, now: &Time) -> Condition {
    let old = before.iter().find(|c| c.type_ == v.condition.as_str() && c.status == v.truth.as_str());
    Condition {
        type_: v.condition.as_str().to_owned(),
        status: v.truth.as_str().to_owned(),
        reason: v.reason.as_str().to_owned(),
        message: clip(&v.message, MAX_MESSAGE).to_owned(),
        observed_generation: generation,
        last_transition_time: old.map_or_else(|| now.clone(), |c| c.last_transition_time.clone()),
    }
}

/// Cuts a text at a character border, at most `max` bytes.
pub fn clip(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Is the condition of that type `True`?
pub fn is_true(conditions: &[Condition], condition: ConditionType) -> bool {
    conditions.iter().any(|c| c.type_ == condition.as_str() && c.status == Truth::True.as_str())
}

/// The condition of that type.
pub fn find(conditions: &[Condition], condition: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| c.type_ == condition.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(second).unwrap())
    }

    fn ready(truth: bool, message: &str) -> Verdict {
        Verdict::new(ConditionType::Ready, truth, Reason::Pending, message)
    }

    #[test]
    fn transition_time_moves_only_with_the_truth() {
        let first = render(&[ready(false, "a")], &[], Some(1), &at(10));
        let same = render(&[ready(false, "b")], &first, Some(2), &at(20));
        assert_eq!(same[0].last_transition_time, at(10));
        assert_eq!((same[0].message.as_str(), same[0].observed_generation), ("b", Some(2)));
        let flipped = render(&[ready(true, "b")], &same, Some(2), &at(30));
        assert_eq!(flipped[0].last_transition_time, at(30));
    }

    #[test]
    fn conditions_that_nobody_decided_disappear() {
        let first = render(&[ready(false, "a")], &[], None, &at(1));
        assert!(render(&[], &first, None, &at(2)).is_empty());
    }

    #[test]
    fn messages_are_cut_between_characters() {
        assert_eq!(clip("été", 4), "ét");
        assert_eq!(clip("été", 3), "ét");
        assert_eq!(clip("été", 2), "é");
        assert_eq!(clip("été", 5), "été");
    }
}
