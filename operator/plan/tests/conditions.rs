//! Conditions: complete from the first visit on, and read by kstatus as they are meant.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;

use common::*;
use vitrine_contract::report::{Failure, Images, Outcome};
use vitrine_crds::condition::{ConditionType as C, Reason};
use vitrine_plan::status::{Fault, Faulted, Kind, undecodable};
use vitrine_plan::{
    DatasetObserved, JobEnd, ModelDeploymentObserved, Reference, RevisionFacts, TrainingRunObserved, attempt,
    dataset, model_deployment, training_run,
};

fn types(conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]) -> BTreeSet<String> {
    conditions.iter().map(|c| c.type_.clone()).collect()
}

fn expected(kind: Kind) -> BTreeSet<String> {
    kind.conditions().iter().map(|c| c.as_str().to_owned()).collect()
}

fn fault(message: &str, retryable: bool) -> Fault<'_> {
    Fault { reason: Reason::RegistryUnavailable, message, retryable }
}

#[test]
fn every_known_condition_is_there_after_the_first_visit() {
    let seen = DatasetObserved::default();
    let status = dataset::plan(&dataset(DATASET), &seen, &policy(), &at(0)).status;
    assert_eq!(types(&status.conditions), expected(Kind::Dataset));
    let seen = TrainingRunObserved { dataset: Some(Reference::Missing), ..TrainingRunObserved::default() };
    let status = training_run::plan(&run(RUN), &seen, &policy(), &at(0)).status;
    assert_eq!(types(&status.conditions), expected(Kind::TrainingRun));
    let seen = ModelDeploymentObserved::default();
    let status = model_deployment::plan(&serve(SERVE), &seen, &policy(), &at(0)).status;
    assert_eq!(types(&status.conditions), expected(Kind::ModelDeployment));
    for kind in [Kind::Dataset, Kind::TrainingRun, Kind::ModelDeployment] {
        assert_eq!(types(&undecodable(kind, Some(1), "no", &at(0))), expected(kind));
    }
    let failed = dataset(DATASET).faulted(fault("no", true), &at(0));
    assert_eq!(types(&failed.conditions), expected(Kind::Dataset));
    let failed = run(RUN).faulted(fault("no", true), &at(0));
    assert_eq!(types(&failed.conditions), expected(Kind::TrainingRun));
    let failed = serve(SERVE).faulted(fault("no", true), &at(0));
    assert_eq!(types(&failed.conditions), expected(Kind::ModelDeployment));
}

/// Facts of a Dataset in some situation.
fn dataset_in(situation: &str) -> DatasetObserved {
    let name = attempt::of_dataset(&dataset(DATASET), None).unwrap().job_name;
    let key = attempt::dataset_key(1, None);
    let revision = |key: &str| {
        Some(RevisionFacts {
            revision: 1,
            attempt_key: key.to_owned(),
            report: ingested("a"),
            recorded_at: Some(at(9)),
        })
    };
    let failed = Outcome::Failed(Failure { reason: "DataCorrupt".into(), message: "row 3 is broken".into() });
    let end = JobEnd::Failed { reason: "PodFailurePolicy".into(), message: "m".into(), at: Some(at(1)) };
    let empty = DatasetObserved::default();
    match situation {
        "new" => empty,
        "runs" => DatasetObserved { job: Some(job(&name)), pods: vec![pod("p", "Running")], ..empty },
        "retries" => DatasetObserved { job: Some(job(&name)), result: Some(failed), ..empty },
        "failed" => DatasetObserved {
            job: Some(vitrine_plan::JobFacts { end: Some(end), ..job(&name) }),
            result: Some(failed),
            ..empty
        },
        "ready" => DatasetObserved { revision: revision(&key), ..empty },
        "renewed" => DatasetObserved {
            revision: revision("0/"),
            job: Some(job(&name)),
            pods: vec![pod("p", "Running")],
            ..empty
        },
        "foreign" => {
            DatasetObserved { job: Some(vitrine_plan::JobFacts { owned: false, ..job(&name) }), ..empty }
        }
        other => unreachable!("{other}"),
    }
}

