//! Watches that lag: a frozen gate holds the events of a resource back and answers lists as they were;
//! a filter drops single events. What was held, dropped or cut is counted: a fault that met no event did
//! not happen.

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

/// A list that was answered: how to ask for it again, and what the answer was.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Resource.
    pub resource: String,
    /// The request without its (empty) body, with the operator's token.
    pub head: http::request::Parts,
    /// Body of the answer.
    pub body: Bytes,
    /// Whether it was given out while the gate was frozen.
    pub given: bool,
}

#[derive(Debug, Default)]
struct State {
    frozen: HashMap<String, watch::Sender<bool>>,
    drops: Vec<Drop>,
    /// Newest answer of each list by address.
    lists: HashMap<String, Kept>,
    /// Incremented to end all watches of a resource.
    cuts: HashMap<String, watch::Sender<Cut>>,
    /// Events held back or dropped, and old lists that were given out, by resource.
    counts: HashMap<String, usize>,
    /// Watches that broke.
    broken: usize,
}

/// How watches that are open end.
#[derive(Clone, Copy, Debug, Default)]
struct Cut {
    /// The connection breaks instead of ending well.
    breaks: bool,
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
        Self::cut_of(&mut state, resource).send_replace(Cut { breaks: false });
    }

    /// Breaks all watches that are open now.
    pub fn break_all(&self) {
        for cut in self.state().cuts.values() {
            cut.send_replace(Cut { breaks: true });
        }
    }

    fn cut_of<'a>(state: &'a mut State, resource: &str) -> &'a mut watch::Sender<Cut> {
        state.cuts.entry(resource.to_owned()).or_insert_with(|| watch::channel(Cut::default()).0)
    }

    fn count(&self, resource: &str, more: usize) {
        *self.state().counts.entry(resource.to_owned()).or_default() += more;
    }

    /// Watches of a resource that are open now.
    pub fn watches(&self, resource: &str) -> usize {
        self.state().cuts.get(resource).map_or(0, watch::Sender::receiver_count)
    }

    /// How often something about a resource was held back, dropped, or told as it was.
    pub fn injected(&self, resource: &str) -> usize {
        self.state().counts.get(resource).copied().unwrap_or_default()
    }

    /// How many watches broke.
    pub fn broken(&self) -> usize {
        self.state().broken
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
    pub fn keep_list(&self, address: &str, kept: Kept) {
        self.state().lists.insert(address.to_owned(), kept);
    }

    /// The lists of a resource that were asked for, by address; but for the later pages of one, whose
    /// addresses are good for that once only.
    pub fn lists(&self, resource: &str) -> Vec<(String, Kept)> {
        let state = self.state();
        let of = state.lists.iter().filter(|(a, k)| k.resource == resource && !a.contains("continue="));
        of.map(|(address, kept)| (address.clone(), kept.clone())).collect()
    }

    /// The list as it was, to be given out.
    pub fn list(&self, address: &str) -> Option<Bytes> {
        let mut state = self.state();
        let kept = state.lists.get_mut(address)?;
        kept.given = true;
        Some(kept.body.clone())
    }

    /// A list of the resource was given out that turned out to be old.
    pub fn was_stale(&self, resource: &str) {
        self.count(resource, 1);
    }

    /// The end of a watch that is cut.
    fn end<E: From<std::io::Error>>(&self, cut: &watch::Receiver<Cut>) -> Option<Result<Bytes, E>> {
        if !cut.borrow().breaks {
            return None;
        }
        self.state().broken += 1;
        Some(Err(std::io::Error::other("the connection breaks").into()))
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
        E: From<std::io::Error> + Send + 'static,
    {
        let gates = self.clone();
        let resource = resource.to_owned();
        let cut = {
            let mut state = gates.state();
            Self::cut_of(&mut state, &resource).subscribe()
        };
        let start = (body, BytesMut::new(), gates, resource, cut);
        futures::stream::unfold(start, |(mut body, mut buffer, gates, resource, mut cut)| async move {
            loop {
                let chunk = tokio::select! {
                    chunk = body.next() => chunk,
                    _ = cut.changed() => gates.end(&cut),
                };
                let chunk = match chunk? {
                    Ok(chunk) => chunk,
                    Err(error) => return Some((Err(error), (body, buffer, gates, resource, cut))),
                };
                buffer.extend_from_slice(&chunk);
                let lines = whole_lines(&mut buffer);
                if gates.is_frozen(&resource) {
                    gates.count(&resource, news(&lines));
                }
                gates.opened(&resource).await;
                let mut out = BytesMut::new();
                for line in lines.split_inclusive(|b| *b == b'\n') {
                    if gates.drops(&resource, line) {
                        gates.count(&resource, news(line));
                    } else {
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

/// How many of these lines tell something: a bookmark does not.
fn news(lines: &[u8]) -> usize {
    let told = |line: &&[u8]| !line.is_empty() && !line.starts_with(b"{\"type\":\"BOOKMARK\"");
    lines.split(|b| *b == b'\n').filter(told).count()
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
        assert_eq!(gates.injected("jobs"), 1);
        gates.thaw("jobs");
        assert_eq!(out.next().await.unwrap().unwrap(), "{\"type\":\"ADDED\",\"n\":\"a\"}\n");
        assert_eq!(out.next().await.unwrap().unwrap(), "{\"type\":\"DELETED\",\"n\":\"b\"}\n");
        assert!(out.next().await.is_none());
        assert_eq!(gates.injected("jobs"), 2, "one held, one dropped");
        assert_eq!(gates.injected("pods"), 0);
    }

    #[tokio::test]
    async fn an_outage_breaks_open_watches_and_a_bookmark_is_no_news() {
        let gates = Gates::default();
        let body = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        assert_eq!(gates.watches("jobs"), 0);
        let mut out = Box::pin(gates.pass("jobs", body));
        assert_eq!(gates.watches("jobs"), 1);
        gates.break_all();
        assert!(out.next().await.unwrap().is_err());
        drop(out);
        assert_eq!(gates.watches("jobs"), 0);
        assert_eq!(gates.broken(), 1);
        assert_eq!(news(b"{\"type\":\"BOOKMARK\"}\n{\"type\":\"ADDED\"}\n"), 1);
    }
}
