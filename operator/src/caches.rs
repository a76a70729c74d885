//! What the watches know: one cache per kind, and one task per watch that keeps it and wakes the
//! right controllers.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use vitrine_crds::{Dataset, ModelDeployment, TrainingRun, names};
use vitrine_plan::Reference;
use vitrine_plan::status::Kind;

use crate::client::WATCH_SECONDS;
use crate::index::Children;
use crate::kind::Kind as Reconciled;
use crate::metrics::Metrics;
use crate::queues::Queues;
use crate::references::Referring;
use crate::relations::{self, Target};
use crate::seen::{Job, Pod};
use crate::undecodable::Undecodable;
use crate::watch::{self, Change, Incoming, Unreadable};

/// Objects per page of a list: bounds the memory of a list.
const PAGE: u32 = 100;

/// The caches. Cheap to clone.
#[derive(Clone)]
pub struct Caches {
    /// Datasets of all namespaces.
    pub datasets: Store<Dataset>,
    /// TrainingRuns of all namespaces.
    pub runs: Store<TrainingRun>,
    /// ModelDeployments of all namespaces.
    pub deployments: Store<ModelDeployment>,
    /// Datasets by the Dataset that they test on.
    pub testing: Referring<Dataset>,
    /// TrainingRuns by the Dataset that they learn from.
    pub learning: Referring<TrainingRun>,
    /// ModelDeployments by their model.
    pub serving: Referring<ModelDeployment>,
    /// Our Jobs; like all children, without what nobody reads.
    pub jobs: Children<Job>,
    /// Our pods.
    pub pods: Children<Pod>,
    /// Our Deployments.
    pub workloads: Children<Deployment>,
    /// Our Services.
    pub services: Children<Service>,
    /// Our autoscalers.
    pub autoscalers: Children<HorizontalPodAutoscaler>,
    /// Our ConfigMaps.
    pub configs: Children<ConfigMap>,
    /// Metadata of all namespaces.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
}

/// The writing ends of [`Caches`].
struct Writers {
    datasets: Writer<Dataset>,
    runs: Writer<TrainingRun>,
    deployments: Writer<ModelDeployment>,
    jobs: Writer<Job>,
    pods: Writer<Pod>,
    workloads: Writer<Deployment>,
    services: Writer<Service>,
    autoscalers: Writer<HorizontalPodAutoscaler>,
    configs: Writer<ConfigMap>,
    namespaces: Writer<PartialObjectMeta<Namespace>>,
}

/// Where a watch leaves what it finds.
#[derive(Clone)]
struct Sinks {
    client: Client,
    caches: Caches,
    queues: Arc<Queues>,
    undecodable: Arc<Undecodable>,
    metrics: Metrics,
}

/// Empty caches with their watches, which run as tasks of the returned set for ever.
pub fn start(
    client: Client,
    queues: Arc<Queues>,
    undecodable: Arc<Undecodable>,
    metrics: Metrics,
) -> (Caches, JoinSet<()>) {
    let (caches, writers) = Caches::empty();
    let sinks = Sinks { client, caches: caches.clone(), queues, undecodable, metrics };
    let mut tasks = JoinSet::new();
    spawn_kinds(&mut tasks, &sinks, writers.datasets, writers.runs, writers.deployments);
    spawn_child(&mut tasks, &sinks, "jobs", writers.jobs, &caches.jobs, |job| {
        relations::of_child(&job.metadata)
    });
    spawn_child(&mut tasks, &sinks, "pods", writers.pods, &caches.pods, relations::of_pod);
    spawn_child(&mut tasks, &sinks, "deployments", writers.workloads, &caches.workloads, |d| {
        relations::of_child(&d.metadata)
    });
    spawn_child(&mut tasks, &sinks, "services", writers.services, &caches.services, |s| {
        relations::of_child(&s.metadata)
    });
    let autoscalers = writers.autoscalers;
    spawn_child(&mut tasks, &sinks, "horizontalpodautoscalers", autoscalers, &caches.autoscalers, |a| {
        relations::of_child(&a.metadata)
    });
    spawn_child(&mut tasks, &sinks, "configmaps", writers.configs, &caches.configs, |c| {
        relations::of_child(&c.metadata)
    });
    let namespaces = sinks.stream::<PartialObjectMeta<Namespace>>(None);
    // a namespace wakes nobody: its UID never changes while objects live in it
    tasks.spawn(watch::run(
        "namespaces",
        namespaces,
        writers.namespaces,
        sinks.metrics.clone(),
        |_| (),
        |_| (),
    ));
    (caches, tasks)
}

