//! Searches text settings and `c` on a catalogue in the challenge's layout by cross-validation on
//! the train rows, then scores the chosen one on the test rows: where the recommended defaults
//! come from.
//!
//! `grid DIR [SPEC]...`, a SPEC being words such as `svm c=0.5,1 min_df=2 max=100000 stop=none char=2,5`.

use std::path::Path;
use std::time::Instant;

use vitrine_model::head::{Problem, argmax};
use vitrine_model::{
    Algorithm, Calibration, CharSettings, Class, Corpus, Model, ModelParts, Report, Stemming, StopWords,
    TextSettings, Weighting, metrics, probe_rows, stratified_group_k_fold,
};

type Failure = Box<dyn std::error::Error>;
const SEED: u64 = 42;
const FOLDS: usize = 3;
const THREADS: usize = 2;

struct Data {
    rows: Vec<[String; 2]>,
    labels: Vec<u32>,
    names: Vec<String>,
    train: Vec<u32>,
    test: Vec<u32>,
}

fn read(path: &Path, columns: &[&str]) -> Result<Vec<Vec<String>>, Failure> {
    let mut reader = csv::Reader::from_path(path)?;
    let headers = reader.headers()?.clone();
    let places: Vec<usize> = columns.iter().filter_map(|c| headers.iter().position(|h| h == *c)).collect();
    let records = reader.records().map(|r| r.map(|r| places.iter().map(|&p| r[p].to_owned()).collect()));
    Ok(records.collect::<Result<_, _>>()?)
}

fn load(dir: &Path) -> Result<Data, Failure> {
    let mut data =
        Data { rows: Vec::new(), labels: Vec::new(), names: Vec::new(), train: Vec::new(), test: Vec::new() };
    let mut labels = Vec::new();
    for (x, y, test) in [
        ("X_train_update.csv", "Y_train_CVw08PX.csv", false),
        ("X_test_update.csv", "Y_test_secret.csv", true),
    ] {
        for row in read(&dir.join(x), &["designation", "description"])? {
            let number = data.rows.len() as u32;
            if test {
                data.test.push(number);
            } else {
                data.train.push(number);
            }
            data.rows.push([row[0].clone(), row[1].clone()]);
        }
        labels.extend(read(&dir.join(y), &["prdtypecode"])?.into_iter().map(|mut row| row.remove(0)));
    }
    data.names.clone_from(&labels);
    data.names.sort_unstable();
    data.names.dedup();
    data.labels = labels.iter().filter_map(|l| data.names.binary_search(l).ok()).map(|c| c as u32).collect();
    Ok(data)
}

struct Trial {
    text: TextSettings,
    algorithm: Algorithm,
    f1: f64,
    out_of_fold: Vec<f32>,
}

fn parse(spec: &str) -> (TextSettings, Vec<Algorithm>) {
    let mut text = TextSettings::default();
    let (mut svm, mut bayes) = (true, false);
    let mut cs = vec![1.0];
    for word in spec.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let number = || value.parse::<f64>().unwrap_or(1.0);
        match key {
            "svm" => svm = true,
            "logreg" => svm = false,
            "bayes" => bayes = true,
            "c" => cs = value.split(',').filter_map(|c| c.parse().ok()).collect(),
            "min_df" => text.min_df = number() as u32,
            "max_df" => text.max_df = number(),
            "max" => text.max_features = (value != "all").then(|| number() as u32),
            "n" => text.ngram_range.1 = number() as u8,
            "stop" => text.stop_words = if value == "none" { StopWords::None } else { StopWords::French },
            "accents" => text.strip_accents = value == "strip",
            "tf" => text.sublinear_tf = value == "sub",
            "chars" => text.min_token_chars = number() as u8,
            "stem" => {
                text.stemming = Stemming::ALL.into_iter().find(|s| s.name() == value).unwrap_or_default();
            }
            "char" => {
                let (low, high) = value.split_once(',').unwrap_or(("2", "5"));
                characters(&mut text).ngram_range = (low.parse().unwrap_or(2), high.parse().unwrap_or(5));
            }
            "char_weight" => characters(&mut text).weight = number(),
            "char_min_df" => characters(&mut text).min_df = number() as u32,
            "char_max" => characters(&mut text).max_features = Some(number() as u32),
            "weighting" => {
                text.weighting = if value == "count" { Weighting::Count } else { Weighting::TfIdf };
            }
            other => eprintln!("unknown word {other}"),
        }
    }
    let make = |c| match (bayes, svm) {
        (true, _) => Algorithm::ComplementNaiveBayes { alpha: c },
        (_, true) => Algorithm::LinearSvm { c },
        _ => Algorithm::LogisticRegression { c },
    };
    (text, cs.into_iter().map(make).collect())
}

fn characters(text: &mut TextSettings) -> &mut CharSettings {
    text.chars.get_or_insert_default()
}

fn corpus(data: &Data, text: &TextSettings) -> Result<Corpus, Failure> {
    let mut corpus = Corpus::new(text)?;
    for [title, description] in &data.rows {
        corpus.push(&[Some(title), Some(description)])?;
    }
    Ok(corpus)
}

fn labels_of(data: &Data, rows: &[u32]) -> Vec<u32> {
    rows.iter().map(|&row| data.labels[row as usize]).collect()
}

