//! Which version should have the traffic, which one has it, and how far the change between them is.
//! Every answer follows from what is observed; the only memory is `status.lastRollout`, so that a
//! version that failed is not tried again before the spec changes.

use k8s_openapi::api::core::v1::Service;
use vitrine_crds::model_deployment::{LastRollout, ModelDeploymentSpec};
use vitrine_crds::{ModelDeployment, names};

use super::kept;
use crate::facts::{DeploymentFacts, ModelDeploymentObserved, VersionFacts};
use crate::hash;

/// Result of a rollout that reached its end.
pub const SUCCEEDED: &str = "Succeeded";
/// Result of a rollout that did not.
pub const FAILED: &str = "Failed";

/// What is wanted and what is there.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// The version that should have the traffic. `None`: nothing is resolved, or what is wanted has
    /// failed and what serves goes on.
    pub target: Option<&'a VersionFacts>,
    /// Whether the target is the candidate: the alias follows it.
    pub promotes: bool,
    /// The version that was wanted and has failed at this generation while another one serves.
    pub refused: Option<&'a VersionFacts>,
    /// The Deployment that has the traffic, or should keep it until the target is up.
    pub serving: Option<&'a DeploymentFacts>,
    /// Whether the live Service selects it.
    pub selected: bool,
}

/// Decides.
pub fn choose<'a>(object: &'a ModelDeployment, seen: &'a ModelDeploymentObserved) -> Choice<'a> {
    let (serving, selected) = serving(object, seen);
    let wish = wish(object, seen, serving);
    let mut choice = Choice { target: wish, promotes: false, refused: None, serving, selected };
    let candidate = candidate(object, seen);
    if let Some(candidate) = candidate {
        choice.promotes = wish == Some(candidate);
        if has_failed(object, candidate) && wish.is_some() && wish != Some(candidate) {
            choice.refused = Some(candidate);
        }
    }
    if let (Some(wanted), Some(serving)) = (wish, serving)
        && has_failed(object, wanted)
        && serving.digest != wanted.digest
    {
        choice = Choice { target: None, promotes: false, refused: Some(wanted), ..choice };
    }
    choice
}

/// The candidate, where this object is the one that moves the alias.
fn candidate<'a>(object: &ModelDeployment, seen: &'a ModelDeploymentObserved) -> Option<&'a VersionFacts> {
    let asked = object.spec.model.candidate_alias.is_some() && seen.alias_owner.is_none();
    let known = seen.stable.as_ref().map(|v| v.version);
    seen.candidate.as_ref().filter(|v| asked && Some(v.version) != known)
}

fn wish<'a>(
    object: &ModelDeployment,
    seen: &'a ModelDeploymentObserved,
    serving: Option<&DeploymentFacts>,
) -> Option<&'a VersionFacts> {
    let stable = seen.stable.as_ref();
    let (Some(candidate), Some(known)) = (candidate(object, seen), stable) else {
        // without a stable version the first candidate becomes it
        return stable.or_else(|| candidate(object, seen));
    };
    let autoscaled = object.spec.autoscaling.is_some();
    let wanted = |s: &DeploymentFacts| if autoscaled { s.replicas } else { object.spec.replicas };
    let begun = seen.deployments.iter().any(|d| d.owned && same(d.version, &d.digest, candidate));
    // the known version comes up first; one that cannot come up is no reason to wait, nor one that
    // was up before and broke since: Kubernetes watches the deadline of a rollout only, so that
    // nothing would ever say that it is over
    let settled = serving.is_some_and(|s| s.ready >= wanted(s) || s.deadline_exceeded || proved(object, s));
    // one failure is remembered: where the stable version was the last to fail beside a third one
    // that serves, the candidate could be the one that failed before it, and both would be tried in
    // turn for ever
    let beside = serving.is_some_and(|s| s.digest != known.digest);
    let failed = has_failed(object, candidate) || (beside && has_failed(object, known));
    // no pod, no proof: without replicas nothing is promoted
    let some = autoscaled || object.spec.replicas > 0;
    let goes = some && (begun || settled) && !failed;
    if goes { Some(candidate) } else { stable }
}

