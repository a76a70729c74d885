//! The three queues of objects to reconcile. Watches push, controllers pull.
//!
//! A queue is closed until this process leads: a follower must not pile up work that another
//! process does.

use std::sync::OnceLock;

use kube::Resource;
use kube::runtime::controller::ReconcileRequest;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use vitrine_crds::{Dataset, ModelDeployment, TrainingRun};

use crate::relations::Target;

/// Queue of one kind. The controller drains it at once into a set, so that its length is bounded by
/// the number of objects.
#[derive(Debug)]
pub struct Queue<K: Resource<DynamicType = ()> + 'static>(OnceLock<UnboundedSender<ReconcileRequest<K>>>);

impl<K: Resource<DynamicType = ()> + 'static> Default for Queue<K> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<K: Resource<DynamicType = ()> + 'static> Queue<K> {
    /// Opens the queue; from now on pushes are kept. `None` if it is open already.
    pub fn open(&self) -> Option<UnboundedReceiver<ReconcileRequest<K>>> {
        let (sender, receiver) = unbounded_channel();
        self.0.set(sender).is_ok().then_some(receiver)
    }

    /// Asks for a reconcile; forgotten while the queue is closed or after its controller ended.
    pub fn push(&self, object: ObjectRef<K>) {
        if let Some(sender) = self.0.get() {
            // a dropped receiver means that the controller has ended: nobody is left to tell
            let _ = sender.send(ReconcileRequest::from(object));
        }
    }
}

/// The queues of the three kinds.
#[derive(Debug, Default)]
pub struct Queues {
    /// Datasets.
    pub datasets: Queue<Dataset>,
    /// TrainingRuns.
    pub runs: Queue<TrainingRun>,
    /// ModelDeployments.
    pub deployments: Queue<ModelDeployment>,
}

impl Queues {
    /// Asks for a reconcile of each target.
    pub fn push_all(&self, targets: impl IntoIterator<Item = Target>) {
        for target in targets {
            match target {
                Target::Dataset(object) => self.datasets.push(object),
                Target::TrainingRun(object) => self.runs.push(object),
                Target::ModelDeployment(object) => self.deployments.push(object),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_piles_up_nothing() {
        let queue = Queue::<Dataset>::default();
        queue.push(ObjectRef::new("before"));
        let mut receiver = queue.open().unwrap();
        queue.push(ObjectRef::new("after"));
        assert_eq!(receiver.try_recv().unwrap().obj_ref.name, "after");
        assert!(receiver.try_recv().is_err());
        assert!(queue.open().is_none());
    }
}
