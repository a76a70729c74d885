//! A small cluster of Jobs and configs, what may happen to it, and how a plan is carried out in it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use proptest::prelude::*;
use vitrine_contract::report::{Failure, Outcome};
use vitrine_plan::{Child, ChildRef, JobEnd, JobFacts, Plan, PodFacts, RegistryOp};

use crate::common::{at, ended, pod};

/// What happens around the operator.
#[derive(Clone, Copy, Debug)]
pub enum Happening {
    /// A pass of the operator, killed after that many writes.
    Pass { killed_after: Option<usize> },
    /// The Job's pod runs.
    PodRuns,
    /// The Job's pod exceeds its memory; the Job tries again.
    PodFails,
    /// The Job's pod succeeds: the result is posted.
    PodSucceeds,
    /// The Job completes after its pod succeeded.
    JobCompletes,
    /// The Job uses up its retries.
    JobFails,
    /// Somebody deletes the Job, and its result is lost.
    JobVanishes,
    /// Somebody deletes the Job's config.
    ConfigVanishes,
    /// Somebody moves the alias to a version of their own.
    AliasMoves,
    /// The inputs change: a new revision of the Dataset, or of the fixed test set.
    InputChanges,
    /// The input is away, or back.
    InputToggles,
    /// The user holds the run, or lets it go; a Dataset's spec changes.
    SpecChanges,
}

pub fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        6 => Just(Happening::Pass { killed_after: None }),
        4 => (0_usize..4).prop_map(|n| Happening::Pass { killed_after: Some(n) }),
        2 => Just(Happening::PodRuns),
        2 => Just(Happening::PodFails),
        2 => Just(Happening::PodSucceeds),
        1 => Just(Happening::JobCompletes),
        1 => Just(Happening::JobFails),
        2 => Just(Happening::JobVanishes),
        1 => Just(Happening::ConfigVanishes),
        1 => Just(Happening::AliasMoves),
        1 => Just(Happening::InputChanges),
        1 => Just(Happening::InputToggles),
        1 => Just(Happening::SpecChanges),
    ];
    prop::collection::vec(one, 0..40)
}

#[derive(Clone, Debug)]
pub struct SimJob {
    pub facts: JobFacts,
    pub pods: Vec<PodFacts>,
    pub result: Option<Outcome>,
}

/// Jobs, configs and what happened to them; the same for both kinds.
#[derive(Default)]
pub struct Cluster {
    pub clock: i64,
    pub jobs: BTreeMap<String, SimJob>,
    pub configs: BTreeMap<String, ConfigMap>,
    pub created: usize,
    pub vanished: usize,
    pub uids: usize,
}

impl Cluster {
    fn uid(&mut self) -> String {
        self.uids += 1;
        format!("u{}", self.uids)
    }

    pub fn put(&mut self, child: &Child) {
        match child {
            Child::ConfigMap(config) => {
                let name = config.metadata.name.clone().unwrap();
                let old = self.configs.get(&name).and_then(|c| c.metadata.uid.clone());
                let mut config = (**config).clone();
                config.metadata.uid = Some(old.unwrap_or_else(|| self.uid()));
                self.configs.insert(name, config);
            }
            Child::CreateJob(job) => {
                let name = job.metadata.name.clone().unwrap();
                if self.jobs.contains_key(&name) {
                    return; // AlreadyExists, and ours
                }
                let alive = self.jobs.values().filter(|j| j.facts.end.is_none()).count();
                assert!(alive == 0, "two Jobs at once: {:?}", self.jobs.keys());
                assert!(self.configs.contains_key(&name), "the Job came before its config");
                self.created += 1;
                let uid = self.uid();
                let facts = JobFacts { name: name.clone(), uid, owned: true, ..JobFacts::default() };
                self.jobs.insert(name, SimJob { facts, pods: vec![], result: None });
            }
            Child::SuspendJob { name, uid, suspend } => {
                let job = self.jobs.get_mut(name).filter(|j| j.facts.uid == *uid).unwrap();
                assert_ne!(job.facts.suspended, *suspend, "a write that changes nothing");
                job.facts.suspended = *suspend;
                job.facts.suspended_by_us = *suspend;
            }
            Child::SetJobTtl { name, uid, seconds } => {
                let job = self.jobs.get_mut(name).filter(|j| j.facts.uid == *uid).unwrap();
                assert_ne!(job.facts.ttl_seconds, Some(*seconds), "a write that changes nothing");
                job.facts.ttl_seconds = Some(*seconds);
            }
            Child::Deployment(_)
            | Child::Service(_)
            | Child::Autoscaler(_)
            | Child::ScaleDeployment { .. } => {
                panic!("not of this kind: {child:?}")
            }
        }
    }

