//! Runs the accept/reject table of `cel.yaml` with the CEL interpreter of the client library; the
//! tests against a real apiserver run the same table there.
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)] // test code

use std::collections::BTreeSet;

use kube::core::cel::{ValidationError, Validator};
use serde_json::{Map, Value};

#[derive(serde::Deserialize)]
struct Table {
    bases: Map<String, Value>,
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    kind: String,
    name: String,
    #[serde(default)]
    set: Map<String, Value>,
    #[serde(default)]
    update: Option<Map<String, Value>>,
    #[serde(default)]
    refused: Option<String>,
}

fn change(object: &mut Value, changes: &Map<String, Value>) {
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = object.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        if value.is_null() {
            parent.remove(key);
        } else {
            parent.insert(key.to_owned(), value.clone());
        }
    }
}

/// Fills in the schema's defaults, as an apiserver does before it validates.
fn fill_defaults(schema: &Value, value: &mut Value) {
    if let (Some(properties), Some(object)) = (schema["properties"].as_object(), value.as_object_mut()) {
        for (name, child) in properties {
            if !object.contains_key(name) && !child["default"].is_null() {
                object.insert(name.clone(), child["default"].clone());
            }
            if let Some(field) = object.get_mut(name) {
                fill_defaults(child, field);
            }
        }
    }
    for item in value.as_array_mut().into_iter().flatten() {
        fill_defaults(&schema["items"], item);
    }
}

/// A rule of a kind: where it stands, what it asks, and the sentence of its refusal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Refusal {
    kind: String,
    path: String,
    rule: String,
    message: String,
}

fn schemas() -> Vec<(String, Value)> {
    vitrine_crds::definitions()
        .into_iter()
        .map(|crd| {
            let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.clone();
            (crd.spec.names.kind, serde_json::to_value(schema).unwrap())
        })
        .collect()
}

/// Every rule at or below a schema.
fn collect(kind: &str, path: &str, schema: &Value, found: &mut BTreeSet<Refusal>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let text = |key: &str| rule[key].as_str().unwrap_or_default().to_owned();
        found.insert(Refusal {
            kind: kind.to_owned(),
            path: path.to_owned(),
            rule: text("rule"),
            message: text("message"),
        });
    }
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        collect(kind, &below, child, found);
    }
    for key in ["items", "additionalProperties"].into_iter().filter(|key| schema[*key].is_object()) {
        collect(kind, &format!("{path}[]"), &schema[key], found);
    }
}

fn rules() -> BTreeSet<Refusal> {
    let mut found = BTreeSet::new();
    for (kind, schema) in schemas() {
        collect(&kind, "", &schema, &mut found);
    }
    found
}

/// `spec.a[3].b` is `spec.a[].b` in the schema.
fn without_indexes(path: &str) -> String {
    let mut parts = path.split('[');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "[" + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}

fn table() -> Table {
    serde_saphyr::from_str(include_str!("cel.yaml")).unwrap()
}

/// What every rule that refuses a case says.
fn refusals(bases: &Map<String, Value>, case: &Case) -> Vec<Refusal> {
    let (_, schema) = schemas().into_iter().find(|(kind, _)| *kind == case.kind).unwrap();
    let mut object = bases[&case.kind].clone();
    change(&mut object, &case.set);
    let old = case.update.as_ref().map(|update| {
        let old = object.clone();
        change(&mut object, update);
        old
    });
    let filled = |value: &Value| {
        let mut value = value.clone();
        fill_defaults(&schema, &mut value);
        value
    };
    let ended = Validator::new().validate(&schema, &filled(&object), old.as_ref().map(filled).as_ref());
    let refusal = |e: ValidationError| Refusal {
        kind: case.kind.clone(),
        path: without_indexes(&e.field_path),
        rule: e.rule,
        message: e.message,
    };
    ended.err().map(|e| e.into_vec().into_iter().map(refusal).collect()).unwrap_or_default()
}

#[test]
fn table_of_accepted_and_refused_objects() {
    let table = table();
    assert!(table.cases.len() > 30);
    let mut wrong = Vec::new();
    for case in &table.cases {
        let found = refusals(&table.bases, case);
        let right = match &case.refused {
            None => found.is_empty(),
            Some(sentence) => found.iter().any(|r| r.message == *sentence),
        };
        if !right {
            wrong.push(format!("{} / {}: wanted {:?}, got {found:#?}", case.kind, case.name, case.refused));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_has_a_row_that_it_refuses_with_its_whole_sentence() {
    let table = table();
    let mut unproved = rules();
    assert!(unproved.len() > 15, "{unproved:#?}");
    for case in &table.cases {
        for refusal in refusals(&table.bases, case) {
            if case.refused.as_ref() == Some(&refusal.message) {
                unproved.remove(&refusal);
            }
        }
    }
    assert!(unproved.is_empty(), "rules without a refused row in crds/tests/cel.yaml: {unproved:#?}");
}

#[test]
fn every_sentence_names_its_field() {
    for rule in rules() {
        let field = rule.path.rsplit('.').next().unwrap_or_default().trim_end_matches("[]");
        let named = match field {
            // a rule of the whole object speaks of one of its fields
            "" => rule.message.contains("metadata.") || rule.message.contains("spec."),
            "spec" => rule.message.contains("spec"),
            field => rule.message.contains(field),
        };
        assert!(named, "{rule:#?}");
        assert!(rule.message.len() > 40, "no fix in {rule:#?}");
    }
}
