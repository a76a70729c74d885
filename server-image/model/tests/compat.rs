//! Models that earlier versions of this crate wrote stay readable and keep their scores: every
//! committed `data/model-vN.safetensors` is opened and its probes are recomputed. A file of a
//! released version is never written again.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests may fail as tests do

mod common;

use std::path::Path;

use vitrine_model::{Algorithm, Model, TextSettings, artifact};

fn data() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"))
}

fn today() -> Model {
    let settings = TextSettings { ngram_range: (1, 2), max_features: Some(60), ..TextSettings::default() };
    common::train(Algorithm::LinearSvm { c: 1.0 }, &settings, 1).1
}

#[test]
fn every_released_format_is_read_and_scores_as_it_did() {
    for version in artifact::SUPPORTED {
        let path = data().join(format!("model-v{version}.safetensors"));
        let model = Model::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(model.info().format_version, version);
        assert_eq!(model.probes(), 16);
        model.verify_probes().unwrap();
        let prediction = model.predict_one(&[Some("Pompe et filtre pour piscine"), None]);
        assert_eq!(model.info().classes[prediction.class()].label, "10");
    }
}

/// The format cannot change by accident: what is written today is the committed file of the
/// current version. Where the change is meant, raise `FORMAT_VERSION` and make the new file with
/// `cargo test -p vitrine-model --test compat -- --ignored`.
#[test]
fn the_current_format_is_the_committed_one() {
    let path = data().join(format!("model-v{}.safetensors", artifact::FORMAT_VERSION));
    assert!(
        today().bytes() == std::fs::read(path).unwrap(),
        "equal parts no longer give the committed bytes"
    );
}

#[test]
#[ignore = "writes the file of a new format version; refuses to overwrite one"]
fn write_the_file_of_a_new_version() {
    let path = data().join(format!("model-v{}.safetensors", artifact::FORMAT_VERSION));
    assert!(!path.exists(), "{} was released", path.display());
    today().write(&path).unwrap();
}
