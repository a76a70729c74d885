//! Where a Dataset's files come from: what is checked, what the ingest pod is told and mounts, and
//! how sentences name it.
//!
//! No address is ever opened here or anywhere in the operator: the pod fetches, in the user's
//! namespace, with the user's own Secret and the user's own network. So an address that leads into
//! the cluster reaches nothing that the user's own pods do not reach.

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaimVolumeSource, SecretVolumeSource, Volume, VolumeMount,
};
use vitrine_contract::job::{Http, Remote, S3};
use vitrine_contract::{DIGEST_PREFIX, is_digest, paths};
use vitrine_crds::common::{LastFailure, LocalRef};
use vitrine_crds::condition::Reason;
use vitrine_crds::dataset::Source;
use vitrine_crds::names;
use vitrine_crds::remote::{HttpSource, S3Source};

use crate::pod;

/// The one place that holds the files.
enum Place<'a> {
    Claim(&'a str),
    S3(&'a S3Source),
    Http(&'a HttpSource),
}

/// The first that is given; [`check`] sees to it that there is exactly one.
fn place(source: &Source) -> Place<'_> {
    match (&source.pvc, &source.s3, &source.http) {
        (_, Some(s3), _) => Place::S3(s3),
        (_, _, Some(http)) => Place::Http(http),
        (pvc, ..) => Place::Claim(pvc.as_ref().map_or("", |pvc| pvc.claim_name.as_str())),
    }
}

/// The schema's rules, for objects that were stored before them.
pub fn check(source: &Source) -> Result<(), String> {
    let given = [source.pvc.is_some(), source.s3.is_some(), source.http.is_some()];
    if given.iter().filter(|given| **given).count() != 1 {
        return Err("source must have exactly one of pvc, s3 and http".to_owned());
    }
    let archive = source.images.as_ref().map(|images| &images.archive);
    let files = [Some(&source.files.features), source.files.labels.as_ref(), archive];
    for path in files.into_iter().flatten() {
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(format!(
                "source: path {path} must lie below the source's folder, without a '/' at its beginning or end, and without '//', '.' and '..'"
            ));
        }
    }
    // a folder of a volume: a slash at its end does no harm
    if let Some(path) = source.pvc.as_ref().map(|pvc| &pvc.path)
        && (path.starts_with('/') || path.split('/').any(|part| part == ".."))
    {
        return Err(format!("source.pvc.path {path} must be relative and must not contain '..'"));
    }
    match place(source) {
        Place::Claim(_) => Ok(()),
        Place::S3(s3) => check_s3(s3),
        Place::Http(http) => {
            check_http(http)?;
            let unsummed = files.into_iter().flatten().find(|file| !http.sha256.contains_key(*file));
            unsummed.map_or(Ok(()), |file| {
                Err(format!(
                    "source.http.sha256 has no line for {file}: add what `sha256sum {file}` prints, so that a changed file is noticed"
                ))
            })
        }
    }
}

fn check_s3(s3: &S3Source) -> Result<(), String> {
    let (bucket, prefix) = split_uri(&s3.uri);
    let named =
        s3.uri.starts_with("s3://") && (3..=63).contains(&bucket.len()) && bucket.bytes().all(of_name);
    if !named || !folder(prefix) {
        return Err(format!(
            "source.s3.uri must be s3://bucket/ or s3://bucket/folder/ with a slash at its end and without user, '?', '#', '//' and '..'; it is {:?}",
            shown(&s3.uri)
        ));
    }
    if let Some(endpoint) = &s3.endpoint {
        let rest = split_url(endpoint).map(|(_, rest)| rest);
        if !matches!(rest, Some("" | "/")) {
            return Err(format!(
                "source.s3.endpoint must be http://host:port or https://host:port and nothing more; it is {:?}",
                shown(endpoint)
            ));
        }
    }
    if s3.region.is_empty() || !s3.region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(format!("source.s3.region must be a name such as us-east-1; it is {:?}", s3.region));
    }
    Ok(())
}

fn check_http(http: &HttpSource) -> Result<(), String> {
    let path = split_url(&http.url).and_then(|(_, rest)| rest.strip_prefix('/'));
    let lower = http.url.to_ascii_lowercase();
    let encoded = ["%2e", "%2f", "%5c"].iter().any(|code| lower.contains(code));
    if encoded || !path.is_some_and(folder) {
        return Err(format!(
            "source.http.url must be http://host/ or https://host/folder/ with a slash at its end and without user, '?', '#', '//' and '..'; it is {:?}",
            shown(&http.url)
        ));
    }
    match http.sha256.iter().find(|(_, sum)| !is_digest(&digest(sum))) {
        Some((file, _)) => Err(format!("source.http.sha256[{file}] is not what sha256sum prints")),
        None => Ok(()),
    }
}

