//! The read interface of a store for PromQL, rules and federation.
//!
//! Reads are columnar. A selection resolves matchers to series without reading samples. Groups are formed by series id, so
//! that an aggregation builds labels only for its result. Each series is then visited as one borrowed column of timestamps
//! and values.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::model::{Labels, Matcher};

/// The series and the time range of a read.
#[derive(Debug, Clone)]
pub struct Selection {
    /// All must match. An absent label has the empty value.
    pub matchers: Vec<Matcher>,
    /// First millisecond, inclusive.
    pub start_ms: i64,
    /// Last millisecond, inclusive.
    pub end_ms: i64,
}

/// Why a read ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The caller cancelled: a timeout, or the client disconnected.
    #[error("read was cancelled")]
    Cancelled,
    /// The query may load no more samples.
    #[error("query would load more than {limit} samples")]
    TooManySamples {
        /// The bound that was reached.
        limit: u64,
    },
    /// The query may touch no more series.
    #[error("query would touch more than {limit} series")]
    TooManySeries {
        /// The bound that was reached.
        limit: u64,
    },
    /// The store has no memory left for queries.
    #[error("memory budget is used up, queries are refused until there is room")]
    OverBudget,
    /// The store could not read its files.
    #[error("read block")]
    Io(#[from] std::io::Error),
}

/// Cancellation and accounting of one query, shared by all its reads and threads.
#[derive(Debug)]
pub struct ReadControl {
    cancelled: AtomicBool,
    samples: AtomicU64,
    samples_max: u64,
    series_max: u64,
}

impl ReadControl {
    /// A control that stops a query at `samples_max` samples or `series_max` series.
    #[must_use]
    pub const fn new(samples_max: u64, series_max: u64) -> Self {
        Self {
            cancelled: AtomicBool::new(false),
            samples: AtomicU64::new(0),
            samples_max,
            series_max,
        }
    }

    /// A control without bounds, for tests and the store's own work.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self::new(u64::MAX, u64::MAX)
    }

    /// Makes every read under this control end soon with [`ReadError::Cancelled`].
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Fails once the query is cancelled. Called at least once per series and per chunk.
    ///
    /// # Errors
    /// [`ReadError::Cancelled`].
    pub fn check(&self) -> Result<(), ReadError> {
        if self.cancelled.load(Ordering::Relaxed) {
            Err(ReadError::Cancelled)
        } else {
            Ok(())
        }
    }

    /// Accounts for samples before they are decoded.
    ///
    /// # Errors
    /// [`ReadError::TooManySamples`] when the query's bound is exceeded.
    pub fn charge_samples(&self, count: u64) -> Result<(), ReadError> {
        let before = self.samples.fetch_add(count, Ordering::Relaxed);
        if before.saturating_add(count) > self.samples_max {
            return Err(ReadError::TooManySamples {
                limit: self.samples_max,
            });
        }
        self.check()
    }

    /// Fails when `count` series are more than the query may touch.
    ///
    /// # Errors
    /// [`ReadError::TooManySeries`].
    pub const fn check_series(&self, count: u64) -> Result<(), ReadError> {
        if count > self.series_max {
            return Err(ReadError::TooManySeries {
                limit: self.series_max,
            });
        }
        Ok(())
    }

    /// Samples charged so far.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }
}

/// The samples of one series inside the selection's range, oldest first.
#[derive(Debug, Clone, Copy)]
pub struct Column<'a> {
    /// Identifies the timestamps. Columns of one read with the same id, other than 0, have the same timestamps, so
    /// work that depends only on them is done once. 0 means unknown.
    pub timestamps_id: u64,
    /// In milliseconds, strictly ascending.
    pub timestamps_ms: &'a [i64],
    /// One value per timestamp.
    pub values: Values<'a>,
}

/// The values of a column.
///
/// Exhaustive on purpose: a new kind must not compile until each reader handles it.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// Floats, including staleness markers.
    Floats(&'a [f64]),
}

