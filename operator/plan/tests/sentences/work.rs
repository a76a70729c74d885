//! Situations of Datasets and TrainingRuns.

use vitrine_contract::report::{Failure, Message, Outcome, Progress};
use vitrine_plan::{
    DatasetObserved, JobEnd, JobFacts, PodFacts, Reference, RevisionFacts, TrainingRunObserved, attempt,
    dataset, training_run,
};

use crate::book::Book;
use crate::common::*;

/// A Dataset that was seen so.
pub fn dataset_seen(book: &mut Book, spec: &str, seen: &DatasetObserved) {
    let plan = dataset::plan(&dataset(spec), seen, &policy(), &at(100));
    book.note("Dataset", &plan.status.conditions, plan.status.last_failure.as_ref(), &plan.events);
}

/// A run that was seen so.
pub fn run_seen(book: &mut Book, spec: &str, seen: &TrainingRunObserved) {
    run_with(book, &run(spec), seen);
}

fn run_with(book: &mut Book, object: &vitrine_crds::TrainingRun, seen: &TrainingRunObserved) {
    let plan = training_run::plan(object, seen, &policy(), &at(100));
    book.note("TrainingRun", &plan.status.conditions, plan.status.last_failure.as_ref(), &plan.events);
}

fn dataset_job() -> JobFacts {
    job(&attempt::of_dataset(&dataset(DATASET), None).unwrap().job_name)
}

fn run_job() -> JobFacts {
    job(&attempt::of_training_run(&run(RUN)).job_name)
}

fn with_pods(pods: Vec<PodFacts>) -> DatasetObserved {
    DatasetObserved { job: Some(dataset_job()), pods, ..DatasetObserved::default() }
}

fn known() -> TrainingRunObserved {
    let dataset = Some(Reference::Ready(dataset_facts("a")));
    TrainingRunObserved { dataset, ..TrainingRunObserved::default() }
}

fn run_pods(pods: Vec<PodFacts>) -> TrainingRunObserved {
    TrainingRunObserved { job: Some(run_job()), pods, ..known() }
}

fn failed(job: JobFacts, reason: &str) -> JobFacts {
    let message = "Job has reached the specified backoff limit".to_owned();
    JobFacts { end: Some(JobEnd::Failed { reason: reason.into(), message, at: Some(at(1)) }), ..job }
}

fn complete(job: JobFacts) -> JobFacts {
    JobFacts { end: Some(JobEnd::Complete { at: Some(at(1)) }), ..job }
}

fn posted(reason: &str, message: &str) -> String {
    let failure = Failure { reason: reason.into(), message: message.into() };
    serde_json::to_string(&Message::new(Outcome::Failed(failure))).unwrap()
}

/// The life of a Dataset.
pub fn datasets(book: &mut Book) {
    let empty = DatasetObserved::default;
    dataset_seen(book, DATASET, &empty());
    let unnamed = DATASET.replace("text: [designation, description]", "text: []");
    dataset_seen(book, &unnamed, &empty());
    let foreign = JobFacts { owned: false, ..dataset_job() };
    dataset_seen(book, DATASET, &DatasetObserved { job: Some(foreign), ..empty() });
    let labels =
        DATASET.replace("label: prdtypecode", "label: y, labelNames: {configMapRef: {name: categories}}");
    dataset_seen(book, &labels, &DatasetObserved { label_names: Some(false), ..empty() });
    let fixed = format!(
        "{DATASET}\nsplit: {{fractions: {{train: 0.9, validation: 0.1, test: 0.0}}, test: {{datasetRef: {{name: fixed}}}}}}"
    );
    let without = Some(Reference::Missing);
    dataset_seen(book, &fixed, &DatasetObserved { test_dataset: without, ..empty() });
    let unready = Some(Reference::NotReady("Dataset fixed is not ready: it was not visited yet".into()));
    dataset_seen(book, &fixed, &DatasetObserved { test_dataset: unready, ..empty() });
    dataset_seen(book, DATASET, &with_pods(vec![]));
    let held = JobFacts { suspended: true, ..dataset_job() };
    dataset_seen(book, DATASET, &DatasetObserved { job: Some(held), ..empty() });
    let progress = Some(Progress { percentage: 40, step: "reading X.csv".into(), ..Progress::default() });
    dataset_seen(book, DATASET, &DatasetObserved { progress, ..with_pods(vec![pod("shoes-1", "Running")]) });
    dataset_seen(book, DATASET, &with_pods(vec![pod("shoes-1", "Succeeded")]));
    let lost = ended("shoes-1", 75, "Error", &posted("GatewayUnavailable", "no answer within 300 s"));
    dataset_seen(book, DATASET, &with_pods(vec![lost]));
    let revision = |key: String| {
        Some(RevisionFacts { revision: 1, attempt_key: key, report: ingested("a"), recorded_at: Some(at(9)) })
    };
    let ready = DatasetObserved { revision: revision(attempt::dataset_key(1, None)), ..empty() };
    dataset_seen(book, DATASET, &ready);
    let mut overlapping = ready.clone();
    overlapping.revision.as_mut().unwrap().report.overlap_rows = Some(6);
    dataset_seen(book, DATASET, &overlapping);
    let newer = DatasetObserved { revision: revision("0/".into()), ..with_pods(vec![]) };
    dataset_seen(book, DATASET, &newer);
    for (word, code, text) in [
        ("SourceNotFound", 65, "source file X.csv does not exist; there are \"x.csv\""),
        ("DataCorrupt", 65, "X.csv line 4711: a quoted cell is never closed"),
        (
            "StorageFull",
            73,
            "storing the snapshot: the volume of artifacts is full while writing: enlarge the volume",
        ),
    ] {
        let pods = vec![ended("shoes-1", code, "Error", &posted(word, text))];
        let seen =
            DatasetObserved { job: Some(failed(dataset_job(), "PodFailurePolicy")), ..with_pods(pods) };
        dataset_seen(book, DATASET, &seen);
    }
    let late = DatasetObserved { job: Some(failed(dataset_job(), "DeadlineExceeded")), ..empty() };
    dataset_seen(book, DATASET, &late);
    for message in
        ["persistentvolumeclaim \"data\" not found", "pod has unbound immediate PersistentVolumeClaims"]
    {
        let waits = PodFacts { unschedulable: Some(message.into()), ..pod("shoes-1", "Pending") };
        dataset_seen(book, DATASET, &with_pods(vec![waits]));
    }
    let note = "MountVolume.SetUp failed for volume \"labels\" : configmap \"categories\" not found";
    let unmounted = PodFacts { unmounted: Some(note.into()), ..pod("shoes-1", "Pending") };
    dataset_seen(book, DATASET, &with_pods(vec![unmounted]));
    fetched(book);
}

