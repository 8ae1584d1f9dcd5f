//! A group: the series of one source, which share their clock.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::part::HeadPart;
use crate::block::slice::Samples;
use crate::index::SeriesId;
use crate::seal::take_column;
use crate::value_kind::ValueKind;
use crate::wal::rows::RowCoder;
use crate::write::LogPosition;

/// Columns of a group; a number in a log that is no lower is no column's.
pub(crate) const COLUMNS_MAX: u32 = 1 << 22;

/// The series of one source.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) number: u32,
    pub(crate) key: Arc<str>,
    pub(crate) data: Mutex<GroupData>,
}

/// What a group holds.
#[derive(Debug, Clone)]
pub(crate) struct GroupData {
    /// The series of each column; `None` for a column that is free, or whose definition the log lost.
    columns: Vec<Option<SeriesId>>,
    /// By column: the kind of its values.
    kinds: Vec<ValueKind>,
    /// By column: how many streams have it defined.
    pins: Vec<u32>,
    /// Columns that may be given again.
    free: Vec<u32>,
    /// Columns that were given a series since the last checkpoint of all columns.
    changed: Vec<u32>,
    /// What came since the last seal.
    open: HeadPart,
    /// What is being sealed, or was, while a reader may still need it here; oldest first.
    frozen: Vec<Arc<HeadPart>>,
    /// Later than this there is no sample of these columns anywhere in the store, so nothing need be compared.
    pub(crate) floor_ms: i64,
    /// How the log writes its rows.
    pub(crate) coder: RowCoder,
    /// The last sequence applied.
    pub(crate) sequence: Option<u64>,
    /// The last sequence known to be durable, and those after it with the positions they wait for.
    durable_sequence: Option<u64>,
    undurable: VecDeque<(LogPosition, u64)>,
}

/// What is stored at a place and time.
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

    /// Gives `series` a column for values of `kind`.
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

    /// The kind of a column's values.
    pub(crate) fn kind(&self, column: u32) -> ValueKind {
        self.kinds.get(column as usize).copied().unwrap_or_default()
    }

    /// Whether there is no column for another series.
    pub(crate) const fn is_full(&self) -> bool {
        self.free.is_empty() && self.columns.len() >= COLUMNS_MAX as usize
    }

    /// Columns that were given a series since [`Self::begin_changes`].
    pub(crate) fn changed(&self) -> &[u32] {
        &self.changed
    }

    /// Begins to note changed columns anew.
    pub(crate) fn begin_changes(&mut self) {
        self.changed = Vec::new();
    }

    /// Keeps a column while a stream has it defined.
    pub(crate) fn pin(&mut self, column: u32) {
        let at = column as usize;
        if at >= self.pins.len() {
            self.pins.resize(at + 1, 0);
        }
        self.pins[at] += 1;
    }

    /// Ends one [`Self::pin`].
    pub(crate) fn unpin(&mut self, column: u32) {
        if let Some(pins) = self.pins.get_mut(column as usize) {
            *pins = pins.saturating_sub(1);
        }
    }

    /// Takes the series off a column, unless a stream has it defined or a sample is there. Returns whether it did.
    pub(crate) fn vacate(&mut self, column: u32) -> bool {
        let pinned = self.pins.get(column as usize).is_some_and(|&pins| pins > 0);
        let used = |part: &HeadPart| part.has_column(column);
        if pinned || used(&self.open) || self.frozen.iter().any(|part| used(part)) {
            return false;
        }
        self.columns[column as usize] = None;
        true
    }

    /// Gives back columns that were vacated, which no reader has any more.
    pub(crate) fn free(&mut self, column: u32) {
        self.free.push(column);
    }

    /// Makes room for rows of so many columns, whose series the log may name later.
    pub(crate) fn widen(&mut self, columns: u32) {
        if columns as usize > self.columns.len() {
            self.columns.resize(columns as usize, None);
        }
    }

    /// Gives a column its series, as the log has it.
    ///
    /// Returns the series that had it before: it was given up before the log gave the column to another.
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

    /// After a replay: columns without a series may be given again, unless they hold samples.
    pub(crate) fn find_free(&mut self) {
        let is_free = |(column, series): (u32, &Option<SeriesId>)| {
            (series.is_none() && !self.open.has_column(column)).then_some(column)
        };
        self.free = (0..).zip(&self.columns).filter_map(is_free).collect();
    }

    /// After a replay: how many columns hold samples and have no series, and these samples.
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

    /// Columns that are not free.
    pub(crate) const fn used_columns(&self) -> usize {
        self.columns.len() - self.free.len()
    }

    /// The series of each column.
    pub(crate) fn columns(&self) -> &[Option<SeriesId>] {
        &self.columns
    }

    /// What came since the last seal.
    pub(crate) const fn open(&self) -> &HeadPart {
        &self.open
    }

    /// What is being sealed, or was.
    pub(crate) fn frozen(&self) -> &[Arc<HeadPart>] {
        &self.frozen
    }

    /// Sets what is open aside for the seal `generation`. The log that is kept begins here.
    pub(crate) fn freeze(&mut self, generation: u64) {
        self.coder.begin();
        if !self.open.is_empty() {
            let mut part = std::mem::take(&mut self.open);
            part.generation = generation;
            self.frozen.push(Arc::new(part));
        }
    }

    /// Forgets what was sealed up to `generation`.
    pub(crate) fn release_sealed(&mut self, generation: u64) {
        self.frozen.retain(|part| part.generation > generation);
    }

    /// Whether a sample here lies in the range.
    pub(crate) fn overlaps(&self, start_ms: i64, end_ms: i64) -> bool {
        let mut frozen = self.frozen.iter();
        self.open.overlaps(start_ms, end_ms) || frozen.any(|part| part.overlaps(start_ms, end_ms))
    }

    /// What is stored here for a column at a time.
    pub(crate) fn get(&self, column: u32, time_ms: i64) -> Stored {
        let frozen = || {
            self.frozen
                .iter()
                .find_map(|part| part.get(column, time_ms))
        };
        let bits = self.open.get(column, time_ms).or_else(frozen);
        bits.map_or(Stored::Nothing, Stored::Bits)
    }

    /// Stores cells of one timestamp, at which none of these columns has a sample.
    pub(crate) fn put(&mut self, time_ms: i64, cells: impl ExactSizeIterator<Item = (u32, u64)>) {
        if cells.len() > 0 {
            self.floor_ms = self.floor_ms.max(time_ms);
        }
        self.open.put(time_ms, self.columns.len(), cells);
    }

    /// Notes that a sequence is durable once the log is durable up to `position`.
    pub(crate) fn set_sequence(&mut self, sequence: u64, position: LogPosition) {
        self.sequence = Some(sequence);
        self.undurable.push_back((position, sequence));
    }

    /// Notes a sequence that was found in the log.
    pub(crate) fn set_durable_sequence(&mut self, sequence: u64) {
        self.sequence = self.sequence.max(Some(sequence));
        self.durable_sequence = self.sequence;
    }

    /// The last sequence that is durable when the log is durable up to `position`.
    pub(crate) fn durable_sequence(&mut self, position: LogPosition) -> Option<u64> {
        while let Some(&(waits_for, sequence)) = self.undurable.front()
            && waits_for <= position
        {
            self.durable_sequence = Some(sequence);
            self.undurable.pop_front();
        }
        self.durable_sequence
    }

    /// Bytes of memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        let frozen: usize = self.frozen.iter().map(|part| part.memory_bytes()).sum();
        self.open.memory_bytes() + self.columns.capacity() * 8 + frozen + self.coder.memory_bytes()
    }
}
