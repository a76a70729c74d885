//! Hashes of JSON values: equal values give equal hashes, whatever the order of their keys.

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use vitrine_contract::DIGEST_PREFIX;
use vitrine_crds::training_run::Search;

/// The one text of a JSON value: keys sorted, no white space.
///
/// Keys are sorted here, not by the map: another crate of the build may switch `serde_json` to
/// insertion order.
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|a, b| a.0.cmp(b.0));
            text.push('{');
            for (i, (key, value)) in entries.into_iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                text.push_str(&Value::String(key.clone()).to_string());
                text.push(':');
                write(value, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                write(item, text);
            }
            text.push(']');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

/// SHA-256 in lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// `sha256:` hash of a search and its seed, defaults filled in: runs with equal hashes, data and
/// trainer make the same model.
pub fn spec_hash(search: &Search, seed: i64) -> String {
    let value = serde_json::json!({ "search": search, "seed": seed });
    format!("{DIGEST_PREFIX}{}", sha256_hex(canonical(&value).as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_order_of_keys_does_not_matter_and_the_order_of_items_does() {
        let a: Value = serde_json::from_str(r#"{"b":[1,2],"a":{"y":null,"x":"é\""}}"#).unwrap();
        let b: Value = serde_json::from_str(r#"{"a":{"x":"é\"","y":null},"b":[1,2]}"#).unwrap();
        assert_eq!(canonical(&a), canonical(&b));
        assert_eq!(canonical(&a), r#"{"a":{"x":"é\"","y":null},"b":[1,2]}"#);
        assert_ne!(canonical(&json!([1, 2])), canonical(&json!([2, 1])));
    }

    #[test]
    fn a_written_default_has_the_hash_of_an_absent_one() {
        let absent: Search = serde_json::from_value(json!({})).unwrap();
        let written: Search =
            serde_json::from_value(serde_json::to_value(Search::default()).unwrap()).unwrap();
        assert_eq!(spec_hash(&absent, 42), spec_hash(&written, 42));
        assert_ne!(spec_hash(&absent, 42), spec_hash(&absent, 43));
        assert!(vitrine_contract::is_digest(&spec_hash(&absent, 42)));
    }

    /// Nothing fills these defaults into what is stored: another default would give runs that are there
    /// another hash, and so other settings and another model.
    #[test]
    fn the_defaults_of_a_search_stay() {
        let of = |value: Value| spec_hash(&serde_json::from_value(value).unwrap(), 42);
        assert_eq!(of(json!({})), "sha256:7bd697803e33359667819a70cb34146030cfd4dffce2095ee15a1da91d61c91f");
        assert_eq!(
            of(json!({"features": [{}]})),
            "sha256:21a1b73659c7bed20d574ce19f1ada46dd28de1b4b263988f4f0fab153bd5345"
        );
    }

    #[test]
    fn a_whole_number_has_the_hash_of_its_decimal_form() {
        let of = |c: Value| -> Search {
            serde_json::from_value(json!({"candidates": [{"linearSvm": {"c": [c]}}]})).unwrap()
        };
        assert_eq!(spec_hash(&of(json!(1)), 42), spec_hash(&of(json!(1.0)), 42));
        assert_ne!(spec_hash(&of(json!(1)), 42), spec_hash(&of(json!(2)), 42));
    }
}
