//! All rows of a training job as n-gram counts, tokenised once.
//!
//! Every fold and every grid point that shares text settings fits and transforms from these
//! integers; no text is read twice. Row numbers are the order of [`Corpus::push`].

use crate::csr::Csr;
use crate::settings::{CharSettings, SettingsError, TextSettings};
use crate::text::{Tokenizer, Tokens};
use crate::tfidf::{Weigher, idf};
use crate::vocab::{Interner, Vocabulary};

/// The term was not selected.
const NOT_SELECTED: u32 = u32::MAX;

/// Why no features could be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FitError {
    /// The settings cannot work.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No term passed the document frequency bounds.
    #[error(
        "no term of {rows} rows occurs in at least {min_df} and at most {max_df} of them; lower {block}minDf or raise {block}maxDf"
    )]
    EmptyVocabulary {
        /// `char.` for the character n-grams, empty for the words'.
        block: &'static str,
        /// Rows that were looked at.
        rows: usize,
        /// Lower bound in documents.
        min_df: u32,
        /// Upper bound in documents.
        max_df: f64,
    },
    /// More distinct n-grams than 32-bit offsets can hold.
    #[error("the distinct n-grams take more than 4 GiB; lower ngramRange or use fewer rows")]
    TooLarge,
}

/// N-gram counts of every row.
#[derive(Debug)]
pub struct Corpus {
    settings: TextSettings,
    tokenizer: Tokenizer,
    words: Block,
    chars: Option<Block>,
    tokens: Tokens,
    row: Vec<u32>,
}

/// One kind of n-grams: the distinct ones, and how often each row has which.
#[derive(Debug)]
struct Block {
    terms: Interner,
    indptr: Vec<usize>,
    counts: Vec<(u32, u32)>,
}

/// Which terms of a block become features.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// What its settings are called by in errors.
    block: &'static str,
    min_df: u32,
    max_df: f64,
    max_features: Option<u32>,
}

/// Terms selected from the rows of one fold, with their weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    words: Selected,
    chars: Option<Selected>,
}

/// The features of one block.
#[derive(Debug, Clone, PartialEq)]
struct Selected {
    /// Feature number of each term of the block, or `NOT_SELECTED`.
    feature_of: Vec<u32>,
    /// Term of each feature.
    term_of: Vec<u32>,
    idf: Vec<f32>,
}

impl Features {
    /// Number of features.
    pub fn len(&self) -> usize {
        self.words.term_of.len() + self.chars.as_ref().map_or(0, |chars| chars.term_of.len())
    }

    /// True when there is no feature; [`Corpus::fit`] never returns such a value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Block {
    fn new() -> Self {
        Self { terms: Interner::default(), indptr: vec![0], counts: Vec::new() }
    }

    /// One more row; `grams` calls its argument for each n-gram of it. `ids` is scratch space.
    fn push(&mut self, ids: &mut Vec<u32>, grams: impl FnOnce(&mut dyn FnMut(&str))) -> Result<(), FitError> {
        ids.clear();
        let terms = &mut self.terms;
        let mut full = false;
        grams(&mut |gram| match terms.intern(gram) {
            Some(id) => ids.push(id),
            None => full = true,
        });
        if full {
            return Err(FitError::TooLarge);
        }
        count_sorted(ids, &mut self.counts);
        self.indptr.push(self.counts.len());
        Ok(())
    }

    fn row(&self, row: u32) -> &[(u32, u32)] {
        &self.counts[self.indptr[row as usize]..self.indptr[row as usize + 1]]
    }

