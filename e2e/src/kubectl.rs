//! `kubectl`, as a user calls it.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Runs `kubectl` and returns what it printed; panics with its message when it fails.
pub fn kubectl(args: &[&str]) -> String {
    let output = try_kubectl(args, None);
    assert!(output.status.success(), "kubectl {args:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `kubectl`, with text on its standard input if there is any.
pub fn try_kubectl(args: &[&str], input: Option<&str>) -> Output {
    let mut child = Command::new("kubectl")
        .args(args)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("kubectl is not on the PATH: {e}"));
    if let Some(text) = input {
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    }
    child.wait_with_output().unwrap()
}

/// What a command printed on its standard error.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// An object or list as JSON; `Null` when the object does not exist.
pub fn get(namespace: &str, what: &[&str]) -> Value {
    let mut args = vec!["-n", namespace, "get", "-o", "json", "--ignore-not-found"];
    args.extend_from_slice(what);
    let text = kubectl(&args);
    if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
}

/// The items of a list.
pub fn list(namespace: &str, what: &[&str]) -> Vec<Value> {
    get(namespace, what)["items"].as_array().cloned().unwrap_or_default()
}

/// Applies a manifest.
pub fn apply(namespace: &str, manifest: &str) -> String {
    let output = try_kubectl(&["-n", namespace, "apply", "-f", "-"], Some(manifest));
    assert!(output.status.success(), "kubectl apply: {}\n{manifest}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Status, reason and message of a condition, `""` where it is not there.
pub fn condition(object: &Value, kind: &str) -> (String, String, String) {
    let found = object["status"]["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == kind);
    let text = |key: &str| found.and_then(|c| c[key].as_str()).unwrap_or_default().to_owned();
    (text("status"), text("reason"), text("message"))
}

/// A text field by JSON pointer, `""` where it is not there.
pub fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A number by JSON pointer.
pub fn number(object: &Value, pointer: &str) -> Option<i64> {
    object.pointer(pointer).and_then(Value::as_i64)
}
