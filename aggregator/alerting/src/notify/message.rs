//! What is sent: a notification made into the request or mail of its integration.

mod webhook;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use common::model::Labels;
use jiff::Timestamp;
use ring::{digest, hmac};
use serde_json::{Map, Value as Json, json};

use super::alert::Alert;
use super::config::Config;
use super::log::Reason;
use super::receiver::{
    DingTalk, Email, HttpOptions, Integration, MailServer, PagerDuty, Payload, Secret, Slack,
    WeChat, Webhook,
};
use crate::template::notification::{self, AlertData, Data};
use crate::template::{Env, Escaping, ExpandError, Job, Value};

/// What a receiver is told about, before it has a form.
#[derive(Debug, Clone)]
pub struct Notification {
    /// The receiver's name.
    pub receiver: String,
    /// The group's key.
    pub group_key: String,
    /// The labels of the group.
    pub group_labels: Labels,
    /// The alerts, in the order in which they are told.
    pub alerts: Vec<Arc<Alert>>,
    /// Why it is due.
    pub reason: Reason,
    /// The labels of the route.
    pub route_labels: Labels,
    /// When it was made, milliseconds since the epoch.
    pub now_ms: i64,
    /// The URL under which users reach the server.
    pub external_url: String,
}

/// A notification in the form of its integration.
#[derive(Debug, Clone)]
pub enum Message {
    /// A POST of JSON.
    Http(Box<HttpMessage>),
    /// A mail.
    Mail(Box<MailMessage>),
    /// A POST that needs a token of WeChat first.
    WeChat(Box<WeChatMessage>),
}

/// A POST of JSON.
#[derive(Debug, Clone)]
pub struct HttpMessage {
    /// Where to.
    pub url: Secret,
    /// When it is there, the URL is signed with it at the time of each attempt.
    pub signing_secret: Secret,
    /// How.
    pub http: HttpOptions,
    /// What.
    pub body: Bytes,
    /// The most that a request may take.
    pub timeout: Option<Duration>,
    /// How to read the answer.
    pub answer: Answer,
    /// Most messages that the service accepts from one URL, if it punishes more.
    pub rate_limit: Option<RateLimit>,
}

/// How many messages may go to one URL within a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// The number of messages.
    pub messages: usize,
    /// The time.
    pub window: Duration,
}

/// A DingTalk robot that gets more than 20 messages a minute is silenced for ten minutes: stay below.
const DINGTALK_RATE_LIMIT: RateLimit = RateLimit {
    messages: 18,
    window: Duration::from_secs(60),
};

/// A mail.
#[derive(Debug, Clone)]
pub struct MailMessage {
    /// Where it goes first.
    pub server: MailServer,
    /// The sender.
    pub from: String,
    /// Who gets it, separated by commas.
    pub to: String,
    /// The subject.
    pub subject: String,
    /// Further header lines.
    pub headers: Vec<(String, String)>,
    /// The text part; empty is none.
    pub text: String,
    /// The HTML part; empty is none.
    pub html: String,
}

/// A POST to WeChat Work.
#[derive(Debug, Clone)]
pub struct WeChatMessage {
    /// The API, with a slash at the end.
    pub api_url: String,
    /// The company.
    pub corp_id: String,
    /// The application's secret.
    pub api_secret: Secret,
    /// How.
    pub http: HttpOptions,
    /// What.
    pub body: Bytes,
}

/// How the answer to a POST is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// 2xx is success, 5xx worth another try.
    Webhook,
    /// As a webhook's; 429 is worth another try, and a body that says `"ok": false` is a failure.
    Slack,
    /// As a webhook's; 429 is worth another try.
    PagerDuty,
    /// As a webhook's; 403 says that there were too many events and is worth another try.
    PagerDutyV1,
    /// A JSON body with `errcode`, 0 for success.
    ErrorCode,
}

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has it.
    Sent,
    /// Not now, perhaps later.
    Retry(String),
    /// Never.
    Failed(String),
}

