//! The same numbers as scikit-learn on a small problem (`data/parity.json`, made by `data/parity.py`).
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests may fail as tests do

mod common;

use common::{catalogue, corpus, numbers, parity, plain, strings};
use serde_json::Value;
use vitrine_model::head::Problem;
use vitrine_model::{CharSettings, Csr, Report, TextSettings, Weighting, logreg, naive_bayes, svm};

fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance
}

#[test]
fn tfidf_has_the_terms_and_values_of_the_vectorizers() {
    let (data, expected) = (catalogue(), parity());
    for case in expected["tfidf"].as_array().unwrap() {
        let range: Vec<u8> = numbers(&case["ngramRange"]);
        let settings = TextSettings {
            ngram_range: (range[0], range[1]),
            sublinear_tf: case["sublinearTf"].as_bool().unwrap(),
            min_df: case["minDf"].as_u64().unwrap() as u32,
            max_df: case["maxDf"].as_f64().unwrap(),
            weighting: if case["weighting"] == "Count" { Weighting::Count } else { Weighting::TfIdf },
            ..plain()
        };
        let corpus = corpus(&data.documents, &settings);
        let features = corpus.fit(&(0..data.train as u32).collect::<Vec<_>>()).unwrap();
        let vocabulary = corpus.vocabulary(&features);
        assert_eq!(vocabulary.terms().collect::<Vec<_>>(), strings(&case["terms"]), "{}", case["name"]);
        let rows: Vec<Vec<(u32, f64)>> = numbers(&case["rows"]);
        let matrix = corpus.transform(&features, &(0..6).map(|i| data.train as u32 + i).collect::<Vec<_>>());
        let mut values = 0;
        for (i, row) in rows.iter().enumerate() {
            let (indices, got) = matrix.row(i);
            assert_eq!(indices, row.iter().map(|&(c, _)| c).collect::<Vec<_>>(), "{} row {i}", case["name"]);
            for (&got, &(column, value)) in got.iter().zip(row) {
                assert!(
                    close(f64::from(got), value, 2e-7),
                    "{} row {i} column {column}: {got}",
                    case["name"]
                );
            }
            values += row.len();
        }
        assert!(values > 5, "{} compares hardly anything", case["name"]);
    }
}

/// Words and character n-grams side by side: scikit-learn's `FeatureUnion` of two vectorizers.
#[test]
fn character_ngrams_have_the_terms_and_values_of_char_wb() {
    let expected = &parity()["characters"];
    let (documents, train) = (strings(&expected["documents"]), catalogue().train);
    let cases = expected["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let range = |of: &str, default: (u8, u8)| match &case[of]["ngram_range"] {
            Value::Null => default,
            range => (range[0].as_u64().unwrap() as u8, range[1].as_u64().unwrap() as u8),
        };
        let number = |of: &str, name: &str| case[of][name].as_u64().map(|n| n as u32);
        let chars = CharSettings {
            ngram_range: range("chars", (1, 1)),
            max_features: number("chars", "max_features"),
            min_df: number("chars", "min_df").unwrap_or(1),
            max_df: case["chars"]["max_df"].as_f64().unwrap_or(1.0),
            weight: case["weight"].as_f64().unwrap(),
        };
        let settings = TextSettings {
            ngram_range: range("words", (1, 1)),
            min_df: number("words", "min_df").unwrap_or(1),
            weighting: if case["weighting"] == "Count" { Weighting::Count } else { Weighting::TfIdf },
            chars: Some(chars),
            ..plain()
        };
        let corpus = corpus(&documents, &settings);
        let features = corpus.fit(&(0..train as u32).collect::<Vec<_>>()).unwrap();
        let (vocabulary, terms) = (corpus.vocabulary(&features), strings(&case["terms"]));
        assert_eq!(vocabulary.terms().collect::<Vec<_>>(), terms, "{}", case["name"]);
        let rows: Vec<Vec<(u32, f64)>> = numbers(&case["rows"]);
        let matrix = corpus.transform(&features, &(0..4).map(|i| train as u32 + i).collect::<Vec<_>>());
        for (i, row) in rows.iter().enumerate() {
            let (indices, got) = matrix.row(i);
            assert_eq!(indices, row.iter().map(|&(c, _)| c).collect::<Vec<_>>(), "{} row {i}", case["name"]);
            assert!(row.len() > 20, "{} compares hardly anything", case["name"]);
            for (&got, &(column, value)) in got.iter().zip(row) {
                let name = &case["name"];
                assert!(close(f64::from(got), value, 2e-7), "{name} row {i} column {column}: {got} {value}");
            }
        }
    }
}

