//! The store: accepts streams and append requests, and serves reads as series sets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::clock::Clock;
use common::model::Metadata;
use common::report::chain;

use crate::append_throttle::AppendThrottle;
use crate::block::block_list::{BlockList, Quarantined};
use crate::block::reader::BlockError;
use crate::budget::{Budget, Pressure};
use crate::exemplars::{EXEMPLARS_MAX, Exemplars};
use crate::files::DirectoryLock;
use crate::head::Head;
use crate::head::group::Stored;
use crate::index::resolve::{Prepared, label_names, label_values};
use crate::index::view::{PostingsRef, SeriesIndex};
use crate::maintenance::{Maintenance, MaintenanceError};
use crate::manifest::AgentTable;
use crate::memory::{Overhead, ProcessMemory};
use crate::raw::RawCache;
use crate::read::{ReadControl, ReadError, Readable, Selection, SeriesSet, StableUntil};
use crate::seal::MaintenanceState;
use crate::select::{Parts, ReaderGuard, Set};
use crate::series_hash::{HashKey, SeriesHash};
use crate::space::Space;
use crate::stability::StabilityTracker;
use crate::state::StateDb;
use crate::stats::Lost;
use crate::stream::{SERIES_PER_STREAM_MAX, Stream};
use crate::sync::{RankedMutex, RankedRwLock, lock, read};
use crate::wal::{Wal, WalSync, record};
use crate::write::{AppendError, AppendMode, Appended, LogPosition, OpenError, SeriesSamples};

mod open;
mod replay;

/// Options for opening a store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The data directory; created if missing.
    pub path: PathBuf,
    /// Samples older than this are refused and removed; `None` keeps them forever.
    pub retention: Option<Duration>,
    /// Total size of the blocks in bytes above which the oldest ones are removed; 0 means unlimited.
    pub retention_bytes: u64,
    /// The memory budget in bytes; see [`crate::Pressure`].
    pub memory_budget_bytes: u64,
    /// The number of series that one stream may define at a time. The head may hold twice as many series per source.
    pub series_per_stream_max: u64,
    /// The maximum number of exemplars to keep.
    pub exemplars_max: usize,
    /// When appended records are synced to disk.
    pub wal_sync: WalSync,
    /// The memory usage of the process, which then counts towards the budget. With `None`, only the memory held by the
    /// store counts.
    pub process_memory: Option<Arc<dyn ProcessMemory>>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            path: PathBuf::from("./data"),
            retention: None,
            retention_bytes: 0,
            memory_budget_bytes: 1 << 30,
            series_per_stream_max: SERIES_PER_STREAM_MAX,
            exemplars_max: EXEMPLARS_MAX,
            wal_sync: WalSync::EveryCommit,
            process_memory: None,
        }
    }
}

/// A time-series store; clones share the same data.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
    /// Stops the background threads when the last clone is dropped.
    maintenance: Arc<Maintenance>,
}

/// State shared by all clones of a [`Store`].
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) options: StoreOptions,
    pub(crate) clock: Arc<dyn Clock>,
    head: RankedRwLock<Arc<Head>>,
    pub(crate) wal: Wal,
    pub(crate) blocks: BlockList,
    /// Held for reading while samples are logged and inserted into the head. While it is held for writing, the head
    /// matches a position of the log.
    pub(crate) append_barrier: RankedRwLock<()>,
    pub(crate) metadata: RankedMutex<BTreeMap<String, Metadata>>,
    /// Cloned by each series set and replaced by each seal.
    pub(crate) readers: RankedMutex<Arc<ReaderGuard>>,
    /// State of block maintenance. It is locked during maintenance, so that only one seal runs at a time.
    pub(crate) maintenance: RankedMutex<MaintenanceState>,
    pub(crate) exemplars: RankedMutex<Exemplars>,
    pub(crate) raw: RawCache,
    pub(crate) throttle: AppendThrottle,
    pub(crate) stability: StabilityTracker,
    pub(crate) state: StateDb,
    pub(crate) budget: Arc<Budget>,
    pub(crate) overhead: Overhead,
    pub(crate) space: Space,
    pub(crate) agents: RankedMutex<AgentTable>,
    /// Data that could not be recovered at startup.
    pub(crate) lost: Lost,
    _lock: DirectoryLock,
}

impl Inner {
    /// Waits until samples may be appended. The caller must not hold any lock of the store.
    pub(crate) fn admit(&self) -> Result<(), AppendError> {
        self.throttle.admit();
        self.may_append()
    }

