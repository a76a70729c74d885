//! Training and serving compute the same bits, whatever the number of threads or rows.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests may fail as tests do

mod common;

use common::{catalogue, corpus, plain, train};
use proptest::prelude::*;
use vitrine_model::{
    Algorithm, CharSettings, Model, Row, Scratch, Stemming, TextSettings, Weighting, sha256_file,
};

const ALGORITHMS: [Algorithm; 5] = [
    Algorithm::LinearSvm { c: 1.0 },
    Algorithm::LogisticRegression { c: 10.0 },
    Algorithm::ComplementNaiveBayes { alpha: 0.3 },
    Algorithm::RandomForest { trees: 12, max_depth: 8 },
    Algorithm::GradientBoosting { rounds: 5, max_depth: 3, learning_rate: 0.3 },
];

fn settings() -> TextSettings {
    TextSettings { ngram_range: (1, 2), min_df: 1, ..TextSettings::default() }
}

/// As [`settings`], with everything that the words alone do not need.
fn with_characters() -> TextSettings {
    let chars = CharSettings { ngram_range: (2, 4), weight: 0.5, ..CharSettings::default() };
    TextSettings { stemming: Stemming::French, chars: Some(chars), ..settings() }
}

fn bits(model: &Model, rows: &[Row<'_>]) -> Vec<u32> {
    let all = model.predict(rows).into_iter().flat_map(|p| [p.scores, p.probabilities].concat());
    all.map(f32::to_bits).collect()
}

#[test]
fn a_model_on_disk_gives_the_bits_of_the_model_in_memory() {
    let data = catalogue();
    let settings = [settings(), with_characters()];
    for (algorithm, settings) in ALGORITHMS.into_iter().flat_map(|a| settings.iter().map(move |s| (a, s))) {
        let (fitted, model) = train(algorithm, settings, 2);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let digest = model.write(&path).unwrap();
        assert_eq!(digest, sha256_file(&path).unwrap());
        assert_eq!(digest, model.digest());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file was left");
        let opened = Model::open(&path).unwrap();
        assert_eq!(opened.info(), model.info());
        opened.verify_probes().unwrap();
        assert_eq!(opened.probes(), 16);
        let columns: Vec<[Option<&str>; 2]> =
            data.documents.iter().map(|d| [Some(d.as_str()), None]).collect();
        let rows: Vec<Row<'_>> = columns.iter().map(<[_; 2]>::as_slice).collect();
        assert_eq!(bits(&opened, &rows), bits(&model, &rows));
        // and the scores are those of the trained head on the trainer's matrix
        let corpus = corpus(&data.documents, settings);
        let features = corpus.fit(&(0..data.train as u32).collect::<Vec<_>>()).unwrap();
        let all: Vec<u32> = (0..data.documents.len() as u32).collect();
        let direct = fitted.head.scores(&corpus.transform(&features, &all), 3);
        let served: Vec<f32> = opened.predict(&rows).into_iter().flat_map(|p| p.scores).collect();
        assert_eq!(direct, served);
        assert_eq!(opened.features(), features.len());
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_byte() {
    for algorithm in ALGORITHMS {
        let (_, one) = train(algorithm, &settings(), 1);
        for threads in [2, 3] {
            assert!(
                train(algorithm, &settings(), threads).1.bytes() == one.bytes(),
                "{algorithm:?} on {threads}"
            );
        }
    }
}

#[test]
fn a_large_problem_is_solved_alike_by_any_number_of_threads() {
    // More rows and features than one piece of parallel work holds.
    let documents: Vec<String> = (0..1500u32)
        .map(|i| {
            let words: Vec<_> =
                (0..12).map(|j| format!("mot{}", (i * 31 + j * j * 17 + (i % 4) * j) % 2500)).collect();
            words.join(" ")
        })
        .collect();
    let labels: Vec<u32> = (0..1500).map(|i| i % 4).collect();
    let corpus = corpus(&documents, &settings());
    let (_, x) = corpus.fit_transform(&(0..1500).collect::<Vec<_>>()).unwrap();
    assert!(x.columns > 5000);
    for algorithm in ALGORITHMS {
        let problem = vitrine_model::head::Problem { x: &x, y: &labels, classes: 4 };
        let one = algorithm.fit(problem, 1, 1).unwrap();
        for threads in [2, 3, 7] {
            assert!(algorithm.fit(problem, 1, threads).unwrap() == one, "{algorithm:?} on {threads}");
        }
        assert!(one.converged);
    }
}

#[test]
fn the_same_run_twice_gives_the_same_bytes() {
    let (one, model) = train(ALGORITHMS[0], &settings(), 1);
    let (two, again) = train(ALGORITHMS[0], &settings(), 1);
    assert!(one == two && model.bytes() == again.bytes());
}

#[test]
fn a_flipped_weight_of_a_probe_is_noticed() {
    let (_, model) = train(ALGORITHMS[0], &settings(), 1);
    let data = catalogue();
    let probe = vitrine_model::probe_rows(&data.labels[..data.train], 16, 42)[0];
    let feature = model.features_of(&[Some(&data.documents[probe as usize])])[0].0;
    let tensors = safetensors::SafeTensors::deserialize(model.bytes()).unwrap();
    let weights =
        tensors.tensor("head.weights").unwrap().data().as_ptr() as usize - model.bytes().as_ptr() as usize;
    // the byte with sign and exponent of the first class's weight
    let at = weights + feature as usize * 3 * 4 + 3;
    let mut bytes = model.bytes().to_vec();
    Model::from_bytes(&bytes).unwrap().verify_probes().unwrap();
    bytes[at] ^= 0x80;
    let mismatch = Model::from_bytes(&bytes).unwrap().verify_probes().unwrap_err();
    assert_eq!((mismatch.quantity, mismatch.class), ("score", 0));
    assert!(mismatch.to_string().starts_with("probe "), "{mismatch}");
}

#[test]
fn predictions_are_ordered_and_sum_to_one() {
    let (_, model) = train(ALGORITHMS[1], &settings(), 1);
    let prediction = model.predict_one(&[Some("Table en chêne, <b>4 chaises</b>"), None]);
    let top = prediction.top_k(2);
    assert_eq!(top.len(), 2);
    assert_eq!(top[0].0, prediction.class());
    assert_eq!(top[0].0, 1, "furniture");
    assert!(top[0].1 > top[1].1);
    assert!((prediction.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    assert_eq!(prediction.top_k(99).len(), 3);
}

#[test]
fn counts_work_as_weights_too() {
    let counted = TextSettings { weighting: Weighting::Count, sublinear_tf: false, ..plain() };
    let (_, model) = train(ALGORITHMS[0], &counted, 1);
    let features = model.features_of(&[Some("piscine piscine chlore"), None]);
    let mut values: Vec<f32> = features.iter().map(|&(_, v)| v).collect();
    values.sort_by(f32::total_cmp);
    assert_eq!(values, [1.0, 2.0]);
}

proptest! {
    #[test]
    fn any_text_has_the_same_features_in_training_and_serving(
        texts in proptest::collection::vec(
            "([a-zéèœÉ&;<>'’ 0-9]|piscine|chaise |l'|<b>|&eacute;|\\PC){0,40}", 1..12)
    ) {
        let mut settings = settings();
        settings.ngram_range = (1, 3);
        let mut both = vitrine_model::Corpus::new(&settings).unwrap();
        for text in &texts {
            both.push(&[Some(text), None]).unwrap();
        }
        both.push(&[Some("toujours quelque chose"), None]).unwrap();
        let all: Vec<u32> = (0..both.len() as u32).collect();
        let (features, matrix) = both.fit_transform(&all).unwrap();
        let classes = 2;
        let head = vitrine_model::LinearHead {
            classes,
            features: features.len(),
            weights: (0..features.len() * classes).map(|i| (i % 7) as f32 - 3.0).collect(),
            intercepts: vec![0.5, -0.25],
        };
        let model = Model::build(vitrine_model::ModelParts {
            algorithm: ALGORITHMS[0],
            classes: ["a", "b"].map(|l| vitrine_model::Class { label: l.into(), name: l.into() }).to_vec(),
            text_columns: vec!["designation".into(), "description".into()],
            text: settings,
            vocabulary: both.vocabulary(&features),
            head: vitrine_model::Head::Linear(head),
            calibration: vitrine_model::Calibration::default(),
            dataset_digest: String::new(),
            seed: 0,
            probes: texts.iter().map(|t| vec![Some(t.clone()), None]).collect(),
        }).unwrap();
        model.verify_probes().unwrap();
        let mut scratch = Scratch::default();
        for (i, text) in texts.iter().enumerate() {
            let row: [Option<&str>; 2] = [Some(text), None];
            let (indices, values) = matrix.row(i);
            let expected: Vec<(u32, f32)> = indices.iter().copied().zip(values.iter().copied()).collect();
            prop_assert_eq!(model.features_of(&row), expected);
            // a buffer used before, a fresh one and a batch agree
            let used = model.predict_row(&row, &mut scratch);
            prop_assert_eq!(&used, &model.predict_one(&row));
            prop_assert_eq!(&used, &model.predict(&[&[None, None], &row])[1]);
        }
    }
}
