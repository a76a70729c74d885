//! The `Dataset` kind: where a catalogue comes from and how its rows are split.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::common::{
    LastFailure, LocalRef, NAME_MESSAGE, NAME_RULE, PodPlacement, Resources, conditions_schema,
};
use crate::remote::{HttpSource, S3Source};

/// A product catalogue: a table of texts and labels, brought into a snapshot that never changes.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "vitrine.dev",
    version = "v1alpha1",
    kind = "Dataset",
    plural = "datasets",
    namespaced,
    shortname = "mlds",
    category = "vitrine",
    status = "DatasetStatus",
    derive = "PartialEq",
    doc = "A product catalogue: a table of texts and labels, brought into a snapshot that never changes.",
    validation = Rule::new(NAME_RULE).message(NAME_MESSAGE),
    validation = Rule::new("!has(self.spec.source.images) || has(self.spec.schema.image)").message("spec.source.images needs spec.schema.image: its pathTemplate says which entry of the archive is a row's picture"),
    validation = Rule::new("!has(self.spec.source.http) || !has(self.spec.schema.image) || has(self.spec.source.images)").message("spec.schema.image with spec.source.http needs spec.source.images.archive: a web server has no list of its files"),
    validation = Rule::new("!has(self.spec.split) || !has(self.spec.split.test) || self.spec.split.test.datasetRef.name != self.metadata.name").message("a Dataset cannot be its own test set: name another Dataset in spec.split.test.datasetRef"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".status.revision"),
    printcolumn(name = "Rows", type_ = "integer", json_path = ".status.rows"),
    printcolumn(name = "Classes", type_ = "integer", json_path = ".status.classes"),
    printcolumn(name = "Nulls", type_ = "string", json_path = ".status.profile.maxNullRatio"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.digest", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct DatasetSpec {
    /// Where the table comes from.
    pub source: Source,
    /// What the table's columns mean.
    pub schema: TableSchema,
    /// Take only a part of the rows. Default: all rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
    /// How rows are divided into train, validation and test.
    #[serde(default)]
    pub split: Split,
    /// Compute resources of the ingest pod. Default: the operator's.
    #[serde(default)]
    pub resources: Resources,
    /// Placement of the ingest pod.
    #[serde(flatten)]
    pub placement: PodPlacement,
}

/// Where the table comes from: exactly one of `pvc`, `s3` and `http`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.pvc), has(self.s3), has(self.http)].filter(x, x).size() == 1").message("spec.source must have exactly one of pvc, s3 and http: keep the one that holds the files"))]
#[x_kube(validation = Rule::new("!has(self.http) || self.files.features in self.http.sha256").message("spec.source.http.sha256 must have a line for spec.source.files.features, such as `X.csv: <what sha256sum X.csv prints>`: a changed remote file must be noticed"))]
#[x_kube(validation = Rule::new("!has(self.http) || !has(self.files.labels) || self.files.labels in self.http.sha256").message("spec.source.http.sha256 must have a line for spec.source.files.labels, such as `Y.csv: <what sha256sum Y.csv prints>`: a changed remote file must be noticed"))]
#[x_kube(validation = Rule::new("!has(self.http) || !has(self.images) || self.images.archive in self.http.sha256").message("spec.source.http.sha256 must have a line for spec.source.images.archive, such as `images.zip: <what sha256sum images.zip prints>`: a changed remote file must be noticed"))]
pub struct Source {
    /// A PersistentVolumeClaim in this namespace; mounted read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pvc: Option<PvcSource>,
    /// A bucket of an object store that speaks S3; the ingest pod fetches the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Source>,
    /// A web server; the ingest pod fetches the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSource>,
    /// Which files hold the table.
    pub files: Files,
    /// Format of the files. Default: csv.
    #[serde(default)]
    pub format: Format,
    /// Where the pictures are. Default: files beside the table; a web server needs an archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<ImageSource>,
}

/// Where the pictures are.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageSource {
    /// Zip archive that holds the pictures, relative to the source's folder; its entries are stored
    /// or deflated, at most 500,000, and none is encrypted.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("!self.split('/').exists(p, p == '' || p == '.' || p == '..')").message("spec.source.images.archive must be a path below the source's folder, such as images.zip: without a '/' at its beginning or end, and without '//', '.' and '..'"))]
    pub archive: String,
}

