//! From a Dataset and what was observed to its plan: one ingest Job per attempt, one revision in the
//! registry per result.

mod job;
mod source;
mod status;

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use vitrine_contract::is_digest;
use vitrine_contract::report::{Ingested, Outcome};
use vitrine_contract::template::Template;
use vitrine_crds::condition::ConditionType;
use vitrine_crds::condition::{Reason, find, is_true};
use vitrine_crds::{Dataset, DatasetStatus, dataset};

use crate::attempt::{self, Attempt};
use crate::facts::{DatasetFacts, DatasetObserved, Reference};
use crate::failure::Subject;
use crate::job as jobs;
use crate::meta::{self, Owner};
use crate::plan::{Plan, RegistryOp, Requeue};
use crate::pod;
use crate::policy::Policy;
use crate::refusal;
use crate::status::{Phase, events, held_up, transition};

use job::Valid;
use status::{Outlook, Source};

/// How often the progress of a Job is read; it is not watched.
const PROGRESS: Requeue = Requeue::After(Duration::from_secs(3));
/// How often a ConfigMap of the user is looked for; it is not watched.
const LOOK_AGAIN: Requeue = Requeue::After(Duration::from_secs(10));

/// When the rest follows a write that had to come first.
const SOON: Requeue = Requeue::After(Duration::from_secs(1));

/// How a Dataset is seen by those that refer to it: usable once its newest generation has a snapshot.
pub fn facts(object: &Dataset) -> Reference<DatasetFacts> {
    let name = object.name_any();
    let not_ready = |why: &str| Reference::NotReady(format!("Dataset {name} is not ready: {why}"));
    // one sentence for all of its progress: who waits would else be written at each step of it
    let at_work = || not_ready("the snapshot of its newest spec is not made yet");
    let Some(status) = &object.status else { return at_work() };
    if status.observed_generation != object.metadata.generation {
        return at_work();
    }
    let words = |of| find(&status.conditions, of).map_or("", |c| c.message.as_str());
    if is_true(&status.conditions, ConditionType::Stalled) {
        return not_ready(words(ConditionType::Stalled));
    }
    if !is_true(&status.conditions, ConditionType::Ready)
        || is_true(&status.conditions, ConditionType::Reconciling)
    {
        return at_work();
    }
    let (Some(revision), Some(digest), Some(snapshot_digest)) =
        (status.revision, status.digest.clone(), status.snapshot_digest.clone())
    else {
        return not_ready("its status names no snapshot");
    };
    Reference::Ready(DatasetFacts {
        revision,
        digest,
        snapshot_digest,
        test_digest: status.splits.get("test").map(|s| s.digest.clone()).unwrap_or_default(),
        classes: status.classes.unwrap_or_default(),
    })
}

/// Everything a decision needs.
struct Case<'a> {
    object: &'a Dataset,
    owner: Owner,
    seen: &'a DatasetObserved,
    policy: &'a Policy,
    valid: Valid<'a>,
    now: Time,
}

/// What should be true for a Dataset.
pub fn plan(object: &Dataset, seen: &DatasetObserved, policy: &Policy, now: &Time) -> Plan<DatasetStatus> {
    let now = meta::whole_seconds(now);
    let owner = Owner::of(object);
    let valid = match validate(object, &owner, policy) {
        Ok(valid) => valid,
        Err(message) => return status::invalid(object, Reason::InvalidSpec, &message, &now),
    };
    let case = Case { object, owner, seen, policy, valid, now };
    let Some(key) = attempt::key_of_dataset(object, seen.test_dataset.as_ref()) else {
        return case.waits(Reason::TestDatasetNotReady, &case.test_not_ready(), Requeue::AwaitChange);
    };
    let attempt = case.attempt(&key);
    if seen.revision.as_ref().is_some_and(|r| r.attempt_key == key) {
        return case.ready(&attempt);
    }
    case.ingest(&key, attempt)
}