    fn fit(&self, rows: &[u32], bounds: Bounds) -> Result<Selected, FitError> {
        let mut document_frequency = vec![0u32; self.terms.len()];
        let mut total = vec![0u64; self.terms.len()];
        for &row in rows {
            for &(term, count) in self.row(row) {
                document_frequency[term as usize] += 1;
                total[term as usize] += u64::from(count);
            }
        }
        let (min_df, max_df) = (bounds.min_df.max(1), bounds.max_df * rows.len() as f64);
        let mut chosen: Vec<u32> = (0..self.terms.len() as u32)
            .filter(|&term| {
                let df = document_frequency[term as usize];
                df >= min_df && f64::from(df) <= max_df
            })
            .collect();
        if chosen.is_empty() {
            return Err(FitError::EmptyVocabulary { block: bounds.block, rows: rows.len(), min_df, max_df });
        }
        if let Some(limit) = bounds.max_features.map(|n| n as usize)
            && limit < chosen.len()
        {
            // The most frequent; among equals the first in byte order, so that the choice is one only.
            chosen.select_nth_unstable_by(limit, |&a, &b| {
                total[b as usize]
                    .cmp(&total[a as usize])
                    .then_with(|| self.terms.term(a).cmp(self.terms.term(b)))
            });
            chosen.truncate(limit);
        }
        chosen.sort_unstable_by(|&a, &b| self.terms.term(a).cmp(self.terms.term(b)));
        let mut feature_of = vec![NOT_SELECTED; self.terms.len()];
        let mut weights = Vec::with_capacity(chosen.len());
        for (feature, &term) in chosen.iter().enumerate() {
            feature_of[term as usize] = feature as u32;
            weights.push(idf(rows.len(), document_frequency[term as usize]));
        }
        Ok(Selected { feature_of, term_of: chosen, idf: weights })
    }

    /// Counts of a row by feature of the block, ascending, into `counts`.
    fn select(&self, selected: &Selected, row: u32, counts: &mut Vec<(u32, u32)>) {
        counts.clear();
        counts.extend(self.row(row).iter().filter_map(|&(term, count)| {
            let feature = selected.feature_of[term as usize];
            (feature != NOT_SELECTED).then_some((feature, count))
        }));
        counts.sort_unstable_by_key(|&(feature, _)| feature);
    }

    fn append_terms(&self, selected: &Selected, out: &mut Vocabulary) {
        out.idf.extend(&selected.idf);
        for &term in &selected.term_of {
            out.bytes.extend_from_slice(self.terms.term(term));
            out.offsets.push(out.bytes.len() as u32);
        }
    }
}

impl Corpus {
    /// No rows yet.
    pub fn new(settings: &TextSettings) -> Result<Self, FitError> {
        settings.validate()?;
        Ok(Self {
            settings: settings.clone(),
            tokenizer: Tokenizer::new(settings),
            words: Block::new(),
            chars: settings.chars.is_some().then(Block::new),
            tokens: Tokens::default(),
            row: Vec::new(),
        })
    }

