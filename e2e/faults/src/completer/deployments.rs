//! A Deployment as its controller and its kubelets would report it.

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use serde_json::json;
use vitrine_contract::paths::READY_PATH;
use vitrine_crds::names;

use super::{Completer, now};

/// Reports a Deployment: its pods become ready, unless their model is spoiled and a probe notices it.
pub async fn play(completer: &Completer, deployment: Deployment) -> Result<()> {
    let (namespace, name) = (deployment.namespace().unwrap_or_default(), deployment.name_any());
    let spec = deployment.spec.clone().unwrap_or_default();
    let replicas = spec.replicas.unwrap_or(1);
    tokio::time::sleep(completer.work).await;
    let digest = deployment.annotations().get(names::ANNOTATION_MODEL_DIGEST).cloned().unwrap_or_default();
    let spoiled = completer.state().spoiled.contains(&digest);
    // without a probe a kubelet takes any running container as ready
    let probed = spec.template.spec.iter().flat_map(|s| &s.containers).any(|c| {
        let probe = c.readiness_probe.as_ref().and_then(|p| p.http_get.as_ref());
        probe.is_some_and(|p| p.path.as_deref() == Some(READY_PATH))
    });
    let ready = if spoiled && probed { 0 } else { replicas };
    let condition = |type_: &str, holds: bool, reason: &str| {
        json!({"type": type_, "status": if holds { "True" } else { "False" }, "reason": reason,
            "message": reason, "lastTransitionTime": now(), "lastUpdateTime": now()})
    };
    let conditions = if ready == replicas {
        json!([
            condition("Available", true, "MinimumReplicasAvailable"),
            condition("Progressing", true, "NewReplicaSetAvailable")
        ])
    } else {
        json!([
            condition("Available", false, "MinimumReplicasUnavailable"),
            condition("Progressing", false, "ProgressDeadlineExceeded")
        ])
    };
    let status = json!({"observedGeneration": deployment.metadata.generation, "replicas": replicas,
        "updatedReplicas": replicas, "readyReplicas": ready, "availableReplicas": ready,
        "unavailableReplicas": replicas - ready, "conditions": conditions});
    completer.status::<Deployment>(&namespace, &name, status).await?;
    Ok(())
}
