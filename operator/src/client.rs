//! The Kubernetes client, with its own deadlines and without resends.
//!
//! kube's default client resends every request that was answered 429, 503 or 504, up to 15 times and
//! whatever the method; a create that was carried out but answered 504 would be sent again minutes
//! later, also by a process that is no longer the leader. Trying again is the business of the
//! reconcile loop, which observes first.

use std::time::Duration;

use kube::client::{Body, ClientBuilder, DynBody};
use kube::{Client, Config};
use tower::layer::util::Identity;
use tower::timeout::TimeoutLayer;
use tower::util::BoxService;
use tower::{BoxError, Layer, Service};

/// What lies below every layer: the connection to the server.
pub type Wire = BoxService<::http::Request<Body>, ::http::Response<Box<DynBody>>, BoxError>;

/// Longest time until an answer starts. Watches answer at once and then stream.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest silence on a connection. Watches end after [`WATCH_SECONDS`] by themselves, so a longer
/// silence means that the other side is gone.
const READ_TIMEOUT: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 30);
/// Seconds after which the server ends a watch and it is opened again: bounds how long a watch that
/// died in silence is trusted.
pub const WATCH_SECONDS: u32 = 120;
/// Longest time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time to send.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Neither a kubeconfig nor a service account.
    #[error("no access to a cluster: set KUBECONFIG or run in a pod with a service account")]
    Config(#[source] Box<kube::config::InferConfigError>),
    /// The client cannot be built from its configuration.
    #[error("the client of the cluster cannot be built")]
    Build(#[source] Box<kube::Error>),
}

/// Where the cluster is and who we are: kubeconfig first, then the pod's service account.
pub async fn infer() -> Result<Config, ClientError> {
    Config::infer().await.map_err(|e| ClientError::Config(Box::new(e)))
}

/// The client of the operator.
pub fn build(config: Config) -> Result<Client, ClientError> {
    build_with(config, &Identity::new())
}

/// The client with one more layer next to the wire: the place for faults in tests and for the
/// clock of the Lease.
pub fn build_with<L, B>(config: Config, layer: &L) -> Result<Client, ClientError>
where
    L: Layer<Wire>,
    L::Service: Service<::http::Request<Body>, Response = ::http::Response<B>> + Send + 'static,
    <L::Service as Service<::http::Request<Body>>>::Error: Into<BoxError>,
    <L::Service as Service<::http::Request<Body>>>::Future: Send + 'static,
    B: hyper::body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let builder = ClientBuilder::try_from(harden(config)).map_err(|e| ClientError::Build(Box::new(e)))?;
    Ok(builder.with_layer(layer).with_layer(&TimeoutLayer::new(ANSWER_TIMEOUT)).build())
}

/// Sets the deadlines, turns resends off and says who we are.
fn harden(mut config: Config) -> Config {
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    config.write_timeout = Some(WRITE_TIMEOUT);
    // a pooled connection that sat idle must not time out on its next answer
    config.reset_reader_on_write = true;
    config.headers.push((::http::header::USER_AGENT, USER_AGENT));
    config
}

/// Name and version, for the audit log of the cluster.
const USER_AGENT: ::http::HeaderValue =
    ::http::HeaderValue::from_static(concat!("vitrine-operator/", env!("CARGO_PKG_VERSION")));

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