    /// Counts the n-grams of one more row (its text columns).
    pub fn push(&mut self, columns: &[Option<&str>]) -> Result<(), FitError> {
        let Self { tokenizer, tokens, row, .. } = self;
        tokenizer.tokenize(columns, tokens);
        self.words.push(row, |each| tokenizer.ngrams(tokens, each))?;
        match &mut self.chars {
            Some(chars) => chars.push(row, |each| tokenizer.char_ngrams(tokens, each)),
            None => Ok(()),
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.words.indptr.len() - 1
    }

    /// True when no row was pushed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The settings that it was made with.
    pub fn settings(&self) -> &TextSettings {
        &self.settings
    }

    /// Selects and weighs the features from these rows only.
    pub fn fit(&self, rows: &[u32]) -> Result<Features, FitError> {
        let TextSettings { min_df, max_df, max_features, .. } = self.settings;
        let words = self.words.fit(rows, Bounds { block: "", min_df, max_df, max_features })?;
        let chars = match (&self.chars, &self.settings.chars) {
            (Some(block), Some(chars)) => {
                let CharSettings { min_df, max_df, max_features, .. } = *chars;
                Some(block.fit(rows, Bounds { block: "char.", min_df, max_df, max_features })?)
            }
            _ => None,
        };
        Ok(Features { words, chars })
    }

    /// The matrix of these rows, in this order: the words' block, then that of the character n-grams.
    pub fn transform(&self, features: &Features, rows: &[u32]) -> Csr {
        let (of_words, of_chars) = Weigher::blocks(&self.settings, features.words.term_of.len());
        let mut out = Csr::empty(features.len());
        let mut counts = Vec::new();
        for &row in rows {
            self.words.select(&features.words, row, &mut counts);
            of_words.push(&counts, &features.words.idf, &mut out);
            if let (Some(block), Some(selected), Some(weigher)) = (&self.chars, &features.chars, of_chars) {
                block.select(selected, row, &mut counts);
                weigher.push(&counts, &selected.idf, &mut out);
            }
            out.finish_row();
        }
        out
    }

    /// [`Corpus::fit`] and [`Corpus::transform`] of the same rows.
    pub fn fit_transform(&self, rows: &[u32]) -> Result<(Features, Csr), FitError> {
        let features = self.fit(rows)?;
        let matrix = self.transform(&features, rows);
        Ok((features, matrix))
    }

    /// The terms of the features as text, for a model.
    pub fn vocabulary(&self, features: &Features) -> Vocabulary {
        let words = features.words.term_of.len();
        let mut out = Vocabulary { words, offsets: vec![0], ..Vocabulary::default() };
        self.words.append_terms(&features.words, &mut out);
        if let (Some(block), Some(selected)) = (&self.chars, &features.chars) {
            block.append_terms(selected, &mut out);
        }
        out
    }
}

/// Sorts `ids` and appends (id, how often) pairs to `out`.
pub(crate) fn count_sorted(ids: &mut [u32], out: &mut Vec<(u32, u32)>) {
    ids.sort_unstable();
    out.extend(ids.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u32)));
}

#[cfg(test)]
mod tests {
    use super::{Corpus, FitError};
    use crate::settings::{CharSettings, StopWords, TextSettings};
    use crate::tfidf::Weighting;

    fn settings() -> TextSettings {
        TextSettings {
            ngram_range: (1, 1),
            stop_words: StopWords::None,
            sublinear_tf: false,
            max_features: None,
            ..TextSettings::default()
        }
    }

    fn corpus(settings: &TextSettings, documents: &[&str]) -> Corpus {
        let mut corpus = Corpus::new(settings).unwrap();
        for document in documents {
            corpus.push(&[Some(document)]).unwrap();
        }
        corpus
    }

    fn terms(settings: &TextSettings, documents: &[&str]) -> Vec<String> {
        let corpus = corpus(settings, documents);
        let features = corpus.fit(&(0..documents.len() as u32).collect::<Vec<_>>()).unwrap();
        corpus.vocabulary(&features).terms().map(str::to_owned).collect()
    }

    #[test]
    fn values_by_hand() {
        let corpus = corpus(&settings(), &["bleu bleu rouge", "rouge vert", "rouge jaune"]);
        let (features, x) = corpus.fit_transform(&[0, 1]).unwrap();
        let vocabulary = corpus.vocabulary(&features);
        assert_eq!(vocabulary.terms().collect::<Vec<_>>(), ["bleu", "rouge", "vert"]);
        // 2 documents: ln(3 / 2) + 1 for one of them, 1 for both
        assert_eq!(vocabulary.idf(), [1.405_465_1, 1.0, 1.405_465_1]);
        // (2 * 1.405465, 1), length sqrt(7.901328 + 1)
        let (indices, values) = x.row(0);
        assert_eq!(indices, [0, 1]);
        assert!(
            (values[0] - 0.942_155_7).abs() < 1e-6 && (values[1] - 0.335_175_7).abs() < 1e-6,
            "{values:?}"
        );
        // the third row was not fitted: its own word is unknown
        let unseen = corpus.transform(&features, &[2]);
        assert_eq!(unseen.row(0), (&[1][..], &[1.0][..]));
    }

