//! `email_configs`: a mail.

use std::collections::BTreeMap;

use super::super::http::{self, TlsOptions};
use super::super::{Global, Secret};
use super::KindReader;
use common::yaml::Issue;

/// A mail.
#[derive(Debug, Clone)]
pub struct Email {
    /// Whether to tell of ends.
    pub send_resolved: bool,
    /// Addresses, separated by commas.
    pub to: String,
    /// The sender.
    pub from: String,
    /// Where mails go first.
    pub server: MailServer,
    /// Further header lines by name.
    pub headers: BTreeMap<String, String>,
    /// The HTML part.
    pub html: String,
    /// The text part.
    pub text: String,
}

/// The server that takes our mails, and who we are there. No templates.
#[derive(Debug, Clone)]
pub struct MailServer {
    /// `host:port`
    pub smarthost: String,
    /// The name we greet the server with.
    pub hello: String,
    /// User, when the server wants one.
    pub username: String,
    /// In whose name the user acts, for PLAIN; empty is the user's own.
    pub identity: String,
    /// Password, for PLAIN and LOGIN.
    pub password: Secret,
    /// Password that is never sent, for CRAM-MD5.
    pub secret: Secret,
    /// Whether a connection without TLS is an error.
    pub require_tls: bool,
    /// Whether TLS comes before SMTP; unless it is said, on port 465 only.
    pub implicit_tls: Option<bool>,
    /// How the server proves itself, and we to it.
    pub tls: TlsOptions,
}

impl Default for MailServer {
    fn default() -> Self {
        Self {
            smarthost: String::new(),
            hello: "localhost".to_owned(),
            username: String::new(),
            identity: String::new(),
            password: Secret::default(),
            secret: Secret::default(),
            require_tls: true,
            implicit_tls: None,
            tls: TlsOptions::default(),
        }
    }
}

impl KindReader<'_, '_> {
    pub(super) fn email(&mut self, global: &Global) -> Email {
        let mut headers = BTreeMap::new();
        for (name, value) in self
            .fields
            .take("headers")
            .map_or_else(Vec::new, |node| node.read_pairs(self.issues))
        {
            if headers.insert(title_case(&name), value).is_some() {
                let message = format!("duplicate header {name:?} in email config");
                self.issues.push(Issue::new(self.node.position, message));
            }
        }
        let email = Email {
            send_resolved: self.bool("send_resolved", false),
            to: self.text("to", ""),
            from: self.text("from", &global.smtp_from),
            server: self.mail_server(&global.smtp),
            headers,
            html: self.text("html", r#"{{ template "email.default.html" . }}"#),
            text: self.text("text", ""),
        };
        if let Some(node) = self.fields.take("threading") {
            let message = "threading is not supported in email_configs";
            self.issues.push(Issue::new(node.position, message));
        }
        self.require(!email.to.is_empty(), "missing to address in email config");
        let smarthost = &email.server.smarthost;
        self.require(!smarthost.is_empty(), "no global SMTP smarthost set");
        self.require(
            smarthost.is_empty() || smarthost.contains(':'),
            "missing port in SMTP smarthost",
        );
        self.require(!email.from.is_empty(), "no global SMTP from set");
        email
    }

    fn mail_server(&mut self, global: &MailServer) -> MailServer {
        let or = |own: Secret, global: &Secret| if own.is_empty() { global.clone() } else { own };
        MailServer {
            smarthost: self.text("smarthost", &global.smarthost),
            hello: self.text("hello", &global.hello),
            username: self.text("auth_username", &global.username),
            identity: self.text("auth_identity", &global.identity),
            password: or(self.secret("auth_password"), &global.password),
            secret: or(self.secret("auth_secret"), &global.secret),
            require_tls: self.bool("require_tls", global.require_tls),
            implicit_tls: self
                .fields
                .bool("force_implicit_tls", self.issues)
                .or(global.implicit_tls),
            tls: match self.fields.take("tls_config") {
                Some(node) => http::read_tls(node, self.folder, self.issues),
                None => global.tls.clone(),
            },
        }
    }
}

/// `x-prio` as `X-Prio`.
fn title_case(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let mut chars = word.chars();
        let first = chars.next().map(|c| c.to_ascii_uppercase());
        first
            .into_iter()
            .chain(chars.map(|c| c.to_ascii_lowercase()))
            .collect::<String>()
    });
    words.collect::<Vec<_>>().join("-")
}
