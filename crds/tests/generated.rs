//! The committed YAML is what the types say, every definition fits a client-side apply, and every
//! field that a user can write is documented and bounded.
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)] // test code

use kube::ResourceExt as _;
use serde_json::Value;

/// The annotation of a client-side apply holds the whole object and is limited to 256 KiB.
const MAX_COMPACT_JSON: usize = 200 * 1024;

#[test]
fn committed_yaml_is_current() {
    for crd in vitrine_crds::definitions() {
        let path = format!("{}/{}.yaml", env!("CARGO_MANIFEST_DIR"), crd.name_any());
        let committed = std::fs::read_to_string(&path).unwrap();
        let generated = vitrine_crds::yaml(&crd).unwrap();
        assert!(
            committed == generated,
            "{path} is out of date: run `cargo run -p vitrine-crds --bin crdgen`"
        );
    }
}

#[test]
fn definitions_fit_a_client_side_apply() {
    for crd in vitrine_crds::definitions() {
        let bytes = serde_json::to_string(&crd).unwrap().len();
        assert!(bytes < MAX_COMPACT_JSON, "{}: {bytes} bytes", crd.name_any());
    }
}

/// Calls `visit` with the path and schema of every property below a schema.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), child, visit);
    }
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            walk(&format!("{path}[]"), &schema[key], visit);
        }
    }
}

fn schemas() -> Vec<(String, Value)> {
    vitrine_crds::definitions()
        .iter()
        .map(|crd| {
            let schema = &crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema;
            (crd.spec.names.kind.clone(), serde_json::to_value(schema).unwrap())
        })
        .collect()
}

#[test]
fn every_field_is_documented() {
    let mut missing = Vec::new();
    for (kind, schema) in schemas() {
        for part in ["spec", "status"] {
            walk(&format!("{kind}.{part}"), &schema["properties"][part], &mut |path, node| {
                if !path.ends_with("[]") && node["description"].as_str().is_none_or(str::is_empty) {
                    missing.push(path.to_owned());
                }
            });
        }
    }
    assert!(missing.is_empty(), "fields without a description for `kubectl explain`: {missing:#?}");
}

#[test]
fn every_list_and_text_of_a_spec_is_bounded() {
    let mut unbounded = Vec::new();
    for (kind, schema) in schemas() {
        walk(&format!("{kind}.spec"), &schema["properties"]["spec"], &mut |path, node| {
            let list = node["type"] == "array" && node["maxItems"].is_null();
            let map = node["additionalProperties"].is_object() && node["maxProperties"].is_null();
            // the fields of a toleration are Kubernetes' own and checked when the pod is made
            let text = node["type"] == "string"
                && node["maxLength"].is_null()
                && node["enum"].is_null()
                && !path.contains("tolerations")
                && !path.ends_with("nodeSelector[]");
            if list || map || text {
                unbounded.push(path.to_owned());
            }
        });
    }
    assert!(unbounded.is_empty(), "{unbounded:#?}");
}

/// A default in there is a difference for ever to a client that compares whole lists.
#[test]
fn no_entry_of_a_list_has_a_default() {
    let mut found = Vec::new();
    for (kind, schema) in schemas() {
        walk(&format!("{kind}.spec"), &schema["properties"]["spec"], &mut |path, node| {
            if node["type"] == "array" {
                walk(&format!("{path}[]"), &node["items"], &mut |path, entry| {
                    if !entry["default"].is_null() {
                        found.push(path.to_owned());
                    }
                });
            }
        });
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn conditions_are_merged_by_type() {
    for (kind, schema) in schemas() {
        let node = &schema["properties"]["status"]["properties"]["conditions"];
        assert_eq!(node["x-kubernetes-list-type"], "map", "{kind}");
        assert_eq!(node["x-kubernetes-list-map-keys"][0], "type", "{kind}");
        let required = node["items"]["required"].as_array().unwrap();
        assert!(required.iter().any(|r| r == "reason"), "{kind}");
    }
}

#[test]
fn scale_subresource_names_a_selector() {
    let crd =
        vitrine_crds::definitions().into_iter().find(|c| c.spec.names.kind == "ModelDeployment").unwrap();
    let scale = crd.spec.versions[0].subresources.clone().unwrap().scale.unwrap();
    assert_eq!(scale.spec_replicas_path, ".spec.replicas");
    assert_eq!(scale.status_replicas_path, ".status.replicas");
    assert_eq!(scale.label_selector_path.as_deref(), Some(".status.selector"));
}
