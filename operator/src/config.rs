//! Flags and environment, parsed once into one value; nothing else in this crate reads either.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::Deserialize;
use vitrine_contract::gateway::Gateway;
use vitrine_plan::Policy;
use vitrine_plan::policy::DefaultResources;

/// Largest request body of a serving pod in bytes.
const SERVE_MAX_BODY: usize = 4 << 20;
/// Requests that a serving pod works on at once.
const SERVE_CONCURRENCY: usize = 256;

/// Command line.
#[derive(Debug, Parser)]
#[command(name = "vitrine-operator", version, about = "Operator of Dataset, TrainingRun and ModelDeployment")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Reconcile and serve the artifact gateway until told to stop.
    Run(Box<Config>),
    /// Ask a running operator whether it is ready; exit code 0 means yes.
    Selftest {
        /// Address of the operator, such as `http://vitrine-operator.vitrine-system.svc:8080`.
        #[arg(long)]
        url: String,
    },
}

/// A part of the operator that a process may leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Reconciles; one process at a time, elected by the Lease.
    Controller,
    /// Serves artifacts to pods.
    Gateway,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// Everything the administrator decided.
#[derive(Clone, Debug, Args)]
pub struct Config {
    /// Parts to run.
    #[arg(long, env = "VITRINE_ROLES", value_delimiter = ',', default_value = "controller,gateway")]
    pub roles: Vec<Role>,
    /// Namespace of the operator: the Lease lives there.
    #[arg(long, env = "VITRINE_NAMESPACE", default_value = "vitrine-system")]
    pub namespace: String,
    /// Name of this pod: holder of the Lease and reporter of events.
    #[arg(long, env = "VITRINE_POD_NAME", default_value = "vitrine-operator")]
    pub pod_name: String,
    /// Image of ingest and training pods.
    #[arg(long, env = "VITRINE_TRAINER_IMAGE")]
    pub trainer_image: String,
    /// Image of serving pods.
    #[arg(long, env = "VITRINE_SERVER_IMAGE")]
    pub server_image: String,
    /// Pull policy of both images.
    #[arg(long, env = "VITRINE_IMAGE_PULL_POLICY", default_value = "IfNotPresent",
          value_parser = ["Always", "IfNotPresent", "Never"])]
    pub image_pull_policy: String,
    /// Image pull Secret in the tenants' namespaces; may be given several times.
    #[arg(long = "image-pull-secret", env = "VITRINE_IMAGE_PULL_SECRETS", value_delimiter = ',')]
    pub image_pull_secrets: Vec<String>,
    /// Address at which pods reach the gateway; its host is in the gateway's certificate.
    #[arg(long, env = "VITRINE_GATEWAY_URL")]
    pub gateway_url: String,
    /// Where the gateway listens.
    #[arg(long, env = "VITRINE_GATEWAY_BIND", default_value = "0.0.0.0:8443")]
    pub gateway_bind: SocketAddr,
    /// Where `/healthz`, `/readyz` and `/metrics` listen.
    #[arg(long, env = "VITRINE_HTTP_BIND", default_value = "0.0.0.0:8080")]
    pub http_bind: SocketAddr,
    /// Folder of the registry and of the certificate authority.
    #[arg(long, env = "VITRINE_REGISTRY_DIR", default_value = "/var/lib/vitrine/registry")]
    pub registry_dir: PathBuf,
    /// Folder of the artifacts.
    #[arg(long, env = "VITRINE_ARTIFACTS_DIR", default_value = "/var/lib/vitrine/artifacts")]
    pub artifacts_dir: PathBuf,
    /// Resources of ingest pods that name none: JSON `{"requests":{},"limits":{}}`.
    #[arg(long, env = "VITRINE_INGEST_RESOURCES", default_value = "{}", value_parser = resources)]
    pub ingest_resources: DefaultResources,
    /// Resources of training pods that name none.
    #[arg(long, env = "VITRINE_TRAIN_RESOURCES", default_value = "{}", value_parser = resources)]
    pub train_resources: DefaultResources,
    /// Resources of serving pods that name none.
    #[arg(long, env = "VITRINE_SERVE_RESOURCES", default_value = "{}", value_parser = resources)]
    pub serve_resources: DefaultResources,
    /// Reconciles of one kind that run at once.
    #[arg(long, env = "VITRINE_CONCURRENCY", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,
    /// Seconds after which a reconcile is given up and tried again later.
    #[arg(long, env = "VITRINE_RECONCILE_TIMEOUT_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub reconcile_timeout_seconds: u64,
    /// Seconds for which a retiring serving pod still answers.
    #[arg(long, env = "VITRINE_DRAIN_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=600))]
    pub drain_seconds: u64,
    /// Form of the log.
    #[arg(long, env = "VITRINE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
}

