//! A stream: one source that sends the same series tick after tick.

use std::cell::Cell;
use std::sync::Arc;

use common::model::Labels;

use crate::append::{self, FreshPlaces, Sequence};
use crate::head::Head;
use crate::head::group::Group;
use crate::index::view::SeriesIndex as _;
use crate::index::{ColumnRef, SeriesId};
use crate::store::{Inner, Store};
use crate::sync::{lock, read};
use crate::wal::rows::{RowHead, RowsBuilder};
use crate::write::{AppendError, AppendMode, Appended, DefineError};

/// Default limit of series per stream. 100,000 series take at most about 100 MB; an agent with 250 containers has
/// 8,000.
pub const SERIES_PER_STREAM_MAX: u64 = 100_000;

/// Column numbers below this are always allowed, however low the series limit: a source over its limit also numbers the
/// series that are refused. This is four numbers for each series of the default limit.
pub const STREAM_NUMBERS_MIN: u64 = 400_000;

thread_local! {
    /// The cell buffer, one per thread. One buffer per stream would be kept for each of thousands of sources.
    static CELLS: Cell<Vec<(u32, u64)>> = const { Cell::new(Vec::new()) };
}

/// One source that sends the same series at each tick: an agent's session, a scrape target.
#[derive(Debug)]
pub struct Stream {
    store: Store,
    head: Arc<Head>,
    group: Arc<Group>,
    /// The column in the group and the series, by the stream's column number.
    columns: Vec<Option<(u32, SeriesId)>>,
    defined: usize,
    /// Places that the log does not know yet.
    fresh: FreshPlaces,
    /// The cells of the current row; empty between rows.
    cells: Vec<(u32, u64)>,
}

impl Stream {
    pub(crate) fn new(store: Store, name: &str) -> Self {
        let inner = store.inner();
        let head = inner.head();
        let group = head.group_by_key(name, inner.blocks_floor_ms());
        Self {
            store,
            head,
            group,
            columns: Vec::new(),
            defined: 0,
            fresh: FreshPlaces::default(),
            cells: Vec::new(),
        }
    }

    fn inner(&self) -> &Inner {
        self.store.inner()
    }

    /// Returns the sequence of the last durable row; `None` for a source that was never seen.
    #[must_use]
    pub fn durable_sequence(&self) -> Option<u64> {
        let position = self.inner().wal.durable();
        lock(&self.group.data).durable_sequence(position)
    }

    /// Assigns the number `column` to a series. A number may be reused after [`Self::undefine`].
    ///
    /// # Errors
    /// A limit is exceeded; the stream's other columns are not affected.
    pub fn define(&mut self, column: u32, labels: &Labels) -> Result<(), DefineError> {
        self.define_within(column, labels, &mut || true)
    }

    /// Like [`Self::define`], but calls `admit` before a series unknown to the head is created. If it returns false,
    /// the result is [`DefineError::NotAdmitted`].
    ///
    /// # Errors
    /// See [`Self::define`].
    pub fn define_within(
        &mut self,
        column: u32,
        labels: &Labels,
        admit: &mut dyn FnMut() -> bool,
    ) -> Result<(), DefineError> {
        labels.check_limits()?;
        let at = column as usize;
        let is_new = self.columns.get(at).is_none_or(Option::is_none);
        let limit = self.inner().options.series_per_stream_max;
        let beyond = u64::from(column) >= (4 * limit).max(STREAM_NUMBERS_MIN);
        let over = beyond || (is_new && self.defined as u64 >= limit);
        // Undefined series stay in the head for a while, so a source that changes its series all the time is limited
        // too.
        let churned = is_new && lock(&self.group.data).used_columns() as u64 >= 2 * limit;
        if over || churned {
            return Err(DefineError::StreamLimit { limit });
        }
        let store = self.store.clone();
        // While this is held, no column is evicted.
        let _barrier = read(&store.inner().append_barrier);
        let (series, placed) = self.head.place_within(&self.group, labels, admit)?;
        self.fresh.add(&self.group, series, placed);
        if at >= self.columns.len() {
            self.columns.resize(at + 1, None);
        }
        let before = self.columns[at].replace((placed.place.column, series));
        let mut data = lock(&self.group.data);
        data.pin(placed.place.column);
        if let Some((column, _)) = before {
            data.unpin(column);
        }
        drop(data);
        self.defined += usize::from(is_new);
        Ok(())
    }

