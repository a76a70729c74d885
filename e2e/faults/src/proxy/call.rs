//! What a request to an apiserver asks for, read from its method and address.

use http::{Method, Uri};

/// A request in the words of the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// `get`, `list`, `watch`, `create`, `patch`, `update`, `delete`.
    pub verb: &'static str,
    /// Resource, with its subresource as `datasets/status`.
    pub resource: String,
    /// Namespace, empty for all.
    pub namespace: String,
    /// Name, empty for a collection.
    pub name: String,
}

impl Call {
    /// Reads method and address.
    pub fn of(method: &Method, uri: &Uri) -> Self {
        let parts: Vec<&str> = uri.path().split('/').filter(|p| !p.is_empty()).collect();
        let rest = match parts.first() {
            Some(&"api") => parts.get(2..),
            Some(&"apis") => parts.get(3..),
            _ => None,
        };
        let mut rest = rest.unwrap_or_default().iter().copied();
        let (mut namespace, mut resource) = ("", rest.next().unwrap_or_default());
        let mut name = rest.next();
        if let ("namespaces", Some(ns)) = (resource, name)
            && let Some(inner) = rest.next()
        {
            (namespace, resource, name) = (ns, inner, rest.next());
        }
        let sub = rest.next();
        let watch = uri.query().is_some_and(|q| q.split('&').any(|p| p == "watch=true" || p == "watch=1"));
        let verb = match (method, name) {
            _ if watch => "watch",
            (&Method::GET, None) => "list",
            (&Method::GET, Some(_)) => "get",
            (&Method::POST, _) => "create",
            (&Method::PUT, _) => "update",
            (&Method::PATCH, _) => "patch",
            (&Method::DELETE, _) => "delete",
            _ => "other",
        };
        Self {
            verb,
            resource: sub.map_or(resource.to_owned(), |sub| format!("{resource}/{sub}")),
            namespace: namespace.to_owned(),
            name: name.unwrap_or_default().to_owned(),
        }
    }

    /// Does it change something?
    pub fn writes(&self) -> bool {
        matches!(self.verb, "create" | "update" | "patch" | "delete")
    }

    /// Is it about the election? Those are not part of a workload.
    pub fn is_lease(&self) -> bool {
        self.resource == "leases"
    }

    /// Does it neither count as a write of a workload nor leave anything behind?
    pub fn is_bookkeeping(&self) -> bool {
        self.is_lease() || matches!(self.resource.as_str(), "events" | "tokenreviews")
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}/{}", self.verb, self.resource, self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_audit_log_reads_them() {
        for (method, uri, shown) in [
            (Method::GET, "/apis/vitrine.dev/v1alpha1/datasets?limit=100", "list datasets /"),
            (Method::GET, "/apis/vitrine.dev/v1alpha1/datasets?watch=true&x=1", "watch datasets /"),
            (
                Method::PATCH,
                "/apis/vitrine.dev/v1alpha1/namespaces/a/datasets/d/status",
                "patch datasets/status a/d",
            ),
            (Method::POST, "/apis/batch/v1/namespaces/a/jobs?x", "create jobs a/"),
            (Method::GET, "/api/v1/namespaces/a", "get namespaces /a"),
            (Method::GET, "/api/v1/namespaces", "list namespaces /"),
            (Method::DELETE, "/api/v1/namespaces/a/services/s", "delete services a/s"),
            (Method::POST, "/apis/authentication.k8s.io/v1/tokenreviews", "create tokenreviews /"),
        ] {
            assert_eq!(Call::of(&method, &uri.parse().unwrap()).to_string(), shown);
        }
    }
}
