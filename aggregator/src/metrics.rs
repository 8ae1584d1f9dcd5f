//! Metrics about the process as a whole.

pub mod store;

use common::metric;
use common::telemetry::{Gauge, MetricDef, Registry, register_process_metrics};

const BUILD_INFO: MetricDef<Gauge> = metric!(
    Gauge,
    "tidemark_build_info",
    "Always 1. The labels name the component and its version."
);

/// Returns a registry with build information and process metrics.
#[must_use]
pub fn registry() -> Registry {
    let registry = Registry::default();
    let labels = [
        ("component", "aggregator"),
        ("version", env!("CARGO_PKG_VERSION")),
    ];
    BUILD_INFO.register(&registry, &labels).set(1.0);
    register_process_metrics(&registry);
    registry
}
