//! The stored form of alert state.

use std::collections::HashMap;

use common::model::Labels;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::alert::{Alert, Transitions};
use crate::store::{Change, StateStore, Table};

#[derive(Serialize, Deserialize)]
struct StoredAlert<'a> {
    rule: std::borrow::Cow<'a, str>,
    alert: std::borrow::Cow<'a, Alert>,
}

fn key(rule: &str, labels: &Labels) -> Vec<u8> {
    let mut key = rule.as_bytes().to_vec();
    key.extend_from_slice(&[0, 0]);
    key.extend_from_slice(labels.as_packed());
    key
}

/// The changes that store `transitions` of the rule `rule`.
pub(super) fn changes(rule: &str, transitions: &Transitions) -> Vec<Change> {
    let mut changes = Vec::with_capacity(transitions.changed.len() + transitions.removed.len());
    for alert in &transitions.changed {
        let stored = StoredAlert {
            rule: rule.into(),
            alert: std::borrow::Cow::Borrowed(alert),
        };
        match Change::put(Table::Alerts, key(rule, &alert.labels), &stored) {
            Ok(change) => changes.push(change),
            Err(error) => warn!(rule, %error, "store alert"),
        }
    }
    changes.extend(
        transitions
            .removed
            .iter()
            .map(|labels| Change::remove(Table::Alerts, key(rule, labels))),
    );
    changes
}

/// All stored alerts by rule.
pub(super) fn alerts(store: &dyn StateStore) -> HashMap<String, Vec<Alert>> {
    let mut by_rule: HashMap<String, Vec<Alert>> = HashMap::new();
    for (_, value) in store.scan(Table::Alerts) {
        match serde_json::from_slice::<StoredAlert<'_>>(&value) {
            Ok(stored) => by_rule
                .entry(stored.rule.into_owned())
                .or_default()
                .push(stored.alert.into_owned()),
            Err(error) => warn!(%error, "stored alert cannot be read"),
        }
    }
    by_rule
}

/// When each group was last evaluated, milliseconds since the epoch.
pub(super) fn last_evaluations(store: &dyn StateStore) -> HashMap<String, i64> {
    let rows = store.scan(Table::Groups).into_iter();
    rows.filter_map(|(key, value)| {
        let key = String::from_utf8(key).ok()?;
        Some((key, serde_json::from_slice(&value).ok()?))
    })
    .collect()
}

/// The change that stores a group's last evaluation.
pub(super) fn last_evaluation(group: &str, at_ms: i64) -> Option<Change> {
    Change::put(Table::Groups, group.as_bytes(), &at_ms).ok()
}
