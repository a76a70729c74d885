//! A model that is not, byte for byte, what was registered is never served.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use vitrine_e2e::kubectl::{condition, get, kubectl, list, number, text};
use vitrine_e2e::operator::NAMESPACE;
use vitrine_e2e::story::Story;
use vitrine_e2e::wait::{seconds, until};

use crate::served;

/// The stored bytes of an artifact on this machine, below the volume of the operator's claim.
pub fn stored(story: &Story, digest: &str) -> PathBuf {
    let claim = list(NAMESPACE, &["pvc"])
        .into_iter()
        .find(|c| text(c, "/metadata/name").ends_with("artifacts"))
        .expect("the claim of the artifacts");
    let volume = get(NAMESPACE, &["pv", &text(&claim, "/spec/volumeName")]);
    let uid = kubectl(&["get", "namespace", &story.ns, "-o", "jsonpath={.metadata.uid}"]);
    let hex = digest.strip_prefix("sha256:").unwrap();
    PathBuf::from(text(&volume, "/spec/hostPath/path")).join(uid).join("sha256").join(hex)
}

/// Flips one bit in the middle of a file and flips it back when called again.
pub fn flip(path: &Path) {
    let mut permissions =
        std::fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).permissions();
    #[allow(clippy::permissions_set_readonly_false)] // a test's own cluster
    permissions.set_readonly(false);
    std::fs::set_permissions(path, permissions).unwrap();
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.seek(SeekFrom::Start(middle)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(middle)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn one_flipped_byte_keeps_new_pods_out_unless_a_sibling_has_the_model() {
    let story = Story::begin("flip");
    served(&story, 1);
    let digest = text(&story.get(&["mdep/serve"]), "/status/stable/digest");
    let blob = stored(&story, &digest);
    flip(&blob);
    let pods = || story.list(&["pods", "-l", "app.kubernetes.io/component=serve"]);
    let ready = |count: i64| {
        until(&format!("{count} ready pods"), seconds(180), || {
            let serve = story.get(&["mdep/serve"]);
            let (status, reason, message) = condition(&serve, "Ready");
            let all = pods().len() as i64 == count && number(&serve, "/status/readyReplicas") == Some(count);
            if all { Ok(()) } else { Err(format!("{status}/{reason}: {message}")) }
        });
    };
    // the pod that serves has sound bytes, and gives them to another one
    kubectl(&["-n", &story.ns, "scale", "mdep/serve", "--replicas=2"]);
    ready(2);
    // with nobody left who has them, only the spoiled ones are there, and they are not served
    kubectl(&["-n", &story.ns, "scale", "mdep/serve", "--replicas=0"]);
    until("all pods to go", seconds(90), || {
        let left = pods().len();
        if left == 0 { Ok(()) } else { Err(format!("{left} pods")) }
    });
    kubectl(&["-n", &story.ns, "scale", "mdep/serve", "--replicas=2"]);
    let message = until("a pod that refuses the model", seconds(120), || {
        let said: Vec<_> = pods()
            .iter()
            .flat_map(|p| {
                ["state", "lastState"]
                    .map(|s| text(p, &format!("/status/containerStatuses/0/{s}/terminated/message")))
            })
            .collect();
        said.iter().find(|m| m.contains("DigestMismatch")).cloned().ok_or_else(|| format!("{said:?}"))
    });
    assert!(message.contains(&digest), "{message}");
    let serve = until("lastFailure", seconds(60), || {
        let serve = story.get(&["mdep/serve"]);
        let reason = text(&serve, "/status/lastFailure/reason");
        if reason == "DigestMismatch" { Ok(serve) } else { Err(format!("{reason:?}")) }
    });
    assert!(
        text(&serve, "/status/lastFailure/message").to_lowercase().contains("digest mismatch"),
        "{serve}"
    );
    assert_ne!(condition(&serve, "Ready").0, "True", "nothing is served");
    let is_ready = |p: &serde_json::Value| p["status"]["containerStatuses"][0]["ready"] == true;
    assert!(!pods().iter().any(is_ready));
    // mended bytes are taken without anybody's help
    flip(&blob);
    ready(2);
    story.end();
}
