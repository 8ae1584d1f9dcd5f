//! Statistics of the store as gauges.

use std::sync::Arc;

use common::metric;
use common::telemetry::{Gauge, MetricDef, Registry};
use tidemark_storage::{Store, StoreStats};

/// A gauge, and the statistic of the store that it shows.
type StoreGauge = (MetricDef<Gauge>, fn(&StoreStats) -> f64);

#[rustfmt::skip]
const GAUGES: [StoreGauge; 26] = [
    (metric!(Gauge, "aggregator_storage_head_series", "Series in the head."), |s| s.head_series as f64),
    (metric!(Gauge, "aggregator_storage_head_groups", "Groups of series in the head, each with its own timestamps."), |s| s.head_groups as f64),
    (metric!(Gauge, "aggregator_storage_head_samples", "Samples in the head that no block holds yet."), |s| s.head_samples as f64),
    (metric!(Gauge, "aggregator_storage_head_bytes", "Memory used by the head's samples."), |s| s.head_bytes as f64),
    (metric!(Gauge, "aggregator_storage_index_bytes", "Memory used by the head's index."), |s| s.index_bytes as f64),
    (metric!(Gauge, "aggregator_storage_cache_bytes", "Memory used by the caches of chunks and block indexes."), |s| s.cache_bytes as f64),
    (metric!(Gauge, "aggregator_storage_wal_pending_bytes", "Bytes waiting to be written to the write-ahead log."), |s| s.wal_pending_bytes as f64),
    (metric!(Gauge, "aggregator_storage_wal_failed", "Whether the write-ahead log failed, so that samples are refused."), |s| flag(s.wal_failed)),
    (metric!(Gauge, "aggregator_storage_blocks", "Blocks on disk."), |s| s.blocks as f64),
    (metric!(Gauge, "aggregator_storage_block_bytes", "Size of the blocks on disk."), |s| s.block_bytes as f64),
    (metric!(Gauge, "aggregator_storage_block_samples", "Samples in the blocks."), |s| s.block_samples as f64),
    (metric!(Gauge, "aggregator_storage_blocks_quarantined", "Damaged blocks that were set aside."), |s| s.blocks_quarantined as f64),
    (metric!(Gauge, "aggregator_storage_blocks_missing", "Blocks in the manifest whose files are missing."), |s| s.blocks_missing as f64),
    (metric!(Gauge, "aggregator_storage_recovery_lost_records", "Records that the last start found missing from the write-ahead log."), |s| s.lost.records as f64),
    (metric!(Gauge, "aggregator_storage_recovery_lost_definitions", "Columns recovered at the last start with samples but without a series definition."), |s| s.lost.definitions as f64),
    (metric!(Gauge, "aggregator_storage_recovery_lost_samples", "Samples lost at the last start because their series definition was missing."), |s| s.lost.samples as f64),
    (metric!(Gauge, "aggregator_storage_recovery_torn_bytes", "Bytes after the last intact record of the write-ahead log at the last start."), |s| s.lost.torn_bytes as f64),
    (metric!(Gauge, "aggregator_storage_memory_bytes", "Memory used by the store."), |s| s.memory_bytes as f64),
    (metric!(Gauge, "aggregator_storage_memory_budget_bytes", "Memory that the store may use."), |s| s.memory_budget_bytes as f64),
    (metric!(Gauge, "aggregator_storage_pressure", "Memory pressure: 0 none, 1 early seal, 2 new series refused, 3 queries refused too, 4 writes refused too."), |s| f64::from(s.pressure as u8)),
    (metric!(Gauge, "aggregator_storage_disk_free_bytes", "Free space on the disk of the data directory."), |s| s.disk_free_bytes as f64),
    (metric!(Gauge, "aggregator_storage_disk_refuses", "Whether samples are refused for lack of disk space."), |s| flag(s.disk_refuses)),
    (metric!(Gauge, "aggregator_storage_state_bytes", "Size of the embedded state database."), |s| s.state_bytes as f64),
    (metric!(Gauge, "aggregator_storage_state_failed", "Whether the embedded state database failed and stays unused until the next start."), |s| flag(s.state_failed)),
    (metric!(Gauge, "aggregator_storage_first_sample_timestamp_seconds", "Timestamp of the oldest sample, NaN without samples."), |s| seconds(s.first_ms)),
    (metric!(Gauge, "aggregator_storage_last_sample_timestamp_seconds", "Timestamp of the newest sample, NaN without samples."), |s| seconds(s.last_ms)),
];

fn flag(is_set: bool) -> f64 {
    f64::from(u8::from(is_set))
}

fn seconds(timestamp_ms: Option<i64>) -> f64 {
    timestamp_ms.map_or(f64::NAN, |ms| ms as f64 / 1000.0)
}

/// Reads the value of one gauge.
type ReadStat = fn(&StoreStats) -> f64;

/// Gauges with the store's statistics as of the last update.
#[derive(Debug, Clone)]
pub struct StoreMetrics {
    gauges: Vec<(Arc<Gauge>, ReadStat)>,
}

impl StoreMetrics {
    /// Registers the gauges.
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        let gauges = GAUGES.map(|(gauge, read)| (gauge.register(registry, &[]), read));
        Self {
            gauges: gauges.to_vec(),
        }
    }

    /// Updates the gauges. Takes the store's locks briefly, so the caller must be a thread that may block.
    pub fn update(&self, store: &Store) {
        let stats = store.stats();
        for (gauge, read) in &self.gauges {
            gauge.set(read(&stats));
        }
    }
}
