//! Autoscaling in the small world: whoever chooses the number of pods, the other one leaves it alone.

use vitrine_crds::condition::ConditionType as C;
use vitrine_plan::{Child, diff};

use crate::common::{condition, kstatus, message};
use crate::world::{World, child, selected};

/// Version 1 serves between 1 and 4 pods.
fn autoscaled() -> World {
    let mut world = World::new(Some(1), None);
    world.autoscale(Some((1, 4)));
    world.settle();
    world.quiet();
    world
}

fn replicas(world: &World, version: i64) -> i32 {
    world.deployments[&child(version)].replicas()
}

fn writes_replicas(children: &[Child]) -> bool {
    children.iter().any(|c| match c {
        Child::ScaleDeployment { .. } => true,
        Child::Deployment(d) => d.spec.as_ref().unwrap().replicas.is_some(),
        _ => false,
    })
}

#[test]
fn a_deployment_is_made_with_its_number_which_is_then_handed_over() {
    let applied = |world: &World| {
        let found = world.plan(0).apply.into_iter().find_map(|c| match c {
            Child::Deployment(d) => Some(diff::to_json(&d)),
            _ => None,
        });
        found.map(|d| d["spec"].get("replicas").cloned())
    };
    // SERVE asks for 2
    for autoscaling in [None, Some((1, 4))] {
        let mut world = World::new(Some(1), None);
        world.autoscale(autoscaling);
        assert_eq!(applied(&world), Some(Some(2.into())));
        world.pass(None);
        assert_eq!(applied(&world), autoscaling.map(|_| None), "{autoscaling:?}");
        let hands_over =
            matches!(world.plan(0).apply.first(), Some(Child::ScaleDeployment { replicas: 2, .. }));
        assert_eq!(hands_over, autoscaling.is_some());
    }
}

#[test]
fn a_kill_at_any_write_loses_no_number() {
    for at in 0..9 {
        for again in 0..4 {
            let mut world = World::new(Some(1), None);
            world.change(|spec| spec.replicas = 3);
            world.autoscale(Some((1, 4)));
            world.pass(Some(at));
            world.pass(Some(again));
            world.settle();
            world.quiet();
            assert_eq!(replicas(&world, 1), 3, "killed after {at} and {again} writes");
        }
    }
}

#[test]
fn the_spec_says_the_number_to_start_with_and_the_autoscaler_every_other() {
    let mut world = autoscaled();
    // SERVE asks for 2
    assert_eq!(replicas(&world, 1), 2);
    assert_eq!(world.autoscaled(), Some(child(1)));
    for pods in [4, 1, 3, 9] {
        world.load(pods);
        let plan = world.plan(7);
        assert!(plan.apply.is_empty(), "{:?}", plan.apply);
        world.settle();
        world.quiet();
        assert_eq!(replicas(&world, 1), pods.min(4));
        let status = world.status();
        assert_eq!((status.replicas, status.ready_replicas), (pods.min(4), pods.min(4)));
        assert_eq!(status.replica_summary, Some(format!("{0}/{0}", pods.min(4))));
        assert!(status.selector.as_ref().unwrap().contains("vitrine.dev/model-digest="));
    }
    let text = message(&world.status().conditions, C::Ready);
    assert_eq!(text, "4 of 4 pods answer with version 1; autoscaled between 1 and 4");
}

#[test]
fn more_load_is_no_outage_while_more_pods_start() {
    let mut world = autoscaled();
    world.load(1);
    world.settle();
    world.load(4);
    world.pass(None);
    assert_eq!(condition(&world.status().conditions, C::Ready), "True/Available");
    assert_eq!(condition(&world.status().conditions, C::Reconciling), "True/Progressing");
    assert_eq!(world.status().replica_summary.as_deref(), Some("1/4"));
}

#[test]
fn a_rollout_starts_with_the_number_of_now_and_ends_with_it() {
    let mut world = autoscaled();
    world.load(3);
    world.settle();
    world.challenger = Some(2);
    world.pass(None);
    assert_eq!((replicas(&world, 1), replicas(&world, 2)), (3, 3));
    assert_eq!(world.status().candidate.as_ref().unwrap().replicas, 3);
    // the load grows while the new version comes up: the autoscaler acts on the old one only
    assert_eq!(world.autoscaled(), Some(child(1)));
    world.load(4);
    world.pass(None);
    assert_eq!((replicas(&world, 1), replicas(&world, 2)), (4, 4));
    world.ready();
    // both move in one plan, the autoscaler after the traffic
    let plan = world.plan(50);
    assert!(matches!(plan.apply.as_slice(), [Child::Service(_), Child::Autoscaler(_)]), "{:?}", plan.apply);
    world.pass(None);
    assert!(child(2).ends_with(&selected(world.service.as_ref().unwrap())));
    assert_eq!(world.autoscaled(), Some(child(2)));
    // what retires keeps its pods until it goes
    assert_eq!((replicas(&world, 1), replicas(&world, 2)), (4, 4));
    assert!(!writes_replicas(&world.plan(51).apply));
    world.settle();
    world.quiet();
    assert_eq!((world.champion, replicas(&world, 2)), (Some(2), 4));
    assert!(!world.deployments.contains_key(&child(1)));
    assert_eq!(kstatus(&world.status().conditions), "Current");
}

