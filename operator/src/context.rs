//! What every reconcile gets: client, caches, registry, policy, and the few things that are not pure
//! (time, leadership).

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::Api;
use kube::{Client, Resource};
use tokio_util::sync::CancellationToken;
use vitrine_plan::Policy;
use vitrine_plan::meta::whole_seconds;

use crate::backoff::Backoff;
use crate::caches::Caches;
use crate::error::CallError;
use crate::events::Events;
use crate::issuer::Known;
use crate::metrics::Metrics;
use crate::registry::Registry;

/// What every reconcile gets.
pub struct Context {
    /// Client of the cluster.
    pub client: Client,
    /// What the watches know.
    pub caches: Caches,
    /// Registry of models.
    pub registry: Registry,
    /// What the administrator decided, without the cluster's keys: see [`Self::policy`].
    pub policy: Policy,
    /// The cluster's issuer of tokens, as last read.
    pub issuer: Known,
    /// Counters.
    pub metrics: Metrics,
    /// Failures in a row.
    pub backoff: Backoff,
    /// Writer of events.
    pub events: Events,
    /// Epoch of this leader: the registry refuses writes of an older one.
    pub epoch: i64,
    /// Deadline of one reconcile.
    pub timeout: Duration,
    /// Cancelled when this process must no longer write.
    pub deposed: CancellationToken,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Context {
    /// The time, in whole seconds: the API stores no more, and what is written must equal what is
    /// read back.
    pub fn now() -> Time {
        whole_seconds(&Time(Timestamp::now()))
    }

    /// Everything that the plan needs to know beside the facts.
    pub fn policy(&self) -> Policy {
        Policy { issuer: self.issuer.get(), ..self.policy.clone() }
    }

    /// Objects of a kind in a namespace.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The object of that name, read from the server and not from a cache.
    pub async fn get_live<K>(
        &self,
        kind: &'static str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<K>, CallError>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        self.api::<K>(namespace)
            .get_opt(name)
            .await
            .map_err(|source| call_error("get", kind, namespace, name, source))
    }
}

/// Says what was being done to which object.
pub fn call_error(
    verb: &'static str,
    kind: &'static str,
    namespace: &str,
    name: &str,
    source: kube::Error,
) -> CallError {
    CallError { verb, kind, namespace: namespace.to_owned(), name: name.to_owned(), source: Box::new(source) }
}
