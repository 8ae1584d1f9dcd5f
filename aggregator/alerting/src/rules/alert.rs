//! The alerts of one alerting rule and their states.
//!
//! ```text
//!              element seen            for elapsed              element gone
//!   (unknown) ─────────────► pending ─────────────► firing ────────────────────► inactive, 15 min, (forgotten)
//!                               │ element gone         │ ▲ element seen              │ element seen
//!                               ▼                      ▼ │ keep_firing_for           ▼
//!                           (forgotten)             firing on                    pending, a new alert
//! ```

use std::collections::HashMap;
use std::time::Duration;

use crate::annotations::Annotations;
use common::model::Labels;
use serde::{Deserialize, Serialize};

use super::labels_serde;

/// How long a resolved alert is kept and resent.
pub const RESOLVED_RETENTION_MS: i64 = 15 * 60 * 1000;

/// The state of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// The alert is resolved.
    Inactive,
    /// The element has been present for less than `for`.
    Pending,
    /// The element has been present for at least `for`.
    Firing,
}

impl AlertState {
    /// Returns the name of the state in the API and in the `alertstate` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

/// One alert. Times are milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The state of the alert.
    pub state: AlertState,
    /// The labels, which identify the alert.
    #[serde(with = "labels_serde")]
    pub labels: Labels,
    /// The annotations, as expanded at the last evaluation.
    pub annotations: Annotations,
    /// The element's value at the last evaluation.
    #[serde(with = "value_serde")]
    pub value: f64,
    /// The time at which the element was first seen.
    pub active_at_ms: i64,
    /// The time at which the alert began to fire.
    pub fired_at_ms: Option<i64>,
    /// The time at which the alert was resolved.
    pub resolved_at_ms: Option<i64>,
    /// The time at which the alert was last sent to the notifier.
    pub last_sent_at_ms: Option<i64>,
    /// The time since which the alert keeps firing without its element.
    pub keep_firing_since_ms: Option<i64>,
}

/// An element of the expression's result with the rule's labels applied.
#[derive(Debug, Clone)]
pub struct Element {
    /// The alert's labels.
    pub labels: Labels,
    /// The alert's annotations.
    pub annotations: Annotations,
    /// The value of the element.
    pub value: f64,
}

/// Options that apply to all alerts of a rule.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// `for`
    pub for_ms: i64,
    /// `keep_firing_for`
    pub keep_firing_for_ms: i64,
    /// The limit on pending and firing alerts. 0 means no limit.
    pub limit: u64,
}

/// An error that fails the evaluation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlertError {
    /// Two elements have the same alert labels.
    #[error("vector contains metrics with the same labelset after applying alert labels")]
    Duplicate,
    /// The rule has too many alerts. All of them are dropped.
    #[error("exceeded limit of {limit} with {count} alerts")]
    Limit {
        /// The limit.
        limit: u64,
        /// The number of alerts.
        count: u64,
    },
}

/// The alerts of a rule, by labels.
#[derive(Debug, Default)]
pub struct Alerts {
    by_labels: HashMap<Labels, Alert>,
    hold_until_ms: Option<i64>,
}

/// Alert changes to be stored.
#[derive(Debug, Default)]
pub struct Transitions {
    /// Alerts that are new or changed state.
    pub changed: Vec<Alert>,
    /// The labels of alerts that no longer exist.
    pub removed: Vec<Labels>,
}

impl Alerts {
    /// Creates the set from stored alerts.
    #[must_use]
    pub fn restored(alerts: impl IntoIterator<Item = Alert>) -> Self {
        let by_labels = alerts
            .into_iter()
            .map(|alert| (alert.labels.clone(), alert))
            .collect();
        Self {
            by_labels,
            hold_until_ms: None,
        }
    }

    /// Keeps active alerts in their state until `time_ms` even if their elements are missing.
    pub const fn hold_until(&mut self, time_ms: i64) {
        self.hold_until_ms = Some(time_ms);
    }

    /// Iterates over all alerts, including resolved ones.
    pub fn iter(&self) -> impl Iterator<Item = &Alert> {
        self.by_labels.values()
    }

    /// Iterates over the pending and firing alerts.
    pub fn active(&self) -> impl Iterator<Item = &Alert> {
        self.iter()
            .filter(|alert| alert.state != AlertState::Inactive)
    }

    /// Returns the highest state of any alert.
    #[must_use]
    pub fn state(&self) -> AlertState {
        self.iter()
            .map(|alert| alert.state)
            .max()
            .unwrap_or(AlertState::Inactive)
    }

