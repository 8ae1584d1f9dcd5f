//! The node's certificate: from files, kept from an earlier start, or to be requested by joining.

use std::path::{Path, PathBuf};

use common::identity::tls::JoinTrust;
use common::identity::{Credentials, IdentityError, JoinToken, Role, files};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Where this node's identity comes from.
#[derive(Debug, Clone)]
pub struct IdentityFiles {
    /// Directory that keeps a certificate obtained by joining (mode 0700, key 0600), usually the spool's.
    pub state_path: PathBuf,
    /// `--join.token-file`: the token that authorizes the request for a first certificate.
    pub join_token_file: Option<PathBuf>,
    /// `--tls.ca-file`: roots to trust instead of the one that the token names. Read again for each connection that needs it.
    pub ca_file: Option<PathBuf>,
    /// `--tls.cert-file` and `--tls.key-file`: a certificate issued elsewhere. It is never renewed and read again for each
    /// connection; the node does not join.
    pub cert_and_key_files: Option<(PathBuf, PathBuf)>,
}

/// A node's certificate with its key, and the roots to verify aggregators with.
#[derive(Debug, Clone)]
pub(super) struct NodeCredentials {
    pub(super) own: Credentials,
    pub(super) roots: Vec<CertificateDer<'static>>,
    /// Whether the aggregator renews the certificate over the connection; false for one from files.
    pub(super) renewable: bool,
}

impl IdentityFiles {
    /// Returns whether a certificate exists or can be obtained.
    pub(super) fn can_identify(&self) -> Result<bool, IdentityError> {
        let given = self.cert_and_key_files.is_some() || self.join_token_file.is_some();
        Ok(given || files::read_if_there(&self.kept_path())?.is_some())
    }

    /// Returns whether the node can join.
    pub(super) const fn can_join(&self) -> bool {
        self.cert_and_key_files.is_none() && self.join_token_file.is_some()
    }

    /// Loads the certificate if it is valid at `now_ms` for this node.
    ///
    /// An unusable certificate of an earlier start is not an error, because joining replaces it.
    pub(super) fn load(
        &self,
        node: &str,
        now_ms: i64,
    ) -> Result<Option<NodeCredentials>, IdentityError> {
        if let Some((cert, key)) = &self.cert_and_key_files {
            return self.load_given(cert, key).map(Some);
        }
        let kept = match self.load_kept() {
            Ok(kept) => kept,
            Err(error) => {
                let error = common::report::chain(&error);
                tracing::warn!(error, "ignoring the certificate of an earlier start");
                None
            }
        };
        let is_good = |credentials: &NodeCredentials| {
            let identity = credentials.own.identity();
            let ours = identity.is_ok_and(|id| id.role() == Role::Node && id.name() == node);
            ours && credentials
                .own
                .validity()
                .is_ok_and(|time| time.contains(now_ms))
        };
        Ok(kept.filter(is_good))
    }

    fn load_given(&self, cert: &Path, key: &Path) -> Result<NodeCredentials, IdentityError> {
        let own = Credentials {
            chain: files::certificates(&files::read(cert)?, cert)?,
            key: files::private_key(&files::read(key)?, key)?,
        };
        let roots = match &self.ca_file {
            Some(path) => files::certificates(&files::read(path)?, path)?,
            None => {
                return Err(IdentityError::Content {
                    path: cert.to_owned(),
                    what: "root to trust (give --tls.ca-file)",
                });
            }
        };
        Ok(NodeCredentials {
            own,
            roots,
            renewable: false,
        })
    }

    fn kept_path(&self) -> PathBuf {
        self.state_path.join("node.pem")
    }

    fn kept_roots_path(&self) -> PathBuf {
        self.state_path.join("ca.pem")
    }

    fn load_kept(&self) -> Result<Option<NodeCredentials>, IdentityError> {
        let path = self.kept_path();
        let Some(pem) = files::read_if_there(&path)? else {
            return Ok(None);
        };
        let own = Credentials {
            chain: files::certificates(&pem, &path)?,
            key: files::private_key(&pem, &path)?,
        };
        let roots = match &self.ca_file {
            Some(path) => files::certificates(&files::read(path)?, path)?,
            None => {
                let path = self.kept_roots_path();
                files::certificates(&files::read(&path)?, &path)?
            }
        };
        Ok(Some(NodeCredentials {
            own,
            roots,
            renewable: true,
        }))
    }

    /// Saves a certificate for the next start.
    pub(super) fn keep(&self, credentials: &NodeCredentials) -> Result<(), IdentityError> {
        files::create_private_dir(&self.state_path)?;
        let roots: String = credentials
            .roots
            .iter()
            .map(|root| files::to_pem("CERTIFICATE", root))
            .collect();
        files::write_private(&self.kept_roots_path(), roots.as_bytes())?;
        let label = match &credentials.own.key {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        let mut pem = files::to_pem(label, credentials.own.key.secret_der());
        for certificate in &credentials.own.chain {
            pem.push_str(&files::to_pem("CERTIFICATE", certificate));
        }
        files::write_private(&self.kept_path(), pem.as_bytes())
    }

    /// Reads the token to join with and whom it may be shown to. Files are read each time, because they are rotated.
    pub(super) fn token(&self) -> Result<Option<(JoinCredential, JoinTrust)>, IdentityError> {
        let Some(path) = &self.join_token_file else {
            return Ok(None);
        };
        let text = String::from_utf8(files::read(path)?).map_err(|_| IdentityError::Token)?;
        let roots = match &self.ca_file {
            Some(path) => Some(files::certificates(&files::read(path)?, path)?),
            None => None,
        };
        let text = text.trim_ascii();
        if let Some(roots) = &roots
            && is_service_account_token(text)
        {
            let credential = JoinCredential {
                id: "Kubernetes service account".to_owned(),
                text: text.to_owned(),
            };
            return Ok(Some((credential, JoinTrust::Roots(roots.clone()))));
        }
        let token = JoinToken::parse(text)?;
        let credential = JoinCredential {
            id: token.id(),
            text: token.credential(),
        };
        let trust = roots.map_or(JoinTrust::Pin(*token.pin()), JoinTrust::Roots);
        Ok(Some((credential, trust)))
    }
}

/// Token that a node without a certificate shows to an aggregator.
pub(super) struct JoinCredential {
    /// Name for logs.
    pub(super) id: String,
    /// The secret.
    pub(super) text: String,
}

/// Returns whether this is the token of a Kubernetes service account, a JSON Web Token. It does not name an authority, so it is
/// shown only to an aggregator that `--tls.ca-file` verifies.
fn is_service_account_token(text: &str) -> bool {
    text.starts_with("eyJ") && text.bytes().filter(|&byte| byte == b'.').count() == 2
}