/// How an aggregation forms groups.
#[derive(Debug, Clone, Copy)]
pub enum Grouping<'a> {
    /// Series with equal values of these labels are one group; `by ()` is one group in all.
    By(&'a [&'a str]),
    /// Series with equal values of all labels except these are one group. Contains `__name__` only if the caller adds it.
    Without(&'a [&'a str]),
}

/// The groups of a series set.
#[derive(Debug, Clone)]
pub struct Groups {
    /// The group of each series, an index into `labels`.
    pub group_of: Vec<u32>,
    /// The labels of each group.
    pub labels: Vec<Labels>,
}

/// What [`SeriesSet::read`] calls for each series that has samples: its index, its samples.
pub type Visit<'v> = dyn FnMut(usize, Column<'_>) -> Result<(), ReadError> + 'v;

/// The series that a selection matched, numbered from 0. The order is arbitrary and never changes for one set.
pub trait SeriesSet: Send + Sync {
    /// Returns the number of series. Some of them may have no sample in the range.
    fn len(&self) -> usize;

    /// Whether no series matched.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The labels of one series, metric name included. `index` is below [`Self::len`].
    fn labels(&self, index: usize) -> Labels;

    /// Reports whether a series may have the label; `false` is certain. This is cheap, so that callers can skip work for
    /// rare labels.
    fn may_have_label(&self, _name: &str) -> bool {
        true
    }

    /// Groups all series by labels, without building the labels of each.
    fn group(&self, grouping: Grouping<'_>) -> Groups;

    /// Visits the series of `range` that have samples in the time range of the selection, in arbitrary order.
    /// Disjoint ranges may be read by several threads at once.
    ///
    /// # Errors
    /// The control's bounds, an I/O error, or the error of `visit`. Some series were then not visited.
    fn read(
        &self,
        range: Range<usize>,
        control: &ReadControl,
        visit: &mut Visit<'_>,
    ) -> Result<(), ReadError>;

    /// Does the same for callers that need only the newest sample of each series. Older samples may be omitted, so that
    /// they need not be decompressed.
    ///
    /// # Errors
    /// Those of [`Self::read`].
    fn read_newest(
        &self,
        range: Range<usize>,
        control: &ReadControl,
        visit: &mut Visit<'_>,
    ) -> Result<(), ReadError> {
        self.read(range, control, visit)
    }

    /// Returns warnings for the reader: damaged parts that were skipped.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The timestamp up to which the data that was read is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StableUntil {
    /// Increases whenever a sample at or before a returned `until_ms` is written or removed.
    pub generation: u64,
    /// Last millisecond, inclusive.
    pub until_ms: i64,
}

/// A source of series. The store is one; tests of the evaluator have another.
pub trait Readable: Send + Sync {
    /// Returns the timestamp up to which results may be cached, or `None` if unknown.
    fn stable_until(&self) -> Option<StableUntil> {
        None
    }

    /// Resolves a selection to series; reads no samples.
    ///
    /// # Errors
    /// The control's bounds, or an I/O error.
    fn select(
        &self,
        selection: &Selection,
        control: &ReadControl,
    ) -> Result<Arc<dyn SeriesSet>, ReadError>;

    /// Returns the label names of the matching series, sorted, without duplicates. Without a matcher, those of all series.
    ///
    /// # Errors
    /// The control's bounds, or an I/O error.
    fn label_names(
        &self,
        selection: &Selection,
        control: &ReadControl,
    ) -> Result<Vec<String>, ReadError>;

    /// Returns the values of the label `name` of the matching series, sorted, without duplicates. Without a matcher, those
    /// of all series.
    ///
    /// # Errors
    /// The control's bounds, or an I/O error.
    fn label_values(
        &self,
        name: &str,
        selection: &Selection,
        control: &ReadControl,
    ) -> Result<Vec<String>, ReadError>;
}
