//! `/api/v2/alerts` and `/api/v2/alerts/groups`.

use std::collections::BTreeMap;

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use common::model::{Labels, Matcher};
use http::{StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};
use tidemark_alerting::notify::alert::{Alert, order};
use tidemark_alerting::notify::inhibit::Inhibitor;
use tidemark_alerting::notify::matcher::matches_all;
use tidemark_alerting::notify::message::{format_time, object};
use tidemark_alerting::notify::notifier::{Notifier, muted_by};

use super::{bad_request, failed, filter, flag, params, parse_time, read, with_notifier};
use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::http::state::OpenAlerting;

/// An alert in a request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostedAlert {
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    starts_at: Option<String>,
    #[serde(default)]
    ends_at: Option<String>,
    #[serde(default, rename = "generatorURL")]
    generator_url: Option<String>,
}

/// The parameters that select alerts.
struct AlertFilter {
    filter: Vec<Matcher>,
    active: bool,
    silenced: bool,
    inhibited: bool,
    muted: bool,
    receiver: Option<Matcher>,
}

impl AlertFilter {
    fn new(params: &Params) -> Result<Self, ApiError> {
        let receiver = match params.get("receiver") {
            "" => None,
            pattern => {
                let matcher = Matcher::new("receiver", common::model::MatchOp::Regex, pattern);
                Some(matcher.map_err(|error| {
                    bad_request(format!("failed to parse receiver param: {error}"))
                })?)
            }
        };
        Ok(Self {
            filter: filter(params)?,
            active: flag(params, "active", true),
            silenced: flag(params, "silenced", true),
            inhibited: flag(params, "inhibited", true),
            muted: flag(params, "muted", true),
            receiver,
        })
    }

    fn matches_receiver(&self, name: &str) -> bool {
        self.receiver
            .as_ref()
            .is_none_or(|matcher| matcher.matches(name))
    }

    /// Serialises an alert, if the filter selects it.
    fn show(
        &self,
        notifier: &Notifier,
        inhibitor: &Inhibitor,
        alert: &Alert,
        now_ms: i64,
    ) -> Option<Value> {
        if alert.is_resolved(now_ms) || !matches_all(&self.filter, &alert.labels) {
            return None;
        }
        let suppression = notifier.suppression(&alert.labels, inhibitor, now_ms);
        let is_silenced = !suppression.silenced_by.is_empty();
        let is_inhibited = !suppression.inhibited_by.is_empty();
        let is_active = !is_silenced && !is_inhibited;
        if (is_active && !self.active)
            || (is_silenced && !self.silenced)
            || (is_inhibited && !self.inhibited)
        {
            return None;
        }
        let receivers = notifier.receivers_of(&alert.labels);
        if !receivers.iter().any(|name| self.matches_receiver(name)) {
            return None;
        }
        let mut shown = json!({
            "annotations": alert.annotations,
            "endsAt": format_time(alert.ends_at_ms),
            "fingerprint": alert.fingerprint_text(),
            "receivers": receivers.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>(),
            "startsAt": format_time(alert.starts_at_ms),
            "status": {
                "inhibitedBy": suppression.inhibited_by,
                "mutedBy": [],
                "silencedBy": suppression.silenced_by,
                "state": if is_active { "active" } else { "suppressed" },
            },
            "updatedAt": format_time(alert.updated_at_ms),
            "labels": object(&alert.labels),
        });
        if !alert.generator_url.is_empty()
            && let Some(fields) = shown.as_object_mut()
        {
            fields.insert("generatorURL".to_owned(), json!(alert.generator_url));
        }
        Some(shown)
    }
}

pub(super) async fn list(alerting: OpenAlerting, uri: Uri) -> Result<Response, ApiError> {
    let filter = AlertFilter::new(&params(&uri)?)?;
    let alerts = with_notifier(alerting, move |notifier, now_ms| {
        let inhibitor = notifier.inhibition_at(now_ms);
        let mut alerts: Vec<&Alert> = notifier.alerts().collect();
        alerts.sort_by_key(|alert| alert.fingerprint());
        let shown = alerts
            .into_iter()
            .filter_map(|alert| filter.show(notifier, &inhibitor, alert, now_ms));
        Ok(shown.collect::<Value>())
    })
    .await?;
    Ok(Json(alerts).into_response())
}

