//! What may happen to a world, for the property tests.

use proptest::prelude::*;

use crate::common::issuer;
use crate::world::World;

#[derive(Clone, Copy, Debug)]
pub enum Happening {
    Pass { killed_after: Option<usize> },
    Ready,
    OnePodReady,
    Late,
    PodLost,
    Challenger(i64),
    Champion(i64),
    Replicas(i32),
    Image,
    Policy,
    Keys(bool),
    Conflict,
    ServiceVanishes,
    DeploymentVanishes(usize),
    ConfigVanishes,
    Autoscaling(Option<(i32, i32)>),
    Load(i32),
    AutoscalerVanishes,
    ScaledByHand(i32),
    SiblingsVanish,
}

pub fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    use Happening as H;
    let one = prop_oneof![
        8 => Just(H::Pass { killed_after: None }),
        5 => (0_usize..5).prop_map(|n| H::Pass { killed_after: Some(n) }),
        4 => Just(H::Ready),
        2 => Just(H::OnePodReady),
        2 => Just(H::Late),
        1 => Just(H::PodLost),
        2 => (1_i64..7).prop_map(H::Challenger),
        1 => (1_i64..7).prop_map(H::Champion),
        1 => (0_i32..4).prop_map(H::Replicas),
        1 => Just(H::Image),
        1 => Just(H::Policy),
        2 => any::<bool>().prop_map(H::Keys),
        1 => Just(H::Conflict),
        1 => Just(H::ServiceVanishes),
        1 => (0_usize..3).prop_map(H::DeploymentVanishes),
        1 => Just(H::ConfigVanishes),
        2 => prop::option::of((1_i32..3, 0_i32..3)).prop_map(H::Autoscaling),
        2 => (0_i32..6).prop_map(H::Load),
        1 => Just(H::AutoscalerVanishes),
        1 => (0_i32..6).prop_map(H::ScaledByHand),
        1 => Just(H::SiblingsVanish),
    ];
    prop::collection::vec(one, 0..40)
}

pub fn happen(world: &mut World, what: Happening) {
    world.clock += 1;
    match what {
        Happening::Pass { killed_after } => world.pass(killed_after),
        Happening::Ready => world.ready(),
        Happening::OnePodReady => {
            for sim in world.deployments.values_mut().filter(|s| !World::is_bad(&world.bad, s)) {
                sim.updated = (sim.updated + 1).min(sim.replicas());
                sim.ready = sim.ready.max(sim.updated);
            }
        }
        Happening::Late => world.late(),
        Happening::PodLost => {
            for sim in world.deployments.values_mut() {
                sim.ready = (sim.ready - 1).max(0);
                sim.updated = sim.updated.min(sim.ready);
            }
        }
        Happening::Challenger(version) => world.challenger = Some(version),
        Happening::Champion(version) => world.champion = Some(version),
        // the schema refuses a change of replicas under an autoscaler, and an autoscaler at zero
        Happening::Replicas(n) => {
            if world.object.spec.autoscaling.is_none() {
                world.change(|spec| spec.replicas = n);
            }
        }
        Happening::Autoscaling(bounds) => world.autoscale(bounds.map(|(min, more)| (min, min + more))),
        Happening::Load(pods) => world.load(pods),
        Happening::AutoscalerVanishes => world.autoscaler = None,
        Happening::ScaledByHand(pods) => {
            for sim in world.deployments.values_mut() {
                sim.scale(pods);
            }
        }
        Happening::Image => world.change(|spec| spec.server.image = Some("images.test/own:2".into())),
        Happening::Policy => world.upgrade(),
        Happening::Keys(known) => {
            world.policy.issuer = known.then(|| issuer(&format!("key-{}", world.clock)));
        }
        Happening::SiblingsVanish => drop(world.siblings.pop_first()),
        Happening::Conflict => {
            world.owner = if world.owner.is_some() { None } else { Some("older".into()) };
        }
        Happening::ServiceVanishes => world.service = None,
        Happening::DeploymentVanishes(nth) => {
            if let Some(name) = world.deployments.keys().nth(nth).cloned() {
                world.deployments.remove(&name);
            }
        }
        Happening::ConfigVanishes => {
            if let Some(name) = world.configs.keys().next().cloned() {
                world.configs.remove(&name);
            }
        }
    }
}
