use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use k8s_openapi::api::authentication::v1::UserInfo;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

/// A status of a good token of pod `p` in namespace `ns`.
fn good() -> TokenReviewStatus {
    let extra = BTreeMap::from([
        (CLAIM_POD.to_owned(), vec!["p".to_owned()]),
        (CLAIM_POD_UID.to_owned(), vec!["p-uid".to_owned()]),
    ]);
    TokenReviewStatus {
        authenticated: Some(true),
        audiences: Some(vec![AUDIENCE.to_owned()]),
        user: Some(UserInfo {
            username: Some("system:serviceaccount:ns:default".to_owned()),
            extra: Some(extra),
            ..UserInfo::default()
        }),
        error: None,
    }
}

type Spoil = fn(&mut TokenReviewStatus);

#[test]
fn only_a_pod_s_token_for_our_audience_counts() {
    let expected = Claims { namespace: "ns".into(), pod: "p".into(), pod_uid: "p-uid".into() };
    assert_eq!(claims(good()), Ok(expected));
    let bad: [(&str, Spoil); 9] = [
        ("not authenticated", |s| s.authenticated = Some(false)),
        ("silent about it", |s| s.authenticated = None),
        ("other audience", |s| s.audiences = Some(vec!["https://kubernetes.default.svc".into()])),
        ("no audience", |s| s.audiences = None),
        ("a person", |s| s.user.as_mut().unwrap().username = Some("ns:default".into())),
        ("a node", |s| s.user.as_mut().unwrap().username = Some("system:node:p".into())),
        ("no namespace", |s| s.user.as_mut().unwrap().username = Some("system:serviceaccount::x".into())),
        ("no pod", |s| drop(s.user.as_mut().unwrap().extra.as_mut().unwrap().remove(CLAIM_POD))),
        ("no pod UID", |s| drop(s.user.as_mut().unwrap().extra.as_mut().unwrap().remove(CLAIM_POD_UID))),
    ];
    for (what, spoil) in bad {
        let mut status = good();
        spoil(&mut status);
        assert!(matches!(claims(status), Err(IdentifyError::Unauthenticated(_))), "{what}");
    }
}

/// Answers of a cluster with one training pod and one serving pod, by path.
struct Cluster(BTreeMap<String, Value>);

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn object(name: &str, uid: &str, owner: Option<(&str, &str, &str, &str)>) -> Value {
    let owners: Vec<Value> = owner
        .map(|(version, kind, name, uid)| {
            json!({"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": true})
        })
        .into_iter()
        .collect();
    json!({"metadata": {"name": name, "uid": uid, "ownerReferences": owners,
        "labels": {LABEL_MANAGED_BY: MANAGED_BY},
        "annotations": {ANNOTATION_READS: format!("{DIGEST}, sha256:nonsense,../x")}}})
}

impl Cluster {
    fn new() -> Self {
        let ns = "/api/v1/namespaces/ns";
        let apps = "/apis/apps/v1/namespaces/ns";
        let run = ("vitrine.dev/v1alpha1", "TrainingRun", "demo", "run-uid");
        let mdep = ("vitrine.dev/v1alpha1", "ModelDeployment", "live", "mdep-uid");
        let objects = [
            (ns.to_owned(), object("ns", "ns-uid", None)),
            (format!("{ns}/pods/p"), object("p", "p-uid", Some(("batch/v1", "Job", "j", "j-uid")))),
            ("/apis/batch/v1/namespaces/ns/jobs/j".to_owned(), object("j", "j-uid", Some(run))),
            (format!("{ns}/pods/s"), object("s", "s-uid", Some(("apps/v1", "ReplicaSet", "rs", "rs-uid")))),
            (
                format!("{apps}/replicasets/rs"),
                object("rs", "rs-uid", Some(("apps/v1", "Deployment", "d", "d-uid"))),
            ),
            (format!("{apps}/deployments/d"), object("d", "d-uid", Some(mdep))),
        ];
        Self(objects.into())
    }

    /// Changes one field of one object: `path` as of [`Value::pointer_mut`].
    fn with(mut self, object: &str, path: &str, value: &Value) -> Self {
        let object = self.0.iter_mut().find(|(p, _)| p.ends_with(object)).unwrap().1;
        *object.pointer_mut(path).unwrap() = value.clone();
        self
    }

    fn without(mut self, object: &str) -> Self {
        let count = self.0.len();
        self.0.retain(|path, _| !path.ends_with(object));
        assert_eq!(self.0.len(), count - 1);
        self
    }

