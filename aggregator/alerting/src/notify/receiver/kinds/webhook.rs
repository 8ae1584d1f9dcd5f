//! `webhook_configs`: a POST of JSON.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::super::http::HttpOptions;
use super::super::{Global, Secret};
use super::KindReader;
use common::yaml::{Node, Yaml};

/// A POST of JSON.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Whether to tell of ends.
    pub send_resolved: bool,
    /// Where to.
    pub url: Secret,
    /// How.
    pub http: HttpOptions,
    /// Most alerts in one message; 0 is no limit.
    pub alerts_max: u64,
    /// The most that a request may take; `None`: the flush decides.
    pub timeout: Option<std::time::Duration>,
    /// A body of one's own in place of Alertmanager's.
    pub payload: Option<Payload>,
}

/// A JSON value whose texts are templates.
#[derive(Debug, Clone)]
pub enum Payload {
    /// A template; what it gives is taken as JSON when it is a list, an object, a number, a truth value or null.
    Text(String),
    /// A number, truth value or null, as it is.
    Plain(Json),
    /// A list.
    List(Vec<Self>),
    /// An object.
    Map(BTreeMap<String, Self>),
}

impl KindReader<'_, '_> {
    pub(super) fn webhook(&mut self, global: &Global) -> Webhook {
        let url = self.secret("url");
        self.require(!url.is_empty(), "one of url or url_file must be configured");
        self.require_url(url.expose());
        let alerts_max = self
            .fields
            .take("max_alerts")
            .map_or(0, |node| node.read_int(self.issues));
        Webhook {
            send_resolved: self.bool("send_resolved", true),
            http: self.http(global),
            url,
            alerts_max: u64::try_from(alerts_max).unwrap_or(0),
            timeout: self
                .fields
                .duration("timeout", self.issues)
                .filter(|timeout| !timeout.is_zero()),
            payload: self.fields.take("payload").map(payload),
        }
    }
}

/// Reads a value whose texts are templates.
pub(super) fn payload(node: &Node) -> Payload {
    match &node.value {
        Yaml::Null => Payload::Plain(Json::Null),
        Yaml::Scalar { text, plain } => {
            let value = serde_json::from_str(text)
                .ok()
                .filter(|value: &Json| *plain && !value.is_string());
            value.map_or_else(|| Payload::Text(text.clone()), Payload::Plain)
        }
        Yaml::List(items) => Payload::List(items.iter().map(|item| payload(item)).collect()),
        Yaml::Map(entries) => {
            let pairs = entries
                .iter()
                .map(|(key, value)| (key.text().unwrap_or_default().to_owned(), payload(value)));
            Payload::Map(pairs.collect())
        }
    }
}
