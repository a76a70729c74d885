//! A ModelDeployment in a small world of Deployments, one Service and a registry: whatever happens in
//! between, and wherever the operator is killed, it comes to one end, traffic never moves to pods
//! that are not ready, and then nothing is written.
#![allow(clippy::unwrap_used, clippy::panic)]

mod autoscaling;
#[path = "../common/mod.rs"]
mod common;
mod happening;
mod mishaps;
mod upgrade;
mod world;

use common::{at, condition, digest, issuer, kstatus, message};
use happening::{happen, happenings};
use proptest::prelude::*;
use vitrine_contract::serve::ServeConfig;
use vitrine_crds::condition::{ConditionType as C, is_true};
use vitrine_plan::{Child, diff, model_deployment};
use world::{World, child, selected};

proptest! {
    #[test]
    fn a_model_deployment_comes_to_rest_and_then_writes_nothing(
        list in happenings(),
        bad in prop::collection::vec(1_i64..7, 0..3),
        champion in prop::option::of(1_i64..3),
        challenger in prop::option::of(1_i64..7),
    ) {
        let mut world = World::new(champion, challenger);
        world.bad = bad;
        for what in list {
            happen(&mut world, what);
        }
        world.settle();
        world.quiet();
        let status = world.status();
        let conditions = &status.conditions;
        prop_assert_eq!(status.observed_generation, world.object.metadata.generation);
        if is_true(conditions, C::ModelResolved) {
            prop_assert!(!is_true(conditions, C::Reconciling), "{status:#?}");
            // one version is left
            prop_assert!(world.deployments.len() <= 1, "{:?}", world.deployments.keys());
            let names = || world.deployments.keys();
            prop_assert!(names().eq(world.configs.keys()) && names().eq(world.siblings.keys()));
        } else {
            prop_assert!(condition(conditions, C::ModelResolved) != "True/ModelResolved");
        }
        // a champion that works serves, whatever its candidates were
        if let Some(champion) = world.champion.filter(|v| !world.bad.contains(v)) {
            prop_assert!(is_true(conditions, C::Ready), "{status:#?}");
            let stable = status.stable.as_ref().unwrap();
            prop_assert!(stable.version == champion || world.owner.is_some() || world.object.spec.replicas == 0);
        }
        // one autoscaler where one is asked for, on what has the traffic
        let asked = world.object.spec.autoscaling.is_some();
        prop_assert!(asked || world.autoscaler.is_none());
        // (without the alias nothing says who would have the traffic of a Service that vanished)
        let halted = world.owner.is_some() && world.service.is_none();
        prop_assert!(!asked || world.autoscaler.is_some() || world.deployments.is_empty() || halted);
        if let (Some(name), Some(service)) = (world.autoscaled(), &world.service) {
            prop_assert!(name.ends_with(&selected(service)), "{}", name);
        }
    }
}

fn rolled(champion: i64) -> World {
    let mut world = World::new(Some(champion), None);
    world.settle();
    assert_eq!(condition(&world.status().conditions, C::Ready), "True/Available");
    world.quiet();
    world
}

#[test]
fn the_first_candidate_becomes_the_champion() {
    let mut world = World::new(None, Some(1));
    world.pass(None);
    assert_eq!(condition(&world.status().conditions, C::Ready), "False/Progressing");
    assert_eq!(world.champion, None);
    world.settle();
    assert_eq!(world.champion, Some(1));
    assert_eq!(condition(&world.status().conditions, C::RolloutSucceeded), "True/RolloutComplete");
    assert_eq!(kstatus(&world.status().conditions), "Current");
    assert_eq!(world.rollouts, [(1, digest("v1-model"), 1, "Succeeded".to_owned())]);
    let status = world.status();
    assert_eq!(status.url.as_deref(), Some("http://shop.shop.svc"));
    assert_eq!(status.replica_summary.as_deref(), Some("2/2"));
    let selector = status.selector.clone().unwrap();
    assert!(selector.contains("vitrine.dev/owner-uid=uid-shop"), "{selector}");
    assert_eq!(status.lineage.as_ref().unwrap().model_digest, digest("v1-model"));
}