/// A Dataset whose files are fetched.
fn fetched(book: &mut Book) {
    let job = || job(&attempt::of_dataset(&dataset(S3), None).unwrap().job_name);
    let seen = |job, pods| DatasetObserved { job: Some(job), pods, ..DatasetObserved::default() };
    let unmounted = PodFacts { unmounted: Some(NO_SECRET.into()), ..pod("shoes-1", "Pending") };
    dataset_seen(book, S3, &seen(job(), vec![unmounted]));
    for (word, code, text) in [
        (
            "SourceDenied",
            77,
            "s3://rakuten/train/X.csv at http://minio:9000 was refused (403 AccessDenied): check the keys in Secret keys",
        ),
        (
            "SourceUnavailable",
            75,
            "reading s3://rakuten/train/X.csv: http://minio:9000 gave no answer within 300 s",
        ),
        ("InvalidSpec", 78, "source.s3: bucket and endpoint make no address; set pathStyle: true"),
    ] {
        let pods = vec![ended("shoes-1", code, "Error", &posted(word, text))];
        dataset_seen(book, S3, &seen(failed(job(), "PodFailurePolicy"), pods));
    }
}

/// The life of a TrainingRun.
pub fn runs(book: &mut Book) {
    let suspended = format!("{RUN}\nsuspend: true");
    run_seen(book, RUN, &TrainingRunObserved { dataset: Some(Reference::Missing), ..known() });
    let why = "Dataset shoes is not ready: it was not visited yet".to_owned();
    run_seen(book, RUN, &TrainingRunObserved { dataset: Some(Reference::NotReady(why)), ..known() });
    run_seen(book, &suspended, &known());
    run_seen(book, &suspended, &run_pods(vec![]));
    run_seen(book, RUN, &known());
    run_seen(
        book,
        RUN,
        &TrainingRunObserved { job: Some(JobFacts { owned: false, ..run_job() }), ..known() },
    );
    run_seen(book, RUN, &run_pods(vec![]));
    let held = JobFacts { suspended: true, ..run_job() };
    run_seen(book, RUN, &TrainingRunObserved { job: Some(held), ..known() });
    run_seen(book, RUN, &run_pods(vec![pod("demo-1", "Running")]));
    run_seen(book, RUN, &run_pods(vec![pod("demo-1", "Succeeded")]));
    let done = TrainingRunObserved { job: Some(complete(run_job())), ..known() };
    let result = Some(Outcome::Trained(trained("m", 0.9)));
    run_seen(book, RUN, &TrainingRunObserved { result, ..done.clone() });
    let mut broken = trained("m", 0.9);
    broken.model.digest = "sha256:../../etc".into();
    run_seen(book, RUN, &TrainingRunObserved { result: Some(Outcome::Trained(broken)), ..done.clone() });
    run_seen(book, RUN, &done);
    run_seen(book, RUN, &TrainingRunObserved { version: Some(version(4, "m", 0.8)), ..known() });
    let set = TrainingRunObserved { version: Some(version(4, "m", 0.8)), alias_version: Some(4), ..known() };
    run_seen(book, RUN, &set);
    run_seen(book, RUN, &TrainingRunObserved { version: Some(version(4, "m", 0.5)), ..known() });
    // the same inputs: first they are pinned, then the version is taken over
    let same =
        TrainingRunObserved { reusable: vec![version(4, "m", 0.8)], alias_version: Some(4), ..known() };
    let mut object = run(RUN);
    run_with(book, &object, &same);
    object.status = Some(training_run::plan(&object, &same, &policy(), &at(90)).status);
    run_with(book, &object, &same);
}