#[test]
fn kstatus_reads_a_dataset_as_it_is_meant() {
    for (situation, ready, kstatus_) in [
        ("new", "False/Queued", "InProgress"),
        ("runs", "False/Ingesting", "InProgress"),
        ("retries", "False/Queued", "InProgress"),
        ("failed", "False/DataCorrupt", "Failed"),
        ("ready", "True/SnapshotReady", "Current"),
        // the older snapshot stays usable while a newer one is made
        ("renewed", "True/SnapshotReady", "InProgress"),
        ("foreign", "False/NameCollision", "Failed"),
    ] {
        let seen = dataset_in(situation);
        let plan = dataset::plan(&dataset(DATASET), &seen, &policy(), &at(100));
        assert_eq!(condition(&plan.status.conditions, C::Ready), ready, "{situation}");
        assert_eq!(kstatus(&plan.status.conditions), kstatus_, "{situation}");
    }
}

#[test]
fn rows_that_resemble_the_fixed_test_set_are_told() {
    let mut seen = dataset_in("ready");
    let told = |seen: &_| {
        let status = dataset::plan(&dataset(DATASET), seen, &policy(), &at(100)).status;
        let ready = status.conditions.iter().find(|c| c.type_ == C::Ready.as_str()).unwrap();
        (ready.message.clone(), status.overlap_rows)
    };
    let all = "holds 100 rows of 5 classes (test 10, train 80, validation 10)";
    let (message, rows) = told(&seen);
    assert!(message.ends_with(all) && rows.is_none(), "{message}");
    seen.revision.as_mut().unwrap().report.overlap_rows = Some(6);
    let (message, rows) = told(&seen);
    assert!(message.ends_with(&format!("{all}, without 6 that resemble the fixed test set")), "{message}");
    assert_eq!(rows, Some(6));
    // looked for and not found is no silence
    seen.revision.as_mut().unwrap().report.overlap_rows = Some(0);
    let (message, rows) = told(&seen);
    assert!(message.ends_with(all), "{message}");
    assert_eq!(rows, Some(0));
    // what a trainer from before the field reported
    let mut old = serde_json::to_value(&seen.revision.as_ref().unwrap().report).unwrap();
    old.as_object_mut().unwrap().remove("overlapRows").unwrap();
    seen.revision.as_mut().unwrap().report = serde_json::from_value(old).unwrap();
    assert_eq!(told(&seen).1, None);
}

fn run_in(situation: &str) -> (String, TrainingRunObserved) {
    let name = attempt::of_training_run(&run(RUN)).job_name;
    let known = Some(Reference::Ready(dataset_facts("a")));
    let base = TrainingRunObserved { dataset: known, ..TrainingRunObserved::default() };
    let held = format!("{RUN}\nsuspend: true");
    let seen = match situation {
        "no dataset" => TrainingRunObserved { dataset: Some(Reference::Missing), ..base },
        "held" => return (held, base),
        "runs" => TrainingRunObserved { job: Some(job(&name)), pods: vec![pod("p", "Running")], ..base },
        "accepted" => {
            TrainingRunObserved { version: Some(version(4, "m", 0.8)), alias_version: Some(4), ..base }
        }
        "rejected" => TrainingRunObserved { version: Some(version(4, "m", 0.5)), ..base },
        "out of memory" => TrainingRunObserved {
            job: Some(vitrine_plan::JobFacts {
                end: Some(JobEnd::Failed {
                    reason: "BackoffLimitExceeded".into(),
                    message: "m".into(),
                    at: Some(at(1)),
                }),
                ..job(&name)
            }),
            pods: vec![ended("p", 137, "OOMKilled", "")],
            ..base
        },
        other => unreachable!("{other}"),
    };
    (RUN.to_owned(), seen)
}

#[test]
fn kstatus_reads_a_training_run_as_it_is_meant() {
    for (situation, succeeded, kstatus_) in [
        ("no dataset", "Unknown/DatasetNotFound", "InProgress"),
        ("held", "Unknown/SuspendedBySpec", "InProgress"),
        ("runs", "Unknown/Training", "InProgress"),
        ("accepted", "True/Registered", "Current"),
        ("rejected", "False/GateFailed", "Failed"),
        ("out of memory", "False/OOMKilled", "Failed"),
    ] {
        let (spec, seen) = run_in(situation);
        let plan = training_run::plan(&run(&spec), &seen, &policy(), &at(100));
        let conditions = &plan.status.conditions;
        assert_eq!(condition(conditions, C::Succeeded), succeeded, "{situation}");
        assert_eq!(condition(conditions, C::Ready), succeeded, "Ready mirrors Succeeded: {situation}");
        assert_eq!(kstatus(conditions), kstatus_, "{situation}");
    }
}

