//! What an input tensor holds: its shape and its elements, as texts or as what is wrong with them.

use serde::de::{Error as JsonError, IgnoredAny, MapAccess, SeqAccess};

use super::json::{As, Take};
use super::tensors::Reader;

/// Dimensions that a shape may have; of a longer one only the beginning is kept.
const DIMENSIONS: usize = 2;

/// Reads the shape of a tensor, which stands at this place: at most one dimension more than it may have.
pub struct Shape<'a>(pub Reader<'a>, pub String);

impl<'de> Take<'de> for Shape<'_> {
    type Made = Vec<u64>;

    fn refuse<E: JsonError>(self, found: &'static str) -> Result<Vec<u64>, E> {
        self.0.expected("a list of numbers", found, self.1)
    }

    fn list<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u64>, A::Error> {
        let mut shape = Vec::new();
        while let Some(number) = list.next_element_seed(As(Dimension(self.0, &self.1)))? {
            if shape.len() <= DIMENSIONS {
                shape.push(number);
            }
        }
        Ok(shape)
    }
}

struct Dimension<'a>(Reader<'a>, &'a str);

impl Take<'_> for Dimension<'_> {
    type Made = u64;

    fn refuse<E: JsonError>(self, found: &'static str) -> Result<u64, E> {
        let found = if found == "a number" { "another number" } else { found };
        self.0.expected("a whole number from 0", found, self.1)
    }

    fn whole<E: JsonError>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }
}

/// The elements of a tensor.
pub struct Data {
    /// At most as many as are taken at once, and none after a wrong one.
    pub cells: Vec<Option<String>>,
    /// How many there were.
    pub rows: usize,
    /// The first that is no text, and what it is.
    pub wrong: Option<(usize, &'static str)>,
}

/// Reads the elements of a tensor, which stand at this place.
pub struct Elements<'a>(pub Reader<'a>, pub String);

impl<'de> Take<'de> for Elements<'_> {
    type Made = Data;

    fn refuse<E: JsonError>(self, found: &'static str) -> Result<Data, E> {
        self.0.expected("a list", found, self.1)
    }

    fn list<A: SeqAccess<'de>>(self, mut list: A) -> Result<Data, A::Error> {
        let mut data = Data { cells: Vec::new(), rows: 0, wrong: None };
        loop {
            if data.wrong.is_some() || data.rows >= self.0.most {
                if list.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(data);
                }
            } else {
                match list.next_element_seed(As(Element { nested: false }))? {
                    None => return Ok(data),
                    Some(Ok(cell)) => data.cells.push(cell),
                    Some(Err(found)) => data.wrong = Some((data.rows, found)),
                }
            }
            data.rows += 1;
        }
    }
}

/// A cell, flat or nested in a list of its own as for shape `[n, 1]`; else what it is.
struct Element {
    nested: bool,
}

impl<'de> Take<'de> for Element {
    type Made = Result<Option<String>, &'static str>;

    fn refuse<E: JsonError>(self, found: &'static str) -> Result<Self::Made, E> {
        Ok(Err(found))
    }

    fn null<E: JsonError>(self) -> Result<Self::Made, E> {
        Ok(Ok(None))
    }

    fn text<E: JsonError>(self, text: &str) -> Result<Self::Made, E> {
        Ok(Ok(Some(text.to_owned())))
    }

    fn list<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Made, A::Error> {
        let only = if self.nested { None } else { list.next_element_seed(As(Self { nested: true }))? };
        let mut more = false;
        while list.next_element::<IgnoredAny>()?.is_some() {
            more = true;
        }
        Ok(only.filter(|_| !more).unwrap_or(Err("a list")))
    }

    fn object<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Made, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Err("an object"))
    }
}
