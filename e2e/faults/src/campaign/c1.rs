//! C1, crash at every write: the operator is killed at each effective write of each workload, to the
//! cluster, the registry and the artifacts, at three points of a write to the cluster (never sent;
//! carried out but never answered; answered), and started again. After Sieve (OSDI'22).

use std::collections::BTreeMap;

use crate::case::{Faults, Outcome};
use crate::proxy::rules::{Action, POINTS, Rule};
use crate::workload::Workload;

use super::Case;

/// One case for each point of each effective write of a run without faults, from the first step on that
/// no other workload has: what comes before is that one's to break.
pub fn cases(workload: &Workload, learnt: &Outcome) -> Vec<Case> {
    let mut all = Vec::new();
    let mut of = |faults: Faults| all.push(Case { workload: workload.name.to_owned(), faults });
    let mut counts: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    for (at, entry) in learnt.evidence.log.iter().enumerate() {
        if !entry.call.writes() || entry.call.is_bookkeeping() {
            continue;
        }
        let nth = counts.entry((entry.call.verb, &entry.call.resource)).or_default();
        *nth += 1;
        if !entry.effective || at < learnt.before.0 {
            continue;
        }
        for point in POINTS {
            let rule = Rule::nth(entry.call.verb, &entry.call.resource, *nth, point, Action::Kill);
            of(Faults { rules: vec![rule], ..Faults::default() });
        }
    }
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for (at, name) in learnt.failpoints.iter().enumerate() {
        let nth = counts.entry(name).or_default();
        *nth += 1;
        if at < learnt.before.1 {
            continue;
        }
        of(Faults { failpoint: Some(format!("{name}:{nth}:kill")), ..Faults::default() });
    }
    all
}
