//! One case: a source, a task, and what must come of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use vitrine_contract::job::{Image, Ingest, JobConfig, Task};
use vitrine_contract::paths::MAX_TERMINATION;
use vitrine_contract::report::{Images, Ingested, Message, Outcome};
use vitrine_contract::{VERSION, exit};
use vitrine_trainer::profile::{Profile, RejectedFor};

use crate::gateway::{Answer, Server};
use crate::support::single;

/// Address space of the program in KiB: what does not fit is a failed allocation, which ends it.
const ADDRESS_SPACE_KIB: u32 = 512 << 10;
/// Seconds of CPU time after which the program is killed, however busy the machine is.
const CPU_SECONDS: u32 = 90;
/// Seconds after which one that waits for something is killed.
const SECONDS: u32 = 300;
/// The user that pods run as.
const POD_USER: u32 = 65532;
/// Every way in which a pod may end.
const CODES: [i32; 9] = [
    exit::OK,
    exit::DATA,
    exit::INTERNAL,
    exit::STORAGE_FULL,
    exit::UNAVAILABLE,
    exit::DENIED,
    exit::CONFIG,
    exit::DIGEST_MISMATCH,
    exit::PROBE_MISMATCH,
];

pub struct Case {
    pub name: &'static str,
    make: Box<dyn Fn(&Source) + Send + Sync>,
    task: Ingest,
    expect: Expect,
    unprivileged: bool,
}

