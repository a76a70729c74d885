//! Watches that lag: a frozen gate holds the events of a resource back and answers lists as they were;
//! a filter drops single events.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use tokio::sync::watch;

/// An event that is never delivered: resource, type (`ADDED`, ...) and a text in its line.
#[derive(Clone, Debug, Default)]
pub struct Drop {
    /// Resource of the watch.
    pub resource: String,
    /// Type of the event; empty for any.
    pub event: String,
    /// Text that the event holds.
    pub holds: String,
}

/// The gates of all resources.
#[derive(Clone, Debug, Default)]
pub struct Gates(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    frozen: HashMap<String, watch::Sender<bool>>,
    drops: Vec<Drop>,
    /// Newest body of each list by address.
    lists: HashMap<String, Bytes>,
    /// Incremented to end all watches of a resource.
    cuts: HashMap<String, watch::Sender<u64>>,
}

impl Gates {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nothing about the resource is news.
    pub fn freeze(&self, resource: &str) {
        self.switch(resource, true);
    }

    /// What was held back is delivered.
    pub fn thaw(&self, resource: &str) {
        self.switch(resource, false);
    }

    /// All gates are open, no event is dropped.
    pub fn open(&self) {
        let mut state = self.state();
        state.drops.clear();
        for gate in state.frozen.values() {
            gate.send_replace(false);
        }
    }

    fn switch(&self, resource: &str, frozen: bool) {
        let mut state = self.state();
        state
            .frozen
            .entry(resource.to_owned())
            .or_insert_with(|| watch::channel(false).0)
            .send_replace(frozen);
    }

    /// Events like these are never delivered.
    pub fn drop_events(&self, what: Drop) {
        self.state().drops.push(what);
    }

    /// Ends all watches of a resource that are open now.
    pub fn cut(&self, resource: &str) {
        let mut state = self.state();
        state.cuts.entry(resource.to_owned()).or_insert_with(|| watch::channel(0).0).send_modify(|n| *n += 1);
    }

    /// Is the resource's gate frozen?
    pub fn is_frozen(&self, resource: &str) -> bool {
        self.state().frozen.get(resource).is_some_and(|g| *g.borrow())
    }

    /// Returns when the gate is open.
    pub async fn opened(&self, resource: &str) {
        let mut gate = {
            let mut state = self.state();
            state.frozen.entry(resource.to_owned()).or_insert_with(|| watch::channel(false).0).subscribe()
        };
        // an error would mean that the gates are gone, and the proxy with them
        let _ = gate.wait_for(|frozen| !*frozen).await;
    }

    /// Remembers a list.
    pub fn keep_list(&self, address: &str, body: &Bytes) {
        self.state().lists.insert(address.to_owned(), body.clone());
    }

    /// The list as it was.
    pub fn list(&self, address: &str) -> Option<Bytes> {
        self.state().lists.get(address).cloned()
    }

    fn drops(&self, resource: &str, line: &[u8]) -> bool {
        let state = self.state();
        if state.drops.is_empty() {
            return false;
        }
        let text = String::from_utf8_lossy(line);
        state.drops.iter().any(|d| {
            d.resource == resource
                && (d.event.is_empty() || text.starts_with(&format!("{{\"type\":\"{}\"", d.event)))
                && text.contains(&d.holds)
        })
    }

    /// The body of a watch behind the gate: whole lines, held back while frozen, without what is dropped.
    pub fn pass<S, E>(
        &self,
        resource: &str,
        body: S,
    ) -> impl Stream<Item = Result<Bytes, E>> + Send + use<S, E>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
        E: Send + 'static,
    {
        let gates = self.clone();
        let resource = resource.to_owned();
        let cut = {
            let mut state = gates.state();
            state.cuts.entry(resource.clone()).or_insert_with(|| watch::channel(0).0).subscribe()
        };
        let start = (body, BytesMut::new(), gates, resource, cut);
        futures::stream::unfold(start, |(mut body, mut buffer, gates, resource, mut cut)| async move {
            loop {
                let chunk = tokio::select! {
                    chunk = body.next() => chunk,
                    _ = cut.changed() => None,
                };
                let chunk = match chunk? {
                    Ok(chunk) => chunk,
                    Err(error) => return Some((Err(error), (body, buffer, gates, resource, cut))),
                };
                buffer.extend_from_slice(&chunk);
                let lines = whole_lines(&mut buffer);
                gates.opened(&resource).await;
                let mut out = BytesMut::new();
                for line in lines.split_inclusive(|b| *b == b'\n') {
                    if !gates.drops(&resource, line) {
                        out.extend_from_slice(line);
                    }
                }
                if !out.is_empty() {
                    return Some((Ok(out.freeze()), (body, buffer, gates, resource, cut)));
                }
            }
        })
    }
}

/// Takes the whole lines out of a buffer.
fn whole_lines(buffer: &mut BytesMut) -> Bytes {
    match buffer.iter().rposition(|b| *b == b'\n') {
        Some(end) => buffer.split_to(end + 1).freeze(),
        None => Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_frozen_gate_holds_back_and_a_dropped_event_never_comes() {
        let gates = Gates::default();
        gates.freeze("jobs");
        gates.drop_events(Drop { resource: "jobs".into(), event: "ADDED".into(), holds: "\"b\"".into() });
        let lines = [
            "{\"type\":\"ADDED\",\"n\":\"a\"}\n{\"ty",
            "pe\":\"ADDED\",\"n\":\"b\"}\n{\"type\":\"DELETED\",\"n\":\"b\"}\n",
        ];
        let body = futures::stream::iter(lines.map(|l| Ok::<_, std::io::Error>(Bytes::from(l))));
        let mut out = Box::pin(gates.pass("jobs", body));
        let held = tokio::time::timeout(std::time::Duration::from_millis(20), out.next()).await;
        assert!(held.is_err(), "frozen");
        gates.thaw("jobs");
        assert_eq!(out.next().await.unwrap().unwrap(), "{\"type\":\"ADDED\",\"n\":\"a\"}\n");
        assert_eq!(out.next().await.unwrap().unwrap(), "{\"type\":\"DELETED\",\"n\":\"b\"}\n");
        assert!(out.next().await.is_none());
    }
}
