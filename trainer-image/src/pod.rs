//! A Job's pod: config in, progress and result out, exit code by the contract.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Component, Path, PathBuf};

use clap::Args;
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use vitrine_contract::job::NEWEST;
use vitrine_contract::job::{Ingest, JobConfig, Task, Train};
use vitrine_contract::report::{Message, Outcome};
use vitrine_contract::{VERSION, exit, paths};
use vitrine_gateway_client::{Client, ProgressPoster};

use crate::Error;
use crate::fetch::{Patience, fetch, needed};
use crate::ingest::{MANIFEST, PROFILE, Places, SNAPSHOT, ingest};
use crate::labels::read_names;
use crate::manifest::Manifest;
use crate::message::termination;
use crate::meter::Meter;
use crate::train::{Files, train};

/// Exit code of a process that SIGTERM ended.
const TERMINATED: i32 = 128 + SIGTERM;
/// Largest manifest that is read.
const MAX_MANIFEST: usize = 64 << 20;

/// Where a pod finds things; the defaults are the contract's.
#[derive(Debug, Clone, Args)]
pub struct Mounts {
    /// The gateway's token.
    #[arg(long, default_value = paths::TOKEN)]
    pub token: PathBuf,
    /// The user's table.
    #[arg(long, default_value = paths::SOURCE_DIR)]
    pub source: PathBuf,
    /// The Secret that opens a remote source.
    #[arg(long, default_value = paths::SOURCE_SECRET_DIR)]
    pub secret: PathBuf,
    /// The user's label names.
    #[arg(long, default_value = paths::LABELS_DIR)]
    pub labels: PathBuf,
    /// Scratch space.
    #[arg(long, default_value = paths::WORK_DIR)]
    pub work: PathBuf,
    /// The termination log.
    #[arg(long, default_value = paths::TERMINATION)]
    pub termination: PathBuf,
}

/// Does the config's task and reports it. Returns the exit code.
pub fn run(config: &Path, mounts: &Mounts) -> i32 {
    if let Err(error) = exit_on_sigterm() {
        eprintln!("warning: cannot watch for SIGTERM: {error}");
    }
    let (client, result) = match read_config(config) {
        Ok(config) => match Client::new(&config.gateway, &mounts.token) {
            Ok(client) => {
                let result = guarded(|| work(&config.task, &client, mounts));
                (Some(client), result)
            }
            Err(error) => (None, Err(error.into())),
        },
        Err(error) => (None, Err(error)),
    };
    let (code, outcome) = match result {
        Ok(outcome) => (exit::OK, outcome),
        Err(error) => {
            eprintln!("error: {}: {error}", error.reason());
            (error.exit_code(), Outcome::Failed(error.failure()))
        }
    };
    report(&Message::new(outcome), client.as_ref(), &mounts.termination);
    code
}

/// The end message, to the kubelet and to the gateway: either is enough.
fn report(message: &Message, client: Option<&Client>, log: &Path) {
    let written =
        termination(message).and_then(|json| fs::write(log, json).map_err(Error::io("writing", log)));
    if let Err(error) = written {
        eprintln!("warning: no termination message: {error}");
    }
    if let Some(Err(error)) = client.map(|client| client.post_result(message)) {
        eprintln!("warning: the result stands in the termination message only: {error}");
    }
}

/// As process 1 of its container, this program gets no signal that it does not ask for.
fn exit_on_sigterm() -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if signals.forever().next().is_some() {
            // No report: an evicted pod is tried again, it did not fail.
            eprintln!("terminated");
            std::process::exit(TERMINATED);
        }
    })?;
    Ok(())
}

/// A panic is a fault of this program and is reported as one.
fn guarded(work: impl FnOnce() -> Result<Outcome, Error>) -> Result<Outcome, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        Err(Error::Internal(text.to_owned()))
    })
}

