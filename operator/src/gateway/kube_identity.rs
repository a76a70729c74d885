//! Identity from the cluster: token -> pod -> Job or Deployment -> our resource.
//!
//! Reads only. Every link is checked by UID, so that a name that was given again leads nowhere.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use vitrine_contract::gateway::AUDIENCE;
use vitrine_contract::is_digest;
use vitrine_crds::names::{ANNOTATION_READS, LABEL_MANAGED_BY, MANAGED_BY};
use vitrine_plan::meta;

use super::cache::Cache;
use super::identity::{Identify, IdentifyError, Identity, Owner, Workload};

/// How long an identity is believed without asking again.
const AGE: Duration = Duration::from_mins(1);
/// Identities kept.
const MOST: usize = 4096;
/// Identities found out at once: a storm of pods must not become a storm on the apiserver.
const AT_ONCE: usize = 8;
/// Time for finding out one.
const DEADLINE: Duration = Duration::from_secs(15);
/// Claims of a projected token that name its pod.
const CLAIM_POD: &str = "authentication.kubernetes.io/pod-name";
const CLAIM_POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Finds out identities from the cluster.
pub struct KubeIdentify {
    client: Client,
    cache: Cache,
    turns: Semaphore,
}

impl KubeIdentify {
    /// With this client, which needs: create TokenReviews; get pods, Jobs, ReplicaSets, Deployments
    /// and namespaces.
    pub fn new(client: Client) -> Self {
        Self { client, cache: Cache::new(AGE, MOST), turns: Semaphore::new(AT_ONCE) }
    }

    async fn find_out(&self, token: &str) -> Result<Identity, IdentifyError> {
        let _turn = self.turns.acquire().await.map_err(|e| IdentifyError::Unavailable(e.to_string()))?;
        let claims = self.review(token).await?;
        let pod: Pod = self.get_same(&claims.namespace, &claims.pod, &claims.pod_uid).await?;
        let (workload, owner, reads) = self.workload(&claims.namespace, &pod).await?;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let namespace = namespaces.get(&claims.namespace).await;
        let namespace = namespace.map_err(|e| failed("namespace", &claims.namespace, &e))?;
        let namespace_uid =
            namespace.uid().ok_or_else(|| IdentifyError::Unavailable("the namespace has no UID".into()))?;
        Ok(Identity {
            namespace: claims.namespace,
            namespace_uid,
            pod: claims.pod,
            pod_uid: claims.pod_uid,
            owner,
            workload,
            reads,
        })
    }

    async fn review(&self, token: &str) -> Result<Claims, IdentifyError> {
        let spec =
            TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![AUDIENCE.to_owned()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await;
        let answer = answer
            .map_err(|e| IdentifyError::Unavailable(format!("the apiserver does not review tokens: {e}")))?;
        claims(answer.status.unwrap_or_default())
    }

    /// What runs the pod, whose it is, and what that lets it read.
    async fn workload(
        &self,
        namespace: &str,
        pod: &Pod,
    ) -> Result<(Workload, Owner, BTreeSet<String>), IdentifyError> {
        let above = controller(pod)?;
        match (above.api_version.as_str(), above.kind.as_str()) {
            ("batch/v1", "Job") => {
                let job: Job = self.get_same(namespace, &above.name, &above.uid).await?;
                let owner = our_owner(&job, &["Dataset", "TrainingRun"])?;
                let reads = reads(&job);
                Ok((Workload::Job { name: above.name, uid: above.uid }, owner, reads))
            }
            ("apps/v1", "ReplicaSet") => {
                let set: ReplicaSet = self.get_same(namespace, &above.name, &above.uid).await?;
                let above = controller(&set)?;
                let deployment: Deployment = self.get_same(namespace, &above.name, &above.uid).await?;
                let owner = our_owner(&deployment, &["ModelDeployment"])?;
                let reads = reads(&deployment);
                Ok((Workload::Serving { name: above.name, uid: above.uid }, owner, reads))
            }
            (version, kind) => {
                Err(IdentifyError::NotOurs(format!("pod {} belongs to {version} {kind}", pod.name_any())))
            }
        }
    }

    /// The object of that name, if it still is the one with that UID.
    async fn get_same<K>(&self, namespace: &str, name: &str, uid: &str) -> Result<K, IdentifyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let object = api.get(name).await.map_err(|e| failed(&K::kind(&()), name, &e))?;
        if object.uid().as_deref() == Some(uid) {
            return Ok(object);
        }
        Err(IdentifyError::NotOurs(format!("{} {name} is not the one with UID {uid}", K::kind(&()))))
    }
}

