//! From a TrainingRun and what was observed to its plan: one Job per attempt, one version in the
//! registry per run, and an end that is never taken back.

pub mod gate;
mod job;
mod status;

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use vitrine_contract::is_digest;
use vitrine_contract::report::{Outcome, Trained};
use vitrine_crds::common::LastFailure;
use vitrine_crds::condition::{ConditionType, Reason};
use vitrine_crds::training_run::{Inputs, Reuse};
use vitrine_crds::{TrainingRun, TrainingRunStatus};

use crate::attempt::{self, Attempt};
use crate::facts::{DatasetFacts, Reference, TrainingRunObserved, VersionFacts};
use crate::failure::Subject;
use crate::job as jobs;
use crate::meta::{self, Owner};
use crate::plan::{Child, Plan, Registration, RegistryOp, Requeue};
use crate::pod;
use crate::policy::Policy;
use crate::refusal;
use crate::status::{events, held_up, transition};

use gate::Judgement;
use job::Valid;
use status::{End, Outlook, Source};

/// How often the progress of a Job is read; it is not watched.
const PROGRESS: Requeue = Requeue::After(Duration::from_secs(3));

/// When the rest follows a status that had to be stored first.
const SOON: Requeue = Requeue::After(Duration::from_secs(1));

/// What a run works with: pinned in status or in the config of its Job, else from the Dataset's
/// newest snapshot. The key under which an identical run is looked up; a config without its Job was
/// never used and is not passed.
pub fn inputs(
    object: &TrainingRun,
    dataset: Option<&DatasetFacts>,
    config: Option<&ConfigMap>,
    policy: &Policy,
) -> Option<Inputs> {
    let pinned = object.status.as_ref().and_then(|s| s.inputs.clone());
    pinned
        .or_else(|| config.and_then(job::inputs_of))
        .or_else(|| dataset.map(|facts| job::newest_inputs(&object.spec, facts, policy)))
}

/// Everything a decision needs.
struct Case<'a> {
    object: &'a TrainingRun,
    owner: Owner,
    seen: &'a TrainingRunObserved,
    policy: &'a Policy,
    valid: Valid<'a>,
    attempt: Attempt,
    now: Time,
}

/// What should be true for a TrainingRun.
pub fn plan(
    object: &TrainingRun,
    seen: &TrainingRunObserved,
    policy: &Policy,
    now: &Time,
) -> Plan<TrainingRunStatus> {
    let now = meta::whole_seconds(now);
    let owner = Owner::of(object);
    let attempt = attempt::of_training_run(object);
    if object.status.as_ref().is_some_and(|s| s.completion_time.is_some()) {
        return over(object, &owner, seen, &attempt);
    }
    let valid = match validate(object, &owner, policy) {
        Ok(valid) => valid,
        Err(message) => return status::invalid(object, Reason::InvalidSpec, &message, &now),
    };
    let case = Case { object, owner, seen, policy, valid, attempt, now };
    match &seen.version {
        Some(version) => case.registered(version, false),
        None => case.work(),
    }
}

/// A run that has ended stays as it is: what is left is to let its Job go.
fn over(
    object: &TrainingRun,
    owner: &Owner,
    seen: &TrainingRunObserved,
    attempt: &Attempt,
) -> Plan<TrainingRunStatus> {
    let spent = seen.config.as_ref().filter(|_| seen.job.is_none());
    Plan {
        registry: vec![],
        apply: jobs::retire(seen.job.as_ref(), object.spec.ttl_seconds_after_finished),
        delete: jobs::leftovers(&seen.leftovers, attempt, spent, owner),
        status: status::settled(object),
        events: vec![],
        requeue: Requeue::AwaitChange,
    }
}

