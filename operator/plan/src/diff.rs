//! Does a child need to be written? It does when it is missing, when what we want has changed since
//! the last write, or when somebody else changed a field that we set. Fields that others add
//! (defaults, status, node ports) do not count.

use serde::Serialize;
use serde_json::Value;
use vitrine_crds::names::ANNOTATION_APPLIED;

use crate::hash;

const OWNERS: &str = "ownerReferences";

/// Marks a wanted child with its own hash, so that a removed field is noticed too. An older mark is
/// replaced, as if it had never been.
pub fn with_hash<K: Serialize + kube::Resource>(mut child: K) -> K {
    let annotations = &mut child.meta_mut().annotations;
    *annotations = annotations.take().map(|mut a| {
        a.remove(ANNOTATION_APPLIED);
        a
    });
    *annotations = annotations.take().filter(|a| !a.is_empty());
    let hash = hash::sha256_hex(hash::canonical(&to_json(&child)).as_bytes());
    let annotations = child.meta_mut().annotations.get_or_insert_default();
    annotations.insert(ANNOTATION_APPLIED.to_owned(), hash);
    child
}

/// A typed object as JSON; the types of this room always have one.
pub fn to_json<K: Serialize>(value: &K) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// Must the wanted object be written, given the live one? The hash among the wanted annotations is
/// compared like any other field.
pub fn needs_apply(desired: &Value, live: Option<&Value>) -> bool {
    live.is_none_or(|live| !covers(desired, live, ""))
}

/// Typed form of [`needs_apply`].
pub fn differs<K: Serialize>(desired: &K, live: Option<&K>) -> bool {
    needs_apply(&to_json(desired), live.map(to_json).as_ref())
}

/// Was the live object last written by an apply of the wanted one?
pub fn same_hash<K: kube::Resource>(wanted: &K, live: &K) -> bool {
    let hash = |child: &K| child.meta().annotations.as_ref().and_then(|a| a.get(ANNOTATION_APPLIED).cloned());
    hash(wanted).is_some_and(|wanted| hash(live) == Some(wanted))
}

/// Does `live` hold everything that `desired` says? `key` is the field that holds both.
fn covers(desired: &Value, live: &Value, key: &str) -> bool {
    if is_empty(desired) {
        return is_empty(live);
    }
    if is_quantity(key) {
        return same_quantity(desired, live);
    }
    match (desired, live) {
        (Value::Object(want), Value::Object(have)) => {
            let quantities = is_quantities(key);
            want.iter().all(|(name, value)| {
                let found = have.get(name).unwrap_or(&Value::Null);
                if quantities { same_quantity(value, found) } else { covers(value, found, name) }
            })
        }
        // others may add owners; the API keeps the list by UID, in any order
        (Value::Array(want), Value::Array(have)) if key == OWNERS => {
            want.iter().all(|w| have.iter().any(|h| covers(w, h, "")))
        }
        (Value::Array(want), Value::Array(have)) => {
            want.len() == have.len() && want.iter().zip(have).all(|(w, h)| covers(w, h, ""))
        }
        // the API leaves out a zero where zero is the default
        (Value::Bool(false), Value::Null) => true,
        (Value::Number(number), Value::Null) => number.as_i64() == Some(0),
        (want, have) => want == have,
    }
}

/// The API drops empty values: absent, null and empty are one.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Fields whose values are maps of quantities, in every object that this room builds.
fn is_quantities(key: &str) -> bool {
    matches!(key, "requests" | "limits")
}

/// Fields that are a quantity.
fn is_quantity(key: &str) -> bool {
    key == "averageValue"
}

