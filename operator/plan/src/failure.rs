//! From pods and Jobs to the cause of a failure: one reason of the closed list and a sentence that
//! names the object, the number and the fix.

use vitrine_contract::exit;
use vitrine_contract::report::{Message, Outcome};
use vitrine_crds::common::LastFailure;
use vitrine_crds::condition::{MAX_MESSAGE, Reason, clip};
use vitrine_crds::names;

use crate::facts::{JobEnd, PodFacts, Terminated};
use crate::refusal;

/// What the sentences need to know of the object and its pods.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// Kind and name, such as `TrainingRun demo`.
    pub object: String,
    /// What its pods do, such as `training`.
    pub work: &'static str,
    /// Memory limit of the container, as written.
    pub memory_limit: Option<String>,
    /// Seconds after which the Job is given up, and the field that says so, if there is one.
    pub deadline: Option<(i64, Option<&'static str>)>,
    /// Image of the container.
    pub image: String,
    /// Where to correct the image.
    pub image_from: &'static str,
    /// Claim that its pods mount.
    pub claim: Option<String>,
    /// What held the work up when it was last looked at: a pod that never started may be gone when its
    /// time is over.
    pub held_up: Option<LastFailure>,
}

/// Reasons that a pod may name in its report; any other word is [`Reason::ContainerFailed`].
const REPORTED: &[Reason] = &[
    Reason::SourceNotFound,
    Reason::SourceDenied,
    Reason::SourceUnavailable,
    Reason::DataCorrupt,
    Reason::InvalidSpec,
    Reason::InvalidHyperparameter,
    Reason::NonFinite,
    Reason::StorageDenied,
    Reason::StorageFull,
    Reason::GatewayUnavailable,
    Reason::DigestMismatch,
    Reason::ProbeMismatch,
    Reason::IncompatibleModel,
    Reason::RegistryUnavailable,
];

/// Reasons of a pod that has not started.
const NEVER_STARTED: &[Reason] = &[
    Reason::QuotaExceeded,
    Reason::PodSecurityViolation,
    Reason::PodRejected,
    Reason::Unschedulable,
    Reason::MountFailed,
    Reason::ImagePullBackOff,
    Reason::CreateContainerConfigError,
    Reason::SourceNotFound,
];

/// The reason that a pod reported, if it is one of the list.
pub fn reported(word: &str) -> Reason {
    REPORTED.iter().copied().find(|r| r.as_str() == word).unwrap_or(Reason::ContainerFailed)
}

/// The reason that status holds in words, if it is one of the list.
pub fn reason_of(failure: &LastFailure) -> Reason {
    Reason::ALL.iter().copied().find(|r| r.as_str() == failure.reason).unwrap_or(Reason::ContainerFailed)
}

/// Why a pod ended, if it ended badly.
pub fn ended(pod: &PodFacts, subject: &Subject) -> Option<LastFailure> {
    if let Some((reason, message)) = &pod.disrupted
        && pod.phase != "Succeeded"
    {
        let text = format!(
            "pod {} was evicted ({reason}): {message}; a new pod takes over, evictions are not counted as retries",
            pod.name
        );
        return Some(failure(pod, Reason::Evicted, pod.terminated.as_ref().map(|t| t.exit_code), &text));
    }
    let end = pod.terminated.as_ref().filter(|t| t.exit_code != exit::OK)?;
    let (reason, text) = explain(pod, end, subject);
    Some(failure(pod, reason, Some(end.exit_code), &text))
}

fn explain(pod: &PodFacts, end: &Terminated, subject: &Subject) -> (Reason, String) {
    let (name, code) = (&pod.name, end.exit_code);
    // with too little memory not even the container's first process can start
    if end.reason == "OOMKilled" || end.message.contains("OOM-killed") {
        let limit = match &subject.memory_limit {
            Some(limit) => format!("its memory limit of {limit}"),
            None => "the memory of its node".to_owned(),
        };
        let text =
            format!("pod {name} exceeded {limit} (exit code {code}): raise spec.resources.limits.memory");
        return (Reason::OOMKilled, text);
    }
    if let Ok(Message { outcome: Outcome::Failed(reported_failure), .. }) = serde_json::from_str(&end.message)
    {
        let text = format!("pod {name} failed (exit code {code}): {}", reported_failure.message);
        return (reported(&reported_failure.reason), text);
    }
    let last = match end.message.trim() {
        "" => format!("see `kubectl logs {name}`"),
        words => words.to_owned(),
    };
    let text = format!(
        "pod {name} failed in container {} ({}, exit code {code}): {last}",
        names::CONTAINER,
        end.reason
    );
    (by_exit_code(code), text)
}

/// The reason of an exit code whose message was lost.
fn by_exit_code(code: i32) -> Reason {
    match code {
        exit::DATA => Reason::DataCorrupt,
        exit::STORAGE_FULL => Reason::StorageFull,
        exit::UNAVAILABLE => Reason::GatewayUnavailable,
        exit::DENIED => Reason::StorageDenied,
        exit::CONFIG => Reason::InvalidHyperparameter,
        exit::DIGEST_MISMATCH => Reason::DigestMismatch,
        exit::PROBE_MISMATCH => Reason::ProbeMismatch,
        _ => Reason::ContainerFailed,
    }
}

