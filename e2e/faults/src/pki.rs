//! Keys and certificates of the rig.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// Everything in PEM.
pub struct Pki {
    /// Certificate authority.
    pub ca: String,
    /// Certificate of the apiserver.
    pub server_cert: String,
    /// Its key.
    pub server_key: String,
    /// Key that signs tokens of service accounts.
    pub account_key: String,
    /// Its public half.
    pub account_public: String,
}

/// Makes new ones.
pub fn make() -> Result<Pki> {
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "rig");
    let issuer = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let mut server = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?;
    server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    let cert = server.signed_by(&key, &issuer)?;
    let account = KeyPair::generate()?;
    Ok(Pki {
        ca: issuer.pem(),
        server_cert: cert.pem(),
        server_key: key.serialize_pem(),
        account_key: account.serialize_pem(),
        account_public: account.public_key_pem(),
    })
}
