//! A group: the series of one source, which share their clock.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use super::rows::{ABSENT, Rows};
use crate::index::SeriesId;
use crate::write::LogPosition;

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
    /// The series of each column; `None` for a column whose definition the log lost.
    columns: Vec<Option<SeriesId>>,
    rows: Rows,
    /// Samples that fit no row, by column, ascending in time.
    loose: HashMap<u32, Vec<(i64, u64)>, FxBuildHasher>,
    /// Earliest and latest sample here.
    bounds: Option<(i64, i64)>,
    /// Later than this there is no sample of these columns anywhere in the store, so nothing need be compared.
    pub(crate) floor_ms: i64,
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

/// Rows up to this number are made however sparse they are.
const SPARSE_ROWS: usize = 4;
/// A new row must leave at least one cell in so many filled.
const SPARSE_RATIO: usize = 8;

impl GroupData {
    pub(crate) fn new(floor_ms: i64) -> Self {
        Self {
            columns: Vec::new(),
            rows: Rows::default(),
            loose: HashMap::default(),
            bounds: None,
            floor_ms,
            sequence: None,
            durable_sequence: None,
            undurable: VecDeque::new(),
        }
    }

    pub(crate) fn add_column(&mut self, series: SeriesId) -> u32 {
        self.columns.push(Some(series));
        self.columns.len() as u32 - 1
    }

    /// Gives a column its series, as the log has it.
    pub(crate) fn set_column(&mut self, column: u32, series: SeriesId) {
        let at = column as usize;
        if at >= self.columns.len() {
            self.columns.resize(at + 1, None);
        }
        self.columns[at] = Some(series);
    }

    pub(crate) fn series_of(&self, column: u32) -> Option<SeriesId> {
        self.columns.get(column as usize).copied().flatten()
    }

    pub(crate) const fn columns_len(&self) -> usize {
        self.columns.len()
    }

    /// Whether a sample here lies in the range.
    pub(crate) fn overlaps(&self, start_ms: i64, end_ms: i64) -> bool {
        self.bounds
            .is_some_and(|(first, last)| first <= end_ms && last >= start_ms)
    }

    /// What is stored here for a column at a time.
    pub(crate) fn get(&self, column: u32, timestamp_ms: i64) -> Stored {
        if let Some(row) = self.rows.find(timestamp_ms) {
            let bits = self.rows.get(row, column);
            if bits != ABSENT {
                return Stored::Bits(bits);
            }
        }
        let loose = self.loose.get(&column).map_or(&[][..], Vec::as_slice);
        match loose.binary_search_by_key(&timestamp_ms, |&(t, _)| t) {
            Ok(at) => Stored::Bits(loose[at].1),
            Err(_) => Stored::Nothing,
        }
    }

    /// Stores cells of one timestamp, at which none of these columns has a sample.
    pub(crate) fn put(
        &mut self,
        timestamp_ms: i64,
        cells: impl ExactSizeIterator<Item = (u32, u64)>,
    ) {
        if cells.len() == 0 {
            return;
        }
        let row = self.row_for(timestamp_ms, cells.len());
        let width = self.columns.len();
        for (column, bits) in cells {
            let in_row =
                bits != ABSENT && row.is_some_and(|row| self.rows.set(row, column, bits, width));
            if !in_row {
                self.put_loose(column, timestamp_ms, bits);
            }
        }
        let (first, last) = self.bounds.unwrap_or((timestamp_ms, timestamp_ms));
        self.bounds = Some((first.min(timestamp_ms), last.max(timestamp_ms)));
        self.floor_ms = self.floor_ms.max(timestamp_ms);
    }

    /// The row to use, begun now if it is worth it; `None`: the samples go loose.
    fn row_for(&mut self, timestamp_ms: i64, cells: usize) -> Option<usize> {
        if let Some(row) = self.rows.find(timestamp_ms) {
            return Some(row);
        }
        if self.rows.last_ms().is_some_and(|last| last > timestamp_ms) {
            return None;
        }
        let width = self.columns.len();
        let rows = self.rows.len() + 1;
        let dense =
            rows <= SPARSE_ROWS || (self.rows.filled() + cells) * SPARSE_RATIO >= rows * width;
        dense.then(|| self.rows.begin(timestamp_ms, width))
    }

    fn put_loose(&mut self, column: u32, timestamp_ms: i64, bits: u64) {
        let list = self.loose.entry(column).or_default();
        if list.last().is_none_or(|&(last, _)| last < timestamp_ms) {
            list.push((timestamp_ms, bits));
            return;
        }
        if let Err(at) = list.binary_search_by_key(&timestamp_ms, |&(t, _)| t) {
            list.insert(at, (timestamp_ms, bits));
        }
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

    /// The open rows.
    pub(crate) const fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The samples of a column that are in no row.
    pub(crate) fn loose(&self, column: u32) -> &[(i64, u64)] {
        self.loose.get(&column).map_or(&[], Vec::as_slice)
    }

    /// Bytes of memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        let loose: usize = self
            .loose
            .values()
            .map(|list| list.capacity() * 16 + 40)
            .sum();
        self.rows.memory_bytes() + self.columns.capacity() * 8 + loose
    }
}
