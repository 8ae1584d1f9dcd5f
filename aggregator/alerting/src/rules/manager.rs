//! Loads, reloads and restores all rule groups.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use common::model::Labels;
use common::report::chain;
use tracing::warn;

use super::alert::{Alert, AlertState, Alerts, Transitions};
use super::file::{GroupSpec, RuleFile, RuleSpec};
use super::group::{Context, Group, GroupParts, GroupStatus, end_series};
use super::persist;
use super::rule::{Rule, RuleState};
use crate::store::Durability;

/// Downtime beyond which the store may lack recent samples for firing alerts.
const DATA_IS_FRESH_MS: i64 = 120_000;

/// Global defaults for settings that a group does not set.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    /// `global.evaluation_interval`
    pub interval: Duration,
    /// `global.rule_query_offset`
    pub query_offset: Duration,
}

/// The active rule groups.
#[derive(Debug, Default)]
pub struct Manager {
    groups: RwLock<Vec<Arc<Group>>>,
    /// Series of removed groups, with the time at which to mark them stale.
    orphans: Mutex<Vec<(i64, Vec<Labels>)>>,
    /// State stored before the restart, until the first load consumes it.
    restored: Mutex<Option<Restored>>,
}

#[derive(Debug)]
struct Restored {
    alerts: HashMap<String, Vec<Alert>>,
    last_evaluations: HashMap<String, i64>,
}

impl Manager {
    /// Creates a manager without groups and reads the stored state from `context`.
    #[must_use]
    pub fn new(context: &Context) -> Self {
        let restored = Restored {
            alerts: persist::alerts(context.store.as_ref()),
            last_evaluations: persist::last_evaluations(context.store.as_ref()),
        };
        Self {
            restored: Mutex::new(Some(restored)),
            ..Self::default()
        }
    }

    /// Returns the groups in the order of their files.
    pub fn groups(&self) -> Vec<Arc<Group>> {
        self.groups
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Activates the groups of `files`. Rules with unchanged file, group, name and labels keep their state.
    ///
    /// Waits for running evaluations. Groups that are not in [`Self::groups`] must not be evaluated again.
    pub fn load(&self, context: &Context, files: Vec<RuleFile>, defaults: Defaults, now_ms: i64) {
        let mut slot = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        let mut old: HashMap<String, Arc<Group>> = slot
            .drain(..)
            .map(|group| (group.key.clone(), group))
            .collect();
        let mut restored = self
            .restored
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let mut groups = Vec::new();
        for file in files {
            for spec in file.groups {
                let key = format!("{};{}", file.path.display(), spec.name);
                let previous = old.remove(&key);
                if let Some(previous) = previous
                    .as_ref()
                    .filter(|group| is_same(group, &spec, defaults))
                {
                    groups.push(Arc::clone(previous));
                    continue;
                }
                let from = Previous {
                    group: previous.as_deref(),
                    restored: restored.as_mut(),
                    now_ms,
                };
                let mut parts = from.parts(context, &key, spec, defaults);
                parts.file = file.path.clone();
                groups.push(Arc::new(Group::new(parts)));
            }
        }
        let mut forgotten = Vec::new();
        for (_, group) in old {
            let due_ms = now_ms + 2 * group.interval_ms();
            let written = group.written();
            self.orphans
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((due_ms, written));
            forgotten.extend(group.rules.iter().flat_map(forget));
        }
        let unclaimed = restored.map(|restored| restored.alerts).unwrap_or_default();
        for (rule, alerts) in unclaimed {
            let removed = alerts.into_iter().map(|alert| alert.labels).collect();
            let transitions = Transitions {
                changed: Vec::new(),
                removed,
            };
            forgotten.extend(persist::changes(&rule, &transitions).flatten());
        }
        if let Err(error) = context.store.commit(forgotten, Durability::Written) {
            warn!(error = chain(&error), "remove alerts of removed rules");
        }
        *slot = groups;
    }

    /// Marks the series of removed groups stale once two of their intervals have passed. Must be called periodically.
    pub fn end_orphans(&self, context: &Context, now_ms: i64) {
        let mut due = Vec::new();
        self.orphans
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain_mut(|(at_ms, series)| {
                let is_due = *at_ms <= now_ms;
                if is_due {
                    due.append(series);
                }
                !is_due
            });
        if due.is_empty() {
            return;
        }
        let mut taken = HashSet::new();
        for group in self.groups() {
            taken.extend(group.written());
        }
        due.retain(|labels| !taken.contains(labels));
        end_series(context, &due, now_ms);
    }
}

fn forget(rule: &Rule) -> Vec<crate::store::Change> {
    let removed = rule
        .state()
        .alerts
        .iter()
        .map(|alert| alert.labels.clone())
        .collect();
    let transitions = Transitions {
        changed: Vec::new(),
        removed,
    };
    persist::changes(&rule.key, &transitions)
        .flatten()
        .collect()
}

fn is_same(group: &Group, spec: &GroupSpec, defaults: Defaults) -> bool {
    group.interval == spec.interval.unwrap_or(defaults.interval)
        && group.query_offset == spec.query_offset.unwrap_or(defaults.query_offset)
        && group.limit == spec.limit
        && group.rules.len() == spec.rules.len()
        && group
            .rules
            .iter()
            .zip(&spec.rules)
            .all(|(rule, spec)| rule.spec == *spec)
}

/// The source of the initial state of a new group's rules.
struct Previous<'a> {
    group: Option<&'a Group>,
    restored: Option<&'a mut Restored>,
    now_ms: i64,
}

