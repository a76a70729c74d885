//! Situations of ModelDeployments, and faults of the operator.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use vitrine_contract::report::{Failure, Message, Outcome};
use vitrine_crds::ModelDeployment;
use vitrine_crds::condition::Reason;
use vitrine_crds::names;
use vitrine_plan::status::{Fault, Faulted};
use vitrine_plan::{Child, DeploymentFacts, ModelDeploymentObserved, PodFacts, model_deployment};

use crate::book::Book;
use crate::common::*;
use crate::work::REFUSED;

fn seen(book: &mut Book, object: &mut ModelDeployment, seen: &ModelDeploymentObserved) {
    let plan = model_deployment::plan(object, seen, &policy(), &at(100));
    book.note("ModelDeployment", &plan.status.conditions, plan.status.last_failure.as_ref(), &plan.events);
    object.status = Some(plan.status);
}

fn alone(book: &mut Book, spec: &str, observed: &ModelDeploymentObserved) {
    seen(book, &mut serve(spec), observed);
}

/// What the cluster holds once the first plan for that version was carried out.
fn rolled_out(object: &ModelDeployment, number: i64, ready: i32) -> ModelDeploymentObserved {
    let mut observed =
        ModelDeploymentObserved { stable: Some(of(number)), ..ModelDeploymentObserved::default() };
    for child in model_deployment::plan(object, &observed, &policy(), &at(1)).apply {
        match child {
            Child::ConfigMap(config) => observed.configs.push(owned_config(*config)),
            Child::Deployment(live) => observed.deployments.push(facts(*live, number, ready)),
            Child::Service(service) if service.metadata.name == object.metadata.name => {
                observed.service = Some((*service, true));
            }
            Child::Service(siblings) => observed.siblings.push(*siblings),
            Child::Autoscaler(autoscaler) => observed.autoscaler = Some((*autoscaler, true)),
            Child::ScaleDeployment { .. } => {}
            other => unreachable!("{other:?}"),
        }
    }
    observed
}

fn of(number: i64) -> vitrine_plan::VersionFacts {
    version(number, &format!("v{number}"), 0.9)
}

fn owned_config(mut config: ConfigMap) -> ConfigMap {
    config.metadata.uid = Some("config".into());
    config
}

fn facts(live: Deployment, number: i64, ready: i32) -> DeploymentFacts {
    DeploymentFacts {
        name: live.metadata.name.clone().unwrap(),
        uid: format!("d{number}"),
        owned: true,
        digest: of(number).digest,
        version: number,
        image: "images.test/server:1".into(),
        replicas: live.spec.as_ref().unwrap().replicas.unwrap_or(2),
        ready,
        updated_ready: ready,
        observed: true,
        deadline_exceeded: false,
        refused: None,
        live,
    }
}

fn pod_of(number: i64, base: PodFacts) -> PodFacts {
    let digest = of(number).digest;
    PodFacts { model_digest: Some(names::short_digest(&digest).to_owned()), ..base }
}

fn posted(reason: &str, message: &str) -> String {
    let failure = Failure { reason: reason.into(), message: message.into() };
    serde_json::to_string(&Message::new(Outcome::Failed(failure))).unwrap()
}

/// The life of a ModelDeployment.
pub fn deployments(book: &mut Book) {
    unresolved(book);
    first_version(book);
    second_version(book);
    autoscaled(book);
}

/// Pods by load: the autoscaler works, and has no numbers to work with.
fn autoscaled(book: &mut Book) {
    let spec = format!("{SERVE}\nautoscaling: {{maxReplicas: 3}}");
    let mut object = serve(&spec);
    let up = rolled_out(&object, 1, 2);
    seen(book, &mut object, &up);
    let mut told = up;
    for (status, reason, message) in [
        ("True", "ValidMetricFound", "the HPA was able to calculate a replica count"),
        ("False", "FailedGetResourceMetric", "unable to get metrics for resource cpu: no metrics returned"),
    ] {
        let (mut live, ours) = told.autoscaler.take().unwrap();
        let condition = serde_json::json!({"type": "ScalingActive", "status": status, "reason": reason, "message": message});
        let status =
            serde_json::json!({"desiredReplicas": 2, "currentReplicas": 2, "conditions": [condition]});
        live.status = Some(serde_json::from_value(status).unwrap());
        told.autoscaler = Some((live, ours));
        seen(book, &mut object.clone(), &told);
    }
}

