//! The floor: what the same writes cost without an operator. The harness itself writes, for each
//! resource, the children and the statuses that the operator would, with the operator's rights, the same
//! client library and the same number of requests at once, while the completer works as always. Every
//! object is a copy of what the operator made for the first resource of the kind, so that sizes are real.
//!
//! The recipe is the least that an operator can do: each child once, three statuses, the Job's time to
//! live, one event.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;
use vitrine_crds::names;
use vitrine_faults::completer::Completer;

use crate::crowd::{AT_ONCE, Crowd, resource};
use crate::mix::{Item, KINDS};

/// Statuses of a resource from its first to its last.
pub const STATUSES: usize = 3;
/// Children in the order in which they are written: plural, API version, kind.
const CHILDREN: [(&str, &str, &str); 4] = [
    ("configmaps", "v1", "ConfigMap"),
    ("jobs", "batch/v1", "Job"),
    ("deployments", "apps/v1", "Deployment"),
    ("services", "v1", "Service"),
];

/// What belongs to one resource, as the operator made it.
#[derive(Clone, Debug)]
pub struct Template {
    plural: &'static str,
    name: String,
    uid: String,
    namespace: String,
    children: Vec<(&'static str, Value)>,
    status: Value,
}

/// What the floor took and wrote.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// Seconds from the first create to the end of all work, without the time that the last pod works.
    pub seconds: f64,
    /// Writes for each resource, without its own creation.
    pub writes: f64,
}

/// The API of a child's plural.
pub fn child_api(client: &Client, plural: &str, namespace: &str) -> Api<DynamicObject> {
    let (_, version, kind) = CHILDREN.iter().find(|c| c.0 == plural).copied().unwrap_or(CHILDREN[0]);
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// Plurals of children.
pub fn children() -> impl Iterator<Item = &'static str> {
    CHILDREN.iter().map(|c| c.0)
}

impl Template {
    /// Learns from a resource that came true.
    pub async fn learn(client: &Client, plural: &'static str, namespace: &str, name: &str) -> Result<Self> {
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource(plural));
        let object = api.get(name).await?;
        let uid = object.uid().unwrap_or_default();
        let owned = ListParams::default().labels(&format!("{}={uid}", names::LABEL_OWNER_UID));
        let mut children = Vec::new();
        for child in self::children() {
            for found in child_api(client, child, namespace).list(&owned).await?.items {
                children.push((child, as_wanted(child, &found)?));
            }
        }
        ensure!(children.len() >= 2, "{plural} {name} has {} children", children.len());
        let status = object.data["status"].clone();
        Ok(Self { plural, name: name.to_owned(), uid, namespace: namespace.to_owned(), children, status })
    }

    /// The same for another resource.
    fn fit(&self, value: &Value, namespace: &str, name: &str, uid: &str) -> Result<Value> {
        let text = value.to_string().replace(&self.uid, uid).replace(&self.namespace, namespace);
        Ok(serde_json::from_str(&text.replace(&self.name, name))?)
    }

    fn writes(&self) -> usize {
        let jobs = self.children.iter().filter(|c| c.0 == "jobs").count();
        // statuses, the event, and the time to live of a Job
        self.children.len() + STATUSES + 1 + jobs
    }
}

/// A live child without what the apiserver added.
fn as_wanted(plural: &str, live: &DynamicObject) -> Result<Value> {
    let mut child = serde_json::to_value(live)?;
    // a list does not say it of each item
    if let Some((_, version, kind)) = CHILDREN.iter().find(|c| c.0 == plural) {
        child["apiVersion"] = json!(version);
        child["kind"] = json!(kind);
    }
    let meta = child["metadata"].as_object_mut().context("no metadata")?;
    for key in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "finalizers"] {
        meta.remove(key);
    }
    if let Some(object) = child.as_object_mut() {
        object.remove("status");
    }
    let added: &[&str] = match plural {
        "services" => &["clusterIP", "clusterIPs"],
        "jobs" => &["selector"],
        _ => &[],
    };
    if let Some(spec) = child.get_mut("spec").and_then(Value::as_object_mut) {
        spec.retain(|key, _| !added.contains(&key.as_str()));
    }
    for labels in ["/metadata/labels", "/spec/template/metadata/labels"] {
        if let Some(labels) = child.pointer_mut(labels).and_then(Value::as_object_mut) {
            labels.retain(|key, _| !key.ends_with("controller-uid") && !key.ends_with("job-name"));
        }
    }
    Ok(child)
}

