//! A Job from its first pod to its end.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::Api;
use serde_json::{Value, json};
use vitrine_contract::exit;
use vitrine_contract::job::JobConfig;
use vitrine_contract::paths::CONFIG_KEY;

use super::pods;
use super::{Behaviour, Completer, now};

/// Plays a Job until it ends or is gone.
pub async fn play(completer: &Completer, job: Job) -> Result<()> {
    let (namespace, name) = (job.namespace().unwrap_or_default(), job.name_any());
    let owner = job.metadata.owner_references.iter().flatten().next().map(|o| o.name.clone());
    let behaviour = Behaviour::of(&owner.clone().unwrap_or_default());
    let started = now();
    // a kubelet waits for the config that the pod mounts
    let Some(config) = config(completer, &namespace, &name).await? else { return Ok(()) };
    let start = json!({"startTime": started, "active": 1, "ready": 0, "terminating": 0});
    if !completer.status::<Job>(&namespace, &name, start).await? {
        return Ok(());
    }
    for number in 0.. {
        let Some(pod) = pods::create(completer, &job, number).await? else { return Ok(()) };
        tokio::time::sleep(completer.work).await;
        if behaviour == Behaviour::Slow {
            wait_released(completer, &job, &owner.clone().unwrap_or_default()).await?;
        }
        let code = pods::work(completer, &pod, &config, behaviour, number).await?;
        let end = match code {
            exit::OK => complete(&started),
            code if exit::FINAL.contains(&code) => failed(&started, "PodFailurePolicy", code),
            _ if number >= 3 => failed(&started, "BackoffLimitExceeded", code),
            _ => continue,
        };
        completer.status::<Job>(&namespace, &name, end).await?;
        return Ok(());
    }
    Ok(())
}

/// The config of the Job's pods, once it is there; nothing if the Job goes first.
async fn config(completer: &Completer, namespace: &str, name: &str) -> Result<Option<JobConfig>> {
    let configs = Api::<ConfigMap>::namespaced(completer.client.clone(), namespace);
    loop {
        if let Some(found) = configs.get_opt(name).await? {
            let text =
                found.data.as_ref().and_then(|d| d.get(CONFIG_KEY)).context("a config without file")?;
            return Ok(Some(serde_json::from_str(text)?));
        }
        if exists(completer, namespace, name).await?.is_none() {
            return Ok(None);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn exists(completer: &Completer, namespace: &str, name: &str) -> Result<Option<Job>> {
    let job = Api::<Job>::namespaced(completer.client.clone(), namespace).get_opt(name).await?;
    Ok(job.filter(|j| j.metadata.deletion_timestamp.is_none()))
}

/// Waits until the test lets the Job end; while it is suspended it has no pod that could.
async fn wait_released(completer: &Completer, job: &Job, owner: &str) -> Result<()> {
    let (namespace, name) = (job.namespace().unwrap_or_default(), job.name_any());
    while let Some(live) = exists(completer, &namespace, &name).await? {
        let suspended = live.spec.and_then(|s| s.suspend).unwrap_or_default();
        if !suspended && completer.state().released.contains(owner) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn condition(type_: &str, reason: &str, message: &str) -> Value {
    json!({"type": type_, "status": "True", "reason": reason, "message": message,
           "lastTransitionTime": now(), "lastProbeTime": now()})
}

fn complete(started: &str) -> Value {
    let reason = "CompletionsReached";
    json!({"startTime": started, "completionTime": now(), "active": 0, "succeeded": 1, "ready": 0, "terminating": 0,
        "conditions": [condition("SuccessCriteriaMet", reason, ""), condition("Complete", reason, "")]})
}

fn failed(started: &str, reason: &str, code: i32) -> Value {
    let message = format!("container main failed with exit code {code}");
    json!({"startTime": started, "active": 0, "failed": 1, "ready": 0, "terminating": 0,
        "conditions": [condition("FailureTarget", reason, &message), condition("Failed", reason, &message)]})
}
