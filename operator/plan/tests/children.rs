//! The children of each kind, whole, from minimal objects; and what every pod must be.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{
    DATASET, RUN, S3, SERVE, at, dataset, dataset_facts, digest, issuer, policy, run, serve, version,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{PodSpec, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use vitrine_contract::job::{Candidate, CharFeatures, Image, JobConfig, Remote, Task};
use vitrine_contract::serve::ServeConfig;
use vitrine_plan::{
    Child, DatasetObserved, ModelDeploymentObserved, Reference, TrainingRunObserved, dataset, diff,
    model_deployment, training_run,
};

fn ingest_children(spec: &str, seen: &DatasetObserved) -> Vec<Child> {
    dataset::plan(&dataset(spec), seen, &policy(), &at(0)).apply
}

fn train_children(spec: &str) -> Vec<Child> {
    let dataset = Some(Reference::Ready(dataset_facts("a")));
    let seen = TrainingRunObserved { dataset, ..TrainingRunObserved::default() };
    training_run::plan(&run(spec), &seen, &policy(), &at(0)).apply
}

fn serve_children(spec: &str) -> Vec<Child> {
    let seen =
        ModelDeploymentObserved { stable: Some(version(3, "m", 0.8)), ..ModelDeploymentObserved::default() };
    model_deployment::plan(&serve(spec), &seen, &policy(), &at(0)).apply
}

fn json(child: &Child) -> serde_json::Value {
    match child {
        Child::ConfigMap(c) => diff::to_json(c),
        Child::CreateJob(j) => diff::to_json(j),
        Child::Deployment(d) => diff::to_json(d),
        Child::Service(s) => diff::to_json(s),
        Child::Autoscaler(a) => diff::to_json(a),
        Child::SuspendJob { .. } | Child::SetJobTtl { .. } | Child::ScaleDeployment { .. } => {
            panic!("not a whole object: {child:?}")
        }
    }
}

fn config(children: &[Child]) -> JobConfig {
    let Child::ConfigMap(map) = &children[0] else { panic!("the config is written first: {children:?}") };
    serde_json::from_str(&map.data.as_ref().unwrap()["config.json"]).unwrap()
}

fn pod_of(child: &Child) -> Option<PodSpec> {
    match child {
        Child::CreateJob(job) => job.spec.clone().unwrap().template.spec,
        Child::Deployment(d) => d.spec.clone().unwrap().template.spec,
        _ => None,
    }
}

#[test]
fn a_minimal_dataset_makes_this_config_and_this_job() {
    let children: Vec<_> = ingest_children(DATASET, &DatasetObserved::default()).iter().map(json).collect();
    insta::assert_yaml_snapshot!("dataset_children", children);
}

#[test]
fn pictures_and_their_archive_reach_the_config() {
    let spec = DATASET.replace("files:", "images: {archive: images.zip}, files:");
    let spec = spec.replace("label:", "image: {pathTemplate: \"{imageid}.jpg\"}, label:");
    let Task::Ingest(task) = config(&ingest_children(&spec, &DatasetObserved::default())).task else {
        panic!("a Dataset is ingested")
    };
    let archive = Some("images.zip".to_owned());
    assert_eq!(task.image, Some(Image { path_template: "{imageid}.jpg".into(), optional: true, archive }));
}

#[test]
fn a_dataset_of_a_bucket_names_its_secret_in_the_config_and_mounts_it() {
    let children = ingest_children(S3, &DatasetObserved::default());
    let Task::Ingest(task) = config(&children).task else { panic!("{children:?}") };
    let Some(Remote::S3(told)) = task.remote else { panic!("{task:?}") };
    assert_eq!((told.bucket.as_str(), told.secret.as_deref()), ("rakuten", Some("keys")));
    let volumes = pod_of(&children[1]).unwrap().volumes.unwrap();
    let names: Vec<_> = volumes.iter().filter_map(|v| v.secret.as_ref()?.secret_name.as_deref()).collect();
    assert_eq!(names, ["keys"]);
    assert!(volumes.iter().all(|v| v.persistent_volume_claim.is_none()));
}

#[test]
fn a_minimal_training_run_makes_this_config_and_this_job() {
    // the search is written out: its defaults are not the matter of this test
    let text = "{weighting: TfIdf, stopWords: None, stripAccents: true, sublinearTf: true, word: {ngramRange: [1, 2], maxFeatures: 1000, minDf: 2, maxDf: 0.9}}";
    let search = format!(
        "{{features: [{{text: {text}}}], candidates: [{{linearSvm: {{c: [1]}}}}], objective: {{metric: F1Weighted}}, crossValidation: {{folds: 3}}}}"
    );
    let spec = format!("{RUN}\nseed: 42\nsearch: {search}");
    let children: Vec<_> = train_children(&spec).iter().map(json).collect();
    insta::assert_yaml_snapshot!("training_run_children", children);
}

#[test]
fn a_minimal_model_deployment_makes_this_config_deployment_and_service() {
    let children: Vec<_> = serve_children(SERVE).iter().map(json).collect();
    insta::assert_yaml_snapshot!("model_deployment_children", children);
}

#[test]
fn every_pod_fits_pod_security_restricted_and_holds_no_api_token() {
    let ingest = |spec| ingest_children(spec, &DatasetObserved::default());
    let all = [ingest(DATASET), ingest(S3), train_children(RUN), serve_children(SERVE)];
    let pods: Vec<PodSpec> = all.iter().flatten().filter_map(pod_of).collect();
    assert_eq!(pods.len(), 4);
    for pod in pods {
        assert_eq!(pod.automount_service_account_token, Some(false));
        assert_eq!(pod.host_network.or(pod.host_pid).or(pod.host_ipc), None);
        let security = pod.security_context.unwrap();
        assert_eq!(security.run_as_non_root, Some(true));
        assert!(security.run_as_user.unwrap() > 0);
        assert_eq!(security.seccomp_profile.unwrap().type_, "RuntimeDefault");
        let allowed = |v: &k8s_openapi::api::core::v1::Volume| {
            v.config_map.is_some()
                || v.empty_dir.is_some()
                || v.projected.is_some()
                || v.persistent_volume_claim.is_some()
                || v.secret.is_some()
        };
        assert!(pod.volumes.unwrap().iter().all(allowed));
        assert_eq!((pod.containers.len(), pod.init_containers), (1, None));
        for container in pod.containers {
            let security = container.security_context.unwrap();
            assert_eq!(security.allow_privilege_escalation, Some(false));
            assert_eq!(security.privileged, None);
            assert_eq!(security.read_only_root_filesystem, Some(true));
            let capabilities = security.capabilities.unwrap();
            assert_eq!((capabilities.drop, capabilities.add), (Some(vec!["ALL".to_owned()]), None));
            assert!(container.resources.unwrap().limits.unwrap().contains_key("memory"));
            assert!(
                container.env.is_none() && container.ports.iter().flatten().all(|p| p.host_port.is_none())
            );
        }
    }
}

#[test]
fn siblings_find_each_other_on_a_port_of_their_own_with_a_token_that_opens_nothing_else() {
    let children = serve_children(SERVE);
    let [
        Child::Service(public),
        Child::ConfigMap(config),
        Child::Service(siblings),
        Child::Deployment(deployment),
    ] = children.as_slice()
    else {
        panic!("{children:#?}")
    };
    let config: ServeConfig = serde_json::from_str(&config.data.as_ref().unwrap()["config.json"]).unwrap();
    let said = config.siblings.unwrap();
    let name = siblings.metadata.name.as_deref().unwrap();
    assert_eq!(said.url, format!("http://{name}.shop.svc:8081"));
    assert_eq!((said.namespace.as_str(), said.issuer), ("shop", issuer("one")));
    let of = |service: &Service| {
        let spec = service.spec.clone().unwrap();
        // only pods that are ready: they have the model
        assert_eq!(spec.publish_not_ready_addresses, None);
        let target = spec.ports.unwrap().pop().unwrap().target_port.unwrap();
        (spec.selector.unwrap(), target, spec.type_.unwrap())
    };
    let ((mine, port, kind), (traffic, other, _)) = (of(siblings), of(public));
    assert_eq!((mine, kind.as_str()), (traffic, "ClusterIP"));
    assert_eq!((port, other), (IntOrString::String("siblings".into()), IntOrString::String("http".into())));
    let pod = deployment.spec.clone().unwrap().template.spec.unwrap();
    let ports: Vec<_> = pod.containers[0].ports.iter().flatten().map(|p| p.container_port).collect();
    assert_eq!(ports, [8080, 8081]);
    let token = pod.volumes.unwrap().into_iter().find(|v| v.name == "token").unwrap();
    let audiences: Vec<_> = token
        .projected
        .unwrap()
        .sources
        .into_iter()
        .flatten()
        .filter_map(|s| s.service_account_token?.audience)
        .collect();
    assert_eq!(audiences, ["vitrine", "vitrine-sibling"]);
    // nobody else gets one
    let job = train_children(RUN).iter().find_map(pod_of).unwrap();
    let token = job.volumes.unwrap().into_iter().find(|v| v.name == "token").unwrap();
    assert_eq!(token.projected.unwrap().sources.unwrap().len(), 1);
}

#[test]
fn the_longest_name_still_makes_a_service_for_siblings() {
    let mut object = serve(SERVE);
    object.metadata.name = Some("a".repeat(52));
    let seen =
        ModelDeploymentObserved { stable: Some(version(3, "m", 0.8)), ..ModelDeploymentObserved::default() };
    let children = model_deployment::plan(&object, &seen, &policy(), &at(0)).apply;
    let Child::Service(siblings) = &children[2] else { panic!("{children:#?}") };
    // a Service's name is a DNS label
    assert_eq!(siblings.metadata.name.as_deref().unwrap().len(), 63);
}

#[test]
fn placement_and_resources_reach_the_pod_as_written() {
    let placed = format!(
        "{SERVE}
resources: {{limits: {{nvidia.com/gpu: 1, memory: 4Gi}}}}
nodeSelector: {{disk: ssd}}
tolerations: [{{key: gpu, operator: Exists}}]
runtimeClassName: nvidia
priorityClassName: high
serviceAccountName: servers"
    );
    let pod = serve_children(&placed).iter().find_map(pod_of).unwrap();
    let limits = pod.containers[0].resources.clone().unwrap().limits.unwrap();
    assert_eq!((limits["nvidia.com/gpu"].0.as_str(), limits["memory"].0.as_str()), ("1", "4Gi"));
    assert_eq!(pod.node_selector.unwrap()["disk"], "ssd");
    assert_eq!(pod.tolerations.unwrap()[0].key.as_deref(), Some("gpu"));
    assert_eq!(pod.runtime_class_name.as_deref(), Some("nvidia"));
    assert_eq!(pod.priority_class_name.as_deref(), Some("high"));
    assert_eq!(pod.service_account_name.as_deref(), Some("servers"));
}

/// The apiserver copies `serviceAccountName` into the deprecated `serviceAccount`, which nobody owns,
/// and fills a name that is no longer applied from there.
#[test]
fn a_serving_pod_always_names_its_account() {
    let pod = serve_children(SERVE).iter().find_map(pod_of).unwrap();
    assert_eq!(pod.service_account_name.as_deref(), Some("default"));
}

#[test]
fn what_the_user_did_not_ask_for_is_absent() {
    let job = train_children(RUN).into_iter().find_map(|c| pod_of(&c)).unwrap();
    assert!(job.node_selector.is_none() && job.tolerations.is_none() && job.image_pull_secrets.is_none());
    assert!(job.runtime_class_name.is_none() && job.priority_class_name.is_none());
    assert!(job.service_account_name.is_none());
    let Child::CreateJob(job) = &train_children(RUN)[1] else { panic!() };
    let spec = job.spec.as_ref().unwrap();
    // a Job is let go only once its result was taken, and Kueue alone decides about a queued one
    assert_eq!((spec.ttl_seconds_after_finished, spec.suspend), (None, None));
}

#[test]
fn a_queue_of_the_run_is_the_queue_of_its_job() {
    let mut object = run(RUN);
    object.metadata.labels = Some([("kueue.x-k8s.io/queue-name".to_owned(), "night".to_owned())].into());
    let dataset = Some(Reference::Ready(dataset_facts("a")));
    let seen = TrainingRunObserved { dataset, ..TrainingRunObserved::default() };
    let children = training_run::plan(&object, &seen, &policy(), &at(0)).apply;
    let Child::CreateJob(job) = &children[1] else { panic!() };
    assert_eq!(job.metadata.labels.as_ref().unwrap()["kueue.x-k8s.io/queue-name"], "night");
}

#[test]
fn the_whole_spec_of_a_dataset_reaches_the_ingest_pod() {
    let spec = "
source: {pvc: {claimName: data}, files: {features: t.csv}}
schema: {id: pid, text: [a, b], label: y, labelNames: {configMapRef: {name: categories}}}
sample: {fraction: 0.2, seed: 7}
split: {seed: 9, fractions: {train: 0.9, validation: 0.1, test: 0.0}, groupBy: pid, test: {datasetRef: {name: fixed}}}";
    let seen = DatasetObserved {
        test_dataset: Some(Reference::Ready(dataset_facts("fixed"))),
        label_names: Some(true),
        ..DatasetObserved::default()
    };
    let children = ingest_children(spec, &seen);
    let Task::Ingest(task) = config(&children).task else { panic!() };
    assert_eq!((task.path.as_str(), task.features.as_str(), task.labels), ("", "t.csv", None));
    assert_eq!((task.id.as_deref(), task.label.as_deref(), task.label_names), (Some("pid"), Some("y"), true));
    assert_eq!(task.text, ["a", "b"]);
    let sample = task.sample.unwrap();
    assert_eq!((sample.fraction.to_bits(), sample.seed), (0.2_f64.to_bits(), 7));
    let fixed = dataset_facts("fixed").snapshot_digest;
    assert_eq!((task.split.seed, task.split.group_by.as_str()), (9, "pid"));
    assert_eq!(task.split.fixed_test.as_deref(), Some(fixed.as_str()));
    let Child::CreateJob(job) = &children[1] else { panic!() };
    assert_eq!(job.metadata.annotations.as_ref().unwrap()["vitrine.dev/reads"], fixed);
    let pod = pod_of(&children[1]).unwrap();
    let labels = pod.volumes.unwrap().into_iter().find(|v| v.name == "labels").unwrap();
    assert_eq!(labels.config_map.unwrap().name, "categories");
}

#[test]
fn the_whole_search_reaches_the_training_pod() {
    let spec = "
datasetRef: {name: shoes}
seed: 11
search:
  features:
    - {text: {weighting: Count, stopWords: French, stripAccents: false, sublinearTf: false, word: {ngramRange: [2, 3], maxFeatures: 10, minDf: 2, maxDf: 0.5}}}
    - {text: {stemming: German, char: {ngramRange: [3, 6], maxFeatures: 77, minDf: 5, maxDf: 0.25, weight: 0.5}}}
  candidates:
    - {logisticRegression: {c: [1, 2.5]}}
    - {linearSvm: {c: [0.1]}}
    - {complementNaiveBayes: {alpha: [0.3, 1]}}
    - {randomForest: {trees: [7, 8], maxDepth: [2, 3]}}
    - {gradientBoosting: {rounds: [4], maxDepth: [1, 2], learningRate: [0.5, 1]}}
  objective: {metric: Accuracy}
  crossValidation: {folds: 5}
output: {model: m}";
    let config = config(&train_children(spec));
    assert_eq!(config.version, 2, "an older trainer would leave out stems and characters");
    let Task::Train(task) = config.task else { panic!() };
    assert_eq!((task.seed, task.folds, task.objective.as_str()), (11, 5, "Accuracy"));
    assert_eq!(task.candidates[0], Candidate::LogisticRegression { c: vec![1.0, 2.5] });
    assert_eq!(task.candidates[1], Candidate::LinearSvm { c: vec![0.1] });
    assert_eq!(task.candidates[2], Candidate::ComplementNaiveBayes { alpha: vec![0.3, 1.0] });
    assert_eq!(task.candidates[3], Candidate::RandomForest { trees: vec![7, 8], max_depth: vec![2, 3] });
    let (rounds, max_depth, learning_rate) = (vec![4], vec![1, 2], vec![0.5, 1.0]);
    assert_eq!(task.candidates[4], Candidate::GradientBoosting { rounds, max_depth, learning_rate });
    assert_eq!(task.features[1].stemming.as_deref(), Some("German"));
    let expected =
        CharFeatures { ngram_min: 3, ngram_max: 6, max_features: 77, min_df: 5, max_df: 0.25, weight: 0.5 };
    assert_eq!(task.features[1].chars, Some(expected));
    assert_eq!((&task.features[0].stemming, &task.features[0].chars), (&None, &None));
    let text = &task.features[0];
    assert_eq!((text.weighting.as_str(), text.stop_words.as_str()), ("Count", "French"));
    assert_eq!((text.ngram_min, text.ngram_max, text.max_features, text.min_df), (2, 3, 10, 2));
    assert_eq!(text.max_df.to_bits(), 0.5_f64.to_bits());
    assert!(!text.strip_accents && !text.sublinear_tf);
    assert_eq!(task.dataset_digest, dataset_facts("a").digest);
    assert_eq!(task.snapshot_digest, dataset_facts("a").snapshot_digest);
}

#[test]
fn the_pods_of_a_job_may_read_their_snapshot_and_a_server_its_model_only() {
    let train = train_children(RUN);
    let Child::CreateJob(job) = &train[1] else { panic!() };
    let facts = dataset_facts("a");
    let reads = &job.metadata.annotations.as_ref().unwrap()["vitrine.dev/reads"];
    assert_eq!(*reads, format!("{},{}", facts.digest, facts.snapshot_digest));
    let serve = serve_children(SERVE);
    let Child::Deployment(deployment) = &serve[3] else { panic!() };
    assert_eq!(deployment.metadata.annotations.as_ref().unwrap()["vitrine.dev/reads"], digest("m-model"));
}

const AUTOSCALED: &str = "
autoscaling:
  minReplicas: 2
  maxReplicas: 6
  metrics:
    - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 70}}}
    - {type: Resource, resource: {name: memory, target: {type: AverageValue, averageValue: 200Mi}}}
  behavior:
    scaleUp: {}
    scaleDown: {stabilizationWindowSeconds: 60, selectPolicy: Min, policies: [{type: Pods, value: 1, periodSeconds: 30}]}";

