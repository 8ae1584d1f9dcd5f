//! TLS configurations: TLS 1.3 only, ring, certificates on both ends, no resumption, no early data.
//!
//! A resumed session does not present the client's certificate again (RFC 8446, 2.2), so an agent could keep its session
//! after its certificate expired. A full handshake takes less than a millisecond.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, ring::default_provider, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};

use super::authority::pin_of;
use super::{Credentials, Identity, IdentityError, Role};
use crate::wire::{ALPN, ALPN_JOIN};

/// Server name for aggregators that are identified by their SPIFFE URI instead of a DNS name.
pub const ANY_AGGREGATOR: &str = "aggregator.tidemark.invalid";

fn root_store(roots: &[CertificateDer<'static>]) -> Result<RootCertStore, IdentityError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone())?;
    }
    Ok(store)
}

/// Returns the configuration of an aggregator. Clients present a certificate issued by one of `roots`, or none.
///
/// Agents that want to join have no certificate yet. **The caller that accepts a connection must first check that a
/// connection with protocol [`ALPN`] has a certificate** ([`Identity::of_certificate`]), and must serve only join requests
/// on [`ALPN_JOIN`].
///
/// # Errors
/// The certificates or the key are not valid.
pub fn server_config(
    own: &Credentials,
    roots: &[CertificateDer<'static>],
) -> Result<ServerConfig, IdentityError> {
    let provider = Arc::new(default_provider());
    let roots = Arc::new(root_store(roots)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .allow_unauthenticated()
        .build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(own.chain.clone(), own.key.clone_key())?;
    config.alpn_protocols = vec![ALPN.to_vec(), ALPN_JOIN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Returns the configuration of an agent with a certificate.
///
/// # Errors
/// The certificates or the key are not valid.
pub fn client_config(
    own: &Credentials,
    roots: &[CertificateDer<'static>],
) -> Result<ClientConfig, IdentityError> {
    let trust_domain = own.identity()?.trust_domain().to_owned();
    let trust = Trust::Roots(root_store(roots)?);
    let builder = client_builder(trust, Some(trust_domain))?;
    let config = builder.with_client_auth_cert(own.chain.clone(), own.key.clone_key())?;
    Ok(finish_client(config, ALPN))
}

/// The aggregators that a joining agent trusts.
#[derive(Debug, Clone)]
pub enum JoinTrust {
    /// Those with a certificate issued by one of these roots, read from a file.
    Roots(Vec<CertificateDer<'static>>),
    /// Those with a certificate of the authority whose public key has this hash ([`super::JoinToken::pin`]).
    Pin([u8; 32]),
}

/// Returns the configuration of a joining agent, which presents no certificate.
///
/// # Errors
/// The roots are not valid.
pub fn join_config(trust: JoinTrust) -> Result<ClientConfig, IdentityError> {
    let trust = match trust {
        JoinTrust::Roots(roots) => Trust::Roots(root_store(&roots)?),
        JoinTrust::Pin(pin) => Trust::Pin(pin),
    };
    let config = client_builder(trust, None)?.with_no_client_auth();
    Ok(finish_client(config, ALPN_JOIN))
}

type ClientBuilder = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn client_builder(
    trust: Trust,
    trust_domain: Option<String>,
) -> Result<ClientBuilder, IdentityError> {
    let provider = Arc::new(default_provider());
    let verifier = AggregatorVerifier {
        trust,
        trust_domain,
        provider: Arc::clone(&provider),
    };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

fn finish_client(mut config: ClientConfig, alpn: &[u8]) -> ClientConfig {
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config
}

#[derive(Debug)]
enum Trust {
    Roots(RootCertStore),
    Pin([u8; 32]),
}

/// Accepts a server whose certificate was issued by a trusted root and has an aggregator's identity.
///
/// The address proves nothing, because addresses of aggregators change. A certificate without any URI, such as one from
/// another authority, must contain the dialled name instead.
#[derive(Debug)]
struct AggregatorVerifier {
    trust: Trust,
    trust_domain: Option<String>,
    provider: Arc<CryptoProvider>,
}

impl AggregatorVerifier {
    fn check_identity(
        &self,
        certificate: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
        dialled: &ServerName<'_>,
    ) -> Result<(), Error> {
        let application_error =
            Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
        match Identity::of_certificate(certificate) {
            Ok(identity) => {
                let domain = self.trust_domain.as_deref();
                let same = domain.is_none_or(|domain| domain == identity.trust_domain());
                (same && identity.role() == Role::Aggregator)
                    .then_some(())
                    .ok_or(application_error)
            }
            Err(IdentityError::NoIdentity { found }) if found.is_empty() => {
                verify_server_name(parsed, dialled)
            }
            Err(_) => Err(application_error),
        }
    }
}

impl ServerCertVerifier for AggregatorVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned;
        let roots = match &self.trust {
            Trust::Roots(roots) => roots,
            Trust::Pin(pin) => {
                let mut store = RootCertStore::empty();
                let has_pin =
                    |found: &&CertificateDer<'_>| pin_of(found).is_ok_and(|of| of == *pin);
                if let Some(root) = intermediates.iter().find(has_pin) {
                    store.add(root.clone().into_owned())?;
                }
                pinned = store;
                &pinned
            }
        };
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)?;
        self.check_identity(end_entity, &parsed, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests;
