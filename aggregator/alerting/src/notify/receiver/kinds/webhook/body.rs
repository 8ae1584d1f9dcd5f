//! The webhook body in version 4 of Alertmanager's format, serialized without an intermediate JSON tree.

use std::sync::Arc;

use common::model::Labels;
use serde::Serialize;
use serde::ser::Serializer;

use crate::annotations::Annotations;
use crate::notify::alert::Alert;
use crate::notify::message::{Notification, common_labels, format_time, quote_meta};
use crate::notify::render::RenderError;
use crate::rules::labels_serde;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    receiver: String,
    status: &'static str,
    alerts: Alerts<'a>,
    #[serde(rename = "notification_reason")]
    reason: &'static str,
    #[serde(with = "labels_serde")]
    group_labels: Labels,
    #[serde(with = "labels_serde")]
    common_labels: Labels,
    common_annotations: Annotations,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    version: &'static str,
    group_key: &'a str,
    truncated_alerts: usize,
}

struct Alerts<'a> {
    alerts: &'a [Arc<Alert>],
    now_ms: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SentAlert<'a> {
    status: &'static str,
    #[serde(serialize_with = "labels_serde::serialize")]
    labels: &'a Labels,
    annotations: &'a Annotations,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: &'a str,
    fingerprint: String,
}

impl Serialize for Alerts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.alerts.iter().map(|alert| {
            let is_resolved = alert.is_resolved(self.now_ms);
            SentAlert {
                status: if is_resolved { "resolved" } else { "firing" },
                labels: &alert.labels,
                annotations: &alert.annotations,
                starts_at: format_time(alert.starts_at_ms),
                // A firing alert has Go's zero time.
                ends_at: if is_resolved {
                    format_time(alert.ends_at_ms)
                } else {
                    "0001-01-01T00:00:00Z".to_owned()
                },
                generator_url: &alert.generator_url,
                fingerprint: alert.fingerprint_text(),
            }
        }))
    }
}

/// Serializes `notification` with at most `alerts_max` of its alerts. 0 means no limit.
pub(super) fn body(notification: &Notification, alerts_max: u64) -> Result<Vec<u8>, RenderError> {
    let max = usize::try_from(alerts_max).ok().filter(|&max| max > 0);
    let all = &notification.alerts;
    let kept = max.unwrap_or(usize::MAX).min(all.len());
    let (alerts, truncated) = all.split_at(kept);
    let body = Body {
        receiver: quote_meta(&notification.receiver),
        status: notification.status(),
        alerts: Alerts {
            alerts,
            now_ms: notification.now_ms,
        },
        reason: notification.reason.as_str(),
        group_labels: notification.group_labels.clone(),
        common_labels: common_labels(alerts),
        common_annotations: Annotations::common(alerts.iter().map(|alert| &alert.annotations)),
        external_url: &notification.external_url,
        version: "4",
        group_key: &notification.group_key,
        truncated_alerts: truncated.len(),
    };
    Ok(serde_json::to_vec(&body)?)
}
