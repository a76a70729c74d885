//! Reading an inference request of the Open Inference Protocol straight into a table of rows.
//!
//! The keys of an object come in any order, so what is wrong with the data of a tensor is kept as
//! one message until the tensor's name is known; the rest of such data is read past, not kept.

use std::fmt::Display;

use serde::de::{Error as JsonError, IgnoredAny, MapAccess, SeqAccess};
use serde_json::value::RawValue;

use super::elements::{Data, Elements, Shape};
use super::error::Problem;
use super::json::{As, Key, Refused, Take, shown};
use crate::served::Table;

/// An output tensor of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tensor {
    /// Label of the best class.
    Label,
    /// Probability of the best class.
    Probability,
    /// Name of the best class.
    Name,
    /// Probabilities of all classes.
    Probabilities,
}

/// An inference request.
#[derive(Debug)]
pub struct Request<'b> {
    /// To be repeated in the answer.
    pub id: Option<String>,
    /// To be repeated in the answer: an object, as it stands in the body.
    pub parameters: Option<&'b RawValue>,
    /// The inputs; every row has some text.
    pub table: Table,
    /// The outputs asked for; empty: the default ones.
    pub outputs: Vec<Tensor>,
}

/// Reads a request.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// Text columns of the model.
    pub columns: &'a [String],
    /// Most rows of a request.
    pub most: usize,
    /// Takes the reason when the request is refused.
    pub refused: &'a Refused,
}

impl Reader<'_> {
    fn malformed<T, E: JsonError>(self, place: impl Display, what: impl Display) -> Result<T, E> {
        let problem = Problem::bad("WrongType", format!("not an inference request: {what}"));
        let place = place.to_string();
        self.refused.with(if place.is_empty() { problem } else { problem.at(place) })
    }

    /// Refuses a value of the wrong kind.
    pub fn expected<T, E: JsonError>(self, what: &str, found: &str, place: impl Display) -> Result<T, E> {
        self.malformed(place, format_args!("{what} is expected, found {found}"))
    }

    fn parameters<'de, A: MapAccess<'de>>(
        self,
        object: &mut A,
        place: impl Display,
    ) -> Result<Option<&'de RawValue>, A::Error> {
        match object.next_value::<Option<&'de RawValue>>()? {
            Some(raw) if !raw.get().starts_with('{') => {
                self.malformed(place, "an object or null is expected")
            }
            parameters => Ok(parameters),
        }
    }
}

enum RequestKey {
    Id,
    Parameters,
    Inputs,
    Outputs,
    Other,
}

impl RequestKey {
    fn of(key: &str) -> Self {
        match key {
            "id" => Self::Id,
            "parameters" => Self::Parameters,
            "inputs" => Self::Inputs,
            "outputs" => Self::Outputs,
            _ => Self::Other,
        }
    }
}

impl<'de> Take<'de> for Reader<'_> {
    type Made = Request<'de>;

    fn refuse<E: JsonError>(self, found: &'static str) -> Result<Request<'de>, E> {
        self.expected("an object", found, "")
    }

    fn object<A: MapAccess<'de>>(self, mut object: A) -> Result<Request<'de>, A::Error> {
        let (mut id, mut parameters, mut table, mut outputs) = (None, None, None, Vec::new());
        while let Some(key) = object.next_key_seed(Key(RequestKey::of))? {
            match key {
                RequestKey::Id => {
                    id = object.next_value_seed(As(Text { reader: self, null: true, place: "id" }))?;
                }
                RequestKey::Parameters => parameters = self.parameters(&mut object, "parameters")?,
                RequestKey::Inputs if table.is_none() => {
                    table = Some(object.next_value_seed(As(Inputs(self)))?);
                }
                RequestKey::Inputs => return self.malformed("inputs", "sent twice"),
                RequestKey::Outputs => outputs = object.next_value_seed(As(Outputs(self)))?,
                RequestKey::Other => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        match table {
            Some(table) => Ok(Request { id, parameters, table, outputs }),
            None => self.malformed("", "missing field `inputs`"),
        }
    }
}

/// A text, or null where that is allowed.
struct Text<'a, P> {
    reader: Reader<'a>,
    null: bool,
    place: P,
}

impl<P: Display> Take<'_> for Text<'_, P> {
    type Made = Option<String>;

    fn refuse<E: JsonError>(self, found: &'static str) -> Result<Option<String>, E> {
        self.reader.expected("a text", found, self.place)
    }

    fn null<E: JsonError>(self) -> Result<Option<String>, E> {
        if self.null { Ok(None) } else { self.refuse("null") }
    }

    fn text<E: JsonError>(self, text: &str) -> Result<Option<String>, E> {
        Ok(Some(text.to_owned()))
    }
}

/// The outputs asked for.
struct Outputs<'a>(Reader<'a>);

