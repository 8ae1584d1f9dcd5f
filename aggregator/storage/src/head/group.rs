//! A group: the series of one source, which share their timestamps.

use std::collections::VecDeque;
use std::sync::Arc;

use super::part::HeadPart;
use crate::block::slice::Samples;
use crate::index::SeriesId;
use crate::seal::take_column;
use crate::sync::RankedMutex;
use crate::value_kind::ValueKind;
use crate::wal::rows::RowCoder;
use crate::write::LogPosition;

/// Maximum number of columns in a group; a log record with a higher column number is invalid.
pub(crate) const COLUMNS_MAX: u32 = 1 << 22;

/// The series of one source.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) number: u32,
    pub(crate) key: Arc<str>,
    pub(crate) data: RankedMutex<GroupData>,
}

/// The content of a group.
#[derive(Debug, Clone)]
pub(crate) struct GroupData {
    /// The series of each column; `None` if the column is free or the log lost its definition.
    columns: Vec<Option<SeriesId>>,
    /// The value kind of each column.
    kinds: Vec<ValueKind>,
    /// The number of streams that define each column.
    pins: Vec<u32>,
    /// Columns available for reuse.
    free: Vec<u32>,
    /// Columns assigned to a series since the last base checkpoint.
    changed: Vec<u32>,
    /// The samples since the last seal.
    open: HeadPart,
    /// Parts that are being sealed, or are sealed but still needed by readers; oldest first.
    frozen: Vec<Arc<HeadPart>>,
    /// No sample of these columns is later than this anywhere in the store, so later samples need no duplicate check.
    pub(crate) floor_ms: i64,
    /// Encodes and decodes the group's rows in the log.
    pub(crate) coder: RowCoder,
    /// The last sequence applied.
    pub(crate) sequence: Option<u64>,
    /// The last sequence known to be durable.
    durable_sequence: Option<u64>,
    /// Later sequences, with the log positions at which they become durable.
    undurable: VecDeque<(LogPosition, u64)>,
}

/// The value stored at a place and timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    Nothing,
    Bits(u64),
}

impl GroupData {
    pub(crate) fn new(floor_ms: i64) -> Self {
        Self {
            columns: Vec::new(),
            kinds: Vec::new(),
            pins: Vec::new(),
            free: Vec::new(),
            changed: Vec::new(),
            open: HeadPart::default(),
            frozen: Vec::new(),
            floor_ms,
            coder: RowCoder::default(),
            sequence: None,
            durable_sequence: None,
            undurable: VecDeque::new(),
        }
    }

    /// Assigns a column for values of `kind` to `series`.
    pub(crate) fn add_column(&mut self, series: SeriesId, kind: ValueKind) -> u32 {
        let column = match self.free.pop() {
            Some(column) => {
                self.columns[column as usize] = Some(series);
                column
            }
            None => {
                self.columns.push(Some(series));
                self.columns.len() as u32 - 1
            }
        };
        self.set_kind(column, kind);
        self.changed.push(column);
        column
    }

    fn set_kind(&mut self, column: u32, kind: ValueKind) {
        let at = column as usize;
        if at >= self.kinds.len() {
            self.kinds.resize(at + 1, ValueKind::default());
        }
        self.kinds[at] = kind;
    }

    /// Returns the kind of a column's values.
    pub(crate) fn kind(&self, column: u32) -> ValueKind {
        self.kinds.get(column as usize).copied().unwrap_or_default()
    }

    /// Whether no column is left for another series.
    pub(crate) const fn is_full(&self) -> bool {
        self.free.is_empty() && self.columns.len() >= COLUMNS_MAX as usize
    }

    /// Returns the columns assigned to a series since [`Self::begin_changes`].
    pub(crate) fn changed(&self) -> &[u32] {
        &self.changed
    }

    /// Restarts the tracking of changed columns.
    pub(crate) fn begin_changes(&mut self) {
        self.changed = Vec::new();
    }

    /// Protects a column from eviction while a stream defines it.
    pub(crate) fn pin(&mut self, column: u32) {
        let at = column as usize;
        if at >= self.pins.len() {
            self.pins.resize(at + 1, 0);
        }
        self.pins[at] += 1;
    }

    /// Reverts one [`Self::pin`].
    pub(crate) fn unpin(&mut self, column: u32) {
        if let Some(pins) = self.pins.get_mut(column as usize) {
            *pins = pins.saturating_sub(1);
        }
    }

    /// Removes the series from a column, unless a stream defines it or it has samples. Returns whether it did.
    pub(crate) fn vacate(&mut self, column: u32) -> bool {
        let pinned = self.pins.get(column as usize).is_some_and(|&pins| pins > 0);
        let used = |part: &HeadPart| part.has_column(column);
        if pinned || used(&self.open) || self.frozen.iter().any(|part| used(part)) {
            return false;
        }
        self.columns[column as usize] = None;
        true
    }

    /// Makes a vacated column available for reuse, once no reader refers to it.
    pub(crate) fn free(&mut self, column: u32) {
        self.free.push(column);
    }

