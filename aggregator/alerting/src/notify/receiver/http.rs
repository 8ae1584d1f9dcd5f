//! `http_config`: how HTTP requests are made.

use std::path::Path;

use super::{Secret, read_file, secret};
use common::yaml::{Fields, Issue, Issues, Node};

/// Who we are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Credentials {
    /// Nobody.
    #[default]
    None,
    /// User and password.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A token behind a type, `Bearer` unless said otherwise.
    Token {
        /// The type.
        kind: String,
        /// The token.
        token: Secret,
    },
}

/// TLS of a client.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct TlsOptions {
    /// PEM of the authorities to trust, in place of the public ones.
    pub ca_pem: Option<String>,
    /// PEM of our certificate.
    pub cert_pem: Option<String>,
    /// PEM of its key.
    pub key_pem: Option<Secret>,
    /// The name to expect, in place of the host.
    pub server_name: Option<String>,
    /// Whether any certificate will do.
    pub insecure_skip_verify: bool,
}

/// How a client makes its requests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpOptions {
    /// Who we are.
    pub credentials: Credentials,
    /// TLS.
    pub tls: TlsOptions,
}

/// Reads an `http_config`; files are relative to `folder`.
pub(crate) fn read(node: &Node, folder: &Path, issues: &mut Issues) -> HttpOptions {
    let mut fields = Fields::new(node, "config.HTTPClientConfig", issues);
    let options = read_fields(&mut fields, folder, issues);
    fields.finish(issues);
    options
}

/// Takes the fields of an HTTP client from `fields`, as they stand in an `alertmanagers` entry.
pub(crate) fn read_fields(
    fields: &mut Fields<'_>,
    folder: &Path,
    issues: &mut Issues,
) -> HttpOptions {
    let mut options = HttpOptions::default();
    if let Some(node) = fields.take("basic_auth") {
        let mut basic = Fields::new(node, "config.BasicAuth", issues);
        let username = basic.text("username", issues).unwrap_or_default();
        let password = secret(&mut basic, "password", folder, issues);
        basic.finish(issues);
        options.credentials = Credentials::Basic { username, password };
    }
    if let Some(node) = fields.take("authorization") {
        let mut authorization = Fields::new(node, "config.Authorization", issues);
        let kind = authorization
            .text("type", issues)
            .unwrap_or_else(|| "Bearer".to_owned());
        let token = secret(&mut authorization, "credentials", folder, issues);
        authorization.finish(issues);
        options.credentials = Credentials::Token { kind, token };
    }
    let token = secret(fields, "bearer_token", folder, issues);
    if !token.is_empty() {
        options.credentials = Credentials::Token {
            kind: "Bearer".to_owned(),
            token,
        };
    }
    if let Some(node) = fields.take("tls_config") {
        options.tls = read_tls(node, folder, issues);
    }
    // The client follows no redirect to another host and speaks HTTP/1.1, which both values allow.
    fields.take("follow_redirects");
    fields.take("enable_http2");
    for unsupported in [
        "oauth2",
        "proxy_url",
        "proxy_from_environment",
        "proxy_connect_header",
        "http_headers",
    ] {
        if let Some(node) = fields.take(unsupported) {
            issues.push(Issue::new(
                node.position,
                format!("{unsupported} is not supported"),
            ));
        }
    }
    options
}

/// Reads a `tls_config`.
pub(super) fn read_tls(node: &Node, folder: &Path, issues: &mut Issues) -> TlsOptions {
    let mut fields = Fields::new(node, "config.TLSConfig", issues);
    let mut pem = |name: &str, issues: &mut Issues| {
        let inline = fields.text(name, issues);
        let Some(file) = fields.take(&format!("{name}_file")) else {
            return inline;
        };
        read_file(file, folder, issues).or(inline)
    };
    let options = TlsOptions {
        ca_pem: pem("ca", issues),
        cert_pem: pem("cert", issues),
        key_pem: pem("key", issues).map(Secret::new),
        server_name: fields.text("server_name", issues),
        insecure_skip_verify: fields.bool("insecure_skip_verify", issues).unwrap_or(false),
    };
    fields.take("min_version");
    fields.take("max_version");
    fields.finish(issues);
    options
}
