//! What the operator may do, what it does, and under which rules its pods run.

use std::collections::BTreeSet;

use vitrine_e2e::audit::{OPERATOR, mark, since};
use vitrine_e2e::kubectl::{kubectl, text};
use vitrine_e2e::operator;
use vitrine_e2e::story::Story;

use crate::served;

#[test]
fn the_operator_has_no_verb_on_secrets_and_no_wildcard() {
    for namespace in ["default", operator::NAMESPACE] {
        let rights = kubectl(&["auth", "can-i", "--list", "--as", OPERATOR, "-n", namespace]);
        assert!(rights.contains("trainingruns.vitrine.dev"), "{rights}");
        // lines that begin with a blank are addresses such as /healthz that every user may read
        for line in rights.lines().skip(1).filter(|l| !l.starts_with(' ')) {
            let resource = line.split_whitespace().next().unwrap_or_default();
            assert!(!resource.starts_with("secrets"), "{line}");
            assert!(!resource.contains('*'), "{line}");
            let verbs = line.rsplit_once('[').map_or("", |(_, v)| v);
            assert!(!verbs.contains('*'), "{line}");
        }
    }
    for verb in ["get", "list", "watch", "create", "update", "patch", "delete"] {
        let output = vitrine_e2e::kubectl::try_kubectl(
            &["auth", "can-i", verb, "secrets", "--as", OPERATOR, "-A"],
            None,
        );
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "no", "{verb} secrets");
    }
}

#[test]
fn a_whole_life_needs_no_right_that_is_missing() {
    let mark = mark();
    let story = Story::begin("rights");
    served(&story, 1);
    story.end();
    let all = since(mark, OPERATOR);
    assert!(all.len() > 20, "{} requests in the audit log", all.len());
    // what is created in a namespace that is being deleted is refused whatever the rights are
    let forbidden: BTreeSet<_> = all
        .iter()
        .filter(|r| r.code == 403 && !r.message.contains("being terminated"))
        .map(|r| (&r.verb, &r.resource))
        .collect();
    assert!(forbidden.is_empty(), "{forbidden:?}");
}

#[test]
fn pods_run_restricted_without_an_api_token() {
    let story = Story::begin("restricted");
    served(&story, 1);
    let pods = story.list(&["pods"]);
    assert!(pods.len() >= 3, "ingest, train and serve pods");
    for pod in pods {
        let name = text(&pod, "/metadata/name");
        assert_eq!(pod["spec"]["automountServiceAccountToken"], false, "{name}");
        assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], true, "{name}");
        let container = &pod["spec"]["containers"][0]["securityContext"];
        assert_eq!(container["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(container["allowPrivilegeEscalation"], false, "{name}");
    }
    let label = kubectl(&[
        "get",
        "namespace",
        &story.ns,
        "-o",
        r"jsonpath={.metadata.labels.pod-security\.kubernetes\.io/enforce}",
    ]);
    assert_eq!(label, "restricted");
    story.end();
}