/// What must come of it.
#[derive(Debug, Clone)]
pub enum Expect {
    /// A snapshot of all rows, of so many classes.
    Accepted { rows: u64, classes: Option<u64> },
    /// A snapshot without some rows, which are counted by reason with the line of the first one.
    Quarantined { rows: u64, reason: &'static str, rejected: u64, line: u64 },
    /// A snapshot of all rows, some of them without their picture for the reason that begins so.
    Pictures { count: u64, missing: u64, unreadable: u64, line: u64, says: &'static str },
    /// No snapshot, and a message with these words.
    Refused { code: i32, reason: &'static str, words: &'static [&'static str] },
}

/// The folder of a case's source, within a pod's file system.
pub struct Source {
    pub folder: PathBuf,
}

impl Source {
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Good rows of the columns `text` and `label`; row `n` is on line `n + 2`.
pub fn rows(count: usize) -> String {
    (0..count).fold("text,label\n".to_owned(), |table, row| {
        format!("{table}produit numéro {row},{}\n", if row % 2 == 0 { "a" } else { "b" })
    })
}

/// For a table of these bytes.
pub fn table(name: &'static str, bytes: impl AsRef<[u8]>, expect: Expect) -> Case {
    let bytes = bytes.as_ref().to_vec();
    Case::new(name, move |source| source.write("X.csv", &bytes), expect)
}

/// For a table of ten good rows after which these bytes follow, on line 12.
pub fn tail(name: &'static str, bytes: impl AsRef<[u8]>, expect: Expect) -> Case {
    table(name, [rows(10).as_bytes(), bytes.as_ref()].concat(), expect)
}

pub fn corrupt(words: &'static [&'static str]) -> Expect {
    Expect::Refused { code: exit::DATA, reason: "DataCorrupt", words }
}

pub fn not_found(words: &'static [&'static str]) -> Expect {
    Expect::Refused { code: exit::DATA, reason: "SourceNotFound", words }
}

/// One row that is left out, on line 12 behind ten good ones.
pub fn one(reason: &'static str) -> Expect {
    Expect::Quarantined { rows: 10, reason, rejected: 1, line: 12 }
}

impl Case {
    pub fn new(name: &'static str, make: impl Fn(&Source) + Send + Sync + 'static, expect: Expect) -> Self {
        Self { name, make: Box::new(make), task: single(), expect, unprivileged: false }
    }

    pub fn task(mut self, change: impl FnOnce(&mut Ingest)) -> Self {
        change(&mut self.task);
        self
    }

    pub fn image(self, template: &str, archive: Option<&str>, optional: bool) -> Self {
        let image = Image { path_template: template.into(), optional, archive: archive.map(str::to_owned) };
        self.task(|task| task.image = Some(image))
    }

    /// Root may read everything: this one is run as a pod is.
    pub fn unprivileged(mut self) -> Self {
        self.unprivileged = true;
        self
    }

    /// Makes the source, runs the program and compares.
    pub fn check(&self) -> Result<(), String> {
        let pod = TempDir::new().unwrap();
        let source = Source { folder: pod.path().join("source") };
        fs::create_dir(&source.folder).unwrap();
        (self.make)(&source);
        let server =
            Server::start(|_, seen| Answer::Status(if seen.method == "PUT" { 201 } else { 204 }, Vec::new()));
        let task = Task::Ingest(self.task.clone());
        let config = JobConfig { version: VERSION, gateway: server.gateway.clone(), task };
        fs::write(pod.path().join("config.json"), serde_json::to_string(&config).unwrap()).unwrap();
        let output = self.run(pod.path());
        let stderr = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code();
        let how = || format!("{code:?}, signal {:?}, {stderr}", output.status.signal());
        let Some(code) = code.filter(|code| CODES.contains(code)) else {
            return Err(format!("no exit code of the contract: {}", how()));
        };
        for word in ["panicked", "internal fault", "memory allocation", "overflow"] {
            if stderr.contains(word) {
                return Err(format!("{word:?} on stderr: {}", how()));
            }
        }
        let log = fs::read(pod.path().join("termination")).unwrap();
        let message: Message =
            serde_json::from_slice(&log).map_err(|e| format!("last words: {e}: {}", how()))?;
        if log.len() > MAX_TERMINATION {
            return Err(format!("{} bytes of last words", log.len()));
        }
        let puts = server.seen().into_iter().filter(|seen| seen.method == "PUT");
        let stored: Vec<_> = puts.map(|put| (put.path, put.body)).collect();
        self.compare(code, &message.outcome, &stored).map_err(|what| format!("{what}; {}", how()))
    }

    fn run(&self, pod: &Path) -> Output {
        let mut program = PathBuf::from(env!("CARGO_BIN_EXE_vitrine-trainer"));
        let unprivileged = self.unprivileged && fs::metadata("/proc/self").is_ok_and(|me| owner(&me) == 0);
        if unprivileged {
            // built in a folder of root's, which the pod's user may not enter
            let copy = pod.join("trainer");
            fs::copy(&program, &copy).unwrap();
            program = copy;
        }
        let limits = format!(
            "ulimit -v {ADDRESS_SPACE_KIB} && ulimit -t {CPU_SECONDS} && exec timeout -s KILL {SECONDS} \"$0\" \"$@\""
        );
        let mut command = Command::new("sh");
        command.args(["-c", &limits]).arg(program).args(["run", "--config"]).arg(pod.join("config.json"));
        for name in ["work", "labels"] {
            fs::create_dir(pod.join(name)).unwrap();
        }
        fs::write(pod.join("token"), "secret").unwrap();
        fs::write(pod.join("termination"), "").unwrap();
        for name in ["token", "source", "labels", "work", "termination"] {
            command.arg(format!("--{name}")).arg(pod.join(name));
        }
        // Threads that only wait must not each reserve 64 MiB of the address space.
        command.env("MALLOC_ARENA_MAX", "1").env("RUST_BACKTRACE", "0");
        if unprivileged {
            for name in ["", "work", "labels", "source", "termination"] {
                let path = if name.is_empty() { pod.to_owned() } else { pod.join(name) };
                fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
            }
            command.uid(POD_USER).gid(POD_USER);
        }
        command.output().unwrap()
    }

    fn compare(&self, code: i32, outcome: &Outcome, stored: &[(String, Vec<u8>)]) -> Result<(), String> {
        let expected = format!("{:?}", self.expect);
        match (&self.expect, outcome) {
            (Expect::Refused { code: expected, reason, words }, Outcome::Failed(failure)) => {
                let message = &failure.message;
                if code != *expected || failure.reason != *reason {
                    return Err(format!(
                        "{code}/{}: {message}; expected {expected}/{reason}",
                        failure.reason
                    ));
                }
                match words.iter().find(|word| !message.contains(**word)) {
                    Some(word) => Err(format!("{word:?} is not in: {message}")),
                    None if !stored.is_empty() => Err(format!("{} blobs were stored", stored.len())),
                    None => Ok(()),
                }
            }
            (Expect::Refused { .. }, _) | (_, Outcome::Failed(_) | Outcome::Trained(_)) => {
                Err(format!("{code}: {outcome:?}; expected {expected}"))
            }
            (_, Outcome::Ingested(ingested)) => {
                let blob = |digest: &str| stored.iter().find(|(path, _)| path.ends_with(digest));
                let (_, profile) = blob(&ingested.profile.digest).ok_or("no profile was stored")?;
                blob(&ingested.manifest.digest).ok_or("no manifest was stored")?;
                blob(&ingested.snapshot.digest).ok_or("no snapshot was stored")?;
                let profile: Profile = serde_json::from_slice(profile).map_err(|e| e.to_string())?;
                if self.accepted(ingested, &profile) {
                    return Ok(());
                }
                Err(format!(
                    "{} rows, {} rejected, pictures {:?}; {:?}; {:?}; expected {expected}",
                    ingested.rows,
                    ingested.rejected_rows,
                    ingested.images,
                    profile.rejected.reasons,
                    profile.without_picture,
                ))
            }
        }
    }

    fn accepted(&self, ingested: &Ingested, profile: &Profile) -> bool {
        let kept = (ingested.rows, ingested.rejected_rows);
        match self.expect {
            Expect::Accepted { rows, classes } => {
                let classes = classes.is_none_or(|classes| classes == ingested.classes);
                kept == (rows, 0) && classes && ingested.images.is_none()
            }
            Expect::Quarantined { rows, reason, rejected, line } => {
                let found = profile.rejected.reasons.get(reason);
                kept == (rows, rejected) && found.is_some_and(|f| f.rows == rejected && f.first_line == line)
            }
            Expect::Pictures { count, missing, unreadable, line, says } => {
                let found: Vec<&RejectedFor> = profile.without_picture.values().collect();
                let example = |f: &&RejectedFor| f.first_line == line && f.example.contains(says);
                kept == (count + missing + unreadable, 0)
                    && ingested.images == Some(Images { count, missing, unreadable })
                    && (if missing + unreadable == 0 { found.is_empty() } else { found.iter().any(example) })
            }
            Expect::Refused { .. } => false,
        }
    }
}

fn owner(meta: &fs::Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::uid(meta)
}