/// A folder of a PersistentVolumeClaim.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PvcSource {
    /// Name of the PersistentVolumeClaim.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')").message("spec.source.pvc.claimName must be the name of a claim in this namespace (a-z, 0-9, '-' and '.'): no reference crosses a namespace"))]
    pub claim_name: String,
    /// Folder within the volume. Default: its root.
    #[serde(default)]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.split('/').exists(p, p == '..')").message("spec.source.pvc.path must be relative to the volume's root, without a leading '/' and without '..'"))]
    pub path: String,
}

/// The files of the table, relative to the source's folder.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Files {
    /// File with the features (and the label column, unless `labels` names a second file).
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("!self.split('/').exists(p, p == '' || p == '.' || p == '..')").message("spec.source.files.features must be a path below the source's folder, such as X.csv: without a '/' at its beginning or end, and without '//', '.' and '..'"))]
    pub features: String,
    /// File with the labels, joined to the features on their unnamed index column, as in the
    /// challenge. Default: the label is a column of the features file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("!self.split('/').exists(p, p == '' || p == '.' || p == '..')").message("spec.source.files.labels must be a path below the source's folder, such as Y.csv: without a '/' at its beginning or end, and without '//', '.' and '..'"))]
    pub labels: Option<String>,
}

/// Format of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Format {
    /// Comma-separated values with a header line, UTF-8.
    #[default]
    #[serde(rename = "csv")]
    Csv,
}

/// What the table's columns mean.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableSchema {
    /// Column that identifies a product; kept in the snapshot. Default: the row's position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub id: Option<String>,
    /// Text columns, in the order in which they are joined.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 128)), extend("x-kubernetes-list-type" = "set"))]
    pub text: Vec<String>,
    /// Column with the class. Absent: rows without labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub label: Option<String>,
    /// Readable names of the classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_names: Option<LabelNames>,
    /// Pictures of the products: they are checked and kept in the snapshot; training reads texts
    /// only. Absent: rows without pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageColumn>,
}

/// Pictures of the products.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageColumn {
    /// Path of a row's picture with column names in braces, such as
    /// `images/image_{imageid}_product_{productid}.jpg`: relative to the source's folder, or within
    /// `source.images.archive`. JPEG, PNG, WebP and GIF without animation, at most 20 MiB and 24
    /// million pixels.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("!self.split('/').exists(p, p == '' || p == '.' || p == '..')").message("spec.schema.image.pathTemplate must be relative to the source's folder, without a '/' at its beginning or end, and without '//', '.' and '..'"))]
    #[x_kube(validation = Rule::new("self.contains('{') && self.matches('^([^{}]|[{][^{}]+[}])+$')").message("spec.schema.image.pathTemplate must name a column in braces, as in images/{imageid}.jpg"))]
    pub path_template: String,
    /// Whether a row may be without a usable picture: it is then counted in `status.images`. False:
    /// such a row is rejected. Default: true.
    #[serde(default = "default_optional")]
    pub optional: bool,
}

fn default_optional() -> bool {
    true
}

/// Where readable names of the classes come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelNames {
    /// ConfigMap in this namespace: each key is a label, each value its name. A label without a
    /// name is shown as `category <label>`.
    pub config_map_ref: LocalRef,
}

/// Take only a part of the rows.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Share of groups to keep, above 0 and at most 1.
    #[x_kube(validation = Rule::new("self > 0.0 && self <= 1.0").message("spec.sample.fraction must be above 0 and at most 1: leave spec.sample out to take all rows"))]
    pub fraction: f64,
    /// Chooses which rows are kept. Default: 42.
    #[serde(default = "default_seed")]
    #[schemars(range(min = 0, max = 4_294_967_295_u32))]
    pub seed: i64,
}

/// Seed where none is given.
pub fn default_seed() -> i64 {
    42
}

