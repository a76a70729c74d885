//! What the one loop needs to know of a kind: how to observe it and how to plan it.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use kube::runtime::reflector::Store;
use serde::Serialize;
use serde::de::DeserializeOwned;
use vitrine_crds::{
    Dataset, DatasetStatus, ModelDeployment, ModelDeploymentStatus, TrainingRun, TrainingRunStatus,
};
use vitrine_plan::status::{Fault, Faulted};
use vitrine_plan::{DatasetObserved, ModelDeploymentObserved, Plan, Policy, TrainingRunObserved};

use crate::caches::Caches;
use crate::context::Context;
use crate::error::ObserveError;
use crate::observe;

/// How long until an object is looked at again although nothing told of a change, where a part of
/// its world is not watched.
const RESYNC: Duration = Duration::from_mins(10);

/// A kind that the loop reconciles.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Faulted<Status = Self::State>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Facts.
    type Observed: Send + Sync;
    /// Status.
    type State: Clone + Debug + PartialEq + Serialize + Send + Sync;
    /// Name of the kind.
    const NAME: &'static str;
    /// Name of the resource.
    const PLURAL: &'static str;
    /// When to look again where all is watched but the registry.
    const RESYNC: Option<Duration>;

    /// The cache of the kind.
    fn cache(caches: &Caches) -> &Store<Self>;

    /// The stored status.
    fn state(&self) -> Option<&Self::State>;

    /// Reads everything that the plan needs; writes nothing.
    fn observe(&self, ctx: &Context) -> impl Future<Output = Result<Self::Observed, ObserveError>> + Send;

    /// What should be true; pure.
    fn plan(&self, seen: &Self::Observed, policy: &Policy, now: &Time) -> Plan<Self::State>;

    /// The status after a pass that failed.
    fn failed(&self, fault: Fault<'_>, now: &Time) -> Self::State {
        self.faulted(fault, now)
    }
}

impl Kind for Dataset {
    type Observed = DatasetObserved;
    type State = DatasetStatus;
    const NAME: &'static str = "Dataset";
    const PLURAL: &'static str = "datasets";
    // all it depends on is watched, and its registry rows come from itself
    const RESYNC: Option<Duration> = None;

    fn cache(caches: &Caches) -> &Store<Self> {
        &caches.datasets
    }

    fn state(&self) -> Option<&DatasetStatus> {
        self.status.as_ref()
    }

    async fn observe(&self, ctx: &Context) -> Result<DatasetObserved, ObserveError> {
        observe::dataset::observe(ctx, self).await
    }

    fn plan(&self, seen: &DatasetObserved, policy: &Policy, now: &Time) -> Plan<DatasetStatus> {
        vitrine_plan::dataset::plan(self, seen, policy, now)
    }
}

impl Kind for TrainingRun {
    type Observed = TrainingRunObserved;
    type State = TrainingRunStatus;
    const NAME: &'static str = "TrainingRun";
    const PLURAL: &'static str = "trainingruns";
    // as for Datasets
    const RESYNC: Option<Duration> = None;

    fn cache(caches: &Caches) -> &Store<Self> {
        &caches.runs
    }

    fn state(&self) -> Option<&TrainingRunStatus> {
        self.status.as_ref()
    }

    async fn observe(&self, ctx: &Context) -> Result<TrainingRunObserved, ObserveError> {
        observe::training_run::observe(ctx, self).await
    }

    fn plan(&self, seen: &TrainingRunObserved, policy: &Policy, now: &Time) -> Plan<TrainingRunStatus> {
        vitrine_plan::training_run::plan(self, seen, policy, now)
    }
}

impl Kind for ModelDeployment {
    type Observed = ModelDeploymentObserved;
    type State = ModelDeploymentStatus;
    const NAME: &'static str = "ModelDeployment";
    const PLURAL: &'static str = "modeldeployments";
    // aliases live in the registry and may be moved by a restore
    const RESYNC: Option<Duration> = Some(RESYNC);

    fn cache(caches: &Caches) -> &Store<Self> {
        &caches.deployments
    }

    fn state(&self) -> Option<&ModelDeploymentStatus> {
        self.status.as_ref()
    }

    async fn observe(&self, ctx: &Context) -> Result<ModelDeploymentObserved, ObserveError> {
        observe::model_deployment::observe(ctx, self).await
    }

    fn plan(
        &self,
        seen: &ModelDeploymentObserved,
        policy: &Policy,
        now: &Time,
    ) -> Plan<ModelDeploymentStatus> {
        vitrine_plan::model_deployment::plan(self, seen, policy, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::object;
    use serde_json::json;
    use vitrine_plan::{JobEnd, JobFacts};

    #[test]
    fn h5_a_job_that_succeeded_registers_nothing_by_itself() {
        // the same program may run twice, or end well without a word: only a report counts
        let run: TrainingRun = object(json!({
            "apiVersion": "vitrine.dev/v1alpha1", "kind": "TrainingRun",
            "metadata": {"namespace": "a", "name": "r", "uid": "r-uid", "generation": 1},
            "spec": {"datasetRef": {"name": "d"}, "output": {"model": "m"}},
        }));
        let name = vitrine_plan::attempt::of_training_run(&run).job_name;
        let end = Some(JobEnd::Complete { at: None });
        let job = JobFacts { name, uid: "j".into(), owned: true, end, ..JobFacts::default() };
        let seen = TrainingRunObserved {
            namespace_uid: "n".into(),
            job: Some(job),
            ..TrainingRunObserved::default()
        };
        let plan = Kind::plan(&run, &seen, &Policy::default(), &Context::now());
        assert_eq!(plan.registry, []);
    }
}