    #[test]
    fn document_frequency_bounds_hold_at_their_edges() {
        let documents = ["a1 b1 c1", "a1 b1", "a1 b1", "a1 d1"];
        let with = |min_df, max_df| terms(&TextSettings { min_df, max_df, ..settings() }, &documents);
        assert_eq!(with(1, 1.0), ["a1", "b1", "c1", "d1"]);
        assert_eq!(with(2, 1.0), ["a1", "b1"]);
        assert_eq!(with(1, 0.75), ["b1", "c1", "d1"]);
        assert_eq!(with(3, 0.75), ["b1"]);
    }

    #[test]
    fn the_most_frequent_terms_stay_and_equal_ones_in_order_of_the_alphabet() {
        let documents = ["zz zz zz yy yy", "xx bb aa cc"];
        let with = |n| terms(&TextSettings { max_features: Some(n), ..settings() }, &documents);
        assert_eq!(with(1), ["zz"]);
        assert_eq!(with(2), ["yy", "zz"]);
        assert_eq!(with(4), ["aa", "bb", "yy", "zz"]);
        assert_eq!(with(99), ["aa", "bb", "cc", "xx", "yy", "zz"]);
    }

    #[test]
    fn character_ngrams_follow_the_words_with_bounds_of_their_own() {
        let chars = CharSettings { ngram_range: (3, 3), min_df: 2, weight: 2.0, ..CharSettings::default() };
        let settings = TextSettings { chars: Some(chars), ..settings() };
        let corpus = corpus(&settings, &["robe noir", "robes", "vase"]);
        let (features, x) = corpus.fit_transform(&[0, 1]).unwrap();
        let vocabulary = corpus.vocabulary(&features);
        assert_eq!(vocabulary.terms().collect::<Vec<_>>(), ["noir", "robe", "robes", " ro", "obe", "rob"]);
        assert_eq!((vocabulary.words(), features.len(), x.columns), (3, 6, 6));
        let (indices, values) = x.row(1);
        assert_eq!(indices, [2, 3, 4, 5]);
        // one word; three character n-grams of equal weight, length 2
        let third = 2.0 / 3.0f32.sqrt();
        let expected = [1.0, third, third, third];
        assert!(values.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{values:?}");
    }

    #[test]
    fn the_order_in_which_rows_came_does_not_change_the_features() {
        let settings = TextSettings { ngram_range: (1, 2), max_features: Some(5), ..settings() };
        let one = terms(&settings, &["pompe de piscine", "table de jardin", "pompe de jardin"]);
        let two = terms(&settings, &["pompe de jardin", "table de jardin", "pompe de piscine"]);
        assert_eq!(one, two);
        assert_eq!(one.len(), 5);
    }

    #[test]
    fn no_term_left_is_an_error_that_names_the_bounds() {
        let corpus = corpus(&TextSettings { min_df: 3, ..settings() }, &["aa", "bb"]);
        let error = corpus.fit(&[0, 1]).unwrap_err();
        assert_eq!(error, FitError::EmptyVocabulary { block: "", rows: 2, min_df: 3, max_df: 2.0 });
        let chars = CharSettings { min_df: 9, ..CharSettings::default() };
        let settings = TextSettings { chars: Some(chars), ..settings() };
        let error = self::corpus(&settings, &["aa", "bb"]).fit(&[0, 1]).unwrap_err().to_string();
        assert!(error.contains("at least 9") && error.contains("lower char.minDf"), "{error}");
        assert!(corpus.fit(&[]).is_err());
    }

    #[test]
    fn counts_are_not_scaled() {
        let corpus = corpus(&TextSettings { weighting: Weighting::Count, ..settings() }, &["aa aa bb", ""]);
        let (_, x) = corpus.fit_transform(&[0, 1]).unwrap();
        assert_eq!(x.row(0), (&[0, 1][..], &[2.0, 1.0][..]));
        assert_eq!(x.row(1), (&[][..], &[][..]));
    }
}