    /// Checks whether appends are allowed; waits only for the log.
    fn may_append(&self) -> Result<(), AppendError> {
        if let Some(free_bytes) = self.space.refusal() {
            return Err(AppendError::DiskFull { free_bytes });
        }
        if self.budget.is_full(self.throttle.open()) {
            return Err(AppendError::OverBudget {
                used_bytes: self.budget.used_bytes(),
                budget_bytes: self.budget.max_bytes(),
            });
        }
        self.wal.admit()
    }

    /// Returns the current head.
    pub(crate) fn head(&self) -> Arc<Head> {
        Arc::clone(&read(&self.head))
    }

    /// Returns the hash key of the data directory.
    pub(crate) fn key(&self) -> HashKey {
        read(&self.head).key
    }

    /// Returns the time before which samples are not kept.
    pub(crate) fn retention_start_ms(&self, now_ms: i64) -> i64 {
        self.options.retention.map_or(i64::MIN, |retention| {
            let millis = u64::try_from(retention.as_millis()).unwrap_or(u64::MAX);
            now_ms.saturating_sub_unsigned(millis)
        })
    }

    /// Returns a timestamp that no sealed sample exceeds.
    pub(crate) fn blocks_floor_ms(&self) -> i64 {
        self.blocks.last_ms().unwrap_or(i64::MIN)
    }

    /// Looks up the sample of a series at a point in time in the sealed blocks. Unreadable blocks count as empty.
    pub(crate) fn stored_in_blocks(&self, series: SeriesHash, time_ms: i64) -> Stored {
        for block in self.blocks.overlapping(time_ms, time_ms) {
            match block.sample(series, time_ms) {
                Ok(Some(bits)) => return Stored::Bits(bits),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(path = %block.path.display(), error = chain(&error), "look up a sample");
                }
            }
        }
        Stored::Nothing
    }
}

impl Store {
    /// Opens the store in `options.path` and replays its log.
    ///
    /// # Errors
    /// The directory can't be created, read or locked. Damaged files are not an error; they are quarantined.
    pub fn open(options: StoreOptions, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let path = options.path.display().to_string();
        let inner = Arc::new(open::open(options, clock)?);
        let maintenance = Maintenance::start(Arc::clone(&inner))
            .map_err(|source| OpenError::Io { path, source })?;
        Ok(Self {
            inner,
            maintenance: Arc::new(maintenance),
        })
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Opens the stream of one source. The name must stay the same across reconnects and restarts
    /// (`agent/<idc>/<node>/<instance>`). A second stream of the same name takes over from the first.
    #[must_use]
    pub fn stream(&self, name: &str) -> Stream {
        Stream::new(self.clone(), name)
    }

    /// Appends samples of any series. They are visible to reads when this returns, and durable once the log is on disk
    /// up to [`Appended::position`].
    ///
    /// # Errors
    /// See [`AppendError`]. On error, no sample of the request is visible.
    pub fn append(
        &self,
        series: &[SeriesSamples],
        mode: AppendMode,
    ) -> Result<Appended, AppendError> {
        self.inner.append(series, mode)
    }

    /// Blocks until the log is on disk up to `position`.
    ///
    /// # Errors
    /// The log could not be written or synced, so the appended samples are not durable.
    pub fn wait_durable(&self, position: LogPosition) -> Result<(), AppendError> {
        self.inner.wal.wait_durable(position)
    }

    /// Calls `done` once the log is on disk up to `position` or has failed. For callers that must not block. `done` may
    /// run on the log's thread and must return quickly.
    pub fn when_durable(
        &self,
        position: LogPosition,
        done: impl FnOnce(Result<(), AppendError>) + Send + 'static,
    ) {
        self.inner.wal.when_durable(position, Box::new(done));
    }

    /// Sets the metadata of a metric family. It survives restarts, but this does not wait for the disk.
    pub fn set_metadata(&self, family: &str, metadata: Metadata) {
        let mut families = lock(&self.inner.metadata);
        if families.get(family) == Some(&metadata) {
            return;
        }
        if self.inner.may_append().is_ok() {
            self.inner.wal.push(&record::metadata(family, &metadata));
        }
        families.insert(family.to_owned(), metadata);
    }

    /// Returns the metadata of all known metric families, sorted by name.
    #[must_use]
    pub fn metadata(&self) -> Vec<(String, Metadata)> {
        lock(&self.inner.metadata)
            .iter()
            .map(|(name, meta)| (name.clone(), meta.clone()))
            .collect()
    }

    /// Seals all appended samples into blocks, merges the blocks, and returns once they are on disk.
    ///
    /// # Errors
    /// See [`MaintenanceError`].
    pub fn flush(&self) -> Result<(), MaintenanceError> {
        let wal = &self.inner.wal;
        wal.wait_durable(wal.end())
            .map_err(MaintenanceError::SyncLog)?;
        let mut maintenance = lock(&self.inner.maintenance);
        self.inner.seal(&mut maintenance)?;
        self.inner.merge_all()
    }

    /// Returns the embedded database of this data directory, for other small state of the same process.
    #[must_use]
    pub fn state(&self) -> &StateDb {
        &self.inner.state
    }

    /// Syncs the log and stops the background work. Later appends fail with [`AppendError::Closed`].
    ///
    /// # Errors
    /// The log could not be synced.
    pub fn close(&self) -> Result<(), AppendError> {
        self.maintenance.stop();
        self.inner.wal.close()
    }
}

impl Inner {
    /// Returns the parts of the store that may hold samples of a time range.
    fn parts(&self, start_ms: i64, end_ms: i64) -> Parts {
        let head = self.head();
        // Taken before the blocks are listed: if a seal moves samples to a block that is not listed, they stay in the
        // head until the guard is dropped.
        let guard = Arc::clone(&lock(&self.readers));
        let (blocks, sealed) = self.blocks.overlapping_and_sealed(start_ms, end_ms);
        let quarantined = self.blocks.quarantined(start_ms, end_ms);
        let warning = |one: &Quarantined| format!("block {} is damaged and skipped", one.name);
        Parts {
            head,
            blocks,
            warnings: quarantined.iter().map(warning).collect(),
            sealed,
            guard,
        }
    }

