//! `webhook_configs`: a POST of JSON.

mod body;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use common::secret::Secret;
use common::yaml::{Node, Yaml};
use serde_json::Value as Json;

use super::super::http::HttpConfig;
use super::super::options::OptionsReader;
use super::super::source::SecretSource;
use crate::notify::message::{HttpMessage, Message, Verdict, judge_status};
use crate::notify::render::{RenderError, Renderer};

/// Options of a webhook.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Whether resolved alerts are sent.
    pub(super) send_resolved: bool,
    /// The template of the URL.
    url: SecretSource,
    http: HttpConfig,
    /// The maximum number of alerts in one message. 0 means no limit.
    alerts_max: u64,
    /// The timeout of a request. If `None`, the deadline of the flush applies.
    timeout: Option<Duration>,
    /// A custom body that replaces Alertmanager's.
    payload: Option<Payload>,
}

/// A JSON value whose strings are templates.
#[derive(Debug, Clone)]
pub(in crate::notify) enum Payload {
    /// A template. Output that parses as JSON, but not as a JSON string, is inserted as JSON.
    Text(String),
    /// A number, boolean or null.
    Plain(Json),
    /// A list.
    List(Vec<Self>),
    /// An object.
    Map(BTreeMap<String, Self>),
}

impl Webhook {
    pub(super) fn read(reader: &mut OptionsReader<'_, '_>) -> Self {
        let url = reader.secret_url_template("url");
        reader.require(url.is_set(), "one of url or url_file must be configured");
        let alerts_max = reader
            .fields
            .take("max_alerts")
            .map_or(0, |node| node.read_int(reader.issues));
        reader.require(alerts_max >= 0, "max_alerts must not be negative");
        Self {
            send_resolved: reader.bool("send_resolved", true),
            http: reader.http(),
            url,
            alerts_max: u64::try_from(alerts_max).unwrap_or(0),
            timeout: reader.timeout(),
            payload: reader.fields.take("payload").map(payload),
        }
    }

    /// Reports whether the message needs neither a template nor a file.
    pub(super) fn is_quick(&self) -> bool {
        let is_quick_url =
            matches!(&self.url, SecretSource::Inline(url) if !url.expose().contains("{{"));
        self.payload.is_none() && is_quick_url && !self.http.has_files()
    }

    pub(super) fn render(&self, renderer: &Renderer<'_>) -> Result<Message, RenderError> {
        let url = renderer.expand(self.url.load()?.expose())?;
        let body = match &self.payload {
            Some(payload) => Bytes::from(renderer.payload(payload)?.to_string()),
            None => Bytes::from(body::body(renderer.notification, self.alerts_max)?),
        };
        let mut message = HttpMessage::new(Secret::new(url), self.http.load()?, body, judge);
        message.timeout = self.timeout;
        Ok(Message::Http(Box::new(message)))
    }
}

fn judge(status: u16, body: &[u8]) -> Verdict {
    judge_status(status, body, &[])
}

/// Reads a value whose strings are templates.
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
