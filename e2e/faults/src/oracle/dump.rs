//! The end state of a run as one comparable value: what is stored in the cluster, in the registry and
//! among the artifacts, without what differs from run to run (UIDs, times, names made from UIDs).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use kube::api::ListParams;
use serde_json::{Value, json};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use crate::stage::{KINDS, Run};

/// Flat form of a dump: path to value.
pub type Flat = BTreeMap<String, String>;

/// What the registry and the artifact store hold.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// Rows of each table, as JSON.
    pub tables: BTreeMap<&'static str, Vec<Value>>,
    /// Artifacts: digest in the path, and the digest of the bytes.
    pub blobs: BTreeMap<String, String>,
}

/// Tables with the columns that are compared and an order. Artifacts are not
/// compared one by one: see `no_lost_artifact` among the oracles.
const TABLES: &[(&str, &str)] = &[
    ("versions", "namespace_uid, model, version, run_uid, run, digest, accepted, dataset_digest, spec_hash"),
    ("models", "namespace_uid, model, last_version"),
    ("aliases", "namespace_uid, model, alias, version"),
    ("alias_history", "namespace_uid, model, alias, from_version, to_version, who, why"),
    ("deployments_history", "namespace_uid, deployment, model, version, digest, generation, result, why"),
    ("dataset_revisions", "namespace_uid, dataset_uid, dataset, attempt_key, revision, manifest_digest"),
];

/// Reads registry and artifacts of a run, while the operator runs or not.
pub async fn stored(run: &Run<'_>) -> Result<Stored> {
    let mut all = Stored::default();
    let file = run.operator.dir.join("registry/registry.db");
    let options = SqliteConnectOptions::new().filename(file).read_only(true);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
    for (table, columns) in TABLES {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {columns} FROM {table} ORDER BY {columns}"));
        let rows = sqlx::query(sql).fetch_all(&pool).await?;
        let rows = rows.iter().map(|row| {
            let mut object = serde_json::Map::new();
            for (i, column) in columns.split(", ").enumerate() {
                let value = match row.try_get::<Option<i64>, _>(i) {
                    Ok(number) => json!(number),
                    Err(_) => json!(row.try_get::<Option<String>, _>(i).unwrap_or_default()),
                };
                object.insert(column.to_owned(), value);
            }
            Value::Object(object)
        });
        all.tables.insert(table, rows.collect());
    }
    pool.close().await;
    let artifacts = run.operator.dir.join("artifacts");
    for namespace in std::fs::read_dir(&artifacts)?.flatten() {
        for blob in std::fs::read_dir(namespace.path().join("sha256")).into_iter().flatten().flatten() {
            let found = vitrine_gateway_client::digest_of_file(&blob.path())?;
            all.blobs.insert(blob.file_name().to_string_lossy().into_owned(), found.digest);
        }
    }
    Ok(all)
}

/// Everything of ours in the run's namespace.
pub async fn objects(run: &Run<'_>) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    let ours = ListParams::default().labels(&format!(
        "{}={}",
        vitrine_crds::names::LABEL_MANAGED_BY,
        vitrine_crds::names::MANAGED_BY
    ));
    for (plural, version, kind) in KINDS {
        let params = if version.starts_with("vitrine") { ListParams::default() } else { ours.clone() };
        for object in run.api(plural).list(&params).await?.items {
            let mut value = serde_json::to_value(object)?;
            value["kind"] = json!(kind);
            all.push(value);
        }
    }
    Ok(all)
}

/// The dump, flat.
pub fn flat(run: &Run<'_>, objects: &[Value], stored: &Stored) -> Flat {
    let names = Names::of(run, objects);
    let mut flat = Flat::new();
    for object in objects.iter().filter(|o| o["kind"] != "Pod") {
        let name = names.plain(object["metadata"]["name"].as_str().unwrap_or_default());
        let path = format!("{}/{name}", object["kind"].as_str().unwrap_or_default());
        walk(&names, &path, &without_noise(object), &mut flat);
    }
    for (table, rows) in &stored.tables {
        let mut rows: Vec<Vec<(String, String)>> = rows.iter().map(|r| columns(&names, r)).collect();
        rows.sort();
        for (i, row) in rows.into_iter().enumerate() {
            // one path for each column: noise in one must not hide the others
            flat.extend(row.into_iter().map(|(name, value)| (format!("registry/{table}/{i}/{name}"), value)));
        }
    }
    flat
}

/// A row of the registry as its columns and their values.
fn columns(names: &Names, row: &Value) -> Vec<(String, String)> {
    let plain = |value: &Value| names.plain(&value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    row.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), plain(value))).collect()
}

/// Names and UIDs of a run with what stands for them.
struct Names(Vec<(String, String)>);