/// Why a pod cannot start; it may still recover.
pub fn waiting(pod: &PodFacts, subject: &Subject) -> Option<LastFailure> {
    let name = &pod.name;
    if let Some(message) = &pod.unschedulable {
        let (reason, text) = unplaced(name, message, subject);
        return Some(failure(pod, reason, None, &text));
    }
    if let (None, Some(note)) = (&pod.waiting, &pod.unmounted) {
        return Some(refusal::not_mounted(name, note));
    }
    let (word, message) = pod.waiting.as_ref()?;
    let (image, place) = (&subject.image, subject.image_from);
    let (reason, text) = match word.as_str() {
        "ImagePullBackOff"
        | "ErrImagePull"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "RegistryUnavailable" => (
            Reason::ImagePullBackOff,
            format!(
                "pod {name} cannot pull image {image} ({word}): {message}; it is tried again by itself: mend the registry or the pull Secret, or correct {place}"
            ),
        ),
        "CreateContainerConfigError" | "CreateContainerError" => (
            Reason::CreateContainerConfigError,
            format!(
                "pod {name} cannot be configured ({word}): {message}; create what is missing, and the pod starts"
            ),
        ),
        // the end before the restart says more than the waiting does
        "CrashLoopBackOff" => return ended(pod, subject),
        _ => return None,
    };
    Some(failure(pod, reason, None, &text))
}

/// Why no node takes a pod.
fn unplaced(name: &str, message: &str, subject: &Subject) -> (Reason, String) {
    if let Some(claim) = &subject.claim {
        if message.contains(&format!("persistentvolumeclaim \"{claim}\" not found")) {
            let text = format!(
                "pod {name} waits for PersistentVolumeClaim {claim}, which does not exist: create it, or correct spec.source.pvc.claimName"
            );
            return (Reason::SourceNotFound, text);
        }
        if message.contains("unbound immediate PersistentVolumeClaims") {
            let text = format!(
                "pod {name} waits for PersistentVolumeClaim {claim}, which has no volume: `kubectl describe pvc {claim}` says why"
            );
            return (Reason::SourceNotFound, text);
        }
    }
    let message = message.trim_end_matches('.');
    let text = format!(
        "no node can take pod {name}: {message}; lower spec.resources.requests, change spec.nodeSelector or spec.tolerations, or add a node"
    );
    (Reason::Unschedulable, text)
}

/// The newest cause among pods that are oldest first: an end that is over, or a start that hangs.
pub fn newest(pods: &[PodFacts], subject: &Subject) -> Option<LastFailure> {
    // an evicted pod passes its probe until it ends, and may be gone a moment later
    let troubled = |pod: &&PodFacts| !pod.ready || pod.disrupted.is_some();
    pods.iter().rev().filter(troubled).find_map(|p| waiting(p, subject).or_else(|| ended(p, subject)))
}

/// The newest pod that ended badly.
pub fn newest_end(pods: &[PodFacts], subject: &Subject) -> Option<LastFailure> {
    pods.iter().rev().find_map(|pod| ended(pod, subject))
}

/// Why a Job failed for good. `None`: the Job's pods are not seen yet, and their end may say more.
pub fn of_job(
    end: &JobEnd,
    job: &str,
    pods: &[PodFacts],
    result: Option<&Outcome>,
    subject: &Subject,
) -> Option<LastFailure> {
    let JobEnd::Failed { reason, .. } = end else { return None };
    if reason == Reason::DeadlineExceeded.as_str() {
        return Some(out_of_time(job, pods, subject));
    }
    if let Some(found) = newest_end(pods, subject) {
        return Some(found);
    }
    let Some(Outcome::Failed(posted)) = result else { return None };
    Some(LastFailure {
        container: names::CONTAINER.to_owned(),
        reason: reported(&posted.reason).as_str().to_owned(),
        message: clip(&format!("Job {job} failed: {}", posted.message), MAX_MESSAGE).to_owned(),
        ..LastFailure::default()
    })
}

/// A Job that did not end in time. A pod that never started is the reason why; the Job's controller
/// deletes it before the Job ends, so that often only status remembers it.
fn out_of_time(job: &str, pods: &[PodFacts], subject: &Subject) -> LastFailure {
    let smaller = format!("make the {} smaller", subject.work);
    let text = match subject.deadline {
        Some((seconds, Some(field))) => {
            format!("Job {job} did not end within {seconds} seconds: raise {field} or {smaller}")
        }
        Some((seconds, None)) => format!("Job {job} did not end within {seconds} seconds: {smaller}"),
        None => format!("Job {job} did not end in time"),
    };
    let cause = pods.iter().rev().find_map(|pod| waiting(pod, subject)).or_else(|| remembered(subject));
    let both = cause.as_ref().map(|cause| format!("{text}; {}", cause.message));
    LastFailure {
        pod: cause.map(|cause| cause.pod).unwrap_or_default(),
        reason: Reason::DeadlineExceeded.as_str().to_owned(),
        message: clip(&both.unwrap_or(text), MAX_MESSAGE).to_owned(),
        ..LastFailure::default()
    }
}

/// What kept the newest pod from starting, as status remembers it. It counts until another pod is seen: at
/// its deadline a Job's controller removes the pod some time before the Job says that it has failed.
pub fn remembered(subject: &Subject) -> Option<LastFailure> {
    subject.held_up.clone().filter(|cause| NEVER_STARTED.contains(&reason_of(cause)))
}

/// The cause of a failed Job of whose pods nothing is left.
pub fn without_pods(job: &str, reason: &str, message: &str, subject: &Subject) -> LastFailure {
    let text = format!("Job {job} of {} failed ({reason}) and its pods are gone: {message}", subject.object);
    LastFailure {
        reason: Reason::BackoffLimitExceeded.as_str().to_owned(),
        message: clip(&text, MAX_MESSAGE).to_owned(),
        ..LastFailure::default()
    }
}

fn failure(pod: &PodFacts, reason: Reason, exit_code: Option<i32>, text: &str) -> LastFailure {
    LastFailure {
        pod: pod.name.clone(),
        container: names::CONTAINER.to_owned(),
        reason: reason.as_str().to_owned(),
        exit_code,
        message: clip(text, MAX_MESSAGE).to_owned(),
    }
}
