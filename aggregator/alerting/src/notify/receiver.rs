//! Receivers as alertmanager.yml configures them.

mod http;
mod kinds;

use std::path::Path;

use common::yaml::{Fields, Issue, Issues, Node};

pub(crate) use http::read_fields as read_http_fields;
pub use http::{Credentials, HttpOptions, TlsOptions};
pub use kinds::{
    DingTalk, Email, Integration, MailServer, PagerDuty, Payload, Slack, SlackField, WeChat,
    Webhook,
};

/// Somebody who is told, in one or more ways.
#[derive(Debug, Clone)]
pub struct Receiver {
    /// Its name.
    pub name: String,
    /// The ways, in the order of the file.
    pub integrations: Vec<Integration>,
}

/// A secret: its text never shows in logs, nor in the configuration that the API prints.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for use on the wire only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<secret>")
    }
}

/// `global`: what integrations take where they say nothing themselves.
#[derive(Debug, Clone)]
pub struct Global {
    /// How long an alert without an end is taken to fire.
    pub resolve_timeout: std::time::Duration,
    /// For all HTTP.
    pub http: HttpOptions,
    smtp_from: String,
    smtp: MailServer,
    slack_api_url: Secret,
    pagerduty_url: String,
    wechat_url: String,
    wechat_secret: Secret,
    wechat_corp_id: String,
}

impl Default for Global {
    fn default() -> Self {
        Self {
            resolve_timeout: std::time::Duration::from_secs(300),
            http: HttpOptions::default(),
            smtp_from: String::new(),
            smtp: MailServer::default(),
            slack_api_url: Secret::default(),
            pagerduty_url: kinds::PAGERDUTY_V2.to_owned(),
            wechat_url: "https://qyapi.weixin.qq.com/cgi-bin/".to_owned(),
            wechat_secret: Secret::default(),
            wechat_corp_id: String::new(),
        }
    }
}

/// Fields of `global` for receivers that are not supported; harmless as long as no receiver uses them.
const FOREIGN_GLOBALS: &[&str] = &[
    "opsgenie_api_url",
    "opsgenie_api_key",
    "opsgenie_api_key_file",
    "victorops_api_url",
    "victorops_api_key",
    "victorops_api_key_file",
    "telegram_api_url",
    "telegram_bot_token",
    "telegram_bot_token_file",
    "webex_api_url",
    "rocketchat_api_url",
    "rocketchat_token",
    "rocketchat_token_file",
    "rocketchat_token_id",
    "rocketchat_token_id_file",
    "jira_api_url",
    "mattermost_webhook_url",
    "mattermost_webhook_url_file",
];

/// Reads `global`; files are relative to `folder`.
pub(super) fn read_global(node: &Node, folder: &Path, issues: &mut Issues) -> Global {
    let mut fields = Fields::new(node, "config.GlobalConfig", issues);
    let mut global = Global::default();
    if let Some(timeout) = fields.duration("resolve_timeout", issues) {
        global.resolve_timeout = timeout;
    }
    if let Some(node) = fields.take("http_config") {
        global.http = http::read(node, folder, issues);
    }
    let mut text = |name: &str, target: &mut String| {
        if let Some(text) = fields.text(name, issues) {
            *target = text;
        }
    };
    text("smtp_from", &mut global.smtp_from);
    text("smtp_hello", &mut global.smtp.hello);
    text("smtp_smarthost", &mut global.smtp.smarthost);
    text("smtp_auth_username", &mut global.smtp.username);
    text("pagerduty_url", &mut global.pagerduty_url);
    text("wechat_api_url", &mut global.wechat_url);
    text("wechat_api_corp_id", &mut global.wechat_corp_id);
    text("smtp_auth_identity", &mut global.smtp.identity);
    global.smtp.password = secret(&mut fields, "smtp_auth_password", folder, issues);
    global.smtp.secret = secret(&mut fields, "smtp_auth_secret", folder, issues);
    global.smtp.implicit_tls = fields.bool("smtp_force_implicit_tls", issues);
    global.slack_api_url = secret(&mut fields, "slack_api_url", folder, issues);
    global.wechat_secret = secret(&mut fields, "wechat_api_secret", folder, issues);
    if let Some(required) = fields.bool("smtp_require_tls", issues) {
        global.smtp.require_tls = required;
    }
    if let Some(node) = fields.take("smtp_tls_config") {
        global.smtp.tls = http::read_tls(node, folder, issues);
    }
    for name in FOREIGN_GLOBALS {
        fields.take(name);
    }
    fields.finish(issues);
    global
}

/// The secret `name`, or the content of the file `name_file`, which is relative to `folder`.
fn secret(fields: &mut Fields<'_>, name: &str, folder: &Path, issues: &mut Issues) -> Secret {
    let inline = fields.text(name, issues);
    let Some(file) = fields.take(&format!("{name}_file")) else {
        return Secret::new(inline.unwrap_or_default());
    };
    if inline.is_some() {
        issues.push(Issue::new(
            file.position,
            format!("at most one of {name} & {name}_file must be configured"),
        ));
    }
    let text = read_file(file, folder, issues).unwrap_or_default();
    Secret::new(text.trim())
}

/// The content of the file that `node` names, relative to `folder`.
fn read_file(node: &Node, folder: &Path, issues: &mut Issues) -> Option<String> {
    let path = folder.join(node.read_text(issues));
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) => {
            let message = format!("read {}: {error}", path.display());
            issues.push(Issue::new(node.position, message));
            None
        }
    }
}

/// Reads one entry of `receivers`; files are relative to `folder`.
pub(super) fn read(node: &Node, global: &Global, folder: &Path, issues: &mut Issues) -> Receiver {
    let mut fields = Fields::new(node, "config.Receiver", issues);
    let name = fields.text("name", issues).unwrap_or_default();
    if name.is_empty() {
        issues.push(Issue::new(node.position, "missing name in receiver"));
    }
    let mut integrations = Vec::new();
    for kind in kinds::KINDS {
        let key = format!("{kind}_configs");
        let items = fields
            .take(&key)
            .map_or(&[][..], |node| node.read_list("[]", issues));
        for item in items {
            integrations.push(kinds::read(kind, item, (global, folder), issues));
        }
    }
    for kind in kinds::FOREIGN_KINDS {
        let key = format!("{kind}_configs");
        if fields.take(&key).is_some() {
            let place = fields.position_of(&key, node.position);
            let message = format!(
                "receiver {name:?}: {key} is not supported; supported are {}_configs",
                kinds::KINDS.join("_configs, ")
            );
            issues.push(Issue::new(place, message));
        }
    }
    fields.finish(issues);
    Receiver { name, integrations }
}
