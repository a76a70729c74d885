//! Objects from minimal YAML and facts for the tests of this room.
// clippy takes helpers of a test for production code
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use vitrine_contract::gateway::Gateway;
use vitrine_contract::report::{BestTrial, Blob, Ingested, SplitMetrics, SplitReport, Trained, Trials};
use vitrine_contract::siblings::{Issuer, Key};
use vitrine_crds::condition::{ConditionType, find};
use vitrine_crds::{Dataset, ModelDeployment, TrainingRun};
use vitrine_plan::policy::DefaultResources;
use vitrine_plan::{DatasetFacts, JobFacts, PodFacts, Policy, Terminated, VersionFacts};

pub fn at(second: i64) -> Time {
    Time(k8s_openapi::jiff::Timestamp::from_second(1_700_000_000 + second).unwrap())
}

pub fn digest(seed: &str) -> String {
    format!("sha256:{}", vitrine_plan::hash::sha256_hex(seed.as_bytes()))
}

fn amounts(cpu: &str, memory: &str) -> BTreeMap<String, Quantity> {
    [("cpu", cpu), ("memory", memory)].map(|(k, v)| (k.to_owned(), Quantity(v.to_owned()))).into()
}

pub fn policy() -> Policy {
    let resources = || DefaultResources { requests: amounts("100m", "256Mi"), limits: amounts("2", "1Gi") };
    Policy {
        trainer_image: "images.test/trainer:1".into(),
        server_image: "images.test/server:1".into(),
        image_pull_policy: "IfNotPresent".into(),
        image_pull_secrets: vec![],
        gateway: Gateway { url: "https://gateway.vitrine-system.svc:8443".into(), ca: "PEM".into() },
        ingest_resources: resources(),
        train_resources: resources(),
        serve_resources: resources(),
        drain_seconds: 10,
        max_body_bytes: 1 << 20,
        max_concurrency: 64,
        issuer: Some(issuer("one")),
    }
}

pub fn issuer(kid: &str) -> Issuer {
    let key = Key {
        kid: kid.into(),
        kty: "RSA".into(),
        n: Some("AQ".into()),
        e: Some("AQAB".into()),
        ..Key::default()
    };
    Issuer { issuer: "https://kubernetes.default.svc".into(), keys: vec![key] }
}

