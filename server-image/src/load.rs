//! From a file or a digest to a verified model.
//!
//! Nothing is served that was not verified in this process: the digest of the file on disk, sound
//! numbers, and the golden probes. What another try can mend is tried again here; what it cannot
//! ends the process, because the operator learns of it from the termination message.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vitrine_contract::gateway::Gateway;
use vitrine_contract::{DIGEST_PREFIX, exit};
use vitrine_gateway_client::{Client, Error, jittered};
use vitrine_model::{ArtifactError, Model, sha256_file};

use crate::app::App;
use crate::config::{Settings, Source};
use crate::failure::Failure;
use crate::metrics::Origin;
use crate::served::{Identity, Served};
use crate::siblings::{self, Giving};

/// For how long a gateway that cannot be reached is asked again before the process ends. The
/// kubelet then starts a new one, which reads config and token afresh.
const PATIENCE: Duration = Duration::from_mins(10);
/// For how long a refusal is asked again: the gateway may not have heard of a new pod yet.
const DENIED_PATIENCE: Duration = Duration::from_secs(8);
/// First deadline of a download; doubled up to [`LAST_DEADLINE`], so that trouble is told soon and
/// a large model over a slow network still arrives.
const FIRST_DEADLINE: Duration = Duration::from_secs(10);
const LAST_DEADLINE: Duration = Duration::from_mins(5);
/// Longest pause before the same question is asked again.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Loads the model into the app; the error ends the process.
pub async fn load(app: Arc<App>, source: Source) -> Result<(), Failure> {
    let started = Instant::now();
    let served = match source {
        Source::File(path) => blocking(&app, move |app| from_file(app, &path)).await?,
        Source::Gateway { gateway, digest, token, work_dir, siblings } => {
            let file = Artifact::new(&work_dir, digest);
            let kept = file.clone();
            match blocking(&app, move |app| from_kept(app, &kept)).await? {
                Some(served) => served,
                None => from_others(&app, &Origins::new(&gateway, token, *siblings)?, file).await?,
            }
        }
    };
    let identity = served.identity();
    tracing::info!(
        model = identity.name,
        version = identity.version,
        digest = identity.digest,
        bytes = served.model().bytes().len(),
        classes = served.classes().len(),
        features = served.model().features(),
        probes = served.model().probes(),
        milliseconds = started.elapsed().as_millis() as u64,
        "ready"
    );
    app.serve(served);
    Ok(())
}

/// The file that is to be served.
#[derive(Debug, Clone)]
struct Artifact {
    path: PathBuf,
    digest: String,
}

impl Artifact {
    fn new(work_dir: &Path, digest: String) -> Self {
        Self { path: work_dir.join(digest.replace(':', "-")), digest }
    }
}

fn from_file(app: &App, path: &Path) -> Result<Served, Failure> {
    app.set_step("verifying digest", None);
    let digest = digest_of(path)?;
    open(app, path, digest)
}

/// Whoever may have the model.
struct Origins {
    siblings: Option<Client>,
    gateway: Client,
}

impl Origins {
    fn new(gateway: &Gateway, token: PathBuf, siblings: siblings::Settings) -> Result<Self, Failure> {
        let mut gateway = Client::new(gateway, token).map_err(|error| failure_of(&error))?;
        let siblings = siblings.known.map(|known| Client::for_siblings(&known.url, siblings.token));
        let siblings = siblings.transpose().map_err(|error| failure_of(&error))?;
        if siblings.is_some() {
            // a sibling may be there before the gateway is: one try, then the turn passes
            gateway = gateway.once();
        }
        Ok(Self { siblings, gateway })
    }
}

/// Starts giving the model to siblings, where there can be any: it comes from a config.
pub fn give(app: &Arc<App>, settings: &Settings) -> Option<Giving> {
    match &settings.source {
        Source::File(_) => None,
        Source::Gateway { digest, work_dir, siblings, .. } => {
            let file = Artifact::new(work_dir, digest.clone());
            Some(siblings::start(app, (**siblings).clone(), settings.address, file.digest, file.path))
        }
    }
}

async fn from_others(app: &Arc<App>, origins: &Origins, file: Artifact) -> Result<Served, Failure> {
    fetch(app, origins, &file).await?;
    blocking(app, move |app| {
        app.set_step("verifying digest", None);
        let found = digest_of(&file.path)?;
        if found != file.digest {
            // whatever is wrong with the disk, the next start is not to find this file
            let _ = std::fs::remove_file(&file.path);
            return Err(mismatch(&file.digest, &found));
        }
        open(app, &file.path, found)
    })
    .await
}

/// The file of an earlier start of this container, if it is whole.
fn from_kept(app: &App, file: &Artifact) -> Result<Option<Served>, Failure> {
    if !file.path.exists() {
        return Ok(None);
    }
    app.set_step("verifying digest", None);
    let found = digest_of(&file.path)?;
    if found == file.digest {
        return open(app, &file.path, found).map(Some);
    }
    tracing::warn!(path = %file.path.display(), expected = file.digest, found, "kept model is damaged, it is fetched again");
    std::fs::remove_file(&file.path).map_err(|error| {
        Failure::internal(format!("cannot remove damaged {}: {error}", file.path.display()))
    })?;
    Ok(None)
}

