//! Opening a store: lock, key, replay of the log.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use common::clock::Clock;

use super::replay::Replayed;
use super::{Inner, StoreOptions};
use crate::block::cache::Cache;
use crate::block::catalogue::Catalogue;
use crate::block::reader::Caches;
use crate::checkpoint;
use crate::files::{self, DirectoryLock};
use crate::identity::HashKey;
use crate::raw::RawCache;
use crate::settle::Settling;
use crate::wal::{self, Wal, WalOptions};
use crate::write::OpenError;

/// How long records gather when nobody blocks on them.
const LINGER: Duration = Duration::from_millis(2);
const SEGMENT_BYTES: u64 = 64 << 20;
/// What an active series is reckoned to take at most.
const BYTES_PER_SERIES: u64 = 2048;
/// Each cache has at least so much.
const CACHE_BYTES_MIN: usize = 32 << 20;
/// Series that are taken however small the budget.
const SERIES_MIN: u64 = 100_000;

/// Opens the store's files.
///
/// # Errors
/// See [`crate::Store::open`].
pub(super) fn open(options: StoreOptions, clock: Arc<dyn Clock>) -> Result<Inner, OpenError> {
    let directory_lock = DirectoryLock::acquire(&options.path)?;
    let wal_directory = options.path.join("wal");
    let key = in_path(&options.path, HashKey::load_or_create(&options.path))?;
    in_path(&wal_directory, files::create_directory(&wal_directory))?;
    let quarantine = options.path.join("corrupt");
    let blocks = open_blocks(&options, &quarantine, key)?;
    let series_max = (options.memory_budget_bytes / BYTES_PER_SERIES).max(SERIES_MIN);
    let mut replayed = Replayed::new(key, series_max);
    let from = checkpoint::read(&options.path, key.seed(), &mut |payload| {
        replayed.apply(&[(0, payload)]);
    });
    let from = in_path(&options.path, from)?;
    let report = wal::replay(&wal_directory, &quarantine, key.seed(), &mut |records| {
        let first = records.partition_point(|&(number, _)| number < from);
        replayed.apply(&records[first..]);
    });
    let report = in_path(&wal_directory, report)?;
    replayed
        .head
        .finish_replay(blocks.last_ms().unwrap_or(i64::MIN));
    tracing::info!(
        records = report.records,
        lost = report.lost,
        torn_bytes = report.torn_bytes,
        samples = replayed.counts.samples,
        malformed = replayed.counts.malformed,
        "log replayed"
    );
    if replayed.counts.lost > 0 {
        let rows = replayed.counts.lost;
        tracing::error!(
            rows,
            "rows of the log can't be read: both copies of what they count from are damaged"
        );
    }
    let wal_options = WalOptions {
        directory: wal_directory.clone(),
        seed: key.seed(),
        linger: LINGER,
        segment_bytes: SEGMENT_BYTES,
    };
    let wal = in_path(
        &wal_directory,
        Wal::start(wal_options, (report.last + 1).max(from)),
    )?;
    Ok(Inner {
        options,
        clock,
        head: RwLock::new(Arc::new(replayed.head)),
        wal,
        blocks,
        cut: RwLock::default(),
        metadata: Mutex::new(replayed.metadata),
        readers: Mutex::default(),
        upkeep: Mutex::default(),
        exemplars: Mutex::default(),
        raw: RawCache::default(),
        unsealed_samples: AtomicU64::new(replayed.counts.samples),
        settling: Settling::default(),
        _lock: directory_lock,
    })
}

fn open_blocks(
    options: &StoreOptions,
    quarantine: &Path,
    key: HashKey,
) -> Result<Catalogue, OpenError> {
    let cache_bytes = usize::try_from(options.memory_budget_bytes / 16).unwrap_or(usize::MAX);
    let cache_bytes = cache_bytes.max(CACHE_BYTES_MIN);
    let caches = Arc::new(Caches {
        chunks: Cache::new(cache_bytes),
        indexes: Cache::new(cache_bytes),
    });
    let directory = options.path.join("blocks");
    in_path(
        &directory,
        Catalogue::open(&directory, quarantine, key, caches),
    )
}

fn in_path<T>(path: &Path, result: std::io::Result<T>) -> Result<T, OpenError> {
    result.map_err(|source| OpenError::Io {
        path: path.display().to_string(),
        source,
    })
}