impl Config {
    /// Does this process play that part?
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// The deadline of one reconcile.
    pub fn reconcile_timeout(&self) -> Duration {
        Duration::from_secs(self.reconcile_timeout_seconds)
    }

    /// What the plan needs to know; `ca` is the PEM of the gateway's certificate authority.
    pub fn policy(&self, ca: &str) -> Policy {
        Policy {
            trainer_image: self.trainer_image.clone(),
            server_image: self.server_image.clone(),
            image_pull_policy: self.image_pull_policy.clone(),
            image_pull_secrets: self.image_pull_secrets.clone(),
            gateway: Gateway { url: self.gateway_url.trim_end_matches('/').to_owned(), ca: ca.to_owned() },
            ingest_resources: self.ingest_resources.clone(),
            train_resources: self.train_resources.clone(),
            serve_resources: self.serve_resources.clone(),
            drain_seconds: self.drain_seconds,
            max_body_bytes: SERVE_MAX_BODY,
            max_concurrency: SERVE_CONCURRENCY,
            issuer: None,
        }
    }
}

/// Reads the resources of a flag; a misspelt key is an error and not a silent default.
fn resources(text: &str) -> Result<DefaultResources, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Given {
        #[serde(default)]
        requests: BTreeMap<String, Quantity>,
        #[serde(default)]
        limits: BTreeMap<String, Quantity>,
    }
    let given: Given = serde_json::from_str(text).map_err(|e| {
        format!("resources must be JSON like {{\"requests\":{{\"cpu\":\"500m\"}},\"limits\":{{}}}}: {e}")
    })?;
    Ok(DefaultResources { requests: given.requests, limits: given.limits })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(more: &[&str]) -> Result<Config, clap::Error> {
        let base = [
            "vitrine-operator",
            "run",
            "--trainer-image",
            "t",
            "--server-image",
            "s",
            "--gateway-url",
            "https://g.ns.svc:8443/",
        ];
        match Cli::try_parse_from(base.iter().chain(more))?.command {
            Command::Run(config) => Ok(*config),
            Command::Selftest { .. } => panic!("not asked for"),
        }
    }

    #[test]
    fn defaults_run_everything_with_bounded_work() {
        let config = parse(&[]).unwrap();
        assert!(config.has(Role::Controller) && config.has(Role::Gateway));
        assert_eq!(config.concurrency, 8);
        assert_eq!(config.reconcile_timeout(), Duration::from_mins(1));
        assert_eq!(config.policy("PEM").gateway.url, "https://g.ns.svc:8443");
    }

    #[test]
    fn unbounded_concurrency_is_refused() {
        // hazard H3: 0 means "unbounded" to the controller
        assert!(parse(&["--concurrency", "0"]).is_err());
    }

    #[test]
    fn resources_are_read_and_misspelt_keys_refused() {
        let config = parse(&["--train-resources", r#"{"limits":{"memory":"1Gi"}}"#]).unwrap();
        assert_eq!(config.train_resources.limits["memory"].0, "1Gi");
        assert!(parse(&["--train-resources", r#"{"limit":{"memory":"1Gi"}}"#]).is_err());
    }
}
