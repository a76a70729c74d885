//! One pod: its object, its token, what it does at the gateway, and its last words.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod as Object, ServiceAccount};
use kube::ResourceExt as _;
use kube::api::{Api, PostParams};
use serde_json::json;
use vitrine_contract::job::{JobConfig, Task};
use vitrine_contract::report::{
    BestTrial, Blob, Failure, Ingested, Message, Outcome, SplitMetrics, SplitReport, Trained, Trials,
};
use vitrine_contract::{exit, gateway, paths};
use vitrine_crds::names;
use vitrine_gateway_client::{Client as Gateway, digest_of_bytes};

use super::{Behaviour, Completer, Voice, now};

/// How long a pod tries to reach the gateway: the operator may be away for a while.
const PATIENCE: Duration = Duration::from_secs(45);

/// A pod that was created.
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Name of the owner of its Job.
    pub owner: String,
}

/// Creates the nth pod of a Job, running; nothing if the Job's namespace does not take it any more.
pub async fn create(completer: &Completer, job: &Job, number: i32) -> Result<Option<Pod>> {
    let (namespace, name) = (job.namespace().unwrap_or_default(), job.name_any());
    let template = job.spec.as_ref().map(|s| s.template.clone()).unwrap_or_default();
    let mut labels = template.metadata.and_then(|m| m.labels).unwrap_or_default();
    labels.insert("batch.kubernetes.io/job-name".to_owned(), name.clone());
    let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job.uid(), "controller": true,
        "blockOwnerDeletion": true});
    let pod: Object = serde_json::from_value(json!({
        "metadata": {"name": format!("{name}-{number}"), "labels": labels, "ownerReferences": [owner]},
        "spec": template.spec,
    }))?;
    let api = Api::<Object>::namespaced(completer.client.clone(), &namespace);
    let made = match api.create(&PostParams::default(), &pod).await {
        Ok(made) => made,
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => return Ok(None),
        // from the time before this completer was started
        Err(kube::Error::Api(status)) if status.code == 409 => api.get(&pod.name_any()).await?,
        Err(error) => return Err(error.into()),
    };
    let pod = Pod {
        namespace: namespace.clone(),
        name: made.name_any(),
        uid: made.uid().unwrap_or_default(),
        owner: job
            .metadata
            .owner_references
            .iter()
            .flatten()
            .next()
            .map(|o| o.name.clone())
            .unwrap_or_default(),
    };
    let running = json!({"phase": "Running", "startTime": now(), "containerStatuses": [{"name": names::CONTAINER,
        "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {"startedAt": now()}}}]});
    completer.status::<Object>(&namespace, &pod.name, running).await?;
    Ok(Some(pod))
}

/// The pod's work and its end; returns its exit code.
pub async fn work(
    completer: &Completer,
    pod: &Pod,
    config: &JobConfig,
    behaviour: Behaviour,
    number: i32,
) -> Result<i32> {
    let (code, message) = match behaviour {
        Behaviour::Data => {
            let words = "X.csv line 3: the row has 2 cells, the header has 3".to_owned();
            let failure = Failure { reason: "DataCorrupt".into(), message: words };
            (exit::DATA, Some(Outcome::Failed(failure)))
        }
        Behaviour::Retry if number == 0 => (exit::INTERNAL, None),
        _ => (exit::OK, Some(deliver(completer, pod, config, behaviour).await?)),
    };
    let message = message.map(Message::new).filter(|_| behaviour != Behaviour::Mute);
    let text = message.map(|m| serde_json::to_string(&m)).transpose()?.unwrap_or_default();
    anyhow::ensure!(text.len() <= paths::MAX_TERMINATION, "last words of {} bytes", text.len());
    let phase = if code == exit::OK { "Succeeded" } else { "Failed" };
    let ended = json!({"exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" }, "message": text,
        "startedAt": now(), "finishedAt": now()});
    let status = json!({"phase": phase, "containerStatuses": [{"name": names::CONTAINER, "image": "i", "imageID": "",
        "ready": false, "restartCount": 0, "state": {"terminated": ended}}]});
    completer.status::<Object>(&pod.namespace, &pod.name, status).await?;
    Ok(code)
}

/// Stores what a pod of this task stores and posts its result, with the pod's own token.
async fn deliver(
    completer: &Completer,
    pod: &Pod,
    config: &JobConfig,
    behaviour: Behaviour,
) -> Result<Outcome> {
    let voice = completer.state().voice;
    let (gateway, task) = (config.gateway.clone(), config.task.clone());
    let owner = if voice == Voice::Own { pod.owner.clone() } else { "any".to_owned() };
    if voice == Voice::Message {
        return outcome(&task, &owner, behaviour, |text| {
            Ok(Blob { digest: digest_of_bytes(text.as_bytes()), bytes: text.len() as u64 })
        });
    }
    let token = token(completer, pod).await?;
    let delivered = tokio::task::spawn_blocking(move || -> Result<Outcome> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), token)?;
        let client = Gateway::new(&gateway, Path::new(file.path()))?.with_deadline(PATIENCE);
        let outcome = outcome(&task, &owner, behaviour, |text| Ok(client.put_bytes(text.as_bytes())?))?;
        if behaviour != Behaviour::Quiet {
            client.post_result(&Message::new(outcome.clone()))?;
        }
        Ok(outcome)
    })
    .await
    .context("a pod")??;
    if let (Behaviour::Spoiled, Outcome::Trained(trained)) = (behaviour, &delivered) {
        completer.state().spoiled.insert(trained.model.digest.clone());
    }
    Ok(delivered)
}

