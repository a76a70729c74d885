//! One test per cause of failure: the reason and a sentence with the object, the number and the fix.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use vitrine_contract::report::{Failure, Message, Outcome};
use vitrine_crds::TrainingRunStatus;
use vitrine_crds::condition::{ConditionType as C, Reason};
use vitrine_plan::{
    DatasetObserved, JobEnd, JobFacts, PodFacts, Reference, Requeue, TrainingRunObserved, attempt, dataset,
    training_run,
};

fn name() -> String {
    attempt::of_training_run(&run(RUN)).job_name
}

fn with_limit() -> String {
    format!("{RUN}\nresources: {{limits: {{memory: 512Mi}}}}\nactiveDeadlineSeconds: 60")
}

fn plan_of(seen: &TrainingRunObserved) -> vitrine_plan::Plan<TrainingRunStatus> {
    training_run::plan(&run(&with_limit()), seen, &policy(), &at(100))
}

fn active(pods: Vec<PodFacts>) -> TrainingRunStatus {
    let seen = TrainingRunObserved {
        dataset: Some(Reference::Ready(dataset_facts("a"))),
        job: Some(job(&name())),
        pods,
        ..TrainingRunObserved::default()
    };
    plan_of(&seen).status
}

fn failed_job(reason: &str, at_second: i64) -> JobFacts {
    JobFacts {
        end: Some(JobEnd::Failed {
            reason: reason.into(),
            message: "Job has reached the specified backoff limit".into(),
            at: Some(at(at_second)),
        }),
        ..job(&name())
    }
}

fn over(reason: &str, pods: Vec<PodFacts>) -> TrainingRunStatus {
    let seen = TrainingRunObserved {
        dataset: Some(Reference::Ready(dataset_facts("a"))),
        job: Some(failed_job(reason, 1)),
        pods,
        ..TrainingRunObserved::default()
    };
    plan_of(&seen).status
}

fn check(status: &TrainingRunStatus, reason: Reason, words: &[&str]) {
    let failure = status.last_failure.as_ref().unwrap();
    assert_eq!(failure.reason, reason.as_str(), "{failure:?}");
    for word in words {
        assert!(failure.message.contains(word), "{word:?} is missing in {:?}", failure.message);
    }
}

fn posted(reason: &str) -> String {
    let failure = Failure { reason: reason.into(), message: "row 7 of X.csv has no text".into() };
    serde_json::to_string(&Message::new(Outcome::Failed(failure))).unwrap()
}

#[test]
fn a_training_pod_over_its_memory_limit_says_oom_killed_and_the_fix() {
    let status = over("BackoffLimitExceeded", vec![ended("demo-1", 137, "OOMKilled", "")]);
    check(
        &status,
        Reason::OOMKilled,
        &["pod demo-1", "memory limit of 512Mi", "exit code 137", "raise spec.resources.limits.memory"],
    );
    assert_eq!(condition(&status.conditions, C::Succeeded), "False/OOMKilled");
    assert_eq!(status.last_failure.unwrap().exit_code, Some(137));
}

#[test]
fn a_kill_that_is_not_the_kernels_is_not_called_out_of_memory() {
    let status = over("BackoffLimitExceeded", vec![ended("demo-1", 137, "Error", "")]);
    check(&status, Reason::ContainerFailed, &["pod demo-1", "exit code 137", "kubectl logs demo-1"]);
}

#[test]
fn an_evicted_pod_is_named_and_its_run_goes_on() {
    let evicted = PodFacts {
        disrupted: Some(("Evicted".into(), "the node was low on memory".into())),
        ..pod("demo-1", "Failed")
    };
    let status = active(vec![evicted]);
    check(&status, Reason::Evicted, &["pod demo-1 was evicted", "low on memory", "not counted"]);
    assert_eq!(kstatus(&status.conditions), "InProgress");
}

