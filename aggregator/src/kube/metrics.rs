//! Metrics about the watches.

use std::sync::Arc;

use common::telemetry::{Counter, Gauge, Registry};

use super::cluster::Failure;
use super::kind::Kind;

/// Of all kinds.
#[derive(Debug)]
pub(crate) struct Metrics {
    kinds: Vec<(Kind, KindMetrics)>,
    pub(crate) samples: Arc<Counter>,
    pub(crate) refused_samples: Arc<Counter>,
    pub(crate) failed_rows: Arc<Counter>,
}

/// Of one kind.
#[derive(Debug)]
pub(crate) struct KindMetrics {
    pub(crate) up: Arc<Gauge>,
    pub(crate) objects: Arc<Gauge>,
    pub(crate) series: Arc<Gauge>,
    pub(crate) refused_series: Arc<Counter>,
    pub(crate) malformed_values: Arc<Counter>,
    failures: Vec<(Failure, Arc<Counter>)>,
}

const FAILURES: [Failure; 7] = [
    Failure::Connection,
    Failure::Unauthorized,
    Failure::Forbidden,
    Failure::NotFound,
    Failure::Expired,
    Failure::Refused,
    Failure::Malformed,
];

impl Metrics {
    /// Registers them.
    pub(crate) fn new(registry: &Registry) -> Self {
        let kinds = Kind::ALL
            .into_iter()
            .map(|kind| (kind, KindMetrics::new(registry, kind)));
        Self {
            kinds: kinds.collect(),
            samples: registry.counter(
                "aggregator_kube_stored_samples_total",
                "Samples of the cluster's state that were stored.",
                &[],
            ),
            refused_samples: registry.counter(
                "aggregator_kube_refused_samples_total",
                "Samples of the cluster's state that the store refused.",
                &[],
            ),
            failed_rows: registry.counter(
                "aggregator_kube_failed_rows_total",
                "Rows of the cluster's state that could not be stored.",
                &[],
            ),
        }
    }

    /// Of one kind.
    pub(crate) fn of(&self, kind: Kind) -> &KindMetrics {
        let found = self.kinds.iter().find(|(candidate, _)| *candidate == kind);
        &found.expect("every kind of Kind::ALL was registered").1
    }
}

impl KindMetrics {
    fn new(registry: &Registry, kind: Kind) -> Self {
        let resource = ("resource", kind.as_str());
        let failures = FAILURES.into_iter().map(|failure| {
            let counter = registry.counter(
                "aggregator_kube_watch_failures_total",
                "Answers of the API server that a watch could not go on with.",
                &[resource, ("reason", failure.as_str())],
            );
            (failure, counter)
        });
        let gauge = |name, help| registry.gauge(name, help, &[resource]);
        let counter = |name, help| registry.counter(name, help, &[resource]);
        Self {
            failures: failures.collect(),
            up: gauge(
                "aggregator_kube_watch_up",
                "Whether the API server's state is followed.",
            ),
            objects: gauge("aggregator_kube_watch_objects", "Objects that are known."),
            series: gauge("aggregator_kube_watch_series", "Series that are written."),
            refused_series: counter(
                "aggregator_kube_refused_series_total",
                "Series beyond a limit, or with labels beyond one.",
            ),
            malformed_values: counter(
                "aggregator_kube_malformed_values_total",
                "Values of objects that could not be read.",
            ),
        }
    }

    /// Counts a failure.
    pub(crate) fn failed(&self, failure: Failure) {
        if let Some((_, counter)) = self.failures.iter().find(|(known, _)| *known == failure) {
            counter.inc();
        }
    }
}