#[test]
fn a_kill_between_traffic_and_autoscaler_is_made_good() {
    let mut world = autoscaled();
    world.challenger = Some(2);
    world.pass(None);
    // its number is handed over
    world.pass(None);
    world.ready();
    // Service only
    world.pass(Some(1));
    assert_eq!(world.autoscaled(), Some(child(1)));
    let plan = world.plan(60);
    assert!(plan.apply.iter().any(|c| matches!(c, Child::Autoscaler(_))));
    world.settle();
    world.quiet();
    assert_eq!(world.autoscaled(), Some(child(2)));
}

#[test]
fn a_failed_candidate_leaves_the_number_and_the_autoscaler_alone() {
    let mut world = autoscaled();
    world.load(3);
    world.bad = vec![2];
    world.challenger = Some(2);
    world.settle();
    world.quiet();
    assert_eq!((world.champion, replicas(&world, 1)), (Some(1), 3));
    assert_eq!(world.autoscaled(), Some(child(1)));
}

#[test]
fn switching_autoscaling_on_drops_no_pod_and_off_gives_the_number_back_to_the_spec() {
    let mut world = World::new(Some(1), None);
    world.change(|spec| spec.replicas = 3);
    world.settle();
    assert!(world.autoscaler.is_none());
    // as a manifest without replicas does it: the default is 1
    world.change(|spec| spec.replicas = 1);
    world.autoscale(Some((1, 4)));
    for killed_after in [Some(1), None] {
        world.pass(killed_after);
        assert_eq!(replicas(&world, 1), 3);
    }
    world.settle();
    world.quiet();
    assert_eq!((replicas(&world, 1), world.autoscaled()), (3, Some(child(1))));
    world.load(4);
    world.autoscale(None);
    world.change(|spec| spec.replicas = 2);
    world.settle();
    world.quiet();
    assert_eq!(replicas(&world, 1), 2);
    assert!(world.autoscaler.is_none());
    // and on again
    world.autoscale(Some((1, 4)));
    world.settle();
    world.quiet();
    assert_eq!(replicas(&world, 1), 2);
}

#[test]
fn what_kubernetes_does_not_scale_is_brought_back_from_zero() {
    let mut world = autoscaled();
    world.deployments.get_mut(&child(1)).unwrap().scale(0);
    world.load(3);
    assert_eq!(replicas(&world, 1), 0, "an autoscaler leaves what is at zero");
    world.pass(None);
    assert_eq!(replicas(&world, 1), 1);
    world.load(3);
    world.settle();
    world.quiet();
    assert_eq!(replicas(&world, 1), 3);
}

#[test]
fn a_load_that_cannot_be_measured_is_told_and_the_pods_stay() {
    let mut world = autoscaled();
    assert_eq!(condition(&world.status().conditions, C::ScalingActive), "Unknown/Pending");
    let say = |world: &mut World, status: &str, reason: &str| {
        let json = serde_json::json!({"desiredReplicas": 2, "conditions": [
            {"type": "ScalingActive", "status": status, "reason": reason, "message": "no metrics returned"}]});
        world.autoscaler.as_mut().unwrap().status = Some(serde_json::from_value(json).unwrap());
        world.settle();
        world.quiet();
    };
    say(&mut world, "False", "FailedGetResourceMetric");
    let conditions = &world.status().conditions;
    assert_eq!(condition(conditions, C::ScalingActive), "False/MetricsUnavailable");
    let text = message(conditions, C::ScalingActive);
    assert!(text.contains("FailedGetResourceMetric: no metrics returned") && text.contains("metrics server"));
    assert_eq!(condition(conditions, C::Ready), "True/Available");
    assert_eq!(replicas(&world, 1), 2);
    say(&mut world, "True", "ValidMetricFound");
    assert_eq!(condition(&world.status().conditions, C::ScalingActive), "True/Autoscaled");
    world.autoscale(None);
    world.settle();
    assert_eq!(condition(&world.status().conditions, C::ScalingActive), "False/NotAutoscaled");
}