    pub fn remove(&mut self, child: &ChildRef) {
        match child.kind {
            "Job" => {
                let found = self.jobs.remove(&child.name).unwrap();
                assert_eq!(found.facts.uid, child.uid);
            }
            "ConfigMap" => {
                let found = self.configs.remove(&child.name).unwrap();
                assert_eq!(found.metadata.uid.as_deref(), Some(child.uid.as_str()));
            }
            other => panic!("{other}"),
        }
    }

    pub fn leftovers(&self, current: Option<&str>) -> Vec<ChildRef> {
        let Some(current) = current else { return vec![] };
        let jobs = self.jobs.values().map(|j| ("Job", j.facts.name.clone(), j.facts.uid.clone()));
        let configs =
            self.configs.iter().map(|(n, c)| ("ConfigMap", n.clone(), c.metadata.uid.clone().unwrap()));
        jobs.chain(configs)
            .filter(|(_, name, _)| name != current)
            .map(|(kind, name, uid)| ChildRef { kind, name, uid })
            .collect()
    }

    /// The Job that runs and may come to something.
    fn live(&mut self) -> Option<&mut SimJob> {
        self.jobs.values_mut().find(|j| j.facts.end.is_none() && !j.facts.suspended)
    }

    pub fn happen(&mut self, what: Happening, success: &Outcome) {
        let clock = self.clock;
        match what {
            Happening::PodRuns => {
                if let Some(job) = self.live() {
                    job.facts.start_time = Some(at(clock));
                    job.pods.push(pod(&format!("pod-{}", job.pods.len()), "Running"));
                }
            }
            Happening::PodFails => {
                if let Some(job) = self.live() {
                    job.pods.pop();
                    job.pods.push(ended(&format!("pod-{}", job.pods.len()), 137, "OOMKilled", ""));
                    let failure = Failure { reason: "ContainerFailed".into(), message: "no memory".into() };
                    job.result.get_or_insert(Outcome::Failed(failure));
                }
            }
            Happening::PodSucceeds => {
                if let Some(job) = self.live() {
                    job.pods.push(ended(&format!("pod-{}", job.pods.len()), 0, "Completed", ""));
                    job.result = Some(success.clone());
                }
            }
            Happening::JobCompletes => {
                let done = |j: &&mut SimJob| !matches!(j.result, None | Some(Outcome::Failed(_)));
                if let Some(job) = self.live().filter(done) {
                    job.facts.end = Some(JobEnd::Complete { at: Some(at(clock)) });
                }
            }
            Happening::JobFails => {
                if let Some(job) = self.live().filter(|j| matches!(j.result, Some(Outcome::Failed(_)))) {
                    job.facts.end = Some(JobEnd::Failed {
                        reason: "BackoffLimitExceeded".into(),
                        message: "too often".into(),
                        at: Some(at(clock)),
                    });
                }
            }
            Happening::JobVanishes => {
                if let Some(name) = self.jobs.keys().next().cloned() {
                    self.jobs.remove(&name);
                    self.vanished += 1;
                }
            }
            Happening::ConfigVanishes => {
                if let Some(name) = self.configs.keys().next().cloned() {
                    self.configs.remove(&name);
                }
            }
            _ => {}
        }
    }
}

/// Carries a plan out up to the kill; true if all of it was done.
pub fn carry_out<S>(
    plan: &Plan<S>,
    killed_after: Option<usize>,
    mut registry: impl FnMut(&RegistryOp),
    cluster: &mut Cluster,
) -> bool {
    let mut left = killed_after.unwrap_or(usize::MAX);
    let mut go = || {
        let goes = left > 0;
        left = left.saturating_sub(1);
        goes
    };
    for op in &plan.registry {
        if !go() {
            return false;
        }
        registry(op);
    }
    for child in &plan.apply {
        if !go() {
            return false;
        }
        cluster.put(child);
    }
    for child in &plan.delete {
        if !go() {
            return false;
        }
        cluster.remove(child);
    }
    go()
}

pub fn writes<S>(plan: &Plan<S>) -> usize {
    plan.registry.len() + plan.apply.len() + plan.delete.len()
}
