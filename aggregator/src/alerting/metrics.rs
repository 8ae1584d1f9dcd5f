//! What rules and notifications tell of themselves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use common::telemetry::{Counter, Histogram, Registry};

use super::Alerting;

/// Counters of evaluation and delivery.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    iterations: Arc<Counter>,
    missed: Arc<Counter>,
    failures: Arc<Counter>,
    timeouts: Arc<Counter>,
    evaluation: Arc<Histogram>,
    /// By receiver and kind of integration.
    receivers: Mutex<HashMap<String, HashMap<&'static str, Arc<Delivered>>>>,
}

/// What became of the notifications of an integration.
#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) all: Arc<Counter>,
    failed: Arc<Counter>,
    seconds: Arc<Histogram>,
}

impl Metrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str| registry.counter(name, help, &[]);
        Self {
            registry: registry.clone(),
            iterations: counter(
                "aggregator_rules_group_iterations_total",
                "Evaluations of rule groups.",
            ),
            missed: counter(
                "aggregator_rules_group_iterations_missed_total",
                "Slots of rule groups that passed without an evaluation.",
            ),
            failures: counter(
                "aggregator_rules_evaluation_failures_total",
                "Evaluations of single rules that failed.",
            ),
            timeouts: counter(
                "aggregator_rules_evaluation_timeouts_total",
                "Evaluations of single rules that took longer than their group's interval or two minutes.",
            ),
            evaluation: registry.histogram(
                "aggregator_rules_evaluation_seconds",
                "Time spent in evaluations of rule groups.",
                &[],
                Histogram::SECONDS,
            ),
            receivers: Mutex::default(),
        }
    }

    /// A group was evaluated, and `missed` slots were not; some of its rules failed, for want of time or otherwise.
    pub(super) fn evaluated(&self, missed: u64, (failures, timeouts): (u64, u64), time: Duration) {
        self.failures.add(failures);
        self.timeouts.add(timeouts);
        self.iterations.inc();
        self.missed.add(missed);
        self.evaluation.observe_duration(time);
    }

    /// A notification was sent, or failed for good. The receiver is one of the configuration's.
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

    /// The counters of an integration, which are looked up by their labels the first time only.
    pub(super) fn of_receiver(&self, receiver: &str, integration: &'static str) -> Arc<Delivered> {
        let mut known = self
            .receivers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(receiver).and_then(|kinds| kinds.get(integration)) {
            return Arc::clone(known);
        }
        let labels = [("receiver", receiver), ("integration", integration)];
        let counter = |name: &str, help: &str| self.registry.counter(name, help, &labels);
        let delivered = Arc::new(Delivered {
            all: counter(
                "aggregator_notifications_total",
                "Notifications that were due.",
            ),
            failed: counter(
                "aggregator_notifications_failed_total",
                "Notifications that failed.",
            ),
            seconds: self.registry.histogram(
                "aggregator_notifications_seconds",
                "Time from flush to outcome of notifications.",
                &labels,
                Histogram::SECONDS,
            ),
        });
        let kinds = known.entry(receiver.to_owned()).or_default();
        kinds.insert(integration, Arc::clone(&delivered));
        delivered
    }

    /// Gauges that read the state when they are asked for.
    pub(super) fn register_state(&self, registry: &Registry, alerting: &Arc<Alerting>) {
        let weak: Weak<Alerting> = Arc::downgrade(alerting);
        registry.gauge_fn(
            "aggregator_notifier_alerts",
            "Alerts that the notifier knows.",
            &[],
            move || {
                let alerting = weak.upgrade();
                let count = alerting.map(|alerting| {
                    alerting
                        .notifier()
                        .as_ref()
                        .map_or(0, |n| n.alerts().count())
                });
                count.unwrap_or(0) as f64
            },
        );
    }
}
