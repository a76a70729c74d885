//! C8, poison resources: from the published schema every field gets its borders, what lies beyond them,
//! and nonsense; then the change is taken back. What the apiserver takes, the operator must answer in
//! status; nothing else may change; and what was taken back must be as before. After Acto (SOSP'23).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::case::collect;
use crate::oracle::{Violation, judge};
use crate::stage::{Run, Stage, holds};
use crate::workload::{self, Step};

/// What is poisoned.
const VICTIMS: [(&str, &str); 2] = [("datasets", "victim"), ("modeldeployments", "victim")];
/// Longest time until a change is answered in status.
const ANSWER: Duration = Duration::from_secs(15);

/// One poisoned field.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Poison {
    /// Kind.
    pub kind: String,
    /// Path of the field below `spec`; what is an array there, or holds keys that the user chooses, stands as
    /// a whole in `value`.
    pub path: Vec<String>,
    /// What it is given.
    pub value: Value,
}

impl std::fmt::Display for Poison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} spec.{} = {:.60}", self.kind, self.path.join("."), self.value.to_string())
    }
}

/// What came of all poisons.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Refused when applied.
    pub refused: usize,
    /// Taken and answered in status.
    pub answered: usize,
    /// Taken, but it changed nothing: not counted as a fault.
    pub unchanged: usize,
    /// What must not be.
    pub wrong: Vec<(String, Vec<String>)>,
    /// A poison could not be taken back: those after it were not tried.
    pub stopped: bool,
}

/// All poisons that the published schemas give.
pub fn poisons() -> Vec<Poison> {
    let mut all = Vec::new();
    for definition in vitrine_crds::definitions() {
        let kind = definition.spec.names.kind.clone();
        let schema = definition.spec.versions.first().and_then(|v| v.schema.as_ref());
        let schema =
            serde_json::to_value(schema.and_then(|s| s.open_api_v3_schema.as_ref())).unwrap_or(Value::Null);
        walk(&kind, &mut Vec::new(), &schema["properties"]["spec"], &mut all);
    }
    all
}

fn walk(kind: &str, path: &mut Vec<String>, schema: &Value, all: &mut Vec<Poison>) {
    for value in values(schema).into_iter().chain(inner(schema)) {
        if !path.is_empty() {
            all.push(Poison { kind: kind.to_owned(), path: path.clone(), value });
        }
    }
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        path.push(name.clone());
        walk(kind, path, child, all);
        path.pop();
    }
}

/// What lies within an array, as an array of one, and within a map, under one key. A merge patch cannot
/// reach into an array, so each of these replaces the whole field.
fn inner(schema: &Value) -> Vec<Value> {
    let mut all: Vec<Value> = whole(&schema["items"]).into_iter().map(|v| json!([v])).collect();
    all.extend(whole(&schema["additionalProperties"]).into_iter().map(|v| json!({"key": v})));
    all
}

/// Poisons of a value itself and of every field of it, the other required fields filled in.
fn whole(schema: &Value) -> Vec<Value> {
    if !schema.is_object() {
        return Vec::new();
    }
    let mut all: Vec<Value> = values(schema).into_iter().chain(inner(schema)).collect();
    let required = filled(schema);
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        for value in whole(child) {
            let mut object = required.clone();
            object[name.as_str()] = value;
            all.push(object);
        }
    }
    all
}

/// The least value that the schema's structure admits.
fn filled(schema: &Value) -> Value {
    match schema["type"].as_str().unwrap_or_default() {
        "object" => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            Value::Object(required.map(|n| (n.to_owned(), filled(&schema["properties"][n]))).collect())
        }
        "array" => json!([]),
        "integer" | "number" => schema.get("minimum").cloned().unwrap_or_else(|| json!(1)),
        "boolean" => json!(true),
        _ => schema["enum"].get(0).cloned().unwrap_or_else(|| json!("x")),
    }
}