impl<'de> Take<'de> for Outputs<'_> {
    type Made = Vec<Tensor>;

    fn refuse<E: JsonError>(self, found: &'static str) -> Result<Vec<Tensor>, E> {
        self.0.expected("a list", found, "outputs")
    }

    fn null<E: JsonError>(self) -> Result<Vec<Tensor>, E> {
        Ok(Vec::new())
    }

    fn list<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Tensor>, A::Error> {
        let mut wanted = Vec::new();
        // an output that comes twice is refused, so the list ends
        while let Some(tensor) = list.next_element_seed(As(Output(self.0, &wanted)))? {
            wanted.push(tensor);
        }
        Ok(wanted)
    }
}

/// One output asked for, beside those before it.
struct Output<'a>(Reader<'a>, &'a [Tensor]);

impl<'de> Take<'de> for Output<'_> {
    type Made = Tensor;

    fn refuse<E: JsonError>(self, found: &'static str) -> Result<Tensor, E> {
        self.0.expected("an object with a name", found, format_args!("outputs[{}]", self.1.len()))
    }

    fn object<A: MapAccess<'de>>(self, mut object: A) -> Result<Tensor, A::Error> {
        let Self(reader, before) = self;
        let place = format!("outputs[{}]", before.len());
        let mut name = None;
        while let Some(is_name) = object.next_key_seed(Key(|key: &str| key == "name"))? {
            if is_name {
                let text = Text { reader, null: false, place: format_args!("{place}.name") };
                name = object.next_value_seed(As(text))?;
            } else {
                object.next_value::<IgnoredAny>()?;
            }
        }
        let Some(name) = name else { return reader.malformed(place, "missing field `name`") };
        let tensor = match name.as_str() {
            "label" => Tensor::Label,
            "probability" => Tensor::Probability,
            "name" => Tensor::Name,
            "probabilities" => Tensor::Probabilities,
            other => {
                let message = format!(
                    "unknown output {:?}; there are label, probability, name and probabilities",
                    shown(other)
                );
                return reader.refused.with(Problem::bad("UnknownField", message).at("outputs"));
            }
        };
        if before.contains(&tensor) {
            let message = format!("output {name:?} is asked for twice");
            return reader.refused.with(Problem::bad("Duplicate", message).at("outputs"));
        }
        Ok(tensor)
    }
}

/// The list of inputs.
struct Inputs<'a>(Reader<'a>);

impl<'de> Take<'de> for Inputs<'_> {
    type Made = Table;

    fn refuse<E: JsonError>(self, found: &'static str) -> Result<Table, E> {
        self.0.expected("a list", found, "inputs")
    }

    fn list<A: SeqAccess<'de>>(self, mut list: A) -> Result<Table, A::Error> {
        let reader = self.0;
        let mut columns = Columns {
            filled: vec![false; reader.columns.len()],
            table: Table::new(reader.columns.len()),
            first: None,
        };
        let mut number = 0;
        // an unknown input and one that comes twice are refused, so the list ends
        while let Some(input) = list.next_element_seed(As(InputSeed { reader, number }))? {
            let name = shown(&input.name);
            if let Err(message) = columns.take(reader, input) {
                let problem = Problem::bad("InvalidInput", message);
                return reader.refused.with(problem.at(format!("input {name:?}")));
            }
            number += 1;
        }
        match columns.table.first_empty() {
            Some(row) => {
                let message = format!("row {row} has no text in any column");
                reader.refused.with(Problem::bad("EmptyText", message))
            }
            None => Ok(columns.table),
        }
    }
}

/// The columns read so far.
struct Columns {
    filled: Vec<bool>,
    table: Table,
    /// Name and rows of the first.
    first: Option<(String, usize)>,
}

impl Columns {
    fn take(&mut self, reader: Reader<'_>, input: Input) -> Result<(), String> {
        let Some(column) = reader.columns.iter().position(|column| *column == input.name) else {
            return Err(format!("unknown; this model reads {}", reader.columns.join(", ")));
        };
        if std::mem::replace(&mut self.filled[column], true) {
            return Err("sent twice".to_owned());
        }
        let rows = input.check(reader.most)?;
        match &self.first {
            Some((other, others)) if *others != rows => {
                return Err(format!("{rows} rows, but input {other:?} has {others}"));
            }
            Some(_) => {}
            None => {
                for _ in 0..rows {
                    self.table.push();
                }
                self.first = Some((input.name, rows));
            }
        }
        for (row, text) in input.data.cells.into_iter().enumerate() {
            if let Some(cell) = self.table.cell(row, column) {
                *cell = text;
            }
        }
        Ok(())
    }
}

