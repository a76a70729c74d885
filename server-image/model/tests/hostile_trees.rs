//! Files of trees that are not sound: an error, never a panic, a walk without end or a wild number.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests may fail as tests do

mod common;

use std::sync::LazyLock;

use common::broken::{attempt, changed, refused, tensor};
use common::{plain, train};
use proptest::prelude::*;
use vitrine_model::{Algorithm, TextSettings};

static FOREST: LazyLock<Vec<u8>> = LazyLock::new(|| file(Algorithm::RandomForest { trees: 3, max_depth: 4 }));
static BOOSTED: LazyLock<Vec<u8>> =
    LazyLock::new(|| file(Algorithm::GradientBoosting { rounds: 2, max_depth: 3, learning_rate: 0.5 }));

fn file(algorithm: Algorithm) -> Vec<u8> {
    let settings = TextSettings { max_features: Some(40), ..plain() };
    train(algorithm, &settings, 1).1.bytes().to_vec()
}

/// A number of a tensor replaced by another one.
fn set(good: &[u8], name: &str, place: usize, value: [u8; 4]) -> Result<(), vitrine_model::ArtifactError> {
    changed(good, |_, all| tensor(all, name).data[place * 4..place * 4 + 4].copy_from_slice(&value))
}

#[test]
fn good_files_are_accepted_and_every_tensor_of_them_is_needed() {
    for (good, names) in [
        (&*FOREST, &["roots", "features", "thresholds", "left", "right", "defaultLeft", "values"][..]),
        (
            &*BOOSTED,
            &["roots", "features", "thresholds", "left", "right", "defaultLeft", "values", "base"][..],
        ),
    ] {
        changed(good, |_, _| ()).unwrap();
        for name in names {
            let name = format!("trees.{name}");
            refused(changed(good, |_, all| all.retain(|t| t.name != name)), &name);
        }
    }
}

#[test]
fn nodes_that_lead_nowhere_are_refused() {
    for good in [&*FOREST, &*BOOSTED] {
        // the first node is the first tree's root and asks something
        refused(set(good, "trees.left", 0, 0u32.to_le_bytes()), "child of node 0");
        refused(set(good, "trees.right", 0, 0u32.to_le_bytes()), "child of node 0");
        refused(set(good, "trees.right", 0, (u32::MAX - 1).to_le_bytes()), "child of node 0");
        refused(set(good, "trees.features", 0, 40u32.to_le_bytes()), "feature that does not exist");
        refused(set(good, "trees.roots", 0, 1u32.to_le_bytes()), "tree 0");
        refused(set(good, "trees.roots", 1, u32::MAX.to_le_bytes()), "starts at a node");
        // as a leaf it would name a value by its left child's number
        refused(set(good, "trees.left", 0, u32::MAX.to_le_bytes()), "child of node 0");
        for value in [f32::NAN, f32::INFINITY] {
            refused(set(good, "trees.thresholds", 0, value.to_le_bytes()), "finite");
        }
        refused(
            changed(good, |_, all| {
                let left = tensor(all, "trees.left");
                left.data.truncate(left.data.len() - 4);
                left.shape[0] -= 1;
            }),
            "do not fit",
        );
    }
}

#[test]
fn wild_values_are_refused() {
    for value in [f32::NAN, -0.5, 1.5, f32::MAX] {
        refused(set(&FOREST, "trees.values", 0, value.to_le_bytes()), "between 0 and 1");
    }
    for value in [f32::NAN, f32::MAX, f32::NEG_INFINITY] {
        refused(set(&BOOSTED, "trees.values", 0, value.to_le_bytes()), "finite");
        refused(set(&BOOSTED, "trees.base", 0, value.to_le_bytes()), "finite");
    }
    refused(changed(&FOREST, |_, all| tensor(all, "trees.values").shape.reverse()), "columns");
    refused(changed(&FOREST, |info, _| info["algorithm"]["kind"] = "linearSvm".into()), "model description");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn flipped_bytes_never_panic(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..8),
        forest in any::<bool>(),
    ) {
        let mut bytes = if forest { FOREST.clone() } else { BOOSTED.clone() };
        for (at, mask) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
        }
        let _ = attempt(&bytes);
    }
}