impl Case<'_> {
    fn status(&self) -> Option<&DatasetStatus> {
        self.object.status.as_ref()
    }

    fn attempt(&self, key: &str) -> Attempt {
        let status = self.status();
        attempt::current(
            &self.owner.name,
            &self.owner.uid,
            key,
            status.and_then(|s| s.job_name.as_deref()),
            status.and_then(|s| s.attempts),
        )
    }

    fn fixed_test(&self) -> Option<&str> {
        match &self.seen.test_dataset {
            Some(Reference::Ready(facts)) if self.valid.spec.split.test.is_some() => {
                Some(&facts.snapshot_digest)
            }
            _ => None,
        }
    }

    fn test_not_ready(&self) -> String {
        let name =
            self.valid.spec.split.test.as_ref().map(|t| t.dataset_ref.name.as_str()).unwrap_or_default();
        match &self.seen.test_dataset {
            Some(Reference::NotReady(why)) => format!("split.test: {why}"),
            _ => format!(
                "split.test names Dataset {name}, which does not exist in namespace {}: create it or change split.test.datasetRef",
                self.owner.namespace
            ),
        }
    }

    fn subject(&self) -> Subject {
        Subject {
            object: format!("Dataset {}", self.owner.name),
            work: "source",
            memory_limit: pod::memory_limit(&self.valid.resources),
            deadline: Some((job::DEADLINE_SECONDS, None)),
            image: self.policy.trainer_image.clone(),
            image_from: "the operator's value trainer.image and delete the Job",
            claim: self.valid.spec.source.pvc.as_ref().map(|pvc| pvc.claim_name.clone()),
            held_up: self.status().and_then(|s| held_up(&s.conditions, s.last_failure.as_ref())),
        }
    }

    /// The plan of a status and nothing else.
    fn rest(&self, status: DatasetStatus, requeue: Requeue) -> Plan<DatasetStatus> {
        let before = self.status().cloned().unwrap_or_default();
        let turns = transition(ConditionType::Ready, "Ingest", &before.conditions, &status.conditions);
        let failure = (before.last_failure.as_ref(), status.last_failure.as_ref());
        let events = events(turns, "Ingest", failure);
        Plan { registry: vec![], apply: vec![], delete: vec![], status, events, requeue }
    }

    /// Something outside of this object is awaited.
    fn waits(&self, reason: Reason, message: &str, requeue: Requeue) -> Plan<DatasetStatus> {
        let outlook = Outlook::new(Phase::Working(reason, message.to_owned()));
        self.rest(status::build(self.object, self.seen, outlook, &self.now), requeue)
    }

    /// The snapshot of the current attempt is recorded.
    fn ready(&self, attempt: &Attempt) -> Plan<DatasetStatus> {
        let outlook =
            Outlook { attempt: Some(attempt.clone()), source: Source::Read, ..Outlook::new(Phase::Settled) };
        let mut plan =
            self.rest(status::build(self.object, self.seen, outlook, &self.now), Requeue::AwaitChange);
        plan.apply = jobs::retire(self.seen.job.as_ref(), job::TTL_SECONDS);
        let spent = self.seen.config.as_ref().filter(|_| self.seen.job.is_none());
        plan.delete = jobs::leftovers(&self.seen.leftovers, attempt, spent, &self.owner);
        plan
    }

    /// The current attempt has no recorded snapshot yet.
    fn ingest(&self, key: &str, attempt: Attempt) -> Plan<DatasetStatus> {
        match &self.seen.result {
            Some(Outcome::Ingested(report)) => match defect(report) {
                None => return self.record(key, &attempt, report),
                Some(what) => {
                    let failure = jobs::broken_report(&attempt.job_name, &self.policy.trainer_image, &what);
                    return self.fails(&attempt, failure);
                }
            },
            Some(Outcome::Trained(_)) => {
                let image = &self.policy.trainer_image;
                let failure = jobs::broken_report(&attempt.job_name, image, "a model in place of a snapshot");
                return self.fails(&attempt, failure);
            }
            Some(Outcome::Failed(_)) | None => {}
        }
        let status_job = self.status().and_then(|s| s.job_name.as_deref());
        let told = (self.seen.pods.as_slice(), self.seen.result.as_ref());
        let job = self.seen.job.as_ref();
        match jobs::state(job, told, &attempt, status_job, &self.subject(), &self.now) {
            jobs::State::Missing => self.start(attempt),
            jobs::State::Vanished => {
                self.start(attempt::next(&self.owner.name, &self.owner.uid, key, &attempt))
            }
            jobs::State::Foreign => self.collides("Job", &attempt.job_name),
            jobs::State::Active => {
                let again = refusal::look_again(job, &self.seen.pods, &self.now);
                self.works(&attempt, again.unwrap_or(PROGRESS))
            }
            jobs::State::Ending(until) => self.works(&attempt, Requeue::At(until)),
            jobs::State::Failed(failure) => self.fails(&attempt, failure),
        }
    }

    /// Creates the Job, once its inputs exist.
    fn start(&self, attempt: Attempt) -> Plan<DatasetStatus> {
        if self.seen.label_names == Some(false) {
            let labels = self.valid.spec.schema.label_names.as_ref();
            let name = labels.map(|l| l.config_map_ref.name.as_str()).unwrap_or_default();
            let message = format!(
                "schema.labelNames names ConfigMap {name}, which does not exist in namespace {}: create it or remove schema.labelNames",
                self.owner.namespace
            );
            return self.waits(Reason::LabelNamesNotFound, &message, LOOK_AGAIN);
        }
        let name = attempt.job_name.as_str();
        let config = job::config(&self.owner, &self.valid, name, self.fixed_test(), self.policy);
        let live = self.seen.config.as_ref().filter(|c| c.metadata.name.as_deref() == Some(name));
        if jobs::foreign_config(live, &self.owner) {
            return self.collides("ConfigMap", name);
        }
        let delete = jobs::leftovers(&self.seen.leftovers, &attempt, None, &self.owner);
        if let Some(old) = delete.iter().find(|child| child.kind == "Job") {
            // one Job at a time: the next pass, which its deletion brings, creates the new one
            let message = format!("Job {} of an earlier attempt is being removed", old.name);
            let outlook = Outlook::new(Phase::Working(Reason::Queued, message));
            let status = status::build(self.object, self.seen, outlook, &self.now);
            return Plan { delete, ..self.rest(status, SOON) };
        }
        let built = job::build(&self.owner, &self.valid, name, self.fixed_test(), self.policy);
        let apply = jobs::create(config, live, built);
        let message = status::queued(&attempt);
        let outlook =
            Outlook { attempt: Some(attempt), ..Outlook::new(Phase::Working(Reason::Queued, message)) };
        let mut plan = self.rest(status::build(self.object, self.seen, outlook, &self.now), PROGRESS);
        plan.apply = apply;
        plan.delete = delete;
        plan
    }

    /// The Job works, waits, or has just ended.
    fn works(&self, attempt: &Attempt, requeue: Requeue) -> Plan<DatasetStatus> {
        let outlook = status::of_active(self.seen, attempt, &self.subject());
        let mut plan = self.rest(status::build(self.object, self.seen, outlook, &self.now), requeue);
        if self.seen.job.as_ref().is_some_and(|j| j.end.is_none())
            && !jobs::foreign_config(self.seen.config.as_ref(), &self.owner)
        {
            // a retry of the pod needs the config that somebody may have deleted
            let name = attempt.job_name.as_str();
            let config = job::config(&self.owner, &self.valid, name, self.fixed_test(), self.policy);
            plan.apply = jobs::repair(config, self.seen.config.as_ref());
        }
        plan.delete = jobs::leftovers(&self.seen.leftovers, attempt, None, &self.owner);
        plan
    }

    fn record(&self, key: &str, attempt: &Attempt, report: &Ingested) -> Plan<DatasetStatus> {
        let mut plan = self.works(attempt, Requeue::AwaitChange);
        plan.apply.clear();
        plan.registry = vec![RegistryOp::RecordRevision {
            namespace_uid: self.seen.namespace_uid.clone(),
            dataset_uid: self.owner.uid.clone(),
            dataset: self.owner.name.clone(),
            attempt_key: key.to_owned(),
            report: report.clone(),
        }];
        plan.untold(self.status())
    }

    fn collides(&self, kind: &str, name: &str) -> Plan<DatasetStatus> {
        let message = jobs::collision(kind, name, &self.owner);
        let plan = status::invalid(self.object, Reason::NameCollision, &message, &self.now);
        Plan { requeue: jobs::COLLISION, ..plan }
    }

    fn fails(&self, attempt: &Attempt, failure: vitrine_crds::common::LastFailure) -> Plan<DatasetStatus> {
        let outlook = status::of_failure(attempt, failure);
        let mut plan =
            self.rest(status::build(self.object, self.seen, outlook, &self.now), Requeue::AwaitChange);
        plan.delete = jobs::leftovers(&self.seen.leftovers, attempt, None, &self.owner);
        plan
    }
}

