//! Jobs: one shape for ingest and training, and what an observed Job means.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{ConfigMap, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use vitrine_contract::job::JobConfig;
use vitrine_contract::report::Outcome;
use vitrine_contract::{VERSION, exit, paths};
use vitrine_crds::common::LastFailure;
use vitrine_crds::condition::Reason;
use vitrine_crds::names;

use crate::attempt::Attempt;
use crate::diff;
use crate::facts::{JobEnd, JobFacts, PodFacts};
use crate::failure::{self, Subject};
use crate::meta::{self, Owner, QUEUE_LABEL};
use crate::plan::{Child, ChildRef, Requeue};
use crate::pod::{self, PodParts};
use crate::policy::Policy;

/// Seconds for which the words of an ended Job's pods are awaited: pods and Jobs are watched apart,
/// and the pod's end may be seen after the Job's.
const GRACE_SECONDS: i64 = 60;

/// When a name that somebody else holds is looked at again: what is not ours is not watched.
pub const COLLISION: Requeue = Requeue::After(Duration::from_secs(30));

/// What differs between an ingest and a training Job.
pub struct JobParts<'a> {
    /// Name of the Job and of its ConfigMap.
    pub name: &'a str,
    /// Component label.
    pub role: &'a str,
    /// Digests that its pods may read, besides what they wrote themselves.
    pub reads: Vec<String>,
    /// Retries of a failed pod.
    pub backoff_limit: i32,
    /// Seconds after which it is given up.
    pub deadline_seconds: i64,
    /// Its pod.
    pub pod: PodParts<'a>,
}

/// A Job. It has no time to live: that is set once its result was taken, so that no Job is collected
/// before it was seen.
pub fn build(owner: &Owner, parts: JobParts<'_>, policy: &Policy) -> Job {
    let mut metadata = owner.child(parts.name, parts.role);
    if let (Some(queue), Some(labels)) = (&owner.queue, metadata.labels.as_mut()) {
        labels.insert(QUEUE_LABEL.to_owned(), queue.clone());
    }
    if !parts.reads.is_empty() {
        let reads = (names::ANNOTATION_READS.to_owned(), parts.reads.join(","));
        metadata.annotations = Some(BTreeMap::from([reads]));
    }
    let mut pod = pod::spec(parts.pod, policy);
    pod.restart_policy = Some("Never".to_owned());
    Job {
        metadata,
        spec: Some(JobSpec {
            completions: Some(1),
            parallelism: Some(1),
            backoff_limit: Some(parts.backoff_limit),
            active_deadline_seconds: Some(parts.deadline_seconds),
            // never two pods that write at once
            pod_replacement_policy: Some("Failed".to_owned()),
            pod_failure_policy: Some(failure_policy()),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(owner.labels(parts.role)),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// Evictions are free; what trying again cannot mend ends the Job at once.
fn failure_policy() -> PodFailurePolicy {
    PodFailurePolicy {
        rules: vec![
            PodFailurePolicyRule {
                action: "Ignore".to_owned(),
                on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
                    type_: "DisruptionTarget".to_owned(),
                    status: Some("True".to_owned()),
                }]),
                ..PodFailurePolicyRule::default()
            },
            PodFailurePolicyRule {
                action: "FailJob".to_owned(),
                on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
                    container_name: Some(names::CONTAINER.to_owned()),
                    operator: "In".to_owned(),
                    values: exit::FINAL.to_vec(),
                }),
                ..PodFailurePolicyRule::default()
            },
        ],
    }
}

/// The ConfigMap with a Job's config file; `extra` is a further key.
pub fn config_map(
    owner: &Owner,
    name: &str,
    role: &str,
    config: &JobConfig,
    extra: Option<(&str, String)>,
) -> ConfigMap {
    let mut data = BTreeMap::from([(paths::CONFIG_KEY.to_owned(), diff::to_json(config).to_string())]);
    data.extend(extra.map(|(key, text)| (key.to_owned(), text)));
    diff::with_hash(ConfigMap { metadata: owner.child(name, role), data: Some(data), ..ConfigMap::default() })
}

/// What an observed Job means.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// There is none.
    Missing,
    /// There was one, and it is gone without a result.
    Vanished,
    /// Somebody else has one of that name.
    Foreign,
    /// It works or waits.
    Active,
    /// It ended, and the words of its pods are awaited until then.
    Ending(Time),
    /// It failed for good.
    Failed(LastFailure),
}

