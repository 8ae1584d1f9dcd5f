//! The notifier, which turns received alerts into deliveries.

mod group;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use common::model::Labels;
use common::report::chain;
use tracing::warn;

use self::group::Group;
use super::alert::{Alert, sort};
use super::config::Config;
use super::inhibit::Inhibitor;
use super::log::{NotificationLog, NotificationState};
use super::message::Notification;
use super::route::Route;
use super::silence::Silences;
use crate::store::{Change, Durability, StateStore, Table};

/// Maximum number of alerts.
pub const ALERTS_MAX: usize = 100_000;
/// Retention of resolved alerts.
const RESOLVED_KEPT_MS: i64 = 30 * 60 * 1000;
/// Interval between garbage collections.
const GARBAGE_INTERVAL_MS: i64 = 60_000;
/// Minimum time allowed for a delivery (Alertmanager's `MinTimeout`).
const DEADLINE_MS_MIN: i64 = 10_000;

/// A group: its labels, its route, and the fingerprints of its alerts.
pub type GroupView<'a> = (Labels, &'a Route, Vec<u64>);

/// Identifies a group: the index of its route and its key.
pub type GroupId = (usize, String);

/// A notification to hand to one integration of a receiver.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The group to notify about.
    pub group: GroupId,
    /// The index of the integration in its receiver.
    pub integration: usize,
    /// The configuration at the time of the flush.
    pub config: Arc<Config>,
    /// The content.
    pub notification: Notification,
    /// The deadline in milliseconds since the epoch.
    pub deadline_ms: i64,
    log_key: String,
    state: NotificationState,
}

/// The reasons why an alert is not notified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suppression {
    /// The ids of the matching silences.
    pub silenced_by: Vec<String>,
    /// The fingerprints of the alerts that inhibit it.
    pub inhibited_by: Vec<String>,
    /// The names of the route's time intervals that mute it.
    pub muted_by: Vec<String>,
}

/// Counters since the process started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Firing alerts received.
    pub received_firing: u64,
    /// Resolved alerts received.
    pub received_resolved: u64,
    /// Alerts refused because of [`ALERTS_MAX`].
    pub refused: u64,
}

/// The state of all notifications.
#[derive(Debug)]
pub struct Notifier {
    config: Arc<Config>,
    store: Arc<dyn StateStore>,
    external_url: String,
    /// Alerts by fingerprint, shared with the groups and with deliveries in progress.
    alerts: BTreeMap<u64, Arc<Alert>>,
    groups: HashMap<GroupId, Group>,
    silences: Silences,
    log: NotificationLog,
    counts: Counts,
    next_garbage_ms: i64,
    /// Lower bound on the due times of all groups. Saves a scan of all groups after each outcome.
    next_flush_ms: i64,
}

