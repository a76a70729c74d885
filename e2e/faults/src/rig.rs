//! The rig: etcd, a real kube-apiserver with an audit log, and of the controller manager only the parts
//! that no script should play (garbage collection, namespaces, service accounts). No kubelet, no
//! scheduler, no Job or Deployment controller: [`crate::completer`] stands for them.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::discovery::ApiResource;
use kube::{Client, Config, ResourceExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::pki;
use crate::process::Process;

/// Namespace of the operator.
pub const SYSTEM: &str = "vitrine-system";
/// Service account of the operator, as the chart names it.
pub const ACCOUNT: &str = "vitrine";
/// Token of the rig's own client.
const ADMIN: &str = "rig-admin-token";
/// What of the controller manager runs.
const CONTROLLERS: &str = "garbage-collector-controller,namespace-controller,serviceaccount-controller";
/// Longest time for a part to come up.
const START: Duration = Duration::from_mins(1);
/// Metadata of every write; reads of the operator too, since they are counted.
const AUDIT: &str = r#"{"apiVersion":"audit.k8s.io/v1","kind":"Policy","omitManagedFields":true,"omitStages":["RequestReceived","ResponseStarted"],
"rules":[{"level":"None","users":["system:apiserver","rig-manager"]},{"level":"None","users":["rig-admin"]},{"level":"Metadata"}]}"#;

/// Where the programs are, and what is kept of them.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Folder with etcd, kube-apiserver, kube-controller-manager and helm.
    pub kube: PathBuf,
    /// The operator, built with the feature `failpoints`.
    pub operator: PathBuf,
    /// The chart, for the operator's rights.
    pub chart: PathBuf,
    /// Folder in which each rig leaves its audit log; it goes with the rig if absent.
    pub audit: Option<PathBuf>,
}

/// A cluster without nodes.
pub struct Rig {
    /// Folder of everything that the rig keeps.
    pub dir: TempDir,
    /// A client with all rights.
    pub admin: Client,
    /// Address of the apiserver.
    pub url: String,
    /// Its certificate authority, PEM.
    pub ca: String,
    /// Token of the operator's service account.
    pub token: String,
    /// The apiserver's audit log.
    pub audit: PathBuf,
    _parts: Vec<Process>,
}

/// A port that is free now.
///
/// Below the node ports and what the kernel gives to outgoing connections, and from a place of this
/// process on: who asked for the port listens on it only later, and a second campaign on the machine
/// asks too.
pub fn free_port() -> Result<u16> {
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 17_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        let offset = std::process::id().wrapping_mul(997).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + offset % COUNT)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port from {FIRST} to {} is free", FIRST + COUNT)
}

/// Folder for state that need not survive: memory where there is enough.
fn scratch() -> Result<TempDir> {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() {
        return Ok(tempfile::Builder::new().prefix("vitrine-faults-").tempdir_in(shm)?);
    }
    Ok(tempfile::Builder::new().prefix("vitrine-faults-").tempdir()?)
}

impl Rig {
    /// Starts everything and installs the definitions and the operator's rights.
    pub async fn start(programs: &Programs) -> Result<Self> {
        let dir = scratch()?;
        let root = dir.path();
        let pki = pki::make()?;
        for (name, text) in [
            ("ca.crt", &pki.ca),
            ("server.crt", &pki.server_cert),
            ("server.key", &pki.server_key),
            ("sa.key", &pki.account_key),
            ("sa.pub", &pki.account_public),
            ("audit.json", &AUDIT.to_owned()),
            (
                "tokens.csv",
                &format!(
                    "{ADMIN},rig-admin,1,system:masters\n{ADMIN}-manager,rig-manager,2,system:masters\n"
                ),
            ),
        ] {
            std::fs::write(root.join(name), text)?;
        }
        let (etcd, peer, api) = (free_port()?, free_port()?, free_port()?);
        let url = format!("https://127.0.0.1:{api}");
        let audit = match &programs.audit {
            Some(folder) => folder.join(format!("audit-{api}.log")),
            None => root.join("audit.log"),
        };
        let mut parts = vec![start_etcd(programs, root, etcd, peer)?];
        parts.push(start_apiserver(programs, root, &audit, etcd, api)?);
        let admin = client(&url, &pki.ca, Some(ADMIN))?;
        wait("the apiserver", || async {
            let request = http::Request::get("/readyz").body(Vec::new())?;
            Ok(admin.request_text(request).await? == "ok")
        })
        .await
        .with_context(|| tail(&root.join("kube-apiserver.log")))?;
        install_definitions(&admin).await?;
        parts.push(start_manager(programs, root, &url)?);
        let token = install_operator(&admin, programs).await?;
        Ok(Self { admin, url, ca: pki.ca, token, dir, audit, _parts: parts })
    }

    /// Length of the audit log.
    pub fn audit_length(&self) -> u64 {
        std::fs::metadata(&self.audit).map(|m| m.len()).unwrap_or_default()
    }

