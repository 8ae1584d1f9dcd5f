//! Keys, certificate requests, and the validity of certificates.

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Identity, IdentityError};

/// A fresh key and a certificate request for it.
pub struct LeafRequest {
    key: KeyPair,
    request: Vec<u8>,
}

impl std::fmt::Debug for LeafRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LeafRequest")
    }
}

impl LeafRequest {
    /// Creates an ECDSA P-256 key and a request. The request has no name: the authority adds the identity.
    ///
    /// # Errors
    /// The system returns no random bytes.
    pub fn new() -> Result<Self, IdentityError> {
        let fail = |source| IdentityError::X509 {
            what: "create key and certificate request",
            source,
        };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(fail)?;
        let params = CertificateParams::default();
        let request = params.serialize_request(&key).map_err(fail)?;
        let request = request.der().to_vec();
        Ok(Self { key, request })
    }

    /// Returns the request, in PKCS #10 DER.
    #[must_use]
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Combines the key with the certificate issued for it.
    ///
    /// # Errors
    /// The certificate is for another key, or malformed.
    pub fn with_chain(
        self,
        chain: Vec<CertificateDer<'static>>,
    ) -> Result<Credentials, IdentityError> {
        let leaf = chain.first().ok_or(IdentityError::Damaged)?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| IdentityError::Damaged)?;
        let own = parsed.public_key().subject_public_key.data.as_ref();
        if own != self.key.public_key_raw() {
            return Err(IdentityError::Damaged);
        }
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der()).into();
        Ok(Credentials { chain, key })
    }
}

/// A certificate and its key.
#[derive(Debug)]
pub struct Credentials {
    /// The leaf, then the intermediates up to the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key. Its `Debug` hides it.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for Credentials {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        }
    }
}

impl Credentials {
    /// Returns the leaf's identity.
    ///
    /// # Errors
    /// There is no leaf, or it has no identity.
    pub fn identity(&self) -> Result<Identity, IdentityError> {
        Identity::of_certificate(self.chain.first().ok_or(IdentityError::Damaged)?)
    }

    /// Returns the leaf's validity.
    ///
    /// # Errors
    /// There is no leaf, or it is malformed.
    pub fn validity(&self) -> Result<Validity, IdentityError> {
        Validity::of_certificate(self.chain.first().ok_or(IdentityError::Damaged)?)
    }
}

/// The validity period of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Start, in milliseconds since the Unix epoch.
    pub not_before_ms: i64,
    /// End, inclusive, in milliseconds since the Unix epoch.
    pub not_after_ms: i64,
}

impl Validity {
    /// Reads the validity of a certificate.
    ///
    /// # Errors
    /// The certificate is malformed.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| IdentityError::Damaged)?;
        let validity = parsed.validity();
        Ok(Self {
            not_before_ms: validity.not_before.timestamp().saturating_mul(1000),
            not_after_ms: validity.not_after.timestamp().saturating_mul(1000),
        })
    }

    /// Returns the time of renewal: after two thirds of the period.
    #[must_use]
    pub const fn renew_at_ms(&self) -> i64 {
        let life = self.not_after_ms.saturating_sub(self.not_before_ms);
        self.not_before_ms.saturating_add(life / 3 * 2)
    }

    /// Whether the certificate is valid at this time.
    #[must_use]
    pub const fn contains(&self, now_ms: i64) -> bool {
        self.not_before_ms <= now_ms && now_ms <= self.not_after_ms
    }
}
