//! What a training run tries: features, families with their grids, and the metric that decides.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is tried: every feature setting with every candidate, judged by cross-validation.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Search {
    /// Feature settings to compare. Default: word 1- and 2-grams by TF-IDF, with and without French stop words.
    #[serde(default = "default_features")]
    #[schemars(length(min = 1, max = 8))]
    pub features: Vec<FeatureSet>,
    /// Model families with their grids. Default: a linear SVM with C of 0.3, 1 and 3.
    #[serde(default = "default_candidates")]
    #[schemars(length(min = 1, max = 8))]
    pub candidates: Vec<Candidate>,
    /// What the search maximises. Default: F1Weighted.
    #[serde(default)]
    pub objective: Objective,
    /// How trials are judged. Default: 3 folds.
    #[serde(default)]
    pub cross_validation: CrossValidation,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            features: default_features(),
            candidates: default_candidates(),
            objective: Objective::default(),
            cross_validation: CrossValidation::default(),
        }
    }
}

fn default_features() -> Vec<FeatureSet> {
    [StopWords::None, StopWords::French]
        .into_iter()
        .map(|stop_words| FeatureSet { text: TextFeatures { stop_words, ..TextFeatures::default() } })
        .collect()
}

fn default_candidates() -> Vec<Candidate> {
    vec![Candidate { linear_svm: Some(Penalty { c: vec![0.3, 1.0, 3.0] }), ..Candidate::default() }]
}

/// One way to turn a row into numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeatureSet {
    /// Features of the text columns. Default: TF-IDF of words and pairs of words, the most frequent 100000.
    #[serde(default)]
    pub text: TextFeatures,
}

/// Features of the text columns, with scikit-learn's meaning of each setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TextFeatures {
    /// Weight of a term in a row. Default: TfIdf.
    #[serde(default)]
    pub weighting: Weighting,
    /// Word n-grams. Default: words and pairs of words, the most frequent 100000.
    #[serde(default)]
    pub word: WordNgrams,
    /// Character n-grams within words, as a block of features beside the words: they see parts of words,
    /// endings and misspellings, and take several times as long to train on. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub char: Option<CharNgrams>,
    /// Words that are left out. Default: None.
    #[serde(default)]
    pub stop_words: StopWords,
    /// Language whose endings are cut off words (Snowball), so that `chaises` is `chaise`. Default: None.
    // not written where it is None: a spec from before there were stems keeps its hash
    #[serde(default, skip_serializing_if = "Stemming::is_none")]
    pub stemming: Stemming,
    /// Fold accents (`été` becomes `ete`). Default: true.
    #[serde(default = "default_true")]
    pub strip_accents: bool,
    /// Use 1 + ln(count) in place of the count. Default: true.
    #[serde(default = "default_true")]
    pub sublinear_tf: bool,
}

impl Default for TextFeatures {
    fn default() -> Self {
        Self {
            weighting: Weighting::default(),
            word: WordNgrams::default(),
            char: None,
            stop_words: StopWords::default(),
            stemming: Stemming::None,
            strip_accents: true,
            sublinear_tf: true,
        }
    }
}

fn default_true() -> bool {
    true
}

/// Weight of a term in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Weighting {
    /// Term frequency times smoothed inverse document frequency, rows scaled to length 1.
    #[default]
    TfIdf,
    /// Term counts.
    Count,
}

/// Words that are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StopWords {
    /// None.
    #[default]
    None,
    /// The French list of the trainer.
    French,
}

/// Language whose endings are cut off words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Stemming {
    /// Words stay as they are.
    #[default]
    None,
    /// French.
    French,
    /// English.
    English,
    /// German.
    German,
    /// Italian.
    Italian,
    /// Spanish.
    Spanish,
    /// Portuguese.
    Portuguese,
    /// Dutch.
    Dutch,
}

