//! `pagerduty_configs`: PagerDuty events.

use std::collections::BTreeMap;
use std::time::Duration;

use common::secret::Secret;
use ring::digest;
use serde_json::{Map, Value as Json, json};

use super::super::http::HttpConfig;
use super::super::options::OptionsReader;
use super::super::source::SecretSource;
use super::webhook::{Payload, payload};
use crate::notify::message::{HttpMessage, Judge, Message, Verdict, judge_status, truncated};
use crate::notify::render::{RenderError, Renderer};

/// The URL of the events API, version 2.
pub(in super::super) const PAGERDUTY_V2: &str = "https://events.pagerduty.com/v2/enqueue";
/// The URL of the events API, version 1.
const PAGERDUTY_V1: &str = "https://events.pagerduty.com/generic/2010-04-15/create_event.json";

/// Options of a PagerDuty event. A service key selects version 1 of the API.
#[derive(Debug, Clone)]
pub struct PagerDuty {
    /// Whether resolved alerts are sent.
    pub(super) send_resolved: bool,
    /// The URL of the API. Not a template.
    url: String,
    http: HttpConfig,
    /// The template of the integration key for version 2.
    routing_key: SecretSource,
    /// The template of the integration key for version 1.
    service_key: SecretSource,
    /// Templates by event field.
    texts: BTreeMap<&'static str, String>,
    /// `custom_details`
    details: BTreeMap<String, Payload>,
    /// Images, as objects of templates.
    images: Vec<Json>,
    /// Links, as objects of templates.
    links: Vec<Json>,
    /// The timeout of a request. If `None`, the deadline of the flush applies.
    timeout: Option<Duration>,
}

