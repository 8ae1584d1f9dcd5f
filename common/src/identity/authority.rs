//! The built-in certificate authority.

use std::path::Path;
use std::time::Duration;

use rand::TryRngCore as _;
use rand::rngs::OsRng;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::token::sha256;
use super::{Credentials, Identity, IdentityError, LeafRequest, Role, files};

/// Validity of a leaf certificate.
pub const LEAF_LIFETIME: Duration = Duration::from_secs(24 * 3600);
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How slow a node's clock may be while it still accepts a fresh certificate.
const BACKDATED: Duration = Duration::from_secs(10 * 60);

/// A root certificate and the key that signs leaves.
#[derive(Debug)]
pub struct Authority {
    root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Opens the authority in `ca.pem` and `ca-key.pem` of a directory, or creates it when neither file exists.
    ///
    /// # Errors
    /// The files can't be read or created, or do not contain a certificate and its key.
    pub fn open_or_create(
        dir: &Path,
        trust_domain: &str,
        now_ms: i64,
    ) -> Result<Self, IdentityError> {
        let (root_path, key_path) = (dir.join("ca.pem"), dir.join("ca-key.pem"));
        let key = files::read_if_there(&key_path)?;
        if key.is_none() && files::read_if_there(&root_path)?.is_none() {
            files::create_private_dir(dir)?;
            let (root_pem, key_pem) = make(trust_domain, now_ms)?;
            // The key is written last: when both files exist, the authority is complete.
            files::write_private(&root_path, root_pem.as_bytes())?;
            files::write_private(&key_path, key_pem.as_bytes())?;
        }
        Self::open(&root_path, &key_path)
    }

    /// Opens an existing authority from PEM files of its certificate and its key.
    ///
    /// # Errors
    /// The files can't be read, or do not contain a certificate and its key.
    pub fn open(root_path: &Path, key_path: &Path) -> Result<Self, IdentityError> {
        let mut roots = files::certificates(&files::read(root_path)?, root_path)?;
        let key_pem = String::from_utf8(files::read(key_path)?).unwrap_or_default();
        let key = KeyPair::from_pem(&key_pem).map_err(|_| IdentityError::Content {
            path: key_path.to_owned(),
            what: "PEM private key of the authority",
        })?;
        let root = roots.swap_remove(0);
        let issuer = Issuer::from_ca_cert_der(&root, key).map_err(|source| {
            let what = "use the authority's certificate";
            IdentityError::X509 { what, source }
        })?;
        Ok(Self { root, issuer })
    }

    /// Returns the root certificate.
    #[must_use]
    pub const fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// Returns the pin by which a join token identifies this authority.
    ///
    /// # Errors
    /// The certificate is damaged.
    pub fn pin(&self) -> Result<[u8; 32], IdentityError> {
        pin_of(&self.root)
    }

    /// Issues a leaf for `identity` with the request's key, valid for `lifetime` from `now_ms`. Everything else in the
    /// request is ignored.
    ///
    /// # Errors
    /// The request is malformed, or not signed with its own key.
    pub fn issue(
        &self,
        request: &[u8],
        identity: &Identity,
        now_ms: i64,
        lifetime: Duration,
    ) -> Result<CertificateDer<'static>, IdentityError> {
        let fail = |what| move |source| IdentityError::X509 { what, source };
        let request = CertificateSigningRequestDer::from(request);
        let mut request = CertificateSigningRequestParams::from_der(&request)
            .map_err(fail("read certificate request"))?;
        request.params = leaf_params(identity, now_ms, lifetime)?;
        let leaf = request
            .signed_by(&self.issuer)
            .map_err(fail("sign certificate"))?;
        Ok(leaf.der().clone())
    }

    /// Creates a key and a leaf for it. The chain is the leaf, then the root.
    ///
    /// # Errors
    /// The system returns no random bytes.
    pub fn credentials(
        &self,
        identity: &Identity,
        now_ms: i64,
        lifetime: Duration,
    ) -> Result<Credentials, IdentityError> {
        let request = LeafRequest::new()?;
        let leaf = self.issue(request.request(), identity, now_ms, lifetime)?;
        request.with_chain(vec![leaf, self.root.clone()])
    }
}

/// SHA-256 of a certificate's public key (its SubjectPublicKeyInfo, as in RFC 7469).
///
/// # Errors
/// The certificate is damaged.
pub fn pin_of(certificate: &CertificateDer<'_>) -> Result<[u8; 32], IdentityError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| IdentityError::Damaged)?;
    Ok(sha256(parsed.public_key().raw))
}

