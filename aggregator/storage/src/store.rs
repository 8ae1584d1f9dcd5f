//! The store: streams and requests in, series sets out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};
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
use crate::sync::{lock, read};
use crate::wal::{Wal, WalSync, record};
use crate::write::{AppendError, AppendMode, Appended, LogPosition, OpenError, SeriesSamples};

mod open;
mod replay;

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The data directory; made when it is not there.
    pub path: PathBuf,
    /// Samples older than this are refused and removed. `None`: kept for ever.
    pub retention: Option<Duration>,
    /// Bytes on disk at which the oldest blocks are removed. 0: no bound.
    pub retention_bytes: u64,
    /// Bytes of memory to stay below; see [`crate::Pressure`].
    pub memory_budget_bytes: u64,
    /// Series that one stream may have defined at a time. Twice as many of one source may be in the head.
    pub series_per_stream_max: u64,
    /// Exemplars that are kept.
    pub exemplars_max: usize,
    /// When what was written is on disk.
    pub wal_sync: WalSync,
    /// The memory of the process, which then counts towards the budget. `None`: what the store holds counts alone.
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

/// A time-series store. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
    /// Ends the background thread when the last clone is gone.
    maintenance: Arc<Maintenance>,
}

/// What the clones share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) options: StoreOptions,
    pub(crate) clock: Arc<dyn Clock>,
    head: RwLock<Arc<Head>>,
    pub(crate) wal: Wal,
    pub(crate) blocks: BlockList,
    /// Held for reading while samples are logged and put into the head, so that whoever holds it for writing sees
    /// a head that agrees with a position of the log.
    pub(crate) append_barrier: RwLock<()>,
    pub(crate) metadata: Mutex<BTreeMap<String, Metadata>>,
    /// Cloned by each set; replaced by each seal.
    pub(crate) readers: Mutex<Arc<ReaderGuard>>,
    /// What the maintenance of blocks remembers; held while it works, so that there is one seal at a time.
    pub(crate) maintenance: Mutex<MaintenanceState>,
    pub(crate) exemplars: Mutex<Exemplars>,
    pub(crate) raw: RawCache,
    pub(crate) throttle: AppendThrottle,
    pub(crate) stability: StabilityTracker,
    pub(crate) state: StateDb,
    pub(crate) budget: Arc<Budget>,
    pub(crate) overhead: Overhead,
    pub(crate) space: Space,
    pub(crate) agents: Mutex<AgentTable>,
    /// What the start could not recover.
    pub(crate) lost: Lost,
    _lock: DirectoryLock,
}

impl Inner {
    /// Waits until samples may be appended. To be called without any lock of the store.
    pub(crate) fn admit(&self) -> Result<(), AppendError> {
        self.throttle.admit();
        self.may_append()
    }

    /// Whether something may be appended; waits for the log at most.
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

    /// The head of the moment.
    pub(crate) fn head(&self) -> Arc<Head> {
        Arc::clone(&read(&self.head))
    }

    /// The secret of the data directory.
    pub(crate) fn key(&self) -> HashKey {
        read(&self.head).key
    }

    /// Samples before this are not kept.
    pub(crate) fn retention_start_ms(&self, now_ms: i64) -> i64 {
        self.options.retention.map_or(i64::MIN, |retention| {
            let millis = u64::try_from(retention.as_millis()).unwrap_or(u64::MAX);
            now_ms.saturating_sub_unsigned(millis)
        })
    }

    /// No sealed sample is later than this.
    pub(crate) fn blocks_floor_ms(&self) -> i64 {
        self.blocks.last_ms().unwrap_or(i64::MIN)
    }

    /// What the sealed blocks have of a series at a time. A block that can't be read has nothing.
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
    /// Opens the store in `options.path`, replaying what its log holds.
    ///
    /// # Errors
    /// The directory can't be made, read or locked. Damaged files are set aside, not an error.
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

    /// Opens the stream of one source, by a name that is the same after a reconnect or a restart
    /// (`agent/<idc>/<node>/<instance>`). A second stream of the same name takes over from the first.
    #[must_use]
    pub fn stream(&self, name: &str) -> Stream {
        Stream::new(self.clone(), name)
    }

    /// Appends samples of any series. Visible to reads when this returns, durable per
    /// [`Appended::position`].
    ///
    /// # Errors
    /// See [`AppendError`]; then nothing of the request is visible.
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
    /// The log could not be written or synced: what was appended is not durable.
    pub fn wait_durable(&self, position: LogPosition) -> Result<(), AppendError> {
        self.inner.wal.wait_durable(position)
    }

    /// Calls `done` once the log is on disk up to `position`, or can't be. For callers that must not block; `done`
    /// runs on the log's thread and must be quick.
    pub fn when_durable(
        &self,
        position: LogPosition,
        done: impl FnOnce(Result<(), AppendError>) + Send + 'static,
    ) {
        self.inner.wal.when_durable(position, Box::new(done));
    }

    /// Remembers what a metric family means. Kept across restarts, but nobody waits for the disk.
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

    /// The known metric families, sorted by name.
    #[must_use]
    pub fn metadata(&self) -> Vec<(String, Metadata)> {
        lock(&self.inner.metadata)
            .iter()
            .map(|(name, meta)| (name.clone(), meta.clone()))
            .collect()
    }

    /// Seals and merges everything that was appended into blocks, and returns when they are on disk.
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

    /// The embedded database of this data directory, for other small state of the same process.
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
    /// The parts that hold samples of a range of time.
    fn parts(&self, start_ms: i64, end_ms: i64) -> Parts {
        let head = self.head();
        // Before the blocks are listed: what a seal moves from the head to a block that is not in the list then
        // stays in the head until the guard is gone.
        let guard = Arc::clone(&lock(&self.readers));
        let (blocks, sealed) = self.blocks.overlapping_and_sealed(start_ms, end_ms);
        let quarantined = self.blocks.quarantined(start_ms, end_ms);
        let warning = |one: &Quarantined| format!("block {} is damaged and left out", one.name);
        Parts {
            head,
            blocks,
            warnings: quarantined.iter().map(warning).collect(),
            sealed,
            guard,
        }
    }

    /// Gives each index of the range, with the series that match in it, to `visit`.
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

    /// Whether the head has a sample in the selection's time. A time that reaches into the last hour is taken to, for
    /// that is what nearly all ask for.
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
mod newer_version;
#[cfg(test)]
mod tests;
