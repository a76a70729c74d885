//! Every arrow between kinds, and none across namespaces.

use kube::runtime::reflector::store;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::*;

fn dataset(namespace: &str, name: &str, test: Option<&str>) -> Dataset {
    let split = test.map_or(json!({}), |t| json!({"test": {"datasetRef": {"name": t}}}));
    object(json!({
        "apiVersion": "vitrine.dev/v1alpha1", "kind": "Dataset",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"source": {"pvc": {"claimName": "c"}, "files": {"features": "f.csv"}}, "schema": {"text": ["t"]}, "split": split},
    }))
}

fn run(namespace: &str, name: &str, registered: bool) -> TrainingRun {
    let mut run: TrainingRun = object(json!({
        "apiVersion": "vitrine.dev/v1alpha1", "kind": "TrainingRun",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"datasetRef": {"name": "data"}, "output": {"model": "m"}},
    }));
    if registered {
        run.status = Some(object(
            json!({"conditions": [], "model": {"name": "m", "version": 1, "digest": "d", "bytes": 1}}),
        ));
    }
    run
}

fn deployment(namespace: &str, name: &str, model: &str) -> ModelDeployment {
    object(json!({
        "apiVersion": "vitrine.dev/v1alpha1", "kind": "ModelDeployment",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"model": {"name": model, "alias": "champion"}},
    }))
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn stored<K>(objects: Vec<K>, name: fn(&K) -> Option<&str>) -> Referring<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let (reader, mut writer) = store();
    for object in objects {
        writer.apply_watcher_event(&Event::Apply(object));
    }
    let referring = Referring::new(reader, name);
    referring.rebuild();
    referring
}

fn at<K: Resource<DynamicType = ()>>(name: &str) -> ObjectRef<K> {
    ObjectRef::new(name).within("a")
}

#[test]
fn a_dataset_wakes_its_runs_and_those_that_test_on_it() {
    let mut ended = run("a", "ended", true);
    ended.status.as_mut().unwrap().completion_time = Some(object(json!("2026-01-01T00:00:00Z")));
    let runs = stored(vec![run("a", "mine", false), run("b", "other", false), ended], learns_from);
    let datasets =
        stored(vec![dataset("a", "uses", Some("data")), dataset("b", "uses", Some("data"))], tests_on);
    let targets = of_dataset(&dataset("a", "data", None), None, &runs, &datasets);
    assert_eq!(
        targets,
        [Target::Dataset(at("data")), Target::TrainingRun(at("mine")), Target::Dataset(at("uses"))]
    );
}

#[test]
fn a_run_that_says_why_its_dataset_is_not_ready_is_not_woken_to_say_it_again() {
    let mut waits = run("a", "waits", false);
    waits.status = Some(object(json!({"conditions": [{"type": "DatasetReady", "status": "False",
        "reason": "DatasetNotReady", "message": "it is made", "lastTransitionTime": "2026-01-01T00:00:00Z"}]})));
    let (runs, none) = (stored(vec![waits], learns_from), stored(vec![], tests_on));
    let woken = |why| {
        let targets = of_dataset(&dataset("a", "data", None), why, &runs, &none);
        targets.contains(&Target::TrainingRun(at("waits")))
    };
    assert!(!woken(Some("it is made")));
    assert!(woken(Some("its file is missing")), "other words are news");
    assert!(woken(None), "and so is one that is ready, or gone");
}

#[test]
fn a_run_wakes_deployments_only_once_it_registered_something() {
    let deployments = stored(
        vec![deployment("a", "serves", "m"), deployment("a", "else", "n"), deployment("b", "far", "m")],
        serves,
    );
    assert_eq!(of_run(&run("a", "r", false), &deployments), [Target::TrainingRun(at("r"))]);
    assert_eq!(
        of_run(&run("a", "r", true), &deployments),
        [Target::TrainingRun(at("r")), Target::ModelDeployment(at("serves"))]
    );
}

#[test]
fn a_deployment_wakes_others_of_its_model_and_of_the_one_it_left_and_itself_once() {
    let deployments = stored(
        vec![deployment("a", "one", "m"), deployment("a", "two", "m"), deployment("a", "stays", "n")],
        serves,
    );
    let one = deployment("a", "one", "m");
    let own = [Target::ModelDeployment(at("one")), Target::ModelDeployment(at("two"))];
    assert_eq!(of_deployment(&one, None, &deployments), own);
    assert_eq!(
        of_deployment(&one, Some("n"), &deployments),
        [&own[..], &[Target::ModelDeployment(at("stays"))]].concat()
    );
}

#[test]
fn a_child_wakes_its_controller_and_nobody_else() {
    let meta = |api: &str, controller: bool| -> ObjectMeta {
        object(json!({"namespace": "a", "name": "c", "ownerReferences": [
            {"apiVersion": api, "kind": "TrainingRun", "name": "r", "uid": "u", "controller": controller}]}))
    };
    assert_eq!(of_child(&meta("vitrine.dev/v1alpha1", true)), Some(Target::TrainingRun(at("r"))));
    assert_eq!(of_child(&meta("vitrine.dev/v1alpha1", false)), None);
    assert_eq!(of_child(&meta("example.com/v1", true)), None);
}

#[test]
fn a_child_that_changes_hands_wakes_both_owners() {
    let of = |run: Option<&str>| -> ObjectMeta {
        let owners: Vec<_> = run
            .into_iter()
            .map(|name| {
                json!({"apiVersion": "vitrine.dev/v1alpha1",
            "kind": "TrainingRun", "name": name, "uid": "u", "controller": true})
            })
            .collect();
        object(json!({"namespace": "a", "name": "c", "ownerReferences": owners}))
    };
    let woken = |new: Option<&str>, old: Option<Option<&str>>| -> Vec<String> {
        let old = old.map(of);
        let owner: fn(&ObjectMeta) -> Option<Target> = of_child;
        let targets = of_change(&of(new), old.as_ref(), owner);
        targets
            .into_iter()
            .map(|target| match target {
                Target::TrainingRun(run) => run.name,
                other => format!("{other:?}"),
            })
            .collect()
    };
    assert_eq!(woken(Some("r"), None), ["r"], "new");
    assert_eq!(woken(Some("r"), Some(Some("r"))), ["r"], "changed");
    assert_eq!(woken(None, Some(Some("r"))), ["r"], "lost");
    assert_eq!(woken(Some("s"), Some(Some("r"))), ["s", "r"], "moved");
    assert_eq!(woken(None, Some(None)), [""; 0]);
}

#[test]
fn a_pod_wakes_the_resource_its_labels_name() {
    let pod: Pod = object(json!({"metadata": {"namespace": "a", "name": "p", "labels":
        {names::LABEL_COMPONENT: names::ROLE_SERVE, names::LABEL_INSTANCE: "d"}}}));
    assert_eq!(of_pod(&pod), Some(Target::ModelDeployment(at("d"))));
    assert_eq!(of_pod(&Pod::default()), None);
}
