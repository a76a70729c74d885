//! Pods that are never created, and pods that hang before their container starts. Neither shows in
//! an object that is watched: the cause is only an event on the Job or on the pod. Here it is decided
//! when such events are worth a read, which of them counts, and what it means to a user.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use vitrine_crds::common::LastFailure;
use vitrine_crds::condition::{MAX_MESSAGE, Reason, clip};
use vitrine_crds::names;

use crate::facts::{JobFacts, PodFacts};
use crate::meta;
use crate::plan::Requeue;

/// Seconds that a start may take before anybody asks why: the usual one takes one or two.
pub const PATIENCE: i64 = 5;
/// Longest time between two looks at a start that hangs; what ends it is watched.
const RARELY: i64 = 300;
/// Seconds for which an event speaks of now. Who cannot create a pod tries again, and tells so, every
/// ten minutes at least.
const RECENT: i64 = 900;
/// The Job controller could not create a pod.
const NOT_CREATED: &[&str] = &["FailedCreate"];
/// The kubelet could not bring a volume to a pod.
const NOT_MOUNTED: &[&str] = &["FailedMount", "FailedAttachVolume", "FailedMapVolume"];

/// Which events to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// UID of the Job or pod that they are about.
    pub uid: String,
    /// Reasons of events that answer.
    pub reasons: &'static [&'static str],
    /// Older events speak of something that is over.
    pub since: Time,
}

/// An event of another controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Reason.
    pub reason: String,
    /// Message.
    pub note: String,
    /// When it was told last.
    pub at: Option<Time>,
}

impl Question {
    /// The note of the newest event that answers.
    pub fn answer(&self, told: impl IntoIterator<Item = Told>) -> Option<String> {
        let answers = |event: &Told| {
            self.reasons.contains(&event.reason.as_str()) && event.at.as_ref() >= Some(&self.since)
        };
        told.into_iter().filter(answers).max_by(|a, b| a.at.cmp(&b.at)).map(|event| event.note)
    }
}

/// What to ask about a Job that should have a pod and has none.
pub fn of_job(job: &JobFacts, pods: &[PodFacts], now: &Time) -> Option<Question> {
    let since = absent_since(job, pods).filter(|since| meta::later(since, PATIENCE) <= *now)?;
    // of a pod that came and went nothing may be left: an event of before it says nothing of now
    let since = since.max(meta::later(now, -RECENT));
    Some(Question { uid: job.uid.clone(), reasons: NOT_CREATED, since })
}

/// What to ask about the newest pod whose container should have started, and that pod.
pub fn of_pods<'a>(pods: &'a [PodFacts], now: &Time) -> Option<(&'a str, Question)> {
    let (pod, since) = pods.iter().rev().find_map(|pod| Some((pod, hangs_since(pod)?)))?;
    let late = meta::later(since, PATIENCE) <= *now;
    let question = || Question { uid: pod.uid.clone(), reasons: NOT_MOUNTED, since: since.clone() };
    late.then(|| (pod.name.as_str(), question()))
}

/// Since when a Job that should have a pod has none.
fn absent_since(job: &JobFacts, pods: &[PodFacts]) -> Option<Time> {
    let over = |pod: &PodFacts| pod.phase == "Failed";
    if !job.owned || job.suspended || job.end.is_some() || !pods.iter().all(over) {
        return None;
    }
    let last_end = pods.iter().filter_map(|pod| pod.terminated.as_ref()?.at.clone()).max();
    last_end.or_else(|| job.start_time.clone()).or_else(|| job.created.clone())
}

/// Since when a pod has a node and says neither that it runs nor why not.
fn hangs_since(pod: &PodFacts) -> Option<&Time> {
    let silent = pod.phase == "Pending" && !pod.terminating && pod.waiting.is_none();
    pod.scheduled.as_ref().filter(|_| silent)
}

/// When to look again at a start that hangs: soon, then ever more rarely. `None`: nothing hangs, or
/// it says itself why.
pub fn look_again(job: Option<&JobFacts>, pods: &[PodFacts], now: &Time) -> Option<Requeue> {
    let absent = job.and_then(|job| absent_since(job, pods));
    let since = absent.or_else(|| pods.iter().rev().find_map(hangs_since).cloned())?;
    let elapsed = now.0.as_second().saturating_sub(since.0.as_second()).max(0);
    let seconds = if elapsed < PATIENCE { PATIENCE - elapsed } else { elapsed.min(RARELY) };
    Some(Requeue::After(Duration::from_secs(seconds.unsigned_abs())))
}

