//! When nothing happens, nothing is written.

use vitrine_e2e::audit;
use vitrine_e2e::story::Story;
use vitrine_e2e::wait::{pause, seconds, until};

use crate::served;

#[test]
fn two_idle_minutes_cost_no_write_but_the_lease() {
    let story = Story::begin("idle");
    served(&story, 1);
    // settled: no write for ten seconds
    let mut mark = audit::mark();
    let mut quiet = 0;
    until("the operator to settle", seconds(120), || {
        let writes = audit::writes(audit::since(mark, audit::OPERATOR));
        let others = writes.iter().filter(|r| r.resource != "leases").count();
        quiet = if others == 0 { quiet + 1 } else { 0 };
        if others > 0 {
            mark = audit::mark();
        }
        if quiet >= 100 { Ok(()) } else { Err(format!("{others} writes")) }
    });
    let mark = audit::mark();
    pause(seconds(120));
    let writes = audit::writes(audit::since(mark, audit::OPERATOR));
    let (leases, others): (Vec<_>, Vec<_>) = writes.into_iter().partition(|r| r.resource == "leases");
    println!("two idle minutes: {} writes of the Lease, {} others", leases.len(), others.len());
    assert!(!leases.is_empty(), "the audit log shows the operator at work");
    assert!(others.is_empty(), "{others:#?}");
    story.end();
}
