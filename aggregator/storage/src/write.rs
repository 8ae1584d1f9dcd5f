//! The write interface: the input of a writer, and the results it receives.

use std::io;
use std::sync::Arc;

use common::model::{Labels, LabelsError, Sample};

/// A place in the write-ahead log. What was appended up to it is durable once
/// [`crate::Store::wait_durable`] has returned for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct LogPosition(pub u64);

/// Samples of one series, as remote write sends them.
#[derive(Debug, Clone)]
pub struct SeriesSamples {
    /// The series, metric name included.
    pub labels: Labels,
    /// In any order.
    pub samples: Vec<Sample>,
}

/// What happens to a request with refused samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendMode {
    /// Nothing of it is stored.
    Atomic,
    /// The accepted samples are stored.
    Partial,
}

/// Why a sample was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalReason {
    /// The series has another value at that timestamp.
    DuplicateTimestamp,
    /// Older than the retention.
    TooOld,
    /// Further in the future than [`common::limits::FUTURE_MS_MAX`].
    TooFarInFuture,
    /// A new series, and the limit of series is reached.
    SeriesLimit,
    /// A new series, and the memory budget has no room for it.
    MemoryBudget,
}

/// One refused sample.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The series.
    pub labels: Labels,
    /// The sample's time.
    pub timestamp_ms: i64,
    /// The reason.
    pub reason: RefusalReason,
}

/// The result of an append.
#[derive(Debug, Clone, Default)]
pub struct Appended {
    /// Durable when the log is synced up to here.
    pub position: LogPosition,
    /// Samples stored.
    pub stored: u64,
    /// Duplicates: samples that were stored before with the same value.
    pub duplicates: u64,
    /// Samples refused in all.
    pub refused: u64,
    /// The number of these that belong to new series beyond the limit of series. They alone don't roll an atomic request
    /// back, so that known series are stored.
    pub series_limited: u64,
    /// The number of refused samples that are older than the retention.
    pub too_old: u64,
    /// The first refused samples, at most 16.
    pub refusals: Vec<Refusal>,
}

/// Names the step at which the log failed; the source says why.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A new segment could not be created.
    #[error("create a segment of the write-ahead log")]
    CreateSegment(#[source] io::Error),
    /// Records could not be written.
    #[error("write to the write-ahead log")]
    Write(#[source] io::Error),
    /// Written records could not be synced.
    #[error("sync the write-ahead log")]
    Sync(#[source] io::Error),
    /// The thread of the log panicked.
    #[error("thread of the write-ahead log panicked")]
    Panicked,
}

impl LogError {
    /// Whether the disk, or the quota on it, is full.
    pub(crate) fn is_disk_full(&self) -> bool {
        match self {
            Self::CreateSegment(error) | Self::Write(error) | Self::Sync(error) => matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            Self::Panicked => false,
        }
    }
}

/// Why an append failed as a whole. Nothing of it is visible.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The log is failing; the writer keeps its data and tries again.
    #[error(transparent)]
    Log(Arc<LogError>),
    /// Too little disk space is left; the writer keeps its data and tries again.
    #[error("out of disk space: {free_bytes} bytes free")]
    DiskFull {
        /// The free bytes.
        free_bytes: u64,
    },
    /// The memory budget is used up; the writer keeps its data and tries again.
    #[error("memory budget is used up: {used_bytes} of {budget_bytes} bytes")]
    OverBudget {
        /// The bytes in use.
        used_bytes: u64,
        /// The budget.
        budget_bytes: u64,
    },
    /// An atomic request with refused samples.
    #[error("{} samples refused", .0.refused)]
    Refused(Appended),
    /// A column that was never defined, or a value count that does not fit. The writer is broken.
    #[error("column {column} is not defined")]
    UndefinedColumn {
        /// Its number.
        column: u32,
    },
    /// The store is shutting down.
    #[error("store is closed")]
    Closed,
}

/// Why a series can't be given a column.
#[derive(Debug, thiserror::Error)]
pub enum DefineError {
    /// The limit of series of this stream is reached.
    #[error("limit of {limit} series of one source is reached")]
    StreamLimit {
        /// The limit.
        limit: u64,
    },
    /// The limit of series in all is reached.
    #[error("limit of {limit} series is reached")]
    SeriesLimit {
        /// The limit.
        limit: u64,
    },
    /// The caller accepts no further new series now.
    #[error("too many new series")]
    NotAdmitted,
    /// The memory budget has no room for new series.
    #[error("memory budget has no room for new series")]
    MemoryBudget,
    /// The labels exceed a limit.
    #[error("bad labels")]
    Labels(#[from] LabelsError),
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file or directory could not be used.
    #[error("open {path}")]
    Io {
        /// Its path.
        path: String,
        /// The reason.
        source: io::Error,
    },
    /// Another process has the directory open.
    #[error("{path} is in use by another process")]
    Locked {
        /// Its path.
        path: String,
    },
}
