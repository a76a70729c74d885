//! Facts of a Job, its pods, its config, and what its pods reported.

use k8s_openapi::api::batch::v1::JobCondition;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use vitrine_contract::report::{Message, Outcome, Progress};
use vitrine_crds::names;
use vitrine_plan::meta::owned_by;
use vitrine_plan::{ChildRef, JobEnd, JobFacts, PodFacts, refusal};

use super::{Subject, events, pods};
use crate::context::Context;
use crate::error::ObserveError;
use crate::seen::Job;

/// What is known of the work on an object.
#[derive(Debug, Default)]
pub struct Work {
    /// The Job of the attempt.
    pub job: Option<JobFacts>,
    /// Its pods, oldest first.
    pub pods: Vec<PodFacts>,
    /// What they reported at their end.
    pub result: Option<Outcome>,
    /// What they reported on the way.
    pub progress: Option<Progress>,
    /// Its config.
    pub config: Option<ConfigMap>,
    /// Jobs and ConfigMaps of other attempts.
    pub leftovers: Vec<ChildRef>,
}

/// How far an object is, as far as its own status and the registry know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It says nothing of a Job.
    New,
    /// Its status names the Job.
    Begun,
    /// It starts no Job any more.
    Settled,
}

impl Stage {
    /// The stage of an object whose status names `noted`, for the Job `name`.
    pub fn of(settled: bool, noted: Option<&str>, name: Option<&str>) -> Self {
        match settled {
            true => Self::Settled,
            false if noted.is_some() && noted == name => Self::Begun,
            false => Self::New,
        }
    }
}

/// Reads the Job of that name and everything around it.
///
/// The cache may be behind, and that must not start a second Job: where there is a trace of the Job
/// (in status, or its config exists) and the cache lacks it, the server is asked. Without a trace
/// nothing need be asked: the start itself is a create of the config and of the Job, which the server
/// refuses where they exist. A settled object starts none, but its config goes only when its Job is
/// really gone.
pub async fn observe(
    ctx: &Context,
    subject: &Subject,
    name: Option<&str>,
    stage: Stage,
) -> Result<Work, ObserveError> {
    // without a current attempt nothing can be told to be of another one
    let Some(name) = name else { return Ok(Work::default()) };
    let mut work = Work { leftovers: leftovers(ctx, subject, name), ..Work::default() };
    let configs = &ctx.caches.configs;
    let config = configs.get(&subject.namespace, name).filter(|c| owned_by(&c.metadata, &subject.uid));
    work.config = config.map(|c| (*c).clone());
    let job = match ctx.caches.jobs.get(&subject.namespace, name) {
        Some(job) => Some((*job).clone()),
        None if stage == Stage::Begun || work.config.is_some() => {
            ctx.get_live::<Job>("Job", &subject.namespace, name).await?
        }
        None => None,
    };
    let Some(job) = job else { return Ok(work) };
    let uid = job.uid().unwrap_or_default();
    let mut seen = facts(&job, &subject.uid);
    if seen.owned {
        work.pods = pods::of_job(&ctx.caches, &subject.namespace, &subject.uid, &uid);
        if stage != Stage::Settled {
            seen.refused = refused(ctx, subject, &seen, &work.pods).await;
            pods::ask(ctx, &subject.namespace, &mut work.pods).await;
        }
        work.result = best(ctx.registry.result(&uid).await?, last_words(&work.pods));
        work.progress = ctx.registry.progress(&uid).await?;
    }
    work.job = Some(seen);
    Ok(work)
}

/// Why the Job's pods are not created, where it should have one and has none.
async fn refused(ctx: &Context, subject: &Subject, job: &JobFacts, pods: &[PodFacts]) -> Option<String> {
    let question = refusal::of_job(job, pods, &Context::now())?;
    events::ask(ctx, &subject.namespace, &question).await
}

/// The Job of that name as the server knows it.
pub async fn live(ctx: &Context, subject: &Subject, name: &str) -> Result<Option<JobFacts>, ObserveError> {
    let job = ctx.get_live::<Job>("Job", &subject.namespace, name).await?;
    Ok(job.map(|job| facts(&job, &subject.uid)))
}

fn leftovers(ctx: &Context, subject: &Subject, current: &str) -> Vec<ChildRef> {
    let reference = |kind: &'static str, name: String, uid: Option<String>| ChildRef {
        kind,
        name,
        uid: uid.unwrap_or_default(),
    };
    let other = |name: &str| name != current;
    let jobs = ctx.caches.jobs.owned(&subject.namespace, &subject.uid);
    let jobs = jobs.iter().filter(|j| other(&j.name_any()) && j.metadata.deletion_timestamp.is_none());
    let configs = ctx.caches.configs.owned(&subject.namespace, &subject.uid);
    let configs = configs.iter().filter(|c| other(&c.name_any()) && c.metadata.deletion_timestamp.is_none());
    jobs.map(|j| reference("Job", j.name_any(), j.uid()))
        .chain(configs.map(|c| reference("ConfigMap", c.name_any(), c.uid())))
        .collect()
}

/// A success wins wherever it was told; of two failures the later one, which is the pod's own word.
fn best(posted: Option<Outcome>, written: Option<Outcome>) -> Option<Outcome> {
    let success = |o: &Outcome| !matches!(o, Outcome::Failed(_));
    match (posted, written) {
        (Some(posted), _) if success(&posted) => Some(posted),
        (posted, written) => written.or(posted),
    }
}

/// The termination message of the newest pod that left one.
fn last_words(pods: &[PodFacts]) -> Option<Outcome> {
    pods.iter().rev().find_map(|pod| {
        let message = &pod.terminated.as_ref()?.message;
        serde_json::from_str::<Message>(message).ok().map(|m| m.outcome)
    })
}

/// Facts of a Job.
pub fn facts(job: &Job, owner_uid: &str) -> JobFacts {
    let spec = job.spec.as_ref();
    let status = job.status.as_ref();
    JobFacts {
        name: job.name_any(),
        uid: job.uid().unwrap_or_default(),
        owned: owned_by(&job.metadata, owner_uid),
        suspended: spec.and_then(|s| s.suspend).unwrap_or_default(),
        suspended_by_us: job.annotations().contains_key(names::ANNOTATION_SUSPENDED),
        ttl_seconds: spec.and_then(|s| s.ttl_seconds_after_finished),
        created: job.creation_timestamp(),
        start_time: status.and_then(|s| s.start_time.clone()),
        end: status.and_then(|s| s.conditions.as_deref()).and_then(end),
        active: status.and_then(|s| s.active).unwrap_or_default(),
        refused: None,
    }
}

fn end(conditions: &[JobCondition]) -> Option<JobEnd> {
    let holds = |type_: &str| conditions.iter().find(|c| c.type_ == type_ && c.status == "True");
    if let Some(complete) = holds("Complete") {
        return Some(JobEnd::Complete { at: complete.last_transition_time.clone() });
    }
    holds("Failed").map(|failed| JobEnd::Failed {
        reason: failed.reason.clone().unwrap_or_default(),
        message: failed.message.clone().unwrap_or_default(),
        at: failed.last_transition_time.clone(),
    })
}

#[cfg(test)]
#[path = "jobs_tests.rs"]
mod tests;
