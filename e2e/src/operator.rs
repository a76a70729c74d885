//! The running operator: its pod, its process, its end and its return.

use std::process::Command;

use vitrine_crds::names;

use crate::audit;
use crate::kubectl::{kubectl, list, text};
use crate::wait::{seconds, until};

/// Namespace of the operator.
pub const NAMESPACE: &str = "vitrine-system";
/// Deployment of the operator.
pub const DEPLOYMENT: &str = "vitrine";
/// Selector of the operator's pods.
pub const SELECTOR: &str = "app.kubernetes.io/name=vitrine,app.kubernetes.io/component=operator";

/// Name and UID of the operator's pod.
pub fn pod() -> Option<(String, String)> {
    let pods = list(NAMESPACE, &["pods", "-l", SELECTOR]);
    let running = pods.iter().find(|p| p["metadata"]["deletionTimestamp"].is_null())?;
    Some((text(running, "/metadata/name"), text(running, "/metadata/uid")))
}

/// Process of a container on this machine whose executable has that name and whose pod has that UID.
pub fn pid_of(pod_uid: &str, executable: &str) -> Option<u32> {
    let names = [pod_uid.to_owned(), pod_uid.replace('-', "_")];
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let cgroups = std::fs::read_to_string(entry.path().join("cgroup")).ok()?;
        let command = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        let ours = names.iter().any(|n| cgroups.contains(n.as_str()));
        // the kernel keeps 15 characters of the name
        (ours && command.trim() == &executable[..executable.len().min(15)]).then_some(pid)
    })
}

/// Kills the operator's process with SIGKILL and replaces its pod, so that no restart backoff of
/// the kubelet stands between the kill and the return.
pub fn kill() {
    let (name, uid) = pod().expect("the operator runs");
    let pid = pid_of(&uid, "vitrine-operator").expect("the operator's process is on this machine");
    let status = Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -KILL {pid}");
    kubectl(&["-n", NAMESPACE, "delete", "pod", &name, "--grace-period=0", "--force", "--wait=false"]);
}

/// Waits until one operator pod is ready.
pub fn wait_ready() {
    let rollout = format!("deployment/{DEPLOYMENT}");
    kubectl(&["-n", NAMESPACE, "rollout", "status", &rollout, "--timeout=120s"]);
    until("one operator pod", seconds(60), || {
        let count = list(NAMESPACE, &["pods", "-l", SELECTOR]).len();
        if count == 1 { Ok(()) } else { Err(format!("{count} pods")) }
    });
}

/// Waits until the pod that runs now leads: it wrote the Lease since the mark. A pod is ready before it
/// leads, and until it leads it does nothing.
pub fn wait_leads(mark: audit::Mark) {
    until("the operator to lead", seconds(60), || {
        let (name, _) = pod().ok_or("no pod")?;
        let manager = format!("{}-{name}", names::FIELD_MANAGER);
        let writes = audit::writes(audit::since(mark, audit::OPERATOR));
        let took = writes.iter().any(|r| r.resource == "leases" && r.manager == manager && r.code < 300);
        if took { Ok(()) } else { Err(format!("{name} has not written the Lease")) }
    });
}

/// Sets the number of operator pods and waits until it is so.
pub fn scale(replicas: u32) {
    let (target, count) = (format!("deployment/{DEPLOYMENT}"), format!("--replicas={replicas}"));
    kubectl(&["-n", NAMESPACE, "scale", &target, &count]);
    if replicas > 0 {
        return wait_ready();
    }
    until("no operator pod", seconds(90), || {
        let count = list(NAMESPACE, &["pods", "-l", SELECTOR]).len();
        if count == 0 { Ok(()) } else { Err(format!("{count} pods")) }
    });
}

/// Resident memory of the operator in bytes.
pub fn resident_bytes() -> u64 {
    let (_, uid) = pod().expect("the operator runs");
    let pid = pid_of(&uid, "vitrine-operator").expect("the operator's process is on this machine");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
