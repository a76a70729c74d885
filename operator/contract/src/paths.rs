//! Paths and ports inside the pods. The plan mounts them, the images use them.

/// Config file of the pod, JSON.
pub const CONFIG: &str = "/etc/vitrine/config.json";
/// Folder of [`CONFIG`].
pub const CONFIG_DIR: &str = "/etc/vitrine";
/// File name of [`CONFIG`] and key in its ConfigMap.
pub const CONFIG_KEY: &str = "config.json";
/// Projected token for the gateway.
pub const TOKEN: &str = "/var/run/vitrine/token";
/// Folder of [`TOKEN`].
pub const TOKEN_DIR: &str = "/var/run/vitrine";
/// File name of [`TOKEN`].
pub const TOKEN_FILE: &str = "token";
/// Projected token for siblings ([`crate::siblings`]).
pub const SIBLING_TOKEN: &str = "/var/run/vitrine/sibling-token";
/// File name of [`SIBLING_TOKEN`] in [`TOKEN_DIR`].
pub const SIBLING_TOKEN_FILE: &str = "sibling-token";
/// The user's table, read-only.
pub const SOURCE_DIR: &str = "/data/source";
/// The Secret that opens a remote source: one file per key. Present when the config names a Secret.
pub const SOURCE_SECRET_DIR: &str = "/var/run/vitrine-source";
/// The user's label names: one file per label.
pub const LABELS_DIR: &str = "/data/labels";
/// Scratch space.
pub const WORK_DIR: &str = "/work";
/// Where the kubelet looks for the last words of a container.
pub const TERMINATION: &str = "/dev/termination-log";
/// Longest termination message in bytes: the kubelet shares 12 KiB between a pod's containers.
pub const MAX_TERMINATION: usize = 2048;

/// Port of the inference server: predictions, health and `/metrics`.
pub const SERVE_PORT: u16 = 8080;
/// Name of [`SERVE_PORT`].
pub const SERVE_PORT_NAME: &str = "http";
/// Port on which a serving pod gives its model to siblings: one of its own, so that no Service for
/// predictions can ever lead there.
pub const SIBLING_PORT: u16 = 8081;
/// Name of [`SIBLING_PORT`].
pub const SIBLING_PORT_NAME: &str = "siblings";
/// Address of the readiness probe: 200 once digest and probes are verified.
pub const READY_PATH: &str = "/v2/health/ready";
/// Address of the liveness probe: 200 while the process works.
pub const LIVE_PATH: &str = "/v2/health/live";