/// The schema's rules, checked again for objects that were stored before them, and what the schema
/// cannot say.
fn validate<'a>(object: &'a Dataset, owner: &Owner, policy: &Policy) -> Result<Valid<'a>, String> {
    if let Some(message) = owner.invalid_name() {
        return Err(message);
    }
    let spec = &object.spec;
    if spec.schema.text.is_empty() {
        return Err("schema.text is empty: name at least one text column".to_owned());
    }
    let shares = spec.split.fractions;
    let list = [shares.train, shares.validation, shares.test];
    let sum: f64 = list.iter().sum();
    if !list.iter().all(|share| (0.0..=1.0).contains(share)) || (sum - 1.0).abs() > 1e-5 {
        return Err(format!(
            "split.fractions must each be between 0 and 1 and add up to 1; they are {}, {} and {}",
            shares.train, shares.validation, shares.test
        ));
    }
    if let Some(sample) = spec.sample
        && !(sample.fraction > 0.0 && sample.fraction <= 1.0)
    {
        return Err(format!("sample.fraction must be above 0 and at most 1; it is {}", sample.fraction));
    }
    let seeds = [Some(spec.split.seed), spec.sample.map(|s| s.seed)];
    if let Some(seed) = seeds.into_iter().flatten().find(|seed| *seed < 0) {
        return Err(format!("seeds must not be negative; one is {seed}"));
    }
    pictures(&spec.source, &spec.schema)?;
    source::check(&spec.source)?;
    if let Some(test) = &spec.split.test {
        if test.dataset_ref.name == owner.name {
            return Err("split.test.datasetRef names this Dataset itself: name another one".to_owned());
        }
        if shares.test > 0.0 {
            return Err("split.fractions.test must be 0 when split.test names a fixed test set".to_owned());
        }
    }
    let resources = pod::resources(&spec.resources, &policy.ingest_resources)?;
    Ok(Valid { spec, resources })
}

/// The rules of `schema.image` and `source.images`.
fn pictures(source: &dataset::Source, schema: &dataset::TableSchema) -> Result<(), String> {
    match &schema.image {
        Some(_) if source.http.is_some() && source.images.is_none() => Err(
            "schema.image with source.http needs source.images.archive: a web server has no list of its files"
                .to_owned(),
        ),
        Some(image) => Template::parse(&image.path_template)
            .map(drop)
            .map_err(|why| format!("schema.image.pathTemplate {:?} {why}", image.path_template)),
        None if source.images.is_some() => {
            Err("source.images needs schema.image: its pathTemplate names a row's picture".to_owned())
        }
        None => Ok(()),
    }
}

/// What is wrong with a report, if anything.
fn defect(report: &Ingested) -> Option<String> {
    [("manifest", &report.manifest), ("snapshot", &report.snapshot), ("profile", &report.profile)]
        .into_iter()
        .find(|(_, blob)| !is_digest(&blob.digest))
        .map(|(what, blob)| format!("the digest {:?} of its {what}", blob.digest))
}