fn object<K: serde::de::DeserializeOwned>(kind: &str, name: &str, spec: &str) -> K {
    let spec = spec.trim_matches('\n').replace('\n', "\n  ");
    let text = format!(
        "apiVersion: vitrine.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop, uid: uid-{name}, generation: 1}}\nspec:\n  {spec}\n"
    );
    serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

pub const DATASET: &str = "
source: {pvc: {claimName: data, path: rakuten/}, files: {features: X.csv, labels: Y.csv}}
schema: {text: [designation, description], label: prdtypecode}";

pub const S3: &str = "
source: {s3: {uri: 's3://rakuten/train/', endpoint: 'http://minio:9000', secretRef: {name: keys}}, files: {features: X.csv}}
schema: {text: [designation, description], label: prdtypecode}";

/// What the kubelet says of a Secret that is not there.
pub const NO_SECRET: &str =
    "MountVolume.SetUp failed for volume \"source-secret\" : secret \"keys\" not found";

pub const RUN: &str = "
datasetRef: {name: shoes}
gate: [{metric: F1Weighted, min: 0.7}]
output: {model: rakuten}";

pub const SERVE: &str = "
model: {name: rakuten, alias: champion, candidateAlias: challenger}
replicas: 2";

pub fn dataset(spec: &str) -> Dataset {
    object("Dataset", "shoes", spec)
}

pub fn run(spec: &str) -> TrainingRun {
    object("TrainingRun", "demo", spec)
}

pub fn serve(spec: &str) -> ModelDeployment {
    object("ModelDeployment", "shop", spec)
}

fn blob(seed: &str) -> Blob {
    Blob { digest: digest(seed), bytes: 1234 }
}

pub fn ingested(seed: &str) -> Ingested {
    let split =
        |name: &str, rows| (name.to_owned(), SplitReport { rows, digest: digest(&format!("{seed}-{name}")) });
    Ingested {
        manifest: blob(&format!("{seed}-manifest")),
        snapshot: blob(&format!("{seed}-snapshot")),
        profile: blob(&format!("{seed}-profile")),
        rows: 100,
        rejected_rows: 2,
        overlap_rows: None,
        classes: 5,
        groups: 90,
        splits: [split("train", 80), split("validation", 10), split("test", 10)].into(),
        null_ratios: [("designation".to_owned(), 0.0), ("description".to_owned(), 0.351_25)].into(),
        imbalance_ratio: Some(3.5),
        mean_text_length: 120.4,
        images: None,
    }
}

pub fn trained(seed: &str, f1: f64) -> Trained {
    Trained {
        model: blob(&format!("{seed}-model")),
        report: blob(&format!("{seed}-report")),
        trials: Trials { total: 6, running: 0, succeeded: 6, failed: 0 },
        best: BestTrial {
            trial: 2,
            candidate: "linearSvm".into(),
            parameters: "c=0.3, word 1-2".into(),
            metric: "F1Weighted".into(),
            mean: 0.712_346,
            deviation: 0.01,
        },
        metrics: vec![SplitMetrics {
            split: "test".into(),
            rows: 10,
            values: [("F1Weighted".to_owned(), f1)].into(),
        }],
        wall_seconds: 12.0,
        cpu_seconds: 20.0,
        peak_memory_bytes: 1 << 28,
    }
}

pub fn dataset_facts(seed: &str) -> DatasetFacts {
    let report = ingested(seed);
    DatasetFacts {
        revision: 1,
        digest: report.manifest.digest,
        snapshot_digest: report.snapshot.digest,
        test_digest: report.splits["test"].digest.clone(),
        classes: 5,
    }
}

pub fn version(number: i64, seed: &str, f1: f64) -> VersionFacts {
    let report = trained(seed, f1);
    VersionFacts {
        model: "rakuten".into(),
        version: number,
        digest: report.model.digest.clone(),
        bytes: 1234,
        accepted: f1 >= 0.7,
        run_name: "other".into(),
        run_uid: "uid-other".into(),
        dataset_digest: dataset_facts("a").digest,
        test_digest: dataset_facts("a").test_digest,
        inputs: None,
        report,
    }
}

pub fn job(name: &str) -> JobFacts {
    JobFacts {
        name: name.into(),
        uid: format!("uid-{name}"),
        owned: true,
        start_time: Some(at(5)),
        active: 1,
        ..JobFacts::default()
    }
}

pub fn pod(name: &str, phase: &str) -> PodFacts {
    PodFacts { name: name.into(), phase: phase.into(), ready: phase == "Running", ..PodFacts::default() }
}

pub fn ended(name: &str, exit_code: i32, reason: &str, message: &str) -> PodFacts {
    PodFacts {
        terminated: Some(Terminated {
            exit_code,
            reason: reason.into(),
            message: message.into(),
            at: Some(at(20)),
        }),
        ..pod(name, if exit_code == 0 { "Succeeded" } else { "Failed" })
    }
}

/// `status/reason` of a condition, such as `True/Registered`.
pub fn condition(conditions: &[Condition], type_: ConditionType) -> String {
    let found = find(conditions, type_).unwrap_or_else(|| panic!("no condition {type_}: {conditions:#?}"));
    format!("{}/{}", found.status, found.reason)
}

/// The message of a condition.
pub fn message(conditions: &[Condition], type_: ConditionType) -> String {
    find(conditions, type_).unwrap().message.clone()
}

/// What kstatus makes of an object: the order of its checks.
pub fn kstatus(conditions: &[Condition]) -> &'static str {
    let is = |type_, status: &str| find(conditions, type_).is_some_and(|c| c.status == status);
    let reconciling = is(ConditionType::Reconciling, "True");
    let stalled = is(ConditionType::Stalled, "True");
    assert!(!(reconciling && stalled), "both Reconciling and Stalled");
    match (reconciling, stalled, is(ConditionType::Ready, "True")) {
        (true, ..) => "InProgress",
        (_, true, _) => "Failed",
        (.., true) => "Current",
        (.., false) => "InProgress",
    }
}
