//! Whatever is refused is explained in the resource itself, with the fix, and goes on by itself once
//! the cause is gone.
//!
//! Not here, because nothing that a user can write leads there: a violation of Pod Security (our pods
//! pass *restricted*, which every story enforces; a policy that refuses pods takes the same way) and a
//! missing Secret (no field names one). `operator/plan/tests/sentences/` has their sentences.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use vitrine_e2e::kubectl::{condition, get, kubectl, list, number, stderr, text, try_kubectl};
use vitrine_e2e::manifests::{Run, dataset, deployment};
use vitrine_e2e::operator;
use vitrine_e2e::story::{Story, data_folder};
use vitrine_e2e::wait::{seconds, until};

use crate::{jobs_of, served};

/// Waits until `lastFailure` has that reason and its message those words.
/// Not the first message of that reason has to say them: a kubelet, for one, also reports why it
/// could not yet look at a volume at all.
fn last_failure(story: &Story, object: &str, reason: &str, words: &[&str], limit: u64) {
    until(&format!("{object} to say {reason} with {words:?}"), seconds(limit), || {
        let value = story.get(&[object]);
        let found = text(&value, "/status/lastFailure/reason");
        let message = text(&value, "/status/lastFailure/message");
        let told = found == reason && words.iter().all(|word| message.contains(word));
        if told { Ok(()) } else { Err(format!("{found:?}: {message}")) }
    });
}

fn says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "{word:?} is missing in {message:?}");
    }
}

/// A folder beside the test catalogue, empty.
fn folder(name: &str) -> PathBuf {
    let folder = data_folder().with_file_name(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A claim of that name on a folder of this machine; `type_` is checked when a pod mounts it.
fn claim(story: &Story, name: &str, folder: &Path, type_: &str) {
    let (ns, folder) = (&story.ns, folder.display());
    try_kubectl(&["delete", "pv", &format!("{ns}-{name}"), "--ignore-not-found", "--timeout=60s"], None);
    story.apply(&format!(
        r"
apiVersion: v1
kind: PersistentVolume
metadata: {{name: {ns}-{name}}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteMany]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: ''
  claimRef: {{namespace: {ns}, name: {name}}}
  hostPath: {{path: {folder}, type: '{type_}'}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}, namespace: {ns}}}
spec:
  accessModes: [ReadWriteMany]
  storageClassName: ''
  volumeName: {ns}-{name}
  resources: {{requests: {{storage: 1Gi}}}}
"
    ));
}

fn remove_claim(story: &Story, name: &str) {
    kubectl(&["delete", "pv", &format!("{}-{name}", story.ns), "--wait=false"]);
}

fn patch(story: &Story, object: &str, patch: &str) {
    kubectl(&["-n", &story.ns, "patch", object, "--type=merge", "-p", patch]);
}

fn train_pods(story: &Story) -> Vec<Value> {
    story.list(&["pods", "-l", "app.kubernetes.io/component=train"])
}

/// A quota on the number of pods that the apiserver already enforces.
fn quota(story: &Story, pods: usize) {
    let yaml = format!(
        "apiVersion: v1\nkind: ResourceQuota\nmetadata: {{name: few}}\nspec: {{hard: {{pods: '{pods}'}}}}\n"
    );
    story.apply(&yaml);
    until("the quota to be in force", seconds(60), || {
        let hard = text(&story.get(&["resourcequota/few"]), "/status/hard/pods");
        if hard == pods.to_string() { Ok(()) } else { Err(format!("{hard:?}")) }
    });
}

#[test]
fn a_training_pod_over_its_memory_limit_is_told_with_the_fix() {
    let story = Story::begin("oom");
    story.apply(&dataset("products"));
    // all word triples of the catalogue do not fit 24 MiB
    let run = Run::default().yaml();
    let run = run.replace("{maxFeatures: 20000}", "{ngramRange: [1, 3], maxFeatures: 5000000}");
    let run = run.replace("memory: 64Mi", "memory: 16Mi").replace("memory: 1Gi", "memory: 24Mi");
    story.apply(&run.replace("  seed:", "  backoffLimit: 0\n  seed:"));
    let run = story.wait_reason("trun/run", "Succeeded", "False", "OOMKilled", 240);
    let message = text(&run, "/status/lastFailure/message");
    says(&message, &["exceeded its memory limit of 24Mi", "raise spec.resources.limits.memory"]);
    assert_eq!(condition(&run, "Stalled").0, "True");
    story.end();
}