/// Measures the floor.
pub async fn measure(
    crowd: &Crowd,
    operator: &Client,
    completer: &Completer,
    templates: &[Template; 3],
    items: &[Vec<Item>; 3],
    work: Duration,
) -> Result<Floor> {
    let jobs = |t: &Template| t.children.iter().filter(|c| matches!(c.0, "jobs" | "deployments")).count();
    let expected: usize = templates.iter().zip(items).map(|(t, items)| jobs(t) * items.len()).sum();
    let before = completer.completed();
    let (senders, receivers): (Vec<_>, Vec<_>) = KINDS.iter().map(|_| unbounded_channel()).unzip();
    let writers = templates
        .iter()
        .zip(receivers)
        .map(|(template, made)| tokio::spawn(write_all(operator.clone(), Arc::new(template.clone()), made)));
    let writers: Vec<_> = writers.collect();
    let begun = Instant::now();
    crowd
        .create_all(items, "floor", |item, object| {
            let kind = KINDS.iter().position(|k| *k == item.plural).unwrap_or_default();
            // a writer that failed says so below
            let _ = senders[kind].send(object);
        })
        .await?;
    drop(senders);
    for writer in writers {
        writer.await??;
    }
    while completer.completed() < before + expected {
        ensure!(begun.elapsed() < Duration::from_hours(1), "the completer is stuck");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let total: usize = templates.iter().zip(items).map(|(t, items)| t.writes() * items.len()).sum();
    let resources: usize = items.iter().map(Vec::len).sum();
    Ok(Floor {
        seconds: begun.elapsed().saturating_sub(work).as_secs_f64(),
        writes: total as f64 / resources as f64,
    })
}

async fn write_all(
    client: Client,
    template: Arc<Template>,
    mut made: UnboundedReceiver<DynamicObject>,
) -> Result<()> {
    futures::stream::poll_fn(|cx| made.poll_recv(cx))
        .map(|object| {
            let (client, template) = (client.clone(), template.clone());
            async move { write(&client, &template, &object).await }
        })
        .buffer_unordered(AT_ONCE)
        .try_for_each(|()| futures::future::ready(Ok(())))
        .await
}

/// What an operator writes for one resource, one write after the other.
async fn write(client: &Client, template: &Template, object: &DynamicObject) -> Result<()> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let uid = object.uid().unwrap_or_default();
    let apply = PatchParams::apply(names::FIELD_MANAGER).force();
    for (plural, child) in &template.children {
        let child = template.fit(child, &namespace, &name, &uid)?;
        let api = child_api(client, plural, &namespace);
        let child_name = child["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if *plural == "jobs" {
            let job = serde_json::from_value(child)?;
            api.create(&PostParams::default(), &job).await.context("create a Job")?;
            let ttl = json!({"spec": {"ttlSecondsAfterFinished": 3601}});
            api.patch(&child_name, &PatchParams::default(), &Patch::Merge(ttl)).await?;
        } else {
            api.patch(&child_name, &apply, &Patch::Apply(&child))
                .await
                .with_context(|| child_name.clone())?;
        }
    }
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), &namespace, &resource(template.plural));
    let status = template.fit(&template.status, &namespace, &name, &uid)?;
    for number in 0..STATUSES {
        let mut status = status.clone();
        if let Some(condition) = status["conditions"].as_array_mut().and_then(|c| c.first_mut()) {
            let text = condition["message"].as_str().unwrap_or_default();
            condition["message"] = json!(format!("{text} {number}"));
        }
        let change = json!({"metadata": {"uid": uid}, "status": status});
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(change)).await.context("status")?;
    }
    event(client, &namespace, &name, &uid).await
}

async fn event(client: &Client, namespace: &str, name: &str, uid: &str) -> Result<()> {
    let gvk = GroupVersionKind::gvk("events.k8s.io", "v1", "Event");
    let api = Api::<DynamicObject>::namespaced_with(
        client.clone(),
        namespace,
        &ApiResource::from_gvk_with_plural(&gvk, "events"),
    );
    let now = k8s_openapi::jiff::Timestamp::now();
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": format!("{name}.{:x}", now.as_nanosecond()), "namespace": namespace},
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
        "reportingController": "floor", "reportingInstance": "floor", "action": "Floor", "reason": "Succeeded",
        "type": "Normal", "note": "everything is as asked, and the message has a usual length",
        "regarding": {"kind": "Dataset", "name": name, "namespace": namespace, "uid": uid}});
    api.create(&PostParams::default(), &serde_json::from_value(event)?).await.context("an event")?;
    Ok(())
}

/// Deletes the floor's namespaces and waits until they are gone.
pub async fn clear(client: &Client, namespaces: &[String]) -> Result<()> {
    let api = Api::<k8s_openapi::api::core::v1::Namespace>::all(client.clone());
    for namespace in namespaces {
        api.delete(namespace, &DeleteParams::default()).await?;
    }
    let begun = Instant::now();
    for namespace in namespaces {
        while api.get_opt(namespace).await?.is_some() {
            ensure!(begun.elapsed() < Duration::from_mins(20), "namespace {namespace} does not go");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    Ok(())
}
