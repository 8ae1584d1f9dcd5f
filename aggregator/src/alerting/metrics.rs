//! What rules and notifications tell of themselves.

use std::sync::{Arc, Weak};
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
        integration: &str,
        is_sent: bool,
        time: Duration,
    ) {
        let labels = [("receiver", receiver), ("integration", integration)];
        let count =
            |name: &str, help: &str, by: u64| self.registry.counter(name, help, &labels).add(by);
        count(
            "aggregator_notifications_total",
            "Notifications that were due.",
            1,
        );
        count(
            "aggregator_notifications_failed_total",
            "Notifications that failed.",
            u64::from(!is_sent),
        );
        let duration = self.registry.histogram(
            "aggregator_notifications_seconds",
            "Time from flush to outcome of notifications.",
            &labels,
            Histogram::SECONDS,
        );
        duration.observe_duration(time);
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
