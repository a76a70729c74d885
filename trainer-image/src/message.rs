//! The last words of a pod, short enough for the kubelet.

use vitrine_contract::paths::MAX_TERMINATION;
use vitrine_contract::report::{Message, Outcome};

use crate::Error;

/// What stands where text was cut.
const CUT: &str = "...";

/// JSON of at most [`MAX_TERMINATION`] bytes: texts and details that do not fit are cut.
pub fn termination(message: &Message) -> Result<String, Error> {
    let mut message = message.clone();
    loop {
        let json = serde_json::to_string(&message).map_err(|e| Error::Internal(e.to_string()))?;
        if json.len() <= MAX_TERMINATION || !shorten(&mut message.outcome) {
            return Ok(json);
        }
    }
}

/// Makes the longest thing shorter; false when there is nothing left to cut.
fn shorten(outcome: &mut Outcome) -> bool {
    match outcome {
        Outcome::Failed(failure) => halve(&mut failure.message),
        Outcome::Trained(trained) => halve(&mut trained.best.parameters) || trained.metrics.pop().is_some(),
        // The ratios are in the profile too.
        Outcome::Ingested(ingested) => ingested.null_ratios.pop_last().is_some(),
    }
}

/// Keeps the first part of a text. A third goes at a time, so that little more than needed is lost.
fn halve(text: &mut String) -> bool {
    let kept = text.strip_suffix(CUT).unwrap_or(text).len() * 2 / 3;
    if kept == 0 {
        return false;
    }
    let kept = text.floor_char_boundary(kept);
    text.truncate(kept);
    text.push_str(CUT);
    true
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use vitrine_contract::report::{Failure, Ingested};

    use super::*;

    fn failed(message: &str) -> Message {
        Message::new(Outcome::Failed(Failure { reason: "DataCorrupt".into(), message: message.into() }))
    }

    #[test]
    fn a_short_message_stays_as_it_is() {
        let message = failed("X.csv line 3: é");
        let read: Message = serde_json::from_str(&termination(&message).unwrap()).unwrap();
        assert_eq!(read, message);
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_keeps_its_beginning() {
        for text in ["é".repeat(5000), "\"\n".repeat(3000), "x".repeat(2040)] {
            let json = termination(&failed(&format!("begin {text}"))).unwrap();
            assert!(json.len() <= MAX_TERMINATION && json.len() > MAX_TERMINATION / 2, "{}", json.len());
            let read: Message = serde_json::from_str(&json).unwrap();
            let Outcome::Failed(failure) = read.outcome else { panic!("{json}") };
            assert!(failure.message.starts_with("begin ") && failure.message.ends_with("..."));
        }
    }

    #[test]
    fn an_ingest_of_many_columns_fits() {
        let null_ratios: BTreeMap<_, _> = (0..500).map(|i| (format!("column {i}"), 0.5)).collect();
        let message =
            Message::new(Outcome::Ingested(Ingested { null_ratios, rows: 7, ..Ingested::default() }));
        let json = termination(&message).unwrap();
        assert!(json.len() <= MAX_TERMINATION);
        let read: Message = serde_json::from_str(&json).unwrap();
        assert!(matches!(read.outcome, Outcome::Ingested(i) if i.rows == 7));
    }
}