/// Host and what follows it, of an address without a user.
fn split_url(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let plain = |b: u8| of_name(b) || b.is_ascii_uppercase() || b"_:[]".contains(&b);
    (!host.is_empty() && host.bytes().all(plain)).then_some((host, path))
}

/// Bucket and prefix.
fn split_uri(uri: &str) -> (&str, &str) {
    uri.strip_prefix("s3://").unwrap_or_default().split_once('/').unwrap_or_default()
}

fn of_name(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte)
}

/// Is this nothing, or names that each end with a slash?
fn folder(path: &str) -> bool {
    let names = |path: &str| path.split('/').all(|name| !matches!(name, "" | "." | ".."));
    let clean = !path.contains(['?', '#', '\\']) && !path.contains(char::is_control);
    path.is_empty() || (clean && path.strip_suffix('/').is_some_and(names))
}

/// An address for a message: a stored object may hold a password in it, or a token.
fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://...@{rest}"),
        _ => url.to_owned(),
    }
}

/// A sum as the contract writes it.
fn digest(sum: &str) -> String {
    let hex = sum.strip_prefix(DIGEST_PREFIX).unwrap_or(sum);
    format!("{DIGEST_PREFIX}{}", hex.to_ascii_lowercase())
}

/// Address of the store.
fn endpoint(s3: &S3Source) -> String {
    match &s3.endpoint {
        Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
        None => format!("https://s3.{}.amazonaws.com", s3.region),
    }
}

fn secret(source: &Source) -> Option<&LocalRef> {
    match place(source) {
        Place::Claim(_) => None,
        Place::S3(s3) => s3.secret_ref.as_ref(),
        Place::Http(http) => http.headers_secret_ref.as_ref(),
    }
}

/// What the pod fetches the files from; none: they are mounted.
pub fn remote(source: &Source) -> Option<Remote> {
    let secret = secret(source).map(|s| s.name.clone());
    match place(source) {
        Place::Claim(_) => None,
        Place::S3(s3) => {
            let (bucket, prefix) = split_uri(&s3.uri);
            Some(Remote::S3(S3 {
                endpoint: endpoint(s3),
                region: s3.region.clone(),
                bucket: bucket.to_owned(),
                prefix: prefix.to_owned(),
                path_style: s3.path_style.unwrap_or(s3.endpoint.is_some()),
                secret,
            }))
        }
        Place::Http(http) => Some(Remote::Http(Http {
            url: http.url.clone(),
            sha256: http.sha256.iter().map(|(file, sum)| (file.clone(), digest(sum))).collect(),
            secret,
        })),
    }
}

/// Folder below the root of a volume.
pub fn path(source: &Source) -> String {
    source.pvc.as_ref().map(|pvc| pvc.path.clone()).unwrap_or_default()
}

/// The source in a sentence.
pub fn title(source: &Source) -> String {
    match place(source) {
        Place::Claim(claim) => format!("PersistentVolumeClaim {claim}"),
        Place::S3(s3) => format!("{} at {}", s3.uri, endpoint(s3)),
        Place::Http(http) => shown(&http.url),
    }
}

/// What the ingest pod mounts for it: the claim, or the Secret that opens it.
pub fn volumes(source: &Source) -> Vec<(Volume, VolumeMount)> {
    let mut all = Vec::new();
    if let Place::Claim(claim) = place(source) {
        let volume = Volume {
            name: names::VOLUME_SOURCE.to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim.to_owned(),
                read_only: Some(true),
            }),
            ..Volume::default()
        };
        all.push((volume, pod::mount(names::VOLUME_SOURCE, paths::SOURCE_DIR, true)));
    }
    all.extend(secret(source).map(|secret| {
        let volume = Volume {
            name: names::VOLUME_SOURCE_SECRET.to_owned(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(secret.name.clone()),
                // a pod without its keys would only fail later and less clearly
                optional: Some(false),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        };
        (volume, pod::mount(names::VOLUME_SOURCE_SECRET, paths::SOURCE_SECRET_DIR, true))
    }));
    all
}

/// Is it the Secret that opens the source what a pod cannot mount? The kubelet names the volume.
pub fn not_mounted(cause: &LastFailure) -> bool {
    let volume = format!("volume \"{}\"", names::VOLUME_SOURCE_SECRET);
    cause.reason == Reason::MountFailed.as_str() && cause.message.contains(&volume)
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
