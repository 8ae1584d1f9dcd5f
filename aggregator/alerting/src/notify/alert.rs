//! Alerts received by the notifier.

use std::cmp::Ordering;
use std::sync::Arc;

use common::model::Labels;
use serde::{Deserialize, Serialize};

use crate::annotations::Annotations;
use crate::hash::fingerprint;
use crate::rules::labels_serde;

/// A received alert. Times are milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// The labels, which identify the alert.
    #[serde(with = "labels_serde")]
    pub labels: Labels,
    /// The annotations of the alert.
    pub annotations: Annotations,
    /// The time at which the alert started to fire.
    pub starts_at_ms: i64,
    /// The time at which the alert ends. For a firing alert it is in the future and applies unless the alert is
    /// renewed.
    pub ends_at_ms: i64,
    /// The time of the last update.
    pub updated_at_ms: i64,
    /// The URL of the alert's source.
    pub generator_url: String,
    /// Whether the end time is a default that the source did not set.
    pub timeout: bool,
}

impl Alert {
    /// Returns the hash of the labels.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        fingerprint(&self.labels)
    }

    /// Returns the fingerprint in the API's format.
    #[must_use]
    pub fn fingerprint_text(&self) -> String {
        format!("{:016x}", self.fingerprint())
    }

    /// Reports whether the alert has ended.
    #[must_use]
    pub const fn is_resolved(&self, now_ms: i64) -> bool {
        self.ends_at_ms <= now_ms
    }

    /// Merges an update into an alert if the two overlap in time, like Alertmanager's `Alert.Merge`.
    #[must_use]
    pub fn merged(old: &Self, new: Self, now_ms: i64) -> Self {
        let ends_inside = new.ends_at_ms > old.starts_at_ms && new.ends_at_ms < old.ends_at_ms;
        let starts_inside =
            new.starts_at_ms > old.starts_at_ms && new.starts_at_ms < old.ends_at_ms;
        if !ends_inside && !starts_inside {
            return new;
        }
        let mut merged = new;
        merged.starts_at_ms = merged.starts_at_ms.min(old.starts_at_ms);
        let keeps_old_end = if merged.is_resolved(now_ms) {
            old.is_resolved(now_ms) && old.ends_at_ms > merged.ends_at_ms
        } else {
            old.ends_at_ms > merged.ends_at_ms && !old.timeout
        };
        if keeps_old_end {
            merged.ends_at_ms = old.ends_at_ms;
        }
        merged
    }
}

/// Sorts alerts in Alertmanager's notification order: by `job`, then by `instance`, with alerts that have the label
/// first, then by the number of labels, then pairwise by name and value.
pub fn sort(alerts: &mut [Arc<Alert>]) {
    alerts.sort_by(|a, b| order(&a.labels, &b.labels));
}

/// Compares two alerts in the order of [`sort`].
#[must_use]
pub fn order(a: &Labels, b: &Labels) -> Ordering {
    let by = |name| match (a.get(name), b.get(name)) {
        (Some(a), Some(b)) => a.cmp(b),
        (a, b) => b.is_some().cmp(&a.is_some()),
    };
    by("job")
        .then_with(|| by("instance"))
        .then_with(|| a.len().cmp(&b.len()))
        .then_with(|| a.iter().cmp(b.iter()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_ordered_as_alertmanager_orders_them() {
        let sets: Vec<Labels> = [
            &[("alertname", "Z"), ("instance", "b"), ("job", "a")][..],
            &[("instance", "c"), ("job", "a")],
            &[("job", "a")],
            &[("instance", "a"), ("job", "b")],
            &[("instance", "a")],
            &[("alertname", "B")],
            &[("zone", "A")],
            &[("alertname", "A"), ("z", "1")],
            &[("alertname", "A"), ("z", "2")],
        ]
        .iter()
        .map(|pairs| Labels::from_pairs(pairs.iter().copied()).unwrap())
        .collect();
        let mut sorted = sets.clone();
        sorted.reverse();
        sorted.sort_by(order);
        assert_eq!(sorted, sets);
    }
}
