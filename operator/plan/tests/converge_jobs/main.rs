//! Datasets and TrainingRuns in a small world of Jobs and a registry: whatever happens in between,
//! and wherever the operator is killed, they come to one end and then nothing is written.
#![allow(clippy::unwrap_used, clippy::panic)]

mod cluster;
#[path = "../common/mod.rs"]
mod common;

use std::collections::BTreeSet;

use cluster::{Cluster, Happening, carry_out, happenings, writes};
use common::{DATASET, RUN, at, dataset, dataset_facts, ingested, policy, run, trained};
use proptest::prelude::*;
use vitrine_contract::report::Outcome;
use vitrine_crds::condition::{ConditionType, is_true};
use vitrine_crds::training_run::Inputs;
use vitrine_crds::{Dataset, TrainingRun};
use vitrine_plan::{
    Child, DatasetFacts, DatasetObserved, Plan, Reference, RegistryOp, RevisionFacts, TrainingRunObserved,
    VersionFacts, attempt, dataset as dataset_kind, training_run,
};

struct RunWorld {
    object: TrainingRun,
    cluster: Cluster,
    dataset: DatasetFacts,
    dataset_ready: bool,
    revision: i64,
    f1: f64,
    reusable: Vec<VersionFacts>,
    version: Option<VersionFacts>,
    alias: Option<i64>,
    moved: bool,
    moves: usize,
    terminal: Option<(String, i64)>,
}

impl RunWorld {
    fn new(spec: &str, f1: f64, reusable: Vec<VersionFacts>) -> Self {
        Self {
            object: run(spec),
            cluster: Cluster { clock: 10, ..Cluster::default() },
            dataset: dataset_facts("a"),
            dataset_ready: true,
            revision: 1,
            f1,
            reusable,
            version: None,
            alias: None,
            moved: false,
            moves: 0,
            terminal: None,
        }
    }

    fn observe(&self) -> TrainingRunObserved {
        let current = attempt::of_training_run(&self.object).job_name;
        let job = self.cluster.jobs.get(&current);
        TrainingRunObserved {
            namespace_uid: "ns".into(),
            dataset: Some(if self.dataset_ready {
                Reference::Ready(self.dataset.clone())
            } else {
                Reference::NotReady("it is being ingested".into())
            }),
            version: self.version.clone(),
            reusable: self.reusable.clone(),
            alias_version: self.alias,
            alias_moved_by_this_run: self.moved,
            job: job.map(|j| j.facts.clone()),
            pods: job.map(|j| j.pods.clone()).unwrap_or_default(),
            result: job.and_then(|j| j.result.clone()),
            progress: None,
            config: self.cluster.configs.get(&current).cloned(),
            leftovers: self.cluster.leftovers(Some(&current)),
        }
    }

    fn plan(&self, now: i64) -> Plan<vitrine_crds::TrainingRunStatus> {
        let before = self.object.spec.clone();
        let plan = training_run::plan(&self.object, &self.observe(), &policy(), &at(now));
        assert_eq!(before, self.object.spec);
        plan
    }

    fn record(&mut self, op: &RegistryOp) {
        match op {
            RegistryOp::RegisterVersion(new) => {
                // keyed by the run: a repeat changes nothing and says the same
                if let Some(known) = &self.version {
                    assert_eq!(known.digest, new.report.model.digest);
                    return;
                }
                self.version = Some(VersionFacts {
                    model: new.model.clone(),
                    version: 7,
                    digest: new.report.model.digest.clone(),
                    bytes: 1234,
                    accepted: new.accepted,
                    run_name: new.run.clone(),
                    run_uid: new.run_uid.clone(),
                    dataset_digest: new.dataset_digest.clone(),
                    test_digest: new.test_digest.clone(),
                    inputs: Some(Inputs {
                        dataset_digest: new.dataset_digest.clone(),
                        test_digest: new.test_digest.clone(),
                        spec_hash: new.spec_hash.clone(),
                        trainer_image: new.trainer_image.clone(),
                        ..Inputs::default()
                    }),
                    report: new.report.clone(),
                });
            }
            RegistryOp::SetAlias { version, who_uid, .. } => {
                assert_eq!(who_uid, "uid-demo");
                if self.alias != Some(*version) {
                    self.alias = Some(*version);
                    self.moved = true;
                    self.moves += 1;
                }
            }
            other => panic!("not of this kind: {other:?}"),
        }
    }