#[test]
fn a_wrong_image_is_told_and_a_corrected_one_is_served() {
    let story = Story::begin("image");
    story.apply(&dataset("products"));
    story.apply(&Run::default().yaml());
    story.wait_for("trun/run", "Succeeded", 240);
    story.apply(
        &deployment("serve", 1)
            .replace("  replicas:", "  server: {image: 'localhost/no-such-image:1'}\n  replicas:"),
    );
    last_failure(
        &story,
        "mdep/serve",
        "ImagePullBackOff",
        &["localhost/no-such-image:1", "spec.server.image"],
        120,
    );
    let serve = story.get(&["mdep/serve"]);
    assert_eq!(condition(&serve, "Ready").0, "False");
    says(&condition(&serve, "Ready").2, &["localhost/no-such-image:1"]);
    patch(&story, "mdep/serve", r#"{"spec":{"server":null}}"#);
    let serve = story.wait_for("mdep/serve", "Ready", 120);
    assert!(!text(&serve, "/status/effective/image").contains("no-such-image"), "{serve}");
    story.end();
}

#[test]
fn a_missing_claim_and_missing_label_names_are_named_and_may_appear_later() {
    let story = Story::begin("absent");
    story.apply(&dataset("products").replace("claimName: data", "claimName: later"));
    let data = story.wait_reason("mlds/products", "SourceReachable", "False", "SourceNotFound", 120);
    says(&condition(&data, "Ready").2, &["PersistentVolumeClaim later", "does not exist", "create it"]);
    assert_eq!(condition(&data, "Stalled").0, "False");
    claim(&story, "later", &data_folder(), "");
    story.wait_for("mlds/products", "Ready", 180);

    let named = dataset("named").replace(
        "label: prdtypecode}",
        "label: prdtypecode, labelNames: {configMapRef: {name: categories}}}",
    );
    story.apply(&named);
    let data = story.wait_reason("mlds/named", "Ready", "False", "LabelNamesNotFound", 60);
    says(&condition(&data, "Ready").2, &["ConfigMap categories", "does not exist"]);
    kubectl(&["-n", &story.ns, "create", "configmap", "categories", "--from-literal=2583=Pool"]);
    story.wait_for("mlds/named", "Ready", 120);
    remove_claim(&story, "later");
    story.end();
}

#[test]
fn a_volume_that_cannot_be_mounted_is_told_and_mounted_when_it_can() {
    let story = Story::begin("mount");
    let place = folder("e2e-mount");
    std::fs::remove_dir(&place).unwrap();
    claim(&story, "late", &place, "Directory");
    story.apply(&dataset("products").replace("claimName: data", "claimName: late"));
    last_failure(
        &story,
        "mlds/products",
        "MountFailed",
        &["hostPath type check failed", "and the pod starts"],
        120,
    );
    assert_eq!(condition(&story.get(&["mlds/products"]), "Stalled").0, "False");
    std::fs::create_dir(&place).unwrap();
    for file in ["X_train_update.csv", "Y_train_CVw08PX.csv"] {
        std::fs::copy(data_folder().join(file), place.join(file)).unwrap();
    }
    // the kubelet tries again after at most two minutes
    story.wait_for("mlds/products", "Ready", 240);
    remove_claim(&story, "late");
    std::fs::remove_dir_all(&place).unwrap();
    story.end();
}

#[test]
fn a_quota_is_told_and_pods_come_when_it_is_raised() {
    let story = Story::begin("quota");
    quota(&story, 0);
    story.apply(&dataset("products"));
    story.apply(&Run::default().yaml());
    let data = story.wait_reason("mlds/products", "Ready", "False", "QuotaExceeded", 60);
    says(
        &condition(&data, "Ready").2,
        &["exceeded quota: few", "limited: pods=0", "raise the ResourceQuota"],
    );
    assert_eq!(condition(&data, "Stalled").0, "False");
    until("a warning in the events", seconds(30), || {
        let events = story.list(&["events"]);
        let ours = |e: &&Value| {
            text(e, "/involvedObject/kind") == "Dataset" && text(e, "/reason") == "QuotaExceeded"
        };
        let types: Vec<_> = events.iter().filter(ours).map(|e| text(e, "/type")).collect();
        if types.iter().any(|type_| type_ == "Warning") { Ok(()) } else { Err(format!("{types:?}")) }
    });
    quota(&story, 20);
    story.wait_for("mlds/products", "Ready", 180);
    story.wait_for("trun/run", "Succeeded", 180);
    story.apply(&deployment("serve", 1));
    story.wait_for("mdep/serve", "Ready", 120);
    // finished pods do not count: one serving pod is all that there may be
    quota(&story, 1);
    kubectl(&["-n", &story.ns, "scale", "mdep/serve", "--replicas=2"]);
    last_failure(
        &story,
        "mdep/serve",
        "QuotaExceeded",
        &["exceeded quota: few", "raise the ResourceQuota"],
        60,
    );
    assert_eq!(condition(&story.get(&["mdep/serve"]), "Ready").0, "True", "one of two still answers");
    quota(&story, 20);
    until("both pods", seconds(180), || {
        let ready = number(&story.get(&["mdep/serve"]), "/status/readyReplicas");
        if ready == Some(2) { Ok(()) } else { Err(format!("{ready:?}")) }
    });
    story.end();
}

/// A policy that refuses all pods of a namespace.
fn no_pods(name: &str, ns: &str) -> String {
    format!(
        r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{name: {name}}}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules: [{{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}}]
  validations: [{{expression: "false", message: not today}}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{name: {name}}}
spec:
  policyName: {name}
  validationActions: [Deny]
  matchResources: {{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {ns}}}}}}}