impl Names {
    fn of(run: &Run<'_>, objects: &[Value]) -> Self {
        let mut all = vec![
            (run.namespace_uid.clone(), "NAMESPACE-UID".to_owned()),
            (run.namespace.clone(), "NAMESPACE".to_owned()),
        ];
        let text = |o: &Value, p: &str| o.pointer(p).and_then(Value::as_str).unwrap_or_default().to_owned();
        for object in objects {
            let (kind, name) = (text(object, "/kind"), text(object, "/metadata/name"));
            let owner = text(object, "/metadata/ownerReferences/0/name");
            let of_uid = name
                .strip_prefix(&format!("{owner}-"))
                .is_some_and(|rest| rest.len() == 10 && rest.bytes().all(|b| b.is_ascii_hexdigit()));
            if of_uid && text(object, "/metadata/ownerReferences/0/kind") != "ModelDeployment" {
                all.push((name.clone(), format!("{owner}-ATTEMPT")));
            }
            all.push((text(object, "/metadata/uid"), format!("UID-OF-{kind}")));
        }
        all.retain(|(from, _)| !from.is_empty());
        // the longest first: a name may be the beginning of another one
        all.sort_by_key(|(from, _)| std::cmp::Reverse(from.len()));
        Self(all)
    }

    fn plain(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (from, to) in &self.0 {
            if text.contains(from.as_str()) {
                text = text.replace(from.as_str(), to);
            }
        }
        text
    }
}

/// An object without what no two runs share.
fn without_noise(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(meta) = object["metadata"].as_object_mut() {
        for key in ["managedFields", "uid", "resourceVersion", "creationTimestamp"] {
            meta.remove(key);
        }
        if let Some(annotations) = meta.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(vitrine_crds::names::ANNOTATION_APPLIED);
        }
    }
    for pointer in ["/spec/clusterIP", "/spec/clusterIPs", "/status/duration"] {
        if let Some(value) = object.pointer_mut(pointer) {
            *value = Value::Null;
        }
    }
    // the gateway's address and authority are new with each operator
    for text in object["data"].as_object_mut().into_iter().flat_map(|d| d.values_mut()) {
        let parsed = text.as_str().and_then(|t| serde_json::from_str::<Value>(t).ok());
        if let Some(mut config) = parsed {
            config["gateway"] = Value::Null;
            // and the cluster's keys with each rig
            if config["siblings"].is_object() {
                config["siblings"]["issuer"] = Value::Null;
            }
            *text = config;
        }
    }
    object
}

fn walk(names: &Names, path: &str, value: &Value, flat: &mut Flat) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                walk(names, &format!("{path}/{}", names.plain(key)), value, flat);
            }
        }
        Value::Array(items) => {
            for (i, value) in items.iter().enumerate() {
                let key = value["type"].as_str().map_or_else(|| i.to_string(), str::to_owned);
                walk(names, &format!("{path}/{key}"), value, flat);
            }
        }
        Value::Null => {}
        Value::String(text) if is_time(text) => {
            flat.insert(path.to_owned(), "TIME".to_owned());
        }
        other => {
            let text = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
            flat.insert(path.to_owned(), names.plain(&text));
        }
    }
}

fn is_time(text: &str) -> bool {
    text.len() == 20 && text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T')
}

/// What differs between two runs without faults.
#[derive(Clone, Debug, Default)]
pub struct Noise {
    /// Paths with different values in both.
    values: BTreeSet<String>,
    /// Paths that one of them lacks.
    absent: BTreeSet<String>,
}

impl Noise {
    /// From two runs.
    pub fn between(first: &Flat, second: &Flat) -> Self {
        let paths: BTreeSet<&String> = first.keys().chain(second.keys()).collect();
        let mut noise = Self::default();
        for path in paths {
            match (first.get(path), second.get(path)) {
                (Some(a), Some(b)) if a == b => {}
                (Some(_), Some(_)) => _ = noise.values.insert(path.clone()),
                _ => _ = noise.absent.insert(path.clone()),
            }
        }
        noise
    }

    /// A value that differs from run to run may differ; only what one run lacked may lack.
    fn excuses(&self, path: &str, found: Option<&String>, wanted: Option<&String>) -> bool {
        self.absent.contains(path) || found.is_some() && wanted.is_some() && self.values.contains(path)
    }
}

/// Paths whose values differ, with both values, unless noise excuses it.
pub fn differences(found: &Flat, wanted: &Flat, noise: &Noise) -> Vec<String> {
    let paths: BTreeSet<&String> = found.keys().chain(wanted.keys()).collect();
    paths
        .into_iter()
        .filter(|path| found.get(*path) != wanted.get(*path))
        .filter(|path| !noise.excuses(path, found.get(*path), wanted.get(*path)))
        .map(|path| {
            let shown = |flat: &Flat| flat.get(path).map_or("nothing".to_owned(), |v| format!("{v:.200}"));
            format!("{path}: {}, not {}", shown(found), shown(wanted))
        })
        .collect()
}
