//! Small tables and what is done with them in every test.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use vitrine_contract::job::{Candidate, Ingest, Split, TextFeatures, Train};
use vitrine_contract::report::{Ingested, Trained};
use vitrine_trainer::Error;
use vitrine_trainer::ingest::{MANIFEST, PROFILE, Places, SNAPSHOT, ingest};
use vitrine_trainer::manifest::Manifest;
use vitrine_trainer::meter::Meter;
use vitrine_trainer::profile::Profile;
use vitrine_trainer::snapshot::{Reader, Row};
use vitrine_trainer::train::{Files, train_with};

/// A folder with a source and what is made of it.
pub struct Shop {
    pub dir: TempDir,
}

impl Shop {
    /// With these files in the source.
    pub fn new(files: &[(&str, &str)]) -> Self {
        let shop = Self { dir: TempDir::new().unwrap() };
        fs::create_dir(shop.source()).unwrap();
        for (name, text) in files {
            shop.write(name, text);
        }
        shop
    }

    pub fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.source().join(name), bytes).unwrap();
    }

    pub fn out(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn ingest(&self, task: &Ingest) -> Result<Ingested, Error> {
        self.ingest_to(task, "out", None)
    }

    pub fn ingest_to(&self, task: &Ingest, out: &str, fixed: Option<&Path>) -> Result<Ingested, Error> {
        let places =
            Places { source: self.source(), out: self.out(out), fixed_test: fixed.map(Path::to_owned) };
        let names = BTreeMap::from([("10".to_owned(), "Livres".to_owned())]);
        ingest(task, &places, &names, &Meter::silent())
    }

    pub fn rows(&self, out: &str) -> Vec<Row> {
        let mut rows = Vec::new();
        let reader = Reader::open(&self.out(out).join(SNAPSHOT)).unwrap();
        reader
            .for_each(|row| {
                rows.push(row);
                Ok(())
            })
            .unwrap();
        assert_eq!(rows.len(), reader.rows);
        rows
    }

    pub fn manifest(&self, out: &str) -> Manifest {
        Manifest::from_json(&fs::read(self.out(out).join(MANIFEST)).unwrap()).unwrap()
    }

    pub fn profile(&self, out: &str) -> Profile {
        serde_json::from_slice(&fs::read(self.out(out).join(PROFILE)).unwrap()).unwrap()
    }

    pub fn train(&self, task: &Train, threads: usize) -> Result<Trained, Error> {
        let files = Files {
            snapshot: self.out("out").join(SNAPSHOT),
            model: self.out("model.safetensors"),
            report: self.out("report.json"),
        };
        train_with(task, &files, &BTreeMap::new(), &Meter::silent(), threads)
    }
}

/// The challenge's two files.
pub fn challenge() -> Ingest {
    Ingest {
        features: "X.csv".into(),
        labels: Some("Y.csv".into()),
        id: Some("productid".into()),
        text: vec!["designation".into(), "description".into()],
        label: Some("prdtypecode".into()),
        split: Split {
            seed: 42,
            train: 0.8,
            validation: 0.1,
            test: 0.1,
            group_by: "text".into(),
            fixed_test: None,
        },
        ..Ingest::default()
    }
}

/// One file with everything.
pub fn single() -> Ingest {
    Ingest { labels: None, label: Some("label".into()), id: None, text: vec!["text".into()], ..challenge() }
}

/// `(X, Y)` of so many products of three kinds; the words of a kind and a few that say nothing.
pub fn products(rows: usize) -> (String, String) {
    let kinds = [
        ("10", ["roman", "poche", "auteur", "tome"]),
        ("2583", ["piscine", "pompe", "filtre", "chlore"]),
        ("60", ["console", "manette", "jeu", "video"]),
    ];
    let noise = ["neuf", "lot", "promo", "rouge", "bleu", "grand", "petit"];
    let mut features = String::from(",designation,description,productid,imageid\n");
    let mut labels = String::from(",prdtypecode\n");
    for row in 0..rows {
        let (label, words) = &kinds[row % 3];
        let (first, second) = (words[row / 3 % 4], words[(row / 12 + 1) % 4]);
        let (some, other) = (noise[row % 7], noise[row * row % 5]);
        let description =
            if row % 4 == 0 { String::new() } else { format!("\"<b>{second}</b>, {other}\n{some}\"") };
        let id = 900_000 + row;
        writeln!(features, "{row},{first} {some} numéro {row},{description},{id},7").unwrap();
        writeln!(labels, "{row},{label}").unwrap();
    }
    (features, labels)
}

/// A small grid.
pub fn search() -> Train {
    let features = |stop_words: &str| TextFeatures {
        weighting: "TfIdf".into(),
        ngram_min: 1,
        ngram_max: 2,
        max_features: 5000,
        min_df: 1,
        max_df: 1.0,
        stop_words: stop_words.into(),
        strip_accents: true,
        sublinear_tf: true,
        ..TextFeatures::default()
    };
    Train {
        model: "products".into(),
        dataset_digest: format!("sha256:{}", "0".repeat(64)),
        snapshot_digest: String::new(),
        seed: 42,
        folds: 3,
        objective: "F1Weighted".into(),
        features: vec![features("None"), features("French")],
        candidates: vec![
            Candidate::LinearSvm { c: vec![0.1, 1.0] },
            Candidate::LogisticRegression { c: vec![1.0] },
        ],
    }
}
