//! The `http_config` and `tls_config` sections, which configure HTTP clients.

use std::path::Path;

use common::secret::Secret;
use common::yaml::{Fields, Issue, Issues, Node};

use super::source::{SecretError, SecretSource, secret, text_or_file};

/// The credentials of a client, loaded from their files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Credentials {
    /// No credentials.
    #[default]
    None,
    /// Basic authentication.
    Basic {
        /// The user.
        username: Secret<String>,
        /// The password.
        password: Secret<String>,
    },
    /// A token with its type, `Bearer` by default.
    Token {
        /// The type.
        kind: String,
        /// The token.
        token: Secret<String>,
    },
}

/// A TLS version that the client supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// The TLS options of a client, loaded from their files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct TlsOptions {
    /// The trusted CA certificates in PEM. They replace the public ones.
    pub ca_pem: Option<String>,
    /// The client's certificate chain in PEM.
    pub cert_pem: Option<String>,
    /// The client's private key in PEM.
    pub key_pem: Option<Secret<String>>,
    /// The expected name in the server's certificate, if it differs from the host.
    pub server_name: Option<String>,
    /// Whether to accept any server certificate.
    pub insecure_skip_verify: bool,
    /// The lowest version to accept.
    pub min_version: Option<TlsVersion>,
    /// The highest version to offer.
    pub max_version: Option<TlsVersion>,
}

/// The options of an HTTP client, loaded from their files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpOptions {
    /// The credentials.
    pub credentials: Credentials,
    /// The TLS options.
    pub tls: TlsOptions,
}

/// Credentials as configured.
#[derive(Debug, Clone, Default)]
enum CredentialsConfig {
    #[default]
    None,
    Basic {
        username: SecretSource,
        password: SecretSource,
    },
    Token {
        kind: String,
        token: SecretSource,
    },
}

/// A `tls_config`.
#[derive(Debug, Clone, Default)]
pub struct TlsConfig {
    ca: SecretSource,
    cert: SecretSource,
    key: SecretSource,
    server_name: Option<String>,
    insecure_skip_verify: bool,
    min_version: Option<TlsVersion>,
    max_version: Option<TlsVersion>,
}

/// An `http_config`.
#[derive(Debug, Clone, Default)]
pub struct HttpConfig {
    credentials: CredentialsConfig,
    tls: TlsConfig,
}

impl TlsConfig {
    /// Returns the options with the current contents of files.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read.
    pub fn load(&self) -> Result<TlsOptions, SecretError> {
        let pem = |source: &SecretSource| -> Result<Option<Secret<String>>, SecretError> {
            Ok(source.is_set().then_some(source.load()?))
        };
        Ok(TlsOptions {
            ca_pem: pem(&self.ca)?.map(|pem| pem.expose().clone()),
            cert_pem: pem(&self.cert)?.map(|pem| pem.expose().clone()),
            key_pem: pem(&self.key)?,
            server_name: self.server_name.clone(),
            insecure_skip_verify: self.insecure_skip_verify,
            min_version: self.min_version,
            max_version: self.max_version,
        })
    }

    fn has_files(&self) -> bool {
        self.ca.is_file() || self.cert.is_file() || self.key.is_file()
    }
}

impl HttpConfig {
    /// Returns the options with the current contents of files.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read.
    pub fn load(&self) -> Result<HttpOptions, SecretError> {
        let credentials = match &self.credentials {
            CredentialsConfig::None => Credentials::None,
            CredentialsConfig::Basic { username, password } => Credentials::Basic {
                username: username.load()?,
                password: password.load()?,
            },
            CredentialsConfig::Token { kind, token } => Credentials::Token {
                kind: kind.clone(),
                token: token.load()?,
            },
        };
        Ok(HttpOptions {
            credentials,
            tls: self.tls.load()?,
        })
    }

    /// Reports whether [`Self::load`] reads files.
    #[must_use]
    pub fn has_files(&self) -> bool {
        let has_secret_files = match &self.credentials {
            CredentialsConfig::None => false,
            CredentialsConfig::Basic { username, password } => {
                username.is_file() || password.is_file()
            }
            CredentialsConfig::Token { token, .. } => token.is_file(),
        };
        has_secret_files || self.tls.has_files()
    }
}

/// Reads an `http_config`. Files are relative to `folder`.
pub(crate) fn read(node: &Node, folder: &Path, issues: &mut Issues) -> HttpConfig {
    let mut fields = Fields::new(node, "config.HTTPClientConfig", issues);
    let config = read_fields(&mut fields, folder, issues);
    fields.finish(issues);
    config
}

