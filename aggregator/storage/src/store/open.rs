//! Opening a store: directory lock, hash key, log replay.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::clock::Clock;

use super::replay::Replayed;
use super::{Inner, StoreOptions};
use crate::append_throttle::AppendThrottle;
use crate::block::block_list::BlockList;
use crate::block::cache::Cache;
use crate::block::reader::Caches;
use crate::budget::Budget;
use crate::checkpoint;
use crate::exemplars::Exemplars;
use crate::files::{self, DirectoryLock};
use crate::head::Head;
use crate::manifest::{AgentTable, Manifest};
use crate::memory::Overhead;
use crate::raw::RawCache;
use crate::series_hash::HashKey;
use crate::space::Space;
use crate::stability::StabilityTracker;
use crate::state::StateDb;
use crate::stats::Lost;
use crate::sync::{Rank, RankedMutex, RankedRwLock};
use crate::wal::{self, Numbered, RecordFormat, Wal, WalOptions, record};
use crate::write::OpenError;

/// How long log records gather before a commit when no caller blocks on them.
const LINGER: Duration = Duration::from_millis(4);
const SEGMENT_BYTES: u64 = 64 << 20;
/// Upper estimate of the memory per active series, in bytes.
const BYTES_PER_SERIES: u64 = 2048;
/// Minimum size of each cache, unless this exceeds an eighth of the memory budget.
const CACHE_BYTES_MIN: usize = 32 << 20;
/// Minimum series limit, however small the budget.
const SERIES_MIN: u64 = 10_000;

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
    let state = StateDb::open(&options.path);
    let blocks = open_blocks(&options, &quarantine, key, &state)?;
    let budget = Arc::new(Budget::new(options.memory_budget_bytes));
    let space = in_path(&options.path, Space::watch(&options.path))?;
    let series_max = (options.memory_budget_bytes / BYTES_PER_SERIES).max(SERIES_MIN);
    let head = Head::new(key, series_max, Arc::clone(&budget));
    let recovered = recover(&options.path, head, &blocks, &state)?;
    let Recovered { replayed, lost, .. } = recovered;
    let wal_options = WalOptions {
        directory: wal_directory.clone(),
        seed: key.seed(),
        linger: LINGER,
        segment_bytes: SEGMENT_BYTES,
        sync: options.wal_sync,
    };
    let wal = in_path(&wal_directory, Wal::start(wal_options, recovered.next))?;
    let exemplars_max = options.exemplars_max;
    let overhead = Overhead::new(options.process_memory.clone());
    Ok(Inner {
        options,
        clock,
        head: RankedRwLock::new(Rank::Head, Arc::new(replayed.head)),
        wal,
        blocks,
        append_barrier: RankedRwLock::new(Rank::AppendBarrier, ()),
        metadata: RankedMutex::new(Rank::Metadata, replayed.metadata),
        readers: RankedMutex::new(Rank::Readers, Default::default()),
        maintenance: RankedMutex::new(Rank::Maintenance, Default::default()),
        exemplars: RankedMutex::new(Rank::Exemplars, Exemplars::new(exemplars_max)),
        raw: RawCache::default(),
        throttle: AppendThrottle::new(replayed.counts.samples),
        stability: StabilityTracker::default(),
        agents: RankedMutex::new(Rank::Agents, recovered.agents),
        state,
        lost,
        budget,
        overhead,
        space,
        _lock: directory_lock,
    })
}

/// State recovered from the checkpoint and the log.
struct Recovered {
    replayed: Replayed,
    lost: Lost,
    agents: AgentTable,
    /// The number of the next log record.
    next: u64,
}

/// Reads the checkpoint and the log into an empty head.
fn recover(
    directory: &Path,
    head: Head,
    blocks: &BlockList,
    state: &StateDb,
) -> Result<Recovered, OpenError> {
    let seed = head.key.seed();
    let wal_directory = directory.join("wal");
    let mut replayed = Replayed::new(head);
    let mut checkpoint: Vec<Vec<u8>> = Vec::new();
    let from = checkpoint::read(directory, seed, &mut |payload| {
        checkpoint.push(payload.to_vec());
    });
    let from = in_path(directory, from)?;
    let quarantine = directory.join("corrupt");
    let format = RecordFormat {
        seed,
        check: record::check_known,
    };
    let report = wal::replay(&wal_directory, &quarantine, format, &mut |records| {
        let before = std::mem::take(&mut checkpoint);
        let first = records.partition_point(|&(number, _)| number < from);
        let mut all: Vec<Numbered<'_>> = before.iter().map(|one| (0, one.as_slice())).collect();
        all.extend_from_slice(&records[first..]);
        replayed.apply(&all);
    });
    let rest: Vec<Numbered<'_>> = checkpoint.iter().map(|one| (0, one.as_slice())).collect();
    replayed.apply(&rest);
    let report = in_path(&wal_directory, report)?;
    replayed
        .head
        .finish_replay(blocks.last_ms().unwrap_or(i64::MIN));
    let agents = AgentTable::open(state.table("agents"));
    replayed.raise_sequences(&agents);
    let lost = replayed.lost(&report);
    if lost.is_anything() {
        tracing::error!(?lost, "parts of the log are damaged and lost");
    }
    tracing::info!(
        records = report.records,
        torn_bytes = report.torn_bytes,
        samples = replayed.counts.samples,
        "log replayed"
    );
    Ok(Recovered {
        replayed,
        lost,
        agents,
        next: (report.last + 1).max(from),
    })
}

fn open_blocks(
    options: &StoreOptions,
    quarantine: &Path,
    key: HashKey,
    state: &StateDb,
) -> Result<BlockList, OpenError> {
    let budget = usize::try_from(options.memory_budget_bytes).unwrap_or(usize::MAX);
    let cache_bytes = (budget / 16).max(CACHE_BYTES_MIN.min(budget / 8));
    let caches = Arc::new(Caches {
        chunks: Cache::new(cache_bytes),
        indexes: Cache::new(cache_bytes),
    });
    let directory = options.path.join("blocks");
    in_path(
        &directory,
        BlockList::open(
            &directory,
            quarantine,
            key,
            caches,
            Manifest::new(state.table("blocks")),
        ),
    )
}

fn in_path<T>(path: &Path, result: std::io::Result<T>) -> Result<T, OpenError> {
    result.map_err(|source| OpenError::Io {
        path: path.display().to_string(),
        source,
    })
}