struct Small {
    x: Csr,
    held_out: Csr,
    y: Vec<u32>,
}

fn small() -> Small {
    weighted(Weighting::TfIdf)
}

fn weighted(weighting: Weighting) -> Small {
    let data = catalogue();
    let settings = TextSettings { ngram_range: (1, 2), weighting, ..plain() };
    let corpus = corpus(&data.documents, &settings);
    let (features, x) = corpus.fit_transform(&(0..data.train as u32).collect::<Vec<_>>()).unwrap();
    let rest: Vec<u32> = (data.train as u32..data.documents.len() as u32).collect();
    Small { x, held_out: corpus.transform(&features, &rest), y: data.labels[..data.train].to_vec() }
}

#[test]
fn the_svm_reaches_the_objective_and_scores_of_linear_svc() {
    let Small { x, held_out, y } = small();
    for case in parity()["svm"].as_array().unwrap() {
        let c = case["c"].as_f64().unwrap();
        let fit = |eps| {
            let settings = svm::Settings { c, eps, max_passes: 100_000, seed: 3 };
            svm::fit(Problem { x: &x, y: &y, classes: 3 }, &settings, 2).unwrap()
        };
        let (loose, tight) = (fit(svm::Settings::default().eps), fit(1e-7));
        assert!(loose.converged && tight.converged);
        for (class, expected) in numbers::<f64>(&case["objective"]).into_iter().enumerate() {
            let of = |head: &vitrine_model::LinearHead| {
                let column = |k: &f32| f64::from(*k) * f64::from(*k);
                let square: f64 = head.weights.iter().skip(class).step_by(3).map(column).sum();
                let scores = head.scores(&x, 1);
                let hinge = |(row, &label): (usize, &u32)| {
                    let sign = if label as usize == class { 1.0 } else { -1.0 };
                    (1.0 - sign * f64::from(scores[row * 3 + class])).max(0.0).powi(2)
                };
                let bias = f64::from(head.intercepts[class]);
                0.5 * (square + bias * bias) + c * y.iter().enumerate().map(hinge).sum::<f64>()
            };
            // An optimum cannot be beaten by more than rounding, nor missed.
            assert!(
                close(of(&tight.head) / expected, 1.0, 1e-5),
                "c {c} class {class}: {} {expected}",
                of(&tight.head)
            );
            assert!(
                close(of(&loose.head) / expected, 1.0, 1e-4),
                "c {c} class {class}: {} {expected}",
                of(&loose.head)
            );
        }
        let scores: Vec<Vec<f64>> = numbers(&case["scores"]);
        for (got, expected) in tight.head.scores(&held_out, 1).iter().zip(scores.iter().flatten()) {
            assert!(close(f64::from(*got), *expected, 1e-4), "c {c}: {got} {expected}");
        }
    }
}

