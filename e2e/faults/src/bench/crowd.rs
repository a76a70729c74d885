//! The users: they create resources, eight of each kind at once, and watch them come true.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::mix::{Item, KINDS};

/// Requests at once, for each kind; the operator's default as well.
pub const AT_ONCE: usize = 8;

type Key = (&'static str, String, String);

/// When each resource came true, for the time being.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<HashMap<Key, Option<Instant>>>>);

/// The users' client and what they see.
pub struct Crowd {
    client: Client,
    /// What they see.
    pub board: Board,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The API of a plural of ours.
pub fn resource(plural: &str) -> ApiResource {
    let kind = match plural {
        "datasets" => "Dataset",
        "trainingruns" => "TrainingRun",
        _ => "ModelDeployment",
    };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("vitrine.dev", "v1alpha1", kind), plural)
}

impl Crowd {
    /// Starts to watch.
    pub fn new(client: Client) -> Self {
        let board = Board::default();
        let tasks = KINDS.map(|plural| tokio::spawn(watch(client.clone(), plural, board.clone())));
        Self { client, board, tasks: tasks.into() }
    }

    /// Resources of a kind in a namespace.
    pub fn api(&self, plural: &str, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &resource(plural))
    }

    /// Creates one resource.
    pub async fn create(&self, item: &Item, prefix: &str) -> Result<DynamicObject> {
        let object = serde_json::from_value(item.manifest.clone())?;
        let api = self.api(item.plural, &format!("{prefix}-{}", item.namespace));
        api.create(&PostParams::default(), &object).await.with_context(|| item.name.clone())
    }

    /// Creates resources of all kinds, [`AT_ONCE`] of each, and hands each to `then`.
    pub async fn create_all(
        &self,
        items: &[Vec<Item>; 3],
        prefix: &str,
        then: impl Fn(&Item, DynamicObject),
    ) -> Result<()> {
        let kinds = items.iter().map(|items| {
            futures::stream::iter(items)
                .map(|item| async move { anyhow::Ok((item, self.create(item, prefix).await?)) })
                .buffer_unordered(AT_ONCE)
                .try_for_each(|(item, made)| {
                    then(item, made);
                    futures::future::ready(Ok(()))
                })
        });
        futures::future::try_join_all(kinds).await?;
        Ok(())
    }
}

impl Board {
    fn note(&self, plural: &'static str, object: &DynamicObject) {
        let key = (plural, object.namespace().unwrap_or_default(), object.name_any());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = all.entry(key).or_default();
        if came_true(object) {
            entry.get_or_insert_with(Instant::now);
        } else {
            *entry = None;
        }
    }

    /// Forgets everything of a namespace's prefix.
    fn forget(&self, plural: &'static str, object: &DynamicObject) {
        let key = (plural, object.namespace().unwrap_or_default(), object.name_any());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    /// When the last of `expected` resources of a namespace prefix came true, if all have; else the
    /// names of some that have not.
    pub fn all_true(&self, prefix: &str, expected: usize) -> Result<Instant, Vec<String>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = || all.iter().filter(|((_, namespace, _), _)| namespace.starts_with(prefix));
        let missing: Vec<String> = ours()
            .filter(|(_, at)| at.is_none())
            .map(|((p, n, name), _)| format!("{p} {n}/{name}"))
            .collect();
        let last = ours().filter_map(|(_, at)| *at).max();
        match last {
            Some(last) if missing.is_empty() && ours().count() >= expected => Ok(last),
            _ => Err(missing),
        }
    }

    /// Waits until all of `expected` resources are true; when the last of them was.
    pub async fn wait_true(&self, prefix: &str, expected: usize, limit: Duration) -> Result<Instant> {
        let end = Instant::now() + limit;
        loop {
            match self.all_true(prefix, expected) {
                Ok(last) => return Ok(last),
                Err(missing) if Instant::now() > end => {
                    let some: Vec<&String> = missing.iter().take(5).collect();
                    bail!(
                        "{} resources did not come true within {} s, such as {some:?}",
                        missing.len(),
                        limit.as_secs()
                    )
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

/// Ready, or (by its name) failed for good, and said of the newest spec.
fn came_true(object: &DynamicObject) -> bool {
    let status = &object.data["status"];
    let holds = |type_: &str| {
        let conditions = status["conditions"].as_array();
        conditions.into_iter().flatten().any(|c| c["type"] == type_ && c["status"] == "True")
    };
    status["observedGeneration"] == serde_json::json!(object.metadata.generation)
        && status["observedGeneration"] != Value::Null
        && if object.name_any().starts_with("data-") { holds("Stalled") } else { holds("Ready") }
}

async fn watch(client: Client, plural: &'static str, board: Board) {
    let api = Api::<DynamicObject>::all_with(client, &resource(plural));
    let mut events = std::pin::pin!(watcher(api, Config::default()));
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => board.note(plural, &object),
            Ok(Event::Delete(object)) => board.forget(plural, &object),
            Ok(Event::Init | Event::InitDone) => {}
            Err(error) => eprintln!("watch of {plural}: {error}"),
        }
    }
}
