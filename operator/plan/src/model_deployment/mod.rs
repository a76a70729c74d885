//! From a ModelDeployment and what was observed to its plan: a new version comes up beside the old
//! one, traffic moves by one write of the Service's selector, then the old one goes.

mod autoscaler;
mod children;
mod kept;
mod rollout;
mod scale;
mod status;

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use vitrine_crds::condition::{ConditionType, Reason};
use vitrine_crds::model_deployment::LastRollout;
use vitrine_crds::{ModelDeployment, ModelDeploymentStatus};

use crate::diff;
use crate::facts::{DeploymentFacts, ModelDeploymentObserved, VersionFacts};
use crate::failure::{self, Subject};
use crate::job::collision;
use crate::meta::{self, Owner};
use crate::plan::{Child, ChildRef, Plan, RegistryOp, Requeue};
use crate::pod;
use crate::policy::Policy;
use crate::refusal;
use crate::status::{events, transition};

use children::Valid;
use rollout::Choice;

/// When the rest follows a status that had to be stored first.
const SOON: Requeue = Requeue::After(Duration::from_secs(1));

/// Everything a decision needs.
struct Case<'a> {
    object: &'a ModelDeployment,
    owner: Owner,
    seen: &'a ModelDeploymentObserved,
    policy: &'a Policy,
    valid: Valid<'a>,
    choice: Choice<'a>,
    now: Time,
}

/// The Deployment that is wanted for the target.
struct Wanted {
    deployment: Deployment,
    config: ConfigMap,
    /// Whether the live Deployment is as wanted and all its pods answer.
    up: bool,
    /// Whether the live Deployment is as wanted and did not come up in time.
    late: bool,
}

/// What should be true for a ModelDeployment.
pub fn plan(
    object: &ModelDeployment,
    seen: &ModelDeploymentObserved,
    policy: &Policy,
    now: &Time,
) -> Plan<ModelDeploymentStatus> {
    let now = meta::whole_seconds(now);
    let owner = Owner::of(object);
    let valid = match validate(object, &owner, policy) {
        Ok(valid) => valid,
        Err(message) => return status::invalid(object, Reason::InvalidSpec, &message, &now),
    };
    let choice = rollout::choose(object, seen);
    let case = Case { object, owner, seen, policy, valid, choice, now };
    if let Some(message) = case.foreign() {
        // what has the name is not ours and not watched: nothing tells that it went
        let refused = status::invalid(object, Reason::NameCollision, &message, &case.now);
        return Plan { requeue: crate::job::COLLISION, ..refused };
    }
    case.plan()
}

