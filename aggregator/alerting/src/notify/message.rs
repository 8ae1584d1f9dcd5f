//! Notifications and the messages that integrations render from them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::model::Labels;
use common::secret::Secret;
use jiff::Timestamp;
use serde_json::Value as Json;

use super::alert::Alert;
use super::log::Reason;
use super::receiver::{HttpOptions, TlsOptions};
use crate::annotations::Annotations;
use crate::template::notification::{AlertData, Data};

/// The content of a message before an integration renders it.
#[derive(Debug, Clone)]
pub struct Notification {
    /// The name of the receiver.
    pub receiver: String,
    /// The key of the group.
    pub group_key: String,
    /// The labels of the group.
    pub group_labels: Labels,
    /// The alerts in the order of the message.
    pub alerts: Vec<Arc<Alert>>,
    /// The reason for the notification.
    pub reason: Reason,
    /// The labels of the route.
    pub route_labels: Labels,
    /// The time of the flush in milliseconds since the epoch.
    pub now_ms: i64,
    /// The URL under which users reach this server.
    pub external_url: String,
}

/// A rendered message.
#[derive(Debug, Clone)]
pub enum Message {
    /// A POST of JSON.
    Http(Box<HttpMessage>),
    /// A mail.
    Mail(Box<MailMessage>),
}

/// Decides from the status and the beginning of the response body whether a message was accepted.
pub type Judge = fn(u16, &[u8]) -> Verdict;

/// A POST of JSON.
#[derive(Debug, Clone)]
pub struct HttpMessage {
    /// The URL.
    pub url: Secret<String>,
    /// The key that signs the URL at each attempt, as DingTalk requires. Empty for no signature.
    pub signing_secret: Secret<String>,
    /// The token to append to the URL. The transport requests and caches it.
    pub token: Option<TokenRequest>,
    /// The rate limit on messages to this URL.
    pub rate_limit: Option<RateLimit>,
    /// Credentials and TLS.
    pub http: HttpOptions,
    /// The body.
    pub body: Bytes,
    /// The timeout of one request.
    pub timeout: Option<Duration>,
    /// Judges the response.
    pub judge: Judge,
}

/// How to obtain an API token.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// The URL of a GET request. Also identifies the token in the cache.
    pub url: Secret<String>,
    /// How long a token stays valid.
    pub lifetime: Duration,
    /// Reads the token from the status and body of the response.
    pub read: fn(u16, &[u8]) -> Result<Secret<String>, Verdict>,
    /// Reports whether the response to a message says that the token has expired.
    pub is_expired: fn(&[u8]) -> bool,
}

/// A limit on the messages to one URL. Excess messages wait.
#[derive(Debug, Clone, Copy)]
pub struct RateLimit {
    /// The maximum number of messages within `window`.
    pub messages: usize,
    /// The sliding time window.
    pub window: Duration,
}

/// A mail.
#[derive(Debug, Clone)]
pub struct MailMessage {
    /// The server that accepts the mail.
    pub server: LoadedMailServer,
    /// The sender.
    pub from: String,
    /// The recipients, separated by commas.
    pub to: String,
    /// The subject.
    pub subject: String,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// The text part. Omitted if empty.
    pub text: String,
    /// The HTML part. Omitted if empty.
    pub html: String,
}

/// A mail server with its secrets loaded from files.
#[derive(Debug, Clone, Default)]
pub struct LoadedMailServer {
    /// `host:port`
    pub smarthost: String,
    /// The name in the client's greeting.
    pub hello: String,
    /// The user name, if the server requires authentication.
    pub username: String,
    /// The authorization identity for PLAIN. Empty means that of the user.
    pub identity: String,
    /// The password for PLAIN and LOGIN.
    pub password: Secret<String>,
    /// The secret for CRAM-MD5. It is never sent.
    pub secret: Secret<String>,
    /// Whether to refuse connections without TLS.
    pub require_tls: bool,
    /// Whether TLS starts before SMTP. `None` means on port 465 only.
    pub implicit_tls: Option<bool>,
    /// The TLS options.
    pub tls: TlsOptions,
}

/// The result of one attempt to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver accepted the message.
    Sent,
    /// The attempt failed, but another may succeed.
    Retry(String),
    /// The message was refused permanently.
    Failed(String),
}