/// What a pod of this task reports, with the blobs that `store` makes of their texts.
fn outcome(
    task: &Task,
    owner: &str,
    behaviour: Behaviour,
    store: impl Fn(String) -> Result<Blob>,
) -> Result<Outcome> {
    let store = |what: &str, key: &str| store(format!("{what} of {key}"));
    Ok(match task {
        Task::Ingest(ingest) => {
            let key = format!("{owner} {}", ingest.features);
            Outcome::Ingested(ingested([
                store("manifest", &key)?,
                store("snapshot", &key)?,
                store("profile", &key)?,
            ]))
        }
        Task::Train(train) => {
            let model = if owner == "any" { owner } else { &train.model };
            let key = format!("{model} seed {} ({behaviour:?})", train.seed);
            Outcome::Trained(trained(store("model", &key)?, store("report", &key)?))
        }
    })
}

async fn token(completer: &Completer, pod: &Pod) -> Result<String> {
    let accounts = Api::<ServiceAccount>::namespaced(completer.client.clone(), &pod.namespace);
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec![gateway::AUDIENCE.to_owned()],
            expiration_seconds: Some(3600),
            bound_object_ref: Some(BoundObjectReference {
                kind: Some("Pod".to_owned()),
                api_version: Some("v1".to_owned()),
                name: Some(pod.name.clone()),
                uid: Some(pod.uid.clone()),
            }),
        },
        ..TokenRequest::default()
    };
    let made = accounts.create_token_request("default", &PostParams::default(), &request).await?;
    made.status.map(|s| s.token).context("no token")
}

fn ingested([manifest, snapshot, profile]: [Blob; 3]) -> Ingested {
    let split = |rows| SplitReport { rows, digest: format!("sha256:{}", "0b".repeat(32)) };
    Ingested {
        manifest,
        snapshot,
        profile,
        rows: 100,
        classes: 3,
        groups: 100,
        splits: [("train".to_owned(), split(80)), ("test".to_owned(), split(20))].into(),
        null_ratios: [("designation".to_owned(), 0.0)].into(),
        imbalance_ratio: Some(1.5),
        mean_text_length: 40.0,
        ..Ingested::default()
    }
}

fn trained(model: Blob, report: Blob) -> Trained {
    let trials = Trials { total: 2, running: 0, succeeded: 2, failed: 0 };
    let best = BestTrial {
        trial: 1,
        candidate: "linearSvm".into(),
        parameters: "c=1".into(),
        metric: "F1Weighted".into(),
        mean: 0.8,
        deviation: 0.01,
    };
    let values = [("F1Weighted".to_owned(), 0.8)].into();
    let metrics = vec![SplitMetrics { split: "test".into(), rows: 20, values }];
    Trained {
        model,
        report,
        trials,
        best,
        metrics,
        wall_seconds: 1.0,
        cpu_seconds: 1.0,
        ..Trained::default()
    }
}
