//! When nothing happens, nothing is written.

use vitrine_e2e::audit;
use vitrine_e2e::story::Story;
use vitrine_e2e::turn;
use vitrine_e2e::wait::{pause, seconds, until};

use crate::served;

#[test]
fn two_idle_minutes_cost_no_write_but_the_lease() {
    let _resting = turn::resting();
    let story = Story::begin("idle");
    served(&story, 1);
    // what other stories do meanwhile is written in their namespaces, and their pods' tokens are reviewed
    // without one; a review stores nothing
    let here = |r: &audit::Request| {
        (r.namespace == story.ns || !r.namespace.starts_with("e2e-")) && r.resource != "tokenreviews"
    };
    let writes = |mark| {
        let all = audit::writes(audit::since(mark, audit::OPERATOR));
        all.into_iter().filter(here).collect::<Vec<_>>()
    };
    // settled: no write for ten seconds
    let mut mark = audit::mark();
    let mut quiet = 0;
    until("the operator to settle", seconds(120), || {
        let others = writes(mark).iter().filter(|r| r.resource != "leases").count();
        quiet = if others == 0 { quiet + 1 } else { 0 };
        if others > 0 {
            mark = audit::mark();
        }
        if quiet >= 50 { Ok(()) } else { Err(format!("{others} writes")) }
    });
    let mark = audit::mark();
    pause(seconds(120));
    let (leases, others): (Vec<_>, Vec<_>) = writes(mark).into_iter().partition(|r| r.resource == "leases");
    println!("two idle minutes: {} writes of the Lease, {} others", leases.len(), others.len());
    assert!(!leases.is_empty(), "the audit log shows the operator at work");
    assert!(others.is_empty(), "{others:#?}");
    story.end();
}
