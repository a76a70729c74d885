#![allow(clippy::unwrap_used, clippy::panic, missing_docs, dead_code)]
//! An ingest pod whose source is remote: the same snapshot as from a volume, and nothing of its Secret
//! anywhere.

#[path = "../../operator/gateway-client/tests/support/mod.rs"]
mod gateway;
mod support;
#[path = "support/web.rs"]
mod web;

use std::fs;
use std::process::{Command, Output};

use gateway::{Answer, Server};
use support::{challenge, products};
use tempfile::TempDir;
use vitrine_contract::gateway::Gateway;
use vitrine_contract::job::{Http, JobConfig, Remote, Task};
use vitrine_contract::report::{Ingested, Message, Outcome, Progress};
use vitrine_contract::{VERSION, exit};
use vitrine_gateway_client::digest_of_bytes;
use web::Web;

const CANARY: &str = "canary-4711";

struct Pod {
    dir: TempDir,
    server: Server,
}

impl Pod {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        for name in ["work", "source", "labels", "secret"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("token"), "token").unwrap();
        fs::write(dir.path().join("termination"), "").unwrap();
        fs::write(dir.path().join("secret/Cookie"), CANARY).unwrap();
        let server =
            Server::start(|_, seen| Answer::Status(if seen.method == "PUT" { 201 } else { 204 }, Vec::new()));
        Self { dir, server }
    }

    fn run(&self, remote: Option<Remote>) -> Output {
        let task = Task::Ingest(vitrine_contract::job::Ingest { remote, ..challenge() });
        let gateway: Gateway = self.server.gateway.clone();
        let config = JobConfig { version: VERSION, gateway, task };
        let path = |name: &str| self.dir.path().join(name);
        fs::write(path("config.json"), serde_json::to_string(&config).unwrap()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_vitrine-trainer"));
        command.arg("run").arg("--config").arg(path("config.json"));
        for name in ["token", "source", "labels", "work", "termination", "secret"] {
            command.arg(format!("--{name}")).arg(path(name));
        }
        command.output().unwrap()
    }

    fn last_words(&self) -> String {
        fs::read_to_string(self.dir.path().join("termination")).unwrap()
    }

    fn outcome(&self) -> Outcome {
        serde_json::from_str::<Message>(&self.last_words()).unwrap().outcome
    }

    fn ingested(&self, output: &Output) -> Ingested {
        assert_eq!(output.status.code(), Some(exit::OK), "{}", String::from_utf8_lossy(&output.stderr));
        let Outcome::Ingested(ingested) = self.outcome() else { panic!("{}", self.last_words()) };
        ingested
    }

    /// Everything that this pod said to anybody.
    fn said(&self, output: &Output) -> String {
        let mut all = format!("{output:?} {}", self.last_words());
        for seen in self.server.seen() {
            all += &String::from_utf8_lossy(&seen.body);
            all.extend(seen.headers.iter().map(|(_, value)| value.as_str()));
        }
        all
    }
}

fn remote(web: &Web, files: &[(&str, &str)]) -> Remote {
    let sums = files.iter().map(|(name, text)| ((*name).to_owned(), digest_of_bytes(text.as_bytes())));
    Remote::Http(Http { url: web.url(), sha256: sums.collect(), secret: Some("cookie".into()) })
}

#[test]
fn a_remote_source_gives_the_snapshot_that_a_volume_gives() {
    let (x, y) = products(300);
    let mounted = Pod::new();
    fs::write(mounted.dir.path().join("source/X.csv"), &x).unwrap();
    fs::write(mounted.dir.path().join("source/Y.csv"), &y).unwrap();
    let expected = mounted.ingested(&mounted.run(None));
    let web = Web::files(&[("X.csv", x.clone().into_bytes()), ("Y.csv", y.clone().into_bytes())]);
    let pod = Pod::new();
    let output = pod.run(Some(remote(&web, &[("X.csv", &x), ("Y.csv", &y)])));
    assert_eq!(pod.ingested(&output), expected);
    assert!(web.seen().iter().all(|seen| seen.header("cookie") == Some(CANARY)));
    assert!(!pod.said(&output).contains(CANARY));
    let posts = pod.server.seen().into_iter().filter(|seen| seen.path == "/v1/progress");
    assert!(posts.map(|p| serde_json::from_slice::<Progress>(&p.body).unwrap()).any(|p| p.percentage == 100));
}

#[test]
fn a_pod_that_fails_tells_where_and_why_and_not_what_opens_it() {
    let refused = Web::start(|_, _| web::Answer::of(403, CANARY));
    let away = Web::start(|_, _| web::Answer::of(302, "").with("Location", "http://canary-4711@h/"));
    let changed = Web::files(&[("X.csv", b"other".to_vec()), ("Y.csv", b"other".to_vec())]);
    for (web, code, reason) in [
        (&refused, exit::DENIED, "SourceDenied"),
        (&away, exit::DATA, "SourceNotFound"),
        (&changed, exit::DATA, "DataCorrupt"),
    ] {
        let pod = Pod::new();
        let output = pod.run(Some(remote(web, &[("X.csv", "rows"), ("Y.csv", "rows")])));
        assert_eq!(output.status.code(), Some(code), "{}", pod.said(&output));
        let Outcome::Failed(failure) = pod.outcome() else { panic!("{}", pod.last_words()) };
        assert_eq!(failure.reason, reason);
        assert!(failure.message.contains(&format!("http://{}/data/X.csv", web.host)), "{}", failure.message);
        assert!(!pod.said(&output).contains(CANARY), "{}", pod.said(&output));
    }
}
