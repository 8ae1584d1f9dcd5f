//! Groups of alerts that share a notification.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::model::Labels;

use crate::notify::alert::Alert;
use crate::notify::route::Route;

/// A group of alerts of one route.
#[derive(Debug)]
pub(super) struct Group {
    /// The labels by which the alerts are grouped.
    pub(super) labels: Labels,
    alerts: BTreeMap<u64, Arc<Alert>>,
    next_flush_ms: i64,
    has_flushed: bool,
    flush: Option<Flush>,
}

/// A flush with deliveries in progress.
#[derive(Debug, Default)]
struct Flush {
    /// The number of deliveries in progress.
    pending: usize,
    has_failed: bool,
    /// The fingerprint and last update time of each resolved alert in the flush.
    resolved: Vec<(u64, i64)>,
}

impl Group {
    /// Creates an empty group, due after the route's `group_wait`.
    pub(super) fn new(labels: Labels, route: &Route, now_ms: i64) -> Self {
        Self {
            labels,
            alerts: BTreeMap::new(),
            next_flush_ms: now_ms + route.group_wait.as_millis() as i64,
            has_flushed: false,
            flush: None,
        }
    }

    /// Adds an alert. The group becomes due at once if the alert has already fired for longer than `group_wait`.
    pub(super) fn insert(&mut self, alert: &Arc<Alert>, route: &Route, now_ms: i64) {
        let wait_ms = route.group_wait.as_millis() as i64;
        if !self.has_flushed && alert.starts_at_ms + wait_ms < now_ms {
            self.next_flush_ms = now_ms;
        }
        self.alerts.insert(alert.fingerprint(), Arc::clone(alert));
    }

    /// Returns the time at which the group is due, or `None` during a flush.
    pub(super) fn due_ms(&self) -> Option<i64> {
        self.flush.is_none().then_some(self.next_flush_ms)
    }

    /// Returns the fingerprints of the alerts.
    pub(super) fn fingerprints(&self) -> Vec<u64> {
        self.alerts.keys().copied().collect()
    }

    /// Starts a flush and returns the alerts. The next flush is due after the route's `group_interval`.
    pub(super) fn begin_flush(&mut self, route: &Route, now_ms: i64) -> Vec<Arc<Alert>> {
        self.has_flushed = true;
        self.next_flush_ms = now_ms + route.group_interval.as_millis() as i64;
        let resolved = self
            .alerts
            .iter()
            .filter(|(_, alert)| alert.is_resolved(now_ms));
        self.flush = Some(Flush {
            resolved: resolved
                .map(|(fingerprint, alert)| (*fingerprint, alert.updated_at_ms))
                .collect(),
            ..Flush::default()
        });
        self.alerts.values().cloned().collect()
    }

    /// Sets the number of deliveries of the flush. The flush ends immediately if there are none.
    pub(super) fn await_outcomes(&mut self, count: usize) {
        if let Some(flush) = &mut self.flush {
            flush.pending = count;
        }
        self.end_flush();
    }

    /// Records the outcome of one delivery of the flush.
    pub(super) fn outcome(&mut self, is_sent: bool) {
        if let Some(flush) = &mut self.flush {
            flush.pending = flush.pending.saturating_sub(1);
            flush.has_failed |= !is_sent;
        }
        self.end_flush();
    }

    /// Removes resolved alerts after a successful flush, unless they were updated during it.
    fn end_flush(&mut self) {
        let Some(flush) = self.flush.take_if(|flush| flush.pending == 0) else {
            return;
        };
        if flush.has_failed {
            return;
        }
        for (fingerprint, updated_at_ms) in flush.resolved {
            let is_same = |alert: &Arc<Alert>| alert.updated_at_ms == updated_at_ms;
            if self.alerts.get(&fingerprint).is_some_and(is_same) {
                self.alerts.remove(&fingerprint);
            }
        }
    }
}