impl Notifier {
    /// Restores the state that an earlier notifier stored in `store`.
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        store: Arc<dyn StateStore>,
        external_url: String,
        now_ms: i64,
    ) -> Self {
        let mut notifier = Self {
            silences: Silences::open(Arc::clone(&store)),
            log: NotificationLog::open(Arc::clone(&store)),
            config,
            store,
            external_url,
            alerts: BTreeMap::new(),
            groups: HashMap::new(),
            counts: Counts::default(),
            next_garbage_ms: now_ms + GARBAGE_INTERVAL_MS,
            next_flush_ms: i64::MAX,
        };
        notifier.restore(now_ms);
        notifier
    }

    /// Restores the alerts. A firing alert keeps firing for one resolve timeout, because its source could not renew it
    /// during the downtime.
    fn restore(&mut self, now_ms: i64) {
        let timeout_ms = self.config.global.resolve_timeout.as_millis() as i64;
        let mut alerts = Vec::new();
        for (_, value) in self.store.scan(Table::ReceivedAlerts) {
            match serde_json::from_slice::<Alert>(&value) {
                Ok(mut alert) => {
                    if !alert.is_resolved(alert.updated_at_ms) {
                        alert.ends_at_ms = alert.ends_at_ms.max(now_ms + timeout_ms);
                    }
                    alerts.push(Arc::new(alert));
                }
                Err(error) => warn!(error = chain(&error), "read stored alert"),
            }
        }
        for alert in alerts {
            self.route(&alert, now_ms);
            self.alerts.insert(alert.fingerprint(), alert);
        }
    }

    /// Returns the active configuration.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Activates another configuration. Rebuilds all groups; the notification log prevents repeated notifications.
    pub fn reload(&mut self, config: Arc<Config>, now_ms: i64) {
        self.config = config;
        self.groups.clear();
        let alerts: Vec<Arc<Alert>> = self.alerts.values().cloned().collect();
        for alert in alerts {
            self.route(&alert, now_ms);
        }
    }

    /// Returns the silences.
    #[must_use]
    pub const fn silences(&self) -> &Silences {
        &self.silences
    }

    /// Returns the silences, mutably.
    pub const fn silences_mut(&mut self) -> &mut Silences {
        &mut self.silences
    }

    /// Returns the alerts in ascending order of their fingerprints.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values().map(AsRef::as_ref)
    }

    /// Returns the counters.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Receives alerts. Refuses alerts above [`ALERTS_MAX`] and returns their number.
    pub fn receive(&mut self, alerts: Vec<Alert>, now_ms: i64) -> u64 {
        let mut changes = Vec::with_capacity(alerts.len());
        let mut refused = 0;
        for mut alert in alerts {
            alert.updated_at_ms = now_ms;
            if alert.is_resolved(now_ms) {
                self.counts.received_resolved += 1;
            } else {
                self.counts.received_firing += 1;
            }
            let fingerprint = alert.fingerprint();
            let old = self.alerts.get(&fingerprint);
            if old.is_none() && self.alerts.len() >= ALERTS_MAX {
                refused += 1;
                continue;
            }
            if let Some(old) = old {
                alert = Alert::merged(old, alert, now_ms);
            }
            match Change::put(Table::ReceivedAlerts, fingerprint.to_be_bytes(), &alert) {
                Ok(change) => changes.push(change),
                Err(error) => warn!(error = chain(&error), "store received alert"),
            }
            let alert = Arc::new(alert);
            self.route(&alert, now_ms);
            self.alerts.insert(fingerprint, alert);
        }
        self.counts.refused += refused;
        if let Err(error) = self.store.commit(changes, Durability::Written) {
            warn!(error = chain(&error), "store received alerts");
        }
        refused
    }

    /// Adds an alert to the groups of its routes.
    fn route(&mut self, alert: &Arc<Alert>, now_ms: i64) {
        for index in self.config.routes.matching(&alert.labels) {
            let Some(route) = self.config.routes.get(index) else {
                continue;
            };
            let labels = route.group_labels(&alert.labels);
            let id = (index, group_key(route, &labels));
            // Resolved alerts also form groups: a receiver may have been notified of them, which the log records.
            let group = self
                .groups
                .entry(id)
                .or_insert_with(|| Group::new(labels, route, now_ms));
            group.insert(alert, route, now_ms);
            let due_ms = group.due_ms().unwrap_or(i64::MAX);
            self.next_flush_ms = self.next_flush_ms.min(due_ms);
        }
    }

    /// Returns the earliest time at which [`Self::tick`] may have work.
    #[must_use]
    pub fn next_due_ms(&self) -> i64 {
        self.next_flush_ms.min(self.next_garbage_ms)
    }

    /// Flushes the groups that are due. The caller must pass each returned delivery to [`Self::finish`].
    pub fn tick(&mut self, now_ms: i64) -> Vec<Delivery> {
        if now_ms >= self.next_garbage_ms {
            self.collect_garbage(now_ms);
        }
        if now_ms < self.next_flush_ms {
            return Vec::new();
        }
        let mut due = Vec::new();
        self.next_flush_ms = i64::MAX;
        for (id, group) in &self.groups {
            match group.due_ms() {
                Some(due_ms) if due_ms <= now_ms => due.push(id.clone()),
                due_ms => self.next_flush_ms = self.next_flush_ms.min(due_ms.unwrap_or(i64::MAX)),
            }
        }
        if due.is_empty() {
            return Vec::new();
        }
        due.sort();
        let inhibitor = self.inhibitor(now_ms);
        let mut deliveries = Vec::new();
        for id in due {
            deliveries.extend(self.flush(&id, &inhibitor, now_ms));
            self.note_due(&id);
        }
        deliveries
    }

    /// Updates `next_flush_ms` for a group whose flush may have ended.
    fn note_due(&mut self, id: &GroupId) {
        let due_ms = self.groups.get(id).and_then(Group::due_ms);
        self.next_flush_ms = self.next_flush_ms.min(due_ms.unwrap_or(i64::MAX));
    }

    fn inhibitor(&self, now_ms: i64) -> Inhibitor {
        let alerts = self
            .alerts
            .iter()
            .map(|(fingerprint, alert)| (*fingerprint, alert.as_ref()));
        Inhibitor::new(&self.config.inhibit_rules, alerts, now_ms)
    }

    fn flush(&mut self, id: &GroupId, inhibitor: &Inhibitor, now_ms: i64) -> Vec<Delivery> {
        let config = Arc::clone(&self.config);
        let (Some(route), Some(group)) = (config.routes.get(id.0), self.groups.get_mut(id)) else {
            return Vec::new();
        };
        let mut alerts = group.begin_flush(route, now_ms);
        if alerts.is_empty() {
            self.groups.remove(id);
            return Vec::new();
        }
        let group_labels = group.labels.clone();
        alerts.retain(|alert| {
            inhibitor
                .inhibiting(&config.inhibit_rules, &alert.labels)
                .is_none()
                && self.silences.matching(&alert.labels, now_ms).is_empty()
        });
        if !muted_by(&config, route, now_ms).is_empty() {
            alerts.clear();
        }
        sort(&mut alerts);
        let integrations = config
            .receivers
            .get(&route.receiver)
            .map_or(&[][..], |receiver| &receiver.integrations);
        let mut deliveries = Vec::new();
        for (index, integration) in integrations.iter().enumerate() {
            let log_key = format!("{}:{}/{}/{index}", id.1, route.receiver, integration.kind());
            let state = notification_state(&alerts, integration.send_resolved(), route, now_ms);
            let reason = self.log.needs(&log_key, &state, now_ms);
            let Some(reason) = reason.filter(|_| !alerts.is_empty()) else {
                continue;
            };
            let mut alerts_to_send = alerts.clone();
            if !integration.send_resolved() {
                alerts_to_send.retain(|alert| !alert.is_resolved(now_ms));
                if alerts_to_send.is_empty() {
                    // Nothing is sent, but the log must record that the alerts no longer fire.
                    self.record([(log_key.as_str(), &state)], now_ms);
                    continue;
                }
            }
            deliveries.push(Delivery {
                group: id.clone(),
                integration: index,
                config: Arc::clone(&config),
                notification: Notification {
                    receiver: route.receiver.clone(),
                    group_key: id.1.clone(),
                    group_labels: group_labels.clone(),
                    alerts: alerts_to_send,
                    reason,
                    route_labels: route.labels.clone(),
                    now_ms,
                    external_url: self.external_url.clone(),
                },
                deadline_ms: now_ms
                    + (route.group_interval.as_millis() as i64).max(DEADLINE_MS_MIN),
                log_key,
                state,
            });
        }
        if let Some(group) = self.groups.get_mut(id) {
            group.await_outcomes(deliveries.len());
        }
        deliveries
    }

    /// Records the outcome of a delivery. A success is durable when this returns.
    pub fn finish(&mut self, delivery: &Delivery, is_sent: bool, now_ms: i64) {
        self.finish_all(&[(delivery, is_sent)], now_ms);
    }

    /// Records the outcomes of deliveries with a single sync. Successes are durable when this returns.
    pub fn finish_all(&mut self, outcomes: &[(&Delivery, bool)], now_ms: i64) {
        let sent = outcomes.iter().filter(|(_, is_sent)| *is_sent);
        let sent = sent.map(|(delivery, _)| (delivery.log_key.as_str(), &delivery.state));
        self.record(sent, now_ms);
        for (delivery, is_sent) in outcomes {
            if let Some(group) = self.groups.get_mut(&delivery.group) {
                group.outcome(*is_sent);
            }
            self.note_due(&delivery.group);
        }
    }

    fn record<'a>(
        &mut self,
        sent: impl IntoIterator<Item = (&'a str, &'a NotificationState)>,
        now_ms: i64,
    ) {
        if let Err(error) = self.log.record(sent, now_ms) {
            // A restart may repeat the notifications. That is better than losing one.
            warn!(error = chain(&error), "record notification");
        }
    }

    /// Returns what suppresses alerts with these labels, regardless of their route.
    #[must_use]
    pub fn suppression(&self, labels: &Labels, inhibitor: &Inhibitor, now_ms: i64) -> Suppression {
        let inhibited_by = inhibitor.inhibiting(&self.config.inhibit_rules, labels);
        Suppression {
            silenced_by: self
                .silences
                .matching(labels, now_ms)
                .into_iter()
                .map(str::to_owned)
                .collect(),
            inhibited_by: inhibited_by
                .map(|fingerprint| format!("{fingerprint:016x}"))
                .into_iter()
                .collect(),
            muted_by: Vec::new(),
        }
    }

    /// Builds the index for [`Self::suppression`] at `now_ms`.
    #[must_use]
    pub fn inhibition_at(&self, now_ms: i64) -> Inhibitor {
        self.inhibitor(now_ms)
    }

    /// Returns the groups, sorted by labels and receiver.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupView<'_>> {
        let view = |(id, group): (&GroupId, &Group)| {
            let route = self.config.routes.get(id.0)?;
            Some((group.labels.clone(), route, group.fingerprints()))
        };
        let mut groups: Vec<_> = self.groups.iter().filter_map(view).collect();
        groups.sort_by(|a, b| (&a.0, &a.1.receiver).cmp(&(&b.0, &b.1.receiver)));
        groups
    }

    /// Returns the alert with `fingerprint`.
    #[must_use]
    pub fn alert(&self, fingerprint: u64) -> Option<&Alert> {
        self.alerts.get(&fingerprint).map(AsRef::as_ref)
    }

    /// Returns the names of the receivers of an alert with these labels, without duplicates.
    #[must_use]
    pub fn receivers_of(&self, labels: &Labels) -> Vec<&str> {
        let routes = self.config.routes.matching(labels).into_iter();
        let names: BTreeSet<&str> = routes
            .filter_map(|index| Some(self.config.routes.get(index)?.receiver.as_str()))
            .collect();
        names.into_iter().collect()
    }

    fn collect_garbage(&mut self, now_ms: i64) {
        self.next_garbage_ms = now_ms + GARBAGE_INTERVAL_MS;
        self.silences.collect_garbage(now_ms);
        self.log.collect_garbage(now_ms);
        let old: Vec<u64> = self
            .alerts
            .iter()
            .filter(|(_, alert)| alert.ends_at_ms + RESOLVED_KEPT_MS < now_ms)
            .map(|(fingerprint, _)| *fingerprint)
            .collect();
        let changes = old
            .iter()
            .map(|key| Change::remove(Table::ReceivedAlerts, key.to_be_bytes()))
            .collect();
        if let Err(error) = self.store.commit(changes, Durability::Written) {
            warn!(error = chain(&error), "remove resolved alerts");
        }
        for fingerprint in old {
            self.alerts.remove(&fingerprint);
        }
    }
}

