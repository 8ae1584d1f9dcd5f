//! The kinds of integration, each with its fields and defaults in a file of its own.

mod dingtalk;
mod email;
mod pagerduty;
mod slack;
mod webhook;
mod wechat;

use std::path::Path;

use serde_json::{Map, Value as Json};

use super::http::{self, HttpOptions};
use super::{Global, Secret, secret};
use common::yaml::{Fields, Issue, Issues, Node};

pub use dingtalk::DingTalk;
pub use email::{Email, MailServer};
pub(super) use pagerduty::PAGERDUTY_V2;
pub use pagerduty::PagerDuty;
pub use slack::{Slack, SlackField};
pub use webhook::{Payload, Webhook};
pub use wechat::WeChat;

/// The kinds that are supported.
pub(super) const KINDS: [&str; 6] = [
    "webhook",
    "email",
    "slack",
    "pagerduty",
    "wechat",
    "dingtalk",
];

/// The kinds that Alertmanager knows beyond them.
pub(super) const FOREIGN_KINDS: [&str; 14] = [
    "discord",
    "incidentio",
    "jira",
    "mattermost",
    "msteams",
    "msteamsv2",
    "opsgenie",
    "pushover",
    "rocketchat",
    "sns",
    "telegram",
    "victorops",
    "webex",
    "feishu",
];

/// One way to tell a receiver. Texts are templates unless said otherwise.
#[derive(Debug, Clone)]
pub enum Integration {
    /// A POST of JSON.
    Webhook(Box<Webhook>),
    /// A mail.
    Email(Box<Email>),
    /// A Slack message.
    Slack(Box<Slack>),
    /// A PagerDuty event.
    PagerDuty(Box<PagerDuty>),
    /// A message in WeChat Work.
    WeChat(Box<WeChat>),
    /// A message of a DingTalk robot.
    DingTalk(Box<DingTalk>),
}

impl Integration {
    /// The word for the kind, as in `KIND_configs`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Email(_) => "email",
            Self::Slack(_) => "slack",
            Self::PagerDuty(_) => "pagerduty",
            Self::WeChat(_) => "wechat",
            Self::DingTalk(_) => "dingtalk",
        }
    }

    /// Whether it is told of ends.
    #[must_use]
    pub const fn send_resolved(&self) -> bool {
        match self {
            Self::Webhook(config) => config.send_resolved,
            Self::Email(config) => config.send_resolved,
            Self::Slack(config) => config.send_resolved,
            Self::PagerDuty(config) => config.send_resolved,
            Self::WeChat(config) => config.send_resolved,
            Self::DingTalk(config) => config.send_resolved,
        }
    }
}

/// Reads one entry of `KIND_configs`, with the defaults and the folder of the file.
pub(super) fn read(
    kind: &str,
    node: &Node,
    (global, folder): (&Global, &Path),
    issues: &mut Issues,
) -> Integration {
    let mut reader = KindReader {
        node,
        folder,
        fields: Fields::new(node, "config", issues),
        issues,
    };
    let integration = match kind {
        "email" => Integration::Email(Box::new(reader.email(global))),
        "slack" => Integration::Slack(Box::new(reader.slack(global))),
        "pagerduty" => Integration::PagerDuty(Box::new(reader.pagerduty(global))),
        "wechat" => Integration::WeChat(Box::new(reader.wechat(global))),
        "dingtalk" => Integration::DingTalk(Box::new(reader.dingtalk(global))),
        _ => Integration::Webhook(Box::new(reader.webhook(global))),
    };
    reader.fields.finish(reader.issues);
    integration
}

struct KindReader<'a, 'i> {
    node: &'a Node,
    /// What files are relative to.
    folder: &'a Path,
    fields: Fields<'a>,
    issues: &'i mut Issues,
}

impl KindReader<'_, '_> {
    fn text(&mut self, name: &str, default: &str) -> String {
        self.fields
            .text(name, self.issues)
            .unwrap_or_else(|| default.to_owned())
    }

    fn bool(&mut self, name: &str, default: bool) -> bool {
        self.fields.bool(name, self.issues).unwrap_or(default)
    }

    fn secret(&mut self, name: &str) -> Secret {
        secret(&mut self.fields, name, self.folder, self.issues)
    }

    fn http(&mut self, global: &Global) -> HttpOptions {
        match self.fields.take("http_config") {
            Some(node) => http::read(node, self.folder, self.issues),
            None => global.http.clone(),
        }
    }

    fn require(&mut self, is_there: bool, message: &str) {
        if !is_there {
            self.issues.push(Issue::new(self.node.position, message));
        }
    }

    fn require_url(&mut self, url: &str) {
        let scheme = url.split_once("://").map(|(scheme, _)| scheme);
        let is_good =
            url == "<secret>" || url.is_empty() || matches!(scheme, Some("http" | "https"));
        self.require(is_good, "unsupported scheme of URL, want http or https");
    }

    /// A list of objects of texts.
    fn objects(&mut self, name: &str, kind: &'static str, fields_of: &[&str]) -> Vec<Json> {
        let list = format!("[]{kind}");
        let items = self
            .fields
            .take(name)
            .map_or(&[][..], |node| node.read_list(&list, self.issues));
        let mut objects = Vec::with_capacity(items.len());
        for item in items {
            let mut fields = Fields::new(item, kind, self.issues);
            let object = texts(&mut fields, fields_of, self.issues);
            fields.finish(self.issues);
            objects.push(Json::Object(object));
        }
        objects
    }
}

/// The texts among `names` that are there and not empty.
fn texts(fields: &mut Fields<'_>, names: &[&str], issues: &mut Issues) -> Map<String, Json> {
    let mut map = Map::new();
    for name in names {
        if let Some(text) = fields.text(name, issues).filter(|text| !text.is_empty()) {
            map.insert((*name).to_owned(), Json::String(text));
        }
    }
    map
}