#[test]
fn kstatus_reads_an_unresolved_model_deployment_as_in_progress() {
    let seen = ModelDeploymentObserved::default();
    let plan = model_deployment::plan(&serve(SERVE), &seen, &policy(), &at(0));
    assert_eq!(condition(&plan.status.conditions, C::Ready), "False/ModelNotFound");
    assert_eq!(condition(&plan.status.conditions, C::ModelResolved), "False/ModelNotFound");
    assert_eq!(kstatus(&plan.status.conditions), "InProgress");
    assert!(plan.apply.is_empty() && plan.delete.is_empty() && plan.registry.is_empty());
}

#[test]
fn an_invalid_spec_is_a_condition_and_no_write() {
    let spec = RUN.replace(
        "output:",
        "search: {candidates: [{linearSvm: {c: [1]}, logisticRegression: {c: [1]}}]}\noutput:",
    );
    let seen = TrainingRunObserved {
        dataset: Some(Reference::Ready(dataset_facts("a"))),
        ..TrainingRunObserved::default()
    };
    let plan = training_run::plan(&run(&spec), &seen, &policy(), &at(0));
    assert_eq!(condition(&plan.status.conditions, C::Succeeded), "False/InvalidSpec");
    assert_eq!(kstatus(&plan.status.conditions), "Failed");
    assert!(message(&plan.status.conditions, C::Stalled).contains("search.candidates[0]"));
    assert!(plan.apply.is_empty() && plan.registry.is_empty() && plan.delete.is_empty());

    let loops = format!(
        "{DATASET}\nsplit: {{fractions: {{train: 0.9, validation: 0.1, test: 0.0}}, test: {{datasetRef: {{name: shoes}}}}}}"
    );
    let plan = dataset::plan(&dataset(&loops), &DatasetObserved::default(), &policy(), &at(0));
    assert_eq!(condition(&plan.status.conditions, C::Ready), "False/InvalidSpec");
    assert!(plan.apply.is_empty());

    let climbs = DATASET.replace("label:", "image: {pathTemplate: \"../{imageid}.jpg\"}, label:");
    let plan = dataset::plan(&dataset(&climbs), &DatasetObserved::default(), &policy(), &at(0));
    assert_eq!(condition(&plan.status.conditions, C::Ready), "False/InvalidSpec");
    assert!(message(&plan.status.conditions, C::Ready).contains("schema.image.pathTemplate"));
    assert!(plan.apply.is_empty());

    let two = "model: {name: m, alias: a, version: 1}";
    let plan = model_deployment::plan(&serve(two), &ModelDeploymentObserved::default(), &policy(), &at(0));
    assert_eq!(condition(&plan.status.conditions, C::Ready), "False/InvalidSpec");
    assert!(plan.apply.is_empty());
}

#[test]
fn the_counts_of_pictures_reach_the_status() {
    let mut seen = dataset_in("ready");
    let images = |seen: &DatasetObserved| {
        dataset::plan(&dataset(DATASET), seen, &policy(), &at(100))
            .status
            .images
            .map(|i| (i.count, i.missing, i.unreadable))
    };
    assert_eq!(images(&seen), None);
    if let Some(revision) = &mut seen.revision {
        revision.report.images = Some(Images { count: 7, missing: 2, unreadable: 1 });
    }
    assert_eq!(images(&seen), Some((7, 2, 1)));
}