"#
    )
}

#[test]
fn pods_that_the_cluster_refuses_are_told_and_come_when_it_does_no_more() {
    let story = Story::begin("refused");
    let policy = no_pods("e2e-refused", &story.ns);
    story.apply(&policy);
    let probe = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"probe"},"spec":{
        "securityContext":{"runAsNonRoot":true,"runAsUser":65532,"seccompProfile":{"type":"RuntimeDefault"}},
        "containers":[{"name":"c","image":"i","securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}}}]}}"#;
    until("the policy to be in force", seconds(60), || {
        let said = try_kubectl(&["-n", &story.ns, "create", "--dry-run=server", "-f", "-"], Some(probe));
        let said = stderr(&said);
        if said.contains("not today") { Ok(()) } else { Err(said) }
    });
    story.apply(&dataset("products"));
    let data = story.wait_reason("mlds/products", "Ready", "False", "PodRejected", 60);
    says(&condition(&data, "Ready").2, &["not today", "change the policy or the webhook"]);
    assert_eq!(condition(&data, "Stalled").0, "False");
    let refused = try_kubectl(&["delete", "-f", "-", "--timeout=60s"], Some(&policy));
    assert!(refused.status.success(), "{}", stderr(&refused));
    story.wait_for("mlds/products", "Ready", 180);

    let other = dataset("other").replace("spec:", "spec:\n  serviceAccountName: nobody");
    story.apply(&other);
    let data = story.wait_reason("mlds/other", "Ready", "False", "PodRejected", 60);
    says(&condition(&data, "Ready").2, &["nobody", "create the ServiceAccount"]);
    kubectl(&["-n", &story.ns, "create", "serviceaccount", "nobody"]);
    story.wait_for("mlds/other", "Ready", 180);
    story.end();
}

#[test]
fn a_run_that_no_node_takes_says_so_and_so_does_its_deadline() {
    let story = Story::begin("late");
    story.apply(&dataset("products"));
    story.wait_for("mlds/products", "Ready", 120);
    let fields = "  nodeSelector: {example.com/nobody: has}\n  activeDeadlineSeconds: 20\n  seed:";
    story.apply(&Run::default().yaml().replace("  seed:", fields));
    let run = story.wait_reason("trun/run", "Running", "False", "Unschedulable", 60);
    says(&condition(&run, "Running").2, &["no node can take pod", "spec.nodeSelector"]);
    let run = story.wait_reason("trun/run", "Succeeded", "False", "DeadlineExceeded", 120);
    says(
        &condition(&run, "Succeeded").2,
        &[
            "within 20 seconds",
            "raise spec.activeDeadlineSeconds",
            "no node can take pod",
            "another TrainingRun",
        ],
    );
    assert_eq!(condition(&run, "Stalled").0, "True");
    story.end();
}

#[test]
fn an_evicted_pod_is_tried_again_for_free() {
    let story = Story::begin("evict");
    story.apply(&dataset("products"));
    let c = &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 8.0];
    let run = Run { c, ..Run::default() }.yaml();
    // with no retry to spend, only a free one can end well
    story.apply(&run.replace("  seed:", "  backoffLimit: 0\n  seed:"));
    let first = until("the training pod to run", seconds(180), || {
        let pods = train_pods(&story);
        let runs = pods.iter().find(|p| text(p, "/status/phase") == "Running");
        runs.map(|p| text(p, "/metadata/name")).ok_or_else(|| format!("{} pods", pods.len()))
    });
    let path = format!("/api/v1/namespaces/{}/pods/{first}/eviction", story.ns);
    let eviction = serde_json::json!({"apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": first, "namespace": story.ns}});
    let output = try_kubectl(&["create", "--raw", &path, "-f", "-"], Some(&eviction.to_string()));
    assert!(output.status.success(), "{}", stderr(&output));
    last_failure(
        &story,
        "trun/run",
        "Evicted",
        &[&first, "was evicted", "evictions are not counted as retries"],
        90,
    );
    let run = story.wait_for("trun/run", "Succeeded", 240);
    assert_eq!(run.pointer("/status/lastFailure"), None, "success clears it");
    let jobs = jobs_of(&story, "run");
    assert_eq!((jobs.len(), number(&jobs[0], "/status/failed").unwrap_or(0)), (1, 0), "{jobs:?}");
    let names: Vec<_> = train_pods(&story).iter().map(|p| text(p, "/metadata/name")).collect();
    assert!(names.iter().any(|name| *name != first), "a second pod did the work: {names:?}");
    story.end();
}

