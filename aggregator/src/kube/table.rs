//! The series of one kind of object, ready to be written as a row at each tick.
//!
//! An object that changes touches its own columns only; a tick copies nothing but the row. A series whose object
//! went, or that an object no longer has, gets its staleness marker with the next row and then loses its column.
//!
//! **Invariant:** no two columns have the same labels, those that are ending included: a series that comes back
//! before its marker is written takes its old column up again.

use std::cmp::Ordering;
use std::collections::HashMap;

use common::model::{Labels, STALE_NAN};
use tidemark_storage::{AppendError, Appended, DefineError, Stream};

/// Objects of one kind and their columns in the store.
#[derive(Debug)]
pub(crate) struct Table {
    stream: Stream,
    sequence: u64,
    /// What a tick writes: a column and its value. Order is of no importance.
    row: Vec<(u32, f64)>,
    /// For each column number its place in `row`; `NO_SLOT` for numbers that are free or ending.
    slot_of: Vec<u32>,
    free: Vec<u32>,
    /// Series that end with the next row.
    ending: HashMap<Labels, u32>,
    objects: HashMap<Box<str>, Entry>,
    /// Counts lists; an object that a list did not name is gone.
    list: u64,
    /// Whether one list was complete: half a list would make sums jump.
    complete: bool,
    series_max: usize,
}

#[derive(Debug)]
struct Entry {
    seen_in: u64,
    /// Ascending by labels.
    columns: Vec<(Labels, u32)>,
}

const NO_SLOT: u32 = u32::MAX;

impl Table {
    /// An empty table over `stream`, with at most `series_max` series.
    pub(crate) fn new(stream: Stream, series_max: usize) -> Self {
        Self {
            sequence: stream.durable_sequence().unwrap_or(0),
            stream,
            row: Vec::new(),
            slot_of: Vec::new(),
            free: Vec::new(),
            ending: HashMap::new(),
            objects: HashMap::new(),
            list: 0,
            complete: false,
            series_max,
        }
    }

    /// Number of objects.
    pub(crate) fn objects(&self) -> usize {
        self.objects.len()
    }

    /// Number of series.
    pub(crate) fn series(&self) -> usize {
        self.row.len()
    }

    /// A full list begins.
    pub(crate) const fn begin_list(&mut self) {
        self.list += 1;
    }

    /// The list that began last is complete: objects that it did not name are gone.
    pub(crate) fn end_list(&mut self) {
        let list = self.list;
        let gone: Vec<Box<str>> = self
            .objects
            .iter()
            .filter(|(_, entry)| entry.seen_in != list)
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.remove(&key);
        }
        self.complete = true;
    }

    /// Sets the series of an object. Returns how many had to be refused: beyond the limit, or with bad labels.
    pub(crate) fn apply(&mut self, key: Box<str>, mut series: Vec<(Labels, f64)>) -> u64 {
        series.sort_by(|(a, _), (b, _)| a.cmp(b));
        // An object may name an owner or a condition twice.
        series.dedup_by(|(a, _), (b, _)| a == b);
        let before = self
            .objects
            .remove(&key)
            .map_or_else(Vec::new, |entry| entry.columns);
        let mut before = before.into_iter().peekable();
        let mut columns = Vec::with_capacity(series.len());
        let mut refused = 0;
        for (labels, value) in series {
            while let Some((old, column)) = before.next_if(|(old, _)| *old < labels) {
                self.end(old, column);
            }
            let kept = before.next_if(|(old, _)| old.cmp(&labels) == Ordering::Equal);
            let column = match kept {
                Some((_, column)) => Some(column),
                None => self.begin(&labels),
            };
            let Some(column) = column else {
                refused += 1;
                continue;
            };
            self.set(column, value);
            columns.push((labels, column));
        }
        for (old, column) in before {
            self.end(old, column);
        }
        let seen_in = self.list;
        self.objects.insert(key, Entry { seen_in, columns });
        refused
    }

    /// The object is gone.
    pub(crate) fn remove(&mut self, key: &str) {
        let Some(entry) = self.objects.remove(key) else {
            return;
        };
        for (labels, column) in entry.columns {
            self.end(labels, column);
        }
    }

    /// Writes a row, unless no list was complete yet or there is nothing to write. What could not be written is
    /// written with the next row; so are the markers.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn write(&mut self, now_ms: i64) -> Result<Appended, AppendError> {
        if !self.complete || self.row.is_empty() && self.ending.is_empty() {
            return Ok(Appended::default());
        }
        let living = self.row.len();
        self.row
            .extend(self.ending.values().map(|&column| (column, STALE_NAN)));
        let written = self.stream.append_row(self.sequence + 1, now_ms, &self.row);
        self.row.truncate(living);
        let appended = written?;
        self.sequence += 1;
        for (_, column) in self.ending.drain() {
            self.stream.undefine(column);
            self.free.push(column);
        }
        Ok(appended)
    }

    /// A column for a new series; `None` when it is refused.
    fn begin(&mut self, labels: &Labels) -> Option<u32> {
        if let Some(column) = self.ending.remove(labels) {
            return Some(column);
        }
        if self.row.len() + self.ending.len() >= self.series_max {
            return None;
        }
        let column = match self.free.pop() {
            Some(column) => column,
            None => {
                let column = u32::try_from(self.slot_of.len()).ok()?;
                self.slot_of.push(NO_SLOT);
                column
            }
        };
        match self.stream.define(column, labels) {
            Ok(()) => Some(column),
            Err(
                DefineError::StreamLimit { .. }
                | DefineError::SeriesLimit { .. }
                | DefineError::NotAdmitted
                | DefineError::MemoryBudget
                | DefineError::Labels(_),
            ) => {
                self.free.push(column);
                None
            }
        }
    }

    fn set(&mut self, column: u32, value: f64) {
        let Some(slot) = self.slot_of.get_mut(column as usize) else {
            return;
        };
        if let Some(cell) = self.row.get_mut(*slot as usize) {
            cell.1 = value;
        } else {
            // Fewer than `u32::MAX` columns, so fewer places.
            *slot = self.row.len() as u32;
            self.row.push((column, value));
        }
    }

    fn end(&mut self, labels: Labels, column: u32) {
        let slot = self.slot_of.get_mut(column as usize);
        let Some(slot) = slot.map(|slot| std::mem::replace(slot, NO_SLOT)) else {
            return;
        };
        self.row.swap_remove(slot as usize);
        if let Some(&(moved, _)) = self.row.get(slot as usize)
            && let Some(moved) = self.slot_of.get_mut(moved as usize)
        {
            *moved = slot;
        }
        self.ending.insert(labels, column);
    }
}

#[cfg(test)]
mod tests;
