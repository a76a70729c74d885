//! Whatever the bytes are, reading a model gives a model or an error; never a panic, never a score
//! from a model that is not sound.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests may fail as tests do

mod common;

use common::broken::{self, Tensor, attempt, refused, tensor};
use common::{plain, train};
use proptest::prelude::*;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};
use std::sync::LazyLock;
use vitrine_model::{Algorithm, ArtifactError, Model, TextSettings};

static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let settings = TextSettings { max_features: Some(40), ..plain() };
    train(Algorithm::LinearSvm { c: 1.0 }, &settings, 1).1.bytes().to_vec()
});

/// The good file taken apart, changed by `change`, and put together again.
fn changed(change: impl FnOnce(&mut Value, &mut Vec<Tensor>)) -> Result<(), ArtifactError> {
    broken::changed(&GOOD, change)
}

#[test]
fn an_unchanged_file_is_accepted() {
    changed(|_, _| ()).unwrap();
}

#[test]
fn another_version_is_incompatible_even_when_its_fields_are_unknown() {
    for version in [0, 3, 99] {
        let result = changed(|info, _| *info = json!({"formatVersion": version, "something": "else"}));
        let Err(ArtifactError::Incompatible { found, supported }) = result else { panic!("{result:?}") };
        assert_eq!((found, supported), (version, 1..=2));
    }
}

#[test]
fn unsound_descriptions_are_refused() {
    refused(changed(|info, _| *info = json!({})), "format version");
    refused(changed(|info, _| info["classes"] = json!([])), "two classes");
    refused(changed(|info, _| info["textColumns"] = json!([])), "one text column");
    refused(changed(|info, _| info["text"]["ngramRange"] = json!([1, 9])), "ngramRange");
    refused(changed(|info, _| info["calibration"]["scale"] = json!(-1.0)), "cannot be applied");
    refused(changed(|info, _| info["algorithm"]["kind"] = json!("oracle")), "model description");
    refused(changed(|info, _| drop(info["classes"].as_array_mut().unwrap().pop())), "head.weights");
    refused(changed(|info, _| info["textColumns"] = json!(["designation"])), "text columns");
}

#[test]
fn a_second_block_of_terms_must_be_what_the_settings_say() {
    let chars = json!({"ngramRange": [2, 4], "maxFeatures": null, "minDf": 1, "maxDf": 1.0, "weight": 1.0});
    refused(changed(|info, _| info["characterTerms"] = json!(3)), "3 of 34 terms");
    refused(changed(|info, _| info["text"]["chars"] = chars.clone()), "0 of 34 terms");
    for terms in [34, 35, u32::MAX] {
        let set = |info: &mut Value, _: &mut Vec<Tensor>| {
            info["text"]["chars"] = chars.clone();
            info["characterTerms"] = json!(terms);
        };
        refused(changed(set), "cannot be character n-grams");
    }
    let set = |weight: Value| {
        changed(|info, _| {
            info["text"]["chars"] = chars.clone();
            info["text"]["chars"]["weight"] = weight;
            info["characterTerms"] = json!(3);
        })
    };
    set(json!(2.0)).unwrap();
    refused(set(json!(-1.0)), "char.weight");
}

#[test]
fn unsound_tensors_are_refused() {
    for name in
        ["head.weights", "head.intercepts", "vocabulary.idf", "vocabulary.offsets", "vocabulary.bytes"]
    {
        refused(changed(|_, all| all.retain(|t| t.name != name)), name);
    }
    for name in ["head.weights", "head.intercepts", "vocabulary.idf", "probes.scores", "probes.probabilities"]
    {
        for value in [f32::NAN, f32::INFINITY] {
            let set = |_: &mut Value, all: &mut Vec<Tensor>| {
                tensor(all, name).data[..4].copy_from_slice(&value.to_le_bytes());
            };
            refused(changed(set), "not finite");
        }
    }
    refused(changed(|_, all| tensor(all, "head.weights").shape.reverse()), "has shape");
    refused(changed(|_, all| tensor(all, "head.intercepts").dtype = Dtype::I32), "has type");
    refused(changed(|_, all| tensor(all, "probes.rows").data[0] = b'{'), "probes.rows");
    refused(changed(|_, all| tensor(all, "vocabulary.bytes").data[0] = 0xFF), "vocabulary.bytes");
    // "armoire" comes first: made the last letter of the alphabet it is out of order
    refused(changed(|_, all| tensor(all, "vocabulary.bytes").data[0] = b'z'), "ascending");
    let offset = |i: usize, value: u32| {
        changed(|_, all| {
            let offsets = &mut tensor(all, "vocabulary.offsets").data;
            let at = (i * 4).min(offsets.len() - 4);
            offsets[at..at + 4].copy_from_slice(&value.to_le_bytes());
        })
    };
    refused(offset(0, 1), "cut");
    refused(offset(1, u32::MAX), "cut");
    refused(offset(3, 0), "cut");
    refused(offset(usize::MAX / 4, 7), "cut");
}

#[test]
fn every_truncation_is_refused() {
    for len in 0..GOOD.len() {
        assert!(attempt(&GOOD[..len]).is_err(), "{len} of {} bytes were accepted", GOOD.len());
    }
    let mut longer = GOOD.clone();
    longer.push(0);
    assert!(attempt(&longer).is_err());
}

#[test]
fn a_file_that_is_not_there_is_an_io_error_with_its_name() {
    let error = Model::open(std::path::Path::new("no/such/model")).unwrap_err();
    assert!(
        matches!(error, ArtifactError::Io { .. }) && error.to_string().contains("no/such/model"),
        "{error}"
    );
    let empty = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(Model::open(empty.path()), Err(ArtifactError::Corrupt { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn flipped_bytes_never_panic(flips in proptest::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..8)) {
        let mut bytes = GOOD.clone();
        for (at, mask) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
        }
        let _ = attempt(&bytes);
    }

    #[test]
    fn flipped_header_bytes_never_panic(flips in proptest::collection::vec((0usize..2600, any::<u8>()), 1..4)) {
        let mut bytes = GOOD.clone();
        for (at, value) in flips {
            bytes[at] = value;
        }
        let _ = attempt(&bytes);
    }

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(attempt(&bytes).is_err());
    }
}
