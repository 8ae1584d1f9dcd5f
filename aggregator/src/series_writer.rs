//! Writes the series of one source as rows: one timestamp, and the current value of every live series.
//!
//! Users: the cluster's objects (`kube::table`), `up` of the agents (`ingest::liveness`), the aggregator's own metrics
//! (`self_scrape`). A scrape of a target is the same: [`SeriesWriter::column`] once for each line it has not seen,
//! [`SeriesWriter::set`] for each line, [`SeriesWriter::end_unset`] for what the target no longer exposes,
//! [`SeriesWriter::write`]; and [`SeriesWriter::end_all`] before a last `write` when the scrape fails or the target
//! goes away.
//!
//! * **Rows.** A row carries one timestamp. A value stays until it is set again or its series ends, so a source whose
//!   state seldom changes (an object of Kubernetes) sets only what changed.
//! * **Staleness.** A series that ends gets its staleness marker in the next row, then its column is free. A series that
//!   returns before that row keeps its column and gets no marker.
//! * **Failure.** A row that the store refuses as a whole leaves everything as it was: values and markers go out with
//!   the next row.
//! * **Sequence.** Rows continue the stream's durable sequence, so a restarted source is not taken for a repetition.
//! * **Bounds.** At most `series_max` series, those that are ending included. Columns are reused, so the numbers stay
//!   dense under churn.
//!
//! **Invariant:** no two columns have the same labels. A caller that maps two of its keys to one label set gets the same
//! column twice, and the last value set wins.

use std::hash::{BuildHasher as _, RandomState};

use common::model::{Labels, STALE_NAN};
use hashbrown::HashTable;
use tidemark_storage::{AppendError, Appended, DefineError, Stream};

/// A column of a [`SeriesWriter`], valid until its series ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnId(u32);

/// Why a series gets no column.
#[derive(Debug, thiserror::Error)]
pub enum ColumnError {
    /// The writer has as many series as it may.
    #[error("limit of {limit} series of one source is reached")]
    Limit {
        /// The limit.
        limit: usize,
    },
    /// The store refuses the series.
    #[error(transparent)]
    Define(#[from] DefineError),
}

/// The series of one source and their current values.
#[derive(Debug)]
pub struct SeriesWriter {
    stream: Stream,
    sequence: u64,
    series_max: usize,
    /// The next row: a value for each live series that has one, in no particular order.
    row: Vec<(u32, f64)>,
    columns: Vec<Column>,
    /// Columns of live and ending series, by the hash of their labels.
    by_labels: HashTable<u32>,
    hasher: RandomState,
    /// Columns without a series.
    free: Vec<u32>,
    /// Columns whose series end with the next row. May name a column twice, or one that was revived.
    ending: Vec<u32>,
    /// Counts rows, for [`Self::end_unset`].
    round: u32,
}

#[derive(Debug)]
struct Column {
    /// Empty for a free column.
    labels: Labels,
    /// Index of the value in `row`, or one of the three constants below.
    place: u32,
    /// The round in which the value was last set.
    set_in: u32,
}

/// The series never had a value, or the column is free.
const NO_VALUE: u32 = u32::MAX;
/// The series ends with the next row.
const ENDING: u32 = u32::MAX - 1;
/// The series was ending, returned, and has no value yet.
const REVIVED: u32 = u32::MAX - 2;

impl SeriesWriter {
    /// Creates a writer without series.
    #[must_use]
    pub fn new(stream: Stream, series_max: usize) -> Self {
        Self {
            sequence: stream.durable_sequence().unwrap_or(0),
            stream,
            series_max,
            row: Vec::new(),
            columns: Vec::new(),
            by_labels: HashTable::new(),
            hasher: RandomState::new(),
            free: Vec::new(),
            ending: Vec::new(),
            round: 0,
        }
    }

    /// Returns how many live series have a value.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.row.len()
    }

