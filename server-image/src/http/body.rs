//! The body of a request, within limits of size, of time, and of what all requests hold together.
//!
//! Compressed bodies are refused: then no body can grow after it was measured.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

use super::error::Problem;
use super::json::{self, Refused, Take};
use crate::app::{App, Room};

/// Most bytes of an oversized body that are read and thrown away, in bodies of the largest allowed
/// size: closing on unread bytes makes the client's kernel forget the answer that says why.
const THROW_AWAY: usize = 8;

/// A whole body, and the room that it takes.
#[derive(Debug)]
pub struct Payload {
    bytes: Bytes,
    // held until the request is answered
    _room: Room,
}

impl Payload {
    /// Makes of its JSON what `take` says.
    pub fn read<'de, T: Take<'de>>(&'de self, refused: &Refused, take: T) -> Result<T::Made, Problem> {
        json::read(&self.bytes, refused, take)
    }
}

/// Receives the body.
pub async fn receive(app: &Arc<App>, headers: &HeaderMap, body: Body) -> Result<Payload, Problem> {
    check_type(headers)?;
    let limit = app.limits.max_body_bytes;
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) && headers.contains_key(header::EXPECT) {
        // the client waits for leave to send
        return Err(Problem::too_large(limit));
    }
    let time = app.limits.body;
    let (bytes, room) =
        tokio::time::timeout(time, collect(app, body)).await.map_err(|_| Problem::slow_body(time))??;
    Ok(Payload { bytes, _room: room })
}

async fn collect(app: &Arc<App>, mut body: Body) -> Result<(Bytes, Room), Problem> {
    let limit = app.limits.max_body_bytes;
    let mut room = app.buffer();
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Problem::bad("IncompleteBody", format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        read += data.len();
        if read > limit {
            if read > limit.saturating_mul(THROW_AWAY) {
                return Err(Problem::too_large(limit));
            }
            (first, rest) = (Bytes::new(), BytesMut::new());
        } else if !room.grow(data.len()) {
            return Err(Problem::no_room());
        } else if first.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
    }
    if read > limit {
        return Err(Problem::too_large(limit));
    }
    Ok((if rest.is_empty() { first } else { rest.freeze() }, room))
}

/// JSON under any of the names that clients give it by habit or by default.
fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && encoding != "identity"
    {
        return Err(Problem::media_type(
            "compressed bodies are not read; send JSON without Content-Encoding",
        ));
    }
    let Some(given) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let given = given.to_str().unwrap_or("?");
    let essence = given.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let taken = matches!(essence.as_str(), "" | "application/x-www-form-urlencoded" | "text/plain")
        || essence.ends_with("/json")
        || essence.ends_with("+json");
    if taken {
        Ok(())
    } else {
        Err(Problem::media_type(format!("content type {given} is not read; send application/json")))
    }
}
