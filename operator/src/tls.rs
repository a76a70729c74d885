//! Certificates of the gateway: an authority of the operator's own, kept on the registry's volume,
//! and a server certificate that is made in memory and renewed long before it ends.
//!
//! Pods trust this authority and no other; nothing outside the gateway uses it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use time::{Duration, OffsetDateTime};

/// Certificate and key of the authority, one file so that they can never be of two different pairs.
const FILE: &str = "authority.pem";
/// Name in the authority's certificate. The key alone is read back, so a change of this name would
/// break the chain to certificates that pods already hold.
const NAME: &str = "vitrine artifact gateway";
/// Life of the authority.
const AUTHORITY_LIFE: Duration = Duration::days(3650);
/// Life of the server's certificate.
const LEAF_LIFE: Duration = Duration::days(365);
/// The server's certificate is renewed when less is left.
const RENEW_BELOW: Duration = Duration::days(30);
/// Certificates begin in the past: clocks of nodes differ.
const SKEW: Duration = Duration::days(1);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The authority's file cannot be read or written.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The authority's file is not one.
    #[error("{} holds no certificate with its key: restore it, or delete it and restart all pods", path.display())]
    NotAnAuthority {
        /// The file.
        path: PathBuf,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate for {host}: {source}")]
    Certificate {
        /// Host name in the certificate.
        host: String,
        /// What went wrong.
        source: rcgen::Error,
    },
    /// TLS does not take the certificate.
    #[error("cannot use the certificate for {host}: {source}")]
    Tls {
        /// Host name in the certificate.
        host: String,
        /// What went wrong.
        source: rustls::Error,
    },
}

/// The authority and the server certificate that it signed. A clone is the same authority.
#[derive(Clone, Debug)]
pub struct Authority {
    ca_pem: Arc<str>,
    key: Arc<KeyPair>,
    host: Arc<str>,
    leaf: Arc<Leaf>,
}

impl Authority {
    /// Reads the authority in this folder, or makes it, and makes a server certificate for the host
    /// and `localhost`.
    pub fn open(dir: &Path, host: &str) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let io_error = |source| Error::Io { path: path.clone(), source };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let text =
                    new_authority().map_err(|source| Error::Certificate { host: NAME.into(), source })?;
                write_private(dir, &path, &text).map_err(io_error)?;
                text
            }
            Err(e) => return Err(io_error(e)),
        };
        let (ca_pem, key) = parse(&text).ok_or(Error::NotAnAuthority { path })?;
        let now = OffsetDateTime::now_utc();
        let leaf = Leaf { current: RwLock::new(sign(&key, host, now)?) };
        Ok(Self { ca_pem: ca_pem.into(), key: Arc::new(key), host: host.into(), leaf: Arc::new(leaf) })
    }

    /// The authority's certificate: what pods trust.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// TLS for a server that always shows the newest certificate.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, Error> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|source| Error::Tls { host: self.host.to_string(), source })?;
        let leaf = Arc::clone(&self.leaf);
        let mut config = builder.with_no_client_auth().with_cert_resolver(leaf);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Replaces the server's certificate if less than 30 days of it are left; says whether it did.
    pub fn renew(&self) -> Result<bool, Error> {
        self.renew_at(OffsetDateTime::now_utc())
    }

    fn renew_at(&self, now: OffsetDateTime) -> Result<bool, Error> {
        let due = match self.leaf.current.read() {
            Ok(current) => current.until - now < RENEW_BELOW,
            // A writer panicked in between: make it anew.
            Err(_) => true,
        };
        if due {
            let fresh = sign(&self.key, &self.host, now)?;
            self.leaf.current.clear_poison();
            if let Ok(mut current) = self.leaf.current.write() {
                *current = fresh;
            }
        }
        Ok(due)
    }
}

/// Host of an address such as `https://vitrine-gateway.vitrine-system.svc:8443`.
pub fn host_of(url: &str) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    uri.host().map(|host| host.trim_matches(['[', ']']).to_owned())
}

/// The server's certificate.
#[derive(Debug)]
struct Leaf {
    current: RwLock<Signed>,
}

#[derive(Debug)]
struct Signed {
    key: Arc<CertifiedKey>,
    until: OffsetDateTime,
}

impl ResolvesServerCert for Leaf {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.read().ok().map(|signed| Arc::clone(&signed.key))
    }
}

fn authority_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, NAME);
    Ok(params)
}

fn new_authority() -> Result<String, rcgen::Error> {
    let now = OffsetDateTime::now_utc();
    let key = KeyPair::generate()?;
    let mut params = authority_params()?;
    params.not_before = now - SKEW;
    params.not_after = now + AUTHORITY_LIFE;
    Ok(format!("{}{}", params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// Certificate and key from the authority's file.
fn parse(text: &str) -> Option<(String, KeyPair)> {
    const BORDER: &str = "-----BEGIN PRIVATE KEY-----";
    let (certificate, _) = text.split_once(BORDER)?;
    let whole = certificate.contains("-----BEGIN CERTIFICATE-----")
        && certificate.contains("-----END CERTIFICATE-----");
    let key = KeyPair::from_pem(&text[certificate.len()..]).ok()?;
    whole.then(|| (certificate.to_owned(), key))
}

fn sign(authority: &KeyPair, host: &str, now: OffsetDateTime) -> Result<Signed, Error> {
    let make = || {
        let mut names = vec![host.to_owned()];
        if host != "localhost" {
            names.push("localhost".to_owned());
        }
        let mut params = CertificateParams::new(names)?;
        params.not_before = now - SKEW;
        params.not_after = now + LEAF_LIFE;
        params.distinguished_name = DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let issuer = Issuer::new(authority_params()?, authority);
        Ok((params.signed_by(&key, &issuer)?, key))
    };
    let (certificate, key) = make().map_err(|source| Error::Certificate { host: host.to_owned(), source })?;
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = CertifiedKey::from_der(vec![certificate.der().clone()], der, &ring::default_provider())
        .map_err(|source| Error::Tls { host: host.to_owned(), source })?;
    Ok(Signed { key: Arc::new(key), until: now + LEAF_LIFE })
}

/// Writes a file that only this user may read; it appears whole or not at all.
fn write_private(dir: &Path, path: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let part = path.with_extension("part");
    match fs::remove_file(&part) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests;
