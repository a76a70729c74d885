//! The operator under test: the real program, with its own folders and its own proxy.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use crate::process::Process;
use crate::proxy::Proxy;
use crate::rig::{Programs, Rig, SYSTEM, client, free_port, kubeconfig_of, tail};

/// Longest time for the operator to lead.
const START: Duration = Duration::from_secs(40);

/// An operator with its state; it may run or not.
pub struct Operator {
    /// In front of its apiserver.
    pub proxy: Proxy,
    /// Its folder.
    pub dir: PathBuf,
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    http: u16,
    process: Option<Process>,
    starts: u32,
    /// Whether a failpoint may end the process that runs.
    failpoint: bool,
    exits: Vec<Exit>,
    /// Most resident memory of its processes so far, in bytes.
    peak: u64,
    started: Instant,
}

/// An end of the process that nothing explains: no kill of a rule or a failpoint, and nobody waited for it.
#[derive(Clone, Debug)]
pub struct Exit {
    /// How it ended.
    pub status: ExitStatus,
    /// Time since the operator was prepared.
    pub after: Duration,
    /// The end of its log.
    pub log: String,
}

impl Exit {
    /// Did it say that it no longer leads?
    pub fn is_deposed(&self) -> bool {
        self.log.contains("no longer leads")
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let last = self.log.lines().last().unwrap_or_default();
        write!(
            f,
            "the operator ended by itself after {:.1} s ({}): {last:.300}",
            self.after.as_secs_f64(),
            self.status
        )
    }
}

/// How an operator is started.
pub struct Launch {
    /// Arguments.
    pub args: Vec<String>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Port of `/readyz` and `/metrics`.
    pub http: u16,
}

/// How to start an operator that keeps everything in a folder.
pub fn launch(dir: &Path, name: &str, kubeconfig: &str) -> Result<Launch> {
    let file = dir.join(format!("{name}.kubeconfig"));
    std::fs::write(&file, kubeconfig)?;
    let (http, gateway) = (free_port()?, free_port()?);
    let resources = r#"{"requests":{"cpu":"10m","memory":"16Mi"},"limits":{"memory":"64Mi"}}"#;
    let flag = |key: &str, value: &str| format!("--{key}={value}");
    let path = |sub: &str| dir.join(sub).display().to_string();
    let args = vec![
        "run".to_owned(),
        flag("namespace", SYSTEM),
        flag("pod-name", name),
        flag("trainer-image", "localhost/vitrine-trainer:faults"),
        flag("server-image", "localhost/vitrine-server:faults"),
        flag("gateway-url", &format!("https://localhost:{gateway}")),
        flag("gateway-bind", &format!("127.0.0.1:{gateway}")),
        flag("http-bind", &format!("127.0.0.1:{http}")),
        flag("registry-dir", &path("registry")),
        flag("artifacts-dir", &path("artifacts")),
        flag("ingest-resources", resources),
        flag("train-resources", resources),
        flag("serve-resources", resources),
        flag("log-format", "json"),
    ];
    let env = vec![
        ("KUBECONFIG".to_owned(), file.display().to_string()),
        ("VITRINE_FAILPOINT_TRACE".to_owned(), path("failpoints.trace")),
        ("RUST_BACKTRACE".to_owned(), "1".to_owned()),
    ];
    Ok(Launch { args, env, http })
}

impl Operator {
    /// Prepares one under a name, which is its identity in the election. `share`: the folder of
    /// another one, whose registry it takes over.
    pub async fn new(rig: &Rig, programs: &Programs, name: &str, share: Option<&Path>) -> Result<Self> {
        let dir = share.map_or_else(|| rig.dir.path().join(name), Path::to_owned);
        std::fs::create_dir_all(&dir)?;
        let proxy = Proxy::start(client(&rig.url, &rig.ca, None)?).await?;
        let kubeconfig = kubeconfig_of(&proxy.url(), None, &rig.token);
        let Launch { args, env, http } = launch(&dir, name, &kubeconfig)?;
        let program = programs.operator.clone();
        Ok(Self {
            proxy,
            dir,
            program,
            args,
            env,
            http,
            process: None,
            starts: 0,
            failpoint: false,
            exits: Vec::new(),
            peak: 0,
            started: Instant::now(),
        })
    }