    /// Frees a column number. Writes nothing: the caller appends the staleness marker first.
    pub fn undefine(&mut self, column: u32) {
        if let Some(slot) = self.columns.get_mut(column as usize)
            && let Some((in_group, _)) = slot.take()
        {
            self.defined -= 1;
            lock(&self.group.data).unpin(in_group);
        }
    }

    /// Appends one tick: one timestamp and a value for each of the given columns. A row whose sequence is not above the
    /// last one is dropped as duplicates. Samples that the store refuses are counted, and the others are kept. The row
    /// is visible when this returns, and durable once the log is on disk up to [`Appended::position`].
    ///
    /// # Errors
    /// See [`AppendError`]. On error, no sample of the row is visible.
    pub fn append_row(
        &mut self,
        sequence: u64,
        timestamp_ms: i64,
        values: &[(u32, f64)],
    ) -> Result<Appended, AppendError> {
        let appended = self.append_row_cells(sequence, timestamp_ms, values);
        CELLS.set(std::mem::take(&mut self.cells));
        appended
    }

    fn append_row_cells(
        &mut self,
        sequence: u64,
        timestamp_ms: i64,
        values: &[(u32, f64)],
    ) -> Result<Appended, AppendError> {
        let store = self.store.clone();
        let inner = store.inner();
        inner.admit()?;
        self.map_columns(values)?;
        let refusal = inner.window().refusal(timestamp_ms);
        let _barrier = read(&inner.append_barrier);
        self.fresh.log(inner, &self.head);
        if let Some(reason) = refusal {
            return self.refuse_row(inner, sequence, timestamp_ms, values, reason);
        }
        if let Some(appended) = self.append_at_end(inner, Some(sequence), timestamp_ms) {
            return Ok(appended);
        }
        self.append_anywhere(inner, sequence, timestamp_ms, values, Appended::default())
    }

    /// Appends values that are not a tick of the source: the staleness markers of a source that is gone, or the results
    /// of a rule. The sequence does not advance, so the source can continue where it was.
    ///
    /// # Errors
    /// See [`AppendError`]. On error, no sample of the row is visible.
    pub fn append_unnumbered(
        &mut self,
        timestamp_ms: i64,
        values: &[(u32, f64)],
    ) -> Result<Appended, AppendError> {
        let appended = self.append_unnumbered_cells(timestamp_ms, values);
        CELLS.set(std::mem::take(&mut self.cells));
        appended
    }

    fn append_unnumbered_cells(
        &mut self,
        timestamp_ms: i64,
        values: &[(u32, f64)],
    ) -> Result<Appended, AppendError> {
        let store = self.store.clone();
        let inner = store.inner();
        inner.admit()?;
        self.map_columns(values)?;
        if let Some(reason) = inner.window().refusal(timestamp_ms) {
            let mut appended = Appended::default();
            for _ in values {
                appended.refuse(Labels::empty, timestamp_ms, reason);
            }
            return Ok(appended);
        }
        let _barrier = read(&inner.append_barrier);
        self.fresh.log(inner, &self.head);
        if let Some(appended) = self.append_at_end(inner, None, timestamp_ms) {
            return Ok(appended);
        }
        let mut cells: Vec<append::Cell> = values
            .iter()
            .filter_map(|value| self.cell(timestamp_ms, value))
            .collect();
        let mode = AppendMode::Partial;
        inner.apply(&self.head, &mut cells, mode, None, Appended::default())
    }

    fn cell(&self, timestamp_ms: i64, &(column, value): &(u32, f64)) -> Option<append::Cell> {
        let (column, series) = self.columns.get(column as usize).copied().flatten()?;
        Some(append::Cell {
            place: ColumnRef {
                group: self.group.number,
                column,
            },
            series,
            timestamp_ms,
            bits: value.to_bits(),
        })
    }

