//! `slack_configs`: Slack messages.

use std::time::Duration;

use common::yaml::{Fields, Issue};
use serde_json::{Map, Value as Json, json};

use super::super::http::HttpConfig;
use super::super::options::{OptionsReader, texts};
use super::super::source::SecretSource;
use crate::notify::message::{HttpMessage, Message, Verdict, judge_status, truncated};
use crate::notify::render::{LenientRenderer, RenderError, Renderer};

/// Maximum length of a title. Slack refuses longer ones.
const TITLE_CHARS_MAX: usize = 1024;

/// The texts of an attachment and their defaults in Alertmanager's expansion order. The order matters because all texts
/// after the first failing template stay empty.
const ATTACHMENT_TEXTS: [(&str, &str); 10] = [
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
    ("image_url", ""),
    ("thumb_url", ""),
    ("footer", r#"{{ template "slack.default.footer" . }}"#),
    ("color", r#"{{ template "slack.default.color" . }}"#),
];

/// The texts of the message and their defaults, like [`ATTACHMENT_TEXTS`].
const MESSAGE_TEXTS: [(&str, &str); 4] = [
    ("channel", ""),
    ("username", r#"{{ template "slack.default.username" . }}"#),
    (
        "icon_emoji",
        r#"{{ template "slack.default.iconemoji" . }}"#,
    ),
    ("icon_url", r#"{{ template "slack.default.iconurl" . }}"#),
];

/// The texts of an attachment that are sent even if empty.
const SENT_EMPTY: [&str; 4] = ["callback_id", "fallback", "footer", "text"];

/// Options of a Slack message.
#[derive(Debug, Clone)]
pub struct Slack {
    /// Whether resolved alerts are sent.
    pub(super) send_resolved: bool,
    /// The URL. Not a template.
    api_url: SecretSource,
    http: HttpConfig,
    attachment: Vec<(&'static str, String)>,
    message: Vec<(&'static str, String)>,
    /// The fields of the attachment, shown as a table.
    fields: Vec<Field>,
    /// The default for whether fields are short.
    short_fields: bool,
    /// Whether user and channel names become links.
    link_names: bool,
    /// The names of the fields that contain Markdown. Not templates.
    markdown_in: Vec<String>,
    /// Buttons under the attachment, as objects of templates.
    actions: Vec<Json>,
    /// The timeout of a request. If `None`, the deadline of the flush applies.
    timeout: Option<Duration>,
}

/// A field of an attachment.
#[derive(Debug, Clone)]
struct Field {
    title: String,
    value: String,
    short: Option<bool>,
}

impl Slack {
    pub(super) fn read(reader: &mut OptionsReader<'_, '_>) -> Self {
        let api_url = reader
            .secret_url("api_url")
            .or(&reader.global.slack_api_url);
        reader.refuse(&[
            "app_token",
            "app_token_file",
            "app_url",
            "message_text",
            "update_message",
        ]);
        reader.require(
            api_url.is_set(),
            "no global Slack API URL set either inline or in a file",
        );
        let mut defaulted = |texts: &[(&'static str, &'static str)]| -> Vec<_> {
            texts
                .iter()
                .map(|&(name, default)| (name, reader.text(name, default)))
                .collect()
        };
        let (attachment, message) = (defaulted(&ATTACHMENT_TEXTS), defaulted(&MESSAGE_TEXTS));
        let mut markdown_in = reader.texts("mrkdwn_in");
        if markdown_in.is_empty() {
            markdown_in = ["fallback", "pretext", "text"].map(str::to_owned).to_vec();
        }
        Self {
            send_resolved: reader.bool("send_resolved", false),
            api_url,
            http: reader.http(),
            attachment,
            message,
            fields: fields(reader),
            actions: actions(reader),
            short_fields: reader.bool("short_fields", false),
            link_names: reader.bool("link_names", false),
            markdown_in,
            timeout: reader.timeout(),
        }
    }

    /// Renders the message. As in Alertmanager, a failing template truncates its text and leaves later texts empty. An
    /// incomplete message is better than none.
    pub(super) fn render(&self, renderer: &Renderer<'_>) -> Result<Message, RenderError> {
        let mut lenient = LenientRenderer::new(renderer);
        let attachment = self.attachment(&mut lenient);
        let mut message = Map::new();
        for (name, source) in &self.message {
            let text = lenient.expand(source);
            if !text.is_empty() {
                message.insert((*name).to_owned(), Json::String(text));
            }
        }
        if self.link_names {
            message.insert("link_names".to_owned(), Json::Bool(true));
        }
        message.insert("attachments".to_owned(), json!([attachment]));
        lenient.report();
        let body = Json::Object(message).to_string();
        let mut message = HttpMessage::new(self.api_url.load()?, self.http.load()?, body, judge);
        message.timeout = self.timeout;
        Ok(Message::Http(Box::new(message)))
    }

    fn attachment(&self, lenient: &mut LenientRenderer<'_, '_>) -> Map<String, Json> {
        let mut attachment = Map::new();
        for (name, source) in &self.attachment {
            let mut text = lenient.expand(source);
            if *name == "title" {
                text = truncated(text, TITLE_CHARS_MAX);
            }
            if !text.is_empty() || SENT_EMPTY.contains(name) {
                attachment.insert((*name).to_owned(), Json::String(text));
            }
        }
        let fields: Vec<Json> = self
            .fields
            .iter()
            .map(|field| self.field(field, lenient))
            .collect();
        if !fields.is_empty() {
            attachment.insert("fields".to_owned(), Json::Array(fields));
        }
        let actions: Vec<Json> = self
            .actions
            .iter()
            .map(|action| lenient.expanded(action))
            .collect();
        if !actions.is_empty() {
            attachment.insert("actions".to_owned(), Json::Array(actions));
        }
        attachment.insert("mrkdwn_in".to_owned(), json!(self.markdown_in));
        attachment
    }

    fn field(&self, field: &Field, lenient: &mut LenientRenderer<'_, '_>) -> Json {
        let mut json = Map::new();
        for (name, source) in [("title", &field.title), ("value", &field.value)] {
            let text = lenient.expand(source);
            if !text.is_empty() {
                json.insert(name.to_owned(), Json::String(text));
            }
        }
        json.insert(
            "short".to_owned(),
            json!(field.short.unwrap_or(self.short_fields)),
        );
        Json::Object(json)
    }
}

/// Judges a response. Slack reports some errors with status 200 and `"ok": false`.
fn judge(status: u16, body: &[u8]) -> Verdict {
    let verdict = judge_status(status, body, &[429]);
    let json: Option<Json> = serde_json::from_slice(body).ok();
    let is_refused = json.is_some_and(|json| json.get("ok") == Some(&Json::Bool(false)));
    if verdict == Verdict::Sent && is_refused {
        return Verdict::Failed(format!("Slack refused: {}", String::from_utf8_lossy(body)));
    }
    verdict
}

fn fields(reader: &mut OptionsReader<'_, '_>) -> Vec<Field> {
    let items = reader.fields.take("fields").map_or(&[][..], |node| {
        node.read_list("[]config.SlackField", reader.issues)
    });
    let mut slack_fields = Vec::with_capacity(items.len());
    for item in items {
        let mut fields = Fields::new(item, "config.SlackField", reader.issues);
        let field = Field {
            title: fields.text("title", reader.issues).unwrap_or_default(),
            value: fields.text("value", reader.issues).unwrap_or_default(),
            short: fields.bool("short", reader.issues),
        };
        if field.title.is_empty() || field.value.is_empty() {
            reader.issues.push(Issue::new(
                item.position,
                "missing title or value in Slack field configuration",
            ));
        }
        fields.finish(reader.issues);
        slack_fields.push(field);
    }
    slack_fields
}

fn actions(reader: &mut OptionsReader<'_, '_>) -> Vec<Json> {
    let items = reader.fields.take("actions").map_or(&[][..], |node| {
        node.read_list("[]config.SlackAction", reader.issues)
    });
    let mut actions = Vec::with_capacity(items.len());
    for item in items {
        let mut fields = Fields::new(item, "config.SlackAction", reader.issues);
        let mut action = texts(
            &mut fields,
            &["type", "text", "url", "style", "name", "value"],
            reader.issues,
        );
        for name in ["type", "text"] {
            if !action.contains_key(name) {
                let message = format!("missing {name} in Slack action configuration");
                reader.issues.push(Issue::new(item.position, message));
            }
        }
        if !action.contains_key("url") && !action.contains_key("name") {
            let message = "missing name or url in Slack action configuration";
            reader.issues.push(Issue::new(item.position, message));
        }
        if let Some(confirm) = fields.take("confirm") {
            let mut fields = Fields::new(confirm, "config.SlackConfirmationField", reader.issues);
            let names = ["title", "text", "ok_text", "dismiss_text"];
            let confirmation = texts(&mut fields, &names, reader.issues);
            fields.finish(reader.issues);
            if !confirmation.contains_key("text") {
                let message = "missing text in Slack confirmation configuration";
                reader.issues.push(Issue::new(confirm.position, message));
            }
            action.insert("confirm".to_owned(), Json::Object(confirmation));
        }
        fields.finish(reader.issues);
        // A link button has neither a confirmation nor a value.
        if action.contains_key("url") {
            for name in ["name", "value", "confirm"] {
                action.remove(name);
            }
        }
        actions.push(Json::Object(action));
    }
    actions
}