impl Answer {
    /// Judges the answer `status` with the beginning of its body.
    #[must_use]
    pub fn judge(self, status: u16, body: &[u8]) -> Verdict {
        let text = String::from_utf8_lossy(body);
        let shown: String = text.chars().take(200).collect();
        let message = format!("unexpected status code {status}: {shown}");
        let is_limit = matches!(
            (self, status),
            (Self::Slack | Self::PagerDuty, 429) | (Self::PagerDutyV1, 403)
        );
        match status {
            200..=299 => self.judge_body(body, &shown),
            500..=599 => Verdict::Retry(message),
            _ if is_limit => Verdict::Retry(message),
            _ => Verdict::Failed(message),
        }
    }

    fn judge_body(self, body: &[u8], shown: &str) -> Verdict {
        let json: Option<Json> = serde_json::from_slice(body).ok();
        match (self, json) {
            (Self::Slack, Some(json)) if json.get("ok") == Some(&Json::Bool(false)) => {
                Verdict::Failed(format!("Slack refused: {shown}"))
            }
            (Self::ErrorCode, Some(json)) => match json.get("errcode").and_then(Json::as_i64) {
                Some(0) => Verdict::Sent,
                // The robot's and the application's limits of messages a minute.
                Some(130_101 | 660_026 | 45_009) => Verdict::Retry(format!("rate limit: {shown}")),
                _ => Verdict::Failed(format!("refused: {shown}")),
            },
            (Self::ErrorCode, None) => Verdict::Failed(format!("answer is no JSON: {shown}")),
            _ => Verdict::Sent,
        }
    }
}

/// Adds the time and its signature to a DingTalk robot's URL.
#[must_use]
pub fn signed_url(url: &str, secret: &Secret, now_ms: i64) -> String {
    if secret.is_empty() {
        return url.to_owned();
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let signature = hmac::sign(&key, format!("{now_ms}\n{}", secret.expose()).as_bytes());
    let encoded = STANDARD
        .encode(signature.as_ref())
        .replace('+', "%2B")
        .replace('/', "%2F")
        .replace('=', "%3D");
    format!("{url}&timestamp={now_ms}&sign={encoded}")
}

/// A webhook with more alerts than this takes its time.
const QUICK_ALERTS_MAX: usize = 100;

/// Fields of a Slack attachment that are sent empty too.
const ALWAYS_THERE: [&str; 4] = ["callback_id", "fallback", "footer", "text"];

/// Whether `notification` takes its form in some microseconds, without a template.
#[must_use]
pub fn is_quick(integration: &Integration, notification: &Notification) -> bool {
    let Integration::Webhook(webhook) = integration else {
        return false;
    };
    webhook.payload.is_none()
        && !webhook.url.expose().contains("{{")
        && notification.alerts.len() <= QUICK_ALERTS_MAX
}

struct Maker<'a> {
    config: &'a Config,
    notification: &'a Notification,
    /// What templates see, once there is one.
    data: OnceCell<Value>,
}

/// Gives `notification` the form of `integration`.
///
/// # Errors
/// A template fails.
pub fn make(
    config: &Config,
    integration: &Integration,
    notification: &Notification,
) -> Result<Message, ExpandError> {
    let maker = Maker {
        config,
        notification,
        data: OnceCell::new(),
    };
    match integration {
        Integration::Webhook(webhook) => maker.webhook(webhook),
        Integration::Email(email) => maker.email(email),
        Integration::Slack(slack) => maker.slack(slack),
        Integration::PagerDuty(pagerduty) => maker.pagerduty(pagerduty),
        Integration::WeChat(wechat) => maker.wechat(wechat),
        Integration::DingTalk(dingtalk) => maker.dingtalk(dingtalk),
    }
}

impl Notification {
    /// Whether any alert fires.
    #[must_use]
    pub fn is_firing(&self) -> bool {
        self.alerts
            .iter()
            .any(|alert| !alert.is_resolved(self.now_ms))
    }

