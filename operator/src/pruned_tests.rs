//! Nothing that is read is dropped, and nothing that is dropped wakes anybody.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use vitrine_plan::{JobEnd, JobFacts, PodFacts, Terminated};

use super::*;
use crate::observe::{jobs, model_deployment, pods};
use crate::relations;
use crate::testing::{child_meta, object};

fn pruned<K: Incoming<Object = K>>(raw: &K) -> K {
    raw.clone().object().unwrap()
}

fn with(mut value: Value, pointer: &str, change: Value) -> Value {
    *value.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = change;
    value
}

/// Whether the change of one field wakes.
fn wakes<K: Incoming<Object = K> + DeserializeOwned>(raw: &Value, pointer: &str, change: Value) -> bool {
    let old: K = object(raw.clone());
    K::wakes(&pruned(&old), &pruned(&object(with(raw.clone(), pointer, change))))
}

fn a_pod() -> Value {
    let mut meta = child_meta("p", "mine");
    meta["resourceVersion"] = json!("7");
    meta["annotations"] = json!({"a": "b"});
    meta["generateName"] = json!("p-");
    meta["labels"]["pod-template-hash"] = json!("h");
    meta["deletionTimestamp"] = json!("2026-01-03T00:00:00Z");
    meta["labels"][names::LABEL_MODEL_DIGEST] = json!("01");
    meta["labels"][names::LABEL_COMPONENT] = json!(names::ROLE_SERVE);
    meta["labels"][names::LABEL_INSTANCE] = json!("d");
    let time = TIME;
    json!({
        "metadata": meta,
        "spec": {"containers": [], "nodeName": "n"},
        "status": {
            "phase": "Failed", "reason": "Evicted", "message": "low on memory", "hostIP": "10.0.0.1", "podIP": "10.0.0.2",
            "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": time, "lastProbeTime": time},
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": time},
                {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": "m"},
                {"type": "ContainersReady", "status": "True"},
            ],
            "containerStatuses": [
                {"name": "proxy", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}},
                {"name": names::CONTAINER, "image": "i", "imageID": "", "ready": true, "restartCount": 3,
                    "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}},
                    "lastState": {"terminated": {"exitCode": 3, "reason": "Error", "message": "{}", "finishedAt": time}}},
            ],
        },
    })
}

const TIME: &str = "2026-01-01T00:00:00Z";

fn time() -> Time {
    serde_json::from_value(json!(TIME)).unwrap()
}

#[test]
fn facts_of_a_pod_are_what_the_api_says() {
    let pod: Pod = pruned(&object(a_pod()));
    let facts = PodFacts {
        name: "p".into(),
        uid: "p-uid".into(),
        phase: "Failed".into(),
        ready: true,
        terminating: true,
        model_digest: Some("01".into()),
        scheduled: Some(time()),
        waiting: Some(("ImagePullBackOff".into(), "no such image".into())),
        disrupted: Some(("TerminationByKubelet".into(), "m".into())),
        terminated: Some(Terminated {
            exit_code: 3,
            reason: "Error".into(),
            message: "{}".into(),
            at: Some(time()),
        }),
        ..PodFacts::default()
    };
    assert_eq!(pods::facts(&pod), facts);
    let mut evicted = a_pod();
    evicted["status"]["conditions"] = json!(null);
    evicted["status"]["containerStatuses"] = json!(null);
    let facts = pods::facts(&pruned(&object(evicted)));
    assert_eq!(facts.disrupted, Some(("Evicted".into(), "low on memory".into())));
    for nothing in [
        json!({"metadata": {}}),
        json!({"metadata": {}, "status": null}),
        json!({"metadata": {}, "status": {}}),
    ] {
        assert_eq!(pods::facts(&pruned(&object::<Pod>(nothing))), PodFacts::default());
    }
}

#[test]
fn facts_of_a_job_are_what_the_api_says() {
    let facts = JobFacts {
        name: "j".into(),
        uid: "j-uid".into(),
        owned: true,
        suspended: true,
        suspended_by_us: true,
        ttl_seconds: Some(5),
        start_time: Some(time()),
        active: 1,
        end: Some(JobEnd::Failed {
            reason: "DeadlineExceeded".into(),
            message: "m".into(),
            at: Some(time()),
        }),
        ..JobFacts::default()
    };
    assert_eq!(jobs::facts(&pruned(&object(a_job())), "mine"), facts);
    for status in [json!(null), json!({}), json!({"conditions": null, "startTime": null, "active": null})] {
        let mut begun = a_job();
        begun["status"] = status;
        let begun = jobs::facts(&pruned(&object(begun)), "mine");
        assert_eq!(begun, JobFacts { start_time: None, active: 0, end: None, ..facts.clone() });
    }
}

