//! Events of other controllers: read only where `vitrine_plan::refusal` asks, never watched, and not
//! at all while everything starts as it should.

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ListParams;
use vitrine_plan::refusal::{Question, Told};

use crate::context::Context;
use crate::error::brief;

/// Most events of one object that are read; repeats of one event are one object with a count.
const LIMIT: u32 = 50;

/// The answer of the newest event, if one was told. Events explain and decide nothing: where they
/// cannot be read, the object goes on without the explanation.
pub async fn ask(ctx: &Context, namespace: &str, question: &Question) -> Option<String> {
    let about = format!("regarding.uid={},type=Warning", question.uid);
    let params = ListParams::default().fields(&about).limit(LIMIT);
    match ctx.api::<Event>(namespace).list(&params).await {
        Ok(found) => question.answer(found.items.into_iter().map(told)),
        Err(error) => {
            tracing::warn!(namespace, error = brief(&error), "events cannot be read");
            None
        }
    }
}

fn told(event: Event) -> Told {
    let repeated = event.series.map(|series| Time(series.last_observed_time.0));
    let single = event.event_time.map(|time| Time(time.0));
    Told {
        at: repeated.or(event.deprecated_last_timestamp).or(single).or(event.metadata.creation_timestamp),
        reason: event.reason.unwrap_or_default(),
        note: event.note.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::object;

    #[test]
    fn the_time_of_an_event_is_when_it_was_told_last() {
        let at = |times: serde_json::Value| {
            let mut event = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:01Z"}, "eventTime": null,
                "reason": "FailedCreate", "note": "n"});
            event.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
            let told = told(object(event));
            assert_eq!((told.reason.as_str(), told.note.as_str()), ("FailedCreate", "n"));
            told.at.unwrap().0.to_string()
        };
        assert_eq!(at(json!({})), "2026-01-01T00:00:01Z");
        assert_eq!(at(json!({"eventTime": "2026-01-01T00:00:02.000000Z"})), "2026-01-01T00:00:02Z");
        // as client-go's older recorder writes it, which the controllers and the kubelet use
        assert_eq!(at(json!({"deprecatedLastTimestamp": "2026-01-01T00:00:03Z"})), "2026-01-01T00:00:03Z");
        let series = json!({"count": 2, "lastObservedTime": "2026-01-01T00:00:04.000000Z"});
        assert_eq!(
            at(json!({"series": series, "eventTime": "2026-01-01T00:00:02.000000Z"})),
            "2026-01-01T00:00:04Z"
        );
    }
}