fn deployment_of(children: &[Child]) -> &Deployment {
    let found = children.iter().find_map(|c| if let Child::Deployment(d) = c { Some(&**d) } else { None });
    found.unwrap()
}

#[test]
fn the_whole_autoscaling_reaches_kubernetes_after_the_service() {
    let children = serve_children(&format!("{SERVE}{AUTOSCALED}"));
    assert!(matches!(children[0], Child::Service(_)));
    let autoscaler = json(children.last().unwrap());
    assert_eq!(autoscaler["metadata"]["name"], "shop");
    assert_eq!(autoscaler["metadata"]["ownerReferences"][0]["uid"], "uid-shop");
    let spec = &autoscaler["spec"];
    let deployment = deployment_of(&children);
    assert_eq!(spec["scaleTargetRef"]["kind"], "Deployment");
    assert_eq!(spec["scaleTargetRef"]["name"], *deployment.metadata.name.as_ref().unwrap());
    assert_eq!((&spec["minReplicas"], &spec["maxReplicas"]), (&2.into(), &6.into()));
    assert_eq!(
        spec["metrics"],
        serde_json::json!([
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}},
            {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "200Mi"}}},
        ])
    );
    // what is left open is absent: the API fills it in, and that is no drift
    assert_eq!(
        spec["behavior"],
        serde_json::json!({"scaleDown": {"stabilizationWindowSeconds": 60, "selectPolicy": "Min",
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 30}]}})
    );
    let short = serve_children(&format!("{SERVE}\nautoscaling: {{maxReplicas: 3}}"));
    let spec = &json(short.last().unwrap())["spec"];
    assert_eq!(spec["minReplicas"], 1);
    assert_eq!(spec["metrics"][0]["resource"]["target"]["averageUtilization"], 80);
    assert!(spec.get("behavior").is_none(), "{spec}");
}

#[test]
fn what_a_user_asks_of_the_pods_has_the_same_hash_in_every_version_of_the_operator() {
    let children = serve_children(SERVE);
    let deployment = deployment_of(&children);
    let kept = &deployment.metadata.annotations.as_ref().unwrap()["vitrine.dev/pods"];
    // another hash here means that an upgrade restarts every serving pod
    let asked = "bdb94cd58dd1f5f82578355b19ef064f26d9f708ea9f95929f65cf50dc82a72f";
    assert!(kept.contains(asked), "{kept}");
}
