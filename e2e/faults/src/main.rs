//! Fault campaigns against the real operator: a real apiserver, scripted workloads, faults on the wire
//! and around database writes, and invariants that are judged after every run. See `README.md`.

mod campaign;
mod case;
mod oracle;
mod runner;
mod stage;
mod workload;

use vitrine_faults::{completer, operator, proxy, rig};

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use campaign::c4::Story;
use campaign::{Campaign, Case};
use rig::Programs;

use runner::{Plan, Report};

/// Fault campaigns against the operator; e2e/faults/run builds what is needed and calls this.
#[derive(Debug, Parser)]
#[command(name = "vitrine-faults", version)]
struct Cli {
    /// Which campaign.
    campaign: Campaign,
    /// Ends after so many cases in which the fault happened, chosen by the seed; all if absent. C4 and C8:
    /// at most so many cases.
    #[arg(long)]
    sample: Option<usize>,
    /// Chooses the sample.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Rigs at once; each takes about half a gigabyte of memory.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Seconds without a write at the end of each run.
    #[arg(long, default_value_t = 2.0)]
    quiet: f64,
    /// Only this workload; may be given several times.
    #[arg(long)]
    workload: Vec<String>,
    /// Cases of C1, C2 and C3 that are printed with this text in them come first in a sample.
    #[arg(long, value_name = "TEXT")]
    first: Option<String>,
    /// Runs one case again, as a finding printed it.
    #[arg(long, value_name = "JSON")]
    repro: Option<String>,
    /// Only this story of C4.
    #[arg(long)]
    story: Option<Story>,
    /// Only this poison of C8, as a finding printed it.
    #[arg(long, value_name = "JSON")]
    poison: Option<String>,
    /// Ends after so many findings.
    #[arg(long, default_value_t = 20)]
    stop_after: usize,
    /// Folder with etcd, kube-apiserver, kube-controller-manager and helm.
    #[arg(long, env = "VITRINE_FAULTS_KUBE")]
    kube: PathBuf,
    /// The operator, built with the feature `failpoints`.
    #[arg(long, env = "VITRINE_FAULTS_OPERATOR")]
    operator: PathBuf,
    /// The chart.
    #[arg(long, env = "VITRINE_FAULTS_CHART")]
    chart: PathBuf,
    /// Keeps the audit logs of all rigs in this folder; what else is in it stays.
    #[arg(long, value_name = "FOLDER")]
    audit: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    vitrine_faults::install_tls()?;
    let known: Vec<_> = workload::all().into_iter().map(|w| w.name).collect();
    if let Some(unknown) = cli.workload.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("there is no workload {unknown}; there are {}", known.join(", "));
    }
    let plan = Plan {
        programs: Programs { kube: cli.kube, operator: cli.operator, chart: cli.chart, audit: cli.audit },
        jobs: cli.jobs,
        sample: cli.sample,
        seed: cli.seed,
        quiet: Duration::from_secs_f64(cli.quiet),
        workloads: cli.workload,
        first: cli.first,
        stop_after: cli.stop_after,
    };
    let report = tokio::select! {
        report = run(&plan, cli.campaign, cli.story, cli.repro.as_deref(), cli.poison.as_deref()) => report?,
        // what was started is ended and what was written is removed on the way out
        () = told_to_stop() => bail!("stopped"),
    };
    conclude(&report)
}

async fn told_to_stop() {
    let Ok(mut terminated) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminated.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

async fn run(
    plan: &Plan,
    campaign: Campaign,
    story: Option<Story>,
    repro: Option<&str>,
    poison: Option<&str>,
) -> Result<Report> {
    if let Some(text) = repro {
        let case: Case = serde_json::from_str(text).context("--repro takes the JSON of a finding")?;
        return runner::again(plan, &case).await;
    }
    match campaign {
        Campaign::C4 => runner::leaders(plan, story).await,
        Campaign::C8 => {
            let only = poison.map(serde_json::from_str).transpose();
            runner::poison(plan, only.context("--poison takes the JSON of a finding")?).await
        }
        of_cases => runner::campaign(plan, of_cases).await,
    }
}

/// Prints what was found; a violation is a failure.
fn conclude(report: &Report) -> Result<()> {
    for (repro, seen) in &report.findings {
        println!("finding: {repro}");
        for line in seen {
            println!("    {line}");
        }
    }
    println!("not injected: {} of {}", report.runs - report.injected.min(report.runs), report.runs);
    println!("violations by invariant: {:?}", runner::by_invariant(report));
    println!("RESULT {}", report.line());
    if report.findings.is_empty() {
        // faults that never happen find nothing
        let least = match report.campaign.as_str() {
            "c1" | "c3" => report.runs.div_ceil(2),
            _ => usize::from(report.runs > 3),
        };
        if report.runs == 0 || report.injected < least {
            bail!("{} of {} runs had a fault: that proves nothing", report.injected, report.runs);
        }
        return Ok(());
    }
    bail!("{} of {} runs violated an invariant", report.findings.len(), report.runs)
}
