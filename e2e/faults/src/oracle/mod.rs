//! The invariants: what must hold after every run, whatever went wrong in it. Pure over what was
//! collected; each check says which invariant it speaks for.

pub mod dump;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use vitrine_crds::names::LABEL_OWNER_UID;

use crate::operator::Exit;
use crate::proxy::Entry;
use dump::{Flat, Noise, Stored, differences};

/// Most resident memory of an operator (I12).
const MEMORY: u64 = 128 << 20;
/// Requests beyond those of the reference that a run with faults may need (I12): restarts list
/// everything anew.
const REQUESTS: usize = 400;

/// Everything that is known of a run at its end.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Objects of ours.
    pub objects: Vec<Value>,
    /// Registry and artifacts.
    pub stored: Stored,
    /// The end state, flat.
    pub flat: Flat,
    /// Requests that the apiserver answered.
    pub log: Vec<Entry>,
    /// Requests that arrived.
    pub arrived: usize,
    /// What is left after everything was deleted.
    pub orphans: Vec<String>,
    /// Objects of somebody else that were changed.
    pub harmed: Vec<String>,
    /// Ends of the operator that nothing explains.
    pub exits: Vec<Exit>,
    /// Requests for which it has no right.
    pub forbidden: Vec<String>,
    /// Log of the operator.
    pub text: String,
    /// Most resident memory of a process of the operator in bytes.
    pub resident: Option<u64>,
    /// Why the end state was not reached or not kept.
    pub trouble: Option<String>,
}

/// What a run without faults looks like, and what differs between two of them.
#[derive(Clone, Debug)]
pub struct Reference {
    /// Its evidence.
    pub evidence: Evidence,
    /// Paths that differ from run to run.
    pub noise: Noise,
}

impl Reference {
    /// From two runs without faults.
    pub fn learn(first: Evidence, second: &Evidence) -> Self {
        let noise = Noise::between(&first.flat, &second.flat);
        Self { evidence: first, noise }
    }
}

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// `I1` to `I16`.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// Judges a run; `wanted` is the reference for the same workload.
pub fn judge(found: &Evidence, wanted: Option<&Reference>) -> Vec<Violation> {
    let mut all = Vec::new();
    if let Some(trouble) = &found.trouble {
        all.push(Violation { invariant: "I1", what: trouble.clone() });
    }
    if let Some(wanted) = wanted {
        converged(found, wanted, &mut all);
        same_jobs(found, &wanted.evidence, &mut all);
        no_lost_artifact(found, &wanted.evidence, &mut all);
        flapping(found, &wanted.evidence, &mut all);
    }
    one_create_per_job(found, &mut all);
    no_orphan(found, &mut all);
    models(found, &mut all);
    others_untouched(found, &mut all);
    spec_untouched(found, &mut all);
    bounded(found, wanted, &mut all);
    panics(found, &mut all);
    rights(found, &mut all);
    all
}

/// I1: the end state is that of a run without faults.
fn converged(found: &Evidence, wanted: &Reference, all: &mut Vec<Violation>) {
    let different: Vec<String> = differences(&found.flat, &wanted.evidence.flat, &wanted.noise);
    if !different.is_empty() && found.trouble.is_none() {
        let shown = different.iter().take(6).cloned().collect::<Vec<_>>().join("; ");
        all.push(Violation { invariant: "I1", what: format!("{} differences: {shown}", different.len()) });
    }
}

/// Creates of Jobs that succeeded, by name.
fn creates(log: &[Entry]) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for entry in log.iter().filter(|e| e.call.verb == "create" && e.call.resource == "jobs" && e.code == 201)
    {
        let name = entry.body["metadata"]["name"].as_str();
        let name = name.or_else(|| entry.body["metadata"]["generateName"].as_str()).unwrap_or_default();
        *names.entry(format!("{}/{name}", entry.call.namespace)).or_default() += 1;
    }
    names
}

/// I2: no Job is created twice.
fn one_create_per_job(found: &Evidence, all: &mut Vec<Violation>) {
    for (name, count) in creates(&found.log) {
        if count > 1 {
            all.push(Violation { invariant: "I2", what: format!("Job {name} was created {count} times") });
        }
    }
}

/// I2: as many Jobs as without faults.
fn same_jobs(found: &Evidence, wanted: &Evidence, all: &mut Vec<Violation>) {
    let (found, wanted) = (creates(&found.log).len(), creates(&wanted.log).len());
    if found != wanted {
        let what = format!("{found} Jobs were created, {wanted} without faults");
        all.push(Violation { invariant: "I2", what });
    }
}

