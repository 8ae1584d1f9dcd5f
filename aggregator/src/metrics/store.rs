//! Figures of the store as metrics.

use std::sync::Arc;

use common::telemetry::{Gauge, Registry};
use tidemark_storage::{Store, StoreStats};

/// Where a value is.
type Read = fn(&StoreStats) -> f64;
/// Name, help and value.
type Figure = (&'static str, &'static str, Read);

const FIGURES: [Figure; 26] = [
    (
        "aggregator_storage_head_series",
        "Series in the head.",
        |s| s.head_series as f64,
    ),
    (
        "aggregator_storage_head_groups",
        "Sources of series in the head.",
        |s| s.head_groups as f64,
    ),
    (
        "aggregator_storage_head_samples",
        "Samples in the head that no block has yet.",
        |s| s.head_samples as f64,
    ),
    (
        "aggregator_storage_head_bytes",
        "Memory that the head's samples take.",
        |s| s.head_bytes as f64,
    ),
    (
        "aggregator_storage_index_bytes",
        "Memory that the head's index takes.",
        |s| s.index_bytes as f64,
    ),
    (
        "aggregator_storage_cache_bytes",
        "Memory in the caches of chunks and of indexes.",
        |s| s.cache_bytes as f64,
    ),
    (
        "aggregator_storage_wal_pending_bytes",
        "Bytes that wait to be written to the log.",
        |s| s.wal_pending_bytes as f64,
    ),
    (
        "aggregator_storage_wal_failed",
        "Whether the log can't be written and samples are refused.",
        |s| f64::from(u8::from(s.wal_failed)),
    ),
    ("aggregator_storage_blocks", "Blocks on disk.", |s| {
        s.blocks as f64
    }),
    (
        "aggregator_storage_block_bytes",
        "Bytes of the blocks on disk.",
        |s| s.block_bytes as f64,
    ),
    (
        "aggregator_storage_block_samples",
        "Samples in the blocks.",
        |s| s.block_samples as f64,
    ),
    (
        "aggregator_storage_blocks_quarantined",
        "Blocks that are damaged and set aside.",
        |s| s.blocks_quarantined as f64,
    ),
    (
        "aggregator_storage_blocks_missing",
        "Blocks of which the manifest knows and whose files are gone.",
        |s| s.blocks_missing as f64,
    ),
    (
        "aggregator_storage_recovery_lost_records",
        "Records of the log that the last start found missing.",
        |s| s.lost.records as f64,
    ),
    (
        "aggregator_storage_recovery_lost_definitions",
        "Columns with samples of which the last start did not find what series they are.",
        |s| s.lost.definitions as f64,
    ),
    (
        "aggregator_storage_recovery_lost_samples",
        "Samples of these columns.",
        |s| s.lost.samples as f64,
    ),
    (
        "aggregator_storage_recovery_torn_bytes",
        "Bytes behind the last sound record of the log at the last start.",
        |s| s.lost.torn_bytes as f64,
    ),
    (
        "aggregator_storage_memory_bytes",
        "Memory that the store holds in all.",
        |s| s.memory_bytes as f64,
    ),
    (
        "aggregator_storage_memory_budget_bytes",
        "Memory that the store may hold.",
        |s| s.memory_budget_bytes as f64,
    ),
    (
        "aggregator_storage_pressure",
        "What is refused for want of memory: 1 nothing yet, 2 new series, 3 queries too, 4 writes too.",
        |s| f64::from(s.pressure as u8),
    ),
    (
        "aggregator_storage_disk_free_bytes",
        "Bytes that are free on the disk of the data directory.",
        |s| s.disk_free_bytes as f64,
    ),
    (
        "aggregator_storage_disk_refuses",
        "Whether samples are refused for want of disk space.",
        |s| f64::from(u8::from(s.disk_refuses)),
    ),
    (
        "aggregator_storage_state_bytes",
        "Bytes of the embedded database for small state.",
        |s| s.state_bytes as f64,
    ),
    (
        "aggregator_storage_state_failed",
        "Whether the embedded database failed and is out of use until the next start.",
        |s| f64::from(u8::from(s.state_failed)),
    ),
    (
        "aggregator_storage_first_sample_timestamp_seconds",
        "Time of the earliest sample; NaN without samples.",
        |s| seconds(s.first_ms),
    ),
    (
        "aggregator_storage_last_sample_timestamp_seconds",
        "Time of the latest sample; NaN without samples.",
        |s| seconds(s.last_ms),
    ),
];

fn seconds(timestamp_ms: Option<i64>) -> f64 {
    timestamp_ms.map_or(f64::NAN, |ms| ms as f64 / 1000.0)
}

/// Gauges that show the store as it was at the last update.
#[derive(Debug, Clone)]
pub struct StoreMetrics {
    gauges: Vec<(Arc<Gauge>, Read)>,
}

impl StoreMetrics {
    /// Registers all of them.
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        let gauges = FIGURES
            .iter()
            .map(|&(name, help, read)| (registry.gauge(name, help, &[]), read))
            .collect();
        Self { gauges }
    }

    /// Reads the store. Takes its locks for a moment, so it is for threads that may block.
    pub fn update(&self, store: &Store) {
        let stats = store.stats();
        for (gauge, read) in &self.gauges {
            gauge.set(read(&stats));
        }
    }
}