#[test]
fn facts_of_pods_are_kept_and_the_rest_wakes_nobody() {
    let raw = a_pod();
    let unscheduled = with(
        raw.clone(),
        "/status/conditions/1",
        json!({"type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": "no node"}),
    );
    for pod in [&raw, &unscheduled, &json!({"metadata": child_meta("p", "mine")})] {
        let pod: Pod = object(pod.clone());
        assert_eq!(pods::facts(&pruned(&pod)), pods::facts(&pod));
        assert_eq!(relations::of_pod(&pruned(&pod)), relations::of_pod(&pod));
    }
    for (pointer, change) in [
        ("/metadata/resourceVersion", json!("8")),
        ("/metadata/annotations/a", json!("c")),
        ("/metadata/generateName", json!("q-")),
        ("/metadata/labels/pod-template-hash", json!("i")),
        ("/status/conditions/0/lastProbeTime", json!("2026-01-02T00:00:00Z")),
        ("/status/conditions/3/status", json!("False")),
        // another container's
        ("/status/containerStatuses/0/state", json!({"waiting": {"reason": "CrashLoopBackOff"}})),
    ] {
        assert!(!wakes::<Pod>(&raw, pointer, change), "{pointer}");
    }
    for (pointer, change) in [
        ("/metadata/uid", json!("other")),
        ("/metadata/ownerReferences", json!([])),
        ("/metadata/deletionTimestamp", json!(null)),
        ("/metadata/labels", json!({})),
        ("/status/phase", json!("Running")),
        ("/status/conditions/0/status", json!("False")),
        ("/status/containerStatuses/1/state", json!({"running": {}})),
        ("/status/containerStatuses/1/lastState/terminated/message", json!("{\"a\":1}")),
    ] {
        assert!(wakes::<Pod>(&raw, pointer, change), "{pointer}");
    }
}

#[test]
fn since_when_a_container_runs_wakes_nobody() {
    let mut raw = a_pod();
    raw["status"]["containerStatuses"][1]["state"] = json!({"running": {"startedAt": TIME}});
    let pointer = "/status/containerStatuses/1/state/running/startedAt";
    assert!(!wakes::<Pod>(&raw, pointer, json!("2026-01-02T00:00:00Z")));
}

#[test]
fn what_is_compared_with_what_should_be_is_kept_whole() {
    let config: ConfigMap =
        object(json!({"metadata": child_meta("c", "mine"), "data": {"a": "b"}, "immutable": true}));
    let (kept, labels) = (pruned(&config), config.metadata.labels.clone());
    assert_eq!((kept.data, kept.immutable, kept.metadata.labels), (config.data, Some(true), labels));
    let raw = json!({
        "metadata": child_meta("s", "mine"),
        "spec": {"clusterIP": "None", "ports": [{"port": 80}], "selector": {"a": "b"}},
        "status": {"loadBalancer": {}},
    });
    let service: Service = object(raw.clone());
    let kept = pruned(&service);
    assert_eq!((kept.spec, kept.metadata.labels), (service.spec, service.metadata.labels));
    assert!(!wakes::<Service>(&raw, "/status/loadBalancer", json!({"ingress": [{"ip": "10.0.0.1"}]})));
}

#[test]
fn a_pod_and_a_namespace_that_go_are_known_to_go() {
    assert!(pods::facts(&pruned(&object(a_pod()))).terminating);
    let gone = json!({"metadata": {"name": "a", "uid": "u", "deletionTimestamp": "2026-01-03T00:00:00Z"}});
    let namespace: PartialObjectMeta<Namespace> = pruned(&object(gone));
    assert!(namespace.metadata.deletion_timestamp.is_some());
    assert_eq!(namespace.metadata.uid.as_deref(), Some("u"));
}

#[test]
fn what_an_autoscaler_says_is_kept() {
    let condition =
        |type_: &str, status: &str| json!({"type": type_, "status": status, "reason": "R", "message": "m"});
    for (status, reason) in [("True", "R"), ("False", "FailedGetResourceMetric")] {
        let mut says = condition("ScalingActive", status);
        says["reason"] = json!(reason);
        let autoscaler: HorizontalPodAutoscaler = object(json!({
            "metadata": child_meta("h", "mine"),
            "spec": {"maxReplicas": 3, "minReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": "d"}},
            "status": {"desiredReplicas": 2, "currentReplicas": 1, "conditions": [condition("AbleToScale", "True"), says]},
        }));
        let kept = pruned(&autoscaler);
        let conditions = kept.status.as_ref().unwrap().conditions.as_ref().unwrap();
        let active = conditions.iter().find(|c| c.type_ == "ScalingActive").unwrap();
        let words = (status == "False").then_some("m");
        assert_eq!((active.status.as_str(), active.reason.as_deref()), (status, Some(reason)));
        assert_eq!(active.message.as_deref(), words, "only the words of a failure are read");
        assert_eq!(kept.spec, autoscaler.spec);
    }
}

