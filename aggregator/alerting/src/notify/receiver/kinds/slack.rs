//! `slack_configs`: a Slack message.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::super::http::HttpOptions;
use super::super::{Global, Secret};
use super::{KindReader, texts};
use common::yaml::{Fields, Issue};

/// A Slack message.
#[derive(Debug, Clone)]
pub struct Slack {
    /// Whether to tell of ends.
    pub send_resolved: bool,
    /// Where to; no template.
    pub api_url: Secret,
    /// How.
    pub http: HttpOptions,
    /// Texts by the field of the attachment or the message they go to.
    pub texts: BTreeMap<&'static str, String>,
    /// The table inside the attachment.
    pub fields: Vec<SlackField>,
    /// Whether all fields are short unless they say otherwise.
    pub short_fields: bool,
    /// Whether names are linked.
    pub link_names: bool,
    /// Which fields are marked up; no templates.
    pub markdown_in: Vec<String>,
    /// Buttons under the attachment, as objects whose texts are templates.
    pub actions: Vec<Json>,
}

/// A field of a Slack attachment.
#[derive(Debug, Clone)]
pub struct SlackField {
    /// Its title.
    pub title: String,
    /// Its text.
    pub value: String,
    /// Whether it may share a line.
    pub short: Option<bool>,
}

impl KindReader<'_, '_> {
    pub(super) fn slack(&mut self, global: &Global) -> Slack {
        let own = self.secret("api_url");
        let api_url = if own.is_empty() {
            global.slack_api_url.clone()
        } else {
            own
        };
        self.require(
            !api_url.is_empty(),
            "no global Slack API URL set either inline or in a file",
        );
        self.require_url(api_url.expose());
        let defaults = [
            ("channel", ""),
            ("username", r#"{{ template "slack.default.username" . }}"#),
            (
                "color",
                r#"{{ if eq .Status "firing" }}danger{{ else }}good{{ end }}"#,
            ),
            ("title", r#"{{ template "slack.default.title" . }}"#),
            (
                "title_link",
                r#"{{ template "slack.default.titlelink" . }}"#,
            ),
            ("pretext", r#"{{ template "slack.default.pretext" . }}"#),
            ("text", r#"{{ template "slack.default.text" . }}"#),
            ("fallback", r#"{{ template "slack.default.fallback" . }}"#),
            (
                "callback_id",
                r#"{{ template "slack.default.callbackid" . }}"#,
            ),
            (
                "icon_emoji",
                r#"{{ template "slack.default.iconemoji" . }}"#,
            ),
            ("icon_url", r#"{{ template "slack.default.iconurl" . }}"#),
            ("image_url", ""),
            ("thumb_url", ""),
            ("footer", r#"{{ template "slack.default.footer" . }}"#),
        ];
        let texts = defaults
            .into_iter()
            .map(|(name, default)| (name, self.text(name, default)))
            .collect();
        let markdown = self
            .fields
            .take("mrkdwn_in")
            .map(|node| node.read_texts(self.issues));
        Slack {
            send_resolved: self.bool("send_resolved", false),
            api_url,
            http: self.http(global),
            texts,
            fields: self.slack_fields(),
            actions: self.slack_actions(),
            short_fields: self.bool("short_fields", false),
            link_names: self.bool("link_names", false),
            markdown_in: markdown
                .filter(|names| !names.is_empty())
                .unwrap_or_else(|| ["fallback", "pretext", "text"].map(str::to_owned).to_vec()),
        }
    }

    fn slack_fields(&mut self) -> Vec<SlackField> {
        let items = self.fields.take("fields").map_or(&[][..], |node| {
            node.read_list("[]config.SlackField", self.issues)
        });
        let mut slack_fields = Vec::with_capacity(items.len());
        for item in items {
            let mut fields = Fields::new(item, "config.SlackField", self.issues);
            let field = SlackField {
                title: fields.text("title", self.issues).unwrap_or_default(),
                value: fields.text("value", self.issues).unwrap_or_default(),
                short: fields.bool("short", self.issues),
            };
            if field.title.is_empty() || field.value.is_empty() {
                self.issues.push(Issue::new(
                    item.position,
                    "missing title or value in Slack field configuration",
                ));
            }
            fields.finish(self.issues);
            slack_fields.push(field);
        }
        slack_fields
    }

    fn slack_actions(&mut self) -> Vec<Json> {
        let items = self.fields.take("actions").map_or(&[][..], |node| {
            node.read_list("[]config.SlackAction", self.issues)
        });
        let mut actions = Vec::with_capacity(items.len());
        for item in items {
            let mut fields = Fields::new(item, "config.SlackAction", self.issues);
            let mut action = texts(
                &mut fields,
                &["type", "text", "url", "style", "name", "value"],
                self.issues,
            );
            for name in ["type", "text"] {
                if !action.contains_key(name) {
                    let message = format!("missing {name} in Slack action configuration");
                    self.issues.push(Issue::new(item.position, message));
                }
            }
            if !action.contains_key("url") && !action.contains_key("name") {
                let message = "missing name or url in Slack action configuration";
                self.issues.push(Issue::new(item.position, message));
            }
            if let Some(confirm) = fields.take("confirm") {
                let mut fields = Fields::new(confirm, "config.SlackConfirmationField", self.issues);
                let names = ["title", "text", "ok_text", "dismiss_text"];
                let confirmation = texts(&mut fields, &names, self.issues);
                fields.finish(self.issues);
                if !confirmation.contains_key("text") {
                    let message = "missing text in Slack confirmation configuration";
                    self.issues.push(Issue::new(confirm.position, message));
                }
                action.insert("confirm".to_owned(), Json::Object(confirmation));
            }
            fields.finish(self.issues);
            // One that leads somewhere asks for nothing and tells nobody.
            if action.contains_key("url") {
                for name in ["name", "value", "confirm"] {
                    action.remove(name);
                }
            }
            actions.push(Json::Object(action));
        }
        actions
    }
}
