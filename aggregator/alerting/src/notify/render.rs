//! Renders messages by expanding the templates of integrations.

use std::cell::OnceCell;

use common::report::chain;
use serde_json::{Map, Value as Json, json};

use super::config::Config;
use super::message::{Message, Notification};
use super::receiver::{Integration, Payload, SecretError};
use crate::template::notification;
use crate::template::{Env, Escaping, ExpandError, Job, Value};

/// Maximum number of alerts in a webhook that may be rendered on an async worker. Rendering more takes too long.
const QUICK_ALERTS_MAX: usize = 100;

/// A message that cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A template failed.
    #[error("expand template")]
    Expand(#[from] ExpandError),
    /// The file of a secret cannot be read.
    #[error("load secret")]
    Secret(#[from] SecretError),
    /// The body cannot be encoded as JSON.
    #[error("encode body")]
    Encode(#[from] serde_json::Error),
}

impl RenderError {
    /// Reports whether a later attempt may succeed.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Secret(_))
    }
}

/// Reports whether [`render`] takes only microseconds, because it needs neither templates nor files.
#[must_use]
pub fn is_quick(integration: &Integration, notification: &Notification) -> bool {
    integration.is_quick() && notification.alerts.len() <= QUICK_ALERTS_MAX
}

/// Renders `notification` as a message of `integration`. Reads secrets from their files.
///
/// # Errors
/// Returns an error if a template fails or a file cannot be read.
pub fn render(
    config: &Config,
    integration: &Integration,
    notification: &Notification,
) -> Result<Message, RenderError> {
    integration.render(&Renderer {
        config,
        notification,
        data: OnceCell::new(),
    })
}

/// Expands templates for one notification.
#[derive(Debug)]
pub(super) struct Renderer<'a> {
    config: &'a Config,
    pub(super) notification: &'a Notification,
    /// The template data, built at first use.
    data: OnceCell<Value>,
}

impl Renderer<'_> {
    pub(super) fn expand(&self, source: &str) -> Result<String, ExpandError> {
        self.expand_as(source, Escaping::None)
    }

    pub(super) fn expand_as(
        &self,
        source: &str,
        escaping: Escaping,
    ) -> Result<String, ExpandError> {
        match self.expand_partly(source, escaping) {
            (text, None) => Ok(text),
            (_, Some(error)) => Err(error),
        }
    }

    /// Expands a template. After an error, the output written so far is also returned.
    fn expand_partly(&self, source: &str, escaping: Escaping) -> (String, Option<ExpandError>) {
        if !source.contains("{{") {
            return (source.to_owned(), None);
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
        self.config
            .templates
            .expand_partly(&job, data.clone(), &mut env)
    }

    pub(super) fn payload(&self, payload: &Payload) -> Result<Json, ExpandError> {
        Ok(match payload {
            Payload::Plain(value) => value.clone(),
            Payload::Text(source) => {
                let text = self.expand(source)?;
                // A template may produce a whole JSON value. Unlike in Alertmanager, its strings are not expanded
                // again.
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

    /// Expands the strings of a JSON value. Omits fields that expand to nothing.
    pub(super) fn expanded(&self, value: &Json) -> Result<Json, ExpandError> {
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
}

/// A renderer for messages that are sent even if a template fails. All texts after the first failure are empty.
#[derive(Debug)]
pub(super) struct LenientRenderer<'r, 'a> {
    renderer: &'r Renderer<'a>,
    error: Option<ExpandError>,
}

impl<'r, 'a> LenientRenderer<'r, 'a> {
    pub(super) const fn new(renderer: &'r Renderer<'a>) -> Self {
        Self {
            renderer,
            error: None,
        }
    }

    pub(super) fn expand(&mut self, source: &str) -> String {
        if self.error.is_some() {
            return String::new();
        }
        let (text, error) = self.renderer.expand_partly(source, Escaping::None);
        self.error = error;
        text
    }

    /// Expands the strings of a JSON value. Omits fields that expand to nothing.
    pub(super) fn expanded(&mut self, value: &Json) -> Json {
        match value {
            Json::String(source) => Json::String(self.expand(source)),
            Json::Object(fields) => {
                let expanded = fields
                    .iter()
                    .map(|(name, value)| (name.clone(), self.expanded(value)));
                Json::Object(expanded.filter(|(_, value)| *value != json!("")).collect())
            }
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) => value.clone(),
        }
    }

    /// Logs the failure, if any.
    pub(super) fn report(self) {
        if let Some(error) = &self.error {
            let receiver = &self.renderer.notification.receiver;
            tracing::warn!(
                receiver,
                error = chain(error),
                "template failed; message is sent with empty texts"
            );
        }
    }
}