    /// Calls `visit` with each index of the range and its matching series; `None` means all series.
    fn each_index(
        &self,
        selection: &Selection,
        control: &ReadControl,
        mut visit: impl FnMut(&dyn SeriesIndex, Option<PostingsRef<'_>>),
    ) -> Result<(), ReadError> {
        let parts = self.parts(selection.start_ms, selection.end_ms);
        let prepared = Prepared::new(&selection.matchers);
        let all = selection.matchers.is_empty();
        let mut one = |index: &dyn SeriesIndex| {
            if all {
                visit(index, None);
            } else {
                visit(index, Some(prepared.resolve(index, control)?.view()));
            }
            Ok::<(), ReadError>(())
        };
        for block in parts.blocks {
            control.check()?;
            match block.load() {
                Ok(loaded) => one(&loaded.index)?,
                Err(BlockError::Read(error)) => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(path = %block.path.display(), error = chain(&error), "read block");
                }
            }
        }
        if self.head_overlaps(&parts.head, selection) {
            one(&*read(&parts.head.index))?;
        }
        Ok(())
    }

    /// Whether the head may have a sample in the selection's time range. Ranges that reach into the last hour are
    /// assumed to overlap, because nearly all queries do.
    fn head_overlaps(&self, head: &Head, selection: &Selection) -> bool {
        let (start_ms, end_ms) = (selection.start_ms, selection.end_ms);
        let now_ms = self.clock.now_ms();
        if start_ms <= now_ms && end_ms >= now_ms - 3_600_000 && start_ms <= end_ms {
            return true;
        }
        let groups = head.groups();
        groups
            .iter()
            .any(|group| lock(&group.data).overlaps(start_ms, end_ms))
    }
}

impl Readable for Store {
    fn stable_until(&self) -> Option<StableUntil> {
        self.inner.stability.stable_until(self.inner.clock.now_ms())
    }

    fn select(
        &self,
        selection: &Selection,
        control: &ReadControl,
    ) -> Result<Arc<dyn SeriesSet>, ReadError> {
        if self.inner.budget.pressure() >= Pressure::Queries {
            return Err(ReadError::OverBudget);
        }
        let parts = self.inner.parts(selection.start_ms, selection.end_ms);
        Ok(Arc::new(Set::new(parts, selection, control)?))
    }

    fn label_names(
        &self,
        selection: &Selection,
        control: &ReadControl,
    ) -> Result<Vec<String>, ReadError> {
        let mut names = BTreeSet::new();
        self.inner
            .each_index(selection, control, |index, ids| match ids {
                Some(ids) => label_names(index, ids, &mut names),
                None => label_names(index, PostingsRef::Bitmap(&index.all()), &mut names),
            })?;
        Ok(names.into_iter().collect())
    }

    fn label_values(
        &self,
        name: &str,
        selection: &Selection,
        control: &ReadControl,
    ) -> Result<Vec<String>, ReadError> {
        let mut values = BTreeSet::new();
        self.inner.each_index(selection, control, |index, ids| {
            label_values(index, name, ids, &mut values);
        })?;
        Ok(values.into_iter().collect())
    }
}

#[cfg(test)]
mod damage;
#[cfg(test)]
mod failure_reports;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod forged;
#[cfg(test)]
mod merging;
#[cfg(test)]
mod model;
#[cfg(test)]
mod newer_version;
#[cfg(test)]
mod tests;
