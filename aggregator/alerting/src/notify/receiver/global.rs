//! The `global` section: defaults for all integrations.

use std::path::Path;
use std::time::Duration;

use common::yaml::{Fields, Issue, Issues, Node};

use super::http::{self, HttpConfig};
use super::kinds::{MailServer, PAGERDUTY_V2};
use super::source::{SecretSource, secret};
use super::url;

/// Defaults for options that an integration does not set.
#[derive(Debug, Clone)]
pub struct Global {
    /// How long an alert without an end time is considered firing.
    pub resolve_timeout: Duration,
    /// The default HTTP client options.
    pub http: HttpConfig,
    pub(super) smtp_from: String,
    pub(super) smtp: MailServer,
    pub(super) slack_api_url: SecretSource,
    pub(super) pagerduty_url: String,
    pub(super) wechat_url: String,
    pub(super) wechat_secret: SecretSource,
    pub(super) wechat_corp_id: String,
}

impl Default for Global {
    fn default() -> Self {
        Self {
            resolve_timeout: Duration::from_secs(300),
            http: HttpConfig::default(),
            smtp_from: String::new(),
            smtp: MailServer::default(),
            slack_api_url: SecretSource::Unset,
            pagerduty_url: PAGERDUTY_V2.to_owned(),
            wechat_url: "https://qyapi.weixin.qq.com/cgi-bin/".to_owned(),
            wechat_secret: SecretSource::Unset,
            wechat_corp_id: String::new(),
        }
    }
}

/// URL options of unsupported receivers. They are validated but have no effect.
const UNSUPPORTED_URLS: &[&str] = &[
    "jira_api_url",
    "opsgenie_api_url",
    "rocketchat_api_url",
    "slack_app_url",
    "telegram_api_url",
    "victorops_api_url",
    "webex_api_url",
];

/// Secret options of unsupported receivers, handled like [`UNSUPPORTED_URLS`].
const UNSUPPORTED_SECRETS: &[&str] = &[
    "mattermost_webhook_url",
    "opsgenie_api_key",
    "rocketchat_token",
    "rocketchat_token_id",
    "slack_app_token",
    "telegram_bot_token",
    "victorops_api_key",
];

/// Reads `global`. Files are relative to `folder`.
pub(in super::super) fn read(node: &Node, folder: &Path, issues: &mut Issues) -> Global {
    let mut fields = Fields::new(node, "config.GlobalConfig", issues);
    let mut global = Global::default();
    if let Some(timeout) = fields.duration("resolve_timeout", issues) {
        global.resolve_timeout = timeout;
    }
    if let Some(node) = fields.take("http_config") {
        global.http = http::read(node, folder, issues);
    }
    read_smtp(&mut fields, &mut global, folder, issues);
    for (name, target) in [
        ("pagerduty_url", &mut global.pagerduty_url),
        ("wechat_api_url", &mut global.wechat_url),
    ] {
        if let Some(node) = fields.take(name) {
            *target = node.read_text(issues);
            check_url(node, issues);
        }
    }
    if let Some(id) = fields.text("wechat_api_corp_id", issues) {
        global.wechat_corp_id = id;
    }
    global.wechat_secret = secret(&mut fields, "wechat_api_secret", folder, issues);
    for name in UNSUPPORTED_URLS
        .iter()
        .chain(&["slack_api_url", "mattermost_webhook_url"])
    {
        if let Some(node) = fields.take(name) {
            check_url(node, issues);
        }
    }
    global.slack_api_url = secret(&mut fields, "slack_api_url", folder, issues);
    for name in UNSUPPORTED_SECRETS {
        secret(&mut fields, name, folder, issues);
    }
    fields.finish(issues);
    global
}

fn check_url(node: &Node, issues: &mut Issues) {
    let text = node.read_text(issues);
    if text != common::secret::REDACTED
        && let Err(reason) = url::check(&text)
    {
        issues.push(Issue::new(node.position, reason));
    }
}

fn read_smtp(fields: &mut Fields<'_>, global: &mut Global, folder: &Path, issues: &mut Issues) {
    let mut text = |name: &str, target: &mut String| {
        if let Some(text) = fields.text(name, issues) {
            *target = text;
        }
    };
    text("smtp_from", &mut global.smtp_from);
    text("smtp_hello", &mut global.smtp.hello);
    text("smtp_smarthost", &mut global.smtp.smarthost);
    text("smtp_auth_username", &mut global.smtp.username);
    text("smtp_auth_identity", &mut global.smtp.identity);
    global.smtp.password = secret(fields, "smtp_auth_password", folder, issues);
    global.smtp.secret = secret(fields, "smtp_auth_secret", folder, issues);
    global.smtp.implicit_tls = fields.bool("smtp_force_implicit_tls", issues);
    if let Some(required) = fields.bool("smtp_require_tls", issues) {
        global.smtp.require_tls = required;
    }
    if let Some(node) = fields.take("smtp_tls_config") {
        global.smtp.tls = http::read_tls(node, folder, issues);
    }
    let smarthost = &global.smtp.smarthost;
    if !smarthost.is_empty() && !super::kinds::has_port(smarthost) {
        let position = fields.position_of("smtp_smarthost", Default::default());
        issues.push(Issue::new(position, "missing port in SMTP smarthost"));
    }
}