impl Stemming {
    /// The name users write; none where words stay as they are.
    pub fn language(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::French => Some("French"),
            Self::English => Some("English"),
            Self::German => Some("German"),
            Self::Italian => Some("Italian"),
            Self::Spanish => Some("Spanish"),
            Self::Portuguese => Some("Portuguese"),
            Self::Dutch => Some("Dutch"),
        }
    }

    #[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// Character n-grams within words, scikit-learn's `char_wb`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CharNgrams {
    /// Shortest and longest n-gram in characters. Default: [2, 5].
    #[serde(default = "default_char_ngrams")]
    #[schemars(length(min = 2, max = 2), inner(range(min = 1, max = 8)))]
    #[x_kube(validation = Rule::new("self[0] <= self[1]").message("char.ngramRange must be [shortest, longest], such as [2, 5]: the first number may not exceed the second"))]
    pub ngram_range: Vec<i32>,
    /// Keep the most frequent terms only. Default: 100000.
    #[serde(default = "default_max_features")]
    #[schemars(range(min = 1, max = 5_000_000))]
    pub max_features: i64,
    /// Drop terms that fewer rows than this contain. Default: 2.
    #[serde(default = "default_char_min_df")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_df: i64,
    /// Drop terms that more than this share of the rows contain, above 0 and at most 1. Default: 1.
    #[serde(default = "default_max_df")]
    #[x_kube(validation = Rule::new("self > 0.0 && self <= 1.0").message("char.maxDf must be above 0 and at most 1: 1 drops no term"))]
    pub max_df: f64,
    /// Weight of the block; the words' is 1. Default: 1.
    #[serde(default = "default_weight")]
    #[x_kube(validation = Rule::new("self > 0.0 && self <= 1000.0").message("char.weight must be above 0 and at most 1000: the words have 1; leave char out to do without it"))]
    pub weight: f64,
}

impl Default for CharNgrams {
    fn default() -> Self {
        Self {
            ngram_range: default_char_ngrams(),
            max_features: default_max_features(),
            min_df: default_char_min_df(),
            max_df: default_max_df(),
            weight: default_weight(),
        }
    }
}

fn default_char_ngrams() -> Vec<i32> {
    vec![2, 5]
}
fn default_char_min_df() -> i64 {
    2
}
fn default_weight() -> f64 {
    1.0
}

/// Word n-grams.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WordNgrams {
    /// Shortest and longest n-gram in words. Default: [1, 2].
    #[serde(default = "default_ngrams")]
    #[schemars(length(min = 2, max = 2), inner(range(min = 1, max = 3)))]
    #[x_kube(validation = Rule::new("self[0] <= self[1]").message("word.ngramRange must be [shortest, longest], such as [1, 2]: the first number may not exceed the second"))]
    pub ngram_range: Vec<i32>,
    /// Keep the most frequent terms only. Default: 100000.
    #[serde(default = "default_max_features")]
    #[schemars(range(min = 1, max = 5_000_000))]
    pub max_features: i64,
    /// Drop terms that fewer rows than this contain. Default: 1.
    #[serde(default = "default_min_df")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_df: i64,
    /// Drop terms that more than this share of the rows contain, above 0 and at most 1. Default: 1.
    #[serde(default = "default_max_df")]
    #[x_kube(validation = Rule::new("self > 0.0 && self <= 1.0").message("word.maxDf must be above 0 and at most 1: 1 drops no term"))]
    pub max_df: f64,
}

impl Default for WordNgrams {
    fn default() -> Self {
        Self {
            ngram_range: default_ngrams(),
            max_features: default_max_features(),
            min_df: default_min_df(),
            max_df: default_max_df(),
        }
    }
}

fn default_ngrams() -> Vec<i32> {
    vec![1, 2]
}
fn default_max_features() -> i64 {
    100_000
}
fn default_min_df() -> i64 {
    1
}
fn default_max_df() -> f64 {
    1.0
}

/// One model family with its grid; exactly one field is set.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.linearSvm), has(self.logisticRegression), has(self.complementNaiveBayes), has(self.randomForest), has(self.gradientBoosting)].filter(named, named).size() == 1").message("an entry of spec.search.candidates names exactly one family, linearSvm, logisticRegression, complementNaiveBayes, randomForest or gradientBoosting: write one entry per family"))]
pub struct Candidate {
    /// Linear support vector machine, one-vs-rest, squared hinge loss, L2 penalty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linear_svm: Option<Penalty>,
    /// Multinomial logistic regression, L2 penalty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logistic_regression: Option<Penalty>,
    /// Complement naive Bayes: trained in one pass, at its best with many small classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complement_naive_bayes: Option<Smoothing>,
    /// Random forest, scikit-learn's choices. Trees take long with many features: a few thousand
    /// (`word.maxFeatures`) are enough for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random_forest: Option<Forest>,
    /// Gradient boosting of trees with a softmax loss, XGBoost's choices; a tree for each class in every
    /// round. A few thousand features (`word.maxFeatures`) are enough for it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_boosting: Option<Boosting>,
}