#[test]
fn a_fault_of_the_operator_keeps_what_is_known_and_says_that_it_tries_again() {
    let mut object = dataset(DATASET);
    let ready = dataset::plan(&object, &dataset_in("ready"), &policy(), &at(100)).status;
    object.status = Some(ready.clone());
    let failed = object.faulted(fault("the registry is locked", true), &at(200));
    assert_eq!(failed.digest, ready.digest);
    assert_eq!(condition(&failed.conditions, C::Ready), "True/SnapshotReady");
    assert_eq!(condition(&failed.conditions, C::Reconciling), "True/RegistryUnavailable");
    assert_eq!(kstatus(&failed.conditions), "InProgress");
    // and once it is over, nothing of it stays
    object.status = Some(failed);
    let after = dataset::plan(&object, &dataset_in("ready"), &policy(), &at(300)).status;
    assert_eq!(kstatus(&after.conditions), "Current");
}

#[test]
fn a_fault_that_only_a_person_can_end_fails_fast_and_what_is_served_stays_ready() {
    let refused = fault("apply Job shop/shoes: no rights (403 Forbidden)", false);
    let mut object = dataset(DATASET);
    let first = object.faulted(refused, &at(100));
    assert_eq!(condition(&first.conditions, C::Ready), "False/RegistryUnavailable");
    assert_eq!(condition(&first.conditions, C::Reconciling), "False/Settled");
    assert_eq!((kstatus(&first.conditions), first.observed_generation), ("Failed", Some(1)));
    assert!(!message(&first.conditions, C::Stalled).contains("tries again"));
    object.status = Some(first.clone());
    assert_eq!(object.faulted(refused, &at(200)), first, "the same again is no write");
    let first = run(RUN).faulted(refused, &at(100)).conditions;
    assert_eq!(condition(&first, C::Succeeded), "False/RegistryUnavailable");
    assert_eq!(kstatus(&first), "Failed");
    // what was carried out once stays ready
    let ready = dataset::plan(&object, &dataset_in("ready"), &policy(), &at(300)).status;
    object.status = Some(ready);
    let kept = object.faulted(refused, &at(400)).conditions;
    assert_eq!(condition(&kept, C::Ready), "True/SnapshotReady");
    assert_eq!(condition(&kept, C::Stalled), "True/RegistryUnavailable");
    // a newer spec was never carried out
    object.metadata.generation = Some(2);
    let newer = object.faulted(refused, &at(500));
    assert_eq!(condition(&newer.conditions, C::Ready), "False/RegistryUnavailable");
    assert_eq!((kstatus(&newer.conditions), newer.observed_generation), ("Failed", Some(2)));
    // and once it is over, nothing of it stays
    object.metadata.generation = Some(1);
    object.status = Some(newer);
    let after = dataset::plan(&object, &dataset_in("ready"), &policy(), &at(600)).status;
    assert_eq!(kstatus(&after.conditions), "Current");
}

#[test]
fn a_name_that_somebody_else_holds_is_looked_at_again() {
    let soon = vitrine_plan::Requeue::After(std::time::Duration::from_secs(30));
    let plan = dataset::plan(&dataset(DATASET), &dataset_in("foreign"), &policy(), &at(0));
    assert_eq!(plan.requeue, soon);
    let name = attempt::of_training_run(&run(RUN)).job_name;
    let foreign = vitrine_plan::JobFacts { owned: false, ..job(&name) };
    let seen = TrainingRunObserved { job: Some(foreign), ..TrainingRunObserved::default() };
    let plan = training_run::plan(&run(RUN), &seen, &policy(), &at(0));
    assert_eq!(condition(&plan.status.conditions, C::Succeeded), "False/NameCollision");
    assert_eq!(plan.requeue, soon);
}

#[test]
fn a_dataset_counts_for_others_only_once_its_newest_spec_has_a_snapshot() {
    let mut object = dataset(DATASET);
    assert!(matches!(dataset::facts(&object), Reference::NotReady(_)));
    for (situation, usable) in [("new", false), ("ready", true), ("renewed", false), ("failed", false)] {
        let plan = dataset::plan(&object, &dataset_in(situation), &policy(), &at(100));
        let seen = vitrine_crds::Dataset { status: Some(plan.status), ..object.clone() };
        assert_eq!(matches!(dataset::facts(&seen), Reference::Ready(_)), usable, "{situation}");
    }
    let plan = dataset::plan(&object, &dataset_in("ready"), &policy(), &at(100));
    object.status = Some(plan.status);
    assert_eq!(dataset::facts(&object), Reference::Ready(dataset_facts("a")));
    object.metadata.generation = Some(2);
    assert!(matches!(dataset::facts(&object), Reference::NotReady(_)));
}

