//! Notifications, and the messages that integrations render from them.

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

/// The content of a message, before an integration renders it.
#[derive(Debug, Clone)]
pub struct Notification {
    /// The receiver's name.
    pub receiver: String,
    /// The group's key.
    pub group_key: String,
    /// The labels of the group.
    pub group_labels: Labels,
    /// The alerts, in the order of the message.
    pub alerts: Vec<Arc<Alert>>,
    /// Why it is sent.
    pub reason: Reason,
    /// The labels of the route.
    pub route_labels: Labels,
    /// Time of the flush, milliseconds since the epoch.
    pub now_ms: i64,
    /// URL of this server for users.
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

/// Decides from the status and the beginning of the body whether a message was accepted.
pub type Judge = fn(u16, &[u8]) -> Verdict;

/// A POST of JSON.
#[derive(Debug, Clone)]
pub struct HttpMessage {
    /// The URL.
    pub url: Secret<String>,
    /// Key that signs the URL at each attempt, as DingTalk has it; empty: no signature.
    pub signing_secret: Secret<String>,
    /// Token to append to the URL, which the transport requests and caches.
    pub token: Option<TokenRequest>,
    /// Limit on the messages to this URL.
    pub rate_limit: Option<RateLimit>,
    /// Credentials and TLS.
    pub http: HttpOptions,
    /// The body.
    pub body: Bytes,
    /// Limit on the duration of one request.
    pub timeout: Option<Duration>,
    /// Judges the answer.
    pub judge: Judge,
}

/// How to obtain a token that the API asks for.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// URL of a GET; also identifies the token in a cache.
    pub url: Secret<String>,
    /// How long a token may be used.
    pub lifetime: Duration,
    /// Reads the token from status and body of the answer.
    pub read: fn(u16, &[u8]) -> Result<Secret<String>, Verdict>,
    /// Reports whether the answer to a message says that the token has expired.
    pub is_expired: fn(&[u8]) -> bool,
}

/// A limit on the messages to one URL. Further messages wait.
#[derive(Debug, Clone, Copy)]
pub struct RateLimit {
    /// Most messages in `window`.
    pub messages: usize,
    /// The window, which slides.
    pub window: Duration,
}

/// A mail.
#[derive(Debug, Clone)]
pub struct MailMessage {
    /// The server that accepts it.
    pub server: LoadedMailServer,
    /// The sender.
    pub from: String,
    /// The recipients, separated by commas.
    pub to: String,
    /// The subject.
    pub subject: String,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// Text part; omitted if it is empty.
    pub text: String,
    /// HTML part; omitted if it is empty.
    pub html: String,
}

/// A mail server with the contents of its secrets' files.
#[derive(Debug, Clone, Default)]
pub struct LoadedMailServer {
    /// `host:port`
    pub smarthost: String,
    /// Name in the client's greeting.
    pub hello: String,
    /// User, if the server asks for a login.
    pub username: String,
    /// Authorization identity for PLAIN; empty is the user's own.
    pub identity: String,
    /// Password for PLAIN and LOGIN.
    pub password: Secret<String>,
    /// Secret for CRAM-MD5, which is never sent.
    pub secret: Secret<String>,
    /// Whether a connection without TLS is an error.
    pub require_tls: bool,
    /// Whether TLS starts before SMTP; `None`: on port 465 only.
    pub implicit_tls: Option<bool>,
    /// TLS.
    pub tls: TlsOptions,
}

/// The result of one attempt to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver accepted the message.
    Sent,
    /// The attempt failed; another may succeed.
    Retry(String),
    /// The message was refused for good.
    Failed(String),
}

impl HttpMessage {
    /// Creates a message without token, signature, rate limit and timeout.
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

    /// Returns the URL for an attempt at `now_ms`, with the token and the signature that the API asks for.
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

/// Judges by status: 2xx is success; 5xx and the statuses in `retried` are worth another attempt.
pub(super) fn judge_status(status: u16, body: &[u8], retried: &[u16]) -> Verdict {
    let message = || format!("unexpected status code {status}: {}", excerpt(body));
    match status {
        200..=299 => Verdict::Sent,
        500..=599 => Verdict::Retry(message()),
        _ if retried.contains(&status) => Verdict::Retry(message()),
        _ => Verdict::Failed(message()),
    }
}

/// Judges an answer with `errcode` in its body: 0 is success.
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
        // DingTalk's and WeChat's limits on messages per minute.
        Some(130_101 | 660_026 | 45_009) => {
            Verdict::Retry(format!("rate limit: {}", excerpt(body)))
        }
        _ => Verdict::Failed(format!("refused: {}", excerpt(body))),
    }
}

/// Returns `errcode` of a JSON body.
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

/// Returns the labels that all alerts have.
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

/// `regexp.QuoteMeta`, which Alertmanager applies to the receiver's name.
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

/// Formats a time in RFC 3339 as Go does: without trailing zeros in the fraction.
#[must_use]
pub fn format_time(time_ms: i64) -> String {
    match Timestamp::from_millisecond(time_ms) {
        Ok(time) => time.to_string(),
        Err(_) => "0001-01-01T00:00:00Z".to_owned(),
    }
}

/// Truncates `text` to `chars_max` characters, the last of which is then an ellipsis.
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
