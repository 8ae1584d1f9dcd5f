//! Keys, certificate requests, and how long a certificate is good.

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Identity, IdentityError};

/// A fresh key and the request for a certificate on it.
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
    /// Makes a key (ECDSA P-256) and a request. It names nobody: the authority puts in who asks.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn new() -> Result<Self, IdentityError> {
        let fail = |source| IdentityError::X509 {
            what: "make key and certificate request",
            source,
        };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(fail)?;
        let params = CertificateParams::default();
        let request = params.serialize_request(&key).map_err(fail)?;
        let request = request.der().to_vec();
        Ok(Self { key, request })
    }

    /// The request, PKCS #10 DER.
    #[must_use]
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Joins the key with the certificate that was issued for it.
    ///
    /// # Errors
    /// The certificate is for another key, or damaged.
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
    /// The leaf, then what leads to the root.
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
    /// The leaf's identity.
    ///
    /// # Errors
    /// There is no leaf, or it has none.
    pub fn identity(&self) -> Result<Identity, IdentityError> {
        Identity::of_certificate(self.chain.first().ok_or(IdentityError::Damaged)?)
    }

    /// When the leaf is good.
    ///
    /// # Errors
    /// There is no leaf, or it is damaged.
    pub fn validity(&self) -> Result<Validity, IdentityError> {
        Validity::of_certificate(self.chain.first().ok_or(IdentityError::Damaged)?)
    }
}

/// The time in which a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First moment, milliseconds since the Unix epoch.
    pub not_before_ms: i64,
    /// Last moment, milliseconds since the Unix epoch.
    pub not_after_ms: i64,
}

impl Validity {
    /// That of a certificate.
    ///
    /// # Errors
    /// It is damaged.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| IdentityError::Damaged)?;
        let validity = parsed.validity();
        Ok(Self {
            not_before_ms: validity.not_before.timestamp().saturating_mul(1000),
            not_after_ms: validity.not_after.timestamp().saturating_mul(1000),
        })
    }

    /// When a new certificate is due: after two thirds of the time.
    #[must_use]
    pub const fn renew_at_ms(&self) -> i64 {
        let life = self.not_after_ms.saturating_sub(self.not_before_ms);
        self.not_before_ms.saturating_add(life / 3 * 2)
    }

    /// Whether the certificate is good at that time.
    #[must_use]
    pub const fn contains(&self, now_ms: i64) -> bool {
        self.not_before_ms <= now_ms && now_ms <= self.not_after_ms
    }
}
