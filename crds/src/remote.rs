//! Sources of a `Dataset` that are not in the cluster's volumes: an object store, a web server.
//!
//! The rules here keep what a user writes to one plain shape, so that no part of an address can
//! mean something else to somebody else: no user or password, no `..` in any spelling, no query, no
//! fragment. They are said again in the plan, for objects that were stored before them.

use kube::KubeSchema;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::common::LocalRef;

/// Region where none is given: what stores that know no regions expect.
pub fn default_region() -> String {
    "us-east-1".to_owned()
}

fn sums_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "minProperties": 1,
        "maxProperties": 64,
        "additionalProperties": {
            "type": "string",
            "maxLength": 71,
            "pattern": "^(sha256:)?[0-9a-fA-F]{64}$",
        },
    })
}

/// A folder of a bucket of an object store that speaks S3.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct S3Source {
    /// Bucket and folder, `s3://bucket/` or `s3://bucket/folder/`; the files lie below.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.matches('^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([^/?#\\\\\\\\]+/)*$')").message("spec.source.s3.uri must be s3://bucket/ or s3://bucket/folder/ with a slash at its end, without user, '?', '#' or '//'"))]
    #[x_kube(validation = Rule::new("!self.split('/').exists(p, p == '.' || p == '..')").message("spec.source.s3.uri must not contain '.' or '..' as a folder"))]
    pub uri: String,
    /// Address of the store, such as `http://minio:9000`. Default: Amazon S3 in `region`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^https?://([A-Za-z0-9._-]+|\\\\[[0-9A-Fa-f:.]+\\\\])(:[0-9]{1,5})?/?$')").message("spec.source.s3.endpoint must be http://host:port or https://host:port and nothing more: no user, path, '?' or '#'; keys belong into the Secret of secretRef"))]
    pub endpoint: Option<String>,
    /// Region that requests are signed for. Default: us-east-1.
    #[serde(default = "default_region")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9-]+$')").message("spec.source.s3.region must be a name such as us-east-1"))]
    pub region: String,
    /// Whether the bucket stands in the path (`endpoint/bucket/`) and not in the host name
    /// (`bucket.endpoint/`). Default: true where `endpoint` is given, as MinIO and most stores want it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// Secret in this namespace with the keys `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, where
    /// needed `AWS_SESSION_TOKEN`, and `ca.crt` (PEM) where the store's certificate is of an authority
    /// of its own, which is then the only one that is trusted. Default: requests are not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
}

/// A folder of a web server.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpSource {
    /// Address of the folder, with a slash at its end; the files lie below.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.matches('^https?://([A-Za-z0-9._-]+|\\\\[[0-9A-Fa-f:.]+\\\\])(:[0-9]{1,5})?/([^/?#\\\\\\\\\\\\s]+/)*$')").message("spec.source.http.url must be http://host/ or https://host/folder/ with a slash at its end, without user, '?', '#' or '//'; what opens it belongs into the Secret of headersSecretRef"))]
    #[x_kube(validation = Rule::new("!self.split('/').exists(p, p == '.' || p == '..') && !self.matches('(?i)%(2e|2f|5c)')").message("spec.source.http.url must not contain '.' or '..' as a folder, nor %2e, %2f or %5c"))]
    pub url: String,
    /// What `sha256sum` prints for each file that is read, by file. It is required: a file that changes
    /// on the server must be noticed. To take a new file, write its sum here.
    #[schemars(schema_with = "sums_schema")]
    pub sha256: BTreeMap<String, String>,
    /// Secret in this namespace: each key is the name of a header, each value its value, such as
    /// `Authorization` or `Cookie`. They are sent to the host of `url` only. Default: no headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers_secret_ref: Option<LocalRef>,
}
