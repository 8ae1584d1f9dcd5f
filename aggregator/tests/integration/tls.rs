//! Tests of HTTPS with and without client certificates, using `tidemarkctl`.

use std::fs;
use std::path::Path;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::harness::Aggregator;

/// Writes an authority and its certificate for 127.0.0.1 to files.
fn make_certificates(dir: &Path) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = Issuer::from_params(&ca, &ca_key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = server.signed_by(&key, &issuer).unwrap();
    fs::write(dir.join("ca.pem"), ca_certificate.pem()).unwrap();
    fs::write(dir.join("server.pem"), certificate.pem()).unwrap();
    fs::write(dir.join("server.key"), key.serialize_pem()).unwrap();
}

fn start(dir: &Path, more: &str) -> Aggregator {
    make_certificates(dir);
    let web = dir.join("web.yml");
    // File names are relative to the file that contains them.
    let text =
        format!("tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n{more}");
    fs::write(&web, text).unwrap();
    Aggregator::start_with(&["--web.config.file", web.to_str().unwrap()])
}

fn check_ready(aggregator: &Aggregator, scheme: &str, ca: &Path) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidemarkctl"))
        .arg(format!("--url={scheme}://{}", aggregator.address))
        .arg("--tls.ca-file")
        .arg(ca)
        .args(["--timeout=20", "check", "ready"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), text)
}

#[test]
fn https_is_served_to_clients_that_trust_the_authority() {
    let dir = tempfile::tempdir().unwrap();
    let aggregator = start(dir.path(), "");
    let ca = dir.path().join("ca.pem");
    assert_eq!(check_ready(&aggregator, "https", &ca).0, Some(0));
    let (code, text) = check_ready(&aggregator, "http", &ca);
    assert_eq!(code, Some(1), "{text}");
    let stranger = tempfile::tempdir().unwrap();
    make_certificates(stranger.path());
    let (code, text) = check_ready(&aggregator, "https", &stranger.path().join("ca.pem"));
    assert_eq!(code, Some(1));
    assert!(text.contains("TLS handshake with"), "{text}");
    aggregator.stop();
}

#[test]
fn client_without_certificate_is_refused_when_one_is_required() {
    let dir = tempfile::tempdir().unwrap();
    let more = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n";
    let aggregator = start(dir.path(), more);
    let (code, text) = check_ready(&aggregator, "https", &dir.path().join("ca.pem"));
    assert_eq!(code, Some(1), "{text}");
    aggregator.stop();
}