/// Has the version failed with the spec as it is now?
fn has_failed(object: &ModelDeployment, version: &VersionFacts) -> bool {
    last(object).is_some_and(|l| {
        // a status of an earlier release has no hash
        let as_now = l.spec_hash.as_ref().map_or_else(
            || Some(l.generation) == object.metadata.generation,
            |tried_with| *tried_with == tried(&object.spec, version),
        );
        l.result == FAILED && same(l.version, &l.digest, version) && as_now
    })
}

/// Hash of what the rollout of a version depends on. The number of pods is not among it: a version that
/// failed is not tried again by whoever scales what serves.
pub fn tried(spec: &ModelDeploymentSpec, version: &VersionFacts) -> String {
    let value = serde_json::json!({"pods": kept::asked(spec, version), "rollout": spec.rollout});
    hash::sha256_hex(hash::canonical(&value).as_bytes())
}

/// Is that the version? Two versions may be the same bytes: a run that learns the same again.
pub fn same(version: i64, digest: &str, of: &VersionFacts) -> bool {
    version == of.version && digest == of.digest
}

/// Was what has the traffic ever rolled out? It was where the last rollout was its success, or that
/// of another version beside which it has the traffic.
pub fn proved(object: &ModelDeployment, serving: &DeploymentFacts) -> bool {
    last(object)
        .is_some_and(|l| l.result == SUCCEEDED || l.digest != serving.digest || l.version != serving.version)
}

/// How the last rollout ended.
pub fn last(object: &ModelDeployment) -> Option<&LastRollout> {
    object.status.as_ref().and_then(|s| s.last_rollout.as_ref())
}

/// The Deployment that has the traffic: the one that the Service selects. Where the Service or that
/// Deployment is gone, the one that had it, or the one with most pods that answer. Second: whether
/// the Service selects it.
fn serving<'a>(
    object: &ModelDeployment,
    seen: &'a ModelDeploymentObserved,
) -> (Option<&'a DeploymentFacts>, bool) {
    let ours = || seen.deployments.iter().filter(|d| d.owned);
    let named = |short: &str| ours().find(|d| names::short_digest(&d.digest) == short);
    let selected = seen.service.as_ref().and_then(|(service, _)| selected(service)).and_then(named);
    if selected.is_some() {
        return (selected, true);
    }
    let before = object.status.as_ref().and_then(|s| s.stable.as_ref());
    let kept = before.and_then(|s| named(names::short_digest(&s.digest))).filter(|d| d.ready > 0);
    (kept.or_else(|| ours().filter(|d| d.ready > 0).max_by_key(|d| d.ready)), false)
}

/// The short digest that a Service selects.
pub fn selected(service: &Service) -> Option<&str> {
    let selector = service.spec.as_ref()?.selector.as_ref()?;
    selector.get(names::LABEL_MODEL_DIGEST).map(String::as_str)
}

/// Do all wanted pods of the newest template answer?
pub fn complete(deployment: &DeploymentFacts, replicas: i32) -> bool {
    deployment.observed && deployment.replicas == replicas && deployment.updated_ready >= replicas
}

/// Is the success of what serves worth a record: is it new, or did it fail before?
pub fn new_success(object: &ModelDeployment, version: &VersionFacts, refused: bool) -> bool {
    match last(object) {
        None => true,
        Some(last) if same(last.version, &last.digest, version) => last.result == FAILED,
        // while a failed version is refused, what serves was only kept
        Some(_) => !refused,
    }
}

/// Is the failure of a version worth a record?
pub fn new_failure(object: &ModelDeployment, version: &VersionFacts) -> bool {
    !has_failed(object, version)
}