#[test]
fn a_report_of_the_pod_is_its_cause() {
    for (word, reason) in [
        ("DataCorrupt", Reason::DataCorrupt),
        ("InvalidSpec", Reason::InvalidSpec),
        ("InvalidHyperparameter", Reason::InvalidHyperparameter),
        ("NonFinite", Reason::NonFinite),
        ("StorageDenied", Reason::StorageDenied),
        ("StorageFull", Reason::StorageFull),
        ("GatewayUnavailable", Reason::GatewayUnavailable),
        ("DigestMismatch", Reason::DigestMismatch),
        ("SomethingNewer", Reason::ContainerFailed),
        // a pod may not claim what only the operator can know
        ("Registered", Reason::ContainerFailed),
    ] {
        let status = over("PodFailurePolicy", vec![ended("demo-1", 65, "Error", &posted(word))]);
        check(&status, reason, &["pod demo-1", "exit code 65", "row 7 of X.csv has no text"]);
        assert_eq!(kstatus(&status.conditions), "Failed");
    }
}

#[test]
fn an_exit_code_speaks_where_the_words_were_lost() {
    for (code, reason) in [
        (65, Reason::DataCorrupt),
        (70, Reason::ContainerFailed),
        (73, Reason::StorageFull),
        (75, Reason::GatewayUnavailable),
        (77, Reason::StorageDenied),
        (78, Reason::InvalidHyperparameter),
        (79, Reason::DigestMismatch),
        (80, Reason::ProbeMismatch),
        (1, Reason::ContainerFailed),
    ] {
        check(&over("PodFailurePolicy", vec![ended("demo-1", code, "Error", "boom")]), reason, &["boom"]);
    }
}

#[test]
fn the_words_that_were_posted_count_where_the_pods_are_gone() {
    let seen = TrainingRunObserved {
        job: Some(failed_job("BackoffLimitExceeded", 99)),
        result: Some(Outcome::Failed(Failure { reason: "NonFinite".into(), message: "C=1 diverged".into() })),
        ..TrainingRunObserved::default()
    };
    check(&plan_of(&seen).status, Reason::NonFinite, &["C=1 diverged"]);
}

#[test]
fn a_failed_job_waits_a_while_for_its_pods_words_and_not_for_ever() {
    let seen = |second| TrainingRunObserved {
        job: Some(failed_job("BackoffLimitExceeded", second)),
        ..TrainingRunObserved::default()
    };
    let early = plan_of(&seen(90));
    assert_eq!(kstatus(&early.status.conditions), "InProgress");
    assert_eq!(early.requeue, Requeue::At(at(150)));
    let late = plan_of(&seen(10)).status;
    check(&late, Reason::BackoffLimitExceeded, &["TrainingRun demo", "backoff limit"]);
}

#[test]
fn a_run_over_its_time_says_how_long_it_had_and_what_held_it_up() {
    let stuck =
        PodFacts { unschedulable: Some("0/1 nodes are available".into()), ..pod("demo-1", "Pending") };
    let status = over("DeadlineExceeded", vec![stuck]);
    check(
        &status,
        Reason::DeadlineExceeded,
        &["within 60 seconds", "raise spec.activeDeadlineSeconds", "0/1 nodes are available"],
    );
}

#[test]
fn a_job_that_completes_without_a_result_names_its_image() {
    let seen = TrainingRunObserved {
        job: Some(JobFacts { end: Some(JobEnd::Complete { at: Some(at(1)) }), ..job(&name()) }),
        ..TrainingRunObserved::default()
    };
    check(&plan_of(&seen).status, Reason::ContainerFailed, &["no result", "images.test/trainer:1"]);
}

#[test]
fn a_report_with_a_broken_digest_is_refused() {
    let mut report = trained("m", 0.9);
    report.model.digest = "sha256:../../etc".into();
    let seen = TrainingRunObserved {
        dataset: Some(Reference::Ready(dataset_facts("a"))),
        job: Some(job(&name())),
        result: Some(Outcome::Trained(report)),
        ..TrainingRunObserved::default()
    };
    let plan = plan_of(&seen);
    assert!(plan.registry.is_empty());
    check(&plan.status, Reason::ContainerFailed, &["sha256:../../etc", "contract version"]);
}