impl Previous<'_> {
    fn parts(
        mut self,
        context: &Context,
        key: &str,
        spec: GroupSpec,
        defaults: Defaults,
    ) -> GroupParts {
        if let Some(group) = self.group {
            group.wait_idle();
        }
        let interval = spec.interval.unwrap_or(defaults.interval);
        let mut claimed = HashSet::new();
        let mut occurrences: HashMap<String, usize> = HashMap::new();
        let mut rules = Vec::with_capacity(spec.rules.len());
        for rule in spec.rules {
            let base = rule_key(key, &rule);
            let occurrence = occurrences.entry(base.clone()).or_default();
            let rule_key = format!("{base};{occurrence}");
            *occurrence += 1;
            let state = self.state(context, key, &rule_key, interval, &mut claimed);
            rules.push(Rule::new(rule, rule_key, state));
        }
        let (orphans, forgotten) = self.unclaimed(&claimed);
        if let Err(error) = context.store.commit(forgotten, Durability::Written) {
            warn!(error = chain(&error), "remove alerts of removed rules");
        }
        GroupParts {
            file: std::path::PathBuf::new(),
            name: spec.name,
            interval,
            query_offset: spec.query_offset.unwrap_or(defaults.query_offset),
            limit: spec.limit,
            rules,
            key: key.to_owned(),
            orphans,
            status: self.group.map_or_else(GroupStatus::default, Group::status),
        }
    }

    fn state(
        &mut self,
        context: &Context,
        group: &str,
        rule: &str,
        interval: Duration,
        claimed: &mut HashSet<String>,
    ) -> RuleState {
        let old = self
            .group
            .and_then(|group| group.rules.iter().find(|candidate| candidate.key == rule));
        if let Some(old) = old {
            claimed.insert(rule.to_owned());
            return std::mem::take(&mut *old.state());
        }
        let Some(restored) = self.restored.as_mut() else {
            return RuleState::default();
        };
        let alerts = restored.alerts.remove(rule).unwrap_or_default();
        let last_ms = restored.last_evaluations.get(group).copied();
        RuleState {
            alerts: restore(context, rule, alerts, (last_ms, self.now_ms), interval),
            ..RuleState::default()
        }
    }

    /// Returns the series of the old rules that no new rule has claimed, and the changes that remove their stored
    /// alerts.
    fn unclaimed(&self, claimed: &HashSet<String>) -> (Vec<Labels>, Vec<crate::store::Change>) {
        let rules = self.group.iter().flat_map(|group| &group.rules);
        let mut orphans = Vec::new();
        let mut forgotten = Vec::new();
        for rule in rules.filter(|rule| !claimed.contains(&rule.key)) {
            orphans.extend(rule.state().output.written());
            forgotten.extend(forget(rule));
        }
        (orphans, forgotten)
    }
}

/// Restores the alerts of a rule after a downtime.
fn restore(
    context: &Context,
    rule: &str,
    mut alerts: Vec<Alert>,
    (last_ms, now_ms): (Option<i64>, i64),
    interval: Duration,
) -> Alerts {
    let downtime_ms = last_ms.map_or(0, |last_ms| (now_ms - last_ms).max(0));
    if downtime_ms > context.outage_tolerance.as_millis() as i64 {
        let mut shifted = Vec::new();
        for alert in alerts
            .iter_mut()
            .filter(|alert| alert.state == AlertState::Pending)
        {
            alert.active_at_ms += downtime_ms;
            shifted.push(alert.clone());
        }
        let transitions = Transitions {
            changed: shifted,
            removed: Vec::new(),
        };
        // Store all changes in one commit. Otherwise a restart would shift the already shifted alerts again.
        let changes = persist::changes(rule, &transitions).flatten().collect();
        if let Err(error) = context.store.commit(changes, Durability::Synced) {
            warn!(rule, error = chain(&error), "store alerts after a downtime");
        }
    }
    let mut alerts = Alerts::restored(alerts);
    if downtime_ms > DATA_IS_FRESH_MS {
        // Sources need some time before they send samples again. Until then, a missing sample does not resolve an
        // alert.
        let grace_ms = (2 * interval.as_millis() as i64).clamp(60_000, 300_000);
        alerts.hold_until(now_ms + grace_ms);
    }
    alerts
}

fn rule_key(group: &str, rule: &RuleSpec) -> String {
    let mut key = format!("{group};{}", rule.name());
    for (name, value) in &rule.labels {
        key.push_str(&format!(";{name}={value}"));
    }
    key
}

#[cfg(test)]
mod tests;
