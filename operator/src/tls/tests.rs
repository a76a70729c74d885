use std::os::unix::fs::PermissionsExt as _;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};

use super::*;

/// Both ends of a handshake in memory; the first error of either end.
fn handshake(
    authority: &Authority,
    ca_pem: &str,
    host: &str,
) -> Result<CertificateDer<'static>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(authority.server_config().unwrap()).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(client.peer_certificates().unwrap()[0].clone().into_owned())
}

const HOST: &str = "vitrine-gateway.vitrine-system.svc";

#[test]
fn the_certificate_holds_for_the_host_and_localhost_and_for_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open(dir.path(), HOST).unwrap();
    for host in [HOST, "localhost"] {
        handshake(&authority, authority.ca_pem(), host).unwrap();
    }
    let error = handshake(&authority, authority.ca_pem(), "other.vitrine-system.svc").unwrap_err();
    assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error}");
    let elsewhere = Authority::open(&dir.path().join("other"), HOST).unwrap();
    let error = handshake(&authority, elsewhere.ca_pem(), HOST).unwrap_err();
    assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error}");
}

#[test]
fn an_address_of_numbers_is_a_host_too() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open(dir.path(), "127.0.0.1").unwrap();
    handshake(&authority, authority.ca_pem(), "127.0.0.1").unwrap();
}

#[test]
fn the_authority_survives_a_restart_and_only_its_user_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let first = Authority::open(dir.path(), HOST).unwrap();
    let second = Authority::open(dir.path(), HOST).unwrap();
    assert_eq!(first.ca_pem(), second.ca_pem());
    // a pod that was configured before the restart trusts the server after it
    handshake(&second, first.ca_pem(), HOST).unwrap();
    assert!(!first.ca_pem().contains("PRIVATE"));
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, [FILE]);
    let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_certificate_is_renewed_in_its_last_month_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open(dir.path(), HOST).unwrap();
    let before = handshake(&authority, authority.ca_pem(), HOST).unwrap();
    let now = OffsetDateTime::now_utc();
    assert!(!authority.renew().unwrap());
    assert!(!authority.renew_at(now + LEAF_LIFE - RENEW_BELOW - Duration::HOUR).unwrap());
    assert_eq!(handshake(&authority, authority.ca_pem(), HOST).unwrap(), before);
    assert!(authority.renew_at(now + LEAF_LIFE - RENEW_BELOW + Duration::HOUR).unwrap());
    let current = authority.leaf.current.read().unwrap();
    assert_ne!(current.key.cert[0], before);
    assert!(current.until > now + LEAF_LIFE);
}

#[test]
fn a_damaged_authority_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    drop(Authority::open(dir.path(), HOST).unwrap());
    let whole = fs::read_to_string(&path).unwrap();
    for damaged in ["", "nonsense", &whole[..whole.len() / 2], &whole[200..]] {
        fs::write(&path, damaged).unwrap();
        let error = Authority::open(dir.path(), HOST).unwrap_err();
        assert!(matches!(error, Error::NotAnAuthority { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
    }
}

#[test]
fn a_torn_first_start_is_repeated() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE).with_extension("part"), "torn").unwrap();
    let authority = Authority::open(dir.path(), HOST).unwrap();
    handshake(&authority, authority.ca_pem(), HOST).unwrap();
}

#[test]
fn the_host_is_taken_from_the_address() {
    assert_eq!(host_of("https://vitrine-gateway.sys.svc:8443").as_deref(), Some("vitrine-gateway.sys.svc"));
    assert_eq!(host_of("https://[::1]:8443/x").as_deref(), Some("::1"));
    assert_eq!(host_of("/x"), None);
}
