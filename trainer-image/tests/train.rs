#![allow(clippy::unwrap_used, clippy::panic, missing_docs, dead_code)]
//! Snapshots to models.

mod support;

use std::fs;

use support::{Shop, challenge, products, search, single};
use vitrine_contract::exit;
use vitrine_contract::job::{Candidate, CharFeatures, Split};
use vitrine_model::Model;
use vitrine_trainer::ingest::SNAPSHOT;
use vitrine_trainer::report::TrainingReport;

fn shop(rows: usize) -> Shop {
    let (x, y) = products(rows);
    let shop = Shop::new(&[("X.csv", &x), ("Y.csv", &y)]);
    shop.ingest(&challenge()).unwrap();
    shop
}

fn report(shop: &Shop) -> TrainingReport {
    serde_json::from_slice(&fs::read(shop.out("report.json")).unwrap()).unwrap()
}

#[test]
fn a_model_is_chosen_judged_and_answers_as_the_server_will() {
    let shop = shop(400);
    let trained = shop.train(&search(), 2).unwrap();
    assert_eq!((trained.trials.total, trained.trials.succeeded, trained.trials.running), (6, 6, 0));
    assert!(trained.best.mean > 0.9, "{}", trained.best.mean);
    let splits: Vec<_> = trained.metrics.iter().map(|m| (m.split.as_str(), m.values.len())).collect();
    assert_eq!(splits, [("test", 5), ("validation", 5)]);
    assert!(
        trained.metrics.iter().all(|m| m.rows > 10 && m.values["F1Weighted"] > 0.85),
        "{:?}",
        trained.metrics
    );
    let model = Model::open(&shop.out("model.safetensors")).unwrap();
    model.verify_probes().unwrap();
    let labels: Vec<_> = model.info().classes.iter().map(|c| c.label.as_str()).collect();
    assert_eq!(labels, ["10", "60", "2583"]);
    assert_eq!(model.info().text_columns, ["designation", "description"]);
    let prediction = model.predict_one(&[Some("Pompe à filtre pour piscine"), None]);
    assert_eq!(labels[prediction.class()], "2583");
    assert!((prediction.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-4);
}

#[test]
fn the_report_tells_every_trial_and_the_best_is_the_first_of_the_highest() {
    let shop = shop(200);
    let trained = shop.train(&search(), 2).unwrap();
    let report = report(&shop);
    assert_eq!(report.trials.len(), 6);
    for trial in &report.trials {
        assert_eq!(trial.folds.len(), 3);
        let mean = trial.folds.iter().sum::<f64>() / 3.0;
        assert!((mean - trial.mean).abs() < 2e-6, "{trial:?}");
    }
    let highest = report.trials.iter().map(|t| t.mean).fold(0.0, f64::max);
    let first = report.trials.iter().find(|t| t.mean >= highest).unwrap();
    assert_eq!((report.best.trial as usize, &report.best.parameters), (first.trial, &first.parameters));
    assert_eq!(report.best, trained.best);
    assert_eq!(report.model, trained.model);
    let confused: u64 = report.parts["test"].metrics.confusion.iter().flatten().sum();
    assert_eq!(confused as usize, report.rows["test"]);
    assert!(report.cost.cpu_seconds > 0.0 && report.cost.peak_memory_bytes > 1 << 20);
}

#[test]
fn the_model_is_the_same_for_any_number_of_threads() {
    let shop = shop(150);
    let digests: Vec<_> = [1, 2, 5].map(|threads| shop.train(&search(), threads).unwrap().model).to_vec();
    assert!(digests.iter().all(|blob| *blob == digests[0]), "{digests:?}");
    let mut other = search();
    other.dataset_digest = "sha256:other".into();
    assert_ne!(shop.train(&other, 1).unwrap().model.digest, digests[0].digest);
}

#[test]
fn stems_character_ngrams_and_naive_bayes_are_tried_and_told() {
    let shop = shop(150);
    let mut task = search();
    task.features.truncate(1);
    task.features[0].stemming = Some("French".into());
    task.features[0].chars = Some(CharFeatures {
        ngram_min: 2,
        ngram_max: 4,
        max_features: 2000,
        min_df: 1,
        max_df: 1.0,
        weight: 0.5,
    });
    task.candidates = vec![Candidate::ComplementNaiveBayes { alpha: vec![0.3] }, task.candidates[0].clone()];
    let models: Vec<_> = [1, 3].map(|threads| shop.train(&task, threads).unwrap().model).to_vec();
    assert_eq!(models[0], models[1]);
    let trials = report(&shop).trials;
    assert_eq!(
        trials.iter().map(|t| t.candidate.as_str()).collect::<Vec<_>>(),
        ["complementNaiveBayes", "linearSvm", "linearSvm"]
    );
    assert!(trials.iter().all(|trial| trial.mean > 0.8), "{trials:?}");
    let said = &trials[0].parameters;
    for part in [
        "alpha=0.3",
        "stemming=French",
        "char 2-4, charWeight=0.5, charMinDf=1, charMaxDf=1, charMaxFeatures=2000",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
    let model = Model::open(&shop.out("model.safetensors")).unwrap();
    let info = model.info();
    assert!(info.character_terms > 100 && info.character_terms < model.features());
    let labels: Vec<_> = info.classes.iter().map(|c| c.label.as_str()).collect();
    // no word of it was ever seen
    let prediction = model.predict_one(&[Some("piscinette filtrage"), None]);
    assert_eq!(labels[prediction.class()], "2583");
}

#[test]
fn labels_of_the_held_out_parts_change_nothing_but_their_metrics() {
    let (x, y) = products(150);
    let shop = Shop::new(&[("X.csv", &x), ("Y.csv", &y)]);
    shop.ingest_to(&challenge(), "fixed", None).unwrap();
    let fixed = shop.out("fixed").join(SNAPSHOT);
    let mut task = challenge();
    task.split = Split { train: 1.0, validation: 0.0, test: 0.0, fixed_test: Some("x".into()), ..task.split };
    let train = |labels: &str| {
        shop.write("Y.csv", &y);
        let (x, _) = products(300);
        // The first 150 rows are the fixed test set, whose labels are replaced.
        shop.write("X.csv", x.replace(" numéro ", " autre numéro "));
        shop.write(
            "Y.csv",
            (0..300).fold(",prdtypecode\n".to_owned(), |t, row| {
                format!("{t}{row},{}\n", [10, 2583, 60][row % 3])
            }),
        );
        let test = Shop::new(&[("X.csv", &products(150).0), ("Y.csv", labels)]);
        test.ingest(&challenge()).unwrap();
        fs::copy(test.out("out").join(SNAPSHOT), &fixed).unwrap();
        shop.ingest_to(&task, "out", Some(&fixed)).unwrap();
        shop.train(&search(), 2).unwrap()
    };
    let honest = train(&y);
    let swapped = train(&y.replace(",60\n", ",10\n"));
    assert_eq!(honest.model, swapped.model);
    assert!(honest.metrics[0].values["Accuracy"] > swapped.metrics[0].values["Accuracy"] + 0.2);
    let unseen = train(&y.replace(",60\n", ",777\n"));
    assert_eq!(honest.model, unseen.model);
    assert!(unseen.metrics[0].values["Accuracy"] < 0.7, "an unseen label counts as wrong");
    assert_eq!(report(&shop).parts["test"].unseen_labels, ["777"]);
    assert!(report(&shop).warnings.iter().any(|w| w.contains("777")));
}

#[test]
fn data_that_cannot_be_learned_from_are_final_data_errors() {
    let lines = |label: &dyn Fn(usize) -> String| {
        (0..40)
            .fold("text,label\n".to_owned(), |t, row| format!("{t}mot{} truc{row},{}\n", row % 5, label(row)))
    };
    let mut unlabelled = single();
    unlabelled.label = None;
    let mut same = single();
    same.split.group_by = "label".into();
    same.split.train = 1.0;
    (same.split.validation, same.split.test) = (0.0, 0.0);
    let cases = [
        (single(), lines(&|_| "a".into()), "label \"a\""),
        (unlabelled, lines(&|_| "a".into()), "schema.label"),
        (same, lines(&|row| format!("c{}", row % 2)), "2 groups"),
    ];
    for (task, table, part) in cases {
        let shop = Shop::new(&[("X.csv", &table)]);
        shop.ingest(&task).unwrap();
        let error = shop.train(&search(), 1).unwrap_err();
        assert_eq!((error.reason(), error.exit_code()), ("DataCorrupt", exit::DATA), "{error}");
        assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
    }
}

#[test]
fn a_class_with_fewer_groups_than_folds_is_allowed_and_told() {
    let (x, y) = products(150);
    let x = format!("{x}150,unique objet rare,,1,1\n");
    let y = format!("{y}150,99\n");
    let shop = Shop::new(&[("X.csv", &x), ("Y.csv", &y)]);
    let mut task = challenge();
    (task.split.train, task.split.validation, task.split.test) = (1.0, 0.0, 0.0);
    shop.ingest(&task).unwrap();
    let trained = shop.train(&search(), 2).unwrap();
    assert!(trained.metrics.is_empty(), "there is no part to judge on");
    let warnings = report(&shop).warnings;
    assert!(
        warnings.iter().any(|w| w.contains("\"99\"") && w.contains("1 train rows in 1 groups")),
        "{warnings:?}"
    );
}

#[test]
fn a_trial_that_fails_leaves_the_others() {
    let shop = shop(150);
    let mut task = search();
    task.features[0].min_df = 10_000;
    let trained = shop.train(&task, 2).unwrap();
    assert_eq!((trained.trials.failed, trained.trials.succeeded), (3, 3));
    assert!(trained.best.trial > 3);
    assert!(report(&shop).trials[0].failure.as_ref().unwrap().contains("minDf"));
    task.features.truncate(1);
    let error = shop.train(&task, 2).unwrap_err();
    assert_eq!((error.reason(), error.exit_code()), ("InvalidHyperparameter", exit::CONFIG), "{error}");
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let shop = shop(30);
    let refuse = |part: &str, change: &dyn Fn(&mut vitrine_contract::job::Train)| {
        let mut task = search();
        change(&mut task);
        let error = shop.train(&task, 1).unwrap_err();
        assert_eq!(error.exit_code(), exit::CONFIG, "{error}");
        assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
    };
    refuse("c -1", &|task| task.candidates = vec![Candidate::LinearSvm { c: vec![-1.0] }]);
    refuse("candidates", &|task| task.candidates.clear());
    refuse("candidates", &|task| task.candidates = vec![Candidate::LinearSvm { c: vec![] }]);
    refuse("folds 1", &|task| task.folds = 1);
    refuse("objective \"Loss\"", &|task| task.objective = "Loss".into());
    refuse("weighting \"Hash\"", &|task| task.features[0].weighting = "Hash".into());
    refuse("stopWords \"English\"", &|task| task.features[0].stop_words = "English".into());
    refuse("ngramRange", &|task| task.features[0].ngram_max = 300);
    refuse("maxDf", &|task| task.features[0].max_df = 1.5);
    refuse("maxFeatures", &|task| task.features[0].max_features = 0);
    refuse("alpha 0", &|task| task.candidates = vec![Candidate::ComplementNaiveBayes { alpha: vec![0.0] }]);
    refuse("stemming \"Klingon\"", &|task| task.features[0].stemming = Some("Klingon".into()));
    let chars = |change: &dyn Fn(&mut CharFeatures)| {
        let mut chars =
            CharFeatures { ngram_min: 2, ngram_max: 4, max_features: 9, min_df: 1, max_df: 1.0, weight: 1.0 };
        change(&mut chars);
        Some(chars)
    };
    refuse("char.ngramRange", &|task| task.features[0].chars = chars(&|chars| chars.ngram_max = 99));
    refuse("char.weight", &|task| task.features[0].chars = chars(&|chars| chars.weight = -1.0));
    refuse("char.maxFeatures", &|task| task.features[0].chars = chars(&|chars| chars.max_features = 0));
}

#[test]
fn a_file_that_is_no_snapshot_is_told() {
    let shop = shop(30);
    fs::write(shop.out("out").join(SNAPSHOT), b"PAR1 not really PAR1").unwrap();
    let error = shop.train(&search(), 1).unwrap_err();
    assert_eq!(error.exit_code(), exit::DATA, "{error}");
}