fn job_condition(type_: &str) -> Value {
    json!({"type": type_, "status": "True", "reason": "DeadlineExceeded", "message": "m",
        "lastTransitionTime": TIME, "lastProbeTime": TIME})
}

fn a_job() -> Value {
    let mut meta = child_meta("j", "mine");
    meta["annotations"] = json!({names::ANNOTATION_SUSPENDED: "true", "other": "o"});
    json!({
        "metadata": meta,
        "spec": {"suspend": true, "ttlSecondsAfterFinished": 5, "template": {"spec": {"containers": []}}},
        "status": {
            "active": 1, "ready": 0, "startTime": TIME,
            "conditions": [job_condition("FailureTarget"), job_condition("Failed")],
        },
    })
}

#[test]
fn facts_of_jobs_are_kept_and_the_rest_wakes_nobody() {
    let raw = a_job();
    let complete = with(raw.clone(), "/status/conditions/1", job_condition("Complete"));
    for job in [&raw, &complete, &json!({"metadata": child_meta("j", "mine")})] {
        let job: Job = object(job.clone());
        assert_eq!(jobs::facts(&pruned(&job), "mine"), jobs::facts(&job, "mine"));
    }
    for (pointer, change) in [
        ("/metadata/labels", json!({})),
        ("/metadata/annotations/other", json!("p")),
        ("/status/conditions/0/status", json!("False")),
        ("/status/conditions/1/lastProbeTime", json!("2026-01-02T00:00:00Z")),
    ] {
        assert!(!wakes::<Job>(&raw, pointer, change), "{pointer}");
    }
    for (pointer, change) in [
        ("/metadata/annotations", json!({})),
        ("/spec/suspend", json!(false)),
        ("/spec/ttlSecondsAfterFinished", json!(6)),
        ("/status/active", json!(0)),
        ("/status/startTime", json!(null)),
        ("/status/conditions/1/message", json!("other")),
    ] {
        assert!(wakes::<Job>(&raw, pointer, change), "{pointer}");
    }
}

#[test]
fn facts_of_deployments_are_kept_and_the_rest_wakes_nobody() {
    let mut meta = child_meta("d", "mine");
    meta["generation"] = json!(2);
    meta["annotations"] =
        json!({names::ANNOTATION_MODEL_DIGEST: "sha256:01", names::ANNOTATION_MODEL_VERSION: "3"});
    let condition = |type_: &str, status: &str, reason: &str| {
        json!({"type": type_, "status": status, "reason": reason, "message": "m",
            "lastUpdateTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    let raw = json!({
        "metadata": meta,
        "spec": {"replicas": 2, "selector": {}, "template": {"spec": {"containers": [{"name": names::CONTAINER, "image": "i"}]}}},
        "status": {
            "observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 1,
            "conditions": [
                condition("Progressing", "False", "ProgressDeadlineExceeded"),
                condition("ReplicaFailure", "True", "FailedCreate"),
                condition("Available", "True", "MinimumReplicasAvailable"),
            ],
        },
    });
    let whole: Deployment = object(raw.clone());
    let facts = |deployment: &Deployment| {
        let facts = model_deployment::facts(deployment, "mine");
        let live = Deployment { status: None, ..facts.live.clone() };
        (facts.ready, facts.updated_ready, facts.observed, facts.deadline_exceeded, facts.refused, live.spec)
    };
    assert_eq!(facts(&pruned(&whole)), facts(&whole));
    assert_eq!(facts(&whole).4.as_deref(), Some("m"));
    for (pointer, change) in [
        ("/status/availableReplicas", json!(2)),
        ("/status/conditions/0/lastUpdateTime", json!("2026-01-02T00:00:00Z")),
        ("/status/conditions/0/message", json!("1 of 2 updated")),
        ("/status/conditions/2/status", json!("False")),
    ] {
        assert!(!wakes::<Deployment>(&raw, pointer, change), "{pointer}");
    }
    for (pointer, change) in [
        ("/metadata/generation", json!(3)),
        ("/metadata/annotations", json!({})),
        ("/spec/replicas", json!(3)),
        ("/spec/template/spec/containers/0/image", json!("other")),
        ("/status/readyReplicas", json!(1)),
        ("/status/conditions/0/status", json!("True")),
        ("/status/conditions/1/message", json!("other")),
    ] {
        assert!(wakes::<Deployment>(&raw, pointer, change), "{pointer}");
    }
}
