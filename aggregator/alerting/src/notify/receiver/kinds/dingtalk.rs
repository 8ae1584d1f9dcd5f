//! `dingtalk_configs`: messages sent through a DingTalk robot.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::secret::Secret;
use ring::hmac;
use serde_json::{Map, Value as Json, json};

use super::super::http::HttpConfig;
use super::super::options::OptionsReader;
use super::super::source::SecretSource;
use crate::notify::message::{HttpMessage, Message, RateLimit, Verdict, judge_error_code};
use crate::notify::render::{RenderError, Renderer};

/// Stays below DingTalk's limit: more than 20 messages within a minute block a robot for ten minutes, according to
/// DingTalk's documentation of custom robots.
const RATE_LIMIT: RateLimit = RateLimit {
    messages: 18,
    window: Duration::from_secs(60),
};

/// Options of a DingTalk robot.
#[derive(Debug, Clone)]
pub struct DingTalk {
    /// Whether resolved alerts are sent.
    pub(super) send_resolved: bool,
    /// The URL of the robot with its token. Not a template.
    url: SecretSource,
    http: HttpConfig,
    /// The key that signs each request, if set.
    secret: SecretSource,
    /// The template of the heading of Markdown messages.
    title: String,
    /// The template of the text.
    text: String,
    /// `text` or `markdown`.
    message_type: String,
    /// The phone numbers of people to mention.
    at_mobiles: Vec<String>,
    /// Whether to mention everybody.
    at_all: bool,
}

impl DingTalk {
    pub(super) fn read(reader: &mut OptionsReader<'_, '_>) -> Self {
        let url = reader.secret_url("url");
        reader.require(url.is_set(), "one of url or url_file must be configured");
        let dingtalk = Self {
            send_resolved: reader.bool("send_resolved", true),
            url,
            http: reader.http(),
            secret: reader.secret("secret"),
            title: reader.text("title", r#"{{ template "__subject" . }}"#),
            text: reader.text("text", r#"{{ template "dingtalk.default.text" . }}"#),
            message_type: reader.text("message_type", "markdown"),
            at_mobiles: reader.texts("at_mobiles"),
            at_all: reader.bool("at_all", false),
        };
        reader.require(
            matches!(dingtalk.message_type.as_str(), "text" | "markdown"),
            "DingTalk message type does not match valid options text|markdown",
        );
        dingtalk
    }

    pub(super) fn render(&self, renderer: &Renderer<'_>) -> Result<Message, RenderError> {
        let text = renderer.expand(&self.text)?;
        let content = if self.message_type == "text" {
            json!({ "content": text })
        } else {
            json!({ "title": renderer.expand(&self.title)?, "text": text })
        };
        let mut body = Map::new();
        body.insert("msgtype".to_owned(), json!(self.message_type));
        body.insert(self.message_type.clone(), content);
        body.insert(
            "at".to_owned(),
            json!({ "atMobiles": self.at_mobiles, "isAtAll": self.at_all }),
        );
        let mut message = HttpMessage::new(
            self.url.load()?,
            self.http.load()?,
            Json::Object(body).to_string(),
            judge,
        );
        message.signing_secret = self.secret.load()?;
        message.rate_limit = Some(RATE_LIMIT);
        Ok(Message::Http(Box::new(message)))
    }
}

fn judge(status: u16, body: &[u8]) -> Verdict {
    judge_error_code(status, body)
}

/// Adds the time and its signature to the URL of a robot.
pub(in crate::notify) fn signed_url(url: &str, secret: &Secret<String>, now_ms: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let signature = hmac::sign(&key, format!("{now_ms}\n{}", secret.expose()).as_bytes());
    let encoded = STANDARD
        .encode(signature.as_ref())
        .replace('+', "%2B")
        .replace('/', "%2F")
        .replace('=', "%3D");
    format!("{url}&timestamp={now_ms}&sign={encoded}")
}
