//! Metrics of rules and notifications.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use common::telemetry::{Counter, Gauge, Histogram, MetricDef, Registry};
use common::{metric, metrics};

use super::Alerting;

const ALERTS: MetricDef<Gauge> = metric!(
    Gauge,
    "aggregator_notifier_alerts",
    "Alerts held by the notifier."
);

/// Counters of deliveries, by receiver name and integration.
type Receivers = HashMap<String, HashMap<&'static str, Arc<DeliveryMetrics>>>;

metrics! {
    /// Counters of rule evaluation and of delivery.
    #[derive(Debug)]
    pub(super) struct Metrics {
        iterations: Counter = "aggregator_rules_group_iterations_total", "Evaluations of rule groups.";
        missed: Counter = "aggregator_rules_group_iterations_missed_total", "Scheduled evaluations of rule groups that were missed.";
        failures: Counter = "aggregator_rules_evaluation_failures_total", "Rule evaluations that failed.";
        timeouts: Counter = "aggregator_rules_evaluation_timeouts_total", "Rule evaluations that took longer than their group's interval or two minutes.";
        evaluation: Histogram = "aggregator_rules_evaluation_seconds", "Duration of rule group evaluations.";
    }
    with {
        registry: Registry,
        receivers: Mutex<Receivers>,
    }
}

metrics! {
    /// Counters of one integration's notifications.
    #[derive(Debug)]
    pub(super) struct DeliveryMetrics {
        pub(super) all: Counter = "aggregator_notifications_total", "Notifications attempted.";
        failed: Counter = "aggregator_notifications_failed_total", "Notifications that failed.";
        seconds: Histogram = "aggregator_notifications_seconds", "Time from the flush of a notification until it was delivered or failed.";
    }
}

impl Metrics {
    pub(super) fn new(registry: &Registry) -> Self {
        Self::register(registry, &[], registry.clone(), Mutex::default())
    }

    /// Counts an evaluation of a group, the slots it missed, and its failed rules.
    pub(super) fn evaluated(&self, missed: u64, (failures, timeouts): (u64, u64), time: Duration) {
        self.failures.add(failures);
        self.timeouts.add(timeouts);
        self.iterations.inc();
        self.missed.add(missed);
        self.evaluation.observe_duration(time);
    }

    /// Counts a notification that was sent or finally failed. The receiver comes from the configuration.
    pub(super) fn delivered(
        &self,
        receiver: &str,
        integration: &'static str,
        is_sent: bool,
        time: Duration,
    ) {
        let delivered = self.of_receiver(receiver, integration);
        delivered.all.inc();
        delivered.failed.add(u64::from(!is_sent));
        delivered.seconds.observe_duration(time);
    }

    /// Returns the counters of an integration, registered on first use.
    pub(super) fn of_receiver(
        &self,
        receiver: &str,
        integration: &'static str,
    ) -> Arc<DeliveryMetrics> {
        let mut known = self
            .receivers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(receiver).and_then(|kinds| kinds.get(integration)) {
            return Arc::clone(known);
        }
        let labels = [("receiver", receiver), ("integration", integration)];
        let delivered = Arc::new(DeliveryMetrics::register(&self.registry, &labels));
        let kinds = known.entry(receiver.to_owned()).or_default();
        kinds.insert(integration, Arc::clone(&delivered));
        delivered
    }

    /// Registers gauges that read the state at each scrape.
    pub(super) fn register_state(&self, registry: &Registry, alerting: &Arc<Alerting>) {
        let weak: Weak<Alerting> = Arc::downgrade(alerting);
        ALERTS.register_fn(registry, &[], move || {
            let alerting = weak.upgrade();
            let count = alerting.map(|alerting| alerting.notifier().alerts().count());
            count.unwrap_or(0) as f64
        });
    }
}
