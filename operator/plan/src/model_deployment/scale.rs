//! How many pods each Deployment should have, and who says so.
//!
//! Without autoscaling the spec says it. With autoscaling the number of the Deployment that has the
//! traffic belongs to Kubernetes' autoscaler, and nothing here writes it, but for the one number
//! that the autoscaler does not touch: zero. A version that comes up beside it follows that number,
//! so that it can take the whole load, and becomes the autoscaler's with the traffic.
//!
//! `spec.replicas` is then no part of the applied Deployment. An apply that stops naming a field
//! resets it, unless somebody else holds it: [`Child::ScaleDeployment`] writes as another field
//! manager and goes before the first such apply. So a Deployment is made with its number, which the
//! pass after that hands over: a crash at any point loses none.

use k8s_openapi::api::apps::v1::Deployment;
use vitrine_crds::autoscaling::Autoscaling;
use vitrine_crds::names;

use super::{Case, Wanted};
use crate::diff;
use crate::facts::DeploymentFacts;
use crate::plan::Child;

impl Case<'_> {
    pub(super) fn autoscaling(&self) -> Option<&Autoscaling> {
        self.valid.spec.autoscaling.as_ref()
    }

    /// Does the spec ask for no pod?
    pub(super) fn at_zero(&self) -> bool {
        self.autoscaling().is_none() && self.valid.spec.replicas == 0
    }

    /// Pods that the Deployment of a model should have.
    pub(super) fn replicas_of(&self, digest: &str) -> i32 {
        let Some(bounds) = self.autoscaling() else { return self.valid.spec.replicas };
        let within = |number: i32| number.min(bounds.max_replicas).max(bounds.min_replicas);
        if let Some(serving) = self.choice.serving.filter(|s| s.digest != digest) {
            return within(serving.replicas);
        }
        match self.find(digest) {
            Some(live) if live.replicas > 0 => live.replicas,
            Some(_) => bounds.min_replicas,
            None => {
                let before = self.object.status.as_ref().and_then(|s| s.stable.as_ref());
                let before = before.map(|s| s.replicas).filter(|number| *number > 0);
                within(before.unwrap_or(self.valid.spec.replicas))
            }
        }
    }

    /// Pods that should answer as a whole.
    pub(super) fn replicas(&self) -> i32 {
        let serving = self.choice.serving.map(|s| s.digest.as_str());
        let digest = serving.or(self.choice.target.map(|t| t.digest.as_str()));
        digest.map_or(self.valid.spec.replicas, |digest| self.replicas_of(digest))
    }

    /// The Deployment of the target, with its number where the Deployment does not hold it.
    pub(super) fn apply_target(&self, digest: &str, wanted: &Wanted) -> Vec<Child> {
        let live = self.find(digest);
        let mut children = Vec::new();
        let differs = diff::differs(&wanted.deployment, live.map(|d| &d.live));
        if differs {
            children.push(Child::Deployment(Box::new(wanted.deployment.clone())));
        }
        if self.autoscaling().is_none() {
            return children;
        }
        match live {
            // the number is handed over before the apply stops naming it
            Some(live) if differs && !is_marked(live) => children.insert(0, self.scale(live)),
            Some(live) if live.replicas != self.replicas_of(digest) => children.push(self.scale(live)),
            Some(_) => {}
            // made with its number in one write, which cannot be lost half-way; handed over next
            None => {
                let first = numbered(wanted.deployment.clone(), self.replicas_of(digest));
                children = vec![Child::Deployment(Box::new(first))];
            }
        }
        children
    }

    /// The number of what keeps the traffic while another version comes up.
    pub(super) fn apply_keeper(&self) -> Option<Child> {
        let serving = self.keeper()?;
        (serving.replicas != self.replicas_of(&serving.digest)).then(|| self.scale(serving))
    }

    fn scale(&self, live: &DeploymentFacts) -> Child {
        Child::ScaleDeployment {
            name: live.name.clone(),
            uid: live.uid.clone(),
            replicas: self.replicas_of(&live.digest),
        }
    }
}

/// The Deployment with its number, and without the mark of one that has none.
fn numbered(mut deployment: Deployment, replicas: i32) -> Deployment {
    if let Some(annotations) = &mut deployment.metadata.annotations {
        annotations.remove(names::ANNOTATION_AUTOSCALED);
    }
    if let Some(spec) = &mut deployment.spec {
        spec.replicas = Some(replicas);
    }
    diff::with_hash(deployment)
}

/// Was the Deployment applied without a number?
fn is_marked(deployment: &DeploymentFacts) -> bool {
    let annotations = deployment.live.metadata.annotations.as_ref();
    annotations.is_some_and(|a| a.contains_key(names::ANNOTATION_AUTOSCALED))
}
