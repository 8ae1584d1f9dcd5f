//! The state of one alerting rule's alerts.
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

/// How long a resolved alert is sent again.
pub const RESOLVED_RETENTION_MS: i64 = 15 * 60 * 1000;

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// Resolved.
    Inactive,
    /// There, but not for long enough.
    Pending,
    /// There for long enough.
    Firing,
}

impl AlertState {
    /// The word that the API and the `alertstate` label use.
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
    /// Its state.
    pub state: AlertState,
    /// Its labels, which identify it.
    #[serde(with = "labels_serde")]
    pub labels: Labels,
    /// Its expanded annotations, of the last evaluation.
    pub annotations: Annotations,
    /// The element's value at the last evaluation.
    #[serde(with = "value_serde")]
    pub value: f64,
    /// When the element was first seen.
    pub active_at_ms: i64,
    /// When it began to fire.
    pub fired_at_ms: Option<i64>,
    /// When it was resolved.
    pub resolved_at_ms: Option<i64>,
    /// When it was last sent to the notifier.
    pub last_sent_at_ms: Option<i64>,
    /// Since when it fires although its element is missing.
    pub keep_firing_since_ms: Option<i64>,
}

/// An element of the expression's result with the rule's labels applied.
#[derive(Debug, Clone)]
pub struct Element {
    /// The alert's labels.
    pub labels: Labels,
    /// The alert's annotations.
    pub annotations: Annotations,
    /// The value.
    pub value: f64,
}

/// Options that apply to all alerts of a rule.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// `for`
    pub for_ms: i64,
    /// `keep_firing_for`
    pub keep_firing_for_ms: i64,
    /// Limit on pending and firing alerts; 0 is no limit.
    pub limit: u64,
}

/// An evaluation that counts as failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlertError {
    /// Two elements are the same alert.
    #[error("vector contains metrics with the same labelset after applying alert labels")]
    Duplicate,
    /// Too many alerts; all are dropped.
    #[error("exceeded limit of {limit} with {count} alerts")]
    Limit {
        /// The limit.
        limit: u64,
        /// How many there were.
        count: u64,
    },
}

/// The alerts of a rule by their labels.
#[derive(Debug, Default)]
pub struct Alerts {
    by_labels: HashMap<Labels, Alert>,
    hold_until_ms: Option<i64>,
}

/// Alerts whose stored form must change.
#[derive(Debug, Default)]
pub struct Transitions {
    /// New or in another state.
    pub changed: Vec<Alert>,
    /// Forgotten.
    pub removed: Vec<Labels>,
}

impl Alerts {
    /// Alerts as they were stored.
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

    /// Until then an alert whose element is missing keeps its state.
    pub const fn hold_until(&mut self, time_ms: i64) {
        self.hold_until_ms = Some(time_ms);
    }

    /// All alerts, resolved ones too.
    pub fn iter(&self) -> impl Iterator<Item = &Alert> {
        self.by_labels.values()
    }

    /// Pending and firing alerts.
    pub fn active(&self) -> impl Iterator<Item = &Alert> {
        self.iter()
            .filter(|alert| alert.state != AlertState::Inactive)
    }

    /// The highest state of any alert.
    #[must_use]
    pub fn state(&self) -> AlertState {
        self.iter()
            .map(|alert| alert.state)
            .max()
            .unwrap_or(AlertState::Inactive)
    }

    /// Takes the result of an evaluation at `now_ms`.
    ///
    /// # Errors
    /// Two elements have equal labels: nothing changes. The limit is exceeded: all alerts are dropped, and
    /// `transitions` says so.
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

    /// Takes the alerts that are due to be sent at `now_ms`, and notes that they were.
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

/// The element is gone.
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

/// Turns a pending alert into a firing one after `for`, and back if a reload made `for` longer than the alert's age.
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

/// JSON has no NaN: the value as text.
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
