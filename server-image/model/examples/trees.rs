//! Trains forests and boosted trees on a catalogue in the challenge's layout, scores its test rows,
//! and writes the matrices for `trees.py`, which does the same with scikit-learn and XGBoost.
//!
//! `trees DIR OUT [THREADS [FEATURES]]`

use std::path::Path;
use std::time::Instant;

use vitrine_model::head::{Problem, argmax};
use vitrine_model::trees::{GradientBoosting, RandomForest, boost, forest};
use vitrine_model::{Corpus, Csr, TextSettings, Weighting, metrics};

type Failure = Box<dyn std::error::Error>;

/// Seconds of all threads so far, where the system tells them: a busy machine spoils the others.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// What `work` gives, its seconds and its seconds of all threads.
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64, f64) {
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let result = work();
    (result, start.elapsed().as_secs_f64(), cpu_seconds() - cpu)
}

struct Data {
    corpus: Corpus,
    labels: Vec<u32>,
    classes: usize,
    train: u32,
}

fn read(path: &Path, columns: &[&str]) -> Result<Vec<Vec<String>>, Failure> {
    let mut reader = csv::Reader::from_path(path)?;
    let headers = reader.headers()?.clone();
    let places: Vec<usize> = columns.iter().filter_map(|c| headers.iter().position(|h| h == *c)).collect();
    let records = reader.records().map(|r| r.map(|r| places.iter().map(|&p| r[p].to_owned()).collect()));
    Ok(records.collect::<Result<_, _>>()?)
}

fn load(dir: &Path, settings: &TextSettings) -> Result<Data, Failure> {
    let (mut corpus, mut names, mut train) = (Corpus::new(settings)?, Vec::new(), 0);
    for (x, y) in [("X_train_update.csv", "Y_train_CVw08PX.csv"), ("X_test_update.csv", "Y_test_secret.csv")]
    {
        train = corpus.len() as u32;
        for row in read(&dir.join(x), &["designation", "description"])? {
            corpus.push(&[Some(&row[0]), Some(&row[1])])?;
        }
        names.extend(read(&dir.join(y), &["prdtypecode"])?.into_iter().map(|mut row| row.remove(0)));
    }
    let mut distinct = names.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let labels =
        names.iter().filter_map(|name| distinct.binary_search(name).ok()).map(|c| c as u32).collect();
    Ok(Data { corpus, labels, classes: distinct.len(), train })
}

fn write(out: &Path, name: &str, x: &Csr, y: &[u32]) -> Result<(), Failure> {
    let indptr: Vec<u64> = x.indptr.iter().map(|&at| at as u64).collect();
    std::fs::write(out.join(format!("{name}.indptr")), bytemuck::cast_slice(&indptr))?;
    std::fs::write(out.join(format!("{name}.indices")), bytemuck::cast_slice(&x.indices))?;
    std::fs::write(out.join(format!("{name}.values")), bytemuck::cast_slice(&x.values))?;
    std::fs::write(out.join(format!("{name}.labels")), bytemuck::cast_slice(y))?;
    Ok(())
}

fn accuracy(scores: &[f32], truth: &[u32], classes: usize) -> f64 {
    metrics::accuracy(truth, &argmax(scores, classes))
}

fn forests(x: &Csr, y: &[u32], test: (&Csr, &[u32]), classes: usize, threads: usize) -> Result<(), Failure> {
    for trees in [50, 100] {
        for max_depth in [10, 20] {
            let (mut mean, mut least, mut least_cpu, mut nodes) = (0.0, f64::INFINITY, f64::INFINITY, 0);
            for seed in 0..3 {
                let settings = RandomForest { trees, max_depth };
                let (forest, seconds, cpu) =
                    timed(|| forest::fit(Problem { x, y, classes }, &settings, seed, threads));
                let forest = forest?;
                (least, least_cpu, nodes) = (least.min(seconds), least_cpu.min(cpu), forest.nodes());
                mean += accuracy(&forest.scores(test.0, threads), test.1, classes) / 3.0;
            }
            println!(
                "forest trees={trees} depth={max_depth}: accuracy {mean:.4}, best fit {least:.2} s ({least_cpu:.2} s CPU), {nodes} nodes"
            );
        }
    }
    Ok(())
}

fn boosted(x: &Csr, y: &[u32], test: (&Csr, &[u32]), classes: usize, threads: usize) -> Result<(), Failure> {
    let settings = GradientBoosting { rounds: 50, max_depth: 3, learning_rate: 0.1 };
    let (boosted, seconds, cpu) = timed(|| boost::fit(Problem { x, y, classes }, &settings, threads));
    let boosted = boosted?;
    let (scores, scoring, _) = timed(|| boosted.scores(test.0, threads));
    println!(
        "boosting {settings:?}: accuracy {:.4}, fit {seconds:.2} s ({cpu:.2} s CPU), {} nodes, scoring {scoring:.3} s",
        accuracy(&scores, test.1, classes),
        boosted.nodes(),
    );
    Ok(())
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, out, rest @ ..] = &args[..] else {
        return Err("usage: trees DIR OUT [THREADS [FEATURES]]".into());
    };
    let threads = rest.first().map_or(Ok(2), |n| n.parse())?;
    let features = rest.get(1).map_or(Ok(5000), |n| n.parse())?;
    for (name, weighting) in [("tfidf", Weighting::TfIdf), ("count", Weighting::Count)] {
        let settings = TextSettings {
            weighting,
            max_features: Some(features),
            sublinear_tf: false,
            ..Default::default()
        };
        let data = load(Path::new(dir), &settings)?;
        let (train, test): (Vec<u32>, Vec<u32>) =
            (0..data.labels.len() as u32).partition(|&row| row < data.train);
        let (chosen, x) = data.corpus.fit_transform(&train)?;
        let held_out = data.corpus.transform(&chosen, &test);
        let (y, truth) = data.labels.split_at(train.len());
        write(Path::new(out), &format!("{name}.train"), &x, y)?;
        write(Path::new(out), &format!("{name}.test"), &held_out, truth)?;
        println!("{name}: {} rows, {} features, {} values", x.rows(), x.columns, x.values.len());
        boosted(&x, y, (&held_out, truth), data.classes, threads)?;
        forests(&x, y, (&held_out, truth), data.classes, threads)?;
    }
    Ok(())
}