/// Why a Job that is at work has no pod, where its events told.
pub fn of_active(job: Option<&JobFacts>) -> Option<LastFailure> {
    let job = job.filter(|job| job.owned && job.end.is_none())?;
    job.refused.as_ref().map(|note| not_created(&format!("Job {}", job.name), note))
}

/// Why `what`, such as `Job demo`, cannot create its pod. It tries again by itself, so that nothing
/// is lost once the cause is gone.
pub fn not_created(what: &str, note: &str) -> LastFailure {
    let cause = cause(note).trim_end_matches('.');
    let (reason, fix) = classify(cause);
    let text = format!("{what} cannot create its pod: {cause}; {fix}, and the pod is created");
    LastFailure {
        reason: reason.as_str().to_owned(),
        message: clip(&text, MAX_MESSAGE).to_owned(),
        ..LastFailure::default()
    }
}

/// Why a pod does not start.
pub fn not_mounted(pod: &str, note: &str) -> LastFailure {
    let text = format!(
        "pod {pod} cannot mount a volume: {note}; create what is missing or mend the volume, and the pod starts"
    );
    LastFailure {
        pod: pod.to_owned(),
        container: names::CONTAINER.to_owned(),
        reason: Reason::MountFailed.as_str().to_owned(),
        message: clip(&text, MAX_MESSAGE).to_owned(),
        ..LastFailure::default()
    }
}

/// A note without what is said anyway: that creating failed, and a pod's name that changes with
/// every try.
fn cause(note: &str) -> &str {
    let text = note.trim_start_matches("(combined from similar events): ");
    let text = text.trim_start_matches("Error creating: ");
    if !text.to_ascii_lowercase().starts_with("pod") {
        return text;
    }
    let after = |word: &str| text.split_once(word).map(|(_, rest)| rest);
    after("\" is forbidden: ").or_else(|| after("\" is invalid: ")).unwrap_or(text)
}