/// How rows are divided. A row's part depends on the seed and its group only, so that new rows
/// never move an old one.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.test) || self.fractions.test == 0.0").message("spec.split.fractions.test must be 0 when spec.split.test names a fixed test set: the test rows come from that set"))]
pub struct Split {
    /// Chooses the parts. Default: 42.
    #[serde(default = "default_seed")]
    #[schemars(range(min = 0, max = 4_294_967_295_u32))]
    pub seed: i64,
    /// Shares of the parts; they add up to 1.
    #[serde(default)]
    pub fractions: Fractions,
    /// Rows with the same group stay in one part: `text` groups by the normalised text, any other
    /// value names a column. Default: text.
    #[serde(default = "default_group")]
    #[schemars(length(min = 1, max = 128))]
    pub group_by: String,
    /// A fixed test set instead of a share: every row of that Dataset becomes a test row, and rows
    /// of this one that share a group with it are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<FixedTest>,
}

impl Default for Split {
    fn default() -> Self {
        Self { seed: default_seed(), fractions: Fractions::default(), group_by: default_group(), test: None }
    }
}

fn default_group() -> String {
    "text".to_owned()
}

/// A fixed test set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FixedTest {
    /// Dataset in this namespace whose rows are the test set; it needs the same text columns and a label.
    pub dataset_ref: LocalRef,
}

/// Shares of train, validation and test.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.train + self.validation + self.test > 0.999999 && self.train + self.validation + self.test < 1.000001").message("spec.split.fractions must add up to 1, such as {train: 0.8, validation: 0.1, test: 0.1}"))]
pub struct Fractions {
    /// Share of the rows that models learn from. Default: 0.8.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub train: f64,
    /// Share that is reported beside the test split and never learned from. Default: 0.1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub validation: f64,
    /// Share that the gate judges. Default: 0.1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub test: f64,
}

impl Default for Fractions {
    fn default() -> Self {
        Self { train: 0.8, validation: 0.1, test: 0.1 }
    }
}

/// What is known of the snapshot.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatasetStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Number of the snapshot, counted up whenever the data changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// `sha256:` digest of the snapshot's manifest: equal digests mean equal rows, labels and splits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// `sha256:` digest of the snapshot's Parquet file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_digest: Option<String>,
    /// Size of the Parquet file in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// Rows in the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<i64>,
    /// Rows that were left out because they cannot be used (no text, broken line, duplicate id).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected_rows: Option<i64>,
    /// Rows that were left out because a row of `spec.split.test` is the same product or has the same
    /// text; absent without a fixed test set, and for a snapshot that was made before they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap_rows: Option<i64>,
    /// Pictures of the rows, without those of `spec.split.test`; absent without `spec.schema.image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<ImageCounts>,
    /// Distinct labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<i64>,
    /// Rows and digest of each part: train, validation, test.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 3))]
    pub splits: BTreeMap<String, SplitStatus>,
    /// Summary of the profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileSummary>,
    /// Progress of the ingest in percent, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_percentage: Option<i32>,
    /// Job of the current attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    /// Attempts made for the current generation: above 1 only when a Job vanished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,
    /// When the snapshot was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_refresh_time: Option<Time>,
    /// Cause of the latest failure; gone when the ingest succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LastFailure>,
    /// Standard conditions.
    #[serde(default)]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// Pictures of the rows that this Dataset's own table gives to the snapshot. Rows of `spec.split.test`
/// bring their pictures along and are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageCounts {
    /// Own rows with a usable picture; it is in the snapshot.
    pub count: i64,
    /// Own rows whose picture is not there.
    pub missing: i64,
    /// Own rows whose picture is there and cannot be used: broken, animated, too large, not a picture.
    pub unreadable: i64,
}

/// One part of the snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SplitStatus {
    /// Rows of the part.
    pub rows: i64,
    /// `sha256:` digest of its rows.
    pub digest: String,
}

/// Summary of the profile; the whole profile is an artifact of the snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileSummary {
    /// `sha256:` digest of the whole profile (JSON).
    pub digest: String,
    /// Share of empty cells by text column, as a decimal text such as `0.352`.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 16))]
    pub null_ratios: BTreeMap<String, String>,
    /// Largest of the shares of empty cells, as a decimal text.
    pub max_null_ratio: String,
    /// Rows of the largest class over rows of the smallest, as a decimal text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imbalance_ratio: Option<String>,
    /// Mean length of the joined text in characters.
    pub mean_text_length: i64,
    /// Groups of rows with the same text (or group column).
    pub groups: i64,
}