    /// Makes room for rows of `columns` columns, whose series the log may define later.
    pub(crate) fn widen(&mut self, columns: u32) {
        if columns as usize > self.columns.len() {
            self.columns.resize(columns as usize, None);
        }
    }

    /// Assigns the series named in the log to a column.
    ///
    /// Returns the column's former series, which was evicted before the column was reused.
    pub(crate) fn set_column(
        &mut self,
        column: u32,
        kind: ValueKind,
        series: SeriesId,
    ) -> Option<SeriesId> {
        self.set_kind(column, kind);
        let at = column as usize;
        if at >= self.columns.len() {
            self.columns.resize(at + 1, None);
        }
        self.columns[at]
            .replace(series)
            .filter(|&before| before != series)
    }

    /// After a replay, makes columns without series and samples available for reuse.
    pub(crate) fn find_free(&mut self) {
        let is_free = |(column, series): (u32, &Option<SeriesId>)| {
            (series.is_none() && !self.open.has_column(column)).then_some(column)
        };
        self.free = (0..).zip(&self.columns).filter_map(is_free).collect();
    }

    /// After a replay, returns the number of columns with samples but no series, and the number of their samples.
    pub(crate) fn orphans(&self) -> (u64, u64) {
        let has_series = |column: u32| matches!(self.columns.get(column as usize), Some(Some(_)));
        let orphans = (0..self.open.width())
            .filter(|&column| !has_series(column) && self.open.has_column(column));
        orphans.fold((0, 0), |(columns, sum), column| {
            let mut samples = Samples::default();
            take_column(&self.open, column, &mut samples);
            (columns + 1, sum + samples.times_ms.len() as u64)
        })
    }

    /// Returns the number of columns that are not free.
    pub(crate) const fn used_columns(&self) -> usize {
        self.columns.len() - self.free.len()
    }

    /// Returns the series of each column.
    pub(crate) fn columns(&self) -> &[Option<SeriesId>] {
        &self.columns
    }

    /// The samples since the last seal.
    pub(crate) const fn open(&self) -> &HeadPart {
        &self.open
    }

    /// Returns the parts that are being sealed, or are sealed but still needed by readers.
    pub(crate) fn frozen(&self) -> &[Arc<HeadPart>] {
        &self.frozen
    }

    /// Freezes the open part for the seal `generation`. The log retained after the seal begins here.
    pub(crate) fn freeze(&mut self, generation: u64) {
        self.coder.begin();
        if !self.open.is_empty() {
            let mut part = std::mem::take(&mut self.open);
            part.generation = generation;
            self.frozen.push(Arc::new(part));
        }
    }

    /// Drops the parts sealed up to `generation`.
    pub(crate) fn release_sealed(&mut self, generation: u64) {
        self.frozen.retain(|part| part.generation > generation);
    }

    /// Whether the group may have a sample in the range.
    pub(crate) fn overlaps(&self, start_ms: i64, end_ms: i64) -> bool {
        let mut frozen = self.frozen.iter();
        self.open.overlaps(start_ms, end_ms) || frozen.any(|part| part.overlaps(start_ms, end_ms))
    }

    /// Returns the value stored for a column at a point in time.
    pub(crate) fn get(&self, column: u32, time_ms: i64) -> Stored {
        let frozen = || {
            self.frozen
                .iter()
                .find_map(|part| part.get(column, time_ms))
        };
        let bits = self.open.get(column, time_ms).or_else(frozen);
        bits.map_or(Stored::Nothing, Stored::Bits)
    }

    /// Stores cells of one timestamp. None of these columns may have a sample there yet.
    pub(crate) fn put(&mut self, time_ms: i64, cells: impl ExactSizeIterator<Item = (u32, u64)>) {
        if cells.len() > 0 {
            self.floor_ms = self.floor_ms.max(time_ms);
        }
        self.open.put(time_ms, self.columns.len(), cells);
    }

    /// Records that a sequence is durable once the log is durable up to `position`.
    pub(crate) fn set_sequence(&mut self, sequence: u64, position: LogPosition) {
        self.sequence = Some(sequence);
        self.undurable.push_back((position, sequence));
    }

    /// Records a sequence that was found in the log.
    pub(crate) fn set_durable_sequence(&mut self, sequence: u64) {
        self.sequence = self.sequence.max(Some(sequence));
        self.durable_sequence = self.sequence;
    }

    /// Returns the last sequence that is durable if the log is durable up to `position`.
    pub(crate) fn durable_sequence(&mut self, position: LogPosition) -> Option<u64> {
        while let Some(&(waits_for, sequence)) = self.undurable.front()
            && waits_for <= position
        {
            self.durable_sequence = Some(sequence);
            self.undurable.pop_front();
        }
        self.durable_sequence
    }

    /// Returns the memory used, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let frozen: usize = self.frozen.iter().map(|part| part.memory_bytes()).sum();
        self.open.memory_bytes() + self.columns.capacity() * 8 + frozen + self.coder.memory_bytes()
    }
}