impl HttpMessage {
    /// Creates a message without a token, signature, rate limit or timeout.
    pub(super) fn new(
        url: Secret<String>,
        http: HttpOptions,
        body: impl Into<Bytes>,
        judge: Judge,
    ) -> Self {
        Self {
            url,
            signing_secret: Secret::default(),
            token: None,
            rate_limit: None,
            http,
            body: body.into(),
            timeout: None,
            judge,
        }
    }

    /// Returns the URL for an attempt at `now_ms`, including the token and signature if the API requires them.
    #[must_use]
    pub fn url_at(&self, token: Option<&Secret<String>>, now_ms: i64) -> Secret<String> {
        let mut url = self.url.expose().clone();
        if let Some(token) = token {
            url.push_str(token.expose());
        }
        if !self.signing_secret.is_empty() {
            url = super::receiver::signed_url(&url, &self.signing_secret, now_ms);
        }
        Secret::new(url)
    }
}

/// Judges a response by its status. 2xx is success; 5xx and the statuses in `retried` are retried.
pub(super) fn judge_status(status: u16, body: &[u8], retried: &[u16]) -> Verdict {
    let message = || format!("unexpected status code {status}: {}", excerpt(body));
    match status {
        200..=299 => Verdict::Sent,
        500..=599 => Verdict::Retry(message()),
        _ if retried.contains(&status) => Verdict::Retry(message()),
        _ => Verdict::Failed(message()),
    }
}

/// Judges a response by the `errcode` in its body. 0 is success.
pub(super) fn judge_error_code(status: u16, body: &[u8]) -> Verdict {
    match judge_status(status, body, &[]) {
        Verdict::Sent => {}
        verdict @ (Verdict::Retry(_) | Verdict::Failed(_)) => return verdict,
    }
    if serde_json::from_slice::<Json>(body).is_err() {
        return Verdict::Failed(format!("answer is not JSON: {}", excerpt(body)));
    }
    match error_code(body) {
        Some(0) => Verdict::Sent,
        // DingTalk and WeChat return these codes when their per-minute limits are exceeded.
        Some(130_101 | 660_026 | 45_009) => {
            Verdict::Retry(format!("rate limit: {}", excerpt(body)))
        }
        _ => Verdict::Failed(format!("refused: {}", excerpt(body))),
    }
}

/// Returns the `errcode` of a JSON body.
pub(super) fn error_code(body: &[u8]) -> Option<i64> {
    let json: Json = serde_json::from_slice(body).ok()?;
    json.get("errcode")?.as_i64()
}

fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(200).collect()
}

impl Notification {
    /// Reports whether any alert fires.
    #[must_use]
    pub fn is_firing(&self) -> bool {
        self.alerts
            .iter()
            .any(|alert| !alert.is_resolved(self.now_ms))
    }

    pub(super) fn status(&self) -> &'static str {
        if self.is_firing() {
            "firing"
        } else {
            "resolved"
        }
    }

    /// Returns the data for templates.
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
            common_labels: common_labels(&self.alerts),
            common_annotations: Annotations::common(
                self.alerts.iter().map(|alert| &alert.annotations),
            ),
            external_url: self.external_url.clone(),
            group_key: self.group_key.clone(),
            reason: self.reason.as_str(),
        }
    }
}

/// Returns the labels that all alerts have in common.
pub(super) fn common_labels(alerts: &[Arc<Alert>]) -> Labels {
    let Some((first, rest)) = alerts.split_first() else {
        return Labels::empty();
    };
    let mut pairs: BTreeMap<&str, &str> = first.labels.iter().collect();
    for alert in rest {
        pairs.retain(|name, value| alert.labels.get(name) == Some(value));
    }
    Labels::from_sorted(pairs)
}

/// Quotes like Go's `regexp.QuoteMeta`, which Alertmanager applies to the receiver's name.
pub(super) fn quote_meta(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Formats a time in RFC 3339 like Go, without trailing zeros in the fraction.
#[must_use]
pub fn format_time(time_ms: i64) -> String {
    match Timestamp::from_millisecond(time_ms) {
        Ok(time) => time.to_string(),
        Err(_) => "0001-01-01T00:00:00Z".to_owned(),
    }
}

/// Truncates `text` to `chars_max` characters. The last character of a truncated text is an ellipsis.
pub(super) fn truncated(text: String, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text;
    }
    let mut cut: String = text.chars().take(chars_max - 1).collect();
    cut.push('…');
    cut
}

/// Returns labels as a JSON object.
#[must_use]
pub fn object(labels: &Labels) -> Json {
    Json::Object(
        labels
            .iter()
            .map(|(name, value)| (name.to_owned(), Json::from(value)))
            .collect(),
    )
}
