//! What a version was made from.

use super::*;

#[tokio::test]
async fn a_version_knows_what_it_was_made_from() {
    let bench = Bench::new().await;
    let (registry, store) = (&bench.registry, &bench.store);
    let report = ingested(registry, store, "a").await;
    let mut run = registration(registry, store, NS, "a").await;
    run.dataset_digest.clone_from(&report.manifest.digest);
    bench.apply(&register(&run)).await.unwrap();
    assert_eq!(registry.version(NS, "m", 1).await.unwrap().unwrap().inputs, None, "no such snapshot");
    // two attempts gave the same snapshot: the version is found once
    for key in ["1/", "2/"] {
        bench.apply(&revision("dataset", key, &report)).await.unwrap();
    }
    let found = registry.version(NS, "m", 1).await.unwrap().unwrap().inputs.unwrap();
    assert_eq!((found.dataset_revision, &found.dataset_digest), (1, &report.manifest.digest));
    assert_eq!(found.snapshot_digest, report.snapshot.digest);
    assert_eq!((found.test_digest.as_str(), found.spec_hash.as_str()), ("test", "spec"));
    assert_eq!(found.trainer_image, "image");
}