impl PagerDuty {
    pub(super) fn read(reader: &mut OptionsReader<'_, '_>) -> Self {
        let routing_key = reader.secret("routing_key");
        let service_key = reader.secret("service_key");
        reader.require(
            routing_key.is_set() || service_key.is_set(),
            "missing service or routing key in PagerDuty config",
        );
        let defaults = [
            ("client", r#"{{ template "pagerduty.default.client" . }}"#),
            (
                "client_url",
                r#"{{ template "pagerduty.default.clientURL" . }}"#,
            ),
            (
                "description",
                r#"{{ template "pagerduty.default.description" .}}"#,
            ),
            ("severity", "error"),
            ("source", ""),
            ("class", ""),
            ("component", ""),
            ("group", ""),
        ];
        let mut texts: BTreeMap<&'static str, String> = defaults
            .into_iter()
            .map(|(name, default)| (name, reader.text(name, default)))
            .collect();
        if texts.get("source").is_some_and(String::is_empty) {
            let client = texts.get("client").cloned().unwrap_or_default();
            texts.insert("source", client);
        }
        let details = details(reader);
        let images = reader.objects("images", "config.PagerdutyImage", &["src", "alt", "href"]);
        let links = reader.objects("links", "config.PagerdutyLink", &["href", "text"]);
        let mut url = reader.text("url", &reader.global.pagerduty_url);
        if service_key.is_set() && url == PAGERDUTY_V2 {
            PAGERDUTY_V1.clone_into(&mut url);
        }
        reader.check_url(&url);
        Self {
            send_resolved: reader.bool("send_resolved", true),
            url,
            http: reader.http(),
            routing_key,
            service_key,
            texts,
            details,
            images,
            links,
            timeout: reader.timeout(),
        }
    }

    fn post(&self, event: Map<String, Json>, judge: Judge) -> Result<Message, RenderError> {
        let url = Secret::new(self.url.as_str());
        let body = Json::Object(event).to_string();
        let mut message = HttpMessage::new(url, self.http.load()?, body, judge);
        message.timeout = self.timeout;
        Ok(Message::Http(Box::new(message)))
    }

    pub(super) fn render(&self, renderer: &Renderer<'_>) -> Result<Message, RenderError> {
        let text = |name: &str| renderer.expand(self.texts.get(name).map_or("", String::as_str));
        let is_firing = renderer.notification.is_firing();
        let key = digest::digest(&digest::SHA256, renderer.notification.group_key.as_bytes());
        let key: String = key
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let mut details = Map::new();
        for (name, source) in &self.details {
            details.insert(name.clone(), renderer.payload(source)?);
        }
        if self.service_key.is_set() {
            return self.render_v1(renderer, &key, &details);
        }
        let mut payload = Map::new();
        payload.insert(
            "summary".to_owned(),
            Json::String(truncated(text("description")?, 1024)),
        );
        payload.insert("source".to_owned(), Json::String(text("source")?));
        for name in ["severity", "class", "component", "group"] {
            let text = text(name)?;
            if !text.is_empty() {
                payload.insert(name.to_owned(), Json::String(text));
            }
        }
        payload.insert("custom_details".to_owned(), Json::Object(details));
        let mut event = Map::new();
        event.insert(
            "routing_key".to_owned(),
            Json::String(renderer.expand(self.routing_key.load()?.expose())?),
        );
        event.insert("dedup_key".to_owned(), Json::String(key));
        event.insert(
            "event_action".to_owned(),
            json!(if is_firing { "trigger" } else { "resolve" }),
        );
        event.insert("payload".to_owned(), Json::Object(payload));
        event.insert("client".to_owned(), Json::String(text("client")?));
        event.insert("client_url".to_owned(), Json::String(text("client_url")?));
        for (name, items) in [("images", &self.images), ("links", &self.links)] {
            let mut expanded = Vec::with_capacity(items.len());
            for item in items {
                expanded.push(renderer.expanded(item)?);
            }
            // Drop images and links without an address, which would show nothing.
            expanded.retain(|item| item.get("src").or_else(|| item.get("href")).is_some());
            if !expanded.is_empty() {
                event.insert(name.to_owned(), Json::Array(expanded));
            }
        }
        self.post(event, judge)
    }

    /// Renders an event for version 1 of the API.
    fn render_v1(
        &self,
        renderer: &Renderer<'_>,
        key: &str,
        details: &Map<String, Json>,
    ) -> Result<Message, RenderError> {
        let text = |name: &str| renderer.expand(self.texts.get(name).map_or("", String::as_str));
        let is_firing = renderer.notification.is_firing();
        let mut event = Map::new();
        event.insert(
            "service_key".to_owned(),
            Json::String(renderer.expand(self.service_key.load()?.expose())?),
        );
        let kind = if is_firing { "trigger" } else { "resolve" };
        event.insert("event_type".to_owned(), json!(kind));
        event.insert("incident_key".to_owned(), json!(key));
        let description = truncated(text("description")?, 1024);
        event.insert("description".to_owned(), Json::String(description));
        if is_firing {
            event.insert("client".to_owned(), Json::String(text("client")?));
            event.insert("client_url".to_owned(), Json::String(text("client_url")?));
        }
        event.insert("details".to_owned(), Json::Object(details.clone()));
        self.post(event, judge_v1)
    }
}

fn details(reader: &mut OptionsReader<'_, '_>) -> BTreeMap<String, Payload> {
    let mut details: BTreeMap<String, Payload> = [
        ("firing", "{{ .Alerts.Firing | toJson }}"),
        ("resolved", "{{ .Alerts.Resolved | toJson }}"),
        ("num_firing", "{{ .Alerts.Firing | len }}"),
        ("num_resolved", "{{ .Alerts.Resolved | len }}"),
    ]
    .into_iter()
    .map(|(name, text)| (name.to_owned(), Payload::Text(text.to_owned())))
    .collect();
    if let Some(node) = reader.fields.take("details") {
        match payload(node) {
            Payload::Map(own) => details.extend(own),
            Payload::Plain(Json::Null) => {}
            _ => reader.require(
                false,
                "cannot unmarshal details into map[string]interface {}",
            ),
        }
    }
    details
}

fn judge(status: u16, body: &[u8]) -> Verdict {
    judge_status(status, body, &[429])
}

/// Judges a response of version 1, which returns 403 when it receives too many events.
fn judge_v1(status: u16, body: &[u8]) -> Verdict {
    judge_status(status, body, &[403])
}