/// Where the current attempt stands, as long as no usable result was seen.
pub fn state(
    job: Option<&JobFacts>,
    (pods, result): (&[PodFacts], Option<&Outcome>),
    attempt: &Attempt,
    status_job: Option<&str>,
    subject: &Subject,
    now: &Time,
) -> State {
    let Some(job) = job else {
        let named = status_job == Some(attempt.job_name.as_str());
        return match result {
            // its last words outlived it
            Some(Outcome::Failed(_)) if named => State::Failed(last_words(attempt, result, subject)),
            _ if named => State::Vanished,
            _ => State::Missing,
        };
    };
    if !job.owned {
        return State::Foreign;
    }
    let Some(end) = &job.end else { return State::Active };
    if let Some(found) = failure::of_job(end, &job.name, pods, result, subject) {
        return State::Failed(found);
    }
    let (JobEnd::Complete { at } | JobEnd::Failed { at, .. }) = end;
    let until = at.as_ref().map(|at| meta::later(at, GRACE_SECONDS)).filter(|until| until > now);
    match (until, end) {
        (Some(until), _) => State::Ending(until),
        (None, JobEnd::Failed { reason, message, .. }) => {
            State::Failed(failure::without_pods(&job.name, reason, message, subject))
        }
        (None, JobEnd::Complete { .. }) => State::Failed(LastFailure {
            reason: Reason::ContainerFailed.as_str().to_owned(),
            message: format!(
                "Job {} completed and reported no result: check that image {} speaks contract version {VERSION}",
                job.name, subject.image
            ),
            ..LastFailure::default()
        }),
    }
}

fn last_words(attempt: &Attempt, result: Option<&Outcome>, subject: &Subject) -> LastFailure {
    let end = JobEnd::Failed { reason: String::new(), message: String::new(), at: None };
    failure::of_job(&end, &attempt.job_name, &[], result, subject).unwrap_or_default()
}

/// The failure of a report that breaks the contract.
pub fn broken_report(job: &str, image: &str, what: &str) -> LastFailure {
    LastFailure {
        reason: Reason::ContainerFailed.as_str().to_owned(),
        message: format!(
            "Job {job} reported {what}: image {image} does not keep contract version {VERSION}; use the trainer of this release"
        ),
        ..LastFailure::default()
    }
}

/// The writes that bring an attempt's Job about: config first.
pub fn create(config: ConfigMap, live: Option<&ConfigMap>, job: Job) -> Vec<Child> {
    let mut children = repair(config, live);
    children.push(Child::CreateJob(Box::new(job)));
    children
}

/// The write of a config that is missing or differs.
pub fn repair(config: ConfigMap, live: Option<&ConfigMap>) -> Vec<Child> {
    if diff::differs(&config, live) { vec![Child::ConfigMap(Box::new(config))] } else { Vec::new() }
}

/// The write that lets a Job go whose result was taken.
pub fn retire(job: Option<&JobFacts>, seconds: i32) -> Vec<Child> {
    job.filter(|job| job.owned && job.ttl_seconds != Some(seconds))
        .map(|job| Child::SetJobTtl { name: job.name.clone(), uid: job.uid.clone(), seconds })
        .into_iter()
        .collect()
}

/// Children of other attempts, and the config of a Job that is gone for good.
pub fn leftovers(
    all: &[ChildRef],
    attempt: &Attempt,
    spent_config: Option<&ConfigMap>,
    owner: &Owner,
) -> Vec<ChildRef> {
    let mut gone: Vec<ChildRef> = all.iter().filter(|c| c.name != attempt.job_name).cloned().collect();
    gone.extend(spent_config.filter(|c| meta::owned_by(&c.metadata, &owner.uid)).map(|c| ChildRef {
        kind: "ConfigMap",
        name: c.metadata.name.clone().unwrap_or_default(),
        uid: c.metadata.uid.clone().unwrap_or_default(),
    }));
    gone
}

/// Is a config of that name somebody else's?
pub fn foreign_config(config: Option<&ConfigMap>, owner: &Owner) -> bool {
    config.is_some_and(|c| !meta::owned_by(&c.metadata, &owner.uid))
}

/// The sentence for a child of that name that belongs to somebody else.
pub fn collision(kind: &str, name: &str, owner: &Owner) -> String {
    format!(
        "{kind} {name} exists in namespace {} and does not belong to {}: delete or rename it",
        owner.namespace,
        owner.who()
    )
}
