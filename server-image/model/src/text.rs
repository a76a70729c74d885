//! From text columns to tokens, by settings that are data.
//!
//! Steps: the columns joined by a space, entities decoded, tags removed, lower case, accents folded
//! (optional), tokens = runs of alphanumeric characters of a least length, stop words removed, words
//! cut to their stems (optional; of words with their accents, which are folded afterwards). Character n-grams are made of the folded text before it is cut into
//! tokens: of what stands between white space.
//! Nothing else may look at raw text: what is done here is done in training and in serving alike.

use std::collections::HashSet;

use rust_stemmers::{Algorithm, Stemmer};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{decompose_compatible, is_combining_mark};

use crate::html::append_plain;
use crate::settings::{Stemming, StopWords, TextSettings};
use crate::stopwords::FRENCH;

/// Longest token kept, in bytes: longer runs (checksums, base64) are noise and would fill the
/// vocabulary. Character n-grams leave out what is longer between two spaces, for the same reason.
pub const MAX_TOKEN_BYTES: usize = 64;

/// Turns rows into tokens. Made once, used for every row.
pub struct Tokenizer {
    strip_accents: bool,
    min_chars: usize,
    ngrams: (usize, usize),
    char_ngrams: Option<(usize, usize)>,
    stemmer: Option<Stemmer>,
    stop: HashSet<Box<str>>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("ngrams", &self.ngrams).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// With the stop words of this version of the crate.
    pub fn new(settings: &TextSettings) -> Self {
        Self::with_stop_words(settings, &stop_words_of(settings))
    }

    /// With the stop words that an artifact holds.
    pub(crate) fn with_stop_words(settings: &TextSettings, words: &[String]) -> Self {
        let range = |(low, high): (u8, u8)| (usize::from(low), usize::from(high));
        Self {
            strip_accents: settings.strip_accents,
            min_chars: usize::from(settings.min_token_chars),
            ngrams: range(settings.ngram_range),
            char_ngrams: settings.chars.as_ref().map(|chars| range(chars.ngram_range)),
            stemmer: algorithm(settings.stemming).map(Stemmer::create),
            stop: words.iter().map(|word| word.as_str().into()).collect(),
        }
    }

    /// The tokens of one row, into `tokens` (whose buffers are used again). A missing column is empty.
    pub fn tokenize(&self, columns: &[Option<&str>], tokens: &mut Tokens) {
        let Tokens { kept, spans, plain, stage, folded, text } = tokens;
        kept.clear();
        spans.clear();
        plain.clear();
        text.clear();
        for column in columns.iter().flatten() {
            append_plain(column, stage, plain);
            plain.push(' ');
        }
        let mut sink = Sink { kept, spans, folded, text, start: 0, chars: 0, tokenizer: self };
        sink.text.push(' ');
        if plain.is_ascii() || (self.strip_accents && self.stemmer.is_none()) {
            plain.chars().for_each(|c| self.feed(c, &mut sink));
        } else if self.stemmer.is_some() {
            // a stemmer knows accented letters as one character each; what else folding would take
            // apart (fractions, ligatures) is taken apart now, so that tokens end where they do without stems
            plain.nfkc().for_each(|c| self.feed(c, &mut sink));
        } else {
            plain.nfc().for_each(|c| self.feed(c, &mut sink));
        }
        sink.end_token();
        sink.space();
    }

    fn feed(&self, c: char, sink: &mut Sink<'_>) {
        if c.is_ascii() {
            let lower = c.to_ascii_lowercase();
            sink.word(lower);
            sink.any(lower);
            return;
        }
        for lower in c.to_lowercase() {
            // a mark that is left belongs to no letter that a stemmer knows
            if self.stemmer.is_some() && !(self.strip_accents && is_combining_mark(lower)) {
                sink.word(lower);
            }
            if !self.strip_accents {
                if self.stemmer.is_none() {
                    sink.word(lower);
                }
                sink.any(lower);
                continue;
            }
            fold(lower, |part| {
                if self.stemmer.is_none() {
                    sink.word(part);
                }
                sink.any(part);
            });
        }
    }

    /// Calls `each` for every n-gram of the tokens, as text joined by single spaces.
    pub(crate) fn ngrams<'a>(&self, tokens: &'a Tokens, mut each: impl FnMut(&'a str)) {
        for n in self.ngrams.0..=self.ngrams.1 {
            for window in tokens.spans.windows(n) {
                each(&tokens.kept[window[0].0 as usize..window[n - 1].1 as usize]);
            }
        }
    }

