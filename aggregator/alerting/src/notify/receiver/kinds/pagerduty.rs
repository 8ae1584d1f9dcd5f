//! `pagerduty_configs`: an event.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::super::http::HttpOptions;
use super::super::{Global, Secret};
use super::KindReader;
use super::webhook::{Payload, payload};

/// Where PagerDuty takes events, of either version.
pub(in super::super) const PAGERDUTY_V2: &str = "https://events.pagerduty.com/v2/enqueue";
const PAGERDUTY_V1: &str = "https://events.pagerduty.com/generic/2010-04-15/create_event.json";

/// A PagerDuty event, of version 1 when there is a service key.
#[derive(Debug, Clone)]
pub struct PagerDuty {
    /// Whether to tell of ends.
    pub send_resolved: bool,
    /// Where to; no template.
    pub url: String,
    /// How.
    pub http: HttpOptions,
    /// The key of the integration, version 2.
    pub routing_key: Secret,
    /// The key of the integration, version 1.
    pub service_key: Secret,
    /// Texts by the event's field.
    pub texts: BTreeMap<&'static str, String>,
    /// `custom_details`.
    pub details: BTreeMap<String, Payload>,
    /// Pictures, as objects whose texts are templates.
    pub images: Vec<Json>,
    /// Links, likewise.
    pub links: Vec<Json>,
}

impl KindReader<'_, '_> {
    pub(super) fn pagerduty(&mut self, global: &Global) -> PagerDuty {
        let routing_key = self.secret("routing_key");
        let service_key = self.secret("service_key");
        self.require(
            !routing_key.is_empty() || !service_key.is_empty(),
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
            .map(|(name, default)| (name, self.text(name, default)))
            .collect();
        if texts.get("source").is_some_and(String::is_empty) {
            let client = texts.get("client").cloned().unwrap_or_default();
            texts.insert("source", client);
        }
        let details = self.pagerduty_details();
        let images = self.objects("images", "config.PagerdutyImage", &["src", "alt", "href"]);
        let links = self.objects("links", "config.PagerdutyLink", &["href", "text"]);
        let mut url = self.text("url", &global.pagerduty_url);
        if !service_key.is_empty() && url == PAGERDUTY_V2 {
            PAGERDUTY_V1.clone_into(&mut url);
        }
        self.require_url(&url);
        let send_resolved = self.bool("send_resolved", true);
        PagerDuty {
            send_resolved,
            url,
            http: self.http(global),
            routing_key,
            service_key,
            texts,
            details,
            images,
            links,
        }
    }

    fn pagerduty_details(&mut self) -> BTreeMap<String, Payload> {
        let mut details: BTreeMap<String, Payload> = [
            ("firing", "{{ .Alerts.Firing | toJson }}"),
            ("resolved", "{{ .Alerts.Resolved | toJson }}"),
            ("num_firing", "{{ .Alerts.Firing | len }}"),
            ("num_resolved", "{{ .Alerts.Resolved | len }}"),
        ]
        .into_iter()
        .map(|(name, text)| (name.to_owned(), Payload::Text(text.to_owned())))
        .collect();
        if let Some(node) = self.fields.take("details") {
            match payload(node) {
                Payload::Map(own) => details.extend(own),
                Payload::Plain(Json::Null) => {}
                _ => self.require(false, "details of PagerDuty are no map"),
            }
        }
        details
    }
}
