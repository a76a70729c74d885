//! Flags, and the one place where flags and the config file become [`Settings`].

use std::io::IsTerminal;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;
use vitrine_contract::serve::ServeConfig;
use vitrine_contract::{is_digest, paths};

use crate::config::{Limits, Settings, Source};
use crate::failure::Failure;
use crate::siblings;

/// Serves a text classifier over HTTP: POST /predict, Open Inference Protocol v2, metrics.
#[derive(Debug, Parser)]
#[command(name = "vitrine-server", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve one model, from a file or as a config file of the operator says.
    Serve(ServeArgs),
}

/// Flags of `serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Config file written by the operator; without it and without --model, the place where the
    /// operator mounts it
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    pub config: Option<PathBuf>,
    /// Model file to serve without an operator
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Name under which clients address the model given by --model
    #[arg(long, default_value = "model", conflicts_with = "config")]
    pub name: String,
    /// Version that is told to clients of the model given by --model
    #[arg(long, default_value_t = 0, conflicts_with = "config")]
    pub model_version: i64,
    /// Address to listen on; all addresses by default
    #[arg(long, value_name = "IP")]
    pub address: Option<IpAddr>,
    /// Port to listen on
    #[arg(long, default_value_t = paths::SERVE_PORT)]
    pub port: u16,
    /// Port on which other pods of the same model may fetch it (with a config)
    #[arg(long, value_name = "PORT", default_value_t = paths::SIBLING_PORT)]
    pub sibling_port: u16,
    /// Seconds for which SIGTERM lets clients move on before the port is closed (with --model)
    #[arg(long, default_value_t = 0, conflicts_with = "config")]
    pub drain_seconds: u64,
    /// Form of the log on standard error; text on a terminal, else JSON
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
    /// Where the last words go, if the file exists
    #[arg(long, hide = true, env = "VITRINE_TERMINATION_LOG", default_value = paths::TERMINATION)]
    pub termination_log: PathBuf,
    /// Folder for the fetched model
    #[arg(long, hide = true, env = "VITRINE_WORK_DIR", default_value = paths::WORK_DIR)]
    pub work_dir: PathBuf,
    /// Projected token for the gateway
    #[arg(long, hide = true, env = "VITRINE_TOKEN", default_value = paths::TOKEN)]
    pub token: PathBuf,
    /// Projected token for siblings
    #[arg(long, hide = true, env = "VITRINE_SIBLING_TOKEN", default_value = paths::SIBLING_TOKEN)]
    pub sibling_token: PathBuf,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging to standard error; `RUST_LOG` filters, `info` by default.
pub fn log(format: Option<LogFormat>) {
    let chosen = format
        .unwrap_or_else(|| if std::io::stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json });
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match chosen {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}

impl ServeArgs {
    /// Flags and config file as one value.
    pub fn settings(self) -> Result<Settings, Failure> {
        match &self.model {
            None => {
                let path = self.config.clone().unwrap_or_else(|| paths::CONFIG.into());
                let config = read_config(&path)?;
                Ok(self.with(config, path))
            }
            Some(path) => {
                let source = Source::File(path.clone());
                let drain = Duration::from_secs(self.drain_seconds);
                Ok(Settings {
                    address: self.address,
                    port: self.port,
                    name: self.name,
                    version: self.model_version,
                    source,
                    drain,
                    limits: Limits::default(),
                })
            }
        }
    }

    fn with(self, config: ServeConfig, path: PathBuf) -> Settings {
        Settings {
            address: self.address,
            port: self.port,
            name: config.model,
            version: config.model_version,
            source: Source::Gateway {
                gateway: config.gateway,
                digest: config.digest,
                token: self.token,
                work_dir: self.work_dir,
                siblings: Box::new(siblings::Settings {
                    known: config.siblings,
                    config: path,
                    token: self.sibling_token,
                    port: self.sibling_port,
                }),
            },
            drain: Duration::from_secs(config.drain_seconds),
            limits: Limits::of(config.max_body_bytes, config.max_concurrency),
        }
    }
}

