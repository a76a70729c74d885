//! What an upgrade of the operator does to pods that serve: nothing. And what is theirs to change.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use vitrine_contract::serve::ServeConfig;
use vitrine_crds::names;
use vitrine_plan::{Child, diff};

use crate::rolled;
use crate::world::{World, child};

fn template(world: &World, version: i64) -> PodTemplateSpec {
    world.deployments[&child(version)].live.spec.clone().unwrap().template
}

fn pod(world: &mut World, version: i64) -> &mut PodSpec {
    let live = &mut world.deployments.get_mut(&child(version)).unwrap().live;
    live.spec.as_mut().unwrap().template.spec.as_mut().unwrap()
}

fn config(world: &World, version: i64) -> ServeConfig {
    let config = &world.configs[&child(version)];
    serde_json::from_str(&config.data.as_ref().unwrap()["config.json"]).unwrap()
}

fn memory(live: &mut Deployment) -> &mut String {
    live.metadata.annotations.as_mut().unwrap().get_mut(names::ANNOTATION_PODS).unwrap()
}

fn image(world: &World, version: i64) -> String {
    template(world, version).spec.unwrap().containers[0].image.clone().unwrap()
}

#[test]
fn an_upgrade_of_the_operator_restarts_no_serving_pod_and_the_next_rollout_takes_what_is_new() {
    let mut world = rolled(1);
    let before = (template(&world, 1), config(&world, 1));
    world.upgrade();
    world.quiet();
    // nor does a change of what is no matter of the pods
    world.change(|spec| {
        spec.replicas = 3;
        spec.service.port = 81;
        spec.rollout.progress_deadline_seconds = 700;
    });
    world.autoscale(Some((1, 4)));
    world.settle();
    world.quiet();
    assert_eq!((template(&world, 1), config(&world, 1)), before);
    assert_eq!(world.status().effective.as_ref().unwrap().image, "images.test/server:1");

    world.challenger = Some(2);
    world.settle();
    world.quiet();
    assert_eq!(world.status().effective.as_ref().unwrap().image, "images.test/server:2");
    let (pod, config) = (template(&world, 2).spec.unwrap(), config(&world, 2));
    assert_eq!((config.drain_seconds, config.max_concurrency), (17, 65));
    assert_eq!(pod.termination_grace_period_seconds, Some(37));
    assert_eq!(pod.image_pull_secrets.unwrap()[0].name, "registry");
}

#[test]
fn a_moved_gateway_reaches_the_config_of_later_pods_and_restarts_none() {
    let mut world = rolled(1);
    let before = template(&world, 1);
    world.upgrade();
    world.policy.gateway.ca = "NEW PEM".into();
    let plan = world.plan(9);
    assert!(matches!(plan.apply.as_slice(), [Child::ConfigMap(_)]), "{:?}", plan.apply);
    world.settle();
    world.quiet();
    let config = config(&world, 1);
    assert_eq!(config.gateway.ca, "NEW PEM");
    // still what the pods' grace period was made for
    assert_eq!((config.drain_seconds, config.max_concurrency), (10, 64));
    assert_eq!(template(&world, 1), before);
    // the same for what keeps the traffic while another version comes up
    world.challenger = Some(2);
    world.pass(None);
    world.configs.remove(&child(1));
    world.pass(None);
    assert_eq!(self::config(&world, 1).drain_seconds, 10);
    assert_eq!(self::config(&world, 2).drain_seconds, 17);
}

#[test]
fn a_change_by_the_user_brings_pods_as_the_operator_makes_them_now_but_for_the_image() {
    let mut world = rolled(1);
    world.upgrade();
    world.change(|spec| {
        spec.placement.node_selector.insert("disk".into(), "ssd".into());
    });
    world.settle();
    world.quiet();
    let pod = template(&world, 1).spec.unwrap();
    assert_eq!(pod.node_selector.unwrap()["disk"], "ssd");
    assert_eq!(pod.termination_grace_period_seconds, Some(37));
    assert_eq!(config(&world, 1).drain_seconds, 17);
    assert_eq!(image(&world, 1), "images.test/server:1");
    world.change(|spec| spec.server.image = Some("images.test/own:1".into()));
    world.settle();
    world.quiet();
    assert_eq!(image(&world, 1), "images.test/own:1");
}

#[test]
fn what_somebody_changed_in_a_child_is_put_right_also_after_an_upgrade() {
    let mut world = rolled(1);
    let before = template(&world, 1);
    for upgraded in [false, true] {
        if upgraded {
            world.upgrade();
        }
        let pod = pod(&mut world, 1);
        pod.containers[0].image = Some("images.test/evil".into());
        pod.containers[0].args = Some(vec!["other".into()]);
        pod.termination_grace_period_seconds = Some(1);
        let plan = world.plan(9);
        assert!(matches!(plan.apply.as_slice(), [Child::Deployment(_)]), "{:?}", plan.apply);
        world.settle();
        world.quiet();
        assert_eq!(template(&world, 1), before);
    }
    let mut service = diff::to_json(world.service.as_ref().unwrap());
    service["spec"]["ports"][0]["port"] = 81.into();
    world.service = Some(serde_json::from_value(service).unwrap());
    assert!(world.plan(9).apply.iter().any(|c| matches!(c, Child::Service(_))));
}

#[test]
fn a_memory_that_was_changed_or_is_missing_is_made_anew() {
    for missing in [false, true] {
        let mut world = rolled(1);
        let live = &mut world.deployments.get_mut(&child(1)).unwrap().live;
        let text = memory(live);
        assert!(text.contains("images.test/server:1"));
        *text =
            if missing { String::new() } else { text.replace("images.test/server:1", "images.test/evil") };
        world.settle();
        world.quiet();
        assert_eq!(image(&world, 1), "images.test/server:1");
        assert!(!memory(&mut world.deployments.get_mut(&child(1)).unwrap().live).contains("evil"));
    }
}
