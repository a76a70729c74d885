//! Observe: reads caches, the cluster and the registry into facts. Writes nothing, decides nothing.

pub mod dataset;
pub mod events;
pub mod jobs;
pub mod model_deployment;
pub mod pods;
pub mod training_run;

use kube::{Resource, ResourceExt as _};

use crate::context::{Context, call_error};
use crate::error::ObserveError;

/// Which object is observed.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// UID of the namespace.
    pub namespace_uid: String,
}

impl Subject {
    /// Who the object is; reads the namespace where the cache does not know it.
    pub async fn of<K: Resource<DynamicType = ()>>(ctx: &Context, object: &K) -> Result<Self, ObserveError> {
        let namespace = object.namespace().unwrap_or_default();
        Ok(Self {
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            namespace_uid: namespace_uid(ctx, &namespace).await?,
            namespace,
        })
    }
}

async fn namespace_uid(ctx: &Context, name: &str) -> Result<String, ObserveError> {
    if let Some(uid) = ctx.caches.namespace_uid(name) {
        return Ok(uid);
    }
    let api = kube::Api::<k8s_openapi::api::core::v1::Namespace>::all(ctx.client.clone());
    let found = api.get_metadata(name).await;
    let namespace = found.map_err(|source| call_error("get", "Namespace", "", name, source))?;
    Ok(namespace.metadata.uid.unwrap_or_default())
}