    /// Calls `each` for every character n-gram of the row: of each word with a space before and
    /// behind it, all runs of `n` characters, and once the whole of it where it is shorter
    /// (scikit-learn's `char_wb`).
    pub(crate) fn char_ngrams<'a>(&self, tokens: &'a Tokens, mut each: impl FnMut(&'a str)) {
        let Some((low, high)) = self.char_ngrams else { return };
        let mut cuts = [0; MAX_TOKEN_BYTES + 3];
        let mut start = 0;
        for (space, _) in tokens.text.match_indices(' ').skip(1) {
            // the word with the space on each side of it
            let word = &tokens.text[start..=space];
            start = space;
            if word.len() > MAX_TOKEN_BYTES + 2 {
                continue;
            }
            let mut chars = 0;
            for (at, _) in word.char_indices() {
                cuts[chars] = at;
                chars += 1;
            }
            cuts[chars] = word.len();
            for n in low..=high {
                if n >= chars {
                    each(word);
                    break;
                }
                for first in 0..=chars - n {
                    each(&word[cuts[first]..cuts[first + n]]);
                }
            }
        }
    }
}

/// Snowball's algorithm; none: words stay as they are.
fn algorithm(stemming: Stemming) -> Option<Algorithm> {
    Some(match stemming {
        Stemming::None => return None,
        Stemming::French => Algorithm::French,
        Stemming::English => Algorithm::English,
        Stemming::German => Algorithm::German,
        Stemming::Italian => Algorithm::Italian,
        Stemming::Spanish => Algorithm::Spanish,
        Stemming::Portuguese => Algorithm::Portuguese,
        Stemming::Dutch => Algorithm::Dutch,
    })
}

/// A lower-case character without its accents, ligatures taken apart.
fn fold(c: char, mut each: impl FnMut(char)) {
    decompose_compatible(c, |part| match part {
        'œ' => ['o', 'e'].into_iter().for_each(&mut each),
        'æ' => ['a', 'e'].into_iter().for_each(&mut each),
        _ if is_combining_mark(part) => {}
        _ => each(part),
    });
}

/// The list that `settings` ask for, folded as the text will be, sorted.
pub(crate) fn stop_words_of(settings: &TextSettings) -> Vec<String> {
    let words = match settings.stop_words {
        StopWords::None => return Vec::new(),
        StopWords::French => FRENCH,
    };
    let keep_all = TextSettings {
        min_token_chars: 1,
        ngram_range: (1, 1),
        stemming: Stemming::None,
        chars: None,
        ..settings.clone()
    };
    let folder = Tokenizer::with_stop_words(&keep_all, &[]);
    let mut tokens = Tokens::default();
    let mut folded = Vec::with_capacity(words.len());
    for word in words {
        folder.tokenize(&[Some(word)], &mut tokens);
        folded.extend(tokens.iter().map(str::to_owned));
    }
    folded.sort_unstable();
    folded.dedup();
    folded
}

/// The tokens of one row, and the buffers they are made in.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    kept: String,
    spans: Vec<(u32, u32)>,
    plain: String,
    stage: String,
    /// A word without its accents, before its stem is taken.
    folded: String,
    /// The folded text: each word between single spaces, one at either end; no word without
    /// character n-grams.
    text: String,
}

impl Tokens {
    /// The kept tokens in their order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.spans.iter().map(|&(start, end)| &self.kept[start as usize..end as usize])
    }
}

/// Collects characters into tokens; kept tokens lie in one string, one space apart, so that an
/// n-gram is a slice of it and needs no allocation.
struct Sink<'a> {
    kept: &'a mut String,
    spans: &'a mut Vec<(u32, u32)>,
    folded: &'a mut String,
    text: &'a mut String,
    start: usize,
    chars: usize,
    tokenizer: &'a Tokenizer,
}

