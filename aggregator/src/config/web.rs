//! The web configuration file, in exporter-toolkit's format: TLS, basic authentication, extra headers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

/// Why a web configuration file was refused.
#[derive(Debug, thiserror::Error)]
pub enum WebConfigError {
    /// A file can't be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is not YAML, or has an unknown field.
    #[error("{}:{line}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        message: String,
    },
    /// A file contains no certificate or key.
    #[error("{} contains no usable {what}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should contain.
        what: &'static str,
    },
    /// The settings are invalid or contradict each other.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// Certificate and key do not match, or a TLS version is not supported.
    #[error("set up TLS")]
    Tls(#[from] rustls::Error),
    /// The client CA can't be used.
    #[error("set up client certificates")]
    ClientCa(#[from] rustls::server::VerifierBuilderError),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    tls_server_config: Option<TlsSection>,
    http_server_config: HttpSection,
    basic_auth_users: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HttpSection {
    http2: Option<bool>,
    headers: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TlsSection {
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    cert: Option<String>,
    key: Option<String>,
    client_auth_type: String,
    client_ca_file: Option<PathBuf>,
    client_ca: Option<String>,
    min_version: String,
    max_version: String,
}

/// TLS and authentication of HTTP.
#[derive(Debug, Clone, Default)]
pub struct WebConfig {
    /// TLS; `None` for plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// Whether a client must present a certificate of the client CA.
    pub client_certificate_required: bool,
    /// User names and bcrypt hashes. Empty: no basic authentication.
    pub users: BTreeMap<String, String>,
    /// Headers added to every response.
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
}

impl WebConfig {
    /// Reads and checks a file. File names in it are relative to its directory.
    ///
    /// # Errors
    /// See [`WebConfigError`].
    pub fn load(path: &Path) -> Result<Self, WebConfigError> {
        let text = read(path)?;
        let file: Option<File> = common::yaml::from_slice(&text).map_err(|error| {
            let bare = error.without_snippet();
            WebConfigError::Parse {
                path: path.to_owned(),
                line: bare.location().map_or(0, |location| location.line()),
                message: bare
                    .to_string()
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            }
        })?;
        let file = file.unwrap_or_default();
        let invalid = |reason: String| WebConfigError::Invalid {
            path: path.to_owned(),
            reason,
        };
        if file.http_server_config.http2 == Some(true) {
            return Err(invalid("http_server_config.http2 is not supported".into()));
        }
        for (user, hash) in &file.basic_auth_users {
            if user.is_empty() || user.contains(':') {
                return Err(invalid(format!(
                    "user name {user:?} can't be used with basic authentication"
                )));
            }
            if hash.parse::<bcrypt::HashParts>().is_err() {
                return Err(invalid(format!(
                    "basic_auth_users.{user}: not a bcrypt hash"
                )));
            }
        }
        let headers = headers(&file.http_server_config.headers).map_err(invalid)?;
        let client_certificate_required = file.tls_server_config.as_ref().is_some_and(|tls| {
            matches!(
                tls.client_auth_type.as_str(),
                "RequireAndVerifyClientCert" | "RequireAnyClientCert"
            )
        });
        let tls = file
            .tls_server_config
            .map(|tls| server_config(&tls, path))
            .transpose()?;
        Ok(Self {
            tls: tls.map(Arc::new),
            client_certificate_required,
            users: file.basic_auth_users,
            headers,
        })
    }

    /// Returns whether clients must authenticate.
    #[must_use]
    pub fn authenticates(&self) -> bool {
        !self.users.is_empty() || self.client_certificate_required
    }
}

fn headers(
    given: &BTreeMap<String, String>,
) -> Result<Vec<(http::HeaderName, http::HeaderValue)>, String> {
    given
        .iter()
        .map(|(name, value)| {
            let bad = || format!("http_server_config.headers.{name} is not a valid header");
            Ok((
                name.parse().map_err(|_| bad())?,
                value.parse().map_err(|_| bad())?,
            ))
        })
        .collect()
}

fn server_config(tls: &TlsSection, path: &Path) -> Result<ServerConfig, WebConfigError> {
    let invalid = |reason: &str| WebConfigError::Invalid {
        path: path.to_owned(),
        reason: format!("tls_server_config: {reason}"),
    };
    let base = path.parent().unwrap_or_else(|| Path::new("."));
    let cert = pem(base, path, tls.cert_file.as_deref(), tls.cert.as_deref())?
        .ok_or_else(|| invalid("cert_file is missing"))?;
    let key = pem(base, path, tls.key_file.as_deref(), tls.key.as_deref())?
        .ok_or_else(|| invalid("key_file is missing"))?;
    let client_ca = pem(
        base,
        path,
        tls.client_ca_file.as_deref(),
        tls.client_ca.as_deref(),
    )?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions(tls).map_err(|reason| invalid(&reason))?)?;
    let builder = match (tls.client_auth_type.as_str(), client_ca) {
        ("" | "NoClientCert", None) => builder.with_no_client_auth(),
        ("" | "NoClientCert", Some(_)) => {
            return Err(invalid("client_ca_file without a client_auth_type"));
        }
        ("RequireAndVerifyClientCert", Some(ca)) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots(&ca)?.into(), provider);
            builder.with_client_cert_verifier(verifier.build()?)
        }
        ("VerifyClientCertIfGiven", Some(ca)) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots(&ca)?.into(), provider);
            builder.with_client_cert_verifier(verifier.allow_unauthenticated().build()?)
        }
        ("RequireAndVerifyClientCert" | "VerifyClientCertIfGiven", None) => {
            return Err(invalid("client_ca_file is missing"));
        }
        _ => {
            return Err(invalid(
                "client_auth_type is not supported (use RequireAndVerifyClientCert or VerifyClientCertIfGiven)",
            ));
        }
    };
    let certificates = certificates(&cert)?;
    let key = PrivateKeyDer::from_pem_slice(&key.text).map_err(|_| key.error("private key"))?;
    let mut config = builder.with_single_cert(certificates, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn versions(tls: &TlsSection) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let number = |text: &str, default: u8| match text {
        "" => Ok(default),
        "TLS10" => Ok(10),
        "TLS11" => Ok(11),
        "TLS12" => Ok(12),
        "TLS13" => Ok(13),
        other => Err(format!("{other:?} is not a TLS version")),
    };
    let (low, high) = (number(&tls.min_version, 12)?, number(&tls.max_version, 13)?);
    if low < 12 {
        return Err("min_version below TLS12 is not supported".to_owned());
    }
    let all = [(12, &rustls::version::TLS12), (13, &rustls::version::TLS13)];
    let chosen: Vec<_> = all
        .into_iter()
        .filter(|(version, _)| (low..=high).contains(version))
        .map(|(_, version)| version)
        .collect();
    if chosen.is_empty() {
        return Err("min_version is above max_version".to_owned());
    }
    Ok(chosen)
}

