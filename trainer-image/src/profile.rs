//! The profile of a snapshot: what a person wants to know about data before training on them.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::snapshot::Row;
use crate::split::{GroupKey, Part};

/// Upper bounds of the length histogram's bins in characters; one more bin holds the rest.
const LENGTH_BINS: [u32; 12] = [0, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10240];

/// Statistics of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// Rows in the snapshot.
    pub rows: u64,
    /// Text columns by name.
    pub columns: BTreeMap<String, ColumnProfile>,
    /// Lengths of the joined texts.
    pub joined: Lengths,
    /// Classes, the largest first.
    pub classes: Vec<ClassProfile>,
    /// Rows of the largest class over rows of the smallest; none without labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imbalance_ratio: Option<f64>,
    /// Groups of rows that stay together.
    pub groups: u64,
    /// Rows whose normalised text is that of an earlier row.
    pub duplicate_rows: u64,
    /// Rows of the source that are not in the snapshot.
    pub rejected: Rejected,
    /// Rows in the snapshot whose picture is missing or cannot be used, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub without_picture: BTreeMap<String, RejectedFor>,
    /// Rows left out because their group is in the fixed test set.
    pub overlap_rows: u64,
    /// Rows left out by the sample.
    pub unsampled_rows: u64,
    /// Label rows without a feature row.
    pub unmatched_label_rows: u64,
}

/// Rows that could not be used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejected {
    /// All.
    pub rows: u64,
    /// By reason.
    pub reasons: BTreeMap<String, RejectedFor>,
}

/// Rows that could not be used for one reason.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RejectedFor {
    /// How many.
    pub rows: u64,
    /// Line where the first of them begins.
    pub first_line: u64,
    /// What is wrong with it.
    pub example: String,
}

/// Statistics of one text column.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColumnProfile {
    /// Empty cells.
    pub nulls: u64,
    /// Empty cells over rows.
    pub null_ratio: f64,
    /// Lengths of the cells that are not empty.
    pub length: Lengths,
}

/// Lengths in characters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lengths {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: u32,
    /// 95th percentile.
    pub p95: u32,
    /// Longest.
    pub max: u32,
    /// Counts of lengths up to `upTo` and above the bin before; `upTo` none: the rest.
    pub histogram: Vec<Bin>,
}

/// One bin of a histogram.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bin {
    /// Upper bound, included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<u32>,
    /// How many.
    pub count: u64,
}

/// Rows of one class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassProfile {
    /// The label.
    pub label: String,
    /// Its readable name.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// Rows by part.
    pub parts: BTreeMap<String, u64>,
}

/// Collects the statistics row by row: four bytes per cell are kept for the percentiles.
#[derive(Debug, Default)]
pub struct Profiler {
    rows: u64,
    lengths: Vec<Vec<u32>>,
    joined: Vec<u32>,
    classes: BTreeMap<String, BTreeMap<Part, u64>>,
    groups: HashSet<GroupKey>,
    texts: HashSet<GroupKey>,
    duplicates: u64,
}

impl Profiler {
    /// For so many text columns.
    pub fn new(columns: usize) -> Self {
        Self { lengths: vec![Vec::new(); columns], ..Self::default() }
    }

    /// Adds a row; `text` is the key of its normalised text.
    pub fn push(&mut self, row: &Row, text: GroupKey) {
        self.rows += 1;
        let mut joined = 0;
        for (lengths, cell) in self.lengths.iter_mut().zip(&row.texts) {
            let Some(cell) = cell else { continue };
            let length = u32::try_from(cell.chars().count()).unwrap_or(u32::MAX);
            // One blank between columns.
            joined += length + u32::from(joined > 0);
            lengths.push(length);
        }
        self.joined.push(joined);
        if let Some(label) = &row.label {
            let class = self.classes.entry(label.clone()).or_default();
            *class.entry(row.part).or_default() += 1;
        }
        self.groups.insert(row.group);
        self.duplicates += u64::from(!self.texts.insert(text));
    }

    /// Groups so far.
    pub fn groups(&self) -> u64 {
        self.groups.len() as u64
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Number of different labels so far.
    pub fn classes(&self) -> usize {
        self.classes.len()
    }

    /// Labels so far.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.classes.keys().map(String::as_str)
    }

    /// The profile, without what only the source knows (`rejected` and what was left out).
    pub fn finish(self, columns: &[String], names: &BTreeMap<String, String>) -> Profile {
        let rows = self.rows;
        let column = |(name, lengths): (&String, Vec<u32>)| {
            let nulls = rows - lengths.len() as u64;
            let null_ratio = round(nulls as f64 / rows.max(1) as f64);
            (name.clone(), ColumnProfile { nulls, null_ratio, length: Lengths::of(lengths) })
        };
        let class = |(label, parts): (String, BTreeMap<Part, u64>)| ClassProfile {
            name: names.get(&label).cloned().unwrap_or_default(),
            rows: parts.values().sum(),
            parts: parts.into_iter().map(|(part, rows)| (part.as_str().to_owned(), rows)).collect(),
            label,
        };
        let groups = self.groups();
        let mut classes: Vec<_> = self.classes.into_iter().map(class).collect();
        classes.sort_by(|a, b| b.rows.cmp(&a.rows).then_with(|| a.label.cmp(&b.label)));
        let ratio =
            classes.first().zip(classes.last()).map(|(most, least)| most.rows as f64 / least.rows as f64);
        Profile {
            rows,
            columns: columns.iter().zip(self.lengths).map(column).collect(),
            joined: Lengths::of(self.joined),
            classes,
            imbalance_ratio: ratio.map(round),
            groups,
            duplicate_rows: self.duplicates,
            ..Profile::default()
        }
    }
}

impl Lengths {
    fn of(mut lengths: Vec<u32>) -> Self {
        lengths.sort_unstable();
        let count = lengths.len();
        // Nearest rank: the least length that so many percent do not exceed.
        let percentile = |p: usize| lengths.get((count * p).div_ceil(100).saturating_sub(1)).copied();
        let bounds = LENGTH_BINS.iter().map(|&bound| Some(bound)).chain([None]);
        let mut below = 0;
        let bin = |up_to: Option<u32>| {
            let end = up_to.map_or(count, |bound| lengths.partition_point(|&length| length <= bound));
            let bin = Bin { up_to, count: (end - below) as u64 };
            below = end;
            bin
        };
        Self {
            histogram: bounds.map(bin).collect(),
            mean: round(lengths.iter().map(|&length| f64::from(length)).sum::<f64>() / count.max(1) as f64),
            p50: percentile(50).unwrap_or_default(),
            p95: percentile(95).unwrap_or_default(),
            max: lengths.last().copied().unwrap_or_default(),
        }
    }
}

/// To six decimals.
pub fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}
