//! What should be true: pure functions from an object and what was observed to a [`Plan`].
//!
//! No IO, no clock and no randomness here, and no function fails: an invalid spec is a plan with a
//! condition and no writes. A decision that needs a server, a clock or a sleep to be tested is in
//! the wrong room.

pub mod attempt;
pub mod dataset;
pub mod diff;
pub mod facts;
pub mod failure;
pub mod hash;
pub mod meta;
pub mod model_deployment;
pub mod plan;
pub mod pod;
pub mod policy;
pub mod refusal;
pub mod status;
pub mod training_run;

mod job;

pub use facts::{
    DatasetFacts, DatasetObserved, DeploymentFacts, JobEnd, JobFacts, ModelDeploymentObserved, PodFacts,
    Reference, RevisionFacts, Terminated, TrainingRunObserved, VersionFacts,
};
pub use plan::{Child, ChildRef, Event, EventType, Plan, Registration, RegistryOp, Requeue};
pub use policy::Policy;
