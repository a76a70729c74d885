//! `POST /predict`: one product, or several, as plain JSON.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::{Error as JsonError, IgnoredAny, MapAccess, SeqAccess};

use super::error::Problem;
use super::json::{As, Key, Refused, Take, shown};
use super::{body, metadata, score};
use crate::app::App;
use crate::served::Table;

/// Classes told per row unless `?top_k=` says otherwise.
const TOP_K: usize = 3;
/// Key under which several rows are sent.
const ITEMS: &str = "items";

#[derive(Serialize)]
struct Answer<'a> {
    predictions: Vec<Row<'a>>,
    model: &'a crate::served::Identity,
}

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    best: Ranked<'a>,
    top: Vec<Ranked<'a>>,
}

#[derive(Serialize, Clone, Copy)]
struct Ranked<'a> {
    label: &'a str,
    name: &'a str,
    probability: f32,
}

/// Answers with label, name and probability of every row.
pub async fn predict(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let served = metadata::served(&app)?;
    let top_k = top_k(query.as_deref(), served.classes().len())?;
    let payload = body::receive(&app, &headers, body).await?;
    let table = {
        let refused = Refused::default();
        let rows = Rows { columns: served.columns(), most: app.limits.max_items, refused: &refused };
        payload.read(&refused, rows)?
    };
    let scored = score::score(&app, served, table, move |prediction| prediction.top_k(top_k)).await?;
    let ranked = |&(class, probability): &(usize, f32)| {
        let class = &served.classes()[class];
        Ranked { label: &class.label, name: &class.name, probability }
    };
    let row = |top: &Vec<(usize, f32)>| {
        let top: Vec<Ranked<'_>> = top.iter().map(ranked).collect();
        Some(Row { best: *top.first()?, top })
    };
    let predictions = scored.iter().filter_map(row).collect();
    Ok(Json(Answer { predictions, model: served.identity() }).into_response())
}

fn top_k(query: Option<&str>, classes: usize) -> Result<usize, Problem> {
    let mut k = TOP_K;
    for pair in query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if key != "top_k" {
            return Err(Problem::bad(
                "InvalidQuery",
                format!("unknown parameter {key:?}, there is only top_k"),
            )
            .at(key));
        }
        let parsed = value.parse().ok().filter(|k| *k > 0);
        k = parsed.ok_or_else(|| {
            Problem::bad("InvalidQuery", format!("{value:?} is not a whole number above 0")).at("top_k")
        })?;
    }
    Ok(k.min(classes))
}

/// The rows of a body: an object of columns, `{"items": [..]}`, or a list of objects.
#[derive(Clone, Copy)]
struct Rows<'a> {
    columns: &'a [String],
    most: usize,
    refused: &'a Refused,
}

/// Where a row stands in the body.
#[derive(Clone, Copy)]
enum Place {
    /// The body is the row.
    Body,
    /// In the list under this key, or in the list that is the body.
    List(&'static str, usize),
}

impl Place {
    fn row(self) -> String {
        match self {
            Self::Body => String::new(),
            Self::List(under, number) => format!("{under}[{number}]"),
        }
    }

    fn cell(self, key: &str) -> String {
        match self {
            Self::Body => key.to_owned(),
            Self::List(..) => format!("{}.{key}", self.row()),
        }
    }
}

/// What a key of an object stands for.
enum Named {
    Column(usize),
    Items,
    /// Nothing; its beginning, for the message.
    Unknown(String),
}

impl Rows<'_> {
    fn table(self) -> Table {
        Table::new(self.columns.len())
    }

    fn column(self, key: &str) -> Named {
        let column = self.columns.iter().position(|column| column == key);
        column.map_or_else(|| Named::Unknown(shown(key)), Named::Column)
    }

    fn column_or_items(self, key: &str) -> Named {
        match self.column(key) {
            Named::Unknown(_) if key == ITEMS => Named::Items,
            named => named,
        }
    }

    fn unknown<T, E: JsonError>(self, key: &str, place: Place) -> Result<T, E> {
        let message = format!("unknown field {key:?}; this model reads {}", self.columns.join(", "));
        self.refused.with(Problem::bad("UnknownField", message).at(place.cell(key)))
    }

    fn wrong<T, E: JsonError>(self, expected: &str, found: &str, place: &str) -> Result<T, E> {
        let problem = Problem::bad("WrongType", format!("{expected} is expected, found {found}"));
        self.refused.with(if place.is_empty() { problem } else { problem.at(place) })
    }