/// Borders, what lies beyond, and nonsense, by type.
fn values(schema: &Value) -> Vec<Value> {
    let number = |key: &str| schema[key].as_f64();
    let mut all = vec![Value::Null];
    match schema["type"].as_str().unwrap_or_default() {
        "string" => {
            let most = schema["maxLength"].as_u64().unwrap_or(64) as usize;
            all.extend(["", " ", "../../etc", "é\u{202e}\u{0001}", "$(x)", "\u{0000}"].map(|s| json!(s)));
            all.extend([json!("a".repeat(most)), json!("a".repeat(most + 1)), json!(7), json!({"a": 1})]);
            all.extend(schema["enum"].as_array().into_iter().flatten().cloned());
        }
        "integer" => {
            let borders = [number("minimum"), number("maximum")];
            for border in borders.into_iter().flatten() {
                all.extend([border - 1.0, border, border + 1.0].map(|n| json!(n as i64)));
            }
            all.extend([json!(i64::MAX), json!(i64::MIN), json!(-1), json!(0), json!(1.5), json!("1")]);
        }
        "number" => all.extend([json!(-1.0), json!(0.0), json!(1.0), json!(1e308), json!("0.5")]),
        "boolean" => all.extend([json!(true), json!(false), json!("true"), json!(0)]),
        "array" => {
            let most = schema["maxItems"].as_u64().unwrap_or(16) as usize;
            let item = if schema["items"]["type"] == "string" { json!("x") } else { json!({}) };
            let many: Vec<Value> = vec![item; most + 1];
            all.extend([json!([]), json!([null]), json!(many), json!({}), json!("x")]);
        }
        "object" => all.extend([json!({}), json!([]), json!({"unknown": {"deep": [1]}}), json!("x")]),
        _ => {}
    }
    if schema["additionalProperties"]["x-kubernetes-int-or-string"] == true {
        for amount in ["1e308", "-1", "1.5.5", "", "0", "9999999999999999999Ei"] {
            all.push(json!({"memory": amount, "cpu": amount}));
        }
    }
    all.dedup();
    all
}

/// A change of one field as a merge patch.
fn patch(poison: &Poison, value: &Value) -> Value {
    let mut change = value.clone();
    for name in poison.path.iter().rev() {
        change = Value::Object(Map::from_iter([(name.clone(), change)]));
    }
    json!({"spec": change})
}

/// Gives every poison, one after the other.
pub async fn play(stage: &mut Stage, poisons: &[Poison], quiet: Duration) -> Result<Tally> {
    let mut run = stage.prepare().await?;
    run.operator.start(None)?;
    run.started().await?;
    let healthy = workload::named("deploy").context("workload deploy")?;
    run.steps(&healthy.steps).await?;
    let fixed = json!({"apiVersion": "vitrine.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "victim"},
        "spec": {"model": {"name": "products", "version": 1}}});
    for manifest in [workload::dataset("victim", "X.csv"), fixed] {
        run.step(&Step::Apply(manifest)).await?;
    }
    for (plural, name) in VICTIMS {
        run.step(&Step::Condition(plural, name, "Ready", "True", "")).await?;
    }
    let before = bystanders(&run).await?;
    let mut tally = Tally::default();
    for (number, poison) in poisons.iter().enumerate() {
        let children = children(&run).await?;
        let wrong = match poison.kind.as_str() {
            "TrainingRun" => new_run(&mut run, poison, number, &mut tally).await?,
            "Dataset" => change(&mut run, "datasets", poison, &mut tally).await?,
            _ => change(&mut run, "modeldeployments", poison, &mut tally).await?,
        };
        // an image that came up stays until the next rollout, also when it is named no more; waited for
        // also after something wrong: the next poison is not to be judged by what this one left
        let kept = poison.path == ["server", "image"];
        let left = if kept { None } else { restored(&mut run, &children).await? };
        let wrong: Vec<String> = wrong.into_iter().chain(left).collect();
        if !wrong.is_empty() {
            eprintln!("    VIOLATED {poison}: {}", wrong.join("; "));
            let again = format!("--poison '{}'", serde_json::to_string(poison)?);
            tally.wrong.push((again, wrong));
        }
        if tally.stopped {
            run.end().await?;
            return Ok(tally);
        }
    }
    let trouble = run.settle(quiet).await.err().map(|e| format!("{e:#}"));
    let after = bystanders(&run).await?;
    if after != before {
        tally.wrong.push(("bystanders".into(), vec![format!("I14: {before} became {after}")]));
    }
    let evidence = collect(&mut run, trouble).await?;
    run.end().await?;
    let general: Vec<Violation> = judge(&evidence, None);
    if !general.is_empty() {
        tally.wrong.push(("all".into(), general.iter().map(ToString::to_string).collect()));
    }
    Ok(tally)
}

