//! Runs the accept/reject table of `cel.yaml` with the CEL interpreter of the client library; the
//! tests against a real apiserver run the same table there.
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)] // test code

use kube::core::cel::Validator;
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

/// The message of the first rule that refuses, if any.
fn refusal(kind: &str, object: &Value, old: Option<&Value>) -> Option<String> {
    let crd = vitrine_crds::definitions().into_iter().find(|c| c.spec.names.kind == kind).unwrap();
    let schema =
        serde_json::to_value(&crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema).unwrap();
    let filled = |value: &Value| {
        let mut value = value.clone();
        fill_defaults(&schema, &mut value);
        value
    };
    Validator::new().validate(&schema, &filled(object), old.map(filled).as_ref()).err().map(|e| e.to_string())
}

#[test]
fn table_of_accepted_and_refused_objects() {
    let table: Table = serde_saphyr::from_str(include_str!("cel.yaml")).unwrap();
    assert!(table.cases.len() > 30);
    let mut wrong = Vec::new();
    for case in &table.cases {
        let mut object = table.bases[&case.kind].clone();
        change(&mut object, &case.set);
        let found = match &case.update {
            None => refusal(&case.kind, &object, None),
            Some(update) => {
                let old = object.clone();
                change(&mut object, update);
                refusal(&case.kind, &object, Some(&old))
            }
        };
        let right = match (&case.refused, &found) {
            (None, None) => true,
            (Some(text), Some(message)) => message.contains(text.as_str()),
            _ => false,
        };
        if !right {
            wrong.push(format!("{} / {}: wanted {:?}, got {found:?}", case.kind, case.name, case.refused));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