    /// Fills `cells` with the group's columns and the value bits, in the caller's order.
    fn map_columns(&mut self, values: &[(u32, f64)]) -> Result<(), AppendError> {
        self.cells = CELLS.take();
        self.cells.clear();
        self.cells.reserve(values.len());
        for &(column, value) in values {
            let Some(&Some((in_group, _))) = self.columns.get(column as usize) else {
                return Err(AppendError::UndefinedColumn { column });
            };
            self.cells.push((in_group, value.to_bits()));
        }
        Ok(())
    }

    /// Handles the common case: the row is later than anything stored, so it needs no duplicate check. Returns `None`
    /// in any other case.
    fn append_at_end(
        &mut self,
        inner: &Inner,
        sequence: Option<u64>,
        timestamp_ms: i64,
    ) -> Option<Appended> {
        if !self.cells.is_sorted_by(|a, b| a.0 < b.0) {
            // Reused numbers are not in the group's column order. The order of cells within a row does not matter.
            self.cells.sort_unstable_by_key(|&(column, _)| column);
            if !self.cells.is_sorted_by(|a, b| a.0 < b.0) {
                return None;
            }
        }
        let mut data = lock(&self.group.data);
        let is_repeated = sequence
            .zip(data.sequence)
            .is_some_and(|(one, last)| one <= last);
        if timestamp_ms <= data.floor_ms || is_repeated {
            return None;
        }
        if let Some(copy) = data.coder.take_copy() {
            inner.wal.push(&copy);
        }
        let cells = self.cells.iter().copied();
        let head = RowHead {
            group: self.group.number,
            sequence,
            timestamp_ms,
        };
        let mut rows = RowsBuilder::default();
        rows.push(head, &mut data.coder, cells.clone());
        data.put(timestamp_ms, cells);
        let position = inner.wal.push(&rows.finish());
        if let Some(sequence) = sequence {
            data.set_sequence(sequence, position);
            data.durable_sequence(inner.wal.durable());
        }
        inner.throttle.add(self.cells.len() as u64);
        drop(data);
        inner.stability.wrote(timestamp_ms, timestamp_ms);
        Some(Appended {
            position,
            stored: self.cells.len() as u64,
            ..Appended::default()
        })
    }

    fn sequence(&self, number: u64, timestamp_ms: i64) -> Sequence {
        Sequence {
            group: self.group.number,
            number,
            timestamp_ms,
        }
    }

    fn append_anywhere(
        &self,
        inner: &Inner,
        sequence: u64,
        timestamp_ms: i64,
        values: &[(u32, f64)],
        appended: Appended,
    ) -> Result<Appended, AppendError> {
        let cell = |value| self.cell(timestamp_ms, value);
        let mut cells: Vec<append::Cell> = values.iter().filter_map(cell).collect();
        let sequence = self.sequence(sequence, timestamp_ms);
        inner.apply(
            &self.head,
            &mut cells,
            AppendMode::Partial,
            Some(sequence),
            appended,
        )
    }

    /// Refuses a row outside the accepted time range; only the sequence advances.
    fn refuse_row(
        &self,
        inner: &Inner,
        sequence: u64,
        timestamp_ms: i64,
        values: &[(u32, f64)],
        reason: crate::write::RefusalReason,
    ) -> Result<Appended, AppendError> {
        let mut appended = Appended::default();
        {
            let index = read(&self.head.index);
            for &(column, _) in values {
                let series = self.columns.get(column as usize).copied().flatten();
                let labels = || series.map_or_else(Labels::empty, |(_, id)| index.labels(id));
                appended.refuse(labels, timestamp_ms, reason);
            }
        }
        self.append_anywhere(inner, sequence, timestamp_ms, &[], appended)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut data = lock(&self.group.data);
        for (column, _) in self.columns.iter().flatten() {
            data.unpin(*column);
        }
    }
}