/// What the operator made for ModelDeployments, and what it says of the victims, without times. Training
/// attempts are left out: a poison may well be worth a new one.
async fn children(run: &Run<'_>) -> Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    for plural in ["deployments", "services"] {
        for object in run.api(plural).list(&ListParams::default()).await? {
            let key = format!("{plural}/{}", object.metadata.name.clone().unwrap_or_default());
            all.insert(key, object.data["spec"].clone());
        }
    }
    for (plural, name) in VICTIMS {
        let object = run.get(plural, name).await?;
        let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        let told = conditions.map(|c| json!([c["type"], c["status"], c["reason"]])).collect();
        all.insert(format!("{plural}/{name}"), told);
    }
    Ok(all)
}

/// Waits until children and conditions are what they were before the poison.
async fn restored(run: &mut Run<'_>, before: &BTreeMap<String, Value>) -> Result<Option<String>> {
    let end = Instant::now() + ANSWER;
    loop {
        let now = children(run).await?;
        if now == *before {
            return Ok(None);
        }
        if Instant::now() > end {
            let mut changed = Vec::new();
            differ("", &json!(now), &json!(before), &mut changed);
            return Ok(Some(format!("I1: not as before the poison: {}", changed.join("; "))));
        }
        run.operator.ensure()?;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// The places in which two values differ, with both.
fn differ(path: &str, now: &Value, before: &Value, all: &mut Vec<String>) {
    match (now, before) {
        (a, b) if a == b => {}
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                differ(&format!("{path}/{key}"), &now[key], &before[key], all);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (now, before)) in a.iter().zip(b).enumerate() {
                differ(&format!("{path}/{i}"), now, before, all);
            }
        }
        (now, before) => all.push(format!("{path} is {now}, was {before}")),
    }
}

/// Status of what nobody poisons.
async fn bystanders(run: &Run<'_>) -> Result<Value> {
    let mut all = Map::new();
    for (plural, name) in [("datasets", "shop"), ("trainingruns", "first"), ("modeldeployments", "serve")] {
        all.insert(plural.to_owned(), run.get(plural, name).await?["status"].clone());
    }
    Ok(Value::Object(all))
}

/// Did the apiserver take it? It may say that it cannot be read, is too large, or is invalid; anything else is
/// an error of the run (a victim that is gone, a right that is missing).
fn taken<T>(answer: Result<T, kube::Error>) -> Result<Option<T>> {
    match answer {
        Ok(object) => Ok(Some(object)),
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 413 | 422) => Ok(None),
        Err(error) => Err(error).context("the apiserver neither took nor refused a poison"),
    }
}

