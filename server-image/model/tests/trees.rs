//! The same numbers as XGBoost and scikit-learn on a small problem (`data/trees.json`, made by
//! `data/trees.py`).
#![allow(clippy::unwrap_used)] // helpers of tests may fail as tests do

use serde_json::Value;
use vitrine_model::Csr;
use vitrine_model::head::Problem;
use vitrine_model::trees::{GradientBoosting, RandomForest, boost, forest};

struct Small {
    all: Csr,
    x: Csr,
    y: Vec<u32>,
    held_out: Csr,
    classes: usize,
    expected: Value,
}

fn numbers<T: serde::de::DeserializeOwned>(value: &Value) -> Vec<T> {
    serde_json::from_value(value.clone()).unwrap()
}

fn small() -> Small {
    let expected: Value = serde_json::from_str(include_str!("data/trees.json")).unwrap();
    let number = |name: &str| expected[name].as_u64().unwrap();
    let all = Csr {
        indptr: numbers(&expected["indptr"]),
        indices: numbers(&expected["indices"]),
        values: numbers(&expected["values"]),
        columns: number("columns") as usize,
    };
    let train = number("train") as u32;
    let mut y: Vec<u32> = numbers(&expected["labels"]);
    y.truncate(train as usize);
    let (x, held_out) = (
        all.select(&(0..train).collect::<Vec<_>>()),
        all.select(&(train..all.rows() as u32).collect::<Vec<_>>()),
    );
    Small { all, x, y, held_out, classes: number("classes") as usize, expected }
}

/// Greatest and mean difference.
fn apart(got: &[f64], expected: &[f64]) -> (f64, f64) {
    assert_eq!(got.len(), expected.len());
    let gaps = got.iter().zip(expected).map(|(got, expected)| (got - expected).abs());
    gaps.fold((0.0, 0.0), |(most, mean), gap| (gap.max(most), mean + gap / expected.len() as f64))
}

/// On the rows that it was trained on the same numbers. On others, not always: values beyond all those of
/// a node that parts rows with a feature from rows without are with the former here, where XGBoost puts a
/// threshold at twice the last value.
#[test]
fn boosting_gives_the_probabilities_of_xgboost() {
    let Small { all, x, y, classes, expected, .. } = small();
    let split = x.rows() * classes;
    let cases = expected["boosting"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let settings = GradientBoosting {
            rounds: case["rounds"].as_u64().unwrap() as u32,
            max_depth: case["maxDepth"].as_u64().unwrap() as u32,
            learning_rate: case["learningRate"].as_f64().unwrap(),
        };
        let expected: Vec<f64> = numbers::<Vec<f64>>(&case["probabilities"]).concat();
        let boosted = boost::fit(Problem { x: &x, y: &y, classes }, &settings, 2).unwrap();
        let mut probabilities = Vec::new();
        for row in boosted.scores(&all, 2).chunks_exact(classes) {
            let powers: Vec<f64> = row.iter().map(|&margin| f64::from(margin).exp()).collect();
            probabilities.extend(powers.iter().map(|power| power / powers.iter().sum::<f64>()));
        }
        let (most, mean) = apart(&probabilities[..split], &expected[..split]);
        println!("{settings:?}: {most:.2e} at most, {mean:.2e} in the mean of the train rows");
        assert!(most < 1e-3 && mean < 1e-5, "{settings:?}: {most} {mean}");
        let (most, mean) = apart(&probabilities[split..], &expected[split..]);
        println!("{settings:?}: {most:.2e} at most, {mean:.2e} in the mean of others");
        assert!(mean < 2e-3, "{settings:?}: {most} {mean}");
    }
}

#[test]
fn a_forest_gives_the_probabilities_of_scikit_learn_but_for_chance() {
    let Small { x, y, held_out, classes, expected, .. } = small();
    let cases = expected["forest"].as_array().unwrap();
    assert_eq!(cases.len(), 2);
    for case in cases {
        let settings = RandomForest {
            trees: case["trees"].as_u64().unwrap() as u32,
            max_depth: case["maxDepth"].as_u64().unwrap() as u32,
        };
        let forest = forest::fit(Problem { x: &x, y: &y, classes }, &settings, 7, 2).unwrap();
        let probabilities: Vec<f64> =
            forest.scores(&held_out, 2).iter().map(|&score| f64::from(score).exp()).collect();
        let (most, mean) = apart(&probabilities, &numbers::<Vec<f64>>(&case["probabilities"]).concat());
        println!("{settings:?}: {most:.2e} at most, {mean:.2e} in the mean");
        assert!(most < 0.05 && mean < 0.011, "{settings:?}: {most} {mean}");
    }
}
