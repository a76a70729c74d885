//! A namespace of its own for each story, with the catalogue in a volume; evidence on failure.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::kubectl::{apply, condition, get, kubectl, list, text, try_kubectl};
use crate::turn::{self, Turn};
use crate::wait::{seconds, until};

/// A namespace that enforces Pod Security *restricted*, with a claim `data` that holds the small
/// catalogue. Both are removed when the story ends well and kept as evidence when it fails. A story that did
/// not ask for a turn alone runs beside others.
pub struct Story {
    /// Namespace.
    pub ns: String,
    turn: Cell<Option<Turn>>,
}

/// Folder with the small catalogue that the tests train on.
pub fn data_folder() -> PathBuf {
    PathBuf::from(
        std::env::var("VITRINE_E2E_DATA").expect("VITRINE_E2E_DATA names the test catalogue: run e2e/test"),
    )
}

impl Story {
    /// Makes the namespace, its volume and its claim.
    pub fn begin(name: &str) -> Self {
        Self::begin_with(name, &data_folder())
    }

    /// As [`Story::begin`], with another folder of this machine, which is the node, in the volume.
    pub fn begin_with(name: &str, folder: &Path) -> Self {
        let ns = format!("e2e-{name}");
        let turn = turn::beside();
        try_kubectl(&["delete", "namespace", &ns, "--ignore-not-found", "--timeout=120s"], None);
        try_kubectl(&["delete", "pv", &ns, "--ignore-not-found", "--timeout=60s"], None);
        let manifest = format!(
            r"
apiVersion: v1
kind: Namespace
metadata: {{name: {ns}, labels: {{pod-security.kubernetes.io/enforce: restricted}}}}
---
apiVersion: v1
kind: PersistentVolume
metadata: {{name: {ns}}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteMany]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: ''
  claimRef: {{namespace: {ns}, name: data}}
  hostPath: {{path: {folder}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: data, namespace: {ns}}}
spec:
  accessModes: [ReadWriteMany]
  storageClassName: ''
  volumeName: {ns}
  resources: {{requests: {{storage: 1Gi}}}}
",
            folder = folder.display()
        );
        apply(&ns, &manifest);
        Self { ns, turn: Cell::new(Some(turn)) }
    }

    /// Goes on alone, after the stories that run beside each other: what it prepared stays meanwhile.
    pub fn alone(&self) {
        Self::all_alone([self]);
    }

    /// As [`Story::alone`], for stories that are one: the first has the turn and ends last.
    pub fn all_alone<const N: usize>(stories: [&Self; N]) {
        for story in stories {
            drop(story.turn.take());
        }
        stories[0].turn.set(Some(turn::alone()));
    }

    /// Applies a manifest in the namespace.
    pub fn apply(&self, manifest: &str) -> String {
        apply(&self.ns, manifest)
    }

    /// An object as JSON.
    pub fn get(&self, what: &[&str]) -> Value {
        get(&self.ns, what)
    }

    /// The items of a list.
    pub fn list(&self, what: &[&str]) -> Vec<Value> {
        list(&self.ns, what)
    }

    /// Waits with `kubectl wait` until a condition is true, as a user does.
    pub fn wait_for(&self, object: &str, kind: &str, limit_seconds: u64) -> Value {
        let (wait, limit) = (format!("--for=condition={kind}"), format!("--timeout={limit_seconds}s"));
        kubectl(&["-n", &self.ns, "wait", &wait, object, &limit]);
        self.get(&[object])
    }

    /// Waits until a condition has that status and reason.
    pub fn wait_reason(
        &self,
        object: &str,
        kind: &str,
        status: &str,
        reason: &str,
        limit_seconds: u64,
    ) -> Value {
        let what = format!("{object} {kind}={status}/{reason}");
        until(&what, seconds(limit_seconds), || {
            let value = self.get(&[object]);
            let (is, why, message) = condition(&value, kind);
            if is == status && why == reason { Ok(value) } else { Err(format!("{is}/{why}: {message}")) }
        })
    }

    /// Names of all objects of these kinds.
    pub fn names(&self, kinds: &str) -> Vec<String> {
        self.list(&[kinds])
            .iter()
            .map(|o| format!("{}/{}", text(o, "/kind"), text(o, "/metadata/name")))
            .collect()
    }

    /// Removes the namespace and its volume, and waits until they are gone.
    pub fn end_and_wait(self) {
        kubectl(&["delete", "namespace", &self.ns, "--timeout=120s"]);
        kubectl(&["delete", "pv", &self.ns, "--timeout=60s"]);
    }

    /// Removes the namespace and its volume in the background, while the next story begins.
    pub fn end(self) {
        kubectl(&["delete", "namespace", &self.ns, "--wait=false"]);
        kubectl(&["delete", "pv", &self.ns, "--wait=false"]);
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let ns = self.ns.as_str();
        for args in [
            &["-n", ns, "get", "all,mlds,trun,mdep,pvc", "-o", "wide"][..],
            &["-n", ns, "describe", "mlds,trun,mdep"],
            &["-n", ns, "get", "events", "--sort-by=.lastTimestamp"],
            &["-n", "vitrine-system", "logs", "deployment/vitrine", "--tail=60"],
        ] {
            eprintln!("--- kubectl {}", args.join(" "));
            eprintln!("{}", String::from_utf8_lossy(&try_kubectl(args, None).stdout));
        }
    }
}