impl Caches {
    fn empty() -> (Self, Writers) {
        let (datasets, datasets_w) = store();
        let (runs, runs_w) = store();
        let (deployments, deployments_w) = store();
        let (jobs, jobs_w) = store();
        let (pods, pods_w) = store();
        let (workloads, workloads_w) = store();
        let (services, services_w) = store();
        let (autoscalers, autoscalers_w) = store();
        let (configs, configs_w) = store();
        let (namespaces, namespaces_w) = store();
        let caches = Self {
            testing: Referring::new(datasets.clone(), relations::tests_on),
            learning: Referring::new(runs.clone(), relations::learns_from),
            serving: Referring::new(deployments.clone(), relations::serves),
            datasets,
            runs,
            deployments,
            jobs: Children::new(jobs),
            pods: Children::new(pods),
            workloads: Children::new(workloads),
            services: Children::new(services),
            autoscalers: Children::new(autoscalers),
            configs: Children::new(configs),
            namespaces,
        };
        let writers = Writers {
            datasets: datasets_w,
            runs: runs_w,
            deployments: deployments_w,
            jobs: jobs_w,
            pods: pods_w,
            workloads: workloads_w,
            services: services_w,
            autoscalers: autoscalers_w,
            configs: configs_w,
            namespaces: namespaces_w,
        };
        (caches, writers)
    }

    /// Returns when every cache was filled once: deciding with half of the facts would delete what
    /// is only not known yet. `false` if a watch ended before.
    pub async fn synced(&self) -> bool {
        let kinds = futures::try_join!(
            self.datasets.wait_until_ready(),
            self.runs.wait_until_ready(),
            self.deployments.wait_until_ready(),
            self.namespaces.wait_until_ready(),
        );
        let children = futures::try_join!(
            self.jobs.store().wait_until_ready(),
            self.pods.store().wait_until_ready(),
            self.workloads.store().wait_until_ready(),
            self.services.store().wait_until_ready(),
            self.autoscalers.store().wait_until_ready(),
            self.configs.store().wait_until_ready(),
        );
        kinds.is_ok() && children.is_ok()
    }

    /// Every object of the three kinds.
    pub fn everything(&self) -> Vec<Target> {
        let datasets = self.datasets.state().into_iter().map(|o| Target::Dataset(ObjectRef::from_obj(&*o)));
        let runs = self.runs.state().into_iter().map(|o| Target::TrainingRun(ObjectRef::from_obj(&*o)));
        let deployments =
            self.deployments.state().into_iter().map(|o| Target::ModelDeployment(ObjectRef::from_obj(&*o)));
        datasets.chain(runs).chain(deployments).collect()
    }

    /// UID of a namespace; `None` where it is not known or going away.
    pub fn namespace_uid(&self, name: &str) -> Option<String> {
        let namespace = self.namespaces.get(&ObjectRef::new(name))?;
        let living = namespace.metadata.deletion_timestamp.is_none();
        namespace.metadata.uid.clone().filter(|_| living)
    }

    /// Is the namespace going away?
    pub fn is_terminating(&self, namespace: &str) -> bool {
        let found = self.namespaces.get(&ObjectRef::new(namespace));
        found.is_some_and(|n| n.metadata.deletion_timestamp.is_some())
    }
}

impl Sinks {
    fn stream<W>(
        &self,
        labels: Option<&str>,
    ) -> impl futures::Stream<Item = watcher::Result<watcher::Event<W>>> + Send + use<W>
    where
        W: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let mut config = watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE);
        if let Some(labels) = labels {
            config = config.labels(labels);
        }
        watcher(Api::<W>::all(self.client.clone()), config).default_backoff()
    }

    fn wake_everything(&self) {
        self.queues.push_all(self.caches.everything());
    }

    fn unreadable(&self, kind: Kind) -> impl FnMut(Unreadable) + Send + use<> {
        let undecodable = self.undecodable.clone();
        move |found| undecodable.note(kind, found)
    }
}

fn spawn_kinds(
    tasks: &mut JoinSet<()>,
    sinks: &Sinks,
    datasets: Writer<Dataset>,
    runs: Writer<TrainingRun>,
    deployments: Writer<ModelDeployment>,
) {
    let caches = &sinks.caches;
    spawn_kind(tasks, sinks, Kind::Dataset, datasets, &caches.testing, |dataset, became, caches| {
        let there = !matches!(became, Became::Gone);
        let facts = there.then(|| vitrine_plan::dataset::facts(dataset));
        let not_ready = match &facts {
            Some(Reference::NotReady(why)) => Some(why.as_str()),
            _ => None,
        };
        relations::of_dataset(dataset, not_ready, &caches.learning, &caches.testing)
    });
    spawn_kind(tasks, sinks, Kind::TrainingRun, runs, &caches.learning, |run, _, caches| {
        relations::of_run(run, &caches.serving)
    });
    let kind = Kind::ModelDeployment;
    spawn_kind(tasks, sinks, kind, deployments, &caches.serving, |deployment, became, caches| {
        let left = if let Became::Turned(left) = became { Some(left) } else { None };
        relations::of_deployment(deployment, left, &caches.serving)
    });
}

