//! A cluster without nodes around the real operator: apiserver and etcd, scripted workloads, and a proxy
//! that counts and disturbs. Used by the fault campaigns (`main.rs`) and by the scale benchmark (`bench/`).

pub mod completer;
pub mod operator;
pub mod pki;
pub mod process;
pub mod proxy;
pub mod rig;

/// Chooses the cryptography of TLS for the whole process; once, before anything connects.
pub fn install_tls() -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider was there already"))
}