#[test]
fn traffic_moves_in_one_write_after_all_new_pods_answer_and_only_then_the_old_ones_go() {
    let mut world = rolled(1);
    world.challenger = Some(2);
    world.pass(None);
    let (old, new) = (child(1), child(2));
    assert!(world.deployments.contains_key(&new));
    assert_eq!(world.status().candidate.as_ref().unwrap().version, 2);
    assert_eq!(world.status().stable.as_ref().unwrap().version, 1);
    // half of the pods are not enough
    world.deployments.get_mut(&new).unwrap().updated = 1;
    world.deployments.get_mut(&new).unwrap().ready = 1;
    world.pass(None);
    assert!(old.ends_with(&selected(world.service.as_ref().unwrap())));
    world.ready();
    let plan = world.plan(50);
    assert!(matches!(plan.apply.as_slice(), [Child::Service(_)]), "{:?}", plan.apply);
    assert!(plan.delete.is_empty() && plan.registry.is_empty());
    world.pass(None);
    assert!(new.ends_with(&selected(world.service.as_ref().unwrap())));
    assert!(world.deployments.contains_key(&old));
    world.pass(None);
    assert!(!world.deployments.contains_key(&old) && !world.configs.contains_key(&old));
    assert!(!world.siblings.contains_key(&old));
    assert_eq!(world.champion, Some(2));
    world.settle();
    assert_eq!(kstatus(&world.status().conditions), "Current");
    world.quiet();
}

#[test]
fn a_candidate_that_does_not_come_up_is_removed_and_the_champion_goes_on() {
    let mut world = rolled(1);
    world.bad = vec![2];
    world.challenger = Some(2);
    world.pass(None);
    world.late();
    // the failure is stored before anything is removed: a kill in between must not try again
    let plan = world.plan(50);
    assert!(plan.delete.is_empty());
    assert_eq!(plan.status.last_rollout.as_ref().unwrap().result, "Failed");
    world.settle();
    world.quiet();
    let status = world.status();
    assert!(!world.deployments.contains_key(&child(2)));
    assert_eq!(world.champion, Some(1));
    assert_eq!(condition(&status.conditions, C::Ready), "True/Available");
    assert_eq!(condition(&status.conditions, C::RolloutSucceeded), "False/RolloutFailed");
    assert_eq!(kstatus(&status.conditions), "Current");
    let why = message(&status.conditions, C::RolloutSucceeded);
    assert!(
        why.contains("version 2") && why.contains("600 seconds") && why.contains("probe 3 differs"),
        "{why}"
    );
    assert_eq!(status.last_failure.as_ref().unwrap().reason, "ProbeMismatch");
    // another candidate, or another spec, is tried
    world.challenger = Some(3);
    world.settle();
    assert_eq!(world.champion, Some(3));
    world.quiet();
}

#[test]
fn a_failed_candidate_is_tried_again_when_the_spec_changes() {
    let mut world = rolled(1);
    world.bad = vec![2];
    world.challenger = Some(2);
    world.settle();
    world.bad.clear();
    world.settle();
    assert_eq!(world.champion, Some(1), "not by itself");
    world.change(|spec| spec.rollout.progress_deadline_seconds = 900);
    world.settle();
    assert_eq!(world.champion, Some(2));
    world.quiet();
}

#[test]
fn a_first_version_that_does_not_come_up_stays_and_says_why() {
    let mut world = World::new(Some(1), None);
    world.bad = vec![1];
    world.settle();
    world.quiet();
    let conditions = &world.status().conditions;
    assert_eq!(condition(conditions, C::Ready), "False/RolloutFailed");
    assert_eq!(kstatus(conditions), "Failed");
    assert!(message(conditions, C::Stalled).contains("probe 3 differs"));
    assert!(world.deployments.contains_key(&child(1)));
    // it may recover by itself
    world.bad.clear();
    world.settle();
    world.quiet();
    assert_eq!(condition(&world.status().conditions, C::Ready), "True/Available");
    assert_eq!(condition(&world.status().conditions, C::RolloutSucceeded), "True/RolloutComplete");
    assert_eq!(world.status().last_failure, None);
}