/// What became of an object.
enum Became<'a> {
    /// It is there.
    There,
    /// It is there and referred to this name before.
    Turned(&'a str),
    /// It is gone.
    Gone,
}

/// `related` gets the object, what became of it, and the caches.
fn spawn_kind<K>(
    tasks: &mut JoinSet<()>,
    sinks: &Sinks,
    kind: Kind,
    writer: Writer<K>,
    index: &Referring<K>,
    related: fn(&K, Became<'_>, &Caches) -> Vec<Target>,
) where
    K: Reconciled + Resource<DynamicType = ()>,
{
    let stream = sinks.stream::<DeserializeGuard<K>>(None);
    let (sink, index, unreadable) = (sinks.clone(), index.clone(), sinks.unreadable(kind));
    let on_change = move |change: Change<'_, K>| match change {
        Change::Put { new: object, .. } => {
            let left = index.put(object);
            let became = left.as_deref().map_or(Became::There, Became::Turned);
            sink.queues.push_all(related(object, became, &sink.caches));
        }
        Change::Gone(object) => {
            index.remove(object);
            sink.queues.push_all(related(object, Became::Gone, &sink.caches));
        }
        Change::Relisted => {
            index.rebuild();
            sink.wake_everything();
        }
        Change::Listed => index.rebuild(),
    };
    tasks.spawn(watch::run(K::PLURAL, stream, writer, sinks.metrics.clone(), on_change, unreadable));
}

fn spawn_child<K>(
    tasks: &mut JoinSet<()>,
    sinks: &Sinks,
    resource: &'static str,
    writer: Writer<K>,
    children: &Children<K>,
    owner: fn(&K) -> Option<Target>,
) where
    K: Incoming<Object = K> + Resource<DynamicType = ()> + Sync,
    ObjectRef<K>: Hash,
{
    let selector = format!("{}={}", names::LABEL_MANAGED_BY, names::MANAGED_BY);
    let stream = sinks.stream::<K>(Some(&selector));
    let (sink, index) = (sinks.clone(), children.index().clone());
    let on_change = move |change: Change<'_, K>| {
        child_changed(&change, &index, owner, &sink.queues);
        // with an index that knows all
        if matches!(change, Change::Relisted) {
            sink.wake_everything();
        }
    };
    tasks.spawn(watch::run(resource, stream, writer, sinks.metrics.clone(), on_change, |_| ()));
}

/// Keeps the index of children, and wakes whose child changed or was one before.
fn child_changed<K: Resource<DynamicType = ()> + Clone>(
    change: &Change<'_, K>,
    index: &Referring<K>,
    owner: fn(&K) -> Option<Target>,
    queues: &Queues,
) {
    match change {
        Change::Put { new, old } => {
            index.put(new);
            queues.push_all(relations::of_change(*new, *old, owner));
        }
        Change::Gone(child) => {
            index.remove(child);
            queues.push_all(owner(child));
        }
        Change::Relisted | Change::Listed => index.rebuild(),
    }
}

#[cfg(test)]
#[path = "caches_testing.rs"]
pub mod testing;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::object;
    use serde_json::json;

    #[test]
    fn who_has_a_child_and_who_lost_one_is_woken() {
        let child = |run: &str| -> ConfigMap {
            object(
                json!({"metadata": {"namespace": "a", "name": "c", "ownerReferences": [{"apiVersion": "vitrine.dev/v1",
                "kind": "TrainingRun", "name": run, "uid": format!("{run}-uid"), "controller": true}]}}),
            )
        };
        let (store, mut writer) = store();
        let children = Children::new(store);
        let queues = Queues::default();
        let mut woken = queues.runs.open().unwrap();
        let (first, second) = (child("first"), child("second"));
        writer.apply_watcher_event(&watcher::Event::Apply(second.clone()));
        let owner: fn(&ConfigMap) -> Option<Target> = |c| relations::of_child(&c.metadata);
        let mut names = |change| {
            child_changed(&change, children.index(), owner, &queues);
            std::iter::from_fn(|| woken.try_recv().ok()).map(|r| r.obj_ref.name).collect::<Vec<_>>()
        };
        assert_eq!(names(Change::Put { new: &first, old: None }), ["first"]);
        assert_eq!(names(Change::Put { new: &second, old: Some(&first) }), ["second", "first"]);
        assert_eq!(children.owned("a", "second-uid").len(), 1);
        assert_eq!(names(Change::Gone(&second)), ["second"]);
        assert_eq!(children.owned("a", "second-uid").len(), 0);
        assert_eq!(names(Change::Listed), [""; 0]);
        assert_eq!(children.owned("a", "second-uid").len(), 1, "from what the cache holds");
    }
}