impl Sink<'_> {
    /// A character for the words.
    fn word(&mut self, c: char) {
        if c.is_alphanumeric() {
            self.kept.push(c);
            self.chars += 1;
        } else if self.chars > 0 {
            self.end_token();
        }
    }

    /// A character for the character n-grams.
    fn any(&mut self, c: char) {
        if self.tokenizer.char_ngrams.is_none() {
            return;
        }
        if c.is_whitespace() {
            self.space();
        } else {
            self.text.push(c);
        }
    }

    fn space(&mut self) {
        if !self.text.ends_with(' ') {
            self.text.push(' ');
        }
    }

    fn end_token(&mut self) {
        let stemmer = self.tokenizer.stemmer.as_ref();
        if stemmer.is_some() {
            self.fold_into(None);
        }
        let token = if stemmer.is_some() { self.folded.as_str() } else { &self.kept[self.start..] };
        let wanted = self.chars >= self.tokenizer.min_chars
            && !token.is_empty()
            && token.len() <= MAX_TOKEN_BYTES
            && !self.tokenizer.stop.contains(token);
        if wanted {
            if let Some(stemmer) = stemmer {
                self.fold_into(Some(stemmer));
                self.kept.truncate(self.start);
                self.kept.push_str(self.folded);
            }
            self.spans.push((self.start as u32, self.kept.len() as u32));
            self.kept.push(' ');
        } else {
            self.kept.truncate(self.start);
        }
        self.start = self.kept.len();
        self.chars = 0;
    }

    /// The word, or its stem, as it is told from others: without accents where these are folded.
    fn fold_into(&mut self, stemmer: Option<&Stemmer>) {
        let word = &self.kept[self.start..];
        let stem = stemmer.map_or(word.into(), |stemmer| stemmer.stem(word));
        self.folded.clear();
        for c in stem.chars() {
            if self.tokenizer.strip_accents {
                fold(c, |part| self.folded.push(part));
            } else {
                self.folded.push(c);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Tokenizer, Tokens};
    use crate::settings::{CharSettings, Stemming, StopWords, TextSettings};

    fn tokens(settings: &TextSettings, columns: &[Option<&str>]) -> Vec<String> {
        let mut tokens = Tokens::default();
        Tokenizer::new(settings).tokenize(columns, &mut tokens);
        tokens.iter().map(str::to_owned).collect()
    }

    fn plain() -> TextSettings {
        TextSettings { stop_words: StopWords::None, min_token_chars: 2, ..TextSettings::default() }
    }

    #[test]
    fn columns_are_joined_cleaned_and_folded() {
        let row = [Some("<b>Étagère</b> murale"), None, Some("ch&ecirc;ne 120cm L'ŒUVRE")];
        assert_eq!(tokens(&plain(), &row), ["etagere", "murale", "chene", "120cm", "oeuvre"]);
    }

    #[test]
    fn accents_stay_when_asked_and_both_spellings_of_unicode_are_one_word() {
        let settings = TextSettings { strip_accents: false, ..plain() };
        let composed = tokens(&settings, &[Some("Étagère")]);
        assert_eq!(composed, ["étagère"]);
        assert_eq!(tokens(&settings, &[Some("E\u{301}tage\u{300}re")]), composed);
        assert_eq!(tokens(&plain(), &[Some("E\u{301}tage\u{300}re")]), ["etagere"]);
    }

    #[test]
    fn stop_words_go_with_and_without_accents() {
        let row = [Some("La chaise qui était à côté de l'étagère")];
        let settings = TextSettings { stop_words: StopWords::French, ..plain() };
        assert_eq!(tokens(&settings, &row), ["chaise", "cote", "etagere"]);
        let accented = TextSettings { strip_accents: false, ..settings };
        assert_eq!(tokens(&accented, &row), ["chaise", "côté", "étagère"]);
    }

    #[test]
    fn short_and_endless_tokens_are_dropped() {
        let long = "x".repeat(65);
        assert_eq!(tokens(&plain(), &[Some("a bb c"), Some(&long)]), ["bb"]);
        let one = TextSettings { min_token_chars: 1, ..plain() };
        assert_eq!(tokens(&one, &[Some("a bb c")]), ["a", "bb", "c"]);
    }

    #[test]
    fn ngrams_cross_removed_words_and_columns_but_not_rows() {
        let settings = TextSettings { ngram_range: (1, 3), stop_words: StopWords::French, ..plain() };
        let tokenizer = Tokenizer::new(&settings);
        let mut tokens = Tokens::default();
        tokenizer.tokenize(&[Some("pompe à chaleur"), Some("piscine")], &mut tokens);
        let mut grams = Vec::new();
        tokenizer.ngrams(&tokens, |gram| grams.push(gram));
        let expected =
            ["pompe", "chaleur", "piscine", "pompe chaleur", "chaleur piscine", "pompe chaleur piscine"];
        assert_eq!(grams, expected);
        tokenizer.tokenize(&[None, Some("")], &mut tokens);
        tokenizer.ngrams(&tokens, |gram| panic!("an empty row has no n-gram, got {gram}"));
    }

    #[test]
    fn stems_are_taken_of_accented_words_and_folded_afterwards() {
        let settings = TextSettings { stemming: Stemming::French, ..plain() };
        let row = [Some("Étagères murales continuellement majestueux E\u{301}tage\u{300}re")];
        // Snowball's own sample vocabulary has continu and majestu; without its accent, etageres gives etager too
        assert_eq!(tokens(&settings, &row), ["etager", "mural", "continuel", "majestu", "etager"]);
        let accented = TextSettings { strip_accents: false, ..settings.clone() };
        assert_eq!(tokens(&accented, &row)[0], "étager");
        let stop = TextSettings { stop_words: StopWords::French, ..settings };
        assert_eq!(tokens(&stop, &[Some("les étagères qui étaient là")]), ["etager"]);
    }

    proptest::proptest! {
        /// Untrusted rows meet the stemmers: no panic, no empty token, and tokens end where they do
        /// without stems.
        #[test]
        fn stemmers_bear_any_text(text in "(\\PC|[a-zàâäçéèêëîïôöùûüÿœæßñáíóúãõìò' ½ﷺİ\u{300}-\u{310}]){0,40}") {
            let count = |stemming| {
                // a letter that folding takes apart counts as several, and as one for a stemmer
                let settings = TextSettings { stemming, min_token_chars: 1, ..plain() };
                let found = tokens(&settings, &[Some(text.as_str())]);
                proptest::prop_assert!(found.iter().all(|token| !token.is_empty()), "{found:?}");
                proptest::prop_assert!(found.iter().all(|t| t.chars().all(char::is_alphanumeric)), "{found:?}");
                Ok(found.len())
            };
            let whole = count(Stemming::None)?;
            for stemming in Stemming::ALL {
                proptest::prop_assert_eq!(count(stemming)?, whole, "{:?} {:?}", stemming, &text);
            }
        }
    }

    #[test]
    fn every_language_has_its_stemmer() {
        let of = |stemming, word| tokens(&TextSettings { stemming, ..plain() }, &[Some(word)]).join(" ");
        for (stemming, word, stem) in [
            (Stemming::None, "chairs", "chairs"),
            (Stemming::French, "chaises", "chais"),
            (Stemming::English, "chairs", "chair"),
            (Stemming::German, "tischen", "tisch"),
            (Stemming::Italian, "abbandonata", "abbandon"),
            (Stemming::Spanish, "chicas", "chic"),
            (Stemming::Portuguese, "boas", "boas"),
            (Stemming::Dutch, "lichamelijke", "licham"),
        ] {
            assert_eq!(of(stemming, word), stem, "{stemming:?}");
        }
    }

    fn char_grams(low: u8, high: u8, columns: &[Option<&str>]) -> Vec<String> {
        let chars = CharSettings { ngram_range: (low, high), ..CharSettings::default() };
        let tokenizer = Tokenizer::new(&TextSettings { chars: Some(chars), ..plain() });
        let mut tokens = Tokens::default();
        tokenizer.tokenize(columns, &mut tokens);
        let mut grams = Vec::new();
        tokenizer.char_ngrams(&tokens, |gram| grams.push(gram.to_owned()));
        grams
    }

    #[test]
    fn character_ngrams_stay_within_words_and_know_their_ends() {
        assert_eq!(
            char_grams(3, 3, &[Some("Clé  <b>USB</b>"), Some("é")]),
            [" cl", "cle", "le ", " us", "usb", "sb ", " e "]
        );
        // a word that is shorter than the n-gram counts once, whatever longer n-grams there are
        assert_eq!(char_grams(4, 6, &[Some("le")]), [" le "]);
        assert_eq!(char_grams(2, 3, &[Some("a-b")]), [" a", "a-", "-b", "b ", " a-", "a-b", "-b "]);
        assert_eq!(char_grams(2, 3, &[None, Some("  ")]), Vec::<String>::new());
        let long = format!("{} ok", "x".repeat(65));
        assert_eq!(char_grams(4, 4, &[Some(&long)]), [" ok "]);
    }

    #[test]
    fn stems_do_not_reach_the_character_ngrams() {
        let chars = CharSettings { ngram_range: (8, 8), ..CharSettings::default() };
        let settings = TextSettings { chars: Some(chars), stemming: Stemming::French, ..plain() };
        let (tokenizer, mut tokens) = (Tokenizer::new(&settings), Tokens::default());
        tokenizer.tokenize(&[Some("Étagères")], &mut tokens);
        let mut grams = Vec::new();
        tokenizer.char_ngrams(&tokens, |gram| grams.push(gram));
        assert_eq!(grams, [" etagere", "etageres", "tageres "]);
    }
}