    fn status(&self) -> &'static str {
        if self.is_firing() {
            "firing"
        } else {
            "resolved"
        }
    }

    /// What templates see.
    #[must_use]
    pub fn data(&self) -> Data {
        let alerts = self.alerts.iter().map(|alert| {
            let is_resolved = alert.is_resolved(self.now_ms);
            AlertData {
                status: if is_resolved { "resolved" } else { "firing" },
                labels: alert.labels.clone(),
                annotations: alert.annotations.clone(),
                starts_at_ms: alert.starts_at_ms,
                ends_at_ms: is_resolved.then_some(alert.ends_at_ms),
                generator_url: alert.generator_url.clone(),
                fingerprint: alert.fingerprint_text(),
            }
        });
        Data {
            receiver: quote_meta(&self.receiver),
            status: self.status(),
            alerts: alerts.collect(),
            group_labels: self.group_labels.clone(),
            route_labels: self.route_labels.clone(),
            common_labels: common(self.alerts.iter().map(|alert| &alert.labels)),
            common_annotations: common(self.alerts.iter().map(|alert| &alert.annotations)),
            external_url: self.external_url.clone(),
            group_key: self.group_key.clone(),
        }
    }
}

/// The pairs that all sets have.
fn common<'a>(mut sets: impl Iterator<Item = &'a Labels>) -> Labels {
    let Some(first) = sets.next() else {
        return Labels::empty();
    };
    let mut pairs: BTreeMap<&str, &str> = first.iter().collect();
    for set in sets {
        pairs.retain(|name, value| set.get(name) == Some(value));
    }
    Labels::from_sorted(pairs)
}

/// `regexp.QuoteMeta`, which Alertmanager applies to the receiver's name.
fn quote_meta(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// RFC 3339 as Go prints it: no trailing zeros in the fraction.
#[must_use]
pub fn format_time(time_ms: i64) -> String {
    match Timestamp::from_millisecond(time_ms) {
        Ok(time) => time.to_string(),
        Err(_) => "0001-01-01T00:00:00Z".to_owned(),
    }
}

/// The longest beginning of `text` with at most `chars_max` characters, with an ellipsis when it was cut.
fn truncated(text: String, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text;
    }
    let mut cut: String = text.chars().take(chars_max - 1).collect();
    cut.push('…');
    cut
}

