//! The command line: a pod's `run`, and `ingest` and `train` alone on files.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde_json::{Map, Value, json};
use vitrine_contract::job::{Image, Ingest, Sample, Split, Train};
use vitrine_contract::{exit, paths};
use vitrine_gateway_client::{digest_of_bytes, digest_of_file};

use crate::Error;
use crate::ingest::{MANIFEST, Places, SNAPSHOT, ingest};
use crate::labels::read_names;
use crate::manifest::Manifest;
use crate::meter::Meter;
use crate::pod;
use crate::train::{Files, train};

/// Makes snapshots of product tables and trains classifiers on them.
#[derive(Debug, Parser)]
#[command(name = "vitrine-trainer", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Do a Job's task as its pod: config in, result to the gateway and the termination log.
    Run {
        /// Config file of the contract.
        #[arg(long, default_value = paths::CONFIG)]
        config: PathBuf,
        #[command(flatten)]
        mounts: pod::Mounts,
    },
    /// Make a snapshot, a manifest and a profile from CSV files. Without options: as `run`.
    Ingest(IngestArgs),
    /// Train a model on a snapshot. Without options: as `run`.
    Train(TrainArgs),
}

#[derive(Debug, Args)]
struct IngestArgs {
    /// CSV file with the features.
    #[arg(long)]
    features: PathBuf,
    /// CSV file with the labels, joined on the unnamed index column; none: the features file has them.
    #[arg(long)]
    labels: Option<PathBuf>,
    /// Text columns.
    #[arg(long, value_delimiter = ',', required = true)]
    text: Vec<String>,
    /// Label column; none: rows without labels.
    #[arg(long)]
    label: Option<String>,
    /// Column that identifies a row; none: its position.
    #[arg(long)]
    id: Option<String>,
    /// Path of a row's picture with column names in braces; none: rows without pictures.
    #[arg(long)]
    image: Option<String>,
    /// Zip archive with the pictures, beside the features; none: files beside the features.
    #[arg(long, requires = "image")]
    images: Option<String>,
    /// Reject rows without a usable picture.
    #[arg(long, requires = "image")]
    image_required: bool,
    /// Folder with readable names: one file per label.
    #[arg(long)]
    label_names: Option<PathBuf>,
    /// Folder for snapshot.parquet, manifest.json and profile.json.
    #[arg(long)]
    out: PathBuf,
    /// Seed of the split and the sample.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Shares of train, validation and test.
    #[arg(long, value_delimiter = ',', default_value = "0.8,0.1,0.1")]
    split: Vec<f64>,
    /// `text`, or the column whose equal values stay in one part.
    #[arg(long, default_value = "text")]
    group_by: String,
    /// Snapshot whose rows are the test part.
    #[arg(long)]
    fixed_test: Option<PathBuf>,
    /// Share of groups to keep.
    #[arg(long)]
    sample: Option<f64>,
}

#[derive(Debug, Args)]
struct TrainArgs {
    /// Folder that `ingest` made, or a snapshot file.
    #[arg(long)]
    data: PathBuf,
    /// JSON with the contract's training fields (seed, folds, objective, features, candidates).
    #[arg(long)]
    config: PathBuf,
    /// Model file to write.
    #[arg(long)]
    out: PathBuf,
    /// Report to write.
    #[arg(long)]
    report: PathBuf,
}

/// Reads the command line, does it, and says how it ended.
pub fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    if is_pod(&arguments) {
        arguments[1] = "run".into();
    }
    let result = match Cli::parse_from(arguments).command {
        Command::Run { config, mounts } => return code(pod::run(&config, &mounts)),
        Command::Ingest(args) => run_ingest(args),
        Command::Train(args) => run_train(&args),
    };
    match result {
        Ok(summary) => {
            // A reader that has seen enough, such as `head`, is no fault.
            let _ = writeln!(std::io::stdout(), "{summary}");
            code(exit::OK)
        }
        Err(error) => {
            eprintln!("error: {}: {error}", error.reason());
            code(error.exit_code())
        }
    }
}

/// A Job's container says only which verb it is for; the rest is in its config.
fn is_pod(arguments: &[OsString]) -> bool {
    matches!(arguments, [_, verb] if verb == "ingest" || verb == "train")
}

fn code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

fn run_ingest(args: IngestArgs) -> Result<String, Error> {
    let &[train, validation, test] = args.split.as_slice() else {
        return Err(Error::InvalidSpec("--split takes three shares: train,validation,test".to_owned()));
    };
    let fixed = args.fixed_test.as_deref().map(digest).transpose()?;
    let folder = args.features.parent().unwrap_or(Path::new("")).to_owned();
    let labels = args.labels.as_ref().map(|labels| same_folder(labels, &folder)).transpose()?;
    let task = Ingest {
        path: String::new(),
        features: file_name(&args.features),
        labels,
        id: args.id,
        text: args.text,
        label: args.label,
        label_names: args.label_names.is_some(),
        image: args.image.map(|path_template| Image {
            path_template,
            optional: !args.image_required,
            archive: args.images,
        }),
        sample: args.sample.map(|fraction| Sample { fraction, seed: args.seed }),
        split: Split { seed: args.seed, train, validation, test, group_by: args.group_by, fixed_test: fixed },
        remote: None,
    };
    let names = args.label_names.as_deref().map(read_names).transpose()?.unwrap_or_default();
    let source = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
    let places = Places { source, out: args.out, fixed_test: args.fixed_test };
    let ingested = ingest(&task, &places, &names, &Meter::on_stderr())?;
    pretty(&ingested)
}

/// Both files lie under one root in a Dataset; so they do here.
fn same_folder(labels: &Path, folder: &Path) -> Result<String, Error> {
    if labels.parent().unwrap_or(Path::new("")) == folder {
        return Ok(file_name(labels));
    }
    Err(Error::InvalidSpec("--features and --labels must be in the same folder".to_owned()))
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn digest(path: &Path) -> Result<String, Error> {
    Ok(digest_of_file(path).map_err(Error::io("reading", path))?.digest)
}

fn run_train(args: &TrainArgs) -> Result<String, Error> {
    let (snapshot, names, dataset_digest) = if args.data.is_dir() {
        let path = args.data.join(MANIFEST);
        let bytes = fs::read(&path).map_err(Error::io("reading", &path))?;
        (args.data.join(SNAPSHOT), Manifest::from_json(&bytes)?.labels, digest_of_bytes(&bytes))
    } else {
        (args.data.clone(), BTreeMap::new(), digest(&args.data)?)
    };
    let task = train_config(&args.config, &dataset_digest, &digest(&snapshot)?)?;
    let files = Files { snapshot, model: args.out.clone(), report: args.report.clone() };
    let trained = train(&task, &files, &names, &Meter::on_stderr())?;
    pretty(&trained)
}

/// The contract's training fields; what only a cluster knows is filled in.
fn train_config(path: &Path, dataset: &str, snapshot: &str) -> Result<Train, Error> {
    let bytes = fs::read(path).map_err(Error::io("reading", path))?;
    let spec = |e: serde_json::Error| Error::InvalidSpec(format!("config {}: {e}", path.display()));
    let mut fields: Map<String, Value> = serde_json::from_slice(&bytes).map_err(spec)?;
    fields.entry("model").or_insert_with(|| json!("model"));
    fields.insert("datasetDigest".to_owned(), json!(dataset));
    fields.insert("snapshotDigest".to_owned(), json!(snapshot));
    serde_json::from_value(Value::Object(fields)).map_err(spec)
}

fn pretty(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string_pretty(value).map_err(|e| Error::Internal(e.to_string()))
}
