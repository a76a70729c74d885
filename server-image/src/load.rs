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
use vitrine_gateway_client::{Client, Error};
use vitrine_model::{ArtifactError, Model, sha256_file};

use crate::app::App;
use crate::config::Source;
use crate::failure::Failure;
use crate::served::{Identity, Served};

/// For how long a gateway that cannot be reached is asked again before the process ends. The
/// kubelet then starts a new one, which reads config and token afresh.
const PATIENCE: Duration = Duration::from_mins(10);
/// For how long a refusal is asked again: the gateway may not have heard of a new pod yet.
const DENIED_PATIENCE: Duration = Duration::from_secs(8);
/// First deadline of a download; doubled up to [`LAST_DEADLINE`], so that trouble is told soon and
/// a large model over a slow network still arrives.
const FIRST_DEADLINE: Duration = Duration::from_secs(10);
const LAST_DEADLINE: Duration = Duration::from_mins(5);
/// Pause before the same question is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Loads the model into the app; the error ends the process.
pub async fn load(app: Arc<App>, source: Source) -> Result<(), Failure> {
    let started = Instant::now();
    let served = match source {
        Source::File(path) => blocking(&app, move |app| from_file(app, &path)).await?,
        Source::Gateway { gateway, digest, token, work_dir } => {
            let file = Artifact { path: work_dir.join(digest.replace(':', "-")), digest };
            from_gateway(&app, &gateway, token, file).await?
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

fn from_file(app: &App, path: &Path) -> Result<Served, Failure> {
    app.set_step("verifying digest", None);
    let digest = digest_of(path)?;
    open(app, path, digest)
}

async fn from_gateway(
    app: &Arc<App>,
    gateway: &Gateway,
    token: PathBuf,
    file: Artifact,
) -> Result<Served, Failure> {
    let kept = file.clone();
    if let Some(served) = blocking(app, move |app| from_kept(app, &kept)).await? {
        return Ok(served);
    }
    let client = Client::new(gateway, token).map_err(|error| failure_of(&error))?;
    fetch(app, &client, &file).await?;
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

async fn fetch(app: &Arc<App>, client: &Client, file: &Artifact) -> Result<(), Failure> {
    app.set_step("fetching model", None);
    let started = Instant::now();
    let mut deadline = FIRST_DEADLINE;
    loop {
        let (attempt, wanted) = (client.clone().with_deadline(deadline), file.clone());
        let fetched =
            tokio::task::spawn_blocking(move || attempt.get_to_file(&wanted.digest, &wanted.path)).await;
        let error = match fetched {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => error,
            Err(error) => return Err(Failure::internal(format!("fetching {} ended: {error}", file.digest))),
        };
        if started.elapsed() >= patience(&error) {
            return Err(failure_of(&error));
        }
        tracing::warn!(digest = file.digest, %error, "model not fetched yet");
        app.set_step("fetching model", Some(error.to_string()));
        deadline = (deadline * 2).min(LAST_DEADLINE);
        tokio::time::sleep(PAUSE).await;
    }
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
    let reason = match error {
        Error::Denied { .. } => "StorageDenied",
        Error::NotFound { .. } => "ModelNotFound",
        Error::StorageFull { .. } => "StorageFull",
        Error::DigestMismatch { .. } => "DigestMismatch",
        Error::Unavailable { .. } | Error::Untrusted { .. } => "GatewayUnavailable",
        Error::Config { .. } => "InvalidSpec",
        _ => "ContainerFailed",
    };
    Failure::new(reason, error.exit_code(), error.to_string())
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