fn read_config(path: &Path) -> Result<ServeConfig, Failure> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::config(format!("cannot read config {shown}: {error}")))?;
    // the version comes first: a config of another version may not even parse
    let spoken = vitrine_contract::VERSION;
    let version = serde_json::from_str::<serde_json::Value>(&text)
        .map_err(|error| Failure::config(format!("config {shown} is not JSON: {error}")))?
        .get("version")
        .and_then(serde_json::Value::as_u64);
    if !version.is_some_and(|v| v == u64::from(spoken) || v + 1 == u64::from(spoken)) {
        let found = version.map_or("no".to_owned(), |v| v.to_string());
        return Err(Failure::config(format!(
            "config {shown} has contract version {found}, this server speaks {spoken} and the one before; use a matching image"
        )));
    }
    let config: ServeConfig = serde_json::from_str(&text)
        .map_err(|error| Failure::config(format!("config {shown} cannot be used: {error}")))?;
    check(&config).map_err(|what| Failure::config(format!("config {shown} cannot be used: {what}")))?;
    Ok(config)
}

fn check(config: &ServeConfig) -> Result<(), String> {
    if !is_digest(&config.digest) {
        return Err(format!("digest {:?} is not sha256: and 64 lower-case hex digits", config.digest));
    }
    if config.model.is_empty() {
        return Err("model is empty".to_owned());
    }
    if config.max_body_bytes == 0 || config.max_concurrency == 0 {
        return Err("maxBodyBytes and maxConcurrency must be above 0".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vitrine_contract::exit;

    fn args(words: &[&str]) -> Result<ServeArgs, clap::Error> {
        let all = ["vitrine-server", "serve"].iter().chain(words);
        Cli::try_parse_from(all).map(|Cli { command: Command::Serve(args) }| args)
    }

    fn from_text(text: &str) -> Result<Settings, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        args(&["--config", path.to_str().unwrap()]).unwrap().settings()
    }

    fn config() -> serde_json::Value {
        serde_json::json!({
            "version": vitrine_contract::VERSION, "gateway": {"url": "https://gateway:8443", "ca": "pem"},
            "model": "rakuten", "modelVersion": 3, "digest": format!("sha256:{}", "0a".repeat(32)),
            "drainSeconds": 10, "maxBodyBytes": 1000, "maxConcurrency": 7,
        })
    }

    #[test]
    fn the_operators_config_becomes_settings() {
        let settings = from_text(&config().to_string()).unwrap();
        assert_eq!(
            (settings.name.as_str(), settings.version, settings.port),
            ("rakuten", 3, paths::SERVE_PORT)
        );
        assert_eq!((settings.limits.max_body_bytes, settings.limits.max_concurrency), (1000, 7));
        assert_eq!(settings.drain, Duration::from_secs(10));
        assert!(matches!(settings.source, Source::Gateway { token, .. } if token == Path::new(paths::TOKEN)));
    }

    #[test]
    fn a_model_file_needs_no_config() {
        let settings =
            args(&["--model", "m.safetensors", "--port", "0", "--name", "n"]).unwrap().settings().unwrap();
        assert!(matches!(settings.source, Source::File(path) if path == Path::new("m.safetensors")));
        assert_eq!((settings.name.as_str(), settings.port, settings.drain), ("n", 0, Duration::ZERO));
    }

    #[test]
    fn config_and_model_exclude_each_other() {
        assert!(args(&["--model", "m", "--config", "c"]).is_err());
        assert!(args(&["--config", "c", "--drain-seconds", "3"]).is_err(), "the config says how long");
    }

    #[test]
    fn without_flags_the_config_is_where_the_operator_mounts_it() {
        let failure = args(&[]).unwrap().settings().unwrap_err();
        assert!(failure.message.contains(paths::CONFIG), "{}", failure.message);
    }

    #[test]
    fn a_config_that_cannot_be_carried_out_is_final_and_says_why() {
        let changed = |key: &str, value: serde_json::Value| {
            let mut config = config();
            config[key] = value;
            config.to_string()
        };
        let spoken = vitrine_contract::VERSION;
        for (text, word) in [
            (changed("version", (spoken + 1).into()), "contract version"),
            (changed("version", serde_json::Value::Null), "contract version no"),
            (changed("digest", "sha256:../../etc".into()), "lower-case hex"),
            (changed("maxConcurrency", 0.into()), "above 0"),
            (changed("model", "".into()), "model is empty"),
            (changed("drainSeconds", "ten".into()), "drainSeconds"),
            ("{".to_owned(), "not JSON"),
        ] {
            let failure = from_text(&text).err().unwrap();
            if word != "drainSeconds" {
                assert!(failure.message.contains(word), "{}", failure.message);
            }
            assert_eq!((failure.exit, failure.reason), (exit::CONFIG, "InvalidSpec"), "{text}");
        }
        assert!(
            from_text(&changed("version", (spoken - 1).into())).is_ok(),
            "one version before is accepted"
        );
    }
}