impl Case<'_> {
    fn rest(&self, status: TrainingRunStatus, requeue: Requeue) -> Plan<TrainingRunStatus> {
        let before = self.object.status.clone().unwrap_or_default();
        let turns = transition(ConditionType::Succeeded, "Train", &before.conditions, &status.conditions);
        let failure = (before.last_failure.as_ref(), status.last_failure.as_ref());
        let events = events(turns, "Train", failure);
        Plan { registry: vec![], apply: vec![], delete: vec![], status, events, requeue }
    }

    fn show(&self, outlook: Outlook, requeue: Requeue) -> Plan<TrainingRunStatus> {
        self.rest(status::build(self.object, self.seen, outlook, &self.now), requeue)
    }

    fn subject(&self) -> Subject {
        let pinned = self.object.status.as_ref().and_then(|s| s.inputs.as_ref());
        Subject {
            object: format!("TrainingRun {}", self.owner.name),
            work: "search",
            memory_limit: pod::memory_limit(&self.valid.resources),
            deadline: Some((self.valid.spec.active_deadline_seconds, Some("spec.activeDeadlineSeconds"))),
            image: pinned.map_or(&self.policy.trainer_image, |i| &i.trainer_image).clone(),
            image_from: "the operator's value trainer.image and create another TrainingRun",
            held_up: self
                .object
                .status
                .as_ref()
                .and_then(|s| held_up(&s.conditions, s.last_failure.as_ref())),
            ..Subject::default()
        }
    }

    fn dataset(&self) -> Option<&DatasetFacts> {
        match &self.seen.dataset {
            Some(Reference::Ready(facts)) => Some(facts),
            _ => None,
        }
    }

    /// The attempt, if its Job was made: a run that takes over a version has none.
    fn made(&self) -> Option<Attempt> {
        self.seen.job.as_ref().map(|_| self.attempt.clone())
    }

    fn judge(&self, report: &Trained) -> Judgement {
        gate::judge(&self.valid.spec.gate, report, &self.valid.spec.dataset_ref.name)
    }

    fn inputs(&self) -> Option<Inputs> {
        // a config without its Job was not used yet: the newest snapshot counts
        let config =
            self.seen.config.as_ref().filter(|_| self.seen.job.is_some() || self.seen.result.is_some());
        inputs(self.object, self.dataset(), config, self.policy)
    }

    /// The registry holds the run's version, its own or one that is taken over: alias, then the end.
    fn registered(&self, version: &VersionFacts, reused: bool) -> Plan<TrainingRunStatus> {
        let output = &self.valid.spec.output;
        let moves = version.accepted
            && self.seen.alias_version != Some(version.version)
            && !self.seen.alias_moved_by_this_run;
        let end = End { version, reused, judgement: self.judge(&version.report) };
        // what was learned from counts, not what is newest by now
        let learned = inputs(self.object, self.dataset(), self.seen.config.as_ref(), self.policy)
            .filter(|i| i.dataset_digest == version.dataset_digest)
            // status and config may both be lost: the registry remembers
            .or_else(|| version.inputs.clone());
        if !moves {
            let mut ended = status::ended(self.object, self.seen, &end, learned, &self.now);
            // where no status could be written on the way, the Job is named at the end
            if let (None, Some(made)) = (&ended.job_name, self.made()) {
                ended.job_name = Some(made.job_name);
                ended.attempts = Some(made.number);
            }
            let mut plan = self.rest(ended, SOON);
            plan.apply = jobs::retire(self.seen.job.as_ref(), self.valid.spec.ttl_seconds_after_finished);
            return plan;
        }
        let mut plan = self.show(
            Outlook::recording(
                self.made(),
                learned,
                &format!(
                    "version {} of model {} is registered: alias {} is being moved to it",
                    version.version, version.model, output.alias
                ),
            ),
            Requeue::AwaitChange,
        );
        let why =
            if reused { "reused: an identical run made this version" } else { "trained and passed its gate" };
        plan.registry = vec![RegistryOp::SetAlias {
            namespace_uid: self.seen.namespace_uid.clone(),
            model: output.model.clone(),
            alias: output.alias.clone(),
            version: version.version,
            who: self.owner.who(),
            who_uid: self.owner.uid.clone(),
            why: why.to_owned(),
        }];
        plan.untold(self.object.status.as_ref())
    }

    /// No version is registered yet.
    fn work(&self) -> Plan<TrainingRunStatus> {
        match &self.seen.result {
            Some(Outcome::Trained(report)) => match (defect(report), self.inputs()) {
                (None, Some(inputs)) => return self.register(report, inputs, "its report"),
                (Some(what), _) => return self.breaks(&what),
                // the pinned inputs are gone with the status and the config: train again
                (None, None) => {}
            },
            Some(Outcome::Ingested(_)) => return self.breaks("a snapshot in place of a model"),
            Some(Outcome::Failed(_)) | None => {}
        }
        let status_job = self.object.status.as_ref().and_then(|s| s.job_name.as_deref());
        let told = (self.seen.pods.as_slice(), self.seen.result.as_ref());
        let job = self.seen.job.as_ref();
        match jobs::state(job, told, &self.attempt, status_job, &self.subject(), &self.now) {
            jobs::State::Missing => self.start(&self.attempt),
            jobs::State::Vanished => self.start(&attempt::next(
                &self.owner.name,
                &self.owner.uid,
                attempt::TRAIN_KEY,
                &self.attempt,
            )),
            jobs::State::Foreign => self.collides("Job", &self.attempt.job_name),
            jobs::State::Active => {
                self.works(refusal::look_again(job, &self.seen.pods, &self.now).unwrap_or(PROGRESS))
            }
            jobs::State::Ending(until) => self.works(Requeue::At(until)),
            jobs::State::Failed(failure) => self.fails(failure),
        }
    }

    /// Takes over an identical run, waits, or creates the Job.
    fn start(&self, attempt: &Attempt) -> Plan<TrainingRunStatus> {
        if let Some(plan) = self.reuse() {
            return plan;
        }
        if self.valid.spec.suspend {
            let message = "spec.suspend is true and no Job exists: set it to false to start";
            // without a Job only pinned inputs stay: the newest snapshot counts when the run starts
            let pinned = self.object.status.as_ref().and_then(|s| s.inputs.clone());
            return self.show(Outlook::suspended(pinned, message), Requeue::AwaitChange);
        }
        let Some(inputs) = self.inputs() else {
            let (reason, message) = self.no_dataset();
            return self.show(Outlook::waiting(reason, &message), Requeue::AwaitChange);
        };
        let name = attempt.job_name.as_str();
        let config = job::config(&self.owner, &self.valid, name, &inputs, self.policy);
        let live = self.seen.config.as_ref().filter(|c| c.metadata.name.as_deref() == Some(name));
        if jobs::foreign_config(live, &self.owner) {
            return self.collides("ConfigMap", name);
        }
        let built = job::build(&self.owner, &self.valid, name, &inputs, self.policy);
        let mut plan = self.show(Outlook::queued(attempt, inputs), PROGRESS);
        plan.apply = jobs::create(config, live, built);
        plan.delete = jobs::leftovers(&self.seen.leftovers, attempt, None, &self.owner);
        plan
    }

    /// The plan that takes over a version of an identical run, if there is one: the same verdict is
    /// taken over as it is, another verdict is registered anew from the stored report.
    fn reuse(&self) -> Option<Plan<TrainingRunStatus>> {
        if self.valid.spec.reuse == Reuse::Never {
            return None;
        }
        let inputs = self.inputs()?;
        let mut identical = self.seen.reusable.iter().filter(|v| v.dataset_digest == inputs.dataset_digest);
        let newest = identical.clone().next()?;
        let pinned = self.object.status.as_ref().is_some_and(|s| s.inputs.is_some());
        if !pinned {
            // the inputs are stored before anything is taken over: a new snapshot that comes in
            // between must not make a second model of this run
            let message = format!("TrainingRun {} had the same inputs: it is taken over", newest.run_name);
            return Some(self.show(Outlook::recording(self.made(), Some(inputs), &message), SOON));
        }
        if let Some(version) = identical.find(|v| self.judge(&v.report).passed == v.accepted) {
            return Some(self.registered(version, true));
        }
        let source = format!("the report of TrainingRun {}", newest.run_name);
        Some(self.register(&newest.report, inputs, &source))
    }

    fn no_dataset(&self) -> (Reason, String) {
        let name = &self.valid.spec.dataset_ref.name;
        match &self.seen.dataset {
            Some(Reference::NotReady(why)) => (Reason::DatasetNotReady, why.clone()),
            _ => (
                Reason::DatasetNotFound,
                format!(
                    "Dataset {name} does not exist in namespace {}: create it, or create another TrainingRun with the right datasetRef",
                    self.owner.namespace
                ),
            ),
        }
    }

    /// The Job works, waits, or has just ended.
    fn works(&self, requeue: Requeue) -> Plan<TrainingRunStatus> {
        let outlook = status::of_active(
            self.seen,
            &self.attempt,
            self.inputs(),
            &self.subject(),
            self.valid.spec.suspend,
        );
        let mut plan = self.show(outlook, requeue);
        let job = self.seen.job.as_ref().filter(|job| job.end.is_none());
        plan.apply = self.hold(job.is_some());
        if let (Some(_), Some(inputs)) = (job, self.inputs())
            && !jobs::foreign_config(self.seen.config.as_ref(), &self.owner)
        {
            // a retry of the pod needs the config that somebody may have deleted
            let config = job::config(&self.owner, &self.valid, &self.attempt.job_name, &inputs, self.policy);
            plan.apply.extend(jobs::repair(config, self.seen.config.as_ref()));
        }
        plan.delete = jobs::leftovers(&self.seen.leftovers, &self.attempt, None, &self.owner);
        plan
    }

    /// Suspends or resumes the Job as the spec says; what somebody else suspended stays so.
    fn hold(&self, works: bool) -> Vec<Child> {
        let Some(job) = self.seen.job.as_ref().filter(|_| works) else { return vec![] };
        let wanted = self.valid.spec.suspend;
        let needed = if wanted { !job.suspended } else { job.suspended && job.suspended_by_us };
        needed
            .then(|| Child::SuspendJob { name: job.name.clone(), uid: job.uid.clone(), suspend: wanted })
            .into_iter()
            .collect()
    }

    fn register(&self, report: &Trained, inputs: Inputs, source: &str) -> Plan<TrainingRunStatus> {
        let judgement = self.judge(report);
        let message = format!("the model is being registered from {source}");
        let mut plan =
            self.show(Outlook::recording(self.made(), Some(inputs.clone()), &message), Requeue::AwaitChange);
        plan.registry = vec![RegistryOp::RegisterVersion(Box::new(Registration {
            namespace_uid: self.seen.namespace_uid.clone(),
            run_uid: self.owner.uid.clone(),
            run: self.owner.name.clone(),
            model: self.valid.spec.output.model.clone(),
            accepted: judgement.passed,
            dataset_digest: inputs.dataset_digest,
            test_digest: inputs.test_digest,
            spec_hash: inputs.spec_hash,
            trainer_image: inputs.trainer_image,
            report: report.clone(),
        }))];
        plan.untold(self.object.status.as_ref())
    }

    fn breaks(&self, what: &str) -> Plan<TrainingRunStatus> {
        let image = self.subject().image;
        self.fails(jobs::broken_report(&self.attempt.job_name, &image, what))
    }

    fn fails(&self, failure: LastFailure) -> Plan<TrainingRunStatus> {
        // the Job may go only when this status is stored: nothing else remembers the failure
        self.rest(
            status::failed(self.object, self.seen, &self.attempt, self.inputs(), failure, &self.now),
            SOON,
        )
    }

    fn collides(&self, kind: &str, name: &str) -> Plan<TrainingRunStatus> {
        let message = jobs::collision(kind, name, &self.owner);
        let plan = status::invalid(self.object, Reason::NameCollision, &message, &self.now);
        Plan { requeue: jobs::COLLISION, ..plan }
    }
}