    /// Updates the alerts from the result of an evaluation at `now_ms`.
    ///
    /// # Errors
    /// If two elements have equal labels, nothing changes. If the limit is exceeded, all alerts are dropped and listed
    /// in `transitions`.
    pub fn update(
        &mut self,
        elements: Vec<Element>,
        timing: Timing,
        now_ms: i64,
        transitions: &mut Transitions,
    ) -> Result<(), AlertError> {
        let mut seen: HashMap<Labels, Element> = HashMap::with_capacity(elements.len());
        for element in elements {
            if seen.insert(element.labels.clone(), element).is_some() {
                return Err(AlertError::Duplicate);
            }
        }
        let holds = self.hold_until_ms.is_some_and(|until_ms| now_ms < until_ms);
        self.by_labels.retain(|labels, alert| {
            let before = (alert.state, alert.keep_firing_since_ms, alert.active_at_ms);
            let element = seen.remove(labels);
            if element.is_none() && holds && alert.state != AlertState::Inactive {
                return true;
            }
            let kept = step(alert, element, timing, now_ms);
            if !kept {
                transitions.removed.push(labels.clone());
            } else if before != (alert.state, alert.keep_firing_since_ms, alert.active_at_ms) {
                transitions.changed.push(alert.clone());
            }
            kept
        });
        for (labels, element) in seen {
            let mut alert = begin(element, now_ms);
            mature(&mut alert, timing, now_ms);
            transitions.changed.push(alert.clone());
            self.by_labels.insert(labels, alert);
        }
        let count = self.active().count() as u64;
        if timing.limit > 0 && count > timing.limit {
            transitions.changed.clear();
            transitions
                .removed
                .extend(self.by_labels.drain().map(|(labels, _)| labels));
            return Err(AlertError::Limit {
                limit: timing.limit,
                count,
            });
        }
        Ok(())
    }

    /// Returns the alerts due to be sent at `now_ms` and marks them as sent.
    pub fn take_due(&mut self, resend_delay: Duration, now_ms: i64) -> Vec<Alert> {
        let resend_ms = resend_delay.as_millis() as i64;
        let mut due = Vec::new();
        for alert in self.by_labels.values_mut() {
            if needs_sending(alert, resend_ms, now_ms) {
                alert.last_sent_at_ms = Some(now_ms);
                due.push(alert.clone());
            }
        }
        due.sort_by(|a, b| a.labels.cmp(&b.labels));
        due
    }
}

fn begin(element: Element, now_ms: i64) -> Alert {
    Alert {
        state: AlertState::Pending,
        labels: element.labels,
        annotations: element.annotations,
        value: element.value,
        active_at_ms: now_ms,
        fired_at_ms: None,
        resolved_at_ms: None,
        last_sent_at_ms: None,
        keep_firing_since_ms: None,
    }
}

/// Updates one alert. Returns whether it is kept.
fn step(alert: &mut Alert, element: Option<Element>, timing: Timing, now_ms: i64) -> bool {
    match element {
        Some(element) if alert.state == AlertState::Inactive => {
            *alert = begin(element, now_ms);
            mature(alert, timing, now_ms);
            true
        }
        Some(element) => {
            alert.value = element.value;
            alert.annotations = element.annotations;
            alert.keep_firing_since_ms = None;
            mature(alert, timing, now_ms);
            true
        }
        None => missed(alert, timing, now_ms),
    }
}

/// Updates an alert whose element is missing. Returns whether it is kept.
fn missed(alert: &mut Alert, timing: Timing, now_ms: i64) -> bool {
    match alert.state {
        AlertState::Pending => false,
        AlertState::Inactive => alert
            .resolved_at_ms
            .is_some_and(|resolved| now_ms - resolved <= RESOLVED_RETENTION_MS),
        AlertState::Firing => {
            if timing.keep_firing_for_ms > 0 {
                let since = *alert.keep_firing_since_ms.get_or_insert(now_ms);
                if now_ms - since < timing.keep_firing_for_ms {
                    return true;
                }
            }
            alert.state = AlertState::Inactive;
            alert.resolved_at_ms = Some(now_ms);
            true
        }
    }
}

/// Changes a pending alert to firing after `for`. Changes it back if a reload made `for` longer than the alert's age.
fn mature(alert: &mut Alert, timing: Timing, now_ms: i64) {
    let is_old = now_ms - alert.active_at_ms >= timing.for_ms;
    match alert.state {
        AlertState::Pending if is_old => {
            alert.state = AlertState::Firing;
            alert.fired_at_ms = Some(now_ms);
        }
        AlertState::Firing if !is_old => {
            alert.state = AlertState::Pending;
            alert.fired_at_ms = None;
            alert.last_sent_at_ms = None;
        }
        _ => {}
    }
}

fn needs_sending(alert: &Alert, resend_ms: i64, now_ms: i64) -> bool {
    if alert.state == AlertState::Pending {
        return false;
    }
    match (alert.resolved_at_ms, alert.last_sent_at_ms) {
        (_, None) => true,
        (Some(resolved), Some(sent)) if resolved > sent => true,
        (_, Some(sent)) => sent + resend_ms < now_ms,
    }
}

/// Serializes the value as text, because JSON cannot represent NaN.
mod value_serde {
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&value.to_string())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