#[test]
fn naive_bayes_has_the_scores_of_complement_nb() {
    let cases = parity();
    let cases = cases["naiveBayes"].as_array().unwrap();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let weighting = if case["weighting"] == "Count" { Weighting::Count } else { Weighting::TfIdf };
        let Small { x, held_out, y } = weighted(weighting);
        let alpha = case["alpha"].as_f64().unwrap();
        let fitted = naive_bayes::fit(Problem { x: &x, y: &y, classes: 3 }, alpha).unwrap();
        let scores: Vec<Vec<f64>> = numbers(&case["scores"]);
        assert_eq!(scores.len(), held_out.rows());
        for (got, expected) in fitted.head.scores(&held_out, 1).chunks_exact(3).zip(&scores) {
            // but for what all classes of a row share
            let shared = expected.iter().sum::<f64>() / 3.0;
            for (got, expected) in got.iter().zip(expected) {
                let (got, expected) = (f64::from(*got), expected - shared);
                assert!(close(got, expected, 2e-5), "{weighting:?} alpha {alpha}: {got} {expected}");
            }
        }
    }
}

#[test]
fn logistic_regression_reaches_the_objective_and_probabilities() {
    let Small { x, held_out, y } = small();
    for case in parity()["logreg"].as_array().unwrap() {
        let c = case["c"].as_f64().unwrap();
        let fit = |tolerance| {
            let settings = logreg::Settings { c, tolerance, max_iterations: 5000 };
            logreg::fit(Problem { x: &x, y: &y, classes: 3 }, &settings, 2).unwrap()
        };
        let softmax = |scores: &[f32]| -> Vec<f64> {
            let e: Vec<f64> = scores.iter().map(|&s| f64::from(s).exp()).collect();
            let sum: f64 = e.iter().sum();
            e.iter().map(|e| e / sum).collect()
        };
        let objective = |head: &vitrine_model::LinearHead| {
            let scores = head.scores(&x, 1);
            let losses = scores.chunks(3).zip(&y).map(|(row, &label)| -softmax(row)[label as usize].ln());
            let square: f64 = head.weights.iter().map(|&w| f64::from(w) * f64::from(w)).sum();
            losses.sum::<f64>() / y.len() as f64 + square / (2.0 * c * y.len() as f64)
        };
        let (loose, tight) = (fit(logreg::Settings::default().tolerance), fit(2e-6));
        assert!(loose.converged && tight.converged, "c {c}");
        let expected = case["objective"].as_f64().unwrap();
        assert!(close(objective(&tight.head) / expected, 1.0, 1e-6), "c {c}: {}", objective(&tight.head));
        assert!(close(objective(&loose.head) / expected, 1.0, 1e-3), "c {c}: {}", objective(&loose.head));
        let probabilities: Vec<Vec<f64>> = numbers(&case["probabilities"]);
        for (row, expected) in tight.head.scores(&held_out, 1).chunks(3).zip(&probabilities) {
            for (got, expected) in softmax(row).iter().zip(expected) {
                assert!(close(*got, *expected, 5e-4), "c {c}: {got} {expected}");
            }
        }
    }
}

#[test]
fn metrics_are_those_of_scikit_learn() {
    let expected = &parity()["metrics"];
    let truth: Vec<u32> = numbers(&expected["truth"]);
    let probabilities: Vec<f32> = numbers::<Vec<f32>>(&expected["probabilities"]).concat();
    let report = Report::new(&truth, &probabilities, 4);
    for (name, got, tolerance) in [
        ("accuracy", report.accuracy, 1e-12),
        ("f1Weighted", report.f1_weighted, 1e-12),
        ("f1Macro", report.f1_macro, 1e-12),
        ("logLoss", report.log_loss, 1e-6),
    ] {
        assert!(close(got, expected[name].as_f64().unwrap(), tolerance), "{name}: {got} {}", expected[name]);
    }
    for (class, score) in report.per_class.iter().enumerate() {
        for (name, got) in [
            ("precision", score.precision),
            ("recall", score.recall),
            ("f1", score.f1),
            ("support", score.support as f64),
        ] {
            assert!(close(got, expected[name][class].as_f64().unwrap(), 1e-12), "{name} of {class}: {got}");
        }
    }
}
