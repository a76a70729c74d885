//! Terms and their numbers: a string arena with a hash index over it.
//!
//! The arena (offsets and bytes) is what an artifact stores; the index is made when it is loaded.
//! Looking up a term allocates nothing.

/// No term has this number.
const FREE: u32 = u32::MAX;

/// The fitted features of a model: words and their n-grams in ascending byte order, then the character
/// n-grams in theirs; the position is the feature number.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Vocabulary {
    /// How many terms are words and their n-grams; the rest are character n-grams.
    pub(crate) words: usize,
    /// `len + 1` offsets into `bytes`; the first is 0.
    pub(crate) offsets: Vec<u32>,
    /// All terms, one after the other.
    pub(crate) bytes: Vec<u8>,
    /// Inverse document frequency of each term.
    pub(crate) idf: Vec<f32>,
}

impl Vocabulary {
    /// Number of terms.
    pub fn len(&self) -> usize {
        self.idf.len()
    }

    /// True when there is no term.
    pub fn is_empty(&self) -> bool {
        self.idf.is_empty()
    }

    /// How many terms are words and their n-grams: they come first.
    pub fn words(&self) -> usize {
        self.words
    }

    /// The terms, ascending within their block, as text.
    pub fn terms(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|i| std::str::from_utf8(slot(&self.offsets, &self.bytes, i)).unwrap_or_default())
    }

    /// Inverse document frequencies, in the order of the terms.
    pub fn idf(&self) -> &[f32] {
        &self.idf
    }
}

pub(crate) fn slot<'a>(offsets: &[u32], bytes: &'a [u8], i: usize) -> &'a [u8] {
    &bytes[offsets[i] as usize..offsets[i + 1] as usize]
}

/// Eight bytes at a time, multiply and rotate; a last mix, because the low bits choose the slot.
fn hash(key: &[u8]) -> u64 {
    const K: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut h = key.len() as u64;
    let mut chunks = key.chunks_exact(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        h = (h.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(K);
    }
    let rest = chunks.remainder();
    let mut word = [0; 8];
    word[..rest.len()].copy_from_slice(rest);
    h = (h.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(K);
    (h ^ (h >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) ^ (h >> 32)
}

/// Open addressing, linear probing, at most half full; holds term numbers only.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    slots: Vec<u32>,
}

impl Index {
    /// An index over `len` terms of an arena, which must be distinct.
    pub(crate) fn over(offsets: &[u32], bytes: &[u8]) -> Self {
        let len = offsets.len().saturating_sub(1);
        let mut index = Self { slots: vec![FREE; (len * 2).next_power_of_two().max(2)] };
        for i in 0..len {
            index.place(hash(slot(offsets, bytes, i)), i as u32);
        }
        index
    }

    fn place(&mut self, hash: u64, id: u32) {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at] != FREE {
            at = (at + 1) & mask;
        }
        self.slots[at] = id;
    }

    pub(crate) fn get(&self, offsets: &[u32], bytes: &[u8], key: &[u8]) -> Option<u32> {
        self.find(hash(key), offsets, bytes, key)
    }

    fn find(&self, hash: u64, offsets: &[u32], bytes: &[u8], key: &[u8]) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let id = self.slots[at];
            if id == FREE {
                return None;
            }
            if slot(offsets, bytes, id as usize) == key {
                return Some(id);
            }
            at = (at + 1) & mask;
        }
    }
}

/// Gives every new term the next number; used while fitting.
#[derive(Debug, Clone)]
pub(crate) struct Interner {
    offsets: Vec<u32>,
    bytes: Vec<u8>,
    index: Index,
}

impl Default for Interner {
    fn default() -> Self {
        Self { offsets: vec![0], bytes: Vec::new(), index: Index { slots: vec![FREE; 1024] } }
    }
}

impl Interner {
    pub(crate) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    pub(crate) fn term(&self, id: u32) -> &[u8] {
        slot(&self.offsets, &self.bytes, id as usize)
    }

    /// `None` when the arena has no room left (4 GiB of distinct terms).
    pub(crate) fn intern(&mut self, term: &str) -> Option<u32> {
        let key = term.as_bytes();
        let hashed = hash(key);
        if let Some(id) = self.index.find(hashed, &self.offsets, &self.bytes, key) {
            return Some(id);
        }
        let end = u32::try_from(self.bytes.len() + key.len()).ok()?;
        let id = self.len() as u32;
        self.bytes.extend_from_slice(key);
        self.offsets.push(end);
        if self.len() * 2 > self.index.slots.len() {
            self.grow();
        } else {
            self.index.place(hashed, id);
        }
        Some(id)
    }

    fn grow(&mut self) {
        let mut index = Index { slots: vec![FREE; self.index.slots.len() * 2] };
        for id in 0..self.len() {
            index.place(hash(slot(&self.offsets, &self.bytes, id)), id as u32);
        }
        self.index = index;
    }
}

#[cfg(test)]
mod tests {
    use super::{Index, Interner};

    #[test]
    fn interned_terms_keep_their_number() {
        let mut terms = Interner::default();
        let words: Vec<String> = (0..5000).map(|i| format!("mot {i}")).collect();
        for (i, word) in words.iter().enumerate() {
            assert_eq!(terms.intern(word), Some(i as u32));
        }
        for (i, word) in words.iter().enumerate() {
            assert_eq!(terms.intern(word), Some(i as u32));
            assert_eq!(terms.term(i as u32), word.as_bytes());
        }
        assert_eq!(terms.len(), 5000);
    }

    #[test]
    fn an_index_finds_what_is_there_and_nothing_else() {
        let mut terms = Interner::default();
        for i in 0..1000 {
            terms.intern(&format!("terme{i}"));
        }
        let index = Index::over(&terms.offsets, &terms.bytes);
        for i in 0..1000u32 {
            let key = format!("terme{i}");
            assert_eq!(index.get(&terms.offsets, &terms.bytes, key.as_bytes()), Some(i));
        }
        for key in ["terme1000", "terme", "", "terme1 terme2"] {
            assert_eq!(index.get(&terms.offsets, &terms.bytes, key.as_bytes()), None, "{key}");
        }
    }

    #[test]
    fn an_empty_index_answers() {
        assert_eq!(Index::over(&[0], &[]).get(&[0], &[], b"x"), None);
    }
}