/// Grid over the inverse strength of the penalty.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Penalty {
    /// Values of C to try, each above 0; scikit-learn's C.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = Rule::new("self.all(c, c > 0.0 && c <= 1000000.0)").message("every value of c must be above 0 and at most 1000000, such as c: [0.3, 1, 3]"))]
    pub c: Vec<f64>,
}

/// Grid over the additive smoothing of counts.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Smoothing {
    /// Values of alpha to try, each above 0; scikit-learn's alpha.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = Rule::new("self.all(a, a > 0.0 && a <= 1000000.0)").message("every value of alpha must be above 0 and at most 1000000, such as alpha: [0.1, 0.3, 1]"))]
    pub alpha: Vec<f64>,
}

/// Grid over the size of a random forest: every number of trees with every depth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Forest {
    /// Numbers of trees to try. Default: [100].
    #[serde(default = "default_trees")]
    #[schemars(length(min = 1, max = 8), inner(range(min = 1, max = 5_000)))]
    pub trees: Vec<i32>,
    /// Most divisions between a root and a leaf, to try. Default: [20].
    #[serde(default = "default_forest_depth")]
    #[schemars(length(min = 1, max = 8), inner(range(min = 1, max = 100)))]
    pub max_depth: Vec<i32>,
}

/// Grid over gradient boosting: every value with every other.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Boosting {
    /// Numbers of rounds to try: trees of each class. Default: [50].
    #[serde(default = "default_rounds")]
    #[schemars(length(min = 1, max = 8), inner(range(min = 1, max = 5_000)))]
    pub rounds: Vec<i32>,
    /// Most divisions between a root and a leaf, to try. Default: [3].
    #[serde(default = "default_boosting_depth")]
    #[schemars(length(min = 1, max = 8), inner(range(min = 1, max = 20)))]
    pub max_depth: Vec<i32>,
    /// Factors of a tree's values to try, above 0 and at most 1. Default: [0.1].
    #[serde(default = "default_learning_rate")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(validation = Rule::new("self.all(rate, rate > 0.0 && rate <= 1.0)").message("every value of learningRate must be above 0 and at most 1, such as learningRate: [0.1]"))]
    pub learning_rate: Vec<f64>,
}

fn default_trees() -> Vec<i32> {
    vec![100]
}
fn default_forest_depth() -> Vec<i32> {
    vec![20]
}
fn default_rounds() -> Vec<i32> {
    vec![50]
}
fn default_boosting_depth() -> Vec<i32> {
    vec![3]
}
fn default_learning_rate() -> Vec<f64> {
    vec![0.1]
}

/// What the search maximises.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Objective {
    /// Metric, averaged over the folds. Default: F1Weighted.
    #[serde(default)]
    pub metric: Metric,
}

/// Metrics by which models are judged, each between 0 and 1, larger is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Metric {
    /// F1 of each class, averaged with the class sizes as weights.
    #[default]
    F1Weighted,
    /// F1 of each class, averaged with equal weights.
    F1Macro,
    /// Share of rows with the right class.
    Accuracy,
}

impl Metric {
    /// The name users write.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F1Weighted => "F1Weighted",
            Self::F1Macro => "F1Macro",
            Self::Accuracy => "Accuracy",
        }
    }
}

/// How trials are judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CrossValidation {
    /// Number of folds, stratified by class and grouped as the Dataset's split is. Default: 3.
    #[serde(default = "default_folds")]
    #[schemars(range(min = 2, max = 20))]
    pub folds: i32,
}

impl Default for CrossValidation {
    fn default() -> Self {
        Self { folds: default_folds() }
    }
}

fn default_folds() -> i32 {
    3
}
