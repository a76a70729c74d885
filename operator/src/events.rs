//! Events: a short story of transitions where users look for it. Best effort; an event that cannot
//! be written never fails a reconcile.

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

/// Writes events; repeats of the same kind become one event with a count.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
    metrics: Metrics,
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
        Self { recorder: Recorder::new(client, reporter), metrics }
    }

    /// Writes one event about an object.
    pub async fn publish(&self, regarding: &ObjectReference, event: &Event) {
        let type_ = match event.type_ {
            EventType::Normal => KubeEventType::Normal,
            EventType::Warning => KubeEventType::Warning,
        };
        let event = KubeEvent {
            type_,
            reason: event.reason.as_str().to_owned(),
            note: Some(clip(&event.message, MAX_NOTE).to_owned()),
            action: event.action.to_owned(),
            secondary: None,
        };
        let error = match timeout(LIMIT, self.recorder.publish(&event, regarding)).await {
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
    use vitrine_crds::condition::Reason;

    use super::*;
    use crate::testing::Server;

    #[tokio::test(start_paused = true)]
    async fn an_event_that_hangs_is_given_up_and_counted() {
        let server = Server::slow(|_| std::future::pending());
        let metrics = Metrics::default();
        let events = Events::new(server.client(), "pod".into(), metrics.clone());
        let event = Event {
            type_: EventType::Normal,
            reason: Reason::StorageFull,
            action: "Test",
            message: "m".into(),
        };
        let regarding = ObjectReference { namespace: Some("a".into()), ..ObjectReference::default() };
        let written = timeout(LIMIT * 2, events.publish(&regarding, &event)).await;
        assert!(written.is_ok(), "still waiting");
        assert_eq!(server.log().len(), 1);
        assert!(metrics.text().unwrap().contains("vitrine_event_errors_total 1"));
    }
}
