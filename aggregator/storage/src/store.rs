//! The store: streams and requests in, series sets out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use common::clock::Clock;
use common::model::Metadata;

use crate::files::DirectoryLock;
use crate::head::Head;
use crate::head::group::Stored;
use crate::identity::SeriesHash;
use crate::read::{ReadControl, ReadError, Readable, Selection, SeriesSet};
use crate::select::HeadSet;
use crate::stream::Stream;
use crate::sync::{lock, read};
use crate::wal::{Wal, record};
use crate::write::{AppendError, AppendMode, Appended, LogPosition, OpenError, SeriesSamples};

mod open;

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The data directory; made when it is not there.
    pub path: PathBuf,
    /// Samples older than this are refused and removed. `None`: kept for ever.
    pub retention: Option<Duration>,
    /// Bytes on disk at which the oldest blocks are removed. 0: no bound.
    pub retention_bytes: u64,
    /// Bytes of memory to stay below.
    pub memory_budget_bytes: u64,
}

/// A time-series store. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// What the clones share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) options: StoreOptions,
    pub(crate) clock: Arc<dyn Clock>,
    head: RwLock<Arc<Head>>,
    pub(crate) wal: Wal,
    /// Held for reading while samples are logged and put into the head, so that whoever holds it for writing sees
    /// a head that agrees with a position of the log.
    pub(crate) cut: RwLock<()>,
    metadata: Mutex<BTreeMap<String, Metadata>>,
    _lock: DirectoryLock,
}

impl Inner {
    /// The head of the moment.
    pub(crate) fn head(&self) -> Arc<Head> {
        Arc::clone(&read(&self.head))
    }

    /// Samples before this are not kept.
    pub(crate) fn retention_start_ms(&self, now_ms: i64) -> i64 {
        self.options.retention.map_or(i64::MIN, |retention| {
            let millis = u64::try_from(retention.as_millis()).unwrap_or(u64::MAX);
            now_ms.saturating_sub_unsigned(millis)
        })
    }

    /// No sealed sample is later than this.
    pub(crate) const fn blocks_floor_ms(&self) -> i64 {
        i64::MIN
    }

    /// What the sealed blocks have of a series at a time.
    pub(crate) const fn stored_in_blocks(&self, _series: SeriesHash, _time_ms: i64) -> Stored {
        Stored::Nothing
    }
}

impl Store {
    /// Opens the store in `options.path`, replaying what its log holds.
    ///
    /// # Errors
    /// The directory can't be made, read or locked. Damaged files are set aside, not an error.
    pub fn open(options: StoreOptions, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        Ok(Self {
            inner: Arc::new(open::open(options, clock)?),
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
        if self.inner.wal.admit().is_ok() {
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
    /// A block could not be written.
    pub fn flush(&self) -> Result<(), AppendError> {
        self.inner.wal.wait_durable(self.inner.wal.end())
    }

    /// Syncs the log and stops the background work. Later appends fail with [`AppendError::Closed`].
    ///
    /// # Errors
    /// The log could not be synced.
    pub fn close(&self) -> Result<(), AppendError> {
        self.inner.wal.close()
    }
}

impl Readable for Store {
    fn select(
        &self,
        selection: &Selection,
        control: &ReadControl,
    ) -> Result<Arc<dyn SeriesSet>, ReadError> {
        let head = self.inner.head();
        Ok(Arc::new(HeadSet::new(head, selection, control)?))
    }

    fn label_names(
        &self,
        selection: &Selection,
        control: &ReadControl,
    ) -> Result<Vec<String>, ReadError> {
        let head = self.inner.head();
        let index = read(&head.index);
        let names = if selection.matchers.is_empty() {
            index.label_names(None)
        } else {
            let ids = index.resolve(&selection.matchers, control)?;
            index.label_names(Some(&ids))
        };
        Ok(names.into_iter().collect())
    }

    fn label_values(
        &self,
        name: &str,
        selection: &Selection,
        control: &ReadControl,
    ) -> Result<Vec<String>, ReadError> {
        let head = self.inner.head();
        let index = read(&head.index);
        let values = if selection.matchers.is_empty() {
            index.label_values(name, None)
        } else {
            let ids = index.resolve(&selection.matchers, control)?;
            index.label_values(name, Some(&ids))
        };
        Ok(values.into_iter().collect())
    }
}

#[cfg(test)]
mod tests;
