//! Every right that the operator needs, with its reason. The chart grants exactly this; a test
//! compares the two, so that a right that is no longer used disappears there too.

/// Rights on some resources of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// API group; empty for the core.
    pub group: &'static str,
    /// Resources.
    pub resources: &'static [&'static str],
    /// Verbs.
    pub verbs: &'static [&'static str],
    /// What they are needed for.
    pub why: &'static str,
}

/// Rights on addresses of the apiserver that are no resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UrlRule {
    /// Paths.
    pub urls: &'static [&'static str],
    /// Verbs.
    pub verbs: &'static [&'static str],
    /// What they are needed for.
    pub why: &'static str,
}

const READ: &[&str] = &["get", "list", "watch"];
const CHILD: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];

/// Rights in all namespaces.
pub const CLUSTER: &[Rule] = &[
    Rule {
        group: "vitrine.dev",
        resources: &["datasets", "trainingruns", "modeldeployments"],
        verbs: READ,
        why: "caches; the gateway reads the owner of a pod",
    },
    Rule {
        group: "vitrine.dev",
        resources: &["datasets/status", "trainingruns/status", "modeldeployments/status"],
        verbs: &["patch"],
        why: "status; never spec or metadata",
    },
    Rule {
        group: "batch",
        resources: &["jobs"],
        verbs: CHILD,
        why: "ingest and training; suspend and time to live are patched",
    },
    Rule { group: "apps", resources: &["deployments"], verbs: CHILD, why: "serving pods" },
    Rule { group: "apps", resources: &["replicasets"], verbs: &["get"], why: "from a pod to its Deployment" },
    Rule { group: "", resources: &["services"], verbs: CHILD, why: "address of the serving pods" },
    Rule {
        group: "autoscaling",
        resources: &["horizontalpodautoscalers"],
        verbs: CHILD,
        why: "spec.autoscaling of a ModelDeployment",
    },
    Rule {
        group: "",
        resources: &["configmaps"],
        verbs: CHILD,
        why: "configs of pods; existence of label names",
    },
    Rule { group: "", resources: &["pods"], verbs: READ, why: "causes of failures; who a pod is" },
    Rule {
        group: "",
        resources: &["namespaces"],
        verbs: READ,
        why: "UIDs: nothing crosses a namespace or outlives it",
    },
    Rule {
        group: "events.k8s.io",
        resources: &["events"],
        verbs: &["create", "patch", "list"],
        why: "events; why a pod is not created or cannot mount a volume, where it hangs",
    },
    Rule {
        group: "authentication.k8s.io",
        resources: &["tokenreviews"],
        verbs: &["create"],
        why: "who a pod is",
    },
];

/// Rights on addresses that are no resources.
pub const URLS: &[UrlRule] = &[UrlRule {
    urls: &[crate::issuer::DISCOVERY, crate::issuer::KEYS],
    verbs: &["get"],
    why: "public keys, by which serving pods recognise each other while the operator is away",
}];

/// Rights in the operator's own namespace.
pub const OWN_NAMESPACE: &[Rule] = &[Rule {
    group: "coordination.k8s.io",
    resources: &["leases"],
    verbs: &["get", "create", "patch"],
    why: "election of the one that reconciles",
}];

#[cfg(test)]
mod tests {
    use super::*;

    /// A rule as the chart has it: group, resources, verbs.
    type Line = (Vec<String>, Vec<String>, Vec<String>);

    /// Reads `kind:` and the three lines of each rule; anything else in a rule is an error.
    fn chart() -> Vec<(String, Vec<Line>)> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/vitrine/templates/rbac.yaml");
        let text = std::fs::read_to_string(path).unwrap();
        let mut roles: Vec<(String, Vec<Line>)> = Vec::new();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            if let Some(kind) = line.strip_prefix("kind: ") {
                roles.push((kind.to_owned(), Vec::new()));
            }
            if let Some(urls) = line.strip_prefix("  - nonResourceURLs: ") {
                let verbs = lines.next().unwrap().strip_prefix("    verbs: ").unwrap();
                roles.last_mut().unwrap().1.push((vec!["url".into()], list(urls), list(verbs)));
                continue;
            }
            let Some(groups) = line.strip_prefix("  - apiGroups: ") else { continue };
            let mut next = |key: &str| {
                let line = lines.next().unwrap();
                list(
                    line.strip_prefix(&format!("    {key}: "))
                        .unwrap_or_else(|| panic!("{key} expected: {line}")),
                )
            };
            let rule = (list(groups), next("resources"), next("verbs"));
            roles.last_mut().unwrap().1.push(rule);
            assert!(
                !lines.peek().is_some_and(|l| l.starts_with("    ")),
                "a rule has three lines: {:?}",
                lines.peek()
            );
        }
        roles
    }

    fn list(text: &str) -> Vec<String> {
        serde_json::from_str(text).unwrap()
    }

    fn table(rules: &[Rule]) -> Vec<Line> {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let mut lines: Vec<Line> =
            rules.iter().map(|r| (owned(&[r.group]), owned(r.resources), owned(r.verbs))).collect();
        lines.sort();
        lines
    }

    #[test]
    fn the_chart_grants_exactly_this() {
        let roles = chart();
        let granted = |kind: &str| -> Vec<Line> {
            let mut found: Vec<Line> =
                roles.iter().filter(|(k, _)| k == kind).flat_map(|(_, r)| r.clone()).collect();
            found.sort();
            found
        };
        let mut cluster = table(CLUSTER);
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        cluster.extend(URLS.iter().map(|r| (vec!["url".into()], owned(r.urls), owned(r.verbs))));
        cluster.sort();
        assert_eq!(granted("ClusterRole"), cluster);
        assert_eq!(granted("Role"), table(OWN_NAMESPACE));
    }

    #[test]
    fn no_secret_and_no_wildcard() {
        for rule in CLUSTER.iter().chain(OWN_NAMESPACE) {
            let all = rule.resources.iter().chain(rule.verbs).chain([&rule.group]);
            assert!(all.clone().all(|w| *w != "*" && !w.contains("secret")), "{rule:?}");
            assert!(!rule.why.is_empty());
        }
        for rule in URLS {
            assert!(rule.urls.iter().all(|url| url.starts_with('/') && !url.contains('*')), "{rule:?}");
            assert_eq!(rule.verbs, ["get"], "{}", rule.why);
        }
    }
}