/// Returns the names of the intervals that mute a route at `now_ms`.
#[must_use]
pub fn muted_by(config: &Config, route: &Route, now_ms: i64) -> Vec<String> {
    let contains = |name: &String| {
        config
            .intervals
            .get(name)
            .is_some_and(|interval| interval.contains(now_ms))
    };
    let muting: Vec<String> = route
        .mute_time_intervals
        .iter()
        .filter(|name| contains(name))
        .cloned()
        .collect();
    if muting.is_empty()
        && !route.active_time_intervals.is_empty()
        && !route.active_time_intervals.iter().any(contains)
    {
        return route.active_time_intervals.clone();
    }
    muting
}

fn notification_state(
    alerts: &[Arc<Alert>],
    send_resolved: bool,
    route: &Route,
    now_ms: i64,
) -> NotificationState {
    let of = |resolved: bool| -> BTreeSet<u64> {
        alerts
            .iter()
            .filter(|alert| alert.is_resolved(now_ms) == resolved)
            .map(|alert| alert.fingerprint())
            .collect()
    };
    NotificationState {
        firing: of(false),
        resolved: of(true),
        send_resolved,
        repeat_ms: route.repeat_interval.as_millis() as i64,
    }
}

/// Returns Alertmanager's group key: the matchers on the path to the route, and the labels of the group.
fn group_key(route: &Route, labels: &Labels) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}={}", crate::template::quote(value)))
        .collect();
    format!("{}:{{{}}}", route.key, pairs.join(", "))
}

#[cfg(test)]
mod store_failure_tests;
#[cfg(test)]
mod tests;
