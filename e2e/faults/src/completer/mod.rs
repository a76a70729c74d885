//! Stands for kubelet, Job controller and Deployment controller: it gives our Jobs and Deployments the
//! status that those would, and plays the pods, which talk to the artifact gateway as real ones do
//! (projected token, TLS, verified blobs). How a pod behaves follows from the name of its owner.
//!
//! What must not be done here: no write that a real controller or pod would not make.

mod deployments;
mod jobs;
mod pods;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::task::JoinHandle;

/// How a Job's pods behave; chosen by the start of the owner's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// They succeed.
    Good,
    /// They report data that cannot be used; final.
    Data,
    /// The first one crashes, the second succeeds.
    Retry,
    /// They say it only to the gateway: the termination message is lost.
    Mute,
    /// They say it only in the termination message: the post is lost.
    Quiet,
    /// They run until they are released.
    Slow,
    /// They succeed with a model that no server will accept.
    Spoiled,
}

impl Behaviour {
    /// By the start of the name of the Job's owner.
    pub fn of(owner: &str) -> Self {
        match owner.split('-').next().unwrap_or_default() {
            "data" => Self::Data,
            "retry" => Self::Retry,
            "mute" => Self::Mute,
            "quiet" => Self::Quiet,
            "slow" => Self::Slow,
            "spoiled" => Self::Spoiled,
            _ => Self::Good,
        }
    }
}

/// What pods do at the gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Voice {
    /// Each stores blobs of its own and posts its result, as real pods do.
    #[default]
    Own,
    /// Each stores the same blobs as all others and posts its result.
    Shared,
    /// Nothing: their termination message names the shared blobs, which are stored already.
    Message,
}

/// What is shared by the completer's tasks. A clone is the same completer.
#[derive(Clone)]
pub struct Completer {
    client: Client,
    /// Time that a pod works.
    work: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// UIDs of Jobs that are being played.
    playing: HashSet<String>,
    /// Digests that no server accepts.
    spoiled: HashSet<String>,
    /// Owners whose slow pods may end.
    released: HashSet<String>,
    /// What pods do at the gateway.
    voice: Voice,
    /// Jobs and Deployments that were completed so far.
    completed: usize,
    /// What went wrong on the way; a Job that was deleted under a pod is no error.
    trouble: Vec<String>,
}

/// Ends the completer's tasks when it is dropped.
pub struct Running(Vec<JoinHandle<()>>);

impl Drop for Running {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl Completer {
    /// Starts to complete what is there and what comes; each pod works for `work`.
    pub fn start(client: Client, work: Duration) -> (Self, Running) {
        let completer = Self { client, work, state: Arc::default() };
        let jobs = tokio::spawn(watch::<Job>(completer.clone(), Completer::job));
        let deployments = tokio::spawn(watch::<Deployment>(completer.clone(), Completer::deployment));
        (completer, Running(vec![jobs, deployments]))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slow pods of an owner may end.
    pub fn release(&self, owner: &str) {
        self.state().released.insert(owner.to_owned());
    }

    /// What pods do at the gateway from now on.
    pub fn speak(&self, voice: Voice) {
        self.state().voice = voice;
    }

    /// Jobs and Deployments that were completed so far.
    pub fn completed(&self) -> usize {
        self.state().completed
    }

    /// Forgets what was said about owners.
    pub fn reset(&self) {
        let mut state = self.state();
        state.released.clear();
        state.trouble.clear();
    }

    /// What went wrong so far.
    pub fn trouble(&self) -> Vec<String> {
        self.state().trouble.clone()
    }

    fn job(self, job: Job) {
        let uid = job.uid().unwrap_or_default();
        let over = job.status.as_ref().and_then(|s| s.conditions.as_ref()).is_some_and(|c| {
            c.iter().any(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")
        });
        let suspended = job.spec.as_ref().and_then(|s| s.suspend).unwrap_or_default();
        if over || suspended || job.metadata.deletion_timestamp.is_some() {
            return;
        }
        if !self.state().playing.insert(uid.clone()) {
            return;
        }
        tokio::spawn(async move {
            let name = format!("{}/{}", job.namespace().unwrap_or_default(), job.name_any());
            let played = Box::pin(jobs::play(&self, job)).await;
            let mut state = self.state();
            state.playing.remove(&uid);
            state.completed += 1;
            if let Err(error) = played {
                state.trouble.push(format!("Job {name}: {error:#}"));
            }
        });
    }

    fn deployment(self, deployment: Deployment) {
        let status = deployment.status.as_ref();
        let seen = status.and_then(|s| s.observed_generation) == deployment.metadata.generation;
        if seen || deployment.metadata.deletion_timestamp.is_some() {
            return;
        }
        tokio::spawn(async move {
            let name = format!("{}/{}", deployment.namespace().unwrap_or_default(), deployment.name_any());
            let played = deployments::play(&self, deployment).await;
            let mut state = self.state();
            state.completed += 1;
            if let Err(error) = played {
                state.trouble.push(format!("Deployment {name}: {error:#}"));
            }
        });
    }

    /// Writes a status; an object that is gone needs none.
    async fn status<K>(&self, namespace: &str, name: &str, status: Value) -> anyhow::Result<bool>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let api = Api::<K>::namespaced(self.client.clone(), namespace);
        let patch = Patch::Merge(serde_json::json!({"status": status}));
        match api.patch_status(name, &PatchParams::default(), &patch).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Tells about every object of a kind that is ours.
async fn watch<K>(completer: Completer, tell: fn(Completer, K))
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let selector = format!("{}={}", vitrine_crds::names::LABEL_MANAGED_BY, vitrine_crds::names::MANAGED_BY);
    let config = Config::default().labels(&selector);
    let mut events = std::pin::pin!(watcher(Api::<K>::all(completer.client.clone()), config));
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => tell(completer.clone(), object),
            Ok(_) => {}
            Err(error) => {
                completer.state().trouble.push(format!("watch: {error}"));
                // errors may come at once, at the end of the program for one: then this task must be seen to
                // yield, or it keeps the program from ending
                tokio::task::yield_now().await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// The time as the API writes it.
fn now() -> String {
    k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
