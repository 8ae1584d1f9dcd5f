//! TLS of outgoing connections.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

/// Which servers a client trusts, and which certificate it shows.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct TlsSettings {
    /// PEM of the trusted authorities; the public ones if absent.
    pub ca_pem: Option<String>,
    /// PEM of the client's certificate and its chain.
    pub cert_pem: Option<String>,
    /// PEM of the certificate's key. `Debug` does not show it.
    pub key_pem: Option<String>,
    /// The name to expect in the server's certificate; the host of the URL if absent.
    pub server_name: Option<String>,
    /// Whether any certificate is accepted.
    pub insecure_skip_verify: bool,
    /// Versions that may not be negotiated.
    pub refused_versions: RefusedVersions,
}

/// A version of TLS that a client does not speak, besides those before 1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RefusedVersions {
    /// Neither.
    #[default]
    None,
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSettings")
            .field("has_ca", &self.ca_pem.is_some())
            .field("has_certificate", &self.cert_pem.is_some())
            .field("server_name", &self.server_name)
            .field("insecure_skip_verify", &self.insecure_skip_verify)
            .finish_non_exhaustive()
    }
}

/// Why TLS settings can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The provider lacks a cipher that TLS needs.
    #[error("protocol versions")]
    Versions(#[source] rustls::Error),
    /// The PEM of the authorities is damaged.
    #[error("authority's certificate")]
    CaPem(#[source] pem::Error),
    /// An authority's certificate can't be trusted.
    #[error("authority's certificate")]
    Ca(#[source] rustls::Error),
    /// The PEM of the client's certificate is damaged.
    #[error("client certificate")]
    CertificatePem(#[source] pem::Error),
    /// The PEM of the client's key is damaged.
    #[error("client key")]
    KeyPem(#[source] pem::Error),
    /// Certificate and key do not fit together.
    #[error("client certificate and key")]
    Pair(#[source] rustls::Error),
    /// One of certificate and key is missing.
    #[error("a client certificate needs both certificate and key")]
    HalfPair,
}

static ONLY_TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
static ONLY_TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// Builds the client side of TLS.
///
/// # Errors
/// A certificate or key can't be used.
pub(super) fn client(settings: &TlsSettings) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(match settings.refused_versions {
            RefusedVersions::None => rustls::DEFAULT_VERSIONS,
            RefusedVersions::Tls12 => ONLY_TLS13,
            RefusedVersions::Tls13 => ONLY_TLS12,
        })
        .map_err(TlsError::Versions)?;
    let builder = if settings.insecure_skip_verify {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        builder.with_root_certificates(roots(settings)?)
    };
    match (&settings.cert_pem, &settings.key_pem) {
        (Some(cert), Some(key)) => {
            let chain = certificates(cert).map_err(TlsError::CertificatePem)?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(TlsError::KeyPem)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(TlsError::Pair)
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(_), None) | (None, Some(_)) => Err(TlsError::HalfPair),
    }
}

fn roots(settings: &TlsSettings) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match &settings.ca_pem {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(pem) => {
            for certificate in certificates(pem).map_err(TlsError::CaPem)? {
                roots.add(certificate).map_err(TlsError::Ca)?;
            }
        }
    }
    Ok(roots)
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect()
}

/// Accepts any certificate, for `insecure_skip_verify`. The handshake's signatures are still checked.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
