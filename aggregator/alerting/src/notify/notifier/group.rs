//! Alerts that are told together.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::model::Labels;

use crate::notify::alert::Alert;
use crate::notify::route::Route;

/// A group of alerts of one route.
#[derive(Debug)]
pub(super) struct Group {
    /// The labels that its alerts share.
    pub(super) labels: Labels,
    alerts: BTreeMap<u64, Arc<Alert>>,
    next_flush_ms: i64,
    has_flushed: bool,
    flush: Option<Flush>,
}

/// A flush whose outcomes are not all known.
#[derive(Debug, Default)]
struct Flush {
    waits_for: usize,
    has_failed: bool,
    /// Resolved alerts that the flush tells of, and when each was last updated then.
    resolved: Vec<(u64, i64)>,
}

impl Group {
    /// An empty group that is first flushed after the route's `group_wait`.
    pub(super) fn new(labels: Labels, route: &Route, now_ms: i64) -> Self {
        Self {
            labels,
            alerts: BTreeMap::new(),
            next_flush_ms: now_ms + route.group_wait.as_millis() as i64,
            has_flushed: false,
            flush: None,
        }
    }

    /// Takes an alert in. One that fires for longer than `group_wait` already waits no more.
    pub(super) fn insert(&mut self, alert: &Arc<Alert>, route: &Route, now_ms: i64) {
        let wait_ms = route.group_wait.as_millis() as i64;
        if !self.has_flushed && alert.starts_at_ms + wait_ms < now_ms {
            self.next_flush_ms = now_ms;
        }
        self.alerts.insert(alert.fingerprint(), Arc::clone(alert));
    }

    /// When to flush next; `None` while a flush is under way.
    pub(super) fn due_ms(&self) -> Option<i64> {
        self.flush.is_none().then_some(self.next_flush_ms)
    }

    /// The fingerprints of its alerts.
    pub(super) fn fingerprints(&self) -> Vec<u64> {
        self.alerts.keys().copied().collect()
    }

    /// Starts a flush: its alerts as they are now. The next one is due after the route's `group_interval`.
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

    /// How many deliveries the flush has become; with none it is over.
    pub(super) fn await_outcomes(&mut self, count: usize) {
        if let Some(flush) = &mut self.flush {
            flush.waits_for = count;
        }
        self.end_flush();
    }

    /// One delivery of the flush has ended.
    pub(super) fn outcome(&mut self, is_sent: bool) {
        if let Some(flush) = &mut self.flush {
            flush.waits_for = flush.waits_for.saturating_sub(1);
            flush.has_failed |= !is_sent;
        }
        self.end_flush();
    }

    /// Resolved alerts leave the group once everybody was told, unless they have changed since.
    fn end_flush(&mut self) {
        let Some(flush) = self.flush.take_if(|flush| flush.waits_for == 0) else {
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
