//! Stories on a real node: real apiserver, kubelet, scheduler and pods, with the operator installed
//! by its chart. `e2e/test` brings all of it up and runs these, several at a time; those that stop or
//! load what all share run alone (`vitrine_e2e::turn`).
//!
//! Each story has a namespace of its own; nothing here waits for a fixed time but the idle story,
//! which observes a quiet period.
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)] // test code

mod api;
mod autoscaling;
mod away;
mod crash;
mod data;
mod deletion;
mod idle;
mod integrity;
mod lifecycle;
mod limits;
mod refusals;
mod rollout;
mod security;
mod sources;
mod tenants;
mod upgrade;

use serde_json::Value;
use vitrine_e2e::kubectl::text;
use vitrine_e2e::manifests::{Run, dataset, deployment};
use vitrine_e2e::story::Story;
use vitrine_e2e::wait::{seconds, until};

/// Dataset, run and deployment of a story, all ready.
fn served(story: &Story, replicas: u32) {
    story.apply(&dataset("products"));
    story.apply(&Run::default().yaml());
    story.apply(&deployment("serve", replicas));
    story.wait_for("mlds/products", "Ready", 120);
    story.wait_for("trun/run", "Succeeded", 180);
    story.wait_for("mdep/serve", "Ready", 120);
}

/// Address of the Service of a ModelDeployment, reachable from this machine, which is the node. Waits
/// until kube-proxy, which follows the endpoints within a second or so, has programmed it.
fn address(story: &Story, name: &str) -> std::net::SocketAddr {
    let service = story.get(&["service", name]);
    let port = service["spec"]["ports"][0]["port"].as_u64().unwrap();
    let address = format!("{}:{port}", text(&service, "/spec/clusterIP")).parse().unwrap();
    until("the Service to be programmed on the node", seconds(30), || {
        std::net::TcpStream::connect(address).map(drop).map_err(|e| e.to_string())
    });
    address
}

/// Jobs of a story whose controller is that resource.
fn jobs_of(story: &Story, owner: &str) -> Vec<Value> {
    story
        .list(&["jobs"])
        .into_iter()
        .filter(|j| text(j, "/metadata/ownerReferences/0/name") == owner)
        .collect()
}