fn make(trust_domain: &str, now_ms: i64) -> Result<(String, String), IdentityError> {
    let fail = |source| IdentityError::X509 {
        what: "make authority",
        source,
    };
    // Validate the trust domain before it goes into certificates that last ten years.
    Identity::new(trust_domain, "x", Role::Node, "x")?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(fail)?;
    let mut params = params(
        &format!("Tidemark CA {trust_domain}"),
        now_ms,
        AUTHORITY_LIFETIME,
    )?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root = params.self_signed(&key).map_err(fail)?;
    Ok((root.pem(), key.serialize_pem()))
}

fn leaf_params(
    identity: &Identity,
    now_ms: i64,
    lifetime: Duration,
) -> Result<CertificateParams, IdentityError> {
    let mut params = params(identity.name(), now_ms, lifetime)?;
    let uri = Ia5String::try_from(identity.to_string()).map_err(|source| IdentityError::X509 {
        what: "write identity",
        source,
    })?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match identity.role() {
        Role::Node => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Role::Aggregator => vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ],
    };
    Ok(params)
}

fn params(
    common_name: &str,
    now_ms: i64,
    lifetime: Duration,
) -> Result<CertificateParams, IdentityError> {
    let now = OffsetDateTime::from_unix_timestamp(now_ms.div_euclid(1000))
        .map_err(|_| IdentityError::Damaged)?;
    let mut serial = [0; 16];
    OsRng
        .try_fill_bytes(&mut serial)
        .map_err(|_| IdentityError::Random)?;
    serial[0] &= 0x7f; // Serials are positive.
    let mut name = DistinguishedName::new();
    // RFC 5280 allows 64 characters here; the identity is in the URI.
    name.push(
        DnType::CommonName,
        common_name.chars().take(64).collect::<String>(),
    );
    let mut params = CertificateParams::default();
    params.not_before = now - BACKDATED;
    params.not_after = now + lifetime;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = name;
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Validity;

    #[test]
    fn reopened_authority_is_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let now_ms = 1_700_000_000_000;
        let pki = dir.path().join("pki");
        let first = Authority::open_or_create(&pki, "t", now_ms).unwrap();
        let second = Authority::open_or_create(&pki, "other", now_ms).unwrap();
        assert_eq!(first.root(), second.root());
        assert_eq!(first.pin().unwrap(), second.pin().unwrap());
        std::fs::remove_file(pki.join("ca-key.pem")).unwrap();
        Authority::open_or_create(&pki, "t", now_ms).unwrap_err();
    }

    #[test]
    fn leaf_carries_the_granted_identity_and_is_renewed_after_two_thirds() {
        let dir = tempfile::tempdir().unwrap();
        let now_ms = 1_700_000_000_000;
        let authority = Authority::open_or_create(dir.path(), "t", now_ms).unwrap();
        let identity = Identity::new("t", "a", Role::Node, &"n".repeat(200)).unwrap();
        let leaf = authority
            .credentials(&identity, now_ms, LEAF_LIFETIME)
            .unwrap();
        assert_eq!(leaf.identity().unwrap(), identity);
        let validity = leaf.validity().unwrap();
        let want = Validity {
            not_before_ms: now_ms - 600_000,
            not_after_ms: now_ms + 86_400_000,
        };
        assert_eq!(validity, want);
        assert!(validity.contains(now_ms) && !validity.contains(now_ms + 86_400_001));
        assert_eq!(validity.renew_at_ms(), now_ms - 600_000 + 58_000_000);
    }

    #[test]
    fn malformed_requests_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path(), "t", 0).unwrap();
        let identity = Identity::new("t", "a", Role::Node, "n").unwrap();
        let good = LeafRequest::new().unwrap();
        let issue = |request: &[u8]| authority.issue(request, &identity, 0, LEAF_LIFETIME);
        let other_key = LeafRequest::new().unwrap();
        let leaf = issue(good.request()).unwrap();
        other_key.with_chain(vec![leaf]).unwrap_err();
        issue(&[]).unwrap_err();
        let mut bytes = good.request().to_vec();
        // The part covered by the request's signature.
        for index in 0..100 {
            bytes[index] ^= 0x55;
            assert!(issue(&bytes).is_err(), "byte {index}");
            bytes[index] ^= 0x55;
        }
    }
}
