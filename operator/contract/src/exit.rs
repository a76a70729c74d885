//! Exit codes of the pods. The Job's `podFailurePolicy` maps them: what trying again cannot mend
//! fails the Job at once, everything else counts against `backoffLimit`.

/// All went well.
pub const OK: i32 = 0;
/// The data cannot be used; final.
pub const DATA: i32 = 65;
/// The pod's own fault; tried again.
pub const INTERNAL: i32 = 70;
/// The volume of artifacts is full; tried again.
pub const STORAGE_FULL: i32 = 73;
/// The gateway, the store or the source could not be reached in time; tried again.
pub const UNAVAILABLE: i32 = 75;
/// The gateway or the source refused the pod; final.
pub const DENIED: i32 = 77;
/// The config cannot be carried out (an unknown hyperparameter, a contract this image does not speak); final.
pub const CONFIG: i32 = 78;
/// Stored bytes are not those that were asked for; tried again.
pub const DIGEST_MISMATCH: i32 = 79;
/// The server computes other scores than the trainer did; tried again.
pub const PROBE_MISMATCH: i32 = 80;

/// Codes that trying again cannot mend.
pub const FINAL: &[i32] = &[DATA, DENIED, CONFIG];
