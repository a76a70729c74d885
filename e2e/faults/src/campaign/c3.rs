//! C3, answers of the apiserver: every kind of request that a workload makes is answered in every way
//! in which an apiserver, or the network before it, can answer.

use std::collections::BTreeSet;

use crate::case::{Faults, Outcome};
use crate::proxy::rules::{Action, Point, Rule};
use crate::workload::Workload;

use super::Case;

/// The workload that makes almost every kind of request.
const MAIN: &str = "promote";
/// Workloads whose requests are answered: together they make every kind of request.
pub const WORKLOADS: [&str; 5] = [MAIN, "suspend", "change", "delete", "autoscale"];
/// Step at which the apiserver goes away, and for how long.
const OUTAGE: (usize, u64) = (2, 5_000);

/// An answer: where, what, and how often in a row.
type Answer = (Point, Action, u32);

fn answers(verb: &str) -> Vec<Answer> {
    let status = Action::status;
    let mut all = vec![
        (Point::Before, status(500, "InternalError"), 1),
        (Point::Before, status(503, "ServiceUnavailable"), 3),
        (Point::Before, status(504, "Timeout"), 1),
        (
            Point::Before,
            Action::Status { code: 429, reason: "TooManyRequests".into(), retry_after: Some(1) },
            1,
        ),
        (
            Point::Before,
            Action::Status { code: 429, reason: "TooManyRequests".into(), retry_after: Some(3600) },
            1,
        ),
        (Point::Before, status(403, "Forbidden"), 1),
        (Point::Before, status(401, "Unauthorized"), 1),
        (Point::Before, Action::Reset, 1),
        (Point::Applied, Action::Reset, 1),
        (Point::Before, Action::Delay(1_000), 1),
    ];
    match verb {
        "create" | "patch" | "delete" => all.extend([
            (Point::Before, status(409, "Conflict"), 1),
            (Point::Before, status(409, "Conflict"), 6),
            (Point::Before, status(422, "Invalid"), 1),
            (Point::Before, status(404, "NotFound"), 1),
            (Point::Applied, status(504, "Timeout"), 1),
            (Point::Applied, Action::Truncate, 1),
            (Point::Applied, Action::CutJson, 1),
            (Point::Before, Action::Hang, 1),
            (Point::Applied, Action::Hang, 1),
        ]),
        "watch" => all.extend([(Point::Before, Action::gone(), 1), (Point::Before, Action::Reset, 5)]),
        _ => all.extend([(Point::Applied, Action::Truncate, 1), (Point::Applied, Action::CutJson, 1)]),
    }
    if verb == "create" {
        all.push((Point::Before, status(409, "AlreadyExists"), 1));
    }
    all
}

/// All cases of a workload; `learnt` is a run without faults.
pub fn cases(workload: &Workload, learnt: &Outcome) -> Vec<Case> {
    let kinds: BTreeSet<(&str, &str)> = learnt
        .evidence
        .log
        .iter()
        .filter(|e| !e.call.is_lease() && e.call.resource != "tokenreviews" && !e.call.resource.is_empty())
        .map(|e| (e.call.verb, e.call.resource.as_str()))
        .collect();
    let case = |faults| Case { workload: workload.name.to_owned(), faults };
    let mut all = vec![case(Faults { outage: Some(OUTAGE), ..Faults::default() })];
    for (verb, resource) in kinds {
        // what the main workload asks for too is broken there
        let own = match workload.name {
            MAIN => true,
            "suspend" => (verb, resource) == ("patch", "jobs"),
            _ => verb == "delete" && resource != "deployments",
        };
        if !own {
            continue;
        }
        for (point, action, times) in answers(verb) {
            let rule = Rule { times, ..Rule::nth(verb, resource, 1, point, action) };
            all.push(case(Faults { rules: vec![rule], ..Faults::default() }));
        }
    }
    all
}