    /// A client of this cluster, and how many requests it answered. The token is the pod's name.
    fn client(self) -> (Client, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let objects = Arc::new(self.0);
        let service = tower::service_fn(move |request: Request<Body>| {
            counted.fetch_add(1, Ordering::Relaxed);
            let objects = Arc::clone(&objects);
            async move {
                let path = request.uri().path().to_owned();
                let answer = if path.ends_with("/tokenreviews") {
                    let body = request.into_body().collect_bytes().await.unwrap();
                    let mut review: TokenReview = serde_json::from_slice(&body).unwrap();
                    assert_eq!(review.spec.audiences.as_deref(), Some(&[AUDIENCE.to_owned()][..]));
                    let pod = review.spec.token.clone().unwrap();
                    let mut status = good();
                    let extra = status.user.as_mut().unwrap().extra.as_mut().unwrap();
                    extra.insert(CLAIM_POD.into(), vec![pod.clone()]);
                    extra.insert(CLAIM_POD_UID.into(), vec![format!("{pod}-uid")]);
                    review.status = Some(status);
                    serde_json::to_value(review).unwrap()
                } else if let Some(object) = objects.get(&path) {
                    object.clone()
                } else {
                    let status = json!({"kind": "Status", "code": 404, "reason": "NotFound"});
                    let body = Body::from(status.to_string().into_bytes());
                    return Ok::<_, Infallible>(Response::builder().status(404).body(body).unwrap());
                };
                Ok(Response::new(Body::from(answer.to_string().into_bytes())))
            }
        });
        (Client::new(service, "default"), count)
    }

    async fn identify(self, token: &str) -> Result<Identity, IdentifyError> {
        KubeIdentify::new(self.client().0).identify(token).await
    }
}

#[tokio::test]
async fn a_training_pod_is_traced_to_its_run() {
    let found = Cluster::new().identify("p").await.unwrap();
    assert_eq!(
        found,
        Identity {
            namespace: "ns".into(),
            namespace_uid: "ns-uid".into(),
            pod: "p".into(),
            pod_uid: "p-uid".into(),
            owner: Owner { kind: "TrainingRun".into(), name: "demo".into(), uid: "run-uid".into() },
            workload: Workload::Job { name: "j".into(), uid: "j-uid".into() },
            reads: [DIGEST.to_owned()].into(),
        }
    );
}

#[tokio::test]
async fn a_serving_pod_is_traced_over_its_replica_set() {
    let found = Cluster::new().identify("s").await.unwrap();
    assert_eq!(found.workload, Workload::Serving { name: "d".into(), uid: "d-uid".into() });
    assert_eq!((found.owner.kind.as_str(), found.owner.uid.as_str()), ("ModelDeployment", "mdep-uid"));
    assert_eq!(found.reads, [DIGEST.to_owned()].into());
}

#[tokio::test]
async fn a_broken_link_leads_nowhere() {
    let owner = |field: &str| format!("/metadata/ownerReferences/0/{field}");
    let label = format!("/metadata/labels/{}", LABEL_MANAGED_BY.replace('/', "~1"));
    let other = json!("other");
    let cases = [
        ("pod of that name made again", Cluster::new().with("pods/p", "/metadata/uid", &other)),
        ("pod gone", Cluster::new().without("pods/p")),
        ("pod of nobody", Cluster::new().with("pods/p", "/metadata/ownerReferences", &json!([]))),
        ("owner that does not control", Cluster::new().with("pods/p", &owner("controller"), &json!(false))),
        ("pod of something else", Cluster::new().with("pods/p", &owner("kind"), &json!("StatefulSet"))),
        ("Job made again", Cluster::new().with("jobs/j", "/metadata/uid", &other)),
        ("Job of somebody else", Cluster::new().with("jobs/j", &owner("apiVersion"), &json!("batch/v1"))),
        ("group that only begins like ours", {
            Cluster::new().with("jobs/j", &owner("apiVersion"), &json!("vitrine.dev.evil/v1"))
        }),
        (
            "Job of a ModelDeployment",
            Cluster::new().with("jobs/j", &owner("kind"), &json!("ModelDeployment")),
        ),
        ("unmanaged Job", Cluster::new().with("jobs/j", &label, &other)),
        ("namespace gone", Cluster::new().without("namespaces/ns")),
    ];
    for (what, cluster) in cases {
        let found = cluster.identify("p").await;
        assert!(matches!(found, Err(IdentifyError::NotOurs(_))), "{what}: {found:?}");
    }
    for gone in ["replicasets/rs", "deployments/d"] {
        let found = Cluster::new().without(gone).identify("s").await;
        assert!(matches!(found, Err(IdentifyError::NotOurs(_))), "{gone}: {found:?}");
    }
}

#[tokio::test]
async fn an_identity_is_asked_for_once_a_minute_and_a_refusal_every_time() {
    let (client, count) = Cluster::new().client();
    let identify = KubeIdentify::new(client);
    for _ in 0..5 {
        identify.identify("p").await.unwrap();
    }
    assert_eq!(count.load(Ordering::Relaxed), 4);
    for _ in 0..2 {
        identify.identify("stranger").await.unwrap_err();
    }
    assert_eq!(count.load(Ordering::Relaxed), 4 + 2 * 2);
}
