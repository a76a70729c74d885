//! Config of the ingest and training pods.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::gateway::Gateway;

/// Version of the contract from which on trainers know stems and character n-grams.
const STEMS_AND_CHARACTERS: u32 = 2;
/// The newest version of a config that a trainer of this build reads.
pub const NEWEST: u32 = STEMS_AND_CHARACTERS;

/// Config file of a Job's pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobConfig {
    /// Contract version: [`crate::VERSION`], or what [`Train::version`] says.
    pub version: u32,
    /// How to reach the gateway.
    pub gateway: Gateway,
    /// What to do.
    pub task: Task,
}

/// What a Job's pod does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::large_enum_variant)] // there is one in a process
pub enum Task {
    /// Source to snapshot.
    Ingest(Ingest),
    /// Snapshot to model.
    Train(Train),
}

/// Source to snapshot. The files lie under [`crate::paths::SOURCE_DIR`], or are fetched from `remote`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ingest {
    /// Folder below the source's root.
    pub path: String,
    /// File with the features, relative to `path`.
    pub features: String,
    /// File with the labels, joined on the unnamed index column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
    /// Column that identifies a row; none: the row's position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Text columns.
    pub text: Vec<String>,
    /// Column with the class; none: rows without labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Whether label names are mounted at [`crate::paths::LABELS_DIR`].
    #[serde(default)]
    pub label_names: bool,
    /// Pictures of the rows; none: rows without pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// Share of groups to keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
    /// How rows are divided.
    pub split: Split,
    /// Where the files are fetched from; none: they are mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<Remote>,
}

/// Where the files of a source are fetched from.
///
/// A secret is only named here; its keys are files of [`crate::paths::SOURCE_SECRET_DIR`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Remote {
    /// An object store that speaks S3.
    S3(S3),
    /// A web server.
    Http(Http),
}

/// An object store that speaks S3.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct S3 {
    /// Address of the store, `http` or `https`.
    pub endpoint: String,
    /// Region that requests are signed for.
    pub region: String,
    /// Bucket.
    pub bucket: String,
    /// What every key begins with: empty, or with a slash at its end.
    pub prefix: String,
    /// The bucket is in the path, not in the host name.
    pub path_style: bool,
    /// Name of the mounted Secret; none: requests are not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// A web server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Http {
    /// Address that ends with a slash; the files lie below.
    pub url: String,
    /// `sha256:` digest by file, of each file that may be fetched.
    pub sha256: BTreeMap<String, String>,
    /// Name of the mounted Secret whose keys are headers; none: no headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// Pictures of the rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// A [`crate::template::Template`], relative to `path` or within the archive.
    pub path_template: String,
    /// Whether a row may be without a picture; otherwise it is rejected.
    #[serde(default = "yes")]
    pub optional: bool,
    /// Zip archive that holds the pictures, relative to `path`; none: files beside the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<String>,
}

fn yes() -> bool {
    true
}

/// Share of groups to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Above 0, at most 1.
    pub fraction: f64,
    /// Chooses which.
    pub seed: u64,
}

/// How rows are divided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Split {
    /// Chooses the parts.
    pub seed: u64,
    /// Share of train rows.
    pub train: f64,
    /// Share of validation rows.
    pub validation: f64,
    /// Share of test rows; 0 with a fixed test set.
    pub test: f64,
    /// `text`, or the name of a column.
    pub group_by: String,
    /// `sha256:` digest of the Parquet snapshot whose rows are the test set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_test: Option<String>,
}

/// Snapshot to model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Train {
    /// Model name, for the report.
    pub model: String,
    /// `sha256:` digest of the snapshot's manifest.
    pub dataset_digest: String,
    /// `sha256:` digest of the Parquet file.
    pub snapshot_digest: String,
    /// Seed of everything random.
    pub seed: u64,
    /// Number of folds.
    pub folds: usize,
    /// Metric to maximise: `F1Weighted`, `F1Macro` or `Accuracy`.
    pub objective: String,
    /// Feature settings to compare.
    pub features: Vec<TextFeatures>,
    /// Families with their grids.
    pub candidates: Vec<Candidate>,
}