    fn pass(&mut self, killed_after: Option<usize>) {
        let plan = self.plan(self.cluster.clock);
        let mut cluster = std::mem::take(&mut self.cluster);
        let ops: Vec<RegistryOp> = plan.registry.clone();
        let mut done = 0;
        let all = carry_out(&plan, killed_after, |_| done += 1, &mut cluster);
        self.cluster = cluster;
        ops.iter().take(done).for_each(|op| self.record(op));
        if all {
            self.object.status = Some(plan.status);
        }
        self.check();
    }

    fn check(&mut self) {
        assert!(self.moves <= 1, "the alias was moved {} times", self.moves);
        let lost = self.cluster.vanished;
        assert!(self.cluster.created <= 1 + lost, "{} Jobs, {lost} vanished", self.cluster.created);
        let Some(status) = self.object.status.as_ref().filter(|s| s.completion_time.is_some()) else {
            return;
        };
        let succeeded = vitrine_crds::condition::find(&status.conditions, ConditionType::Succeeded).unwrap();
        let end = (succeeded.reason.clone(), status.completion_time.as_ref().unwrap().0.as_second());
        let first = self.terminal.get_or_insert_with(|| end.clone());
        assert_eq!(*first, end, "an end is never taken back");
    }

    fn happen(&mut self, what: Happening) {
        self.cluster.clock += 1;
        match what {
            Happening::Pass { killed_after } => self.pass(killed_after),
            Happening::AliasMoves => self.alias = Some(99),
            Happening::InputToggles => self.dataset_ready = !self.dataset_ready,
            Happening::InputChanges => {
                self.revision += 1;
                let facts = dataset_facts(&format!("rev{}", self.revision));
                self.dataset = DatasetFacts { revision: self.revision, ..facts };
            }
            Happening::SpecChanges => {
                self.object.spec.suspend = !self.object.spec.suspend;
                *self.object.metadata.generation.as_mut().unwrap() += 1;
            }
            other => {
                let success = Outcome::Trained(trained("m", self.f1));
                self.cluster.happen(other, &success);
            }
        }
    }

    /// Nothing stands in the way any more.
    fn settle(&mut self) {
        self.dataset_ready = true;
        if self.object.spec.suspend {
            self.happen(Happening::SpecChanges);
        }
        for _ in 0..30 {
            self.happen(Happening::Pass { killed_after: None });
            self.happen(Happening::PodSucceeds);
            self.happen(Happening::JobCompletes);
        }
        self.happen(Happening::Pass { killed_after: None });
    }
}

fn reusable(kind: u8) -> Vec<VersionFacts> {
    match kind {
        0 => vec![],
        1 => vec![common::version(3, "m", 0.8)],
        2 => vec![common::version(3, "m", 0.5)],
        // accepted by a weaker gate than ours
        _ => vec![VersionFacts { accepted: true, ..common::version(3, "m", 0.5) }],
    }
}

proptest! {
    #[test]
    fn a_training_run_comes_to_one_end_and_then_writes_nothing(
        list in happenings(),
        f1 in prop_oneof![Just(0.5), Just(0.9)],
        kind in 0_u8..4,
        reuse in any::<bool>(),
    ) {
        let spec = if reuse { RUN.to_owned() } else { format!("{RUN}\nreuse: Never") };
        let mut world = RunWorld::new(&spec, f1, if reuse { reusable(kind) } else { vec![] });
        for what in list {
            world.happen(what);
        }
        world.settle();
        let status = world.object.status.clone().unwrap();
        prop_assert!(status.completion_time.is_some(), "{status:#?}");
        prop_assert!(!is_true(&status.conditions, ConditionType::Reconciling));
        prop_assert_eq!(status.observed_generation, world.object.metadata.generation);
        for later in [0, 1000] {
            let again = world.plan(world.cluster.clock + later);
            prop_assert_eq!(writes(&again), 0, "{:#?}", again);
            prop_assert!(again.events.is_empty());
            prop_assert_eq!(&again.status, &status);
        }
        let succeeded = is_true(&status.conditions, ConditionType::Succeeded);
        if let Some(version) = &world.version {
            prop_assert_eq!(version.accepted, succeeded);
            prop_assert_eq!(status.inputs.unwrap().dataset_digest, version.dataset_digest.clone());
        }
        if !succeeded {
            prop_assert_eq!(world.moves, 0, "a rejected model got the alias");
        }
    }

    #[test]
    fn a_dataset_comes_to_one_snapshot_and_then_writes_nothing(
        list in happenings(),
        fixed in any::<bool>(),
    ) {
        let mut world = DatasetWorld::new(fixed);
        for what in list {
            world.happen(what);
        }
        world.settle();
        let status = world.object.status.clone().unwrap();
        prop_assert!(is_true(&status.conditions, ConditionType::Ready), "{status:#?}");
        prop_assert!(!is_true(&status.conditions, ConditionType::Reconciling));
        prop_assert_eq!(status.observed_generation, world.object.metadata.generation);
        for later in [0, 1000] {
            let again = world.plan(world.cluster.clock + later);
            prop_assert_eq!(writes(&again), 0, "{:#?}", again);
            prop_assert!(again.events.is_empty());
            prop_assert_eq!(&again.status, &status);
        }
        // what is superseded does not stay
        let names: BTreeSet<&String> = world.cluster.jobs.keys().chain(world.cluster.configs.keys()).collect();
        prop_assert!(names.len() <= 1, "{names:?}");
    }
}