fn unresolved(book: &mut Book) {
    let empty = ModelDeploymentObserved::default;
    for model in [
        "{name: rakuten, alias: champion, candidateAlias: challenger}",
        "{name: rakuten, alias: champion}",
        "{name: rakuten, version: 7}",
        "{name: rakuten, alias: a, version: 1}",
    ] {
        alone(book, &format!("model: {model}\nreplicas: 2"), &empty());
    }
    alone(book, SERVE, &ModelDeploymentObserved { alias_owner: Some("older".into()), ..empty() });
    let foreign = Some((Service::default(), false));
    alone(book, SERVE, &ModelDeploymentObserved { service: foreign, ..empty() });
}

fn first_version(book: &mut Book) {
    let mut object = serve(SERVE);
    let coming = rolled_out(&object, 1, 0);
    seen(book, &mut object.clone(), &ModelDeploymentObserved { stable: Some(of(1)), ..Default::default() });
    seen(book, &mut object.clone(), &coming);
    let because = |pod: PodFacts| ModelDeploymentObserved { pods: vec![pod_of(1, pod)], ..coming.clone() };
    let waits = |word: &str, message: &str| PodFacts {
        waiting: Some((word.into(), message.into())),
        ..pod("shop-1", "Pending")
    };
    for cause in [
        waits("ImagePullBackOff", "Back-off pulling image \"images.test/server:1\""),
        ended("shop-1", 80, "Error", &posted("ProbeMismatch", "probe 3 differs: 0.71 in place of 0.17")),
        ended("shop-1", 78, "Error", &posted("IncompatibleModel", "format 9 is outside of 1 to 2")),
        ended("shop-1", 79, "Error", &posted("DigestMismatch", "digest mismatch: expected sha256:01")),
    ] {
        seen(book, &mut object.clone(), &because(cause));
    }
    for note in &REFUSED[..2] {
        let mut refused = coming.clone();
        refused.deployments[0].refused = Some((*note).to_owned());
        seen(book, &mut object.clone(), &refused);
    }
    let mut late = because(waits("ImagePullBackOff", "Back-off pulling image \"images.test/server:1\""));
    late.deployments[0].deadline_exceeded = true;
    seen(book, &mut object.clone(), &late);
    late.pods.clear();
    seen(book, &mut object.clone(), &late);
    let up = rolled_out(&object, 1, 2);
    seen(book, &mut object, &up);
    seen(book, &mut object, &up);
    seen(book, &mut object.clone(), &rolled_out(&object, 1, 0));
    let none = SERVE.replace("replicas: 2", "replicas: 0");
    let mut resting = serve(&none);
    let down = rolled_out(&resting, 1, 0);
    seen(book, &mut resting, &down);
    let conflict = ModelDeploymentObserved { alias_owner: Some("older".into()), ..up };
    seen(book, &mut object, &conflict);
}

fn second_version(book: &mut Book) {
    let mut object = serve(SERVE);
    let first = rolled_out(&object, 1, 2);
    object.status = Some(model_deployment::plan(&object, &first, &policy(), &at(50)).status);
    let second = rolled_out(&object, 2, 0);
    let mut both = ModelDeploymentObserved { candidate: Some(of(2)), ..first };
    both.configs.extend(second.configs);
    both.deployments.extend(second.deployments);
    seen(book, &mut object, &both);
    let crashed =
        ended("shop-2", 80, "Error", &posted("ProbeMismatch", "probe 3 differs: 0.71 in place of 0.17"));
    let mut late = ModelDeploymentObserved { pods: vec![pod_of(2, crashed)], ..both.clone() };
    late.deployments[1].deadline_exceeded = true;
    let mut failed = object.clone();
    seen(book, &mut failed, &late);
    seen(book, &mut failed, &late);
    // the candidate is up and has the traffic: the alias follows
    for deployment in &mut both.deployments {
        (deployment.ready, deployment.updated_ready) = (2, 2);
    }
    let selector = BTreeMap::from([(
        names::LABEL_MODEL_DIGEST.to_owned(),
        names::short_digest(&of(2).digest).to_owned(),
    )]);
    if let Some((service, _)) = &mut both.service {
        service.spec.as_mut().unwrap().selector.as_mut().unwrap().extend(selector);
    }
    seen(book, &mut object, &both);
}

/// What the operator says of itself.
pub fn faults(book: &mut Book) {
    for (reason, message, retryable) in [
        (Reason::OperatorError, "observing: get Job shop/shoes-1: no answer: connection refused", true),
        (Reason::OperatorError, "applying: create Job shop/shoes-1: forbidden (403 Forbidden)", false),
        (
            Reason::RegistryUnavailable,
            "observing: registry: reading a revision failed: database is locked",
            true,
        ),
        (
            Reason::StorageFull,
            "applying: registry: the volume of the registry is full while recording a revision: enlarge it",
            true,
        ),
    ] {
        let failed = dataset(DATASET).faulted(Fault { reason, message, retryable }, &at(100));
        book.note("Dataset", &failed.conditions, None, &[]);
    }
}