impl Maker<'_> {
    fn expand(&self, source: &str) -> Result<String, ExpandError> {
        self.expand_as(source, Escaping::None)
    }

    fn expand_as(&self, source: &str, escaping: Escaping) -> Result<String, ExpandError> {
        if !source.contains("{{") {
            return Ok(source.to_owned());
        }
        let job = Job {
            name: "",
            source,
            functions: notification::lookup,
            limits: notification::LIMITS,
            escaping,
        };
        let mut env = Env {
            now_ms: self.notification.now_ms,
            external_url: &self.notification.external_url,
            query: None,
            queries_left: 0,
        };
        let data = self
            .data
            .get_or_init(|| self.notification.data().to_value());
        self.config.templates.expand(&job, data.clone(), &mut env)
    }

    fn http(
        &self,
        url: &str,
        http: &HttpOptions,
        body: impl Into<Bytes>,
        answer: Answer,
    ) -> Message {
        Message::Http(Box::new(HttpMessage {
            url: Secret::new(url),
            signing_secret: Secret::default(),
            http: http.clone(),
            body: body.into(),
            timeout: None,
            answer,
            rate_limit: None,
        }))
    }

    fn webhook(&self, webhook: &Webhook) -> Result<Message, ExpandError> {
        let url = self.expand(webhook.url.expose())?;
        let body = match &webhook.payload {
            Some(payload) => Bytes::from(self.payload(payload)?.to_string()),
            None => Bytes::from(webhook::body(self.notification, webhook.alerts_max)?),
        };
        let mut message = self.http(&url, &webhook.http, body, Answer::Webhook);
        if let Message::Http(message) = &mut message {
            message.timeout = webhook.timeout;
        }
        Ok(message)
    }

    fn payload(&self, payload: &Payload) -> Result<Json, ExpandError> {
        Ok(match payload {
            Payload::Plain(value) => value.clone(),
            Payload::Text(source) => {
                let text = self.expand(source)?;
                // What a template builds may be more than a text. The texts within it stay what they are: Alertmanager
                // would expand them once more, and make numbers of those that look like one.
                let value = serde_json::from_str::<Json>(&text).ok();
                value
                    .filter(|value| !value.is_string())
                    .unwrap_or(Json::String(text))
            }
            Payload::List(items) => items
                .iter()
                .map(|item| self.payload(item))
                .collect::<Result<Vec<_>, _>>()?
                .into(),
            Payload::Map(entries) => {
                let mut map = Map::new();
                for (key, value) in entries {
                    map.insert(self.expand(key)?, self.payload(value)?);
                }
                Json::Object(map)
            }
        })
    }

    fn email(&self, email: &Email) -> Result<Message, ExpandError> {
        let mut headers = Vec::new();
        let mut subject = self.expand(r#"{{ template "email.default.subject" . }}"#)?;
        let (mut to, mut from) = (self.expand(&email.to)?, self.expand(&email.from)?);
        for (name, source) in &email.headers {
            let text = self.expand(source)?;
            match name.as_str() {
                "Subject" => subject = text,
                "To" => to = text,
                "From" => from = text,
                _ => headers.push((name.clone(), text)),
            }
        }
        Ok(Message::Mail(Box::new(MailMessage {
            server: email.server.clone(),
            from,
            to,
            subject,
            headers,
            text: self.expand(&email.text)?,
            html: self.expand_as(&email.html, Escaping::Html)?,
        })))
    }

    fn slack(&self, slack: &Slack) -> Result<Message, ExpandError> {
        let mut attachment = Map::new();
        let mut message = Map::new();
        for (name, source) in &slack.texts {
            let text = self.expand(source)?;
            // Slack cuts titles itself, but not without an error.
            let text = if *name == "title" {
                truncated(text, 1024)
            } else {
                text
            };
            let is_of_message = matches!(*name, "channel" | "username" | "icon_emoji" | "icon_url");
            if !text.is_empty() || ALWAYS_THERE.contains(name) {
                let target = if is_of_message {
                    &mut message
                } else {
                    &mut attachment
                };
                target.insert((*name).to_owned(), Json::String(text));
            }
        }
        let mut fields = Vec::with_capacity(slack.fields.len());
        for field in &slack.fields {
            fields.push(json!({
                "title": self.expand(&field.title)?,
                "value": self.expand(&field.value)?,
                "short": field.short.unwrap_or(slack.short_fields),
            }));
        }
        if !fields.is_empty() {
            attachment.insert("fields".to_owned(), Json::Array(fields));
        }
        let mut actions = Vec::with_capacity(slack.actions.len());
        for action in &slack.actions {
            actions.push(self.expanded(action)?);
        }
        if !actions.is_empty() {
            attachment.insert("actions".to_owned(), Json::Array(actions));
        }
        attachment.insert("mrkdwn_in".to_owned(), json!(slack.markdown_in));
        if slack.link_names {
            message.insert("link_names".to_owned(), Json::Bool(true));
        }
        message.insert("attachments".to_owned(), json!([attachment]));
        Ok(self.http(
            slack.api_url.expose(),
            &slack.http,
            Json::Object(message).to_string(),
            Answer::Slack,
        ))
    }

    /// A JSON value with its texts expanded; fields that come out empty are left out.
    fn expanded(&self, value: &Json) -> Result<Json, ExpandError> {
        Ok(match value {
            Json::String(source) => Json::String(self.expand(source)?),
            Json::Object(fields) => {
                let mut map = Map::new();
                for (name, value) in fields {
                    let value = self.expanded(value)?;
                    if value != json!("") {
                        map.insert(name.clone(), value);
                    }
                }
                Json::Object(map)
            }
            other => other.clone(),
        })
    }

    fn pagerduty(&self, pagerduty: &PagerDuty) -> Result<Message, ExpandError> {
        let text = |name: &str| self.expand(pagerduty.texts.get(name).map_or("", String::as_str));
        let is_firing = self.notification.is_firing();
        let key = digest::digest(&digest::SHA256, self.notification.group_key.as_bytes());
        let key: String = key
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let mut details = Map::new();
        for (name, source) in &pagerduty.details {
            details.insert(name.clone(), self.payload(source)?);
        }
        if !pagerduty.service_key.is_empty() {
            return self.pagerduty_v1(pagerduty, &key, &details);
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
            Json::String(self.expand(pagerduty.routing_key.expose())?),
        );
        event.insert("dedup_key".to_owned(), Json::String(key));
        event.insert(
            "event_action".to_owned(),
            json!(if is_firing { "trigger" } else { "resolve" }),
        );
        event.insert("payload".to_owned(), Json::Object(payload));
        event.insert("client".to_owned(), Json::String(text("client")?));
        event.insert("client_url".to_owned(), Json::String(text("client_url")?));
        for (name, items) in [("images", &pagerduty.images), ("links", &pagerduty.links)] {
            let mut expanded = Vec::with_capacity(items.len());
            for item in items {
                expanded.push(self.expanded(item)?);
            }
            // One without an address shows nothing.
            expanded.retain(|item| item.get("src").or_else(|| item.get("href")).is_some());
            if !expanded.is_empty() {
                event.insert(name.to_owned(), Json::Array(expanded));
            }
        }
        Ok(self.http(
            &pagerduty.url,
            &pagerduty.http,
            Json::Object(event).to_string(),
            Answer::PagerDuty,
        ))
    }

    /// An event of the first version of the API.
    fn pagerduty_v1(
        &self,
        pagerduty: &PagerDuty,
        key: &str,
        details: &Map<String, Json>,
    ) -> Result<Message, ExpandError> {
        let text = |name: &str| self.expand(pagerduty.texts.get(name).map_or("", String::as_str));
        let is_firing = self.notification.is_firing();
        let mut event = Map::new();
        event.insert(
            "service_key".to_owned(),
            Json::String(self.expand(pagerduty.service_key.expose())?),
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
        let answer = Answer::PagerDutyV1;
        let body = Json::Object(event).to_string();
        Ok(self.http(&pagerduty.url, &pagerduty.http, body, answer))
    }

    fn wechat(&self, wechat: &WeChat) -> Result<Message, ExpandError> {
        let kind = wechat.message_type.as_str();
        let mut body = Map::new();
        // Both kinds are always there, one of them empty.
        for name in ["text", "markdown"] {
            body.insert(name.to_owned(), json!({ "content": "" }));
        }
        let content = self.expand(&wechat.message)?;
        body.insert(kind.to_owned(), json!({ "content": content }));
        for (name, source) in ["touser", "toparty", "totag"].into_iter().zip(&wechat.to) {
            let text = self.expand(source)?;
            if !text.is_empty() {
                body.insert(name.to_owned(), Json::String(text));
            }
        }
        body.insert(
            "agentid".to_owned(),
            Json::String(self.expand(&wechat.agent_id)?),
        );
        body.insert("safe".to_owned(), json!("0"));
        body.insert("msgtype".to_owned(), json!(kind));
        Ok(Message::WeChat(Box::new(WeChatMessage {
            api_url: wechat.api_url.clone(),
            corp_id: self.expand(&wechat.corp_id)?,
            api_secret: wechat.api_secret.clone(),
            http: wechat.http.clone(),
            body: Json::Object(body).to_string().into(),
        })))
    }

    fn dingtalk(&self, dingtalk: &DingTalk) -> Result<Message, ExpandError> {
        let text = self.expand(&dingtalk.text)?;
        let content = if dingtalk.message_type == "text" {
            json!({ "content": text })
        } else {
            json!({ "title": self.expand(&dingtalk.title)?, "text": text })
        };
        let mut body = Map::new();
        body.insert("msgtype".to_owned(), json!(dingtalk.message_type));
        body.insert(dingtalk.message_type.clone(), content);
        body.insert(
            "at".to_owned(),
            json!({ "atMobiles": dingtalk.at_mobiles, "isAtAll": dingtalk.at_all }),
        );
        let url = dingtalk.url.expose();
        let mut message = self.http(
            url,
            &dingtalk.http,
            Json::Object(body).to_string(),
            Answer::ErrorCode,
        );
        if let Message::Http(message) = &mut message {
            message.signing_secret = dingtalk.secret.clone();
            message.rate_limit = Some(DINGTALK_RATE_LIMIT);
        }
        Ok(message)
    }
}

/// Labels as a JSON object.
#[must_use]
pub fn object(labels: &Labels) -> Json {
    Json::Object(
        labels
            .iter()
            .map(|(name, value)| (name.to_owned(), Json::from(value)))
            .collect(),
    )
}