struct DatasetWorld {
    object: Dataset,
    cluster: Cluster,
    fixed: bool,
    fixed_revision: u8,
    fixed_ready: bool,
    revisions: Vec<RevisionFacts>,
}

const FIXED: &str =
    "\nsplit: {fractions: {train: 0.9, validation: 0.1, test: 0.0}, test: {datasetRef: {name: fixed}}}";

impl DatasetWorld {
    fn new(fixed: bool) -> Self {
        let spec = if fixed { format!("{DATASET}{FIXED}") } else { DATASET.to_owned() };
        Self {
            object: dataset(&spec),
            cluster: Cluster { clock: 10, ..Cluster::default() },
            fixed,
            fixed_revision: 0,
            fixed_ready: true,
            revisions: vec![],
        }
    }

    fn test(&self) -> Option<Reference<DatasetFacts>> {
        self.fixed.then(|| {
            // the test set changes between two states: an attempt key may come back
            let facts = dataset_facts(&format!("fixed{}", self.fixed_revision % 2));
            if self.fixed_ready { Reference::Ready(facts) } else { Reference::Missing }
        })
    }

    fn observe(&self) -> DatasetObserved {
        let test = self.test();
        let key = attempt::key_of_dataset(&self.object, test.as_ref());
        let current = attempt::of_dataset(&self.object, test.as_ref()).map(|a| a.job_name);
        let job = current.as_ref().and_then(|name| self.cluster.jobs.get(name));
        let same = self.revisions.iter().find(|r| Some(&r.attempt_key) == key.as_ref());
        DatasetObserved {
            namespace_uid: "ns".into(),
            test_dataset: test,
            label_names: None,
            revision: same.or(self.revisions.last()).cloned(),
            job: job.map(|j| j.facts.clone()),
            pods: job.map(|j| j.pods.clone()).unwrap_or_default(),
            result: job.and_then(|j| j.result.clone()),
            progress: None,
            config: current.as_ref().and_then(|name| self.cluster.configs.get(name)).cloned(),
            leftovers: self.cluster.leftovers(current.as_deref()),
        }
    }

    fn plan(&self, now: i64) -> Plan<vitrine_crds::DatasetStatus> {
        dataset_kind::plan(&self.object, &self.observe(), &policy(), &at(now))
    }

    fn pass(&mut self, killed_after: Option<usize>) {
        let plan = self.plan(self.cluster.clock);
        let mut recorded = vec![];
        let all = carry_out(&plan, killed_after, |op| recorded.push(op.clone()), &mut self.cluster);
        for op in recorded {
            let RegistryOp::RecordRevision { attempt_key, report, .. } = op else { panic!("{op:?}") };
            if self.revisions.iter().all(|r| r.attempt_key != attempt_key) {
                let revision = self.revisions.len() as i64 + 1;
                let recorded_at = Some(at(self.cluster.clock));
                self.revisions.push(RevisionFacts { revision, attempt_key, report, recorded_at });
            }
        }
        if all {
            self.object.status = Some(plan.status);
        }
    }

    fn happen(&mut self, what: Happening) {
        self.cluster.clock += 1;
        match what {
            Happening::Pass { killed_after } => self.pass(killed_after),
            Happening::AliasMoves => {}
            Happening::InputToggles => self.fixed_ready = !self.fixed_ready,
            Happening::InputChanges => self.fixed_revision += 1,
            Happening::SpecChanges => *self.object.metadata.generation.as_mut().unwrap() += 1,
            other => {
                let success = Outcome::Ingested(ingested(&format!("clock{}", self.cluster.clock)));
                self.cluster.happen(other, &success);
            }
        }
    }

