//! The series of one kind of object, written as a row at each tick.
//!
//! An object that changes touches only its own columns. [`SeriesWriter`] does the rest: a series whose object was
//! deleted, or that an object no longer has, gets its staleness marker with the next row.

use std::collections::HashMap;

use common::model::Labels;
use tidemark_storage::{AppendError, Appended, Stream};

use crate::series_writer::{ColumnId, SeriesWriter};

/// Objects of one kind and their columns in the store.
#[derive(Debug)]
pub(crate) struct Table {
    writer: SeriesWriter,
    objects: HashMap<Box<str>, Object>,
    /// Number of the current list. An object that a complete list did not name is gone.
    list: u64,
    /// Whether a list was complete. Half a list would make sums jump.
    complete: bool,
}

#[derive(Debug)]
struct Object {
    seen_in: u64,
    /// Ascending.
    columns: Vec<ColumnId>,
}

impl Table {
    /// Creates an empty table over `stream`, with at most `series_max` series.
    pub(crate) fn new(stream: Stream, series_max: usize) -> Self {
        Self {
            writer: SeriesWriter::new(stream, series_max),
            objects: HashMap::new(),
            list: 0,
            complete: false,
        }
    }

    /// Returns the number of objects.
    pub(crate) fn objects(&self) -> usize {
        self.objects.len()
    }

    /// Returns the number of series.
    pub(crate) const fn series(&self) -> usize {
        self.writer.len()
    }

    /// Begins a full list.
    pub(crate) const fn begin_list(&mut self) {
        self.list += 1;
    }

    /// Completes the list: removes the objects that it did not name.
    pub(crate) fn end_list(&mut self) {
        let list = self.list;
        let gone: Vec<Box<str>> = self
            .objects
            .iter()
            .filter(|(_, object)| object.seen_in != list)
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.remove(&key);
        }
        self.complete = true;
    }

    /// Replaces the series of an object. Returns how many were refused: over the limit, or with invalid labels.
    pub(crate) fn apply(&mut self, key: Box<str>, series: Vec<(Labels, f64)>) -> u64 {
        let previous = self
            .objects
            .remove(&key)
            .map_or_else(Vec::new, |object| object.columns);
        let mut columns = Vec::with_capacity(series.len());
        let mut refused = 0;
        for (labels, value) in series {
            match self.writer.column(&labels) {
                Ok(column) => {
                    self.writer.set(column, value);
                    columns.push(column);
                }
                Err(_) => refused += 1,
            }
        }
        // An object may name an owner or a condition twice.
        columns.sort_unstable();
        columns.dedup();
        for column in previous {
            if columns.binary_search(&column).is_err() {
                self.writer.end(column);
            }
        }
        let seen_in = self.list;
        self.objects.insert(key, Object { seen_in, columns });
        refused
    }

    /// Removes an object.
    pub(crate) fn remove(&mut self, key: &str) {
        for column in self.objects.remove(key).into_iter().flat_map(|o| o.columns) {
            self.writer.end(column);
        }
    }

    /// Writes a row, unless no list was complete yet. A row that could not be written goes out with the next one.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn write(&mut self, now_ms: i64) -> Result<Appended, AppendError> {
        match self.complete {
            true => self.writer.write(now_ms),
            false => Ok(Appended::default()),
        }
    }
}

#[cfg(test)]
mod tests;