/// The schema's rules, checked again for objects that were stored before them.
fn validate<'a>(object: &'a TrainingRun, owner: &Owner, policy: &Policy) -> Result<Valid<'a>, String> {
    if let Some(message) = owner.invalid_name() {
        return Err(message);
    }
    let spec = &object.spec;
    if let Some(rule) = spec.gate.iter().find(|rule| !(0.0..=1.0).contains(&rule.min)) {
        return Err(format!(
            "gate: min of {} must be between 0 and 1; it is {}",
            rule.metric.as_str(),
            rule.min
        ));
    }
    if spec.output.model.is_empty() || spec.output.alias.is_empty() {
        return Err("output.model and output.alias must not be empty".to_owned());
    }
    let resources = pod::resources(&spec.resources, &policy.train_resources)?;
    Ok(Valid { spec, resources, search: job::search(spec)? })
}

/// What is wrong with a report, if anything.
fn defect(report: &Trained) -> Option<String> {
    [("model", &report.model), ("report", &report.report)]
        .into_iter()
        .find(|(_, blob)| !is_digest(&blob.digest))
        .map(|(what, blob)| format!("the digest {:?} of its {what}", blob.digest))
}

/// What is known of the Dataset, for status.
fn source(seen: &TrainingRunObserved, inputs: Option<&Inputs>, name: &str) -> Source {
    match (inputs, &seen.dataset) {
        (Some(inputs), _) => Source::Pinned(inputs.clone()),
        (None, Some(Reference::NotReady(why))) => Source::NotReady(why.clone()),
        (None, Some(Reference::Ready(facts))) => Source::Usable(facts.revision),
        (None, Some(Reference::Missing) | None) => Source::Missing(name.to_owned()),
    }
}
