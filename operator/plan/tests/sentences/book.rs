//! What was said where: sentences by reason.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use vitrine_crds::common::LastFailure;
use vitrine_crds::condition::Reason;
use vitrine_plan::{Event, EventType};

/// Kind, and the place in its status or events.
type Place = (&'static str, String);

/// Sentences by reason, each with its places.
#[derive(Default)]
pub struct Book {
    said: BTreeMap<(Reason, String), BTreeSet<Place>>,
}

/// What a run that has ended without a model says under whatever reason it ended with.
const ALWAYS: [&str; 3] =
    ["the run has ended", "there is no model to judge", "there is no model to register"];

fn reason_of(word: &str) -> Reason {
    Reason::ALL.iter().copied().find(|r| r.as_str() == word).unwrap()
}

impl Book {
    /// Notes everything that a user reads after a pass.
    pub fn note(
        &mut self,
        kind: &'static str,
        conditions: &[Condition],
        failure: Option<&LastFailure>,
        events: &[Event],
    ) {
        for c in conditions {
            self.add(reason_of(&c.reason), &c.message, kind, format!("{}={}", c.type_, c.status));
        }
        if let Some(failure) = failure {
            self.add(reason_of(&failure.reason), &failure.message, kind, "lastFailure".to_owned());
        }
        for event in events {
            let type_ = if event.type_ == EventType::Warning { "Warning" } else { "Normal" };
            self.add(event.reason, &event.message, kind, format!("event ({type_})"));
        }
    }

    fn add(&mut self, reason: Reason, sentence: &str, kind: &'static str, place: String) {
        if ALWAYS.contains(&sentence) {
            return;
        }
        self.said.entry((reason, sentence.to_owned())).or_default().insert((kind, place));
    }

    /// Does anything produce the reason?
    pub fn tells(&self, reason: Reason) -> bool {
        self.said.keys().any(|(known, _)| *known == reason)
    }

    /// Reason and sentence of what `lastFailure` held.
    pub fn failures(&self) -> Vec<(Reason, String)> {
        let fails = |places: &BTreeSet<Place>| places.iter().any(|(_, place)| place == "lastFailure");
        self.said.iter().filter(|(_, places)| fails(places)).map(|(key, _)| key.clone()).collect()
    }

    /// The document.
    pub fn markdown(&self) -> String {
        let mut text = String::from(
            "# What users read\n\nEvery reason with the sentences that go with it and where they appear, from the situations of \
             `operator/plan/tests/sentences/`.\nGenerated: `VITRINE_WRITE=1 cargo test -p vitrine-plan --test sentences`. \
             What the reasons mean is in the top README. A run that has ended without a model says besides, under its reason: \
             *the run has ended* (Running=False), *there is no model to judge* (GatePassed=Unknown), *there is no model to register* (Registered=False).\n",
        );
        for reason in Reason::ALL {
            text.extend(["\n## ", reason.as_str(), "\n\n"]);
            for ((_, sentence), places) in self.said.iter().filter(|((known, _), _)| known == reason) {
                let words = if sentence.is_empty() { "(no text)" } else { sentence };
                text.extend(["- ", words, "  \n  *", &listed(places), "*\n"]);
            }
        }
        text
    }
}

/// `Dataset: Ready=False, lastFailure; TrainingRun: ...`.
fn listed(places: &BTreeSet<Place>) -> String {
    let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (kind, place) in places {
        kinds.entry(kind).or_default().push(place);
    }
    let parts: Vec<String> =
        kinds.iter().map(|(kind, places)| format!("{kind}: {}", places.join(", "))).collect();
    parts.join("; ")
}