/// Takes the HTTP client options from `fields`. An `alertmanagers` entry has them inline.
pub(crate) fn read_fields(
    fields: &mut Fields<'_>,
    folder: &Path,
    issues: &mut Issues,
) -> HttpConfig {
    let basic = fields.take("basic_auth");
    let authorization = fields.take("authorization");
    let bearer = secret(fields, "bearer_token", folder, issues);
    let methods = [basic.is_some(), authorization.is_some(), bearer.is_set()];
    if methods.iter().filter(|&&is_set| is_set).count() > 1
        && let Some(node) = authorization.or(basic)
    {
        let message = "at most one of basic_auth, authorization, bearer_token & bearer_token_file must be configured";
        issues.push(Issue::new(node.position, message));
    }
    let credentials = match (basic, authorization) {
        (Some(node), _) => read_basic(node, folder, issues),
        (None, Some(node)) => read_authorization(node, folder, issues),
        (None, None) if bearer.is_set() => CredentialsConfig::Token {
            kind: "Bearer".to_owned(),
            token: bearer,
        },
        (None, None) => CredentialsConfig::None,
    };
    let tls = fields
        .take("tls_config")
        .map_or_else(TlsConfig::default, |node| read_tls(node, folder, issues));
    // Ignored: the client speaks HTTP/1.1, which HTTP/2 servers also accept.
    fields.take("enable_http2");
    if let Some(node) = fields.take("follow_redirects")
        && node.read_bool(issues)
    {
        tracing::warn!(
            position = %node.position,
            "follow_redirects: true has no effect: redirects are not followed"
        );
    }
    if let Some(node) = fields.take("proxy_from_environment")
        && node.read_bool(issues)
    {
        unsupported("proxy_from_environment", node, issues);
    }
    for name in [
        "oauth2",
        "proxy_url",
        "proxy_connect_header",
        "no_proxy",
        "http_headers",
    ] {
        if let Some(node) = fields.take(name) {
            unsupported(name, node, issues);
        }
    }
    HttpConfig { credentials, tls }
}

pub(super) fn unsupported(name: &str, node: &Node, issues: &mut Issues) {
    let message = format!("{name} is not supported");
    issues.push(Issue::new(node.position, message));
}

fn read_basic(node: &Node, folder: &Path, issues: &mut Issues) -> CredentialsConfig {
    let mut fields = Fields::new(node, "config.BasicAuth", issues);
    let username = text_or_file(&mut fields, "username", folder, issues);
    let password = secret(&mut fields, "password", folder, issues);
    fields.finish(issues);
    CredentialsConfig::Basic { username, password }
}

fn read_authorization(node: &Node, folder: &Path, issues: &mut Issues) -> CredentialsConfig {
    let mut fields = Fields::new(node, "config.Authorization", issues);
    let kind = fields.text("type", issues).unwrap_or_default();
    let kind = match kind.trim() {
        "" => "Bearer".to_owned(),
        kind => kind.to_owned(),
    };
    if kind.eq_ignore_ascii_case("basic") {
        let message = "authorization type cannot be set to \"basic\", use \"basic_auth\" instead";
        issues.push(Issue::new(node.position, message));
    }
    let token = secret(&mut fields, "credentials", folder, issues);
    if let Some(node) = fields.take("credentials_ref") {
        unsupported("credentials_ref", node, issues);
    }
    fields.finish(issues);
    CredentialsConfig::Token { kind, token }
}

/// Reads a `tls_config`.
pub(super) fn read_tls(node: &Node, folder: &Path, issues: &mut Issues) -> TlsConfig {
    let mut fields = Fields::new(node, "config.TLSConfig", issues);
    let config = TlsConfig {
        ca: text_or_file(&mut fields, "ca", folder, issues),
        cert: text_or_file(&mut fields, "cert", folder, issues),
        key: secret(&mut fields, "key", folder, issues),
        server_name: fields
            .text("server_name", issues)
            .filter(|name| !name.is_empty()),
        insecure_skip_verify: fields.bool("insecure_skip_verify", issues).unwrap_or(false),
        min_version: fields
            .take("min_version")
            .and_then(|node| min_version(node, issues)),
        max_version: fields
            .take("max_version")
            .and_then(|node| max_version(node, issues)),
    };
    if config.cert.is_set() != config.key.is_set() {
        let message = "exactly one of cert or cert_file and exactly one of key or key_file must be configured when a client certificate is used";
        issues.push(Issue::new(node.position, message));
    }
    if let (Some(min), Some(max)) = (config.min_version, config.max_version)
        && min > max
    {
        let message = "min_version is above max_version, so no connection is possible";
        issues.push(Issue::new(node.position, message));
    }
    fields.finish(issues);
    config
}

/// Reads `min_version`. Lower versions count as TLS 1.2, because the client does not support anything older.
fn min_version(node: &Node, issues: &mut Issues) -> Option<TlsVersion> {
    match node.read_text(issues).as_str() {
        "TLS10" | "TLS11" | "TLS12" => Some(TlsVersion::Tls12),
        "TLS13" => Some(TlsVersion::Tls13),
        other => unknown_version(other, node, issues),
    }
}

fn max_version(node: &Node, issues: &mut Issues) -> Option<TlsVersion> {
    match node.read_text(issues).as_str() {
        "TLS12" => Some(TlsVersion::Tls12),
        "TLS13" => Some(TlsVersion::Tls13),
        old @ ("TLS10" | "TLS11") => {
            let message = format!("max_version {old} is not supported, the lowest is TLS12");
            issues.push(Issue::new(node.position, message));
            None
        }
        other => unknown_version(other, node, issues),
    }
}

fn unknown_version(name: &str, node: &Node, issues: &mut Issues) -> Option<TlsVersion> {
    let message = format!("unknown TLS version: {name}");
    issues.push(Issue::new(node.position, message));
    None
}
