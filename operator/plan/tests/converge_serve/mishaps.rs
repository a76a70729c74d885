//! What the operator does not see, what others change, and what scales: none of it moves the traffic to pods
//! that do not answer, holds up a rollout, or tries a failed version again.

use crate::rolled;
use crate::world::{World, child, selected};

/// The Service selects that version.
fn has_traffic(world: &World, version: i64) -> bool {
    child(version).ends_with(&selected(world.service.as_ref().unwrap()))
}

#[test]
fn traffic_stays_where_a_deployment_is_not_seen_until_the_new_one_answers() {
    let mut world = rolled(1);
    world.challenger = Some(2);
    world.pass(None);
    // its label was taken away, say: it is there, and hidden from the cache
    let hidden = world.deployments.remove(&child(1)).unwrap();
    let plan = world.plan(50);
    assert!(plan.apply.is_empty() && plan.delete.is_empty(), "{:?} {:?}", plan.apply, plan.delete);
    world.pass(None);
    assert!(has_traffic(&world, 1), "nothing answers but what is not seen");
    world.deployments.insert(child(1), hidden);
    world.settle();
    assert!(has_traffic(&world, 2));
    world.quiet();
}

#[test]
fn a_field_that_somebody_changes_again_and_again_holds_up_no_rollout() {
    let mut world = rolled(1);
    world.challenger = Some(2);
    for _ in 0..8 {
        world.pass(None);
        // a policy of the cluster adds something to every template
        for sim in world.deployments.values_mut() {
            let pod = sim.live.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
            let added = serde_json::from_str(r#"{"name": "added", "emptyDir": {}}"#).unwrap();
            pod.volumes.as_mut().unwrap().push(added);
        }
        world.ready();
    }
    assert_eq!(world.champion, Some(2));
    assert!(has_traffic(&world, 2) && !world.deployments.contains_key(&child(1)));
}

#[test]
fn a_failed_candidate_is_not_tried_again_by_whoever_scales_what_serves() {
    let mut world = rolled(1);
    world.bad = vec![2];
    world.challenger = Some(2);
    world.settle();
    for replicas in [3, 5, 4] {
        world.change(|spec| spec.replicas = replicas);
        world.pass(None);
        assert!(!world.deployments.contains_key(&child(2)), "at {replicas} replicas");
        world.settle();
        world.quiet();
    }
    // a status of an earlier release says only at which generation it failed
    let last = world.object.status.as_mut().unwrap().last_rollout.as_mut().unwrap();
    (last.spec_hash, last.generation) = (None, world.object.metadata.generation.unwrap());
    world.pass(None);
    assert!(!world.deployments.contains_key(&child(2)));
    world.bad.clear();
    world.change(|spec| spec.rollout.progress_deadline_seconds = 900);
    world.settle();
    assert_eq!(world.champion, Some(2));
}
