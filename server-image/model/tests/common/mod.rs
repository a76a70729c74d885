//! A small catalogue for tests, and models of it.
#![allow(dead_code)] // each test file uses its part

pub mod broken;

use serde_json::Value;
use vitrine_model::head::Problem;
use vitrine_model::{
    Algorithm, Calibration, Class, Corpus, Fitted, Model, ModelParts, StopWords, TextSettings, probe_rows,
};

/// `data/parity.json`; made by `data/parity.py`.
pub fn parity() -> Value {
    serde_json::from_str(include_str!("../data/parity.json")).unwrap()
}

pub fn strings(value: &Value) -> Vec<String> {
    serde_json::from_value(value.clone()).unwrap()
}

pub fn numbers<T: serde::de::DeserializeOwned>(value: &Value) -> Vec<T> {
    serde_json::from_value(value.clone()).unwrap()
}

pub fn plain() -> TextSettings {
    TextSettings {
        ngram_range: (1, 1),
        stop_words: StopWords::None,
        sublinear_tf: false,
        max_features: None,
        min_token_chars: 2,
        ..TextSettings::default()
    }
}

pub struct Catalogue {
    pub documents: Vec<String>,
    pub labels: Vec<u32>,
    pub train: usize,
}

pub fn catalogue() -> Catalogue {
    let data = parity();
    Catalogue {
        documents: strings(&data["documents"]),
        labels: numbers(&data["labels"]),
        train: data["train"].as_u64().unwrap() as usize,
    }
}

pub fn corpus(documents: &[String], settings: &TextSettings) -> Corpus {
    let mut corpus = Corpus::new(settings).unwrap();
    for document in documents {
        corpus.push(&[Some(document), None]).unwrap();
    }
    corpus
}

/// Trained on the train rows; calibrated on the others.
pub fn train(algorithm: Algorithm, settings: &TextSettings, threads: usize) -> (Fitted, Model) {
    let data = catalogue();
    let corpus = corpus(&data.documents, settings);
    let rows: Vec<u32> = (0..data.train as u32).collect();
    let rest: Vec<u32> = (data.train as u32..data.documents.len() as u32).collect();
    let (features, x) = corpus.fit_transform(&rows).unwrap();
    let problem = Problem { x: &x, y: &data.labels[..data.train], classes: 3 };
    let fitted = algorithm.fit(problem, 42, threads).unwrap();
    let scores = fitted.head.scores(&corpus.transform(&features, &rest), threads);
    let calibration = Calibration::fit(&scores, &data.labels[data.train..], 3).unwrap();
    let probes = probe_rows(&data.labels[..data.train], 16, 42);
    let model = Model::build(ModelParts {
        algorithm,
        classes: ["10", "20", "30"].map(|l| Class { label: l.into(), name: format!("rayon {l}") }).to_vec(),
        text_columns: vec!["designation".into(), "description".into()],
        text: settings.clone(),
        vocabulary: corpus.vocabulary(&features),
        head: fitted.head.clone(),
        calibration,
        dataset_digest: "0123456789abcdef".repeat(4),
        seed: 42,
        probes: probes.iter().map(|&r| vec![Some(data.documents[r as usize].clone()), None]).collect(),
    });
    (fitted, model.unwrap())
}