fn f1(truth: &[u32], scores: &[f32], classes: usize) -> f64 {
    metrics::f1_weighted(&metrics::class_scores(&metrics::confusion(
        truth,
        &argmax(scores, classes),
        classes,
    )))
}

fn search(data: &Data, text: &TextSettings, algorithms: &[Algorithm]) -> Result<Vec<Trial>, Failure> {
    let corpus = corpus(data, text)?;
    let classes = data.names.len();
    let folds = stratified_group_k_fold(&labels_of(data, &data.train), None, FOLDS, SEED)?;
    let mut trials: Vec<Trial> = algorithms
        .iter()
        .map(|&algorithm| Trial {
            text: text.clone(),
            algorithm,
            f1: 0.0,
            out_of_fold: vec![0.0; data.train.len() * classes],
        })
        .collect();
    for fold in 0..FOLDS as u32 {
        let pick = |inside: bool| -> Vec<u32> {
            data.train.iter().copied().filter(|&row| (folds[row as usize] == fold) == inside).collect()
        };
        let (fit_rows, test_rows) = (pick(false), pick(true));
        let (features, x) = corpus.fit_transform(&fit_rows)?;
        let held_out = corpus.transform(&features, &test_rows);
        let (y, truth) = (labels_of(data, &fit_rows), labels_of(data, &test_rows));
        for trial in &mut trials {
            let start = Instant::now();
            let fitted = trial.algorithm.fit(Problem { x: &x, y: &y, classes }, SEED, THREADS)?;
            let scores = fitted.head.scores(&held_out, THREADS);
            for (row, scores) in test_rows.iter().zip(scores.chunks_exact(classes)) {
                trial.out_of_fold[*row as usize * classes..][..classes].copy_from_slice(scores);
            }
            let fold_f1 = f1(&truth, &scores, classes);
            trial.f1 += fold_f1 / FOLDS as f64;
            if std::env::args().any(|a| a == "-v") {
                eprintln!(
                    "  {:?} fold {fold}: {:.4}, {} features, {} passes, converged {}, {:.2?}",
                    trial.algorithm,
                    fold_f1,
                    x.columns,
                    fitted.passes,
                    fitted.converged,
                    start.elapsed()
                );
            }
        }
    }
    Ok(trials)
}

fn refit(data: &Data, trial: &Trial) -> Result<(), Failure> {
    let classes = data.names.len();
    let corpus = corpus(data, &trial.text)?;
    let (features, x) = corpus.fit_transform(&data.train)?;
    let y = labels_of(data, &data.train);
    let fitted = trial.algorithm.fit(Problem { x: &x, y: &y, classes }, SEED, THREADS)?;
    let calibration = Calibration::fit(&trial.out_of_fold, &y, classes)?;
    let probes = probe_rows(&y, 16, SEED);
    let model = Model::build(ModelParts {
        algorithm: trial.algorithm,
        classes: data.names.iter().map(|n| Class { label: n.clone(), name: n.clone() }).collect(),
        text_columns: vec!["designation".into(), "description".into()],
        text: trial.text.clone(),
        vocabulary: corpus.vocabulary(&features),
        head: fitted.head,
        calibration,
        dataset_digest: "none".into(),
        seed: SEED,
        probes: probes.iter().map(|&r| data.rows[r as usize].iter().cloned().map(Some).collect()).collect(),
    })?;
    model.verify_probes()?;
    let start = Instant::now();
    let mut probabilities = Vec::new();
    for &row in &data.test {
        let [title, description] = &data.rows[row as usize];
        probabilities.extend(model.predict_one(&[Some(title), Some(description)]).probabilities);
    }
    let each = start.elapsed() / data.test.len() as u32;
    let report = Report::new(&labels_of(data, &data.test), &probabilities, classes);
    println!(
        "test F1w {:.4} accuracy {:.4} F1 macro {:.4} log loss {:.3} ECE {:.4} (out-of-fold {:.4}); {} features, {} bytes, {each:.1?} a row",
        report.f1_weighted,
        report.accuracy,
        report.f1_macro,
        report.log_loss,
        report.expected_calibration_error,
        metrics::expected_calibration_error(
            &y,
            &calibration.probabilities(&trial.out_of_fold, classes),
            classes
        ),
        model.features(),
        model.bytes().len()
    );
    Ok(())
}

fn main() -> Result<(), Failure> {
    let mut args: Vec<String> = std::env::args().skip(1).filter(|a| a != "-v").collect();
    if args.is_empty() {
        return Err("usage: grid DIR [-v] [SPEC]...".into());
    }
    let data = load(Path::new(&args.remove(0)))?;
    println!("{} train rows, {} test rows, {} classes", data.train.len(), data.test.len(), data.names.len());
    let start = Instant::now();
    let mut best: Option<Trial> = None;
    for spec in &args {
        let (text, algorithms) = parse(spec);
        for trial in search(&data, &text, &algorithms)? {
            println!("{:.4}  {spec}  {:?}", trial.f1, trial.algorithm);
            if best.as_ref().is_none_or(|b| trial.f1 > b.f1) {
                best = Some(trial);
            }
        }
    }
    println!("search took {:.1?}", start.elapsed());
    let Some(best) = best else { return Err("no SPEC given".into()) };
    println!("chosen {:.4} {:?} {:?}", best.f1, best.algorithm, best.text);
    refit(&data, &best)
}
