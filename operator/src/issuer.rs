//! The cluster's issuer of tokens and its public keys. They go into the configs of serving pods, which
//! then know each other's tokens without asking anybody: also while this operator is away.
//!
//! Read at start and seldom afterwards. Without them everything else works; pods then fetch their
//! model from the gateway only.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use kube::Client;
use kube::runtime::reflector::ObjectRef;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use vitrine_contract::siblings::{Issuer, Key};

use crate::backoff::jitter;
use crate::context::Context;
use crate::error::brief;
use crate::queues::Queues;
use crate::relations::Target;

/// Address of the apiserver that names the issuer.
pub const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Address of its public keys.
pub const KEYS: &str = "/openid/v1/jwks";

/// How often they are read again: keys change every few months, and a restart of the control plane
/// with new ones is the rare case that this bounds.
const REREAD: Duration = Duration::from_mins(10);
/// How often they are read while none was readable yet.
const UNTIL_FIRST: Duration = Duration::from_secs(30);
/// Longest time of a read.
const DEADLINE: Duration = Duration::from_secs(5);
/// Reads at start before the work begins without keys.
const TRIES: u32 = 3;
/// Most keys that are kept: they are in the config of every serving pod.
const MOST: usize = 32;

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

/// The issuer as last read. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Known(Arc<RwLock<Option<Issuer>>>);

impl Known {
    /// The issuer; none: it was never readable.
    pub fn get(&self) -> Option<Issuer> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what was read; whether that is news.
    fn set(&self, read: Issuer) -> bool {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let news = known.as_ref() != Some(&read);
        *known = Some(read);
        news
    }

    /// Reads for the first time, a few times if need be, and says how it went.
    pub async fn read(&self, client: &Client) {
        for tried in 1..=TRIES {
            match read(client).await {
                Ok(issuer) => {
                    tracing::info!(
                        issuer = issuer.issuer,
                        keys = issuer.keys.len(),
                        "the cluster's keys are known"
                    );
                    self.set(issuer);
                    return;
                }
                Err(error) if tried == TRIES => tracing::warn!(
                    error,
                    "the cluster's public keys cannot be read: serving pods fetch their model from the gateway only"
                ),
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }
}

/// Reads again for as long as this process leads; news concern every deployment.
pub async fn keep_reading(ctx: &Context, queues: &Queues) {
    let mut readable = ctx.issuer.get().is_some();
    loop {
        let wait = if ctx.issuer.get().is_some() { REREAD } else { UNTIL_FIRST };
        tokio::time::sleep(jitter(wait)).await;
        match read(&ctx.client).await {
            Ok(issuer) => {
                if ctx.issuer.set(issuer) {
                    tracing::info!("the cluster has new keys; configs follow");
                    let all = ctx.caches.deployments.state();
                    queues.push_all(all.iter().map(|d| Target::ModelDeployment(ObjectRef::from_obj(&**d))));
                }
                readable = true;
            }
            // what is known stays, and it is told once
            Err(error) => {
                if readable {
                    tracing::warn!(error, "the cluster's public keys cannot be read any more");
                }
                readable = false;
            }
        }
    }
}

async fn read(client: &Client) -> Result<Issuer, String> {
    let both = async {
        let discovery: Discovery = get(client, DISCOVERY).await?;
        let set: KeySet = get(client, KEYS).await?;
        Ok((discovery, set))
    };
    let (discovery, set) =
        tokio::time::timeout(DEADLINE, both).await.map_err(|_| "no answer".to_owned()).flatten()?;
    let keys = keys(set);
    if discovery.issuer.is_empty() || keys.is_empty() {
        return Err(format!("{KEYS} has no key that can be used"));
    }
    Ok(Issuer { issuer: discovery.issuer, keys })
}

async fn get<T: DeserializeOwned>(client: &Client, path: &str) -> Result<T, String> {
    let request = ::http::Request::get(path).body(Vec::new()).map_err(|e| e.to_string())?;
    client.request(request).await.map_err(|e| format!("GET {path}: {}", brief(&e)))
}

/// Signing keys in one order: the same keys must give the same config. One that is not as expected
/// does not take the others away.
fn keys(set: KeySet) -> Vec<Key> {
    let signs = |key: &serde_json::Value| key.get("use").is_none_or(|u| u == "sig");
    let known = set.keys.into_iter().filter(signs).filter_map(|key| serde_json::from_value(key).ok());
    let mut keys: Vec<Key> = known.filter(|k: &Key| matches!(k.kty.as_str(), "RSA" | "EC")).collect();
    keys.sort();
    keys.dedup();
    keys.truncate(MOST);
    keys
}

#[cfg(test)]
#[path = "issuer_tests.rs"]
mod tests;
