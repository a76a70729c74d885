//! C2, stale and unobserved: the watch of one resource lags while a step of the workload happens, with
//! and without a restart that lists the old state, and events are lost for good. After Sieve (OSDI'22).

use crate::case::{Faults, How, Lag};
use crate::stage::WATCHED;
use crate::workload::{Step, Workload};

use super::Case;

/// How long a watch lags: longer than anything of a step that works takes.
const LAG: u64 = 1_500;
/// Workloads in which something is deleted or replaced: a stale reader can do harm there only.
pub const WORKLOADS: [&str; 8] =
    ["change", "suspend", "promote", "rollback", "scale", "autoscale", "delete", "remake"];

/// All cases of a workload.
pub fn cases(workload: &Workload) -> Vec<Case> {
    let changes = |step: &Step| matches!(step, Step::Apply(_) | Step::Change(..) | Step::Delete(..));
    let mut all = Vec::new();
    for (step, _) in workload.steps.iter().enumerate().skip(workload.shared).filter(|(_, s)| changes(s)) {
        for resource in WATCHED {
            for how in [How::Frozen, How::FrozenRestart, How::Lost] {
                let lag = Lag { resource: resource.to_owned(), step, millis: LAG, how };
                all.push(Case {
                    workload: workload.name.to_owned(),
                    faults: Faults { lags: vec![lag], ..Faults::default() },
                });
            }
        }
    }
    all
}