/// One input tensor.
struct Input {
    name: String,
    /// At most one dimension more than a shape may have.
    shape: Vec<u64>,
    datatype: String,
    base64: bool,
    data: Data,
}

impl Input {
    /// Checks type, shape and data; gives the number of rows.
    fn check(&self, most: usize) -> Result<usize, String> {
        if self.datatype != "BYTES" {
            return Err(format!("datatype must be BYTES, found {}", shown(&self.datatype)));
        }
        if self.base64 {
            return Err("base64 is not decoded; send the texts as JSON texts".to_owned());
        }
        let rows = self.data.rows;
        let declared = match self.shape.as_slice() {
            [n] | [n, 1] => *n,
            other => return Err(format!("shape must be [n] or [n, 1], found {other:?}")),
        };
        if declared != rows as u64 {
            return Err(format!("shape says {declared} rows, data has {rows}"));
        }
        if rows > most {
            return Err(format!("{rows} rows, at most {most} are taken at once"));
        }
        match self.data.wrong {
            Some((row, found)) => Err(format!("element {row} must be a text, found {found}")),
            None => Ok(rows),
        }
    }
}

enum InputKey {
    Name,
    Shape,
    Datatype,
    Parameters,
    Data,
    Other,
}

impl InputKey {
    fn of(key: &str) -> Self {
        match key {
            "name" => Self::Name,
            "shape" => Self::Shape,
            "datatype" => Self::Datatype,
            "parameters" => Self::Parameters,
            "data" => Self::Data,
            _ => Self::Other,
        }
    }
}

struct InputSeed<'a> {
    reader: Reader<'a>,
    number: usize,
}

impl<'de> Take<'de> for InputSeed<'_> {
    type Made = Input;

    fn refuse<E: JsonError>(self, found: &'static str) -> Result<Input, E> {
        self.reader.expected("an object", found, format_args!("inputs[{}]", self.number))
    }

    fn object<A: MapAccess<'de>>(self, mut object: A) -> Result<Input, A::Error> {
        let Self { reader, number } = self;
        let place = |key: &str| format!("inputs[{number}].{key}");
        let text = |key: &str| As(Text { reader, null: false, place: place(key) });
        let (mut name, mut shape, mut datatype, mut base64, mut data) = (None, None, None, false, None);
        while let Some(key) = object.next_key_seed(Key(InputKey::of))? {
            match key {
                InputKey::Name => name = object.next_value_seed(text("name"))?,
                InputKey::Datatype => datatype = object.next_value_seed(text("datatype"))?,
                InputKey::Shape => {
                    shape = Some(object.next_value_seed(As(Shape(reader, place("shape"))))?);
                }
                InputKey::Parameters => {
                    base64 =
                        reader.parameters(&mut object, place("parameters"))?.is_some_and(asks_for_base64);
                }
                InputKey::Data => {
                    data = Some(object.next_value_seed(As(Elements(reader, place("data"))))?);
                }
                InputKey::Other => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        let missing = match (name, shape, datatype, data) {
            (Some(name), Some(shape), Some(datatype), Some(data)) => {
                return Ok(Input { name, shape, datatype, base64, data });
            }
            (None, ..) => "name",
            (_, None, ..) => "shape",
            (_, _, None, _) => "datatype",
            _ => "data",
        };
        reader.malformed(format_args!("inputs[{number}]"), format_args!("missing field `{missing}`"))
    }
}

/// Whether `content_type` among the parameters of a tensor says base64.
fn asks_for_base64(parameters: &RawValue) -> bool {
    struct Parameters;
    impl<'de> Take<'de> for Parameters {
        type Made = bool;
        fn refuse<E: JsonError>(self, _found: &'static str) -> Result<bool, E> {
            Ok(false)
        }
        fn object<A: MapAccess<'de>>(self, mut object: A) -> Result<bool, A::Error> {
            let mut asked = false;
            while let Some(is_type) = object.next_key_seed(Key(|key: &str| key == "content_type"))? {
                let value = object.next_value::<&'de RawValue>()?.get();
                asked = if is_type { value.starts_with('"') && value.contains("base64") } else { asked };
            }
            Ok(asked)
        }
    }
    super::json::read(parameters.get().as_bytes(), &Refused::default(), Parameters).unwrap_or(false)
}