    /// Starts the process; `failpoint` as in the operator's `failpoints.rs`.
    pub fn start(&mut self, failpoint: Option<&str>) -> Result<()> {
        let mut env = self.env.clone();
        if let Some(order) = failpoint {
            env.push(("VITRINE_FAILPOINT".to_owned(), order.to_owned()));
        }
        let process = Process::start(&self.program, &self.args, &env, &self.log_path())?;
        self.proxy.set_victim(process.pid());
        self.process = Some(process);
        self.failpoint = failpoint.is_some_and(|order| order.ends_with(":kill"));
        self.starts += 1;
        Ok(())
    }

    /// Starts the process if there is none or it has ended; `true` if it had to.
    pub fn ensure(&mut self) -> Result<bool> {
        if self.running() {
            return Ok(false);
        }
        self.start(None)?;
        Ok(true)
    }

    /// Does it run? An end that is seen here first is noted, unless a fault made it.
    pub fn running(&mut self) -> bool {
        let Some(process) = self.process.as_mut() else { return false };
        let Some(status) = process.ended() else { return true };
        self.process = None;
        let killed = status.signal() == Some(Signal::KILL.as_raw());
        let meant = killed && (self.proxy.take_kill() || std::mem::take(&mut self.failpoint));
        if !meant {
            self.exits.push(Exit { status, after: self.started.elapsed(), log: tail(&self.log_path()) });
        }
        false
    }

    /// Ends that nothing explains.
    pub fn exits(&mut self) -> Vec<Exit> {
        self.running();
        self.exits.clone()
    }

    /// How often it was started.
    pub fn starts(&self) -> u32 {
        self.starts
    }

    /// Its pid while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// kill -9, and waits for the end.
    pub fn kill(&mut self) {
        // an end before that is not ours
        self.running();
        self.peak();
        self.process = None;
    }

    /// Waits for its end, which is meant to come.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let status = self.process.as_mut().context("the operator does not run")?.wait(limit).await?;
        self.process = None;
        Ok(status)
    }

    /// Waits until it leads.
    pub async fn leads(&mut self) -> Result<()> {
        let end = tokio::time::Instant::now() + START;
        loop {
            if self.metric("vitrine_leader").await == Some(1.0) {
                return Ok(());
            }
            anyhow::ensure!(self.running(), "the operator ended: {}", tail(&self.log_path()));
            let late = tokio::time::Instant::now() > end;
            anyhow::ensure!(!late, "the operator does not lead: {}", tail(&self.log_path()));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sum of a metric over its labels.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        sum(&get(self.http, "/metrics").await.ok()?, name)
    }

    /// Where its log is.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("operator.log")
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Places passed so far, in order.
    pub fn failpoints(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.join("failpoints.trace")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Most resident memory of any of its processes in bytes; of one that a fault ended nothing is known.
    pub fn peak(&mut self) -> u64 {
        self.peak = self.peak.max(self.most().unwrap_or_default());
        self.peak
    }

    fn most(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?)).ok()?;
        let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    }
}

/// Sum of a metric over its labels.
pub fn sum(text: &str, name: &str) -> Option<f64> {
    let mut sum = None;
    for line in text.lines().filter(|l| l.starts_with(name)) {
        let rest = &line[name.len()..];
        if !(rest.starts_with('{') || rest.starts_with(' ')) {
            continue;
        }
        let value: f64 = line.rsplit(' ').next()?.parse().ok()?;
        sum = Some(sum.unwrap_or(0.0) + value);
    }
    sum
}

/// The body of a GET on loopback; any answer but 200 is an error.
pub async fn get(port: u16, path: &str) -> Result<String> {
    use http_body_util::{BodyExt as _, Empty};
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    tokio::spawn(connection);
    let request = http::Request::get(path).header("host", "localhost").body(Empty::<bytes::Bytes>::new())?;
    let answer = tokio::time::timeout(Duration::from_secs(2), sender.send_request(request)).await??;
    anyhow::ensure!(answer.status() == 200, "{path}: {}", answer.status());
    let bytes = answer.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
