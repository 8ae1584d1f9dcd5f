//! Metrics about the watches.

use common::metrics;
use common::telemetry::{By, Counter, Gauge, LabelValue, Registry};

use super::cluster::Failure;
use super::kind::Kind;

metrics! {
    /// Metrics of the cluster's state.
    #[derive(Debug)]
    pub(crate) struct Metrics {
        pub(crate) samples: Counter = "aggregator_kube_stored_samples_total", "Samples of the cluster's state that were stored.";
        pub(crate) refused_samples: Counter = "aggregator_kube_refused_samples_total", "Samples of the cluster's state that the store refused.";
        pub(crate) failed_rows: Counter = "aggregator_kube_failed_rows_total", "Rows of the cluster's state that could not be stored.";
    }
    with {
        kinds: Vec<(Kind, KindMetrics)>,
    }
}

metrics! {
    /// Metrics of the watch of one resource.
    #[derive(Debug)]
    pub(crate) struct KindMetrics {
        pub(crate) up: Gauge = "aggregator_kube_watch_up", "Whether the watch of the API server is up, by resource.";
        pub(crate) objects: Gauge = "aggregator_kube_watch_objects", "Objects known from the watch.";
        pub(crate) series: Gauge = "aggregator_kube_watch_series", "Series written for the objects of the watch.";
        pub(crate) refused_series: Counter = "aggregator_kube_refused_series_total", "Series refused because of a limit on series or labels.";
        pub(crate) malformed_values: Counter = "aggregator_kube_malformed_values_total", "Values of objects that could not be parsed.";
        failures: By<Counter, Failure> = "aggregator_kube_watch_failures_total", "Failed requests to the API server, by resource and reason.";
    }
}

impl LabelValue for Failure {
    const LABEL: &'static str = "reason";

    fn all() -> Vec<Self> {
        vec![
            Self::Connection,
            Self::Unauthorized,
            Self::Forbidden,
            Self::NotFound,
            Self::Expired,
            Self::Refused,
            Self::Malformed,
        ]
    }

    fn as_label(self) -> &'static str {
        self.as_str()
    }
}

impl Metrics {
    /// Registers the metrics.
    pub(crate) fn new(registry: &Registry) -> Self {
        let of_kind = |kind: Kind| {
            let labels = [("resource", kind.as_str())];
            (kind, KindMetrics::register(registry, &labels))
        };
        Self::register(registry, &[], Kind::ALL.into_iter().map(of_kind).collect())
    }

    /// Of one kind.
    pub(crate) fn of(&self, kind: Kind) -> &KindMetrics {
        let found = self.kinds.iter().find(|(candidate, _)| *candidate == kind);
        &found.expect("every kind of Kind::ALL was registered").1
    }
}

impl KindMetrics {
    /// Counts a failure.
    pub(crate) fn failed(&self, failure: Failure) {
        self.failures.of(failure).inc();
    }
}
