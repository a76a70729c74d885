//! Reading JSON straight into what it is for, in one pass and without a tree in between.
//!
//! A tree of values takes up to a hundred times the bytes of its text, and the client chooses the
//! text. So nothing here may keep a value before it is known to be wanted, and no message may
//! repeat more than a few words of the request.

use std::cell::RefCell;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as JsonError, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::error::Problem;

/// Most characters of a request's own words that a message repeats.
const SHOWN: usize = 64;

/// Why reading was given up, in our words; a reader's own errors can only carry a text.
#[derive(Debug, Default)]
pub struct Refused(RefCell<Option<Problem>>);

impl Refused {
    /// Gives reading up.
    pub fn with<T, E: JsonError>(&self, problem: Problem) -> Result<T, E> {
        *self.0.borrow_mut() = Some(problem);
        Err(E::custom("refused"))
    }
}

/// Reads the bytes; a problem is what `refused` was told, or that they are not JSON.
pub fn read<'de, T: Take<'de>>(bytes: &'de [u8], refused: &Refused, take: T) -> Result<T::Made, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let made = As(take).deserialize(&mut json).and_then(|made| json.end().map(|()| made));
    made.map_err(|error| {
        // that it is not JSON at all comes before what is wrong with its content
        let broken = serde_json::from_slice::<IgnoredAny>(bytes).err();
        match (broken, refused.0.take()) {
            (None, Some(problem)) => problem,
            (broken, _) => Problem::bad("InvalidJson", not_json(&broken.unwrap_or(error))),
        }
    })
}

fn not_json(error: &serde_json::Error) -> String {
    // the error's own text ends with line and column
    if error.is_eof() && error.column() == 0 {
        "the body is empty, JSON is expected".to_owned()
    } else {
        format!("the body is not JSON: {error}")
    }
}

/// The beginning of a text of the request, for a message.
pub fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What is made of a value; each kind of value that is not taken is refused by its name.
pub trait Take<'de>: Sized {
    /// What is made of it.
    type Made;

    /// The value is `found`, such as `a number`. What it holds is not read any more.
    fn refuse<E: JsonError>(self, found: &'static str) -> Result<Self::Made, E>;

    /// `null`.
    fn null<E: JsonError>(self) -> Result<Self::Made, E> {
        self.refuse("null")
    }

    /// A text.
    fn text<E: JsonError>(self, _text: &str) -> Result<Self::Made, E> {
        self.refuse("a text")
    }

    /// A whole number that is not below 0.
    fn whole<E: JsonError>(self, _number: u64) -> Result<Self::Made, E> {
        self.refuse("a number")
    }

    /// A list, to be read to its end.
    fn list<A: SeqAccess<'de>>(self, _list: A) -> Result<Self::Made, A::Error> {
        self.refuse("a list")
    }

    /// An object, to be read to its end.
    fn object<A: MapAccess<'de>>(self, _object: A) -> Result<Self::Made, A::Error> {
        self.refuse("an object")
    }
}

/// Lets the JSON reader hand a value to a [`Take`].
pub struct As<T>(pub T);

impl<'de, T: Take<'de>> DeserializeSeed<'de> for As<T> {
    type Value = T::Made;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<T::Made, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de, T: Take<'de>> Visitor<'de> for As<T> {
    type Value = T::Made;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a JSON value")
    }

    fn visit_unit<E: JsonError>(self) -> Result<T::Made, E> {
        self.0.null()
    }

    fn visit_bool<E: JsonError>(self, _: bool) -> Result<T::Made, E> {
        self.0.refuse("a boolean")
    }

    fn visit_i64<E: JsonError>(self, _: i64) -> Result<T::Made, E> {
        self.0.refuse("a number")
    }

    fn visit_u64<E: JsonError>(self, number: u64) -> Result<T::Made, E> {
        self.0.whole(number)
    }

    fn visit_f64<E: JsonError>(self, _: f64) -> Result<T::Made, E> {
        self.0.refuse("a number")
    }

    fn visit_str<E: JsonError>(self, text: &str) -> Result<T::Made, E> {
        self.0.text(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<T::Made, A::Error> {
        self.0.list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<T::Made, A::Error> {
        self.0.object(object)
    }
}

/// The key of an object's entry, as what the function makes of it.
pub struct Key<F>(pub F);

impl<'de, R, F: FnOnce(&str) -> R> DeserializeSeed<'de> for Key<F> {
    type Value = R;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<R, D::Error> {
        json.deserialize_str(self)
    }
}

impl<R, F: FnOnce(&str) -> R> Visitor<'_> for Key<F> {
    type Value = R;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a key")
    }

    fn visit_str<E: JsonError>(self, key: &str) -> Result<R, E> {
        Ok((self.0)(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_are_cut_between_characters() {
        assert_eq!(shown("é"), "é");
        assert_eq!(shown(&"é".repeat(SHOWN)), "é".repeat(SHOWN));
        assert_eq!(shown(&"é".repeat(1000)), "é".repeat(SHOWN) + "…");
    }
}