/// A small volume in the place of the operator's artifacts, until the value is dropped.
struct SmallVolume {
    place: PathBuf,
}

fn run_command(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status().unwrap();
    assert!(status.success(), "{program} {args:?}");
}

impl SmallVolume {
    fn mount(megabytes: u32) -> Self {
        let claim = list(operator::NAMESPACE, &["pvc"])
            .into_iter()
            .find(|c| text(c, "/metadata/name").ends_with("artifacts"))
            .expect("the claim of the artifacts");
        let volume = get(operator::NAMESPACE, &["pv", &text(&claim, "/spec/volumeName")]);
        let place = PathBuf::from(text(&volume, "/spec/hostPath/path"));
        assert!(place.is_dir(), "{} is a folder of this machine", place.display());
        operator::scale(0);
        let options = format!("size={megabytes}m,mode=0777");
        run_command("mount", &["-t", "tmpfs", "-o", &options, "tmpfs", place.to_str().unwrap()]);
        let small = Self { place };
        operator::scale(1);
        small
    }

    /// Takes all room but a little. In a folder of its own, which the store does not look into.
    fn fill(&self) -> PathBuf {
        let ballast = self.place.join("ballast");
        std::fs::create_dir(&ballast).unwrap();
        let path = ballast.join("zeros");
        let _ = Command::new("dd")
            .args(["if=/dev/zero", "bs=4k", &format!("of={}", path.display())])
            .stderr(std::process::Stdio::null())
            .status();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        let full = file.metadata().unwrap().len();
        file.set_len(full - 64 * 1024).unwrap();
        ballast
    }
}

impl Drop for SmallVolume {
    fn drop(&mut self) {
        kubectl(&["-n", operator::NAMESPACE, "scale", "deployment/vitrine", "--replicas=0"]);
        let gone = [
            "-n",
            operator::NAMESPACE,
            "wait",
            "--for=delete",
            "pod",
            "-l",
            operator::SELECTOR,
            "--timeout=90s",
        ];
        try_kubectl(&gone, None);
        let _ = Command::new("umount").arg(&self.place).status();
        kubectl(&["-n", operator::NAMESPACE, "scale", "deployment/vitrine", "--replicas=1"]);
        let rollout = format!("deployment/{}", operator::DEPLOYMENT);
        kubectl(&["-n", operator::NAMESPACE, "rollout", "status", &rollout, "--timeout=120s"]);
    }
}

#[test]
fn a_full_volume_is_told_spoils_nothing_and_goes_on_when_there_is_room() {
    let before = Story::begin("full-before");
    served(&before, 1);
    before.alone();
    let story = Story::begin("full");
    let volume = SmallVolume::mount(16);
    let ballast = volume.fill();
    story.apply(&dataset("products"));
    last_failure(&story, "mlds/products", "StorageFull", &["full", "enlarge"], 120);
    std::fs::remove_dir_all(&ballast).unwrap();
    // the Job tries again by itself
    let data = story.wait_for("mlds/products", "Ready", 240);
    for field in ["digest", "snapshotDigest"] {
        let digest = text(&data, &format!("/status/{field}"));
        let path = crate::integrity::stored(&story, &digest);
        let output = Command::new("sha256sum").arg(&path).output().unwrap();
        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(found.starts_with(digest.trim_start_matches("sha256:")), "{field}: {found}");
    }
    story.apply(&Run::default().yaml());
    story.wait_for("trun/run", "Succeeded", 180);
    story.end_and_wait();
    drop(volume);
    // and what was there before is there again
    kubectl(&["-n", &before.ns, "delete", "mdep/serve", "--timeout=60s"]);
    before.apply(&deployment("serve", 1));
    before.wait_for("mdep/serve", "Ready", 120);
    before.end();
}
