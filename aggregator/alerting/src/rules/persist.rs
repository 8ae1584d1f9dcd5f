//! Reads and writes stored alert state.

use std::collections::HashMap;

use common::model::Labels;
use common::report::chain;
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

/// Maximum number of changes per commit.
const AT_ONCE: usize = 256;

/// Returns the changes that store the `transitions` of a rule, in batches.
pub(super) fn changes<'a>(
    rule: &'a str,
    transitions: &'a Transitions,
) -> impl Iterator<Item = Vec<Change>> + 'a {
    let put = move |alert: &Alert| {
        let stored = StoredAlert {
            rule: rule.into(),
            alert: std::borrow::Cow::Borrowed(alert),
        };
        let change = Change::put(Table::Alerts, key(rule, &alert.labels), &stored);
        match change {
            Ok(change) => Some(change),
            Err(error) => {
                warn!(rule, error = chain(&error), "store alert");
                None
            }
        }
    };
    let remove = move |labels: &Labels| Change::remove(Table::Alerts, key(rule, labels));
    let changed = transitions.changed.chunks(AT_ONCE);
    let changed = changed.map(move |alerts| alerts.iter().filter_map(put).collect());
    let removed = transitions.removed.chunks(AT_ONCE);
    changed.chain(removed.map(move |labels| labels.iter().map(remove).collect()))
}

/// Returns all stored alerts by rule.
pub(super) fn alerts(store: &dyn StateStore) -> HashMap<String, Vec<Alert>> {
    let mut by_rule: HashMap<String, Vec<Alert>> = HashMap::new();
    for (_, value) in store.scan(Table::Alerts) {
        match serde_json::from_slice::<StoredAlert<'_>>(&value) {
            Ok(stored) => by_rule
                .entry(stored.rule.into_owned())
                .or_default()
                .push(stored.alert.into_owned()),
            Err(error) => warn!(error = chain(&error), "read stored alert"),
        }
    }
    by_rule
}

/// Returns the time of each group's last evaluation in milliseconds since the epoch.
pub(super) fn last_evaluations(store: &dyn StateStore) -> HashMap<String, i64> {
    let rows = store.scan(Table::Groups).into_iter();
    rows.filter_map(|(key, value)| {
        let key = String::from_utf8(key).ok()?;
        Some((key, serde_json::from_slice(&value).ok()?))
    })
    .collect()
}

/// Returns the change that stores the time of a group's last evaluation.
pub(super) fn last_evaluation(group: &str, at_ms: i64) -> Option<Change> {
    Change::put(Table::Groups, group.as_bytes(), &at_ms).ok()
}
