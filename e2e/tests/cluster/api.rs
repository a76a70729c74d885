//! What the apiserver accepts and refuses, with the sentence that a user reads.

use serde_json::{Map, Value};
use vitrine_e2e::kubectl::{kubectl, stderr, try_kubectl};
use vitrine_e2e::story::Story;

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
        object.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(key.to_owned(), value.clone());
    }
}

fn server_says(args: &[&str], object: &Value) -> Option<String> {
    let output = try_kubectl(args, Some(&object.to_string()));
    (!output.status.success()).then(|| stderr(&output))
}

/// What is said to a change. `kubectl replace` reads the version first, and the operator may write status
/// just then: that conflict says nothing about the change.
fn replaced(object: &Value) -> Option<String> {
    let say = || server_says(&["replace", "--dry-run=server", "-f", "-"], object);
    let conflict = |said: &Option<String>| said.as_deref().is_some_and(|s| s.contains("(Conflict)"));
    std::iter::repeat_with(say).take(10).find(|said| !conflict(said)).expect("an answer without a conflict")
}

#[test]
fn a_real_apiserver_accepts_and_refuses_as_the_table_says() {
    let story = Story::begin("api");
    let table: Table = serde_saphyr::from_str(include_str!("../../../crds/tests/cel.yaml")).unwrap();
    let mut wrong = Vec::new();
    for case in &table.cases {
        let mut object = table.bases[&case.kind].clone();
        object["metadata"]["namespace"] = story.ns.clone().into();
        change(&mut object, &case.set);
        let said = if let Some(update) = &case.update {
            assert_eq!(server_says(&["create", "-f", "-"], &object), None, "{}", case.name);
            change(&mut object, update);
            let said = replaced(&object);
            let name = object["metadata"]["name"].as_str().unwrap();
            kubectl(&["-n", &story.ns, "delete", &case.kind, name]);
            said
        } else {
            server_says(&["create", "--dry-run=server", "-f", "-"], &object)
        };
        let right = match (&case.refused, &said) {
            (None, None) => true,
            (Some(part), Some(text)) => text.contains(part.as_str()),
            _ => false,
        };
        if !right {
            wrong.push(format!("{} / {}: wanted {:?}, got {said:?}", case.kind, case.name, case.refused));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    story.end();
}

#[test]
fn a_typo_in_a_field_is_refused_with_its_name() {
    let story = Story::begin("typo");
    let yaml = vitrine_e2e::manifests::deployment("serve", 1).replace("replicas:", "replica:");
    let args = ["-n", story.ns.as_str(), "create", "--dry-run=server", "--validate=strict", "-f", "-"];
    let output = try_kubectl(&args, Some(&yaml));
    assert!(!output.status.success());
    assert!(stderr(&output).contains(r#"unknown field "spec.replica""#), "{}", stderr(&output));
    story.end();
}

#[test]
fn explain_documents_the_spec() {
    for (kind, field) in [("mlds", "spec.split"), ("trun", "spec.search"), ("mdep", "spec.model")] {
        let text = kubectl(&["explain", &format!("{kind}.{field}"), "--recursive"]);
        assert!(text.contains("DESCRIPTION") && text.contains("FIELDS"), "{text}");
    }
}
