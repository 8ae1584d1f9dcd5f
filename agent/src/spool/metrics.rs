//! What the spool tells about itself.

use std::sync::Arc;

use common::telemetry::{Counter, Gauge, Registry};

/// The spool's metrics.
#[derive(Debug, Clone)]
pub struct SpoolMetrics {
    /// `agent_spool_ticks_total`
    pub ticks: Arc<Counter>,
    /// `agent_spool_samples_total`
    pub samples: Arc<Counter>,
    /// `agent_spool_written_bytes_total`
    pub written_bytes: Arc<Counter>,
    /// `agent_spool_bytes`
    pub bytes: Arc<Gauge>,
    /// `agent_spool_segments`
    pub segments: Arc<Gauge>,
    /// `agent_spool_last_sequence`
    pub last_sequence: Arc<Gauge>,
    /// `agent_spool_dropped_segments_total`
    pub dropped_segments: Arc<Counter>,
    /// `agent_spool_dropped_ticks_total`, by receiver
    pub dropped_ticks: Vec<Arc<Counter>>,
    /// `agent_spool_corrupt_records_total`
    pub corrupt_records: Arc<Counter>,
    /// `agent_spool_truncated_bytes_total`
    pub truncated_bytes: Arc<Counter>,
    /// `agent_spool_write_errors_total`
    pub write_errors: Arc<Counter>,
}

impl SpoolMetrics {
    /// Registers them, for so many receivers.
    #[must_use]
    pub fn new(registry: &Registry, copies: usize) -> Self {
        let counter = |name, help| registry.counter(name, help, &[]);
        let gauge = |name, help| registry.gauge(name, help, &[]);
        Self {
            ticks: counter("agent_spool_ticks_total", "Ticks written to the spool."),
            samples: counter("agent_spool_samples_total", "Samples written to the spool."),
            written_bytes: counter(
                "agent_spool_written_bytes_total",
                "Bytes written to the spool.",
            ),
            bytes: gauge("agent_spool_bytes", "Bytes the spool takes on disk."),
            segments: gauge("agent_spool_segments", "Segment files of the spool."),
            last_sequence: gauge(
                "agent_spool_last_sequence",
                "Sequence of the newest tick in the spool; the high 32 bits count starts.",
            ),
            dropped_segments: counter(
                "agent_spool_dropped_segments_total",
                "Segments dropped before they were acknowledged, for want of room.",
            ),
            dropped_ticks: (0..copies)
                .map(|copy| {
                    let help = "Ticks dropped before they were acknowledged, for want of room.";
                    let labels = super::copy_labels(copy);
                    registry.counter("agent_spool_dropped_ticks_total", help, labels)
                })
                .collect(),
            corrupt_records: counter(
                "agent_spool_corrupt_records_total",
                "Spool records whose checksum was wrong.",
            ),
            truncated_bytes: counter(
                "agent_spool_truncated_bytes_total",
                "Bytes cut off from a segment that a crash had left half written.",
            ),
            write_errors: counter(
                "agent_spool_write_errors_total",
                "Ticks that could not be written to the spool and are lost.",
            ),
        }
    }
}