/// Asks a sibling, then the gateway, in turn until one of them has the model. What a sibling says is
/// never final: there may be others, and there is the gateway.
async fn fetch(app: &Arc<App>, origins: &Origins, file: &Artifact) -> Result<(), Failure> {
    app.set_step("fetching model", None);
    let started = Instant::now();
    let mut deadline = FIRST_DEADLINE;
    for tries in 1.. {
        let mut trouble = None;
        if let Some(siblings) = &origins.siblings {
            match ask(app, Origin::sibling, siblings, file, deadline).await? {
                Ok(()) => return Ok(()),
                Err(error) => trouble = Some(told_of_sibling(&error)),
            }
        }
        let error = match ask(app, Origin::gateway, &origins.gateway, file, deadline).await? {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if started.elapsed() >= patience(&error) {
            return Err(failure_of(&error));
        }
        tracing::warn!(digest = file.digest, %error, "model not fetched yet");
        let of_sibling = trouble.map(|text| format!("; sibling: {text}")).unwrap_or_default();
        app.set_step("fetching model", Some(format!("{error}{of_sibling}")));
        deadline = (deadline * 2).min(LAST_DEADLINE);
        tokio::time::sleep(jittered(tries).min(LONGEST_PAUSE)).await;
    }
    Ok(())
}

/// One turn; the outer error is no answer at all.
async fn ask(
    app: &Arc<App>,
    origin: Origin,
    client: &Client,
    file: &Artifact,
    deadline: Duration,
) -> Result<Result<(), Error>, Failure> {
    let started = Instant::now();
    let (attempt, wanted) = (client.clone().with_deadline(deadline), file.clone());
    let fetched =
        tokio::task::spawn_blocking(move || attempt.get_to_file(&wanted.digest, &wanted.path)).await;
    let fetched =
        fetched.map_err(|error| Failure::internal(format!("fetching {} ended: {error}", file.digest)))?;
    Ok(match fetched {
        Ok(blob) => {
            app.metrics.fetched(origin, blob.bytes);
            let milliseconds = started.elapsed().as_millis() as u64;
            tracing::info!(origin = ?origin, bytes = blob.bytes, milliseconds, "model fetched");
            Ok(())
        }
        Err(error) => {
            let reason = match (origin, &error) {
                (Origin::sibling, Error::Unavailable { .. }) => "Unavailable",
                _ => reason_of(&error),
            };
            app.metrics.fetch_failed(origin, reason);
            Err(error)
        }
    })
}

/// Logs what was wrong with a sibling, and says it shortly. That there is none is the rule for the
/// first pods of a version.
fn told_of_sibling(error: &Error) -> String {
    let said = match error {
        Error::Unavailable { cause, .. } => {
            tracing::info!(reason = cause, "no sibling gave the model");
            return cause.clone();
        }
        Error::Denied { message, .. } => format!("it refused: {message}"),
        Error::DigestMismatch { .. } => format!("it sent other bytes: {error}"),
        Error::NotFound { .. } => "it has another model".to_owned(),
        other => other.to_string(),
    };
    tracing::warn!(reason = said, "a sibling did not give the model");
    said
}

/// For how long this answer is not believed.
fn patience(error: &Error) -> Duration {
    match error {
        Error::Unavailable { .. } | Error::Untrusted { .. } | Error::NotFound { .. } => PATIENCE,
        Error::Denied { .. } => DENIED_PATIENCE,
        _ => Duration::ZERO,
    }
}

fn failure_of(error: &Error) -> Failure {
    Failure::new(reason_of(error), error.exit_code(), error.to_string())
}

fn reason_of(error: &Error) -> &'static str {
    match error {
        Error::Denied { .. } => "StorageDenied",
        Error::NotFound { .. } => "ModelNotFound",
        Error::StorageFull { .. } => "StorageFull",
        Error::DigestMismatch { .. } => "DigestMismatch",
        Error::Unavailable { .. } | Error::Untrusted { .. } => "GatewayUnavailable",
        Error::Config { .. } => "InvalidSpec",
        _ => "ContainerFailed",
    }
}

/// Maps a file whose digest is known, and recomputes its probes.
fn open(app: &App, path: &Path, digest: String) -> Result<Served, Failure> {
    app.set_step("verifying probes", None);
    let model = Model::open(path).map_err(|error| unreadable(path, error))?;
    model.verify_probes().map_err(|mismatch| {
        let message = format!(
            "probe mismatch: {mismatch}; this server computes other scores than the trainer of {digest} did, use a matching image"
        );
        Failure::new("ProbeMismatch", exit::PROBE_MISMATCH, message)
    })?;
    let identity = Identity { name: app.name.clone(), version: app.version, digest };
    Ok(Served::new(model, identity))
}

fn digest_of(path: &Path) -> Result<String, Failure> {
    let hex = sha256_file(path).map_err(|error| unreadable(path, error))?;
    Ok(format!("{DIGEST_PREFIX}{hex}"))
}

fn mismatch(expected: &str, found: &str) -> Failure {
    let message = format!("digest mismatch: expected {expected}, found {found}");
    Failure::new("DigestMismatch", exit::DIGEST_MISMATCH, message)
}

fn unreadable(path: &Path, error: ArtifactError) -> Failure {
    match error {
        ArtifactError::Io { source, .. } => {
            Failure::internal(format!("cannot read model {}: {source}", path.display()))
        }
        other => {
            let message = format!("model {} cannot be served: {other}", path.display());
            Failure::new("IncompatibleModel", exit::CONFIG, message)
        }
    }
}

/// Hashing and probing keep a processor busy; liveness is answered meanwhile.
async fn blocking<T, F>(app: &Arc<App>, work: F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: FnOnce(&App) -> Result<T, Failure> + Send + 'static,
{
    let app = Arc::clone(app);
    match tokio::task::spawn_blocking(move || work(&app)).await {
        Ok(result) => result,
        Err(error) => Err(Failure::internal(format!("loading the model ended: {error}"))),
    }
}
