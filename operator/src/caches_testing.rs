//! Caches that a test fills by hand.

use super::*;
use kube::runtime::watcher::Event;

/// Caches with a way to put objects in.
pub struct Filled {
    /// The caches.
    pub caches: Caches,
    writers: Writers,
}

impl Filled {
    /// Empty caches in which namespace `a` has UID `ns-uid`.
    #[allow(clippy::new_without_default)] // the namespace in it is no default
    pub fn new() -> Self {
        let (caches, writers) = Caches::empty();
        let mut filled = Self { caches, writers };
        let meta =
            serde_json::from_value(serde_json::json!({"metadata": {"name": "a", "uid": "ns-uid"}})).unwrap();
        filled.writers.namespaces.apply_watcher_event(&Event::Apply(meta));
        filled
    }

    /// Says that the main caches were filled.
    pub fn ready(&mut self) {
        fn done<K: Resource<DynamicType = ()> + Clone + 'static>(store: &Store<K>, writer: &mut Writer<K>) {
            let all = store.state();
            writer.apply_watcher_event(&Event::Init);
            for object in all {
                writer.apply_watcher_event(&Event::InitApply((*object).clone()));
            }
            writer.apply_watcher_event(&Event::InitDone);
        }
        done(&self.caches.datasets, &mut self.writers.datasets);
        done(&self.caches.runs, &mut self.writers.runs);
        done(&self.caches.deployments, &mut self.writers.deployments);
    }

    /// Puts a Job, as far as it is kept.
    pub fn job(&mut self, job: &Job) {
        let job = job.clone().object().unwrap();
        self.caches.jobs.index().put(&job);
        self.writers.jobs.apply_watcher_event(&Event::Apply(job));
    }

    /// Puts a pod, as far as it is kept.
    pub fn pod(&mut self, pod: &Pod) {
        let pod = pod.clone().object().unwrap();
        self.caches.pods.index().put(&pod);
        self.writers.pods.apply_watcher_event(&Event::Apply(pod));
    }

    /// Puts a config, as far as it is kept.
    pub fn config(&mut self, config: &ConfigMap) {
        let config = config.clone().object().unwrap();
        self.caches.configs.index().put(&config);
        self.writers.configs.apply_watcher_event(&Event::Apply(config));
    }

    /// Puts a Service, as far as it is kept.
    pub fn service(&mut self, service: &Service) {
        let service = service.clone().object().unwrap();
        self.caches.services.index().put(&service);
        self.writers.services.apply_watcher_event(&Event::Apply(service));
    }

    /// Puts a Dataset.
    pub fn dataset(&mut self, dataset: Dataset) {
        self.caches.testing.put(&dataset);
        self.writers.datasets.apply_watcher_event(&Event::Apply(dataset));
    }

    /// Puts a ModelDeployment.
    pub fn deployment(&mut self, deployment: ModelDeployment) {
        self.caches.serving.put(&deployment);
        self.writers.deployments.apply_watcher_event(&Event::Apply(deployment));
    }
}
