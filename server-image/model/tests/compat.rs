//! Models that earlier versions of this crate wrote stay readable and keep their scores: every
//! committed `data/model-vN*.safetensors` is opened and its probes are recomputed. A file of a
//! released version is never written again.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests may fail as tests do

mod common;

use std::path::{Path, PathBuf};

use vitrine_model::{Algorithm, CharSettings, Model, Stemming, TextSettings, artifact};

fn data() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"))
}

/// What a file holds, by the end of its name.
const KINDS: [(&str, Algorithm); 3] = [
    ("", Algorithm::LinearSvm { c: 1.0 }),
    ("-forest", Algorithm::RandomForest { trees: 3, max_depth: 6 }),
    ("-boosted", Algorithm::GradientBoosting { rounds: 8, max_depth: 3, learning_rate: 0.5 }),
];

fn path(version: u32, kind: &str) -> PathBuf {
    data().join(format!("model-v{version}{kind}.safetensors"))
}

fn today(algorithm: Algorithm) -> Model {
    let chars = CharSettings { ngram_range: (2, 4), max_features: Some(60), ..CharSettings::default() };
    let settings = TextSettings {
        ngram_range: (1, 2),
        max_features: Some(60),
        stemming: Stemming::French,
        chars: Some(chars),
        ..TextSettings::default()
    };
    common::train(algorithm, &settings, 1).1
}

#[test]
fn every_released_format_is_read_and_scores_as_it_did() {
    for version in artifact::SUPPORTED {
        // the first version knew linear models only
        for (kind, _) in &KINDS[..if version == 1 { 1 } else { KINDS.len() }] {
            let path = path(version, kind);
            let model = Model::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert_eq!(model.info().format_version, version);
            assert_eq!(model.probes(), 16);
            model.verify_probes().unwrap();
            // a few shallow trees do not know these words; their probes say what they score
            if *kind != "-boosted" {
                let prediction = model.predict_one(&[Some("Pompe et filtre pour piscine"), None]);
                assert_eq!(model.info().classes[prediction.class()].label, "10", "{kind}");
            }
        }
    }
}

/// The format cannot change by accident: what is written today is the committed file of the
/// current version. Where the change is meant, raise `FORMAT_VERSION` and make the new files with
/// `cargo test -p vitrine-model --test compat -- --ignored`.
#[test]
fn the_current_format_is_the_committed_one() {
    for (kind, algorithm) in KINDS {
        assert!(
            today(algorithm).bytes() == std::fs::read(path(artifact::FORMAT_VERSION, kind)).unwrap(),
            "equal parts no longer give the committed bytes of {algorithm:?}"
        );
    }
}

#[test]
#[ignore = "writes the files of a new format version; refuses to overwrite one"]
fn write_the_files_of_a_new_version() {
    for (kind, algorithm) in KINDS {
        let path = path(artifact::FORMAT_VERSION, kind);
        assert!(!path.exists(), "{} was released", path.display());
        today(algorithm).write(&path).unwrap();
    }
}
