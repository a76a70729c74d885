//! Errors are counted, undecodable objects are set aside, relists are told apart.

use futures::stream;
use kube::runtime::reflector::store;
use serde_json::{Value, json};
use vitrine_crds::Dataset;

use super::*;

fn dataset(name: &str, good: bool) -> DeserializeGuard<Dataset> {
    let text: Value = if good { json!(["t"]) } else { json!(7) };
    serde_json::from_value(json!({
        "apiVersion": "vitrine.dev/v1alpha1", "kind": "Dataset",
        "metadata": {"namespace": "a", "name": name, "uid": format!("uid-{name}"), "managedFields": [{"manager": "x"}],
            "annotations": {"kept": "k", "kubectl.kubernetes.io/last-applied-configuration": "{}"}},
        "spec": {"source": {"pvc": {"claimName": "c"}, "files": {"features": "f.csv"}}, "schema": {"text": text}},
    }))
    .unwrap()
}

async fn watch(
    events: Vec<Result<Event<DeserializeGuard<Dataset>>, watcher::Error>>,
) -> (Vec<String>, Vec<String>, String) {
    let (reader, writer) = store::<Dataset>();
    let metrics = Metrics::default();
    let (mut changes, mut bad) = (Vec::new(), Vec::new());
    run(
        "datasets",
        stream::iter(events),
        writer,
        metrics.clone(),
        |change| {
            changes.push(match change {
                Change::Put { new: d, .. } => format!("put {}", d.metadata.name.as_deref().unwrap()),
                Change::Gone(d) => format!("gone {}", d.metadata.name.as_deref().unwrap()),
                Change::Relisted => "relisted".into(),
                Change::Listed => "listed".into(),
            });
        },
        |unreadable| bad.push(unreadable.meta.uid.unwrap()),
    )
    .await;
    let mut cached: Vec<String> = reader.state().iter().map(|d| d.metadata.name.clone().unwrap()).collect();
    cached.sort();
    for kept in reader.state() {
        assert!(kept.metadata.managed_fields.is_none(), "pruned");
        assert_eq!(kept.metadata.annotations, Some([("kept".to_owned(), "k".to_owned())].into()));
    }
    changes.push(format!("cached {cached:?}"));
    (changes, bad, metrics.text().unwrap())
}

#[tokio::test]
async fn one_object_that_cannot_be_read_does_not_stop_its_kind() {
    let (changes, bad, metrics) = watch(vec![
        Ok(Event::Init),
        Ok(Event::InitApply(dataset("poison", false))),
        Ok(Event::InitApply(dataset("good", true))),
        Ok(Event::InitDone),
        Ok(Event::Apply(dataset("later", true))),
    ])
    .await;
    assert_eq!(changes, ["listed", "put later", r#"cached ["good", "later"]"#]);
    assert_eq!(bad, ["uid-poison"]);
    assert!(metrics.contains(r#"vitrine_unreadable_objects_total{resource="datasets"} 1"#), "{metrics}");
}

#[tokio::test]
async fn the_last_readable_form_is_not_acted_upon() {
    let list = || vec![Ok(Event::Init), Ok(Event::InitApply(dataset("d", true))), Ok(Event::InitDone)];
    let mut turned = list();
    turned.push(Ok(Event::Apply(dataset("d", false))));
    assert_eq!(watch(turned).await.0, ["listed", "gone d", "cached []"]);
    let mut deleted = list();
    deleted.push(Ok(Event::Delete(dataset("d", false))));
    let (changes, bad, _) = watch(deleted).await;
    assert_eq!(changes, ["listed", "gone d", "cached []"]);
    assert!(bad.is_empty(), "nobody can be told about a deleted object");
}

#[tokio::test]
async fn every_stream_error_is_counted_and_a_new_list_is_told() {
    let (changes, _, metrics) = watch(vec![
        Ok(Event::Init),
        Ok(Event::InitDone),
        Err(watcher::Error::NoResourceVersion),
        Ok(Event::Init),
        Ok(Event::InitApply(dataset("d", true))),
        Ok(Event::InitDone),
    ])
    .await;
    assert_eq!(changes, ["listed", "relisted", r#"cached ["d"]"#]);
    assert!(metrics.contains(r#"vitrine_watch_errors_total{resource="datasets"} 1"#), "{metrics}");
}

#[tokio::test]
async fn what_an_autoscaler_measures_wakes_nobody() {
    use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
    let autoscaler = |version: &str, replicas: i32, metrics: i32, active: &str| -> HorizontalPodAutoscaler {
        serde_json::from_value(json!({
            "metadata": {"namespace": "a", "name": "h", "uid": "u", "resourceVersion": version},
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d"}},
            "status": {
                "desiredReplicas": replicas,
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": metrics}}}],
                "conditions": [{"type": "ScalingActive", "status": active, "reason": "R", "message": format!("{metrics} %")}],
            },
        }))
        .unwrap()
    };
    let (reader, writer) = store::<HorizontalPodAutoscaler>();
    let mut puts = Vec::new();
    let events = [
        autoscaler("1", 1, 10, "True"),
        autoscaler("2", 1, 20, "True"),
        autoscaler("3", 2, 20, "True"),
        autoscaler("4", 2, 20, "False"),
        autoscaler("5", 2, 20, "False"),
    ];
    let events = stream::iter(events.map(|a| Ok(Event::Apply(a))));
    let said = |a: &HorizontalPodAutoscaler| {
        let status = a.status.as_ref().unwrap();
        format!("{} {}", status.desired_replicas, status.conditions.as_ref().unwrap()[0].status)
    };
    let on_change = |change: Change<'_, HorizontalPodAutoscaler>| {
        let Change::Put { new, old } = change else { return };
        puts.push((old.map(said), said(new)));
    };
    run("h", events, writer, Metrics::default(), on_change, |_| ()).await;
    let [first, second, third] = ["1 True", "2 True", "2 False"].map(str::to_owned);
    assert_eq!(
        puts,
        [(None, first.clone()), (Some(first), second.clone()), (Some(second), third)],
        "with the form before"
    );
    assert_eq!(reader.state().len(), 1);
}
