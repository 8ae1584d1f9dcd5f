//! The node's certificate: from files, from the last start, or by joining.

use std::path::{Path, PathBuf};

use common::identity::tls::JoinTrust;
use common::identity::{Credentials, IdentityError, JoinToken, Role, files};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Where this node's identity comes from.
#[derive(Debug, Clone)]
pub struct IdentityFiles {
    /// Directory in which a certificate got by joining is kept (mode 0700, key 0600): the spool's, usually.
    pub state_path: PathBuf,
    /// `--join.token-file`: the token with which a first certificate is asked for.
    pub join_token_file: Option<PathBuf>,
    /// `--tls.ca-file`: roots to trust in place of the one that the token names.
    pub ca_file: Option<PathBuf>,
    /// `--tls.cert-file` and `--tls.key-file`: a certificate made elsewhere; no joining, no renewal, read again as it
    /// changes.
    pub cert_and_key_files: Option<(PathBuf, PathBuf)>,
}

/// A certificate, and whom to trust with it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) own: Credentials,
    pub(super) roots: Vec<CertificateDer<'static>>,
    /// Whether it is renewed over the connection; one from files is not.
    pub(super) renewable: bool,
}

impl IdentityFiles {
    /// Whether there is any way to a certificate.
    pub(super) fn is_possible(&self) -> Result<bool, IdentityError> {
        let given = self.cert_and_key_files.is_some() || self.join_token_file.is_some();
        Ok(given || files::read_if_there(&self.kept_path())?.is_some())
    }

    /// The certificate there is, if it is good at `now_ms` for this node.
    ///
    /// One of the last start that is of no use is no error: joining makes another.
    pub(super) fn load(&self, node: &str, now_ms: i64) -> Result<Option<Known>, IdentityError> {
        if let Some((cert, key)) = &self.cert_and_key_files {
            return self.load_given(cert, key).map(Some);
        }
        let kept = match self.load_kept() {
            Ok(kept) => kept,
            Err(error) => {
                tracing::warn!(error = %common::report::chain(&error), "kept certificate is of no use");
                None
            }
        };
        let is_good = |known: &Known| {
            let identity = known.own.identity();
            let ours = identity.is_ok_and(|id| id.role() == Role::Node && id.name() == node);
            ours && known.own.validity().is_ok_and(|time| time.contains(now_ms))
        };
        Ok(kept.filter(is_good))
    }

    fn load_given(&self, cert: &Path, key: &Path) -> Result<Known, IdentityError> {
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
        Ok(Known {
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

    fn load_kept(&self) -> Result<Option<Known>, IdentityError> {
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
        Ok(Some(Known {
            own,
            roots,
            renewable: true,
        }))
    }

    /// Keeps a certificate for the next start.
    pub(super) fn keep(&self, known: &Known) -> Result<(), IdentityError> {
        files::create_private_dir(&self.state_path)?;
        let roots: String = known
            .roots
            .iter()
            .map(|root| files::to_pem("CERTIFICATE", root))
            .collect();
        files::write_private(&self.kept_roots_path(), roots.as_bytes())?;
        let label = match &known.own.key {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        let mut pem = files::to_pem(label, known.own.key.secret_der());
        for certificate in &known.own.chain {
            pem.push_str(&files::to_pem("CERTIFICATE", certificate));
        }
        files::write_private(&self.kept_path(), pem.as_bytes())
    }

    /// What to show, and whom to show it to.
    pub(super) fn token(&self) -> Result<Option<(Credential, JoinTrust)>, IdentityError> {
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
            let credential = Credential {
                id: "Kubernetes service account".to_owned(),
                text: text.to_owned(),
            };
            return Ok(Some((credential, JoinTrust::Roots(roots.clone()))));
        }
        let token = JoinToken::parse(text)?;
        let credential = Credential {
            id: token.id(),
            text: token.credential(),
        };
        let trust = roots.map_or(JoinTrust::Pin(*token.pin()), JoinTrust::Roots);
        Ok(Some((credential, trust)))
    }
}

/// What a node without certificate shows an aggregator.
pub(super) struct Credential {
    /// For the log.
    pub(super) id: String,
    /// Secret.
    pub(super) text: String,
}

/// Whether this is the token of a Kubernetes service account: a JSON web token. It names no authority, so it is shown
/// only to an aggregator that `--tls.ca-file` verifies.
fn is_service_account_token(text: &str) -> bool {
    text.starts_with("eyJ") && text.bytes().filter(|&byte| byte == b'.').count() == 2
}
