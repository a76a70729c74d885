//! Every name that reaches the cluster: group, labels, annotations, field manager, container and
//! volume names. A string literal for any of these elsewhere is a defect: two writers would drift.

use sha2::{Digest, Sha256};

/// API group of the three kinds.
pub const GROUP: &str = "vitrine.dev";
/// Served and stored version.
pub const VERSION: &str = "v1alpha1";
/// The field manager of the operator: server-side apply would otherwise see two owners.
pub const FIELD_MANAGER: &str = "vitrine-operator";
/// The one exception: who holds `spec.replicas` of a Deployment that [`FIELD_MANAGER`] applies
/// without it. An apply that stops naming a field resets it to its default, here 1 pod, unless
/// another manager holds it; an autoscaler takes the field from this one with its first write.
pub const SCALE_MANAGER: &str = "vitrine-operator-replicas";
/// Name reported in events.
pub const REPORTER: &str = "vitrine-operator";
/// Lease that elects the one replica that reconciles.
pub const LEASE: &str = "vitrine-operator";

/// Standard label that marks every child; watches of children select on it.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`LABEL_MANAGED_BY`].
pub const MANAGED_BY: &str = "vitrine";
/// Standard component label: one of [`ROLE_INGEST`], [`ROLE_TRAIN`], [`ROLE_SERVE`].
pub const LABEL_COMPONENT: &str = "app.kubernetes.io/component";
/// Standard instance label: the name of the owning resource.
pub const LABEL_INSTANCE: &str = "app.kubernetes.io/instance";
/// UID of the owning resource: lets a sweep find orphans.
pub const LABEL_OWNER_UID: &str = "vitrine.dev/owner-uid";
/// First [`SHORT_DIGEST`] hex digits of the model that a serving pod holds.
pub const LABEL_MODEL_DIGEST: &str = "vitrine.dev/model-digest";

/// Component of the pods that make snapshots.
pub const ROLE_INGEST: &str = "ingest";
/// Component of the pods that train.
pub const ROLE_TRAIN: &str = "train";
/// Component of the pods that serve.
pub const ROLE_SERVE: &str = "serve";
/// Component of the Services through which serving pods of one model find each other.
pub const ROLE_SIBLINGS: &str = "siblings";

/// Hash of the desired child: a change of it (also a removed field) forces an apply.
pub const ANNOTATION_APPLIED: &str = "vitrine.dev/applied-hash";
/// Comma-separated digests that the pods of a Job or Deployment may read from the gateway.
pub const ANNOTATION_READS: &str = "vitrine.dev/reads";
/// Set while the operator itself holds a Job suspended, so that it never resumes a Job that
/// somebody else (Kueue) suspended.
pub const ANNOTATION_SUSPENDED: &str = "vitrine.dev/suspended-by-spec";
/// Full digest of the model of a child Deployment.
pub const ANNOTATION_MODEL_DIGEST: &str = "vitrine.dev/model-digest";
/// Registry version of the model of a child Deployment.
pub const ANNOTATION_MODEL_VERSION: &str = "vitrine.dev/model-version";
/// Marks a child Deployment that is applied without `spec.replicas`: an autoscaler holds them.
pub const ANNOTATION_AUTOSCALED: &str = "vitrine.dev/autoscaled";
/// What the pods of a child Deployment are made of, as it was rolled out: a newer operator applies
/// it again as it is while the user asks for the same.
pub const ANNOTATION_PODS: &str = "vitrine.dev/pods";
/// Where kubectl keeps a copy of what was applied last; nothing of it is read here.
pub const ANNOTATION_LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The account that every namespace has.
pub const DEFAULT_SERVICE_ACCOUNT: &str = "default";
/// The only container of each pod.
pub const CONTAINER: &str = "main";
/// Volume with the config file.
pub const VOLUME_CONFIG: &str = "config";
/// Volume with the projected token for the gateway.
pub const VOLUME_TOKEN: &str = "token";
/// Volume with the user's table.
pub const VOLUME_SOURCE: &str = "source";
/// Volume with the Secret that opens a remote source.
pub const VOLUME_SOURCE_SECRET: &str = "source-secret";
/// Volume with the user's label names.
pub const VOLUME_LABELS: &str = "labels";
/// Scratch volume.
pub const VOLUME_WORK: &str = "work";

/// Longest name of a resource: child names add a dash and ten digits, and a Job's name becomes a
/// label value of at most 63 characters.
pub const MAX_NAME: usize = 52;
/// Hex digits of a short digest in names and labels.
pub const SHORT_DIGEST: usize = 10;

/// Name of a child: `<owner>-<10 hex>` where the digits come from the given parts.
///
/// The same parts always give the same name: that is what makes a create repeatable after a crash.
pub fn child_name(owner: &str, parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // the length keeps ("ab", "c") and ("a", "bc") apart
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    format!("{owner}-{}", &hex::encode(hash.finalize())[..SHORT_DIGEST])
}

/// First [`SHORT_DIGEST`] hex digits of a digest written as `sha256:<hex>` or `<hex>`.
pub fn short_digest(digest: &str) -> &str {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    hex.get(..SHORT_DIGEST).unwrap_or(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn child_names_depend_on_every_part_and_its_border() {
        let a = child_name("run", &["uid", "1"]);
        assert_eq!(a, child_name("run", &["uid", "1"]));
        assert_eq!(a.len(), "run-".len() + SHORT_DIGEST);
        for other in [&["uid", "2"][..], &["uid1", ""], &["ui", "d1"], &["uid"]] {
            assert_ne!(a, child_name("run", other), "{other:?}");
        }
    }

    #[test]
    fn short_digests_drop_the_algorithm() {
        assert_eq!(short_digest("sha256:0123456789abcdef"), "0123456789");
        assert_eq!(short_digest("0123"), "0123");
    }
}