/// Why work fails or does not begin, told of a TrainingRun; a Dataset says the same in its own name.
pub fn causes(book: &mut Book) {
    let spec = format!("{RUN}\nresources: {{limits: {{memory: 512Mi}}}}\nactiveDeadlineSeconds: 60");
    let stuck = |unschedulable: Option<&str>, waiting: Option<(&str, &str)>| PodFacts {
        unschedulable: unschedulable.map(str::to_owned),
        waiting: waiting.map(|(word, message)| (word.to_owned(), message.to_owned())),
        ..pod("demo-1", "Pending")
    };
    for waits in [
        stuck(Some("0/1 nodes are available: 1 Insufficient nvidia.com/gpu."), None),
        stuck(None, Some(("ImagePullBackOff", "Back-off pulling image \"images.test/trainer:1\""))),
        stuck(None, Some(("CreateContainerConfigError", "secret \"tokens\" not found"))),
        stuck(None, Some(("CreateContainerConfigError", "couldn't find key token in Secret shop/tokens"))),
    ] {
        run_seen(book, &spec, &run_pods(vec![waits]));
    }
    for note in REFUSED {
        let refused = JobFacts { refused: Some(format!("Error creating: {note}")), ..run_job() };
        run_seen(book, &spec, &TrainingRunObserved { job: Some(refused), ..known() });
    }
    let disrupted = Some(("EvictionByEvictionAPI".into(), "Eviction API: evicting".into()));
    run_seen(book, &spec, &run_pods(vec![PodFacts { disrupted, ..pod("demo-1", "Running") }]));
    let over =
        |reason: &str, pods| TrainingRunObserved { job: Some(failed(run_job(), reason)), ..run_pods(pods) };
    for end in [
        ended("demo-1", 137, "OOMKilled", ""),
        ended("demo-1", 101, "Error", "thread 'main' panicked"),
        ended("demo-1", 1, "Error", ""),
    ] {
        run_seen(book, &spec, &over("BackoffLimitExceeded", vec![end]));
    }
    run_seen(book, &spec, &over("BackoffLimitExceeded", vec![]));
    for (word, code, text) in [
        ("InvalidHyperparameter", 78, "c of linearSvm is 1e-320: it must be above 1e-300"),
        ("NonFinite", 78, "logisticRegression c=1e6: a weight became infinite; try a smaller c"),
        ("StorageDenied", 77, "the gateway refused the token of pod demo-1"),
        ("GatewayUnavailable", 75, "https://gateway.vitrine-system.svc:8443 gave no answer within 300 s"),
        ("DigestMismatch", 79, "the snapshot has digest sha256:01 and not sha256:02"),
    ] {
        let pods = vec![ended("demo-1", code, "Error", &posted(word, text))];
        run_seen(book, &spec, &over("PodFailurePolicy", pods));
    }
    // out of time: the pod that hung is gone with the Job's end, status remembers it
    let mut object = run(&spec);
    let hangs = run_pods(vec![stuck(Some("0/1 nodes are available: 1 Insufficient memory."), None)]);
    object.status = Some(training_run::plan(&object, &hangs, &policy(), &at(50)).status);
    run_with(book, &object, &over("DeadlineExceeded", vec![]));
}

/// Why a pod is not created, as the apiserver answers the controllers.
pub const REFUSED: [&str; 7] = [
    "pods \"demo-1\" is forbidden: exceeded quota: compute, requested: limits.memory=512Mi, used: limits.memory=0, limited: limits.memory=256Mi",
    "pods \"demo-1\" is forbidden: failed quota: compute: must specify limits.cpu for: main",
    "pods \"demo-1\" is forbidden: violates PodSecurity \"restricted:latest\": runAsUser=0 (container \"main\" must not set runAsUser=0)",
    "pods \"demo-\" is forbidden: error looking up service account shop/trainer: serviceaccount \"trainer\" not found",
    "pods \"demo-\" is forbidden: no PriorityClass with name urgent was found",
    "pods \"demo-1\" is forbidden: maximum memory usage per Container is 256Mi, but limit is 512Mi",
    "pods \"demo-1\" is forbidden: ValidatingAdmissionPolicy 'no-pods' with binding 'no-pods' denied request: not today",
];