#[test]
fn a_pod_that_cannot_start_is_told_and_may_recover() {
    let waits = |word: &str| PodFacts {
        waiting: Some((word.into(), "cause in words".into())),
        ..pod("demo-1", "Pending")
    };
    for (waiting, reason, words) in [
        (waits("ImagePullBackOff"), Reason::ImagePullBackOff, "images.test/trainer:1"),
        (waits("ErrImageNeverPull"), Reason::ImagePullBackOff, "cause in words"),
        (waits("CreateContainerConfigError"), Reason::CreateContainerConfigError, "create what is missing"),
        (
            PodFacts { unschedulable: Some("Insufficient cpu".into()), ..pod("demo-1", "Pending") },
            Reason::Unschedulable,
            "lower spec.resources.requests",
        ),
    ] {
        let status = active(vec![waiting]);
        check(&status, reason, &["pod demo-1", words]);
        assert_eq!(condition(&status.conditions, C::Running), format!("False/{reason}"));
        assert_eq!(kstatus(&status.conditions), "InProgress");
    }
}

#[test]
fn a_retry_keeps_the_first_pods_cause_and_success_clears_it() {
    let status = active(vec![ended("demo-1", 137, "OOMKilled", ""), pod("demo-2", "Running")]);
    check(&status, Reason::OOMKilled, &["demo-1"]);
    assert_eq!(condition(&status.conditions, C::Running), "True/Training");
    let mut object = run(RUN);
    object.status = Some(status);
    let seen = TrainingRunObserved {
        version: Some(version(1, "m", 0.9)),
        alias_version: Some(1),
        ..TrainingRunObserved::default()
    };
    assert_eq!(training_run::plan(&object, &seen, &policy(), &at(200)).status.last_failure, None);
}

fn dataset_status(spec: &str, seen: &DatasetObserved) -> vitrine_plan::Plan<vitrine_crds::DatasetStatus> {
    dataset::plan(&dataset(spec), seen, &policy(), &at(100))
}

#[test]
fn missing_label_names_are_looked_for_again() {
    let spec =
        DATASET.replace("label: prdtypecode", "label: y, labelNames: {configMapRef: {name: categories}}");
    let seen = DatasetObserved { label_names: Some(false), ..DatasetObserved::default() };
    let plan = dataset_status(&spec, &seen);
    assert_eq!(condition(&plan.status.conditions, C::Ready), "False/LabelNamesNotFound");
    assert!(message(&plan.status.conditions, C::Ready).contains("ConfigMap categories"));
    assert!(plan.apply.is_empty() && matches!(plan.requeue, Requeue::After(_)));
}

#[test]
fn a_missing_test_set_is_named() {
    let spec = format!(
        "{DATASET}\nsplit: {{fractions: {{train: 0.9, validation: 0.1, test: 0.0}}, test: {{datasetRef: {{name: fixed}}}}}}"
    );
    let seen = DatasetObserved { test_dataset: Some(Reference::Missing), ..DatasetObserved::default() };
    let plan = dataset_status(&spec, &seen);
    assert_eq!(condition(&plan.status.conditions, C::Ready), "False/TestDatasetNotReady");
    assert!(message(&plan.status.conditions, C::Ready).contains("Dataset fixed, which does not exist"));
    assert!(plan.apply.is_empty());
}

#[test]
fn a_missing_claim_is_a_source_that_cannot_be_reached() {
    let job_name = attempt::of_dataset(&dataset(DATASET), None).unwrap().job_name;
    let seen = DatasetObserved {
        job: Some(job(&job_name)),
        pods: vec![PodFacts {
            unschedulable: Some("persistentvolumeclaim \"data\" not found".into()),
            ..pod("p", "Pending")
        }],
        ..DatasetObserved::default()
    };
    let plan = dataset_status(DATASET, &seen);
    assert_eq!(condition(&plan.status.conditions, C::SourceReachable), "False/SourceNotFound");
    assert_eq!(condition(&plan.status.conditions, C::Ready), "False/SourceNotFound");
    let words = message(&plan.status.conditions, C::Ready);
    assert!(words.contains("PersistentVolumeClaim data, which does not exist: create it"), "{words}");
    assert_eq!(kstatus(&plan.status.conditions), "InProgress", "it may still appear");
}

/// The status of a Dataset of a bucket whose Job failed with these words.
fn failed_source(reason: &str, words: &str) -> vitrine_crds::DatasetStatus {
    let job_name = attempt::of_dataset(&dataset(S3), None).unwrap().job_name;
    let failure = Failure { reason: reason.into(), message: words.into() };
    let report = serde_json::to_string(&Message::new(Outcome::Failed(failure))).unwrap();
    let seen = DatasetObserved {
        job: Some(JobFacts { name: job_name, ..failed_job("PodFailurePolicy", 1) }),
        pods: vec![ended("p", 77, "Error", &report)],
        ..DatasetObserved::default()
    };
    dataset_status(S3, &seen).status
}