    /// What the operator asked for without a right to it, in the audit log from a length on. Refusals by
    /// admission (a quota, a namespace that goes) are none: there the request was authorized.
    pub fn forbidden(&self, from: u64) -> Result<Vec<String>> {
        let mut file = File::open(&self.audit).context("the audit log")?;
        file.seek(SeekFrom::Start(from))?;
        let mut found = Vec::new();
        for line in BufReader::new(file).lines() {
            found.extend(unauthorized(&line.context("reading the audit log")?));
        }
        Ok(found)
    }

    /// Makes a namespace; returns its UID when pods can be made in it.
    pub async fn namespace(&self, name: &str) -> Result<String> {
        let api = Api::<Namespace>::all(self.admin.clone());
        let made = api
            .create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": name}}))?)
            .await?;
        let accounts = Api::<ServiceAccount>::namespaced(self.admin.clone(), name);
        wait("the default service account", || async { Ok(accounts.get_opt("default").await?.is_some()) })
            .await?;
        Ok(made.uid().unwrap_or_default())
    }
}

/// The request of a line of the audit log, if it is the operator's and no role allows it.
fn unauthorized(line: &str) -> Option<String> {
    let event: Value = serde_json::from_str(line).ok()?;
    let ours = event["user"]["username"] == format!("system:serviceaccount:{SYSTEM}:{ACCOUNT}");
    if !ours || event["annotations"]["authorization.k8s.io/decision"] != "forbid" {
        return None;
    }
    Some(format!("{} {}", event["verb"].as_str()?, event["requestURI"].as_str()?))
}

/// A client of the apiserver.
pub fn client(url: &str, ca: &str, token: Option<&str>) -> Result<Client> {
    let mut config = Config::new(url.parse()?);
    let certificate = rustls::pki_types::CertificateDer::pem_from(ca)?;
    config.root_cert = Some(vec![certificate]);
    config.default_retry = false;
    config.auth_info.token = token.map(|t| t.to_owned().into());
    Ok(Client::try_from(config)?)
}

/// PEM to DER.
trait PemFrom {
    fn pem_from(text: &str) -> Result<Vec<u8>>;
}

impl PemFrom for rustls::pki_types::CertificateDer<'_> {
    fn pem_from(text: &str) -> Result<Vec<u8>> {
        use rustls::pki_types::pem::PemObject as _;
        let der = rustls::pki_types::CertificateDer::from_pem_slice(text.as_bytes());
        Ok(der.map_err(|e| anyhow::anyhow!("certificate: {e:?}"))?.to_vec())
    }
}

/// Waits until `done` says so; errors count as not yet.
pub async fn wait<F>(what: &str, mut done: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = Result<bool>>,
{
    let end = tokio::time::Instant::now() + START;
    let mut last = None;
    while tokio::time::Instant::now() < end {
        match done().await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("{what} did not come up within {} s: {last:?}", START.as_secs())
}

/// The end of a log, for a message.
pub fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(15).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

fn start_etcd(programs: &Programs, root: &Path, port: u16, peer: u16) -> Result<Process> {
    let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer}"));
    let args = [
        "--name=rig".to_owned(),
        format!("--data-dir={}", root.join("etcd").display()),
        "--unsafe-no-fsync".to_owned(),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=rig={peer}"),
        "--log-level=warn".to_owned(),
        "--quota-backend-bytes=4294967296".to_owned(),
    ];
    Process::start(&programs.kube.join("etcd"), &args, &[], &root.join("etcd.log"))
}

fn start_apiserver(programs: &Programs, root: &Path, audit: &Path, etcd: u16, port: u16) -> Result<Process> {
    let file = |name: &str| root.join(name).display().to_string();
    let args = [
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--etcd-servers=http://127.0.0.1:{etcd}"),
        "--service-cluster-ip-range=10.77.0.0/16".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        format!("--token-auth-file={}", file("tokens.csv")),
        format!("--tls-cert-file={}", file("server.crt")),
        format!("--tls-private-key-file={}", file("server.key")),
        "--service-account-issuer=https://rig.test".to_owned(),
        format!("--service-account-key-file={}", file("sa.pub")),
        format!("--service-account-signing-key-file={}", file("sa.key")),
        format!("--audit-policy-file={}", file("audit.json")),
        format!("--audit-log-path={}", audit.display()),
        "--audit-log-maxsize=2000".to_owned(),
        "--profiling=false".to_owned(),
    ];
    Process::start(&programs.kube.join("kube-apiserver"), &args, &[], &root.join("kube-apiserver.log"))
}

fn start_manager(programs: &Programs, root: &Path, url: &str) -> Result<Process> {
    let token = format!("{ADMIN}-manager");
    let kubeconfig = root.join("manager.kubeconfig");
    std::fs::write(&kubeconfig, kubeconfig_of(url, Some(&root.join("ca.crt")), &token))?;
    let args = [
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--controllers={CONTROLLERS}"),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
        "--use-service-account-credentials=false".to_owned(),
        "--kube-api-qps=500".to_owned(),
        "--kube-api-burst=1000".to_owned(),
        "--concurrent-gc-syncs=20".to_owned(),
        format!("--service-account-private-key-file={}", root.join("sa.key").display()),
    ];
    let program = programs.kube.join("kube-controller-manager");
    Process::start(&program, &args, &[], &root.join("kube-controller-manager.log"))
}

/// A kubeconfig as JSON, which is YAML too.
pub fn kubeconfig_of(url: &str, ca: Option<&Path>, token: &str) -> String {
    let mut cluster = json!({"server": url});
    if let Some(ca) = ca {
        cluster["certificate-authority"] = json!(ca);
    }
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "rig",
        "clusters": [{"name": "rig", "cluster": cluster}],
        "users": [{"name": "rig", "user": {"token": token}}],
        "contexts": [{"name": "rig", "context": {"cluster": "rig", "user": "rig"}}],
    })
    .to_string()
}