    fn settle(&mut self) {
        self.fixed_ready = true;
        for _ in 0..30 {
            self.happen(Happening::Pass { killed_after: None });
            self.happen(Happening::PodSucceeds);
            self.happen(Happening::JobCompletes);
        }
        self.happen(Happening::Pass { killed_after: None });
        // a Job that failed for good is tried again when it is deleted
        let failed =
            self.object.status.as_ref().is_some_and(|s| is_true(&s.conditions, ConditionType::Stalled));
        if failed {
            let name = self.object.status.as_ref().and_then(|s| s.job_name.clone()).unwrap();
            self.cluster.jobs.remove(&name).unwrap();
            self.settle();
        }
    }
}

#[test]
fn an_identical_run_takes_the_version_over_without_a_job() {
    let mut world = RunWorld::new(RUN, 0.9, reusable(1));
    world.settle();
    let status = world.object.status.unwrap();
    assert_eq!(common::condition(&status.conditions, ConditionType::Succeeded), "True/Reused");
    let model = status.model.unwrap();
    assert!(model.reused && model.version == 3);
    assert_eq!((world.cluster.created, world.alias, status.job_name), (0, Some(3), None));
}

#[test]
fn an_identical_run_under_a_stricter_gate_is_registered_anew_as_rejected() {
    let mut world = RunWorld::new(RUN, 0.9, reusable(3));
    world.settle();
    let status = world.object.status.unwrap();
    assert_eq!(common::condition(&status.conditions, ConditionType::Succeeded), "False/GateFailed");
    assert_eq!((world.cluster.created, world.alias), (0, None));
    assert!(!world.version.unwrap().accepted);
}

#[test]
fn a_run_is_held_and_let_go_without_a_second_job() {
    let mut world = RunWorld::new(RUN, 0.9, vec![]);
    let pass = Happening::Pass { killed_after: None };
    for what in [pass, Happening::PodRuns, pass, Happening::SpecChanges, pass, pass] {
        world.happen(what);
    }
    let held = world.cluster.jobs.values().next().unwrap().facts.clone();
    assert!(held.suspended && held.suspended_by_us);
    let conditions = &world.object.status.as_ref().unwrap().conditions;
    assert!(is_true(conditions, ConditionType::Suspended));
    world.happen(Happening::SpecChanges);
    world.happen(pass);
    assert!(!world.cluster.jobs.values().next().unwrap().facts.suspended);
    world.settle();
    assert_eq!(world.cluster.created, 1);
}

#[test]
fn a_job_that_its_queue_holds_is_never_let_go_by_us() {
    let mut world = RunWorld::new(RUN, 0.9, vec![]);
    world.happen(Happening::Pass { killed_after: None });
    world.cluster.jobs.values_mut().next().unwrap().facts.suspended = true;
    let plan = world.plan(20);
    assert_eq!(writes(&plan), 0, "{:?}", plan.apply);
    assert_eq!(common::condition(&plan.status.conditions, ConditionType::Running), "False/Queued");
}

#[test]
fn a_finished_runs_job_is_let_go_only_when_its_end_is_stored() {
    let mut world = RunWorld::new(RUN, 0.9, vec![]);
    let pass = Happening::Pass { killed_after: None };
    for what in [pass, Happening::PodFails, Happening::JobFails] {
        world.happen(what);
    }
    let plan = world.plan(30);
    assert!(plan.status.completion_time.is_some() && plan.apply.is_empty());
    world.happen(pass);
    let plan = world.plan(30);
    assert!(matches!(plan.apply.as_slice(), [Child::SetJobTtl { seconds: 86_400, .. }]), "{:?}", plan.apply);
}

#[test]
fn a_job_that_vanished_is_followed_by_the_next_attempt_under_another_name() {
    let mut world = RunWorld::new(RUN, 0.9, vec![]);
    let pass = Happening::Pass { killed_after: None };
    world.happen(pass);
    let first = world.object.status.as_ref().unwrap().job_name.clone();
    for what in [Happening::JobVanishes, pass] {
        world.happen(what);
    }
    let status = world.object.status.as_ref().unwrap();
    assert_eq!(status.attempts, Some(2));
    assert_ne!(status.job_name, first);
    assert_eq!(world.cluster.jobs.keys().next(), status.job_name.as_ref());

    let mut world = DatasetWorld::new(false);
    for what in [pass, Happening::JobVanishes, pass] {
        world.happen(what);
    }
    assert_eq!(world.object.status.as_ref().unwrap().attempts, Some(2));
    // another spec counts from one again
    for what in [Happening::SpecChanges, pass, pass] {
        world.happen(what);
    }
    assert_eq!(world.object.status.as_ref().unwrap().attempts, Some(1));
}
