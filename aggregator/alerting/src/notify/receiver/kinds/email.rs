//! `email_configs`: mail messages.

use std::collections::BTreeMap;

use common::yaml::Issue;

use super::super::http::{self, TlsConfig};
use super::super::options::OptionsReader;
use super::super::source::SecretSource;
use crate::notify::message::{LoadedMailServer, MailMessage, Message};
use crate::notify::render::{RenderError, Renderer};
use crate::template::Escaping;

/// Options of a mail.
#[derive(Debug, Clone)]
pub struct Email {
    /// Whether resolved alerts are sent.
    pub(super) send_resolved: bool,
    /// The template of the recipients, separated by commas.
    to: String,
    /// The template of the sender.
    from: String,
    server: MailServer,
    /// Templates of further headers, by name.
    headers: BTreeMap<String, String>,
    /// The template of the HTML part.
    html: String,
    /// The template of the text part.
    text: String,
}

/// The mail server and the client's credentials. No field is a template.
#[derive(Debug, Clone)]
pub(in super::super) struct MailServer {
    /// `host:port`
    pub(in super::super) smarthost: String,
    /// The name in the client's greeting.
    pub(in super::super) hello: String,
    /// The user name, if the server requires authentication.
    pub(in super::super) username: String,
    /// The authorization identity for PLAIN. Empty means that of the user.
    pub(in super::super) identity: String,
    /// The password for PLAIN and LOGIN.
    pub(in super::super) password: SecretSource,
    /// The secret for CRAM-MD5. It is never sent.
    pub(in super::super) secret: SecretSource,
    /// Whether to refuse connections without TLS.
    pub(in super::super) require_tls: bool,
    /// Whether TLS starts before SMTP. `None` means on port 465 only.
    pub(in super::super) implicit_tls: Option<bool>,
    pub(in super::super) tls: TlsConfig,
}

impl Default for MailServer {
    fn default() -> Self {
        Self {
            smarthost: String::new(),
            hello: "localhost".to_owned(),
            username: String::new(),
            identity: String::new(),
            password: SecretSource::Unset,
            secret: SecretSource::Unset,
            require_tls: true,
            implicit_tls: None,
            tls: TlsConfig::default(),
        }
    }
}

/// Reports whether `smarthost` has a non-empty port.
pub(in super::super) fn has_port(smarthost: &str) -> bool {
    smarthost
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty())
}

impl Email {
    pub(super) fn read(reader: &mut OptionsReader<'_, '_>) -> Self {
        let global = reader.global;
        let mut headers = BTreeMap::new();
        for (name, value) in reader
            .fields
            .take("headers")
            .map_or_else(Vec::new, |node| node.read_pairs(reader.issues))
        {
            if headers.insert(title_case(&name), value).is_some() {
                let message = format!("duplicate header {name:?} in email config");
                reader
                    .issues
                    .push(Issue::new(reader.node.position, message));
            }
        }
        let email = Self {
            send_resolved: reader.bool("send_resolved", false),
            to: reader.text("to", ""),
            from: reader.text("from", &global.smtp_from),
            server: MailServer::read(reader),
            headers,
            html: reader.text("html", r#"{{ template "email.default.html" . }}"#),
            text: reader.text("text", ""),
        };
        refuse_threading(reader);
        reader.require(!email.to.is_empty(), "missing to address in email config");
        let smarthost = &email.server.smarthost;
        reader.require(!smarthost.is_empty(), "no global SMTP smarthost set");
        reader.require(
            smarthost.is_empty() || has_port(smarthost),
            "missing port in SMTP smarthost",
        );
        reader.require(!email.from.is_empty(), "no global SMTP from set");
        email
    }

    pub(super) fn render(&self, renderer: &Renderer<'_>) -> Result<Message, RenderError> {
        let mut headers = Vec::new();
        let mut subject = renderer.expand(r#"{{ template "email.default.subject" . }}"#)?;
        let (mut to, mut from) = (renderer.expand(&self.to)?, renderer.expand(&self.from)?);
        for (name, source) in &self.headers {
            let text = renderer.expand(source)?;
            match name.as_str() {
                "Subject" => subject = text,
                "To" => to = text,
                "From" => from = text,
                _ => headers.push((name.clone(), text)),
            }
        }
        Ok(Message::Mail(Box::new(MailMessage {
            server: self.server.load()?,
            from,
            to,
            subject,
            headers,
            text: renderer.expand(&self.text)?,
            html: renderer.expand_as(&self.html, Escaping::Html)?,
        })))
    }
}

/// Refuses `threading` unless it is off.
fn refuse_threading(reader: &mut OptionsReader<'_, '_>) {
    let Some(node) = reader.fields.take("threading") else {
        return;
    };
    let mut fields = common::yaml::Fields::new(node, "config.ThreadingConfig", reader.issues);
    fields.take("thread_by_date");
    if fields.bool("enabled", reader.issues).unwrap_or(false) {
        http::unsupported("threading", node, reader.issues);
    }
    fields.finish(reader.issues);
}

impl MailServer {
    fn read(reader: &mut OptionsReader<'_, '_>) -> Self {
        let global = &reader.global.smtp;
        Self {
            smarthost: reader.text("smarthost", &global.smarthost),
            hello: reader.text("hello", &global.hello),
            username: reader.text("auth_username", &global.username),
            identity: reader.text("auth_identity", &global.identity),
            password: reader.secret_or_file("auth_password").or(&global.password),
            secret: reader.secret_or_file("auth_secret").or(&global.secret),
            require_tls: reader.bool("require_tls", global.require_tls),
            implicit_tls: reader
                .fields
                .bool("force_implicit_tls", reader.issues)
                .or(global.implicit_tls),
            tls: match reader.fields.take("tls_config") {
                Some(node) => http::read_tls(node, reader.folder, reader.issues),
                None => global.tls.clone(),
            },
        }
    }

    fn load(&self) -> Result<LoadedMailServer, RenderError> {
        Ok(LoadedMailServer {
            smarthost: self.smarthost.clone(),
            hello: self.hello.clone(),
            username: self.username.clone(),
            identity: self.identity.clone(),
            password: self.password.load()?,
            secret: self.secret.load()?,
            require_tls: self.require_tls,
            implicit_tls: self.implicit_tls,
            tls: self.tls.load()?,
        })
    }
}

/// Capitalizes each word of a header name: `x-prio` becomes `X-Prio`.
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