#[test]
fn a_version_that_the_spec_names_and_that_fails_leaves_the_old_one_and_is_stalled() {
    let mut world = rolled(1);
    world.bad = vec![2];
    world.champion = Some(2);
    world.settle();
    world.quiet();
    let conditions = &world.status().conditions;
    assert_eq!(condition(conditions, C::Ready), "True/Available");
    assert_eq!(condition(conditions, C::Stalled), "True/RolloutFailed");
    assert_eq!(world.status().stable.as_ref().unwrap().version, 1);
}

#[test]
fn an_image_with_which_no_pod_came_up_is_not_kept() {
    let mut world = World::new(Some(1), None);
    let image = |world: &World| world.observe().deployments[0].image.clone();
    world.pass(None);
    assert_eq!(image(&world), "images.test/server:1");
    world.policy.server_image = "images.test/server:2".into();
    world.pass(None);
    assert_eq!(image(&world), "images.test/server:2");
}

#[test]
fn new_keys_of_the_cluster_reach_the_config_and_restart_no_pod() {
    let mut world = rolled(1);
    let keys = |world: &World| {
        let data = world.configs[&child(1)].data.clone().unwrap();
        serde_json::from_str::<ServeConfig>(&data["config.json"]).unwrap().siblings.map(|s| s.issuer)
    };
    assert_eq!(keys(&world), Some(issuer("one")));
    world.policy.issuer = Some(issuer("two"));
    let plan = world.plan(9);
    assert!(matches!(plan.apply.as_slice(), [Child::ConfigMap(_)]), "{:?}", plan.apply);
    world.pass(None);
    world.quiet();
    assert_eq!(keys(&world), Some(issuer("two")));
    // keys that cannot be read for a while are not taken away
    world.policy.issuer = None;
    world.quiet();
    assert_eq!(keys(&world), Some(issuer("two")));
}

#[test]
fn without_readable_keys_everything_else_is_as_ever_and_their_coming_restarts_no_pod() {
    let mut world = World::new(Some(1), None);
    world.policy.issuer = None;
    world.settle();
    world.quiet();
    assert_eq!(condition(&world.status().conditions, C::Ready), "True/Available");
    world.policy.issuer = Some(issuer("one"));
    let plan = world.plan(9);
    assert!(matches!(plan.apply.as_slice(), [Child::ConfigMap(_)]), "{:?}", plan.apply);
}

#[test]
fn zero_replicas_are_ready_and_nothing_is_promoted_unproved() {
    let mut world = rolled(1);
    world.change(|spec| spec.replicas = 0);
    world.challenger = Some(2);
    world.settle();
    world.quiet();
    assert_eq!(condition(&world.status().conditions, C::Ready), "True/ScaledToZero");
    assert_eq!(world.champion, Some(1));
    assert_eq!(world.status().stable.as_ref().unwrap().version, 1);
    world.change(|spec| spec.replicas = 1);
    world.settle();
    assert_eq!(world.champion, Some(2));
}

#[test]
fn a_change_of_replicas_reaches_what_serves_also_during_a_rollout() {
    let mut world = rolled(1);
    world.bad = vec![2];
    world.challenger = Some(2);
    world.pass(None);
    world.change(|spec| spec.replicas = 3);
    let plan = world.plan(9);
    assert!(
        plan.apply.iter().any(|c| matches!(c, Child::ScaleDeployment { replicas: 3, .. })),
        "{:?}",
        plan.apply
    );
    world.pass(None);
    assert_eq!(world.deployments[&child(1)].replicas(), 3);
}

#[test]
fn two_that_move_one_alias_are_told_and_the_older_one_moves_it() {
    let mut world = rolled(1);
    world.challenger = Some(2);
    world.owner = Some("first".into());
    world.settle();
    world.quiet();
    let conditions = &world.status().conditions;
    assert_eq!(world.champion, Some(1));
    assert_eq!(condition(conditions, C::Ready), "True/Available");
    assert_eq!(condition(conditions, C::Stalled), "True/AliasConflict");
    assert!(message(conditions, C::Stalled).contains("ModelDeployment first moves alias champion"));
}

