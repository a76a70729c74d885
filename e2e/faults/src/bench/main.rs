//! The scale benchmark of the operator: N resources on a real apiserver without nodes, the operator
//! straight at it, its requests counted in the apiserver's audit log. See `e2e/bench/operator`.

mod audit;
mod crowd;
mod floor;
mod mix;
mod phases;
mod report;
mod subject;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;
use serde_json::json;
use vitrine_faults::completer::{Completer, Voice};
use vitrine_faults::rig::{Programs, Rig, client};

use audit::Audit;
use crowd::Crowd;
use floor::Template;
use mix::{KINDS, NAMESPACES};
use phases::Run;
use report::{Missed, Scale, Sheet, number};
use subject::Subject;

/// What must hold between two N: time grows by 1.1 for each growth of N at most.
const LINEAR: f64 = 1.1;
/// The line that is compared between two N.
const CONVERGED: &str = "converged (first create to last Ready), s";

/// The scale benchmark of the operator; e2e/bench/operator builds what is needed and calls this.
#[derive(Debug, Parser)]
#[command(name = "vitrine-bench", version)]
struct Cli {
    /// Resources; several N are compared with each other.
    #[arg(long, value_delimiter = ',', default_values_t = [1000])]
    n: Vec<usize>,
    /// Runs of each N, every one on a new cluster.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Seconds of the idle phase.
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// Seconds that a pod works.
    #[arg(long, default_value_t = 1.0)]
    work: f64,
    /// Fail if a gate is missed: any, or one of the counts that hold however busy the machine is.
    #[arg(long, value_enum)]
    gate: Option<Gate>,
    /// Folder with etcd, kube-apiserver, kube-controller-manager and helm.
    #[arg(long, env = "VITRINE_FAULTS_KUBE")]
    kube: PathBuf,
    /// The operator, a release build.
    #[arg(long, env = "VITRINE_BENCH_OPERATOR")]
    operator: PathBuf,
    /// The chart.
    #[arg(long, env = "VITRINE_FAULTS_CHART")]
    chart: PathBuf,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Gate {
    All,
    Counts,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    vitrine_faults::install_tls()?;
    let programs = Programs {
        kube: cli.kube.clone(),
        operator: cli.operator.clone(),
        chart: cli.chart.clone(),
        audit: None,
    };
    let mut scales = Vec::new();
    for n in &cli.n {
        let mut runs = Vec::new();
        for run in 0..cli.runs {
            eprintln!("N = {n}, run {} of {}", run + 1, cli.runs);
            runs.push(measure(&cli, &programs, *n).await?);
        }
        scales.push(Scale { n: *n, runs });
    }
    conclude(&cli, &scales)
}

/// Prints everything.
fn conclude(cli: &Cli, scales: &[Scale]) -> Result<()> {
    let mut missed = Missed::default();
    let mut out = Vec::new();
    for scale in scales {
        let (lines, misses) = scale.print();
        missed.all += misses.all;
        missed.hard += misses.hard;
        out.push(lines);
    }
    if let [small, .., large] = scales {
        let (Some([before, ..]), Some([after, ..])) = (small.spread(CONVERGED), large.spread(CONVERGED))
        else {
            bail!("no time of one N");
        };
        let most = LINEAR * large.n as f64 / small.n as f64;
        let ratio = after / before;
        let verdict = if ratio <= most { "pass" } else { "MISS" };
        missed.all += usize::from(ratio > most);
        println!("\n{verdict}  T({}) / T({}) = {}  <= {}", large.n, small.n, number(ratio), number(most));
        out.push(json!({"linear": [small.n, large.n], "ratio": ratio, "limit": most}));
    }
    println!("RESULT {}", json!({"bench": "operator", "missed": missed.all, "scales": out}));
    match cli.gate {
        Some(Gate::All) if missed.all > 0 => bail!("{} gates were missed", missed.all),
        Some(Gate::Counts) if missed.hard > 0 => bail!("{} counts were missed", missed.hard),
        _ => Ok(()),
    }
}

/// One run on a cluster of its own.
async fn measure(cli: &Cli, programs: &Programs, n: usize) -> Result<Sheet> {
    let rig = Rig::start(programs).await?;
    let work = Duration::from_secs_f64(cli.work);
    let (completer, _running) = Completer::start(rig.admin.clone(), work);
    for prefix in ["bench", "floor"] {
        for namespace in Run::namespaces(prefix) {
            rig.namespace(&namespace).await?;
        }
    }
    let mut run = Run {
        crowd: Crowd::new(rig.admin.clone()),
        completer,
        subject: Subject::new(&rig, programs)?,
        audit: Audit::new(rig.audit.clone()),
        sheet: Sheet::default(),
        rig: &rig,
        n,
        seeds: KINDS.len() * NAMESPACES,
        work,
    };
    let templates = seed(&mut run).await?;
    run.subject.stop().await?;
    eprintln!("0 floor");
    let writer = client(&rig.url, &rig.ca, Some(&rig.token))?;
    let floor = floor::measure(&run.crowd, &writer, &run.completer, &templates, &mix::items(n), work).await?;
    eprintln!("  {} s", number(floor.seconds));
    floor::clear(&rig.admin, &Run::namespaces("floor")).await?;
    let started = run.subject.start().await?;
    eprintln!("  the operator leads after {} s", number(started.leads));
    run.converge(floor).await?;
    run.idle(Duration::from_secs(cli.idle)).await?;
    run.restart().await?;
    run.change().await?;
    run.arrivals().await?;
    run.bump().await?;
    run.delete().await?;
    for trouble in run.completer.trouble().iter().take(5) {
        eprintln!("  completer: {trouble}");
    }
    Ok(run.sheet)
}

/// One resource of each kind in every namespace, with pods that store their blobs through the gateway:
/// the blobs that all later pods name, and the objects that the floor copies.
async fn seed(run: &mut Run<'_>) -> Result<[Template; 3]> {
    eprintln!("seeds");
    run.completer.speak(Voice::Shared);
    run.subject.start().await?;
    for namespace in 0..NAMESPACES {
        let items = [
            mix::dataset("seed-d", namespace),
            mix::run("seed-r", "seed-d", "seed", namespace),
            mix::deployment("seed-m", "seed", namespace),
        ];
        for item in &items {
            run.crowd.create(item, "bench").await?;
        }
    }
    run.crowd.board.wait_true("bench", run.seeds, Duration::from_mins(2)).await?;
    // the alias moves and the last statuses are written after that
    tokio::time::sleep(Duration::from_secs(3)).await;
    run.completer.speak(Voice::Message);
    let admin = &run.rig.admin;
    Ok([
        Template::learn(admin, "datasets", "bench-0", "seed-d").await?,
        Template::learn(admin, "trainingruns", "bench-0", "seed-r").await?,
        Template::learn(admin, "modeldeployments", "bench-0", "seed-m").await?,
    ])
}
