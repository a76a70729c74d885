//! A snapshot as training sees it. Labels, groups and parts are kept; texts are read from the file
//! each time they are needed, so that memory holds n-gram counts and not texts too.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use vitrine_model::{Corpus, TextSettings};

use crate::Error;
use crate::snapshot::{Reader, Row};
use crate::split::Part;

/// Text columns of one row.
pub type Texts = Vec<Option<String>>;

/// A snapshot's labelled rows.
pub struct TrainingData {
    reader: Reader,
    /// Labels of the train part, in the order of class numbers.
    pub labels: Vec<String>,
    /// Class of each train row.
    pub classes: Vec<u32>,
    /// Group of each train row.
    pub groups: Vec<u64>,
    /// Rows without a label, which training does not use.
    pub unlabelled: u64,
    /// Labelled rows by part.
    pub rows: BTreeMap<Part, usize>,
}

/// Labelled rows of one part that is not trained on.
#[derive(Debug, Default)]
pub struct HeldOut {
    /// Texts of each row.
    pub texts: Vec<Texts>,
    /// Class of each row; from the number of classes on: labels that the train part lacks.
    pub truth: Vec<u32>,
    /// Labels that the train part lacks.
    pub unseen: Vec<String>,
}

impl TrainingData {
    /// Reads labels, groups and parts.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let reader = Reader::open(path)?;
        let mut names: HashMap<String, u32> = HashMap::new();
        let mut out = Self {
            labels: Vec::new(),
            classes: Vec::new(),
            groups: Vec::new(),
            unlabelled: 0,
            rows: BTreeMap::new(),
            reader,
        };
        let (mut labels, mut classes, mut groups) = (Vec::new(), Vec::new(), Vec::new());
        out.reader.for_each(|row| {
            let Some(label) = row.label else {
                out.unlabelled += 1;
                return Ok(());
            };
            *out.rows.entry(row.part).or_default() += 1;
            if row.part != Part::Train {
                return Ok(());
            }
            let next = names.len() as u32;
            classes.push(*names.entry(label).or_insert_with_key(|label| {
                labels.push(label.clone());
                next
            }));
            groups.push(row.group.number());
            Ok(())
        })?;
        // Class numbers follow the labels, not the order of rows.
        let mut order: Vec<u32> = (0..labels.len() as u32).collect();
        order.sort_by(|&a, &b| by_number_or_text(&labels[a as usize], &labels[b as usize]));
        let mut number_of = vec![0; order.len()];
        order.iter().enumerate().for_each(|(number, &old)| number_of[old as usize] = number as u32);
        out.labels = order.iter().map(|&old| labels[old as usize].clone()).collect();
        out.classes = classes.iter().map(|&old| number_of[old as usize]).collect();
        out.groups = groups;
        out.check()
    }

    fn check(self) -> Result<Self, Error> {
        let corrupt = |message: String| Err(Error::DataCorrupt(message));
        match self.labels.as_slice() {
            [] if self.rows.is_empty() => corrupt(format!(
                "none of the {} rows has a label; name the label column in the Dataset's schema.label",
                self.reader.rows
            )),
            [] => corrupt("the train part has no labelled row; raise split.fractions.train".to_owned()),
            [only] => corrupt(format!(
                "all {} train rows have the label {only:?}; a classifier needs two classes at least",
                self.classes.len()
            )),
            _ => Ok(self),
        }
    }

    /// Names of the text columns.
    pub fn text_columns(&self) -> &[String] {
        &self.reader.texts
    }

    /// Classes with fewer groups than folds: some fold then learns or judges without them.
    /// Label, rows and groups of each.
    pub fn thin_classes(&self, folds: usize) -> Vec<(String, usize, usize)> {
        let mut groups = vec![HashSet::new(); self.labels.len()];
        let mut rows = vec![0; self.labels.len()];
        for (&class, &group) in self.classes.iter().zip(&self.groups) {
            groups[class as usize].insert(group);
            rows[class as usize] += 1;
        }
        let counts = groups.iter().map(HashSet::len).zip(rows);
        let all = self.labels.iter().zip(counts);
        all.filter(|(_, (groups, _))| *groups < folds)
            .map(|(label, (groups, rows))| (label.clone(), rows, groups))
            .collect()
    }

    /// N-gram counts of the train rows.
    pub fn corpus(&self, settings: &TextSettings) -> Result<Corpus, Error> {
        let mut corpus = Corpus::new(settings)?;
        self.train_rows(|_, row| {
            let texts: Vec<_> = row.texts.iter().map(Option::as_deref).collect();
            Ok(corpus.push(&texts)?)
        })?;
        Ok(corpus)
    }

    /// Texts of these train rows, in this order.
    pub fn texts(&self, wanted: &[usize]) -> Result<Vec<Texts>, Error> {
        let mut found = vec![Texts::new(); wanted.len()];
        self.train_rows(|number, row| {
            for (place, _) in wanted.iter().enumerate().filter(|&(_, &row)| row == number) {
                found[place].clone_from(&row.texts);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The labelled rows of a part.
    pub fn held_out(&self, part: Part) -> Result<HeldOut, Error> {
        let mut numbers: HashMap<String, u32> =
            self.labels.iter().enumerate().map(|(number, label)| (label.clone(), number as u32)).collect();
        let mut out = HeldOut::default();
        self.reader.for_each(|row| {
            let Some(label) = row.label.filter(|_| row.part == part) else { return Ok(()) };
            let next = numbers.len() as u32;
            out.truth.push(*numbers.entry(label).or_insert_with_key(|label| {
                out.unseen.push(label.clone());
                next
            }));
            out.texts.push(row.texts);
            Ok(())
        })?;
        Ok(out)
    }

    fn train_rows(&self, mut each: impl FnMut(usize, &Row) -> Result<(), Error>) -> Result<(), Error> {
        let mut number = 0;
        self.reader.for_each(|row| {
            if row.part == Part::Train && row.label.is_some() {
                each(number, &row)?;
                number += 1;
            }
            Ok(())
        })
    }
}

/// Numbers before texts, numbers by value: people read the classes in this order.
fn by_number_or_text(a: &str, b: &str) -> std::cmp::Ordering {
    let key = |label: &str| label.parse::<i64>().map_or((1, 0), |number| (0, number));
    key(a).cmp(&key(b)).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_ordered_as_people_count() {
        let mut labels = ["b", "100", "20", "a", "-3"];
        labels.sort_by(|a, b| by_number_or_text(a, b));
        assert_eq!(labels, ["-3", "20", "100", "a", "b"]);
    }
}
