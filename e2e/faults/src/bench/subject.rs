//! The operator that is measured: straight at the apiserver, with no proxy in between.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use tokio::time::Instant;
use vitrine_faults::operator::{Launch, get, launch, sum};
use vitrine_faults::process::Process;
use vitrine_faults::rig::{Programs, Rig, kubeconfig_of, tail};

/// Longest time to start or to stop.
const LIMIT: Duration = Duration::from_mins(3);
/// Ticks of the kernel's clock in a second, as /proc counts them.
const TICKS: f64 = 100.0;

/// An operator with its folders.
pub struct Subject {
    program: PathBuf,
    launch: Launch,
    log: PathBuf,
    process: Option<Process>,
}

/// How long a start took, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    /// Until `/readyz` said yes.
    pub ready: f64,
    /// Until it led.
    pub leads: f64,
}

/// What it used and did so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// CPU seconds, user and system.
    pub cpu: f64,
    /// Reconciles, also those that failed.
    pub reconciles: f64,
    /// Those that failed.
    pub errors: f64,
    /// Writes as it counts them itself: without Lease and events.
    pub writes: f64,
    /// Reconciles that ended well, of Datasets, TrainingRuns and ModelDeployments.
    pub of_kind: [f64; 3],
}

impl Subject {
    /// One that does not run yet.
    pub fn new(rig: &Rig, programs: &Programs) -> Result<Self> {
        let dir = rig.dir.path().join("operator");
        std::fs::create_dir_all(&dir)?;
        let ca = rig.dir.path().join("ca.crt");
        let launch = launch(&dir, "operator", &kubeconfig_of(&rig.url, Some(&ca), &rig.token))?;
        Ok(Self { program: programs.operator.clone(), launch, log: dir.join("operator.log"), process: None })
    }

    /// Another flag for later starts.
    pub fn flag(&mut self, flag: &str) {
        self.launch.args.push(flag.to_owned());
    }

    /// Starts it and waits until it leads.
    pub async fn start(&mut self) -> Result<Started> {
        let begun = Instant::now();
        let mut process = Process::start(&self.program, &self.launch.args, &self.launch.env, &self.log)?;
        let mut ready = None;
        loop {
            ensure!(process.ended().is_none(), "the operator ended: {}", tail(&self.log));
            ensure!(begun.elapsed() < LIMIT, "the operator does not lead: {}", tail(&self.log));
            if ready.is_none() && get(self.launch.http, "/readyz").await.is_ok() {
                ready = Some(begun.elapsed().as_secs_f64());
            }
            if let Some(ready) = ready
                && self.metrics().await.is_ok_and(|m| sum(&m, "vitrine_leader") == Some(1.0))
            {
                self.process = Some(process);
                return Ok(Started { ready, leads: begun.elapsed().as_secs_f64() });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks it to stop and waits.
    pub async fn stop(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the operator does not run")?;
        process.signal(Signal::TERM);
        process.wait(LIMIT).await?;
        Ok(())
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.process = None;
    }

    async fn metrics(&self) -> Result<String> {
        get(self.launch.http, "/metrics").await
    }

    /// What it used and did so far, since its start.
    pub async fn usage(&self) -> Result<Usage> {
        let text = self.metrics().await?;
        let errors = sum(&text, "vitrine_reconcile_errors_total").unwrap_or_default();
        Ok(Usage {
            cpu: self.cpu()?,
            reconciles: sum(&text, "vitrine_reconciles_total").unwrap_or_default() + errors,
            errors,
            writes: sum(&text, "vitrine_writes_total").unwrap_or_default(),
            of_kind: ["Dataset", "TrainingRun", "ModelDeployment"].map(|kind| {
                sum(&text, &format!("vitrine_reconciles_total{{kind=\"{kind}\"}}")).unwrap_or_default()
            }),
        })
    }

    fn proc(&self, file: &str) -> Result<String> {
        let pid = self.process.as_ref().context("the operator does not run")?.pid();
        Ok(std::fs::read_to_string(format!("/proc/{pid}/{file}"))?)
    }

    /// CPU seconds, user and system.
    pub fn cpu(&self) -> Result<f64> {
        let stat = self.proc("stat")?;
        let fields = stat.rsplit_once(')').context("stat without a name")?.1;
        let ticks = fields.split_whitespace().skip(11).take(2).map(|f| f.parse::<f64>().unwrap_or_default());
        Ok(ticks.sum::<f64>() / TICKS)
    }

    /// A line of its memory, such as `VmRSS` or `VmHWM`, in MB (10^6 bytes).
    pub fn memory(&self, line: &str) -> Result<f64> {
        let status = self.proc("status")?;
        let found = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':'));
        let kib = found.and_then(|f| f.split_whitespace().next()).context("no such line")?;
        Ok(kib.parse::<f64>()? * 1024.0 / 1e6)
    }

    /// What it warned of so far: messages with how often.
    pub fn warnings(&self) -> Vec<(String, usize)> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let mut seen = std::collections::BTreeMap::<String, usize>::new();
        for line in
            text.lines().filter(|l| l.contains("\"level\":\"WARN\"") || l.contains("\"level\":\"ERROR\""))
        {
            let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            let class = entry["class"].as_str().unwrap_or_default();
            let message = format!("{} {class}", entry["message"].as_str().unwrap_or(line));
            *seen.entry(message).or_default() += 1;
        }
        seen.into_iter().collect()
    }
}
