//! Which earlier versions a run may take over.

use std::time::Duration;

use serde_json::json;
use vitrine_contract::report::{Blob, Trained};
use vitrine_plan::{Registration, RegistryOp};

use crate::registry::blobs::Writer;
use crate::testing::{Server, World, object, usual, world};

use super::*;

const NS: &str = "ns-uid";
/// Digest of `abc`.
const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

async fn put(world: &World) {
    let body = futures::stream::iter([Ok::<_, String>(bytes::Bytes::from_static(b"abc"))]);
    world.store.put(NS, ABC, 3, body).await.unwrap();
}

#[tokio::test]
async fn a_version_whose_bytes_are_lost_is_not_taken_over() {
    let server = Server::new(|seen| match seen.path.as_str() {
        "/api/v1/namespaces/a" => {
            (200, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "uid": NS}}))
        }
        _ => usual(seen),
    });
    let world = world(&server, Duration::from_secs(20)).await;
    let writer = Writer { owner_uid: "old", job_uid: "job" };
    world.ctx.registry.record_blob(NS, ABC, 3, writer).await.unwrap();
    let blob = Blob { digest: ABC.to_owned(), bytes: 3 };
    let registration = Registration {
        namespace_uid: NS.to_owned(),
        run_uid: "old".to_owned(),
        run: "old".to_owned(),
        model: "m".to_owned(),
        accepted: true,
        dataset_digest: "data".to_owned(),
        test_digest: "test".to_owned(),
        spec_hash: "spec".to_owned(),
        trainer_image: "t".to_owned(),
        report: Trained { model: blob.clone(), report: blob, ..Trained::default() },
    };
    put(&world).await;
    let register = RegistryOp::RegisterVersion(Box::new(registration));
    world.ctx.registry.apply(&register, world.ctx.epoch).await.unwrap();
    let run: TrainingRun = object(json!({
        "apiVersion": "vitrine.dev/v1alpha1", "kind": "TrainingRun",
        "metadata": {"namespace": "a", "name": "r", "uid": "new", "generation": 1},
        "spec": {"datasetRef": {"name": "d"}, "output": {"model": "m"}},
        "status": {"inputs": {"datasetRevision": 1, "datasetDigest": "data", "snapshotDigest": "s",
                              "testDigest": "test", "trainerImage": "t", "specHash": "spec"}},
    }));
    let reusable = async || observe(&world.ctx, &run).await.unwrap().reusable.len();
    assert_eq!(reusable().await, 1);
    world.store.remove(NS, ABC).await;
    assert_eq!(reusable().await, 0);
    put(&world).await;
    assert_eq!(reusable().await, 1);
    // before it is taken over, the server is asked for a Job that the cache may not know yet
    assert!(server.log().iter().any(|call| call.contains("/jobs/r-")), "{:?}", server.log());
}