/// Changes the victim and takes the change back.
async fn change(
    run: &mut Run<'_>,
    plural: &'static str,
    poison: &Poison,
    tally: &mut Tally,
) -> Result<Option<String>> {
    let was = run.get(plural, "victim").await?;
    let (before, generation) = (was["spec"].clone(), was["metadata"]["generation"].as_i64());
    let params = PatchParams { field_manager: Some("user".into()), ..PatchParams::default() };
    let api = run.api(plural);
    let answer = api.patch("victim", &params, &Patch::Merge(patch(poison, &poison.value))).await;
    let Some(object) = taken(answer)? else {
        tally.refused += 1;
        return Ok(None);
    };
    if object.metadata.generation == generation {
        tally.unchanged += 1;
        return Ok(None);
    }
    tally.answered += 1;
    let wrong = answered(run, plural, "victim").await?;
    if let Err(error) = take_back(run, plural, &before).await {
        // with a victim that is still poisoned no other poison can be judged
        tally.stopped = true;
        let wrong = wrong.map(|w| format!("{w}; ")).unwrap_or_default();
        return Ok(Some(format!("{wrong}I1: {error:#}; the campaign stops here")));
    }
    if wrong.is_some() {
        return Ok(wrong);
    }
    let end = Instant::now() + ANSWER;
    loop {
        let now = run.get(plural, "victim").await?;
        if holds(&now, "Ready", "True", "") && holds(&now, "Reconciling", "False", "") {
            return Ok(
                (now["spec"] != before).then(|| format!("I1: the spec is {} and was {before}", now["spec"]))
            );
        }
        if Instant::now() > end {
            return Ok(Some(format!(
                "I1: not ready after the change was taken back: {}",
                now["status"]["conditions"]
            )));
        }
        run.operator.ensure()?;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// The whole spec as it was; a status that is written meanwhile is no reason to give up.
async fn take_back(run: &Run<'_>, plural: &str, spec: &Value) -> Result<()> {
    let api = run.api(plural);
    for _ in 0..20 {
        let mut object = serde_json::to_value(api.get("victim").await?)?;
        object["spec"] = spec.clone();
        match api.replace("victim", &PostParams::default(), &serde_json::from_value(object)?).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            answer => return answer.map(|_| ()).context("taking the change back"),
        }
    }
    anyhow::bail!("the change could not be taken back: 20 conflicts in a row")
}

/// Creates a run with the poison, waits for its end, and deletes it.
async fn new_run(
    run: &mut Run<'_>,
    poison: &Poison,
    number: usize,
    tally: &mut Tally,
) -> Result<Option<String>> {
    let name = format!("poison-{number}");
    let mut manifest = workload::run(&name, 42);
    let healthy = manifest.clone();
    merge(&mut manifest, &patch(poison, &poison.value));
    if manifest == healthy {
        tally.unchanged += 1;
        return Ok(None);
    }
    let api = run.api("trainingruns");
    let Ok(manifest) = serde_json::from_value(manifest) else { return Ok(None) };
    if taken(api.create(&PostParams::default(), &manifest).await)?.is_none() {
        tally.refused += 1;
        return Ok(None);
    }
    tally.answered += 1;
    let wrong = answered(run, "trainingruns", &name).await?;
    api.delete(&name, &DeleteParams::default()).await?;
    Ok(wrong)
}

fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                if value.is_null() {
                    into.remove(key);
                } else {
                    merge(into.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (into, change) => *into = change.clone(),
    }
}

/// Waits until status speaks of the current generation.
async fn answered(run: &mut Run<'_>, plural: &'static str, name: &str) -> Result<Option<String>> {
    let end = Instant::now() + ANSWER;
    loop {
        let now = run.get(plural, name).await?;
        let seen = now["status"]["observedGeneration"] == now["metadata"]["generation"];
        let told = ["Ready", "Stalled"]
            .iter()
            .all(|t| ["True", "False", "Unknown"].iter().any(|s| holds(&now, t, s, "")));
        if seen && told {
            return Ok(None);
        }
        if Instant::now() > end {
            return Ok(Some(format!("I9: status says nothing about this generation: {}", now["status"])));
        }
        run.operator.ensure()?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_and_maps_are_descended_into() {
        let schema = json!({"type": "object", "properties": {"list": {"type": "array", "items": {
            "type": "object", "required": ["a", "b"],
            "properties": {"a": {"type": "string"}, "b": {"type": "boolean"}}}},
            "map": {"type": "object", "additionalProperties": {"type": "string"}}}});
        let mut all = Vec::new();
        walk("K", &mut Vec::new(), &schema, &mut all);
        let has = |path: &str, value: &Value| all.iter().any(|p| p.path == [path] && p.value == *value);
        assert!(has("list", &json!([{"a": "../../etc", "b": true}])));
        assert!(has("list", &json!([{"a": "x", "b": 0}])));
        assert!(has("map", &json!({"key": "$(x)"})));
    }

    #[test]
    fn a_poison_is_read_as_it_is_printed() {
        let long = Poison { kind: "K".into(), path: vec!["a".into()], value: json!("a".repeat(300)) };
        let text = serde_json::to_string(&long).unwrap();
        assert_eq!(serde_json::from_str::<Poison>(&text).unwrap().value, long.value);
    }
}