impl Train {
    /// The least version of the contract whose trainers honour all of it. One of before would leave
    /// out what it does not know of the features, and train something else.
    pub fn version(&self) -> u32 {
        let new = |features: &TextFeatures| features.stemming.is_some() || features.chars.is_some();
        if self.features.iter().any(new) { STEMS_AND_CHARACTERS } else { crate::VERSION }
    }
}

/// Features of the text columns, with scikit-learn's meaning of each setting.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TextFeatures {
    /// `TfIdf` or `Count`.
    pub weighting: String,
    /// Shortest word n-gram.
    pub ngram_min: usize,
    /// Longest word n-gram.
    pub ngram_max: usize,
    /// Most terms kept.
    pub max_features: usize,
    /// Least rows with a term.
    pub min_df: usize,
    /// Largest share of rows with a term.
    pub max_df: f64,
    /// `None` or `French`.
    pub stop_words: String,
    /// Fold accents.
    pub strip_accents: bool,
    /// Use 1 + ln(count).
    pub sublinear_tf: bool,
    /// Snowball's language by its name, such as `French`; none: words as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stemming: Option<String>,
    /// Character n-grams beside the words; none: words alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chars: Option<CharFeatures>,
}

/// Character n-grams within words (scikit-learn's `char_wb`), a block of features of their own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CharFeatures {
    /// Shortest n-gram in characters.
    pub ngram_min: usize,
    /// Longest n-gram in characters.
    pub ngram_max: usize,
    /// Most terms kept.
    pub max_features: usize,
    /// Least rows with a term.
    pub min_df: usize,
    /// Largest share of rows with a term.
    pub max_df: f64,
    /// Factor of the block; the words' is 1.
    pub weight: f64,
}

/// One family with its grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Candidate {
    /// Linear SVM, values of C.
    LinearSvm {
        /// Values to try.
        c: Vec<f64>,
    },
    /// Multinomial logistic regression, values of C.
    LogisticRegression {
        /// Values to try.
        c: Vec<f64>,
    },
    /// Complement naive Bayes, values of the smoothing.
    ComplementNaiveBayes {
        /// Values to try.
        alpha: Vec<f64>,
    },
    /// Random forest, every number of trees with every depth.
    #[serde(rename_all = "camelCase")]
    RandomForest {
        /// Numbers of trees to try.
        trees: Vec<u32>,
        /// Most divisions between a root and a leaf.
        max_depth: Vec<u32>,
    },
    /// Gradient boosting, every value with every other.
    #[serde(rename_all = "camelCase")]
    GradientBoosting {
        /// Numbers of rounds to try: trees of each class.
        rounds: Vec<u32>,
        /// Most divisions between a root and a leaf.
        max_depth: Vec<u32>,
        /// Factors of a tree's values.
        learning_rate: Vec<f64>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_trainer_would_leave_out_raises_the_version() {
        let version = |features| Train { features: vec![features], ..Train::default() }.version();
        assert_eq!(version(TextFeatures::default()), crate::VERSION);
        assert_eq!(version(TextFeatures { stemming: Some("French".into()), ..TextFeatures::default() }), 2);
        assert_eq!(
            version(TextFeatures { chars: Some(CharFeatures::default()), ..TextFeatures::default() }),
            2
        );
    }

    #[test]
    fn a_config_from_before_remote_sources_is_read_and_written_as_it_was() {
        let old = r#"{"path":"a","features":"X.csv","text":["t"],"labelNames":false,"split":{"seed":1,"train":1.0,"validation":0.0,"test":0.0,"groupBy":"text"}}"#;
        let read: Ingest = serde_json::from_str(old).unwrap();
        assert_eq!(read.remote, None);
        assert_eq!(serde_json::to_string(&read).unwrap(), old);
    }

    #[test]
    fn remote_sources_have_one_shape_in_the_config() {
        let s3 = r#"{"s3":{"endpoint":"http://minio:9000","region":"us-east-1","bucket":"b","prefix":"p/","pathStyle":true,"secret":"minio"}}"#;
        let http = r#"{"http":{"url":"https://h/","sha256":{"X.csv":"sha256:00"}}}"#;
        for text in [s3, http] {
            let read: Remote = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
    }
}
