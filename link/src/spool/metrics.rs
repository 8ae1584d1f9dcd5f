//! Metrics of the spool.

use std::sync::Arc;

use common::telemetry::{Counter, Gauge, MetricDef, Registry};
use common::{metric, metrics};

use super::Receiver;

const DROPPED_TICKS: MetricDef<Counter> = metric!(
    Counter,
    "agent_spool_dropped_ticks_total",
    "Ticks dropped before they were acknowledged, because the spool was full."
);

metrics! {
    /// Metrics of the spool.
    #[derive(Debug, Clone)]
    pub struct SpoolMetrics {
        pub ticks: Counter = "agent_spool_ticks_total", "Ticks written to the spool.";
        pub samples: Counter = "agent_spool_samples_total", "Samples written to the spool.";
        pub written_bytes: Counter = "agent_spool_written_bytes_total", "Bytes written to the spool.";
        pub bytes: Gauge = "agent_spool_bytes", "Size of the spool on disk.";
        pub segments: Gauge = "agent_spool_segments", "Segment files of the spool.";
        pub last_sequence: Gauge = "agent_spool_last_sequence", "Sequence number of the newest tick in the spool. The high 32 bits count starts of the agent.";
        pub dropped_segments: Counter = "agent_spool_dropped_segments_total", "Segments dropped before they were acknowledged, because the spool was full.";
        pub corrupt_records: Counter = "agent_spool_corrupt_records_total", "Spool records with a wrong checksum.";
        pub truncated_bytes: Counter = "agent_spool_truncated_bytes_total", "Bytes cut off a segment that a crash left half written.";
        pub write_errors: Counter = "agent_spool_write_errors_total", "Ticks lost because the spool could not be written.";
    }
    with {
        /// `agent_spool_dropped_ticks_total`, one counter per receiver.
        pub dropped_ticks: Vec<Arc<Counter>>,
    }
}

impl SpoolMetrics {
    /// Registers the metrics for a spool with these receivers.
    #[must_use]
    pub fn new(registry: &Registry, receivers: &[Receiver]) -> Self {
        let dropped =
            |receiver: &Receiver| DROPPED_TICKS.register(registry, receiver.metric_labels());
        Self::register(registry, &[], receivers.iter().map(dropped).collect())
    }
}
