//! What a user does in a run: a list of steps, each of which either changes something or waits for what
//! must come of it. Names of resources choose how their pods behave ([`crate::completer::Behaviour`]).

use serde_json::{Value, json};

use crate::stage::HPA;

/// One step.
#[derive(Clone, Debug)]
pub enum Step {
    /// Applies a manifest.
    Apply(Value),
    /// Merges a change into a resource.
    Change(&'static str, &'static str, Value),
    /// Deletes a resource.
    Delete(&'static str, &'static str),
    /// Lets slow pods of an owner end.
    Release(&'static str),
    /// Waits until a value of a resource is this: plural, name, JSON pointer, value.
    Until(&'static str, &'static str, &'static str, Value),
    /// Waits until a condition of the current generation holds: plural, name, type, status, reason (empty: any).
    Condition(&'static str, &'static str, &'static str, &'static str, &'static str),
    /// Somebody else's object stands where one of ours would: plural, name; it must stay as it is.
    Foreign(&'static str, &'static str),
    /// Somebody else's Job has the name of the first attempt of an owner: plural, name.
    ForeignJob(&'static str, &'static str),
    /// The operator learns nothing about a resource (or learns it now).
    Freeze(&'static str, bool),
    /// Waits until nothing of ours is left in the namespace.
    Gone,
}

/// A named list of steps.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Name.
    pub name: &'static str,
    /// Steps in order.
    pub steps: Vec<Step>,
    /// How many of them are another workload's: what is written until then is that one's to break.
    pub shared: usize,
}

const DS: &str = "datasets";
const TR: &str = "trainingruns";
const MD: &str = "modeldeployments";

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "vitrine.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// A Dataset over a claim that nobody mounts here.
pub fn dataset(name: &str, features: &str) -> Value {
    object(
        "Dataset",
        name,
        &json!({"source": {"pvc": {"claimName": "data"}, "files": {"features": features}},
                "schema": {"text": ["designation"], "label": "code"}}),
    )
}

/// A TrainingRun on the Dataset `shop`.
pub fn run(name: &str, seed: i64) -> Value {
    object(
        "TrainingRun",
        name,
        &json!({"datasetRef": {"name": "shop"}, "seed": seed, "gate": [{"metric": "F1Weighted", "min": 0.5}],
                "output": {"model": "products"}}),
    )
}

/// A ModelDeployment that promotes challengers.
pub fn deployment(name: &str) -> Value {
    object(
        "ModelDeployment",
        name,
        &json!({"model": {"name": "products", "alias": "champion", "candidateAlias": "challenger"}}),
    )
}

fn ready(plural: &'static str, name: &'static str) -> Step {
    Step::Condition(plural, name, "Ready", "True", "")
}

fn dataset_ready() -> Vec<Step> {
    vec![Step::Apply(dataset("shop", "X.csv")), ready(DS, "shop")]
}

fn trained(name: &'static str, seed: i64) -> Vec<Step> {
    vec![Step::Apply(run(name, seed)), Step::Condition(TR, name, "Succeeded", "True", "")]
}

fn served() -> Vec<Step> {
    [
        dataset_ready(),
        trained("first", 42),
        vec![Step::Apply(deployment("serve")), ready(MD, "serve"), version(1)],
    ]
    .concat()
}

fn version(version: i64) -> Step {
    Step::Until(MD, "serve", "/status/lastRollout/version", json!(version))
}

/// All workloads.
pub fn all() -> Vec<Workload> {
    let of = |name, shared: Vec<Step>, own: Vec<Step>| Workload {
        name,
        shared: shared.len(),
        steps: [shared, own].concat(),
    };
    let deploy = vec![Step::Apply(deployment("serve")), ready(MD, "serve"), version(1)];
    let learnt = || [dataset_ready(), trained("first", 42)].concat();
    vec![
        of("dataset", vec![], dataset_ready()),
        of("run", dataset_ready(), trained("first", 42)),
        of("fail", dataset_ready(), failing()),
        of("retry", dataset_ready(), trained("retry-1", 42)),
        of("words", dataset_ready(), [trained("mute-1", 42), trained("quiet-1", 43)].concat()),
        of("deploy", learnt(), deploy),
        of("promote", served(), [trained("second", 43), vec![version(2), ready(MD, "serve")]].concat()),
        of("rollback", served(), [trained("spoiled-2", 44), refused()].concat()),
        of("scale", served(), scaled()),
        of("autoscale", served(), autoscaled()),
        of("change", vec![], changed()),
        of("suspend", dataset_ready(), suspended()),
        of("delete", served(), deleted()),
        of("remake", served(), remade()),
        of("foreign-job", vec![], foreign_job()),
        of("foreign-service", learnt(), foreign_service()),
    ]
}

/// The workload of that name.
pub fn named(name: &str) -> Option<Workload> {
    all().into_iter().find(|w| w.name == name)
}

fn failing() -> Vec<Step> {
    vec![Step::Apply(run("data-1", 42)), Step::Condition(TR, "data-1", "Stalled", "True", "DataCorrupt")]
}

fn refused() -> Vec<Step> {
    vec![
        Step::Condition(MD, "serve", "RolloutSucceeded", "False", "RolloutFailed"),
        ready(MD, "serve"),
        Step::Until(MD, "serve", "/status/stable/version", json!(1)),
    ]
}

fn scaled() -> Vec<Step> {
    let to = |n: i32| Step::Change(MD, "serve", json!({"spec": {"replicas": n}}));
    let ready = |n: i32| Step::Until(MD, "serve", "/status/readyReplicas", json!(n));
    vec![
        to(3),
        ready(3),
        to(0),
        Step::Condition(MD, "serve", "Ready", "True", "ScaledToZero"),
        to(2),
        ready(2),
    ]
}

/// The number of pods goes to an autoscaler, back, and to another one: the three pods stay. No controller
/// plays the autoscaler, so that whoever loses the number is seen at the end.
fn autoscaled() -> Vec<Step> {
    let spec = |spec: Value| Step::Change(MD, "serve", json!({"spec": spec}));
    let most = |n: i32| Step::Until(HPA, "serve", "/spec/maxReplicas", json!(n));
    let three = || Step::Until(MD, "serve", "/status/readyReplicas", json!(3));
    vec![
        spec(json!({"autoscaling": {"maxReplicas": 5}})),
        most(5),
        spec(json!({"autoscaling": null, "replicas": 3})),
        three(),
        spec(json!({"autoscaling": {"maxReplicas": 4}})),
        most(4),
        three(),
    ]
}

fn changed() -> Vec<Step> {
    vec![
        Step::Apply(dataset("slow-shop", "X.csv")),
        Step::Until(DS, "slow-shop", "/status/observedGeneration", json!(1)),
        Step::Change(DS, "slow-shop", json!({"spec": {"source": {"files": {"features": "X2.csv"}}}})),
        Step::Until(DS, "slow-shop", "/status/observedGeneration", json!(2)),
        Step::Release("slow-shop"),
        ready(DS, "slow-shop"),
    ]
}

fn suspended() -> Vec<Step> {
    let suspend = |on: bool| Step::Change(TR, "slow-1", json!({"spec": {"suspend": on}}));
    vec![
        Step::Apply(run("slow-1", 42)),
        Step::Condition(TR, "slow-1", "Running", "True", ""),
        suspend(true),
        Step::Condition(TR, "slow-1", "Suspended", "True", ""),
        suspend(false),
        Step::Condition(TR, "slow-1", "Suspended", "False", ""),
        Step::Release("slow-1"),
        Step::Condition(TR, "slow-1", "Succeeded", "True", ""),
    ]
}

fn deleted() -> Vec<Step> {
    vec![Step::Delete(MD, "serve"), Step::Delete(TR, "first"), Step::Delete(DS, "shop"), Step::Gone]
}

/// The Job's name is taken before the operator knows of its owner.
fn foreign_job() -> Vec<Step> {
    vec![
        Step::Freeze(DS, true),
        Step::Apply(dataset("shop", "X.csv")),
        Step::ForeignJob(DS, "shop"),
        Step::Freeze(DS, false),
        Step::Condition(DS, "shop", "Stalled", "True", "NameCollision"),
    ]
}

fn foreign_service() -> Vec<Step> {
    vec![
        Step::Foreign("services", "serve"),
        Step::Apply(deployment("serve")),
        Step::Condition(MD, "serve", "Stalled", "True", "NameCollision"),
    ]
}

/// Everything is deleted and applied again under the same names: nothing is trained twice.
fn remade() -> Vec<Step> {
    [
        vec![Step::Delete(TR, "first"), Step::Delete(MD, "serve")],
        vec![Step::Apply(run("first", 42)), Step::Condition(TR, "first", "Succeeded", "True", "Reused")],
        vec![Step::Apply(deployment("serve")), ready(MD, "serve")],
    ]
    .concat()
}