/// I3: every child has a living owner, and goes with it.
fn no_orphan(found: &Evidence, all: &mut Vec<Violation>) {
    let living: BTreeSet<&str> = found
        .objects
        .iter()
        .filter(|o| o["apiVersion"].as_str().is_some_and(|v| v.starts_with("vitrine.dev/")))
        .filter_map(|o| o["metadata"]["uid"].as_str())
        .collect();
    for child in found.objects.iter().filter(|o| o["kind"] != "Pod") {
        let Some(owner) = child["metadata"]["labels"][LABEL_OWNER_UID].as_str() else { continue };
        let deleted = !child["metadata"]["deletionTimestamp"].is_null();
        if !living.contains(owner) && !deleted {
            let what = format!("{} {} has no owner", child["kind"], child["metadata"]["name"]);
            all.push(Violation { invariant: "I3", what });
        }
    }
    if !found.orphans.is_empty() {
        let what = format!("left after everything was deleted: {:?}", found.orphans);
        all.push(Violation { invariant: "I3", what });
    }
}

/// I4, I5, I6: a run that succeeded has one version with its bytes, numbers only go up, and no version
/// lacks its bytes.
fn models(found: &Evidence, all: &mut Vec<Violation>) {
    let empty = Vec::new();
    let versions = found.stored.tables.get("versions").unwrap_or(&empty);
    let mut numbers: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for row in versions {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let digest = text("digest");
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        if found.stored.blobs.get(hex) != Some(&digest) {
            let what =
                format!("version {} of {} has no bytes with digest {digest}", row["version"], text("model"));
            all.push(Violation { invariant: "I6", what });
        }
        let model = format!("{}/{}", text("namespace_uid"), text("model"));
        numbers.entry(model).or_default().push(row["version"].as_i64().unwrap_or_default());
    }
    for (model, mut found) in numbers {
        found.sort_unstable();
        let wanted: Vec<i64> = (1..=i64::try_from(found.len()).unwrap_or(i64::MAX)).collect();
        if found != wanted {
            all.push(Violation { invariant: "I5", what: format!("versions of {model} are {found:?}") });
        }
    }
    for (hex, digest) in &found.stored.blobs {
        if digest.strip_prefix("sha256:") != Some(hex) && !hex.contains('#') {
            let what = format!("the artifact {hex} has bytes with digest {digest}");
            all.push(Violation { invariant: "I6", what });
        }
    }
    for run in found.objects.iter().filter(|o| o["kind"] == "TrainingRun") {
        let version = run["status"]["model"]["version"].as_i64();
        let reused = run["status"]["model"]["reused"] == true;
        let rows = versions.iter().filter(|v| v["run_uid"] == run["metadata"]["uid"]).count();
        if version.is_some() && !reused && rows != 1 {
            let what = format!("TrainingRun {} has {rows} versions", run["metadata"]["name"]);
            all.push(Violation { invariant: "I4", what });
        }
    }
}

/// I3: nothing of somebody else is changed, and a delete names the UID of what it means.
fn others_untouched(found: &Evidence, all: &mut Vec<Violation>) {
    if !found.harmed.is_empty() {
        let what = format!("somebody else's objects were changed: {:?}", found.harmed);
        all.push(Violation { invariant: "I3", what });
    }
    for entry in found.log.iter().filter(|e| e.call.verb == "delete" && e.code < 300) {
        if entry.body["preconditions"]["uid"].as_str().is_none() {
            all.push(Violation { invariant: "I3", what: format!("{} names no UID", entry.call) });
        }
    }
}

/// I10: the operator writes nothing of a user's resource but its status.
fn spec_untouched(found: &Evidence, all: &mut Vec<Violation>) {
    let kinds = ["datasets", "trainingruns", "modeldeployments"];
    for entry in found.log.iter().filter(|e| e.call.writes() && kinds.contains(&e.call.resource.as_str())) {
        all.push(Violation { invariant: "I10", what: entry.call.to_string() });
    }
}

/// I1: every artifact of a run without faults is there. There may be more: a Job of a superseded spec may
/// end before it is deleted, and what it stored is nobody's.
fn no_lost_artifact(found: &Evidence, wanted: &Evidence, all: &mut Vec<Violation>) {
    for hex in wanted.stored.blobs.keys().filter(|hex| !found.stored.blobs.contains_key(*hex)) {
        all.push(Violation { invariant: "I1", what: format!("the artifact {hex} is lost") });
    }
}