fn read_config(path: &Path) -> Result<JobConfig, Error> {
    let bytes = fs::read(path).map_err(Error::io("reading", path))?;
    let spec = |message: String| Error::InvalidSpec(format!("config {}: {message}", path.display()));
    // The version first: another version's fields need not be ours.
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| spec(e.to_string()))?;
    let version = value.get("version").and_then(serde_json::Value::as_u64);
    let known = u64::from(VERSION)..=u64::from(NEWEST);
    if !version.is_some_and(|version| known.contains(&version)) {
        let found = version.map_or_else(|| "missing".to_owned(), |v| v.to_string());
        return Err(spec(format!(
            "contract version {found}, this trainer speaks {} to {}; use the operator's trainer image",
            known.start(),
            known.end()
        )));
    }
    serde_json::from_value(value).map_err(|e| spec(e.to_string()))
}

fn work(task: &Task, client: &Client, mounts: &Mounts) -> Result<Outcome, Error> {
    let meter = Meter::posting(ProgressPoster::start(client.clone()));
    match task {
        Task::Ingest(task) => ingest_task(task, client, mounts, &meter),
        Task::Train(task) => train_task(task, client, mounts, &meter),
    }
}

fn ingest_task(task: &Ingest, client: &Client, mounts: &Mounts, meter: &Meter) -> Result<Outcome, Error> {
    let names = if task.label_names { read_names(&mounts.labels)? } else { BTreeMap::new() };
    let out = mounts.work.join("snapshot");
    let fixed_test = match &task.split.fixed_test {
        Some(digest) => {
            meter.step("fetching the fixed test set", 0.0);
            let path = mounts.work.join("fixed-test.parquet");
            client.get_to_file(digest, &path)?;
            Some(path)
        }
        None => None,
    };
    let source = source(task, mounts, meter)?;
    let places = Places { source, out: out.clone(), fixed_test };
    let ingested = ingest(task, &places, &names, meter)?;
    meter.step("storing the snapshot", 0.98);
    // The manifest last: it names the others.
    for name in [SNAPSHOT, PROFILE, MANIFEST] {
        client.put_file(&out.join(name))?;
    }
    meter.step("done", 1.0);
    Ok(Outcome::Ingested(ingested))
}

/// The folder that `ingest` reads: the mounted one, or one that a remote source was fetched into.
fn source(task: &Ingest, mounts: &Mounts, meter: &Meter) -> Result<PathBuf, Error> {
    let Some(remote) = &task.remote else { return Ok(mounts.source.clone()) };
    let folder = mounts.work.join("source");
    fetch(remote, &needed(task), &mounts.secret, &folder, meter, &Patience::default())?;
    Ok(folder)
}

fn train_task(task: &Train, client: &Client, mounts: &Mounts, meter: &Meter) -> Result<Outcome, Error> {
    meter.step("fetching the snapshot", 0.0);
    let manifest = Manifest::from_json(&client.get_bytes(&task.dataset_digest, MAX_MANIFEST)?)?;
    if manifest.snapshot.digest != task.snapshot_digest {
        return Err(Error::InvalidSpec(format!(
            "the manifest {} names the snapshot {}, the config {}",
            task.dataset_digest, manifest.snapshot.digest, task.snapshot_digest
        )));
    }
    let files = Files {
        snapshot: mounts.work.join(SNAPSHOT),
        model: mounts.work.join("model.safetensors"),
        report: mounts.work.join("report.json"),
    };
    client.get_to_file(&task.snapshot_digest, &files.snapshot)?;
    let trained = train(task, &files, &manifest.labels, meter)?;
    client.put_file(&files.report)?;
    client.put_file(&files.model)?;
    Ok(Outcome::Trained(trained))
}

/// `root/path`, which may not lead out of `root`.
pub fn below(root: &Path, path: &str) -> Result<PathBuf, Error> {
    let relative = Path::new(path.trim_start_matches('/'));
    if relative.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(Error::InvalidSpec(format!("path {path:?} must lie within the source")));
    }
    Ok(root.join(relative))
}