    /// Returns whether no live series has a value.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.row.is_empty()
    }

    /// Returns the column of the series with these labels, which need not exist before. A series that was ending lives on.
    ///
    /// # Errors
    /// The limit is reached, or the store refuses the series.
    pub fn column(&mut self, labels: &Labels) -> Result<ColumnId, ColumnError> {
        let hash = self.hasher.hash_one(labels);
        let columns = &self.columns;
        let has_labels = |&column: &u32| columns[column as usize].labels == *labels;
        if let Some(&column) = self.by_labels.find(hash, has_labels) {
            let place = &mut self.columns[column as usize].place;
            if *place == ENDING {
                *place = REVIVED;
            }
            return Ok(ColumnId(column));
        }
        let limit = self.series_max;
        if self.by_labels.len() >= limit {
            return Err(ColumnError::Limit { limit });
        }
        let column = match self.free.last() {
            Some(&column) => column,
            None => u32::try_from(self.columns.len()).map_err(|_| ColumnError::Limit { limit })?,
        };
        self.stream.define(column, labels)?;
        let new = Column {
            labels: labels.clone(),
            place: NO_VALUE,
            set_in: self.round,
        };
        match self.free.pop() {
            Some(_) => self.columns[column as usize] = new,
            None => self.columns.push(new),
        }
        let columns = &self.columns;
        self.by_labels.insert_unique(hash, column, |&column| {
            self.hasher.hash_one(&columns[column as usize].labels)
        });
        Ok(ColumnId(column))
    }

    /// Sets the value that a series has from the next row on.
    pub fn set(&mut self, column: ColumnId, value: f64) {
        let Some(state) = self.columns.get_mut(column.0 as usize) else {
            return;
        };
        state.set_in = self.round;
        if let Some(cell) = self.row.get_mut(state.place as usize) {
            cell.1 = value;
        } else if state.place != ENDING && !state.labels.is_empty() {
            state.place = self.row.len() as u32;
            self.row.push((column.0, value));
        }
    }

    /// Ends a series: its marker goes out with the next row. The caller forgets the column.
    pub fn end(&mut self, column: ColumnId) {
        let Some(state) = self.columns.get_mut(column.0 as usize) else {
            return;
        };
        match state.place {
            ENDING => return,
            NO_VALUE if state.labels.is_empty() => return,
            NO_VALUE => return self.release(column.0),
            REVIVED => state.place = ENDING,
            place => {
                state.place = ENDING;
                self.row.swap_remove(place as usize);
                if let Some(&(moved, _)) = self.row.get(place as usize) {
                    self.columns[moved as usize].place = place;
                }
            }
        }
        self.ending.push(column.0);
    }

    /// Ends the series whose value was not set since the last row, and reports each to `on_end`, so that the caller
    /// can forget its column.
    pub fn end_unset(&mut self, mut on_end: impl FnMut(ColumnId)) {
        let round = self.round;
        let is_unset = |&&(column, _): &&(u32, f64)| self.columns[column as usize].set_in != round;
        let unset = self.row.iter().filter(is_unset);
        let unset: Vec<u32> = unset.map(|&(column, _)| column).collect();
        for column in unset.into_iter().map(ColumnId) {
            self.end(column);
            on_end(column);
        }
    }

    /// Ends all series: the source is gone. The caller forgets its columns.
    pub fn end_all(&mut self) {
        for column in 0..self.columns.len() {
            // Fewer columns than `u32::MAX`: `column` checks it.
            self.end(ColumnId(column as u32));
        }
    }

    /// Writes a row, unless there is nothing to write.
    ///
    /// # Errors
    /// Nothing was stored. Values and markers stay for the next row.
    pub fn write(&mut self, timestamp_ms: i64) -> Result<Appended, AppendError> {
        self.round = self.round.wrapping_add(1);
        if self.row.is_empty() && self.ending.is_empty() {
            return Ok(Appended::default());
        }
        let columns = &self.columns;
        self.ending.sort_unstable();
        self.ending.dedup();
        self.ending
            .retain(|&column| columns[column as usize].place == ENDING);
        let live = self.row.len();
        let markers = self.ending.iter().map(|&column| (column, STALE_NAN));
        self.row.extend(markers);
        let written = self
            .stream
            .append_row(self.sequence + 1, timestamp_ms, &self.row);
        self.row.truncate(live);
        let appended = written?;
        self.sequence += 1;
        for column in std::mem::take(&mut self.ending) {
            self.release(column);
        }
        Ok(appended)
    }

    /// Frees a column.
    fn release(&mut self, column: u32) {
        let state = &mut self.columns[column as usize];
        let labels = std::mem::replace(&mut state.labels, Labels::empty());
        state.place = NO_VALUE;
        let hash = self.hasher.hash_one(&labels);
        if let Ok(entry) = self.by_labels.find_entry(hash, |&other| other == column) {
            entry.remove();
        }
        self.stream.undefine(column);
        self.free.push(column);
    }
}

#[cfg(test)]
mod tests;
