//! Sources that are fetched: a bucket of a real object store and a real web server, in the story's own
//! namespace, with keys and headers from its Secrets.

use serde_json::Value;
use vitrine_e2e::kubectl::{condition, kubectl, text};
use vitrine_e2e::manifests::dataset;
use vitrine_e2e::story::{Story, data_folder};
use vitrine_e2e::wait::{seconds, until};

use crate::address;

/// Secret values; nothing that can be read without the right to read Secrets may hold them.
const KEY: &str = "canary-key-4711";
const PASSWORD: &str = "canary-password-4711";
/// `Basic` and the base64 of `shop:canary-password-4711`.
const BASIC: &str = "Basic c2hvcDpjYW5hcnktcGFzc3dvcmQtNDcxMQ==";

const TABLE: [&str; 2] = ["X_train_update.csv", "Y_train_CVw08PX.csv"];

const POD: &str = "securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}";
const CONTAINER: &str = "securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}";

/// A SeaweedFS with the bucket `rakuten`, in which the table lies below `train/`.
fn store(story: &Story) {
    let image =
        std::env::var("VITRINE_WEED_IMAGE").expect("VITRINE_WEED_IMAGE: e2e/sources --load prints it");
    story.apply(&format!(
        r#"
apiVersion: v1
kind: Secret
metadata: {{name: store}}
stringData:
  s3.json: '{{"identities":[{{"name":"shop","credentials":[{{"accessKey":"shop","secretKey":"{KEY}"}}],"actions":["Admin"]}}]}}'
---
apiVersion: v1
kind: Pod
metadata: {{name: store, labels: {{app: store}}}}
spec:
  automountServiceAccountToken: false
  {POD}
  containers:
  - name: main
    image: {image}
    args: [server, -dir=/data, -ip=127.0.0.1, -ip.bind=0.0.0.0, -master.telemetry=false, -master.volumeSizeLimitMB=64, -volume.max=20, -filer, -s3, -s3.port=8333, -s3.config=/etc/store/s3.json]
    {CONTAINER}
    resources: {{requests: {{cpu: 50m, memory: 128Mi}}, limits: {{memory: 1Gi}}}}
    readinessProbe: {{tcpSocket: {{port: 8333}}, periodSeconds: 1}}
    volumeMounts: [{{name: config, mountPath: /etc/store}}, {{name: data, mountPath: /data}}, {{name: tmp, mountPath: /tmp}}]
  volumes: [{{name: config, secret: {{secretName: store}}}}, {{name: data, emptyDir: {{}}}}, {{name: tmp, emptyDir: {{}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: store}}
spec: {{selector: {{app: store}}, ports: [{{port: 8333}}]}}
"#
    ));
    kubectl(&["-n", &story.ns, "wait", "--for=condition=Ready", "pod/store", "--timeout=120s"]);
    let base = format!("http://{}/rakuten", address(story, "store"));
    let put = |target: &str, file: Option<String>| -> String {
        let mut curl = std::process::Command::new("curl");
        curl.args(["-sS", "-m", "60", "-o", "/dev/null", "-w", "%{http_code}", "-X", "PUT"]);
        curl.args(["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", &format!("shop:{KEY}")]);
        if let Some(file) = &file {
            curl.args(["-T", file]);
        }
        String::from_utf8(curl.arg(target).output().unwrap().stdout).unwrap()
    };
    until("the bucket", seconds(60), || match put(&base, None).as_str() {
        "200" => Ok(()),
        other => Err(other.to_owned()),
    });
    for name in TABLE {
        let file = data_folder().join(name).display().to_string();
        assert_eq!(put(&format!("{base}/train/{name}"), Some(file)), "200", "{name}");
    }
}

/// A web server that gives the table to whoever knows the password.
fn site(story: &Story) {
    story.apply(&format!(
        r"
apiVersion: v1
kind: Secret
metadata: {{name: site}}
stringData: {{httpd.conf: '/:shop:{PASSWORD}'}}
---
apiVersion: v1
kind: Pod
metadata: {{name: site, labels: {{app: site}}}}
spec:
  automountServiceAccountToken: false
  {POD}
  containers:
  - name: main
    image: localhost/busybox:1
    command: [httpd, -f, -p, '8080', -h, /www, -c, /etc/site/httpd.conf]
    {CONTAINER}
    readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
    volumeMounts: [{{name: config, mountPath: /etc/site}}, {{name: data, mountPath: /www, readOnly: true}}]
  volumes: [{{name: config, secret: {{secretName: site}}}}, {{name: data, persistentVolumeClaim: {{claimName: data, readOnly: true}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: site}}
spec: {{selector: {{app: site}}, ports: [{{port: 8080}}]}}
"
    ));
    kubectl(&["-n", &story.ns, "wait", "--for=condition=Ready", "pod/site", "--timeout=120s"]);
}

/// A Secret with these keys.
fn secret(story: &Story, name: &str, keys: &[(&str, &str)]) {
    let data: Vec<_> = keys.iter().map(|(key, value)| format!("{key}: '{value}'")).collect();
    story.apply(&format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{{}}}\n",
        data.join(", ")
    ));
}

/// A Dataset with this in place of the claim.
fn fetched(name: &str, source: &str) -> String {
    dataset(name).replace("pvc: {claimName: data}", source)
}

fn bucket(name: &str, secret: &str) -> String {
    fetched(
        name,
        &format!(
            "s3: {{uri: 's3://rakuten/train/', endpoint: 'http://store:8333', secretRef: {{name: {secret}}}}}"
        ),
    )
}

fn sum_of(name: &str) -> String {
    let output = std::process::Command::new("sha256sum").arg(data_folder().join(name)).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

fn folder(name: &str, sums: [&str; 2], secret: Option<&str>) -> String {
    let headers = secret.map_or(String::new(), |s| format!(", headersSecretRef: {{name: {s}}}"));
    let [x, y] = TABLE;
    fetched(
        name,
        &format!(
            "http: {{url: 'http://site:8080/', sha256: {{{x}: '{}', {y}: '{}'}}{headers}}}",
            sums[0], sums[1]
        ),
    )
}

/// Everything that can be read without the right to read Secrets.
fn readable(story: &Story) -> String {
    let mut all = kubectl(&["-n", &story.ns, "get", "mlds,jobs,pods,configmaps,events", "-o", "yaml"]);
    for pod in story.list(&["pods", "-l", "app.kubernetes.io/component=ingest"]) {
        let name = text(&pod, "/metadata/name");
        let output = vitrine_e2e::kubectl::try_kubectl(&["-n", &story.ns, "logs", &name], None);
        all += &String::from_utf8_lossy(&output.stdout);
    }
    all + &kubectl(&["-n", "vitrine-system", "logs", "deployment/vitrine"])
}

fn says(object: &Value, kind: &str, words: &[&str]) {
    let (_, _, message) = condition(object, kind);
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {kind}: {message}");
    }
}

#[test]
fn a_bucket_gives_the_snapshot_that_a_volume_gives() {
    let story = Story::begin("bucket");
    store(&story);
    secret(&story, "minio", &[("AWS_ACCESS_KEY_ID", "shop"), ("AWS_SECRET_ACCESS_KEY", KEY)]);
    story.apply(&dataset("mounted"));
    story.apply(&bucket("products", "minio"));
    let fetched = story.wait_for("mlds/products", "Ready", 180);
    says(&fetched, "SourceReachable", &["s3://rakuten/train/ at http://store:8333 was read"]);
    let mounted = story.wait_for("mlds/mounted", "Ready", 180);
    assert_eq!(text(&fetched, "/status/digest"), text(&mounted, "/status/digest"));

    // keys that the store does not take, and an object that is not there
    secret(&story, "wrong", &[("AWS_ACCESS_KEY_ID", "shop"), ("AWS_SECRET_ACCESS_KEY", PASSWORD)]);
    story.apply(&bucket("wrong", "wrong"));
    story.apply(&bucket("missing", "minio").replace(TABLE[0], "nothing.csv"));
    let wrong = story.wait_reason("mlds/wrong", "Ready", "False", "SourceDenied", 120);
    says(&wrong, "SourceReachable", &["http://store:8333", "SignatureDoesNotMatch", "Secret wrong"]);
    assert_eq!(condition(&wrong, "Stalled").0, "True");
    let missing = story.wait_reason("mlds/missing", "Stalled", "True", "SourceNotFound", 120);
    says(&missing, "SourceReachable", &["s3://rakuten/train/nothing.csv", TABLE[0]]);

    let all = readable(&story);
    assert!(all.contains("SignatureDoesNotMatch") && !all.contains(KEY) && !all.contains(PASSWORD));
    story.end();
}

#[test]
fn a_missing_secret_is_named_and_may_come_later() {
    let story = Story::begin("secret");
    store(&story);
    story.apply(&bucket("products", "minio"));
    let waits = story.wait_reason("mlds/products", "Ready", "False", "MountFailed", 90);
    says(&waits, "Ready", &["secret \"minio\" not found"]);
    says(&waits, "SourceReachable", &["secret \"minio\""]);
    assert_eq!(condition(&waits, "Stalled").0, "False", "it may still come");
    // a Secret that lacks a key is told by the pod; the kubelet tries to mount again every two minutes
    secret(&story, "minio", &[("AWS_ACCESS_KEY_ID", "shop")]);
    let lacks = story.wait_reason("mlds/products", "Ready", "False", "SourceDenied", 240);
    says(&lacks, "Ready", &["Secret minio has no AWS_SECRET_ACCESS_KEY"]);
    secret(&story, "minio", &[("AWS_ACCESS_KEY_ID", "shop"), ("AWS_SECRET_ACCESS_KEY", KEY)]);
    // as the message says
    let job = text(&lacks, "/status/jobName");
    kubectl(&["-n", &story.ns, "delete", "job", &job]);
    story.wait_for("mlds/products", "Ready", 180);
    story.end();
}

#[test]
fn a_web_server_is_read_with_its_header_and_only_what_has_the_sum() {
    let story = Story::begin("web");
    site(&story);
    let sums = TABLE.map(sum_of);
    let sums = [sums[0].as_str(), sums[1].as_str()];
    secret(&story, "login", &[("Authorization", BASIC)]);
    story.apply(&folder("products", sums, Some("login")));
    let ready = story.wait_for("mlds/products", "Ready", 180);
    says(&ready, "SourceReachable", &["http://site:8080/ was read"]);

    story.apply(&folder("closed", sums, None));
    story.apply(&folder("changed", [sums[1], sums[1]], Some("login")));
    let closed = story.wait_reason("mlds/closed", "Ready", "False", "SourceDenied", 120);
    says(
        &closed,
        "SourceReachable",
        &["http://site:8080/X_train_update.csv", "401", "source.http.headersSecretRef"],
    );
    let changed = story.wait_reason("mlds/changed", "Ready", "False", "DataCorrupt", 120);
    says(
        &changed,
        "Ready",
        &[TABLE[0], &format!("expected sha256:{}", sums[1]), &format!("found sha256:{}", sums[0])],
    );

    let all = readable(&story);
    assert!(!all.contains(PASSWORD) && !all.contains(BASIC.trim_start_matches("Basic ")));
    story.end();
}