#[test]
fn children_of_others_are_not_touched() {
    let mut world = rolled(1);
    world.autoscale(Some((1, 3)));
    world.settle();
    for break_it in [0, 1, 2, 3] {
        let mut seen = world.observe();
        match break_it {
            0 => seen.service.as_mut().unwrap().1 = false,
            1 => seen.deployments[0].owned = false,
            2 => seen.autoscaler.as_mut().unwrap().1 = false,
            _ => seen.configs[0].metadata.owner_references = None,
        }
        let plan = model_deployment::plan(&world.object, &seen, &world.policy, &at(9));
        assert_eq!(condition(&plan.status.conditions, C::Stalled), "True/NameCollision");
        assert!(plan.apply.is_empty() && plan.delete.is_empty() && plan.registry.is_empty());
    }
}

#[test]
fn a_champion_that_never_came_up_is_replaced_by_a_candidate_that_does() {
    let mut world = World::new(Some(1), None);
    world.bad = vec![1, 2];
    world.settle();
    assert_eq!(kstatus(&world.status().conditions), "Failed");
    world.challenger = Some(2);
    world.settle();
    world.quiet();
    assert_eq!(kstatus(&world.status().conditions), "Failed");
    world.challenger = Some(3);
    world.settle();
    world.quiet();
    assert_eq!(world.champion, Some(3));
    assert_eq!(kstatus(&world.status().conditions), "Current");
}

#[test]
fn a_champion_that_broke_after_its_success_does_not_hold_up_a_candidate() {
    let mut world = rolled(1);
    world.bad = vec![1, 3];
    let broken = world.deployments.get_mut(&child(1)).unwrap();
    // Kubernetes says nothing of the deadline once a rollout was complete
    (broken.ready, broken.updated, broken.late) = (0, 0, false);
    // the first candidate fails, the next one is tried all the same
    world.challenger = Some(3);
    world.pass(None);
    world.deployments.get_mut(&child(3)).unwrap().late = true;
    for _ in 0..5 {
        world.pass(None);
    }
    assert!(!world.deployments.contains_key(&child(3)));
    world.challenger = Some(2);
    for _ in 0..10 {
        world.pass(None);
        world.ready();
    }
    assert_eq!(world.champion, Some(2));
    assert_eq!(kstatus(&world.status().conditions), "Current");
    world.quiet();
}

#[test]
fn the_same_bytes_under_a_new_number_get_new_pods_before_they_are_told() {
    let mut world = rolled(1);
    world.challenger = Some(5);
    world.pass(None);
    world.pass(None);
    let live = diff::to_json(&world.deployments[&child(1)].live);
    let annotations = &live["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["vitrine.dev/model-version"], "5");
    let status = world.status();
    assert_eq!(status.stable.as_ref().unwrap().version, 1, "the old pods still answer");
    assert_eq!(condition(&status.conditions, C::Ready), "True/Available");
    assert_eq!(condition(&status.conditions, C::RolloutSucceeded), "Unknown/Progressing");
    assert_eq!(world.champion, Some(1));
    world.settle();
    world.quiet();
    let status = world.status();
    assert_eq!((world.champion, status.stable.as_ref().unwrap().version), (Some(5), 5));
    let last = status.last_rollout.as_ref().unwrap();
    assert_eq!((last.version, last.result.as_str()), (5, "Succeeded"));
    let numbers: Vec<i64> = world.rollouts.iter().map(|row| row.0).collect();
    assert_eq!(numbers, [1, 5]);
}

#[test]
fn the_same_bytes_under_a_number_that_fails_go_back_to_the_old_one_and_are_not_tried_again() {
    let mut world = rolled(1);
    world.bad = vec![5];
    world.challenger = Some(5);
    world.pass(None);
    world.late();
    world.pass(None);
    // no reader fails fast: the old number is on its way back
    assert_eq!(kstatus(&world.status().conditions), "InProgress");
    world.settle();
    world.quiet();
    let status = world.status();
    assert_eq!((world.champion, status.stable.as_ref().unwrap().version), (Some(1), 1));
    assert_eq!(kstatus(&status.conditions), "Current");
    assert_eq!(condition(&status.conditions, C::RolloutSucceeded), "False/RolloutFailed");
    assert_eq!(status.last_rollout.as_ref().unwrap().version, 5);
}
