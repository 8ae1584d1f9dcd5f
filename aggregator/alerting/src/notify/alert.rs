//! An alert as the notifier knows it.

use std::sync::Arc;

use common::model::Labels;
use serde::{Deserialize, Serialize};

use crate::hash::fingerprint;
use crate::rules::labels_serde;

/// An alert that was received. Times are milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// What identifies it.
    #[serde(with = "labels_serde")]
    pub labels: Labels,
    /// Its annotations.
    #[serde(with = "labels_serde")]
    pub annotations: Labels,
    /// Since when it fires.
    pub starts_at_ms: i64,
    /// When it ended, or will unless it is heard of again.
    pub ends_at_ms: i64,
    /// When it was last heard of.
    pub updated_at_ms: i64,
    /// Where it comes from.
    pub generator_url: String,
    /// Whether the end was not given but assumed.
    pub timeout: bool,
}

impl Alert {
    /// The hash of its labels.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        fingerprint(&self.labels)
    }

    /// The fingerprint as the API prints it.
    #[must_use]
    pub fn fingerprint_text(&self) -> String {
        format!("{:016x}", self.fingerprint())
    }

    /// Whether it has ended.
    #[must_use]
    pub const fn is_resolved(&self, now_ms: i64) -> bool {
        self.ends_at_ms <= now_ms
    }

    /// Joins what is known of an alert with news of it, when the two overlap in time.
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

/// The order of alerts in a notification: by `job`, `instance`, then all labels.
pub fn sort(alerts: &mut [Arc<Alert>]) {
    alerts.sort_by(|a, b| {
        let by = |name| {
            let (a, b) = (a.labels.get(name), b.labels.get(name));
            a.unwrap_or_default().cmp(b.unwrap_or_default())
        };
        by("job")
            .then_with(|| by("instance"))
            .then_with(|| a.labels.cmp(&b.labels))
    });
}