impl Case<'_> {
    fn plan(&self) -> Plan<ModelDeploymentStatus> {
        let wanted = self.choice.target.map(|target| self.wanted(target));
        let (registry, ended) = self.history(wanted.as_ref());
        let seen =
            status::Seen { wanted: wanted.as_ref(), ended, promoting: self.promoting(wanted.as_ref()) };
        let status = self.status(&seen);
        let before = self.object.status.clone().unwrap_or_default();
        let turns = [ConditionType::Ready, ConditionType::RolloutSucceeded]
            .into_iter()
            .filter_map(|c| transition(c, "RollOut", &before.conditions, &status.conditions));
        let failure = (before.last_failure.as_ref(), status.last_failure.as_ref());
        let events = events(turns, "RollOut", failure);
        Plan {
            apply: self.apply(wanted.as_ref()),
            delete: self.delete(wanted.as_ref()),
            requeue: if registry.is_empty() { self.again() } else { SOON },
            registry,
            status,
            events,
        }
    }

    /// When to look again: all is watched but the events of a pod that hangs.
    fn again(&self) -> Requeue {
        refusal::look_again(None, &self.seen.pods, &self.now).unwrap_or(Requeue::AwaitChange)
    }

    fn find(&self, digest: &str) -> Option<&DeploymentFacts> {
        let name = children::name(&self.owner, digest);
        self.seen.deployments.iter().find(|d| d.name == name)
    }

    /// The Service through which the pods of a model find each other, where it must be written.
    fn siblings(&self, digest: &str) -> Option<Child> {
        let wanted = children::siblings(&self.owner, digest);
        let live = self.seen.siblings.iter().find(|s| s.metadata.name == wanted.metadata.name);
        diff::differs(&wanted, live).then(|| Child::Service(Box::new(wanted)))
    }

    fn live_config(&self, digest: &str) -> Option<&ConfigMap> {
        let name = children::name(&self.owner, digest);
        self.seen.configs.iter().find(|c| c.metadata.name.as_deref() == Some(name.as_str()))
    }

    /// The sentence for a child of ours that belongs to somebody else.
    fn foreign(&self) -> Option<String> {
        if self.seen.service.as_ref().is_some_and(|(_, owned)| !owned) {
            return Some(collision("Service", &self.owner.name, &self.owner));
        }
        let autoscaler = self.autoscaling().and(self.seen.autoscaler.as_ref());
        if autoscaler.is_some_and(|(_, owned)| !owned) {
            return Some(collision("HorizontalPodAutoscaler", &self.owner.name, &self.owner));
        }
        let target = self.choice.target?;
        let name = children::name(&self.owner, &target.digest);
        if self.find(&target.digest).is_some_and(|d| !d.owned) {
            return Some(collision("Deployment", &name, &self.owner));
        }
        let config = self.live_config(&target.digest)?;
        let foreign = !meta::owned_by(&config.metadata, &self.owner.uid);
        foreign.then(|| collision("ConfigMap", &name, &self.owner))
    }

    fn wanted(&self, target: &VersionFacts) -> Wanted {
        let live = self.find(&target.digest);
        // what came up is kept; an image with which no pod ever answered may be the wrong one that
        // somebody has corrected
        let came_up = live.is_some_and(|l| l.replicas == 0 || l.updated_ready > 0)
            || rollout::last(self.object).is_some_and(|l| {
                l.result == rollout::SUCCEEDED && rollout::same(l.version, &l.digest, target)
            });
        let before = live.filter(|_| came_up);
        let kept = before.and_then(|l| kept::read(&l.live));
        // an image stays until the next rollout, also where the user changes something else
        let image = self.valid.spec.server.image.as_deref();
        let image = image.or(kept.as_ref().and_then(kept::Kept::image)).or(before.map(|l| l.image.as_str()));
        let image = image.unwrap_or(&self.policy.server_image);
        let deployment = children::deployment(&self.owner, &self.valid, target, image, self.policy);
        let asked = kept::asked(self.valid.spec, target);
        let config = self.config(target.version, &target.digest);
        // an upgrade of the operator restarts no pod
        let kept = kept.filter(|k| k.is_for(&asked));
        let config = match &kept {
            Some(kept) => kept.config(config),
            None => config,
        };
        let deployment = kept::remember(deployment, &config, &asked, kept);
        // what was applied last; where somebody else changes a field of it again and again, the rollout
        // still begins and ends
        let current = live.filter(|l| diff::same_hash(&deployment, &l.live));
        let up = current.is_some_and(|l| rollout::complete(l, self.replicas_of(&target.digest)));
        let late = current.is_some_and(|l| l.observed && l.deadline_exceeded) && !up;
        Wanted { deployment, config, up, late }
    }

    fn config(&self, version: i64, digest: &str) -> ConfigMap {
        let live = self.live_config(digest);
        children::config(&self.owner, self.valid.spec, version, digest, self.policy, live)
    }

    /// Does the target have the traffic?
    fn arrived(&self) -> bool {
        match (self.choice.target, self.choice.serving) {
            (Some(target), Some(serving)) => self.choice.selected && target.digest == serving.digest,
            _ => false,
        }
    }

    /// The Deployment that keeps the traffic until the target, another one, is up.
    fn keeper(&self) -> Option<&DeploymentFacts> {
        let target = self.choice.target.map(|t| &t.digest);
        self.choice.serving.filter(|s| Some(&s.digest) != target)
    }

    /// Is the alias about to move to a candidate that has proved itself?
    fn promoting(&self, wanted: Option<&Wanted>) -> bool {
        self.choice.promotes && self.arrived() && !self.at_zero() && wanted.is_some_and(|w| w.up)
    }

    /// Writes to the registry, and how the rollout ended if it just did.
    fn history(&self, wanted: Option<&Wanted>) -> (Vec<RegistryOp>, Option<LastRollout>) {
        let (Some(target), Some(wanted)) = (self.choice.target, wanted) else { return (vec![], None) };
        let mut registry = Vec::new();
        if let (true, Some(alias)) = (self.promoting(Some(wanted)), &self.valid.spec.model.alias) {
            registry.push(RegistryOp::SetAlias {
                namespace_uid: self.seen.namespace_uid.clone(),
                model: self.valid.spec.model.name.clone(),
                alias: alias.clone(),
                version: target.version,
                who: self.owner.who(),
                who_uid: self.owner.uid.clone(),
                why: "rolled out: all wanted pods answer with this version".to_owned(),
            });
        }
        let refused = self.choice.refused.is_some();
        let succeeded = self.arrived()
            && wanted.up
            && !self.at_zero()
            && rollout::new_success(self.object, target, refused);
        // what is only kept because another version was refused adds no failure of its own
        let kept = refused && self.arrived();
        let failed = wanted.late && !kept && rollout::new_failure(self.object, target);
        let ended = match (succeeded, failed) {
            (true, _) => Some(self.end(target, rollout::SUCCEEDED, None)),
            (false, true) => Some(self.end(target, rollout::FAILED, Some(self.late_message(target)))),
            (false, false) => None,
        };
        registry.extend(ended.as_ref().map(|end| RegistryOp::RecordRollout {
            namespace_uid: self.seen.namespace_uid.clone(),
            deployment_uid: self.owner.uid.clone(),
            deployment: self.owner.name.clone(),
            model: self.valid.spec.model.name.clone(),
            version: end.version,
            digest: end.digest.clone(),
            generation: end.generation,
            result: end.result.clone(),
            why: end.message.clone().unwrap_or_else(|| "all wanted pods answer".to_owned()),
        }));
        (registry, ended)
    }

    fn end(&self, target: &VersionFacts, result: &str, cause: Option<(Reason, String)>) -> LastRollout {
        LastRollout {
            version: target.version,
            digest: target.digest.clone(),
            generation: self.owner.generation,
            spec_hash: Some(rollout::tried(self.valid.spec, target)),
            result: result.to_owned(),
            reason: cause.as_ref().map(|(reason, _)| reason.as_str().to_owned()),
            message: cause.map(|(_, message)| message),
            finished_at: self.now.clone(),
        }
    }

    /// Why a version did not come up in time.
    fn late_message(&self, target: &VersionFacts) -> (Reason, String) {
        let seconds = self.valid.spec.rollout.progress_deadline_seconds;
        let what = format!(
            "version {} of model {} did not become available within {seconds} seconds",
            target.version, self.valid.spec.model.name
        );
        match self.cause(&target.digest) {
            Some(cause) => (failure::reason_of(&cause), format!("{what}: {}", cause.message)),
            None => (Reason::DeadlineExceeded, format!("{what}: raise spec.rollout.progressDeadlineSeconds")),
        }
    }

    /// The newest failure of a pod of that model.
    fn cause(&self, digest: &str) -> Option<vitrine_crds::common::LastFailure> {
        let short = vitrine_crds::names::short_digest(digest);
        let of_model =
            |p: &&crate::facts::PodFacts| p.model_digest.as_deref() == Some(short) && !p.terminating;
        let pods: Vec<_> = self.seen.pods.iter().filter(of_model).cloned().collect();
        let live = self.find(digest);
        let image = live.map_or(&self.policy.server_image, |d| &d.image);
        // those of the pods that run, which may be older than today's defaults
        let pod = live.and_then(|d| d.live.spec.as_ref()?.template.spec.as_ref());
        let resources = pod.and_then(|p| p.containers.first()?.resources.as_ref());
        let subject = Subject {
            object: format!("ModelDeployment {}", self.owner.name),
            work: "server",
            memory_limit: pod::memory_limit(resources.unwrap_or(&self.valid.resources)),
            image: image.clone(),
            image_from: "spec.server.image",
            ..Subject::default()
        };
        let refused = || {
            let live = live.filter(|d| d.owned)?;
            let note = live.refused.as_ref()?;
            Some(refusal::not_created(&format!("Deployment {}", live.name), note))
        };
        failure::newest(&pods, &subject).or_else(refused)
    }

    /// The digest that the Service should select.
    fn traffic(&self, wanted: Option<&Wanted>) -> Option<&str> {
        let target = self.choice.target.map(|t| t.digest.as_str());
        let serving = self.choice.serving.map(|s| s.digest.as_str());
        let unseen = self.unseen_traffic(wanted);
        if wanted.is_some_and(|w| w.up) { target.or(serving) } else { serving.or(unseen).or(target) }
    }

    /// What our Service selects, where no Deployment of it is seen and none other answers. It may be there
    /// all the same (its label was taken away): the traffic stays until the target is up, or late.
    fn unseen_traffic(&self, wanted: Option<&Wanted>) -> Option<&str> {
        let (service, owned) = self.seen.service.as_ref()?;
        let waits = *owned && self.choice.serving.is_none() && !wanted.is_some_and(|w| w.late);
        rollout::selected(service).filter(|_| waits)
    }

    fn apply(&self, wanted: Option<&Wanted>) -> Vec<Child> {
        let mut children = self.workloads(wanted);
        if let Some(digest) = self.traffic(wanted) {
            let service = children::service(&self.owner, self.valid.spec, digest);
            let live = self.seen.service.as_ref().map(|(live, _)| live);
            if diff::differs(&service, live) {
                // a new one comes first: its name may be taken, and then nothing is started; an old
                // one moves the traffic, after all else
                let at = if live.is_none() { 0 } else { children.len() };
                children.insert(at, Child::Service(Box::new(service)));
            }
            // one for a Deployment that nobody sees could only fail
            let seen = self.unseen_traffic(wanted) != Some(vitrine_crds::names::short_digest(digest));
            children.extend(seen.then(|| self.apply_autoscaler(digest)).flatten());
        }
        children
    }

    /// Writes of configs and Deployments.
    fn workloads(&self, wanted: Option<&Wanted>) -> Vec<Child> {
        let mut children = Vec::new();
        if let (Some(target), Some(wanted)) = (self.choice.target, wanted) {
            if diff::differs(&wanted.config, self.live_config(&target.digest)) {
                children.push(Child::ConfigMap(Box::new(wanted.config.clone())));
            }
            // before the first pod asks for its name: that it does not exist is remembered for a while
            children.extend(self.siblings(&target.digest));
            children.extend(self.apply_target(&target.digest, wanted));
        }
        if let Some(serving) = self.keeper() {
            // its running pods do not need the config, the ones after them do, and they need today's
            // address and keys of the gateway
            let config = self.config(serving.version, &serving.digest);
            let config = match kept::read(&serving.live) {
                Some(kept) => kept.config(config),
                None => config,
            };
            if diff::differs(&config, self.live_config(&serving.digest)) {
                children.push(Child::ConfigMap(Box::new(config)));
            }
        }
        if let Some(siblings) = self.keeper().and_then(|s| self.siblings(&s.digest)) {
            children.push(siblings);
        }
        children.extend(self.apply_keeper());
        children
    }

    /// The autoscaler follows the traffic: it never acts on what only comes up, nor before the Service
    /// has moved.
    fn apply_autoscaler(&self, digest: &str) -> Option<Child> {
        let wanted =
            autoscaler::build(&self.owner, self.autoscaling()?, &children::name(&self.owner, digest));
        let differs = diff::differs(&wanted, self.seen.autoscaler.as_ref().map(|(live, _)| live));
        differs.then(|| Child::Autoscaler(Box::new(wanted)))
    }

    /// Our autoscaler where the spec asks for none.
    fn delete_autoscaler(&self) -> Option<ChildRef> {
        let (live, owned) = self.seen.autoscaler.as_ref()?;
        (*owned && self.autoscaling().is_none()).then(|| ChildRef {
            kind: "HorizontalPodAutoscaler",
            name: self.owner.name.clone(),
            uid: live.metadata.uid.clone().unwrap_or_default(),
        })
    }

    /// What neither serves nor shall serve. The Service was seen to select what serves, so that
    /// nothing with traffic is ever in this list.
    fn delete(&self, wanted: Option<&Wanted>) -> Vec<ChildRef> {
        let digests = [self.choice.target.map(|t| &t.digest), self.choice.serving.map(|s| &s.digest)];
        let kept: Vec<String> =
            digests.into_iter().flatten().map(|digest| children::name(&self.owner, digest)).collect();
        let autoscaler = self.delete_autoscaler().into_iter();
        let moves = self.choice.serving.is_some() && !self.choice.selected;
        if kept.is_empty() || moves || self.unseen_traffic(wanted).is_some() {
            return autoscaler.collect();
        }
        let deployments = self.seen.deployments.iter().filter(|d| d.owned).map(|d| ChildRef {
            kind: "Deployment",
            name: d.name.clone(),
            uid: d.uid.clone(),
        });
        let ours = |c: &&ConfigMap| meta::owned_by(&c.metadata, &self.owner.uid);
        let configs = self.seen.configs.iter().filter(ours).map(|c| ChildRef {
            kind: "ConfigMap",
            name: c.metadata.name.clone().unwrap_or_default(),
            uid: c.metadata.uid.clone().unwrap_or_default(),
        });
        let siblings = self.seen.siblings.iter().map(|s| ChildRef {
            kind: "Service",
            name: s.metadata.name.clone().unwrap_or_default(),
            uid: s.metadata.uid.clone().unwrap_or_default(),
        });
        let gone = deployments.chain(configs).chain(siblings).filter(|c| !kept.contains(&c.name));
        autoscaler.chain(gone).collect()
    }
}

/// The schema's rules, checked again for objects that were stored before them.
fn validate<'a>(object: &'a ModelDeployment, owner: &Owner, policy: &Policy) -> Result<Valid<'a>, String> {
    if let Some(message) = owner.invalid_name() {
        return Err(message);
    }
    let spec = &object.spec;
    let model = &spec.model;
    let named = [model.version.is_some(), model.alias.is_some(), model.digest.is_some()];
    if named.iter().filter(|n| **n).count() != 1 {
        return Err("model needs exactly one of version, alias and digest".to_owned());
    }
    if model.candidate_alias.is_some() && (model.alias.is_none() || model.candidate_alias == model.alias) {
        return Err("model.candidateAlias goes with model.alias and must differ from it".to_owned());
    }
    if spec.replicas < 0 {
        return Err(format!("replicas must not be negative; it is {}", spec.replicas));
    }
    if !(1..=65_535).contains(&spec.service.port) {
        return Err(format!("service.port must be between 1 and 65535; it is {}", spec.service.port));
    }
    let resources = pod::resources(&spec.resources, &policy.serve_resources)?;
    autoscaler::check(spec, &resources)?;
    Ok(Valid { spec, resources })
}