#[test]
fn a_source_that_cannot_be_opened_or_reached_says_so_with_the_pods_words() {
    for reason in ["SourceNotFound", "SourceDenied", "SourceUnavailable"] {
        let status = failed_source(reason, "http://minio:9000 said no");
        for condition_ in [C::Ready, C::SourceReachable] {
            assert_eq!(condition(&status.conditions, condition_), format!("False/{reason}"));
            assert!(message(&status.conditions, condition_).contains("http://minio:9000 said no"));
        }
        assert_eq!(kstatus(&status.conditions), "Failed");
    }
    let status = failed_source("DataCorrupt", "X.csv has another sha256");
    assert_eq!(condition(&status.conditions, C::Ready), "False/DataCorrupt");
    assert_eq!(condition(&status.conditions, C::SourceReachable), "True/Succeeded");
    assert_eq!(
        message(&status.conditions, C::SourceReachable),
        "s3://rakuten/train/ at http://minio:9000 was read"
    );
}

#[test]
fn a_missing_secret_is_named_while_the_pod_waits_for_it() {
    let job_name = attempt::of_dataset(&dataset(S3), None).unwrap().job_name;
    let seen = DatasetObserved {
        job: Some(job(&job_name)),
        pods: vec![PodFacts { unmounted: Some(NO_SECRET.into()), ..pod("p", "Pending") }],
        ..DatasetObserved::default()
    };
    let plan = dataset_status(S3, &seen);
    for condition_ in [C::Ready, C::SourceReachable] {
        assert_eq!(condition(&plan.status.conditions, condition_), "False/MountFailed");
        assert!(message(&plan.status.conditions, condition_).contains("secret \"keys\" not found"));
    }
    assert_eq!(kstatus(&plan.status.conditions), "InProgress", "it may still be created");
}

#[test]
fn a_run_without_its_dataset_says_which_one_is_missing() {
    let seen = TrainingRunObserved { dataset: Some(Reference::Missing), ..TrainingRunObserved::default() };
    let status = plan_of(&seen).status;
    assert_eq!(condition(&status.conditions, C::DatasetReady), "False/DatasetNotFound");
    assert!(
        message(&status.conditions, C::Succeeded).contains("Dataset shoes does not exist in namespace shop")
    );
}

/// What the apiserver answers the Job's controller, with a name that changes with every try.
fn quota(pod: &str) -> String {
    format!("Error creating: pods \"{pod}\" is forbidden: exceeded quota: q, limited: pods=0")
}

fn refused(note: Option<String>, pods: Vec<PodFacts>) -> TrainingRunObserved {
    TrainingRunObserved {
        dataset: Some(Reference::Ready(dataset_facts("a"))),
        job: Some(JobFacts { refused: note, created: Some(at(0)), start_time: None, ..job(&name()) }),
        pods,
        ..TrainingRunObserved::default()
    }
}

#[test]
fn a_run_whose_pod_is_refused_says_why_once_and_goes_on_by_itself() {
    let first = plan_of(&refused(Some(quota("demo-x1")), vec![]));
    let conditions = &first.status.conditions;
    check(&first.status, Reason::QuotaExceeded, &[&name(), "exceeded quota: q", "raise the ResourceQuota"]);
    assert_eq!(condition(conditions, C::Running), "False/QuotaExceeded");
    assert_eq!(condition(conditions, C::Succeeded), "Unknown/QuotaExceeded");
    assert_eq!(kstatus(conditions), "InProgress", "a quota can be raised");
    let warnings = |plan: &vitrine_plan::Plan<TrainingRunStatus>| {
        plan.events.iter().filter(|e| e.type_ == vitrine_plan::EventType::Warning).count()
    };
    assert_eq!((first.events.len(), warnings(&first)), (1, 1));
    let mut object = run(&with_limit());
    object.status = Some(first.status.clone());
    let again = training_run::plan(&object, &refused(Some(quota("demo-x2")), vec![]), &policy(), &at(200));
    assert_eq!(again.status, first.status, "the name of the next try writes nothing");
    assert!(again.events.is_empty());
    let seen = refused(None, vec![pod("demo-x3", "Running")]);
    let runs = training_run::plan(&object, &seen, &policy(), &at(300)).status;
    assert_eq!(condition(&runs.conditions, C::Running), "True/Training");
}