/// The reason of a refusal, and what mends it.
fn classify(cause: &str) -> (Reason, &'static str) {
    let says = |words: &[&str]| words.iter().any(|word| cause.contains(word));
    if says(&["exceeded quota", "insufficient quota", "status unknown for quota"]) {
        let fix = "raise the ResourceQuota, free what it counts, or lower spec.resources";
        return (Reason::QuotaExceeded, fix);
    }
    if says(&["failed quota"]) {
        return (Reason::QuotaExceeded, "name in spec.resources what the ResourceQuota counts");
    }
    if says(&["violates PodSecurity"]) {
        let fix = "our pods pass the level restricted, so take away the webhook that changes them";
        return (Reason::PodSecurityViolation, fix);
    }
    let fix = if says(&["serviceaccount", "service account"]) {
        "create the ServiceAccount or name another one in spec.serviceAccountName"
    } else if says(&["PriorityClass"]) {
        "create the PriorityClass or name another one in spec.priorityClassName"
    } else if says(&["RuntimeClass"]) {
        "create the RuntimeClass or name another one in spec.runtimeClassName"
    } else if says(&["per Container", "per Pod"]) {
        "change spec.resources or the LimitRange"
    } else {
        "change the policy or the webhook that refuses it"
    };
    (Reason::PodRejected, fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{JobEnd, Terminated};

    fn at(second: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(second).unwrap())
    }

    fn job() -> JobFacts {
        JobFacts {
            name: "j".into(),
            uid: "j-uid".into(),
            owned: true,
            created: Some(at(100)),
            ..JobFacts::default()
        }
    }

    fn pod(phase: &str) -> PodFacts {
        PodFacts { name: "p".into(), uid: "p-uid".into(), phase: phase.into(), ..PodFacts::default() }
    }

    fn after(seconds: u64) -> Requeue {
        Requeue::After(Duration::from_secs(seconds))
    }

    #[test]
    fn a_job_without_a_pod_is_asked_about_after_a_while_and_ever_more_rarely() {
        let ask = |second| of_job(&job(), &[], &at(second));
        assert_eq!(ask(104), None);
        assert_eq!(ask(105).map(|q| (q.uid, q.since)), Some(("j-uid".into(), at(100))));
        for (now, wait) in [(100, 5), (104, 1), (105, 5), (130, 30), (100_000, 300)] {
            assert_eq!(look_again(Some(&job()), &[], &at(now)), Some(after(wait)), "at {now}");
        }
    }

    #[test]
    fn nobody_asks_about_a_job_that_has_a_pod_or_needs_none() {
        let late = at(9_000);
        let quiet = [
            (job(), vec![pod("Running")]),
            (job(), vec![pod("Pending")]),
            (job(), vec![pod("Succeeded")]),
            // a pod that still ends: its successor is created only afterwards
            (job(), vec![PodFacts { terminating: true, ..pod("Running") }]),
            (JobFacts { suspended: true, ..job() }, vec![]),
            (JobFacts { owned: false, ..job() }, vec![]),
            (JobFacts { end: Some(JobEnd::Complete { at: None }), ..job() }, vec![]),
        ];
        for (job, pods) in quiet {
            assert_eq!(of_job(&job, &pods, &late), None, "{job:?} {pods:?}");
            assert_eq!(look_again(Some(&job), &pods, &late), None, "{job:?} {pods:?}");
        }
    }

    #[test]
    fn a_refused_retry_is_asked_about_from_the_end_of_the_pod_before() {
        let end = Terminated { at: Some(at(500)), ..Terminated::default() };
        let failed = PodFacts { terminated: Some(end), ..pod("Failed") };
        assert_eq!(of_job(&job(), std::slice::from_ref(&failed), &at(504)), None);
        assert_eq!(of_job(&job(), &[failed], &at(505)).unwrap().since, at(500));
    }

    #[test]
    fn only_a_pod_with_a_node_and_without_a_word_is_asked_about() {
        let silent = PodFacts { scheduled: Some(at(100)), ..pod("Pending") };
        assert_eq!(of_pods(std::slice::from_ref(&silent), &at(104)), None);
        let (name, question) = of_pods(std::slice::from_ref(&silent), &at(105)).unwrap();
        assert_eq!((name, question.uid.as_str(), question.reasons), ("p", "p-uid", NOT_MOUNTED));
        assert_eq!(look_again(None, std::slice::from_ref(&silent), &at(140)), Some(after(40)));
        let speaks = PodFacts { waiting: Some(("ImagePullBackOff".into(), "m".into())), ..silent.clone() };
        let runs = PodFacts { phase: "Running".into(), ..silent.clone() };
        let ends = PodFacts { terminating: true, ..silent };
        for other in [speaks, runs, ends, pod("Pending")] {
            assert_eq!(of_pods(std::slice::from_ref(&other), &at(900)), None, "{other:?}");
            assert_eq!(look_again(None, &[other], &at(900)), None);
        }
    }

    #[test]
    fn the_newest_event_of_the_right_reason_answers_and_an_old_one_does_not() {
        let told = |reason: &str, note: &str, second| Told {
            reason: reason.into(),
            note: note.into(),
            at: Some(at(second)),
        };
        let question = of_job(&job(), &[], &at(200)).unwrap();
        let all = [
            told("FailedCreate", "before", 99),
            told("FailedCreate", "first", 100),
            told("FailedCreate", "second", 130),
            told("BackoffLimitExceeded", "other", 140),
            Told { at: None, ..told("FailedCreate", "undated", 0) },
        ];
        assert_eq!(question.answer(all.clone()), Some("second".into()));
        assert_eq!(question.answer(all[..1].to_vec()), None);
        assert_eq!(question.answer([]), None);
    }

    #[test]
    fn a_name_that_changes_with_every_try_is_left_out() {
        for (note, said) in [
            (r#"Error creating: pods "r-1-x7k2p" is forbidden: exceeded quota: q"#, "exceeded quota: q"),
            (
                r#"(combined from similar events): Error creating: pods "r-1-" is forbidden: no PriorityClass with name x was found"#,
                "no PriorityClass with name x was found",
            ),
            (r#"Error creating: Pod "r-1-x" is invalid: spec.x: Required value"#, "spec.x: Required value"),
            (r#"Error creating: admission webhook "w" denied it"#, r#"admission webhook "w" denied it"#),
            (r#"pods "s-1-x" is forbidden: violates PodSecurity"#, "violates PodSecurity"),
        ] {
            assert_eq!(cause(note), said);
        }
    }
}
