//! Events: a short story of transitions where users look for it. Best effort; an event that cannot
//! be written never fails a reconcile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event as KubeEvent, EventType as KubeEventType, Recorder, Reporter};
use tokio::time::timeout;
use vitrine_crds::condition::clip;
use vitrine_crds::names;
use vitrine_plan::{Event, EventType};

use crate::error::brief;
use crate::metrics::Metrics;

/// Longest note that the API takes, in bytes.
const MAX_NOTE: usize = 1024;
/// Longest time for one event: the rest of the reconcile does not wait for it any longer.
const LIMIT: Duration = Duration::from_secs(2);

/// Events after which all recorders are replaced. One remembers each for minutes, to count repeats, and looks
/// through all of them at each new one.
const REMEMBERED: usize = 256;

/// Writes events; repeats with the same words become one event with a count.
#[derive(Clone)]
pub struct Events {
    client: Client,
    reporter: Reporter,
    recorders: Arc<Mutex<Recorders>>,
    metrics: Metrics,
}

/// One recorder for each note: kube's recorder takes two events for the same whatever their notes say, and
/// keeps the first one's. "Version 1 was rolled out" would be all that is ever told of version 2.
#[derive(Default)]
struct Recorders {
    by_note: HashMap<String, Recorder>,
    written: usize,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// A writer; `instance` is the name of this pod.
    pub fn new(client: Client, instance: String, metrics: Metrics) -> Self {
        let reporter = Reporter { controller: names::REPORTER.to_owned(), instance: Some(instance) };
        Self { client, reporter, recorders: Arc::default(), metrics }
    }

    /// The recorder for the next event.
    fn recorder(&self, note: &str) -> Recorder {
        let mut held = self.recorders.lock().unwrap_or_else(PoisonError::into_inner);
        if held.written == REMEMBERED {
            *held = Recorders::default();
        }
        held.written += 1;
        let new = || Recorder::new(self.client.clone(), self.reporter.clone());
        held.by_note.entry(note.to_owned()).or_insert_with(new).clone()
    }

    /// Writes one event about an object.
    pub async fn publish(&self, regarding: &ObjectReference, event: &Event) {
        let type_ = match event.type_ {
            EventType::Normal => KubeEventType::Normal,
            EventType::Warning => KubeEventType::Warning,
        };
        let note = clip(&event.message, MAX_NOTE);
        let recorder = self.recorder(note);
        let event = KubeEvent {
            type_,
            reason: event.reason.as_str().to_owned(),
            note: Some(note.to_owned()),
            action: event.action.to_owned(),
            secondary: None,
        };
        let error = match timeout(LIMIT, recorder.publish(&event, regarding)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => brief(&error),
            Err(_) => format!("no answer within {} s", LIMIT.as_secs()),
        };
        self.metrics.event_error();
        tracing::warn!(reason = event.reason, error, "event not written");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use vitrine_crds::condition::Reason;

    use super::*;
    use crate::testing::Server;

    fn event(action: &'static str) -> Event {
        Event { type_: EventType::Normal, reason: Reason::StorageFull, action, message: "m".into() }
    }

    fn regarding(name: &str) -> ObjectReference {
        ObjectReference { namespace: Some("a".into()), name: Some(name.into()), ..ObjectReference::default() }
    }

    /// A server that takes every event, and who writes to it.
    fn writer() -> (Server, Events) {
        let server = Server::new(|request| {
            let object = json!({"metadata": {"name": "e", "namespace": "a"}});
            if request.method == "POST" { (201, object) } else { (200, object) }
        });
        let events = Events::new(server.client(), "pod".into(), Metrics::default());
        (server, events)
    }

    fn methods(server: &Server) -> Vec<String> {
        server.log().iter().map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
    }

    #[tokio::test]
    async fn a_repeat_is_counted_and_what_was_long_ago_is_forgotten() {
        let (server, events) = writer();
        for _ in 0..2 {
            events.publish(&regarding("first"), &event("Test")).await;
        }
        assert_eq!(methods(&server), ["POST", "PATCH"]);
        for n in 2..REMEMBERED {
            events.publish(&regarding(&n.to_string()), &event("Test")).await;
        }
        events.publish(&regarding("first"), &event("Test")).await;
        assert_eq!(methods(&server).last().map(String::as_str), Some("POST"));
    }

    #[tokio::test]
    async fn other_words_are_another_event() {
        let (server, events) = writer();
        let says = |message: &str| Event { message: message.into(), ..event("Test") };
        for message in ["version 1", "version 2", "version 2", "version 1"] {
            events.publish(&regarding("d"), &says(message)).await;
        }
        assert_eq!(methods(&server), ["POST", "POST", "PATCH", "PATCH"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_hangs_is_given_up_and_counted() {
        let server = Server::slow(|_| std::future::pending());
        let metrics = Metrics::default();
        let events = Events::new(server.client(), "pod".into(), metrics.clone());
        let written = timeout(LIMIT * 2, events.publish(&regarding("d"), &event("Test"))).await;
        assert!(written.is_ok(), "still waiting");
        assert_eq!(server.log().len(), 1);
        assert!(metrics.text().unwrap().contains("vitrine_event_errors_total 1"));
    }
}