#[test]
fn a_job_without_a_pod_is_looked_at_ever_more_rarely() {
    let wait = |second| {
        let plan = training_run::plan(&run(&with_limit()), &refused(None, vec![]), &policy(), &at(second));
        plan.requeue
    };
    let after = |seconds| Requeue::After(std::time::Duration::from_secs(seconds));
    assert_eq!((wait(0), wait(60), wait(6000)), (after(5), after(60), after(300)));
}

#[test]
fn a_pod_that_is_gone_with_its_time_is_remembered() {
    let mut object = run(&with_limit());
    object.status = Some(plan_of(&refused(Some(quota("demo-x1")), vec![])).status);
    let late = TrainingRunObserved { job: Some(failed_job("DeadlineExceeded", 60)), ..refused(None, vec![]) };
    let status = training_run::plan(&object, &late, &policy(), &at(61)).status;
    check(&status, Reason::DeadlineExceeded, &["within 60 seconds", "exceeded quota: q"]);
    assert_eq!(kstatus(&status.conditions), "Failed");
}

#[test]
fn a_pass_between_the_end_of_the_pod_and_the_end_of_the_job_forgets_nothing() {
    let mut object = run(&with_limit());
    let stuck =
        PodFacts { unschedulable: Some("0/1 nodes are available".into()), ..pod("demo-1", "Pending") };
    object.status = Some(plan_of(&refused(None, vec![stuck])).status);
    let between = training_run::plan(&object, &refused(None, vec![]), &policy(), &at(60)).status;
    assert_eq!(Some(&between), object.status.as_ref(), "nothing is known that was not known before");
    object.status = Some(between);
    let late = TrainingRunObserved { job: Some(failed_job("DeadlineExceeded", 60)), ..refused(None, vec![]) };
    let status = training_run::plan(&object, &late, &policy(), &at(61)).status;
    check(&status, Reason::DeadlineExceeded, &["within 60 seconds", "no node can take pod demo-1"]);
    // a pod that only waits has nothing to tell any more
    let waits =
        training_run::plan(&object, &refused(None, vec![pod("demo-2", "Pending")]), &policy(), &at(59));
    assert_eq!(condition(&waits.status.conditions, C::Running), "False/Queued");
}

#[test]
fn what_a_run_got_over_is_not_why_its_time_ran_out() {
    let mut object = run(&with_limit());
    object.status = Some(plan_of(&refused(Some(quota("demo-x1")), vec![])).status);
    let runs = refused(None, vec![pod("demo-x2", "Running")]);
    object.status = Some(training_run::plan(&object, &runs, &policy(), &at(50)).status);
    let late = TrainingRunObserved { job: Some(failed_job("DeadlineExceeded", 60)), ..runs };
    let failure = training_run::plan(&object, &late, &policy(), &at(61)).status.last_failure.unwrap();
    assert!(!failure.message.contains("quota"), "{}", failure.message);
}

#[test]
fn an_evicted_pod_that_still_passes_its_probe_is_told() {
    let evicted = PodFacts {
        disrupted: Some(("EvictionByEvictionAPI".into(), "Eviction API: evicting".into())),
        ..pod("demo-1", "Running")
    };
    check(&active(vec![evicted]), Reason::Evicted, &["pod demo-1", "not counted"]);
}

#[test]
fn a_volume_that_cannot_be_mounted_is_named() {
    let note = "MountVolume.SetUp failed for volume \"tokens\" : secret \"tokens\" not found";
    let hangs = PodFacts { unmounted: Some(note.into()), ..pod("demo-1", "Pending") };
    let status = active(vec![hangs]);
    check(
        &status,
        Reason::MountFailed,
        &["pod demo-1", "secret \"tokens\" not found", "create what is missing"],
    );
    assert_eq!(condition(&status.conditions, C::Running), "False/MountFailed");
    assert_eq!(kstatus(&status.conditions), "InProgress");
}