    /// Rows of a list, up to the first one too many.
    fn all<'de, A: SeqAccess<'de>>(self, mut list: A, under: &'static str) -> Result<Table, A::Error> {
        let mut table = self.table();
        loop {
            let number = table.rows();
            if number == self.most {
                if list.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(table);
                }
                let message = format!("more rows than are taken at once, which is at most {}", self.most);
                let place = if under.is_empty() { "[]" } else { under };
                return self.refused.with(Problem::bad("TooManyItems", message).at(place));
            }
            let place = Place::List(under, number);
            if list.next_element_seed(As(Item { rows: self, place, cells: table.push() }))?.is_none() {
                table.pop();
                return Ok(table);
            }
        }
    }

    fn some_text<E: JsonError>(self, cells: &[Option<String>], place: Place) -> Result<(), E> {
        if cells.iter().flatten().any(|text| !text.trim().is_empty()) {
            return Ok(());
        }
        let message = format!("no text in any of {}; there is nothing to classify", self.columns.join(", "));
        let problem = Problem::bad("EmptyText", message);
        self.refused.with(match place {
            Place::Body => problem,
            Place::List(..) => problem.at(place.row()),
        })
    }
}

impl<'de> Take<'de> for Rows<'_> {
    type Made = Table;

    fn refuse<E: JsonError>(self, found: &'static str) -> Result<Table, E> {
        let expected = format!("an object with {} or a list of such", self.columns.join(", "));
        self.wrong(&expected, found, "")
    }

    fn list<A: SeqAccess<'de>>(self, list: A) -> Result<Table, A::Error> {
        self.all(list, "")
    }

    fn object<A: MapAccess<'de>>(self, mut object: A) -> Result<Table, A::Error> {
        let mut alone = self.table();
        let cells = alone.push();
        let mut items = None;
        let mut seen = None;
        while let Some(named) = object.next_key_seed(Key(|key: &str| self.column_or_items(key)))? {
            match named {
                Named::Column(column) => {
                    seen = Some(column);
                    cells[column] =
                        object.next_value_seed(As(Cell { rows: self, place: Place::Body, column }))?;
                }
                Named::Items if items.is_none() => items = Some(object.next_value_seed(As(Items(self)))?),
                Named::Items => {
                    let problem = Problem::bad("Duplicate", "\"items\" is sent twice");
                    return self.refused.with(problem.at(ITEMS));
                }
                Named::Unknown(key) => return self.unknown(&key, Place::Body),
            }
        }
        match (items, seen) {
            (Some(_), Some(column)) => {
                let other = &self.columns[column];
                let message = format!("{other:?} cannot stand beside \"items\"; put it into the items");
                self.refused.with(Problem::bad("UnknownField", message).at(other))
            }
            (Some(items), None) => Ok(items),
            (None, _) => {
                self.some_text(cells, Place::Body)?;
                Ok(alone)
            }
        }
    }
}

/// The value of `items`.
struct Items<'a>(Rows<'a>);

impl<'de> Take<'de> for Items<'_> {
    type Made = Table;

    fn refuse<E: JsonError>(self, found: &'static str) -> Result<Table, E> {
        self.0.wrong("a list of objects", found, ITEMS)
    }

    fn list<A: SeqAccess<'de>>(self, list: A) -> Result<Table, A::Error> {
        self.0.all(list, ITEMS)
    }
}

/// A row of a list, into its cells.
struct Item<'a> {
    rows: Rows<'a>,
    place: Place,
    cells: &'a mut [Option<String>],
}

impl<'de> Take<'de> for Item<'_> {
    type Made = ();

    fn refuse<E: JsonError>(self, found: &'static str) -> Result<(), E> {
        let expected = format!("an object with {}", self.rows.columns.join(", "));
        self.rows.wrong(&expected, found, &self.place.row())
    }

    fn object<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let Self { rows, place, cells } = self;
        while let Some(named) = object.next_key_seed(Key(|key: &str| rows.column(key)))? {
            match named {
                Named::Column(column) => {
                    cells[column] = object.next_value_seed(As(Cell { rows, place, column }))?;
                }
                Named::Items => return rows.unknown(ITEMS, place),
                Named::Unknown(key) => return rows.unknown(&key, place),
            }
        }
        rows.some_text(cells, place)
    }
}

/// A text or nothing.
struct Cell<'a> {
    rows: Rows<'a>,
    place: Place,
    column: usize,
}

impl Take<'_> for Cell<'_> {
    type Made = Option<String>;

    fn refuse<E: JsonError>(self, found: &'static str) -> Result<Option<String>, E> {
        let place = self.place.cell(&self.rows.columns[self.column]);
        self.rows.wrong("a text or null", found, &place)
    }

    fn null<E: JsonError>(self) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn text<E: JsonError>(self, text: &str) -> Result<Option<String>, E> {
        Ok(Some(text.to_owned()))
    }
}
