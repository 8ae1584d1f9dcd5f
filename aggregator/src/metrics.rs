//! Metrics about the process as a whole.

pub mod store;

use common::telemetry::{Registry, register_process_metrics};

/// A registry with build information and the process' own figures.
#[must_use]
pub fn registry() -> Registry {
    let registry = Registry::default();
    registry
        .gauge(
            "tidemark_build_info",
            "Always 1; the labels say what runs.",
            &[
                ("component", "aggregator"),
                ("version", env!("CARGO_PKG_VERSION")),
            ],
        )
        .set(1.0);
    register_process_metrics(&registry);
    registry
}