impl Identify for KubeIdentify {
    fn identify<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Identity, IdentifyError>> {
        async move {
            let hash = Cache::hash(token);
            if let Some(known) = self.cache.get(&hash, Instant::now()) {
                return Ok(known);
            }
            let found = timeout(DEADLINE, self.find_out(token)).await;
            let found = found.map_err(|_| {
                let seconds = DEADLINE.as_secs();
                IdentifyError::Unavailable(format!(
                    "the apiserver did not say in {seconds} s who sent the request"
                ))
            })??;
            self.cache.put(hash, found.clone(), Instant::now());
            Ok(found)
        }
        .boxed()
    }
}

/// What a good token says.
#[derive(Debug, PartialEq, Eq)]
struct Claims {
    namespace: String,
    pod: String,
    pod_uid: String,
}

fn claims(status: TokenReviewStatus) -> Result<Claims, IdentifyError> {
    let unauthenticated = |why: String| Err(IdentifyError::Unauthenticated(why));
    if status.authenticated != Some(true) {
        let why = status.error.unwrap_or_else(|| "it is not valid".to_owned());
        return unauthenticated(format!("the token was refused: {why}"));
    }
    // An apiserver that does not know audiences accepts any token: the answer must name ours.
    if !status.audiences.unwrap_or_default().iter().any(|a| a == AUDIENCE) {
        return unauthenticated(format!("the token is not for the audience {AUDIENCE}"));
    }
    let user = status.user.unwrap_or_default();
    let namespace = user.username.as_deref().and_then(|name| {
        let (namespace, account) = name.strip_prefix("system:serviceaccount:")?.split_once(':')?;
        (!namespace.is_empty() && !account.is_empty()).then(|| namespace.to_owned())
    });
    let extra = user.extra.unwrap_or_default();
    let claim = |key: &str| match extra.get(key).map(Vec::as_slice) {
        Some([value]) if !value.is_empty() => Some(value.clone()),
        _ => None,
    };
    match (namespace, claim(CLAIM_POD), claim(CLAIM_POD_UID)) {
        (Some(namespace), Some(pod), Some(pod_uid)) => Ok(Claims { namespace, pod, pod_uid }),
        _ => unauthenticated("the token does not belong to a pod".to_owned()),
    }
}

fn controller<K: Resource<DynamicType = ()>>(object: &K) -> Result<OwnerReference, IdentifyError> {
    meta::controller(object.meta()).cloned().ok_or_else(|| {
        let kind = K::kind(&());
        IdentifyError::NotOurs(format!("{kind} {} has no controller", object.name_any()))
    })
}

/// The resource of ours that controls a Job or Deployment.
fn our_owner<K: Resource<DynamicType = ()>>(object: &K, kinds: &[&str]) -> Result<Owner, IdentifyError> {
    let above = controller(object)?;
    let managed = object.labels().get(LABEL_MANAGED_BY).is_some_and(|v| v == MANAGED_BY);
    if managed && meta::is_ours(&above) && kinds.contains(&above.kind.as_str()) {
        return Ok(Owner { kind: above.kind, name: above.name, uid: above.uid });
    }
    let kind = K::kind(&());
    Err(IdentifyError::NotOurs(format!("{kind} {} is not one of the operator's", object.name_any())))
}

/// Digests in the annotation; anything else in it counts for nothing.
fn reads<K: Resource>(object: &K) -> BTreeSet<String> {
    let text = object.annotations().get(ANNOTATION_READS).map_or("", String::as_str);
    text.split(',').map(str::trim).filter(|d| is_digest(d)).map(str::to_owned).collect()
}

fn failed(kind: &str, name: &str, error: &kube::Error) -> IdentifyError {
    match error {
        kube::Error::Api(status) if status.code == 404 => {
            IdentifyError::NotOurs(format!("{kind} {name} does not exist"))
        }
        other => IdentifyError::Unavailable(format!("cannot read {kind} {name}: {other}")),
    }
}

#[cfg(test)]
mod tests;
