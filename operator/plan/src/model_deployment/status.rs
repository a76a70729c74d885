//! The status of a ModelDeployment. `Ready` follows what has the traffic; how a change goes is told
//! by `Reconciling`, `RolloutSucceeded` and `lastRollout`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use vitrine_crds::condition::{ConditionType, Reason, Truth, Verdict, render};
use vitrine_crds::model_deployment::{Effective, LastRollout, Lineage, ServedVersion};
use vitrine_crds::names;
use vitrine_crds::{ModelDeployment, ModelDeploymentStatus};

use super::autoscaler::{self, Active};
use super::{Case, Wanted, children, rollout};
use crate::facts::{DeploymentFacts, VersionFacts};
use crate::plan::{Plan, Requeue};
use crate::status::{Kind, Phase, rejected, transition};

/// What the pass found besides the facts.
pub struct Seen<'a> {
    /// The Deployment that is wanted for the target.
    pub wanted: Option<&'a Wanted>,
    /// How the rollout ended, if it ended in this pass.
    pub ended: Option<LastRollout>,
    /// Whether the alias is being moved.
    pub promoting: bool,
}

impl Case<'_> {
    /// The whole status.
    pub(super) fn status(&self, seen: &Seen<'_>) -> ModelDeploymentStatus {
        let before = self.object.status.clone().unwrap_or_default();
        let serving = self.choice.serving;
        let phase = self.phase(seen);
        let last_rollout = seen.ended.clone().or(before.last_rollout);
        let verdicts = self.verdicts(seen, &phase, last_rollout.as_ref());
        let moving = self.choice.target.filter(|_| !self.arrived());
        let cause = moving.map(|t| &t.digest).or(serving.map(|s| &s.digest)).and_then(|d| self.cause(d));
        let done = self.arrived() && seen.wanted.is_some_and(|w| w.up) && self.choice.refused.is_none();
        let url = self.url();
        ModelDeploymentStatus {
            observed_generation: self.object.metadata.generation,
            url: Some(url),
            replicas: serving.map_or(0, |s| self.pods(s)),
            ready_replicas: serving.map_or(0, |s| s.ready),
            replica_summary: Some(format!("{}/{}", serving.map_or(0, |s| s.ready), self.replicas())),
            selector: self.traffic(None).map(|digest| self.selector(digest)),
            stable: serving.map(|s| self.served(s, seen)),
            candidate: moving.map(|t| self.coming(t)),
            last_rollout,
            effective: serving.map(|s| Effective { image: s.image.clone() }).or(before.effective),
            lineage: serving.and_then(|s| self.lineage(s, before.lineage)),
            last_failure: if done { None } else { cause.or(before.last_failure) },
            conditions: render(&verdicts, &before.conditions, self.object.metadata.generation, &self.now),
        }
    }

    fn url(&self) -> String {
        let (name, namespace) = (&self.owner.name, &self.owner.namespace);
        match self.valid.spec.service.port {
            80 => format!("http://{name}.{namespace}.svc"),
            port => format!("http://{name}.{namespace}.svc:{port}"),
        }
    }

    fn selector(&self, digest: &str) -> String {
        let pairs = children::selector(&self.owner, digest);
        let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(",")
    }

    /// Pods that exist for what serves, ready or not.
    fn pods(&self, serving: &DeploymentFacts) -> i32 {
        let short = names::short_digest(&serving.digest);
        let alive = |p: &&crate::facts::PodFacts| {
            p.model_digest.as_deref() == Some(short)
                && !p.terminating
                && !matches!(p.phase.as_str(), "Failed" | "Succeeded")
        };
        i32::try_from(self.seen.pods.iter().filter(alive).count()).unwrap_or(i32::MAX)
    }

    /// The number with which the pods answer: while the same bytes get a new one, still the old one.
    fn answers(&self, serving: &DeploymentFacts, seen: &Seen<'_>) -> i64 {
        let up = self.arrived() && seen.wanted.is_some_and(|w| w.up);
        let before = self.object.status.as_ref().and_then(|s| s.stable.as_ref());
        before.filter(|b| !up && b.digest == serving.digest).map_or(serving.version, |b| b.version)
    }

    fn served(&self, serving: &DeploymentFacts, seen: &Seen<'_>) -> ServedVersion {
        ServedVersion {
            version: self.answers(serving, seen),
            digest: serving.digest.clone(),
            deployment: serving.name.clone(),
            replicas: serving.replicas,
            ready_replicas: serving.ready,
        }
    }

    fn coming(&self, target: &VersionFacts) -> ServedVersion {
        let live = self.find(&target.digest);
        ServedVersion {
            version: target.version,
            digest: target.digest.clone(),
            deployment: children::name(&self.owner, &target.digest),
            replicas: self.replicas_of(&target.digest),
            ready_replicas: live.map_or(0, |l| l.updated_ready),
        }
    }

    fn lineage(&self, serving: &DeploymentFacts, before: Option<Lineage>) -> Option<Lineage> {
        let versions = [self.seen.stable.as_ref(), self.seen.candidate.as_ref()];
        let known = versions.into_iter().flatten().find(|v| v.digest == serving.digest);
        known
            .map(|v| Lineage {
                dataset_digest: v.dataset_digest.clone(),
                training_run: v.run_name.clone(),
                model_digest: v.digest.clone(),
            })
            .or(before.filter(|l| l.model_digest == serving.digest))
    }

    fn phase(&self, seen: &Seen<'_>) -> Phase {
        let model = &self.valid.spec.model.name;
        // a refused candidate is no reason to stall while what the alias names is served
        if let Some(wanted) = self.choice.refused.filter(|_| self.choice.target.is_none()) {
            let text = format!(
                "version {} of model {model} failed to roll out and version {} goes on: change the spec to try again",
                wanted.version,
                self.choice.serving.map_or(0, |s| s.version)
            );
            return Phase::Stalled(Reason::RolloutFailed, text);
        }
        let Some(target) = self.choice.target else { return self.unresolved() };
        let wanted = seen.wanted.filter(|_| self.arrived());
        // the same bytes under a new number have the traffic at once; the known number comes back
        let reverts = |end: &LastRollout| {
            wanted.is_none() || self.seen.stable.as_ref().is_some_and(|s| s.version != end.version)
        };
        if let Some(end) = &seen.ended
            && end.result == rollout::FAILED
            && reverts(end)
        {
            let text = format!("version {} failed to roll out and is being removed", end.version);
            return Phase::Working(Reason::RolloutFailed, text);
        }
        if wanted.is_some_and(|w| w.late) {
            let (_, text) = self.late_message(target);
            return Phase::Stalled(Reason::RolloutFailed, text);
        }
        if seen.promoting {
            let text = format!("version {} serves: the alias is being moved to it", target.version);
            return Phase::Working(Reason::Progressing, text);
        }
        if !wanted.is_some_and(|w| w.up) {
            return Phase::Working(Reason::Progressing, self.progress(target));
        }
        match &self.seen.alias_owner {
            Some(other) => Phase::Stalled(Reason::AliasConflict, self.conflict(other)),
            None => Phase::Settled,
        }
    }

    fn unresolved(&self) -> Phase {
        match &self.seen.alias_owner {
            Some(other) => Phase::Stalled(Reason::AliasConflict, self.conflict(other)),
            // a TrainingRun may still register it
            None => Phase::Working(Reason::ModelNotFound, self.not_found()),
        }
    }

    fn conflict(&self, other: &str) -> String {
        let model = &self.valid.spec.model;
        format!(
            "ModelDeployment {other} moves alias {} of model {}: remove model.candidateAlias here or there",
            model.alias.as_deref().unwrap_or_default(),
            model.name
        )
    }

    fn not_found(&self) -> String {
        let model = &self.valid.spec.model;
        let wanted = match (&model.alias, &model.candidate_alias, model.version, &model.digest) {
            (Some(alias), Some(candidate), ..) => format!("alias {alias} or {candidate}"),
            (Some(alias), None, ..) => format!("alias {alias}"),
            (None, _, Some(version), _) => format!("version {version}"),
            (None, _, None, digest) => format!("digest {}", digest.as_deref().unwrap_or_default()),
        };
        format!(
            "model {} has no {wanted} in namespace {}: a TrainingRun with output.model {} makes one",
            model.name, self.owner.namespace, model.name
        )
    }

    fn progress(&self, target: &VersionFacts) -> String {
        let ready = self.find(&target.digest).map_or(0, |d| d.updated_ready);
        let wanted = self.replicas_of(&target.digest);
        let text = format!("version {}: {ready} of {wanted} pods answer", target.version);
        match self.cause(&target.digest) {
            Some(cause) => format!("{text}; {}", cause.message),
            None => text,
        }
    }

    fn verdicts(&self, seen: &Seen<'_>, phase: &Phase, last: Option<&LastRollout>) -> Vec<Verdict> {
        let mut verdicts: Vec<Verdict> = phase.verdicts().into();
        let (available, reason, message) = self.available(seen);
        verdicts.push(Verdict::new(ConditionType::Available, available, reason, message.clone()));
        let ready = available || reason == Reason::ScaledToZero;
        verdicts.push(match phase {
            _ if ready => Verdict::new(ConditionType::Ready, true, reason, message),
            Phase::Working(why, text) | Phase::Stalled(why, text) => {
                Verdict::new(ConditionType::Ready, false, *why, text.clone())
            }
            Phase::Settled => Verdict::new(ConditionType::Ready, false, reason, message),
        });
        verdicts.push(self.resolved());
        verdicts.push(self.rolled_out(seen, last));
        verdicts.push(self.scaling());
        verdicts
    }

    /// Do enough pods answer? Half of them, rounded up: scaling by one or losing a pod of several
    /// does not flip it, and `Reconciling` tells the rest. Before the first success: all of them.
    /// With autoscaling it is half of the fewest: more load is no outage while more pods start.
    fn available(&self, seen: &Seen<'_>) -> (bool, Reason, String) {
        let wanted = self.replicas();
        let Some(serving) = self.choice.serving else {
            return (false, Reason::Unavailable, "no version has the traffic yet".to_owned());
        };
        if self.at_zero() {
            return (false, Reason::ScaledToZero, "spec.replicas is 0: no pod answers".to_owned());
        }
        let version = self.answers(serving, seen);
        let bounds = self.autoscaling().map_or_else(String::new, |bounds| {
            format!("; autoscaled between {} and {}", bounds.min_replicas, bounds.max_replicas)
        });
        let text = format!("{} of {wanted} pods answer with version {version}{bounds}", serving.ready);
        let least = self.autoscaling().map_or(wanted, |bounds| bounds.min_replicas);
        let enough = if rollout::proved(self.object, serving) { (least + 1) / 2 } else { wanted };
        let available = serving.ready >= enough;
        (available, if available { Reason::Available } else { Reason::Unavailable }, text)
    }

    /// Does Kubernetes choose the number of pods? Its words only where it cannot: they hold numbers
    /// that change all the time otherwise.
    fn scaling(&self) -> Verdict {
        let of = |truth: Truth, reason, text: String| {
            Verdict::new(ConditionType::ScalingActive, truth, reason, text)
        };
        let Some(bounds) = self.autoscaling() else {
            let text = "spec.autoscaling is not set: spec.replicas decides".to_owned();
            return of(Truth::False, Reason::NotAutoscaled, text);
        };
        let name = &self.owner.name;
        let active = autoscaler::active(self.seen.autoscaler.as_ref().map(|(live, _)| live));
        let (truth, text) = match &active {
            Active::Yes => {
                let (min, max) = (bounds.min_replicas, bounds.max_replicas);
                (Truth::True, format!("HorizontalPodAutoscaler {name} keeps between {min} and {max} pods"))
            }
            Active::Unknown => {
                (Truth::Unknown, format!("HorizontalPodAutoscaler {name} has not measured the load yet"))
            }
            Active::No(why) => (
                Truth::False,
                format!(
                    "HorizontalPodAutoscaler {name} cannot measure the load and the number of pods stays as it is: {why}; `kubectl top pods` shows whether the cluster's metrics server works"
                ),
            ),
        };
        of(truth, active.reason(), text)
    }

    fn resolved(&self) -> Verdict {
        let of = |truth: bool, reason, text: String| {
            Verdict::new(ConditionType::ModelResolved, truth, reason, text)
        };
        let known = self.choice.target.or(self.choice.refused).or(self.seen.stable.as_ref());
        match (known, &self.seen.alias_owner) {
            (Some(version), _) => of(
                true,
                Reason::ModelResolved,
                format!(
                    "version {} of model {} ({})",
                    version.version, self.valid.spec.model.name, version.digest
                ),
            ),
            (None, Some(other)) => of(false, Reason::AliasConflict, self.conflict(other)),
            (None, None) => of(false, Reason::ModelNotFound, self.not_found()),
        }
    }

    fn rolled_out(&self, seen: &Seen<'_>, last: Option<&LastRollout>) -> Verdict {
        let of = |truth: Truth, reason, text: String| {
            Verdict::new(ConditionType::RolloutSucceeded, truth, reason, text)
        };
        let going = self.choice.target.filter(|t| {
            let settled = seen.wanted.is_some_and(|w| w.up || w.late);
            let known = last
                .is_some_and(|l| rollout::same(l.version, &l.digest, t) && l.result == rollout::SUCCEEDED);
            !(settled || (known && self.arrived()))
        });
        match (going, last) {
            (Some(target), _) => of(Truth::Unknown, Reason::Progressing, self.progress(target)),
            (None, Some(last)) if last.result == rollout::SUCCEEDED => {
                of(Truth::True, Reason::RolloutComplete, format!("version {} was rolled out", last.version))
            }
            (None, Some(last)) => {
                let why = last.message.clone().unwrap_or_default();
                of(Truth::False, Reason::RolloutFailed, why)
            }
            (None, None) => of(Truth::Unknown, Reason::Pending, "nothing was rolled out yet".to_owned()),
        }
    }
}

/// The plan of a ModelDeployment that cannot be carried out: what is known of its pods stays.
pub fn invalid(
    object: &ModelDeployment,
    reason: Reason,
    message: &str,
    now: &Time,
) -> Plan<ModelDeploymentStatus> {
    let mut status = object.status.clone().unwrap_or_default();
    let before = std::mem::take(&mut status.conditions);
    let generation = object.metadata.generation;
    status.observed_generation = generation;
    status.conditions = rejected(Kind::ModelDeployment, &before, generation, reason, message, now);
    let events = transition(ConditionType::Ready, "Validate", &before, &status.conditions);
    Plan {
        registry: vec![],
        apply: vec![],
        delete: vec![],
        events: events.into_iter().collect(),
        status,
        requeue: Requeue::AwaitChange,
    }
}