/// How often a condition turned, and the generations that the object had meanwhile.
#[derive(Clone, Copy, Debug, Default)]
struct Turns {
    count: u32,
    generation: u32,
}

/// The turns of each condition of a kind, at most, of all its objects.
fn turns(log: &[Entry]) -> BTreeMap<(String, String), Turns> {
    let mut last: BTreeMap<(String, String, String), (String, Turns)> = BTreeMap::new();
    for entry in log.iter().filter(|e| e.call.resource.ends_with("/status") && e.code < 300) {
        let generation = entry.body["status"]["observedGeneration"].as_u64().unwrap_or_default();
        for condition in entry.body["status"]["conditions"].as_array().into_iter().flatten() {
            let text = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
            let uid = entry.body["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            let key = (entry.call.resource.clone(), text("type"), uid);
            let (status, turns) = last.entry(key).or_insert_with(|| (text("status"), Turns::default()));
            turns.generation = turns.generation.max(u32::try_from(generation).unwrap_or(u32::MAX));
            if *status != text("status") {
                *status = text("status");
                turns.count += 1;
            }
        }
    }
    let mut most = BTreeMap::new();
    for ((resource, type_, _), (_, turns)) in last {
        let known: &mut Turns = most.entry((resource, type_)).or_default();
        known.count = turns.count.max(known.count);
        known.generation = turns.generation.max(known.generation);
    }
    most
}

/// I9: a fault makes no condition turn more than three times more often than it does without, where each
/// new spec may turn it there and back: without faults the steps between are often not seen.
fn flapping(found: &Evidence, wanted: &Evidence, all: &mut Vec<Violation>) {
    let usual = turns(&wanted.log);
    for ((resource, type_), turned) in turns(&found.log) {
        let usual = usual.get(&(resource.clone(), type_.clone())).copied().unwrap_or_default().count;
        let Turns { count, generation } = turned;
        if count > usual.max(generation.saturating_mul(2)) + 3 {
            let what = format!("{type_} of a {resource} turned {count} times, {usual} without faults");
            all.push(Violation { invariant: "I9", what });
        }
    }
}

/// I12: memory and requests stay within bounds.
fn bounded(found: &Evidence, wanted: Option<&Reference>, all: &mut Vec<Violation>) {
    if let Some(bytes) = found.resident.filter(|b| *b > MEMORY) {
        all.push(Violation { invariant: "I12", what: format!("{bytes} bytes of memory, {MEMORY} at most") });
    }
    if let Some(wanted) = wanted {
        let most = wanted.evidence.arrived * 3 + REQUESTS;
        if found.arrived > most {
            let what = format!("{} requests, {most} at most", found.arrived);
            all.push(Violation { invariant: "I12", what });
        }
    }
}

/// I12: while nothing answers, it is asked ever more rarely: less than four times a second on average,
/// all watches and objects together.
pub fn patience(refused: usize, millis: u64) -> Option<Violation> {
    let most = usize::try_from(millis / 250).unwrap_or(usize::MAX) + 20;
    let what = format!("{refused} requests in an outage of {millis} ms, {most} at most");
    (refused > most).then_some(Violation { invariant: "I12", what })
}

/// I13: no panic, and no end that no fault explains.
fn panics(found: &Evidence, all: &mut Vec<Violation>) {
    if let Some(line) = found.text.lines().find(|l| l.contains("panicked at")) {
        all.push(Violation { invariant: "I13", what: format!("{line:.300}") });
    }
    all.extend(found.exits.iter().map(|exit| Violation { invariant: "I13", what: exit.to_string() }));
}

/// I17: the operator has every right that it uses.
fn rights(found: &Evidence, all: &mut Vec<Violation>) {
    let asked: BTreeSet<&String> = found.forbidden.iter().collect();
    if !asked.is_empty() {
        let shown: Vec<_> = asked.iter().take(5).collect();
        all.push(Violation { invariant: "I17", what: format!("the operator has no right to {shown:?}") });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::call::Call;
    use serde_json::json;
    use std::process::ExitStatus;
    use std::time::Duration;

    fn entry(verb: &'static str, resource: &str, code: u16, body: Value) -> Entry {
        let call = Call { verb, resource: resource.into(), namespace: "n".into(), name: String::new() };
        Entry { call, code, effective: true, body, at: std::time::Instant::now() }
    }

    fn invariants(found: &Evidence) -> Vec<&'static str> {
        judge(found, None).into_iter().map(|v| v.invariant).collect()
    }

    #[test]
    fn a_job_that_is_created_twice_is_seen() {
        let create = entry("create", "jobs", 201, json!({"metadata": {"name": "j"}}));
        let refused = entry("create", "jobs", 409, json!({"metadata": {"name": "j"}}));
        let once = Evidence { log: vec![create.clone(), refused], ..Evidence::default() };
        assert!(invariants(&once).is_empty());
        let twice = Evidence { log: vec![create.clone(), create], ..Evidence::default() };
        assert_eq!(invariants(&twice), ["I2"]);
    }

    #[test]
    fn a_version_without_bytes_and_a_gap_are_seen() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let row =
            |version: i64| json!({"namespace_uid": "n", "model": "m", "version": version, "digest": digest});
        let mut found = Evidence::default();
        found.stored.tables.insert("versions", vec![row(1), row(2)]);
        assert_eq!(invariants(&found), ["I6", "I6"]);
        found.stored.blobs.insert("0b".repeat(32), digest.clone());
        assert_eq!(invariants(&found), ["I6", "I6", "I6"]);
        found.stored.blobs.clear();
        found.stored.blobs.insert("0a".repeat(32), digest.clone());
        assert!(invariants(&found).is_empty());
        found.stored.tables.insert("versions", vec![row(1), row(3)]);
        assert_eq!(invariants(&found), ["I5"]);
    }

    #[test]
    fn a_write_to_a_spec_a_panic_and_an_orphan_are_seen() {
        let found = Evidence {
            log: vec![entry("patch", "datasets", 200, Value::Null)],
            text: "thread 'x' panicked at y".into(),
            objects: vec![
                json!({"kind": "Service", "metadata": {"name": "s", "labels": {LABEL_OWNER_UID: "gone"}}}),
            ],
            ..Evidence::default()
        };
        assert_eq!(invariants(&found), ["I3", "I10", "I13"]);
    }

    #[test]
    fn an_unexplained_end_and_a_missing_right_are_seen() {
        let found = Evidence {
            exits: vec![Exit { status: ExitStatus::default(), after: Duration::ZERO, log: String::new() }],
            forbidden: vec!["get /api/v1/secrets".into(); 2],
            ..Evidence::default()
        };
        assert_eq!(invariants(&found), ["I13", "I17"]);
    }

    #[test]
    fn a_lost_artifact_and_a_flapping_condition_are_seen() {
        let status = |s: &str| json!({"metadata": {"uid": "u"}, "status": {"conditions": [{"type": "Ready", "status": s}]}});
        let turning = |turns: usize| Evidence {
            log: (0..=turns)
                .map(|n| entry("patch", "datasets/status", 200, status(["True", "False"][n % 2])))
                .collect(),
            ..Evidence::default()
        };
        let mut usual = turning(1);
        usual.stored.blobs.insert("0a".into(), "sha256:0a".into());
        let reference = Reference::learn(usual, &Evidence::default());
        let seen =
            |found: &Evidence| judge(found, Some(&reference)).iter().map(|v| v.invariant).collect::<Vec<_>>();
        let mut calm = turning(4);
        assert_eq!(seen(&calm), ["I1"], "the artifact is lost");
        calm.stored.blobs.insert("0a".into(), "sha256:0a".into());
        calm.stored.blobs.insert("0b".into(), "sha256:0b".into());
        assert!(seen(&calm).is_empty(), "more artifacts are no fault");
        calm.log = turning(5).log;
        assert_eq!(seen(&calm), ["I9"]);
    }

    #[test]
    fn impatience_is_seen() {
        assert_eq!(patience(40, 5_000), None);
        assert_eq!(patience(41, 5_000).unwrap().invariant, "I12");
    }

    #[test]
    fn another_end_state_is_seen_and_noise_is_not() {
        let flat = |a: &str, b: &str| Flat::from([("a".into(), a.into()), ("b".into(), b.into())]);
        let of = |a: &str, b: &str| Evidence { flat: flat(a, b), ..Evidence::default() };
        let reference = Reference::learn(of("1", "x"), &of("1", "y"));
        assert!(judge(&of("1", "z"), Some(&reference)).is_empty());
        let mut lacking = of("1", "z");
        lacking.flat.remove("b");
        assert_eq!(judge(&lacking, Some(&reference)).len(), 1, "noise excuses no absence");
        let reference_lacks = Reference::learn(of("1", "x"), &lacking);
        assert!(judge(&lacking, Some(&reference_lacks)).is_empty());
        let seen = judge(&of("2", "z"), Some(&reference));
        assert_eq!(seen[0].invariant, "I1");
        assert!(seen[0].what.contains("a: 2, not 1"), "{seen:?}");
    }
}
