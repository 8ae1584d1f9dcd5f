//! Verifies a kubelet's certificate.
//!
//! By default a kubelet's certificate is signed by an authority that the kubelet created itself, names only the host, and stays in
//! use after its expiry. So there are three modes: a certificate signed by a given authority for the node's name or address, exactly
//! the certificate in a given file, or, only on request, any certificate.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::{Error as PemError, PemObject as _};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// What to trust.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// File of CA certificates.
    pub ca_file: Option<PathBuf>,
    /// File of the kubelet's own certificate.
    pub pinned_file: Option<PathBuf>,
    /// Accept any certificate.
    pub anybody: bool,
    /// Name of the node, which certificates contain rather than its address.
    pub node: String,
}

/// Why certificates cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file cannot be read or contains no certificate.
    #[error("read certificates of {}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        source: PemError,
    },
    /// The CA certificates are unusable.
    #[error("use roots of {}", path.display())]
    Roots {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        source: VerifierBuilderError,
    },
    /// Neither file is configured.
    #[error("no --kubelet.ca-file and no --kubelet.pinned-cert-file to know the kubelet by")]
    Nothing,
}

/// Certificate verifier for a [`Trust`].
#[derive(Debug)]
pub(super) struct KubeletVerifier {
    roots: Option<Arc<WebPkiServerVerifier>>,
    pinned: Vec<CertificateDer<'static>>,
    anybody: bool,
    node: Option<ServerName<'static>>,
    provider: Arc<CryptoProvider>,
}

impl KubeletVerifier {
    /// Reads the files. This happens for each connection, because both files are replaced while the agent runs.
    pub(super) fn new(trust: &Trust) -> Result<Self, TrustError> {
        let provider = Arc::new(ring::default_provider());
        let roots = trust
            .ca_file
            .as_deref()
            .map(|path| roots(path, &provider))
            .transpose()?;
        let pinned = match &trust.pinned_file {
            // The file is missing until the kubelet has written its first certificate; the CA certificates may suffice.
            Some(path) if roots.is_none() || path.try_exists().unwrap_or(true) => {
                certificates(path)?
            }
            _ => Vec::new(),
        };
        if roots.is_none() && pinned.is_empty() && !trust.anybody {
            return Err(TrustError::Nothing);
        }
        let node = ServerName::try_from(trust.node.clone()).ok();
        Ok(Self {
            roots,
            pinned,
            anybody: trust.anybody,
            node,
            provider,
        })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let error = |source| TrustError::Read {
        path: path.to_owned(),
        source,
    };
    let text = fs::read(path).map_err(|source| error(PemError::Io(source)))?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(error)?;
    if found.is_empty() {
        Err(error(PemError::NoItemsFound))
    } else {
        Ok(found)
    }
}

fn roots(
    path: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, TrustError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates(path)?);
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
        .build()
        .map_err(|source| TrustError::Roots {
            path: path.to_owned(),
            source,
        })
}

impl ServerCertVerifier for KubeletVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The first certificate in kubelet.crt is the kubelet's own; the key of its issuer is discarded after use.
        if self.anybody
            || self
                .pinned
                .first()
                .is_some_and(|pinned| pinned == end_entity)
        {
            return Ok(ServerCertVerified::assertion());
        }
        let Some(roots) = &self.roots else {
            return Err(Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            ));
        };
        let verify = |name: &ServerName<'_>| {
            roots.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
        };
        match &self.node {
            Some(node) => verify(node).or_else(|_| verify(server_name)),
            None => verify(server_name),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