fn same_quantity(a: &Value, b: &Value) -> bool {
    let text = |v: &Value| match v {
        Value::String(s) => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    };
    let (Some(a), Some(b)) = (text(a), text(b)) else { return a == b };
    match (nanos(&a), nanos(&b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// A Kubernetes quantity in billionths, rounded up as the API rounds; `None` where the text is no
/// quantity or is beyond 1.7e29.
pub fn nanos(text: &str) -> Option<i128> {
    let text = text.trim();
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let mantissa: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let (factor, exponent) = scale(suffix)?;
    let exponent = exponent.checked_add(9)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let scaled = mantissa.checked_mul(factor)?;
    let value = if exponent >= 0 {
        scaled.checked_mul(10_i128.checked_pow(exponent.unsigned_abs())?)?
    } else {
        let divisor = 10_i128.checked_pow(exponent.unsigned_abs())?;
        scaled / divisor + i128::from(scaled % divisor != 0)
    };
    Some(if negative { -value } else { value })
}

/// Factor and power of ten of a suffix.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    let binary = |power: u32| Some((1024_i128.pow(power), 0));
    match suffix {
        "" => Some((1, 0)),
        "n" => Some((1, -9)),
        "u" => Some((1, -6)),
        "m" => Some((1, -3)),
        "k" => Some((1, 3)),
        "M" => Some((1, 6)),
        "G" => Some((1, 9)),
        "T" => Some((1, 12)),
        "P" => Some((1, 15)),
        "E" => Some((1, 18)),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        exponent => {
            let digits = exponent.strip_prefix(['e', 'E'])?;
            Some((1, digits.parse().ok()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quantities_are_compared_by_value() {
        for (a, b) in [
            ("1000m", "1"),
            ("1Gi", "1024Mi"),
            ("0.5", "500m"),
            ("1e3", "1k"),
            ("1E", "1000P"),
            (".5", "0.50"),
            ("1.5Gi", "1536Mi"),
            ("+1", "1"),
            ("2E2", "200"),
        ] {
            assert_eq!(nanos(a), nanos(b), "{a} {b}");
            assert!(nanos(a).is_some(), "{a}");
        }
        assert_ne!(nanos("1M"), nanos("1Mi"));
        assert!(nanos("-1") < nanos("0"));
        for bad in ["", "-", "1.2.3", "Gi", "1x", "1e", "1e99999999999", "e3", "1 Gi"] {
            assert_eq!(nanos(bad), None, "{bad}");
        }
        // smaller than the API can hold: rounded up
        assert_eq!(nanos("0.0000000001"), Some(1));
    }

    #[test]
    fn fields_of_others_need_no_write_and_changed_ones_do() {
        let desired = json!({
            "metadata": {"annotations": {ANNOTATION_APPLIED: "h"}},
            "spec": {"template": {"containers": [{"name": "main", "resources": {"limits": {"cpu": "1000m", "memory": "1Gi"}}, "env": []}]}}
        });
        let mut live = json!({
            "metadata": {"annotations": {ANNOTATION_APPLIED: "h", "other": "x"}, "uid": "u"},
            "spec": {"template": {"containers": [{"name": "main", "terminationMessagePath": "/x",
                "resources": {"limits": {"cpu": "1", "memory": "1024Mi"}}}]}},
            "status": {}
        });
        assert!(!needs_apply(&desired, Some(&live)));
        assert!(needs_apply(&desired, None));
        live["spec"]["template"]["containers"][0]["resources"]["limits"]["memory"] = json!("2Gi");
        assert!(needs_apply(&desired, Some(&live)));
        live["spec"]["template"]["containers"][0]["resources"]["limits"]["memory"] = json!("1Gi");
        live["metadata"]["annotations"][ANNOTATION_APPLIED] = json!("older");
        assert!(needs_apply(&desired, Some(&live)), "a field was removed since");
        live["metadata"]["annotations"][ANNOTATION_APPLIED] = json!("h");
        live["spec"]["template"]["containers"] = json!([]);
        assert!(needs_apply(&desired, Some(&live)));
        let (asked, stored) = (json!({"averageValue": "0.5"}), json!({"averageValue": "500m"}));
        assert!(!needs_apply(&asked, Some(&stored)));
        assert!(needs_apply(&asked, Some(&json!({"averageValue": "5"}))));
    }

    #[test]
    fn values_that_look_empty_but_mean_something_are_compared() {
        assert!(needs_apply(&json!({"replicas": 0}), Some(&json!({"replicas": 1}))));
        assert!(needs_apply(&json!({"suspend": false}), Some(&json!({"suspend": true}))));
        assert!(needs_apply(&json!({"emptyDir": {}}), Some(&json!({"emptyDir": {"medium": "Memory"}}))));
        assert!(!needs_apply(&json!({"emptyDir": {}}), Some(&json!({}))));
        assert!(!needs_apply(&json!({"minReadySeconds": 0}), Some(&json!({}))));
        assert!(needs_apply(&json!({"minReadySeconds": 1}), Some(&json!({}))));
    }

    #[test]
    fn an_owner_that_somebody_added_is_left_alone() {
        let ours = json!({"ownerReferences": [{"uid": "u", "controller": true}]});
        let both = json!({"ownerReferences": [{"uid": "x"}, {"uid": "u", "controller": true, "name": "n"}]});
        assert!(!needs_apply(&ours, Some(&both)));
        assert!(needs_apply(&ours, Some(&json!({"ownerReferences": [{"uid": "x"}]}))));
    }
}