#[test]
fn an_autoscaler_that_cannot_work_is_named_with_its_field_and_the_fix() {
    let metrics = |target: &str| {
        format!(
            "{SERVE}\nautoscaling: {{maxReplicas: 3, metrics: [{{type: Resource, resource: {{name: cpu, target: {target}}}}}]}}"
        )
    };
    let mut without = policy();
    without.serve_resources.requests.remove("cpu");
    without.serve_resources.limits.remove("cpu");
    let share = metrics("{type: Utilization, averageUtilization: 80}");
    let asked = format!("{share}\nresources: {{requests: {{cpu: 100m}}}}");
    let limited = format!("{share}\nresources: {{limits: {{cpu: 100m}}}}");
    let zero = format!("{share}\nresources: {{requests: {{cpu: 0}}}}");
    let amount = metrics("{type: AverageValue, averageValue: 500m}");
    let nothing = metrics("{type: AverageValue, averageValue: 0}");
    let bounds = format!("{SERVE}\nautoscaling: {{minReplicas: 3, maxReplicas: 2}}");
    let at_zero = format!("{}\nautoscaling: {{maxReplicas: 2}}", SERVE.replace("replicas: 2", "replicas: 0"));
    for (spec, policy, refused) in [
        (&share, &policy(), None),
        (
            &share,
            &without,
            Some(
                "metrics[0].resource.target is a share of the cpu that the pods request, and they request none: set resources.requests.cpu",
            ),
        ),
        (&asked, &without, None),
        (&limited, &without, None),
        (&zero, &without, Some("they request none")),
        (&amount, &without, None),
        (&nothing, &without, Some("needs averageValue above 0")),
        (&bounds, &without, Some("they are 2 and 3")),
        (&at_zero, &without, Some("autoscaling needs replicas of at least 1")),
    ] {
        let plan = model_deployment::plan(&serve(spec), &ModelDeploymentObserved::default(), policy, &at(0));
        let ready = condition(&plan.status.conditions, C::Ready);
        match refused {
            None => assert_eq!(ready, "False/ModelNotFound", "{spec}"),
            Some(words) => {
                assert_eq!(ready, "False/InvalidSpec", "{spec}");
                let text = message(&plan.status.conditions, C::Stalled);
                assert!(text.contains(words), "{text}");
            }
        }
    }
}

#[test]
fn who_waits_for_a_dataset_is_told_the_same_at_every_step_of_it() {
    let facts = |status: serde_json::Value| {
        let dataset: vitrine_crds::Dataset = serde_json::from_value(serde_json::json!({
            "apiVersion": "vitrine.dev/v1alpha1", "kind": "Dataset",
            "metadata": {"name": "d", "generation": 2},
            "spec": {"source": {"pvc": {"claimName": "c"}, "files": {"features": "f"}}, "schema": {"text": ["t"]}},
            "status": status,
        }))
        .unwrap();
        vitrine_plan::dataset::facts(&dataset)
    };
    let condition = |type_: &str, status: &str, message: &str| {
        serde_json::json!({"type": type_, "status": status, "reason": "R", "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    let of = |generation: i64, conditions: &[serde_json::Value]| {
        facts(serde_json::json!({"observedGeneration": generation, "conditions": conditions}))
    };
    let queued = of(2, &[condition("Ready", "False", "Job was created")]);
    assert_eq!(queued, of(2, &[condition("Ready", "False", "pod d-0: reading")]));
    assert_eq!(queued, of(1, &[condition("Ready", "True", "revision 1")]), "of an older spec");
    assert_eq!(queued, of(2, &[condition("Ready", "True", "1"), condition("Reconciling", "True", "2")]));
    assert_eq!(queued, facts(serde_json::Value::Null));
    let stalled =
        of(2, &[condition("Ready", "False", "x"), condition("Stalled", "True", "line 3 is broken")]);
    assert!(matches!(&stalled, Reference::NotReady(why) if why.contains("line 3 is broken")), "{stalled:?}");
}
