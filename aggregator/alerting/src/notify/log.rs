//! The notification log, which records the alerts of the last notification to each integration.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::report::chain;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::store::{Change, Durability, StateStore, StoreError, Table};

/// Maximum retention of an entry.
const RETENTION_MS: i64 = 120 * 3600 * 1000;

/// The last notification of a group to one integration of a receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The fingerprints of the firing alerts.
    pub firing: BTreeSet<u64>,
    /// The fingerprints of the resolved alerts.
    pub resolved: BTreeSet<u64>,
    /// The time it was sent in milliseconds since the epoch.
    pub sent_at_ms: i64,
    /// The time at which the entry expires.
    pub expires_at_ms: i64,
}

/// The reason why a notification is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The receiver has not been notified of any of the alerts.
    First,
    /// Alerts fire of which the receiver has not been notified.
    Firing,
    /// All alerts are resolved.
    AllResolved,
    /// Some alerts are resolved.
    Resolved,
    /// Nothing changed, but `repeat_interval` has passed.
    Repeat,
}

impl Reason {
    /// Returns Alertmanager's description of the reason.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first notification",
            Self::Firing => "new alerts added",
            Self::AllResolved => "all alerts resolved",
            Self::Resolved => "some alerts resolved",
            Self::Repeat => "repeat interval elapsed",
        }
    }
}

/// The alerts of a flush, which decide whether a notification is due.
#[derive(Debug, Clone)]
pub struct NotificationState {
    /// The fingerprints of the firing alerts.
    pub firing: BTreeSet<u64>,
    /// The fingerprints of the resolved alerts.
    pub resolved: BTreeSet<u64>,
    /// `send_resolved` of the integration.
    pub send_resolved: bool,
    /// `repeat_interval` of the route in milliseconds.
    pub repeat_ms: i64,
}

/// The notification log.
///
/// **Invariant:** every entry in memory is also on disk, unless storing it failed.
#[derive(Debug)]
pub struct NotificationLog {
    store: Arc<dyn StateStore>,
    entries: BTreeMap<String, Entry>,
}

impl NotificationLog {
    /// Loads the log from `store`.
    #[must_use]
    pub fn open(store: Arc<dyn StateStore>) -> Self {
        let mut entries = BTreeMap::new();
        for (key, value) in store.scan(Table::NotificationLog) {
            match (String::from_utf8(key), serde_json::from_slice(&value)) {
                (Ok(key), Ok(entry)) => drop(entries.insert(key, entry)),
                (key, entry) => {
                    let entry: Option<Entry> = entry.ok();
                    warn!(
                        key = key.is_ok(),
                        entry = entry.is_some(),
                        "stored notification cannot be read"
                    );
                }
            }
        }
        Self { store, entries }
    }

    /// Returns the reason why the integration `key` needs a notification of `state`, or `None` if it does not.
    #[must_use]
    pub fn needs(&self, key: &str, state: &NotificationState, now_ms: i64) -> Option<Reason> {
        let Some(entry) = self
            .entries
            .get(key)
            .filter(|entry| entry.expires_at_ms > now_ms)
        else {
            return (!state.firing.is_empty()).then_some(Reason::First);
        };
        if !state.firing.is_subset(&entry.firing) {
            let is_first = entry.firing.is_empty();
            return Some(if is_first {
                Reason::First
            } else {
                Reason::Firing
            });
        }
        if state.firing.is_empty() {
            // An alert that fired and resolved between two flushes was never notified, so it needs no resolved
            // notification.
            return (!entry.firing.is_empty()).then_some(Reason::AllResolved);
        }
        if state.send_resolved && !state.resolved.is_subset(&entry.resolved) {
            return Some(Reason::Resolved);
        }
        (entry.sent_at_ms < now_ms - state.repeat_ms).then_some(Reason::Repeat)
    }

    /// Records sent notifications with a single sync. They are durable when this returns.
    ///
    /// # Errors
    /// Returns an error if the entries could not be stored. A restart may then repeat the notifications.
    pub fn record<'a>(
        &mut self,
        sent: impl IntoIterator<Item = (&'a str, &'a NotificationState)>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut changes = Vec::new();
        for (key, state) in sent {
            let kept_ms = state.repeat_ms.saturating_mul(2).clamp(0, RETENTION_MS);
            let entry = Entry {
                firing: state.firing.clone(),
                resolved: state.resolved.clone(),
                sent_at_ms: now_ms,
                expires_at_ms: now_ms + kept_ms,
            };
            changes.push(Change::put(Table::NotificationLog, key.as_bytes(), &entry)?);
            // Keep the entry in memory even if storing it failed, so that this process does not repeat the
            // notification.
            self.entries.insert(key.to_owned(), entry);
        }
        self.store.commit(changes, Durability::Synced)
    }

    /// Removes expired entries.
    pub fn collect_garbage(&mut self, now_ms: i64) {
        let expired: Vec<String> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.expires_at_ms <= now_ms)
            .map(|(key, _)| key.clone())
            .collect();
        let changes = expired
            .iter()
            .map(|key| Change::remove(Table::NotificationLog, key.as_bytes()))
            .collect();
        match self.store.commit(changes, Durability::Written) {
            Ok(()) => self.entries.retain(|_, entry| entry.expires_at_ms > now_ms),
            Err(error) => warn!(
                error = chain(&error),
                "remove expired notification log entries"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    fn news(firing: &[u64], resolved: &[u64], send_resolved: bool) -> NotificationState {
        NotificationState {
            firing: firing.iter().copied().collect(),
            resolved: resolved.iter().copied().collect(),
            send_resolved,
            repeat_ms: 10_000,
        }
    }

    #[test]
    fn each_reason_to_notify() {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
        let mut log = NotificationLog::open(Arc::clone(&store));
        assert_eq!(log.needs("k", &news(&[], &[1], true), 0), None);
        assert_eq!(
            log.needs("k", &news(&[1], &[], true), 0),
            Some(Reason::First)
        );
        log.record([("k", &news(&[1, 2], &[], true))], 0).unwrap();
        let log = NotificationLog::open(store);
        assert_eq!(log.needs("k", &news(&[1, 2], &[], true), 10_000), None);
        assert_eq!(
            log.needs("k", &news(&[1, 2], &[], true), 10_001),
            Some(Reason::Repeat)
        );
        assert_eq!(log.needs("k", &news(&[1], &[], true), 1), None);
        assert_eq!(
            log.needs("k", &news(&[1], &[2], true), 1),
            Some(Reason::Resolved)
        );
        assert_eq!(log.needs("k", &news(&[1], &[2], false), 1), None);
        assert_eq!(
            log.needs("k", &news(&[1, 3], &[], false), 1),
            Some(Reason::Firing)
        );
        assert_eq!(
            log.needs("k", &news(&[], &[1, 2], false), 1),
            Some(Reason::AllResolved)
        );
        assert_eq!(
            log.needs("k", &news(&[1], &[], true), 20_000),
            Some(Reason::First),
            "forgotten"
        );
    }
}