pub(super) async fn groups(alerting: OpenAlerting, uri: Uri) -> Result<Response, ApiError> {
    let filter = AlertFilter::new(&params(&uri)?)?;
    let alerts = with_notifier(alerting, move |notifier, now_ms| {
        let inhibitor = notifier.inhibition_at(now_ms);
        let config = std::sync::Arc::clone(notifier.config());
        let mut shown = Vec::new();
        for (labels, route, fingerprints) in notifier.groups() {
            let muted = muted_by(&config, route, now_ms);
            if !filter.matches_receiver(&route.receiver) || (!muted.is_empty() && !filter.muted) {
                continue;
            }
            let mut alerts: Vec<&Alert> = fingerprints
                .iter()
                .filter_map(|fingerprint| notifier.alert(*fingerprint))
                .collect();
            alerts.sort_by(|a, b| order(&a.labels, &b.labels));
            let mut alerts: Vec<Value> = alerts
                .into_iter()
                .filter_map(|alert| filter.show(notifier, &inhibitor, alert, now_ms))
                .collect();
            if alerts.is_empty() {
                continue;
            }
            if !muted.is_empty() {
                for status in alerts
                    .iter_mut()
                    .filter_map(|alert| alert.get_mut("status")?.as_object_mut())
                {
                    status.insert("mutedBy".to_owned(), json!(muted));
                    status.insert("state".to_owned(), json!("suppressed"));
                }
            }
            shown.push(json!({
                "alerts": alerts,
                "labels": object(&labels),
                "receiver": { "name": route.receiver },
            }));
        }
        Ok(Value::Array(shown))
    })
    .await?;
    Ok(Json(alerts).into_response())
}

/// Receives alerts. Invalid alerts are reported and do not affect the valid ones of the request.
pub(super) async fn post(
    alerting: OpenAlerting,
    body: axum::body::Bytes,
) -> Result<Response, ApiError> {
    let posted: Option<Vec<PostedAlert>> = read(&body, "alerts")?;
    let posted = posted.unwrap_or_default();
    let bad_url = posted.iter().find_map(|one| {
        let url = one.generator_url.as_deref()?;
        (!url.is_empty() && !is_uri(url)).then_some(url)
    });
    if let Some(url) = bad_url {
        let message = format!("generatorURL in body must be of type uri: {url:?}");
        return Err(failed(StatusCode::UNPROCESSABLE_ENTITY, message));
    }
    with_notifier(alerting, move |notifier, now_ms| {
        let timeout_ms = notifier.config().global.resolve_timeout.as_millis() as i64;
        let mut good = Vec::with_capacity(posted.len());
        let mut bad = Vec::new();
        for one in posted {
            match alert(one, now_ms, timeout_ms) {
                Ok(alert) => good.push(alert),
                Err(reason) => bad.push(reason),
            }
        }
        let refused = notifier.receive(good, now_ms);
        if refused > 0 {
            bad.push(format!("{refused} alerts beyond the limit were refused"));
        }
        if bad.is_empty() {
            Ok(StatusCode::OK.into_response())
        } else {
            Err(bad_request(bad.join("; ")))
        }
    })
    .await
}

/// Whether a text is a URL with a scheme or an absolute path, as Alertmanager requires.
fn is_uri(text: &str) -> bool {
    let is_clean = text.chars().all(|c| !c.is_whitespace() && !c.is_control());
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    let has_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    is_clean && (text.starts_with('/') || has_scheme)
}

fn alert(posted: PostedAlert, now_ms: i64, timeout_ms: i64) -> Result<Alert, String> {
    // Go clients send the zero time for one that is not set.
    let time = |text: Option<String>| -> Result<Option<i64>, String> {
        let text = text.filter(|text| !text.is_empty() && !text.starts_with("0001-01-01T00:00:00"));
        text.map(|text| parse_time(&text).map_err(|error| error.message))
            .transpose()
    };
    let (starts, ends) = (time(posted.starts_at)?, time(posted.ends_at)?);
    let labels = Labels::from_pairs(posted.labels).map_err(|error| error.to_string())?;
    if labels.is_empty() {
        return Err("at least one label pair required".to_owned());
    }
    labels.check_limits().map_err(|error| error.to_string())?;
    let annotations = posted.annotations.unwrap_or_default().into_iter().collect();
    let starts_at_ms = starts.or(ends).unwrap_or(now_ms);
    let ends_at_ms = ends.unwrap_or(now_ms + timeout_ms);
    if ends_at_ms < starts_at_ms {
        return Err("start time must be before end time".to_owned());
    }
    Ok(Alert {
        labels,
        annotations,
        starts_at_ms,
        ends_at_ms,
        updated_at_ms: now_ms,
        generator_url: posted.generator_url.unwrap_or_default(),
        timeout: ends.is_none(),
    })
}