/// PEM text and its source.
struct Pem {
    text: Vec<u8>,
    origin: PathBuf,
}

impl Pem {
    fn error(&self, what: &'static str) -> WebConfigError {
        WebConfigError::Pem {
            path: self.origin.clone(),
            what,
        }
    }
}

fn pem(
    base: &Path,
    config: &Path,
    file: Option<&Path>,
    inline: Option<&str>,
) -> Result<Option<Pem>, WebConfigError> {
    if let Some(file) = file {
        let origin = base.join(file);
        let text = read(&origin)?;
        return Ok(Some(Pem { text, origin }));
    }
    Ok(inline.map(|text| Pem {
        text: text.as_bytes().to_vec(),
        origin: config.to_owned(),
    }))
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, WebConfigError> {
    let list: Vec<_> = CertificateDer::pem_slice_iter(&pem.text)
        .collect::<Result<_, _>>()
        .map_err(|_| pem.error("certificate"))?;
    if list.is_empty() {
        return Err(pem.error("certificate"));
    }
    Ok(list)
}

fn roots(pem: &Pem) -> Result<RootCertStore, WebConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

fn read(path: &Path) -> Result<Vec<u8>, WebConfigError> {
    fs::read(path).map_err(|source| WebConfigError::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(yaml: &str, want: Result<bool, &str>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.yml");
        fs::write(&path, yaml).unwrap();
        match (WebConfig::load(&path), want) {
            (Ok(web), Ok(authenticates)) => assert_eq!(web.authenticates(), authenticates),
            (Err(error), Err(want)) => {
                assert!(error.to_string().contains(want), "{error} lacks {want:?}");
            }
            (got, want) => panic!("{yaml:?}: got {got:?}, want {want:?}"),
        }
    }

    #[test]
    fn users_authenticate_and_bad_files_are_refused() {
        let hash = bcrypt::hash("secret", 4).unwrap();
        check("", Ok(false));
        check(&format!("basic_auth_users:\n  ann: {hash}\n"), Ok(true));
        check(
            "basic_auth_users: {ann: secret}",
            Err("ann: not a bcrypt hash"),
        );
        check("no_such: 1", Err("unknown field"));
        check("tls_server_config: {}", Err("cert_file is missing"));
        check(
            "tls_server_config: {cert_file: no.pem, key_file: no.key}",
            Err("no.pem"),
        );
        check("http_server_config: {http2: true}", Err("http2"));
        check("http_server_config: {headers: {\"a b\": c}}", Err("a b"));
    }
}
