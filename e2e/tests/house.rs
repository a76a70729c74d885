//! The house stands as it was drawn: only the arrows of the table below exist between rooms, only
//! the agreed folders exist at the top, and no source file is longer than a reader can hold.
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)] // test code

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Each room with the rooms it may depend on. Development dependencies count as arrows too, but for
/// those of the second list.
const ARROWS: &[(&str, &[&str])] = &[
    ("vitrine-crds", &[]),
    ("vitrine-contract", &[]),
    ("vitrine-gateway-client", &["vitrine-contract"]),
    ("vitrine-plan", &["vitrine-crds", "vitrine-contract"]),
    ("vitrine-operator", &["vitrine-plan", "vitrine-crds", "vitrine-contract"]),
    ("vitrine-model", &[]),
    ("vitrine-trainer", &["vitrine-model", "vitrine-contract", "vitrine-gateway-client"]),
    ("vitrine-server", &["vitrine-model", "vitrine-contract", "vitrine-gateway-client"]),
    ("vitrine-e2e", &["vitrine-crds"]),
    ("vitrine-faults", &["vitrine-crds", "vitrine-contract", "vitrine-gateway-client"]),
];

/// Arrows that exist for tests only: the gateway is tested with the client that the pods use.
const TEST_ARROWS: &[(&str, &str)] = &[("vitrine-operator", "vitrine-gateway-client")];

/// Crates that a room must not use, whatever it depends on: what makes the room pure.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("vitrine-crds", &["tokio", "kube-client", "kube-runtime"]),
    ("vitrine-contract", &["tokio", "kube", "serde_json"]),
    ("vitrine-plan", &["tokio", "kube-client", "kube-runtime", "sqlx", "rand"]),
    ("vitrine-model", &["tokio", "kube", "axum", "hyper", "ureq", "rand"]),
    ("vitrine-trainer", &["tokio", "kube"]),
    ("vitrine-server", &["kube"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--no-deps"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[test]
fn only_the_drawn_arrows_exist() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let table: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let found: BTreeSet<_> = packages.iter().map(|p| text(p, "name")).collect();
    assert_eq!(
        found,
        table.keys().copied().collect(),
        "a room without a line in the table, or a line without a room"
    );
    let mut wrong = Vec::new();
    for package in packages {
        let name = text(package, "name");
        for dependency in package["dependencies"].as_array().unwrap() {
            let to = text(dependency, "name");
            let test_only = dependency["kind"] == "dev" && TEST_ARROWS.contains(&(name, to));
            if to.starts_with("vitrine-") && !table[name].contains(&to) && !test_only {
                wrong.push(format!("{name} -> {to}"));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that are not drawn: {wrong:?}");
}

#[test]
fn pure_rooms_cannot_reach_io() {
    for (room, forbidden) in FORBIDDEN {
        // with the features that the room itself asks for; in a build of the whole workspace a crate
        // has those of all rooms
        let output = Command::new(env!("CARGO"))
            .args([
                "tree",
                "--locked",
                "--edges",
                "normal",
                "--prefix",
                "none",
                "--format",
                "{p}",
                "--package",
                room,
            ])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let tree = String::from_utf8(output.stdout).unwrap();
        let reached: BTreeSet<_> = tree.lines().filter_map(|l| l.split_whitespace().next()).collect();
        assert!(reached.contains(room), "{tree}");
        let bad: Vec<_> = forbidden.iter().filter(|f| reached.contains(**f)).collect();
        assert!(bad.is_empty(), "{room} reaches {bad:?}");
    }
}

/// Files that git tracks and that match.
fn tracked(patterns: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files"])
        .args(patterns)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_top_level_holds_the_agreed_rooms_only() {
    let files = tracked(&[]);
    assert!(files.contains("README.md"));
    let top: BTreeSet<_> = files.lines().filter_map(|l| l.split('/').next()).collect();
    let agreed = BTreeSet::from([
        ".ci",
        ".gitignore",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "charts",
        "clippy.toml",
        "crds",
        "deny.toml",
        "e2e",
        "operator",
        "rust-toolchain.toml",
        "rustfmt.toml",
        "server-image",
        "trainer-image",
    ]);
    let extra: Vec<_> = top.difference(&agreed).collect();
    assert!(extra.is_empty(), "not agreed at the top level: {extra:?}");
}

#[test]
fn no_source_file_is_longer_than_500_lines() {
    let files = tracked(&["*.rs"]);
    assert!(!files.is_empty());
    let long: Vec<_> = files
        .lines()
        .filter_map(|f| std::fs::read_to_string(root().join(f)).ok().map(|t| (t.lines().count(), f)))
        .filter(|(lines, _)| *lines > 500)
        .collect();
    assert!(long.is_empty(), "files over 500 lines (which noun is missing?): {long:?}");
}