async fn install_definitions(admin: &Client) -> Result<()> {
    let api = Api::<CustomResourceDefinition>::all(admin.clone());
    for definition in vitrine_crds::definitions() {
        api.create(&PostParams::default(), &definition).await?;
    }
    wait("the definitions", || async {
        let all = api.list(&kube::api::ListParams::default()).await?;
        let established = |c: &CustomResourceDefinition| {
            let conditions = c.status.as_ref().and_then(|s| s.conditions.as_ref());
            conditions.into_iter().flatten().any(|c| c.type_ == "Established" && c.status == "True")
        };
        Ok(all.items.len() == 3 && all.items.iter().all(established))
    })
    .await
}

/// The operator's namespace, service account and rights as the chart grants them; returns a token.
async fn install_operator(admin: &Client, programs: &Programs) -> Result<String> {
    Api::<Namespace>::all(admin.clone())
        .create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": SYSTEM}}))?)
        .await?;
    let rendered = std::process::Command::new(programs.kube.join("helm"))
        .args(["template", ACCOUNT])
        .arg(&programs.chart)
        .args([
            "--namespace",
            SYSTEM,
            "--kube-version",
            "v1.35.0",
            "--set",
            "trainer.image=t,server.image=s,image.tag=x",
        ])
        .output()
        .context("running helm")?;
    if !rendered.status.success() {
        bail!("helm template: {}", String::from_utf8_lossy(&rendered.stderr));
    }
    let text = String::from_utf8(rendered.stdout)?;
    for document in text.split("\n---") {
        let wanted = ["kind: ServiceAccount", "kind: ClusterRole", "kind: Role"];
        if document.lines().any(|l| wanted.iter().any(|w| l.starts_with(w))) {
            apply_document(admin, document).await?;
        }
    }
    let accounts = Api::<ServiceAccount>::namespaced(admin.clone(), SYSTEM);
    let request = TokenRequest {
        spec: TokenRequestSpec { audiences: vec![], expiration_seconds: Some(86_400), ..Default::default() },
        ..TokenRequest::default()
    };
    let made = accounts.create_token_request(ACCOUNT, &PostParams::default(), &request).await;
    let made = made.with_context(|| format!("a token of the service account {ACCOUNT} of the chart"))?;
    made.status.map(|s| s.token).context("no token")
}

async fn apply_document(admin: &Client, document: &str) -> Result<()> {
    let object: DynamicObject = serde_saphyr::from_str(document)?;
    let types = object.types.clone().context("a document without kind")?;
    let gvk = kube::core::GroupVersionKind::try_from(&types)?;
    let resource = ApiResource::from_gvk(&gvk);
    let name = object.name_any();
    let namespace = object.metadata.namespace.as_deref().unwrap_or(SYSTEM);
    let api: Api<DynamicObject> = if types.kind.starts_with("Cluster") {
        Api::all_with(admin.clone(), &resource)
    } else {
        Api::namespaced_with(admin.clone(), namespace, &resource)
    };
    api.patch(&name, &PatchParams::apply("rig").force(), &Patch::Apply(&object)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_is_told_from_a_refused_admission() {
        let event = |user: &str, decision: &str| {
            let event = json!({"verb": "create", "requestURI": "/api/v1/namespaces/n/pods", "responseStatus": {"code": 403},
                "user": {"username": user}, "annotations": {"authorization.k8s.io/decision": decision}});
            unauthorized(&event.to_string())
        };
        let operator = "system:serviceaccount:vitrine-system:vitrine";
        assert_eq!(event(operator, "forbid").as_deref(), Some("create /api/v1/namespaces/n/pods"));
        assert_eq!(event(operator, "allow"), None);
        assert_eq!(event("system:serviceaccount:n:default", "forbid"), None);
    }
}
