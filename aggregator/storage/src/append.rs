//! Appends: all samples are checked first, then logged and stored together.

use common::limits::FUTURE_MS_MAX;
use common::model::Labels;
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use crate::checkpoint::DEFINITIONS;
use crate::head::group::{Group, GroupData, Stored};
use crate::head::{Head, PlaceError, Placed};
use crate::index::view::SeriesIndex as _;
use crate::index::{ColumnRef, Index, SeriesId};
use crate::store::Inner;
use crate::sync::{RankedMutexGuard, lock, read, write};
use crate::value_kind::ValueKind;
use crate::wal::definitions::Definition;
use crate::wal::record;
use crate::wal::rows::{RowHead, RowsBuilder};
use crate::write::{
    AppendError, AppendMode, Appended, LogPosition, Refusal, RefusalReason, SeriesSamples,
};
use std::sync::Arc;

/// Maximum number of refusals reported individually.
const REFUSALS_MAX: usize = 16;

/// A sample and the column it is appended to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) place: ColumnRef,
    pub(crate) series: SeriesId,
    pub(crate) timestamp_ms: i64,
    pub(crate) bits: u64,
}

/// The sequence that becomes durable with a stream's row, and the group of the stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sequence {
    pub(crate) group: u32,
    pub(crate) number: u64,
    pub(crate) timestamp_ms: i64,
}

impl Appended {
    /// Counts a refusal, and keeps its details if it is among the first [`REFUSALS_MAX`].
    pub(crate) fn refuse(
        &mut self,
        labels: impl FnOnce() -> Labels,
        timestamp_ms: i64,
        reason: RefusalReason,
    ) {
        self.refused += 1;
        self.too_old += u64::from(reason == RefusalReason::TooOld);
        self.series_limited += u64::from(matches!(
            reason,
            RefusalReason::SeriesLimit | RefusalReason::MemoryBudget
        ));
        if self.refusals.len() < REFUSALS_MAX {
            self.refusals.push(Refusal {
                labels: labels(),
                timestamp_ms,
                reason,
            });
        }
    }
}

/// The range of accepted timestamps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    first_ms: i64,
    last_ms: i64,
}

impl Window {
    /// Returns why a sample with this timestamp is refused; `None` if it is accepted.
    pub(crate) const fn refusal(self, timestamp_ms: i64) -> Option<RefusalReason> {
        if timestamp_ms > self.last_ms {
            Some(RefusalReason::TooFarInFuture)
        } else if timestamp_ms < self.first_ms {
            Some(RefusalReason::TooOld)
        } else {
            None
        }
    }
}

/// A request resolved to cells.
struct Collected {
    window: Window,
    appended: Appended,
    cells: Vec<Cell>,
    fresh: FreshPlaces,
}

/// The groups that an append reads or writes, locked in ascending order.
struct Locked<'g>(Vec<(u32, RankedMutexGuard<'g, GroupData>)>);

impl Locked<'_> {
    fn get(&mut self, group: u32) -> Option<&mut GroupData> {
        let at = self.0.binary_search_by_key(&group, |&(n, _)| n).ok()?;
        Some(&mut self.0[at].1)
    }
}

impl Inner {
    /// Returns the range of timestamps accepted now.
    pub(crate) fn window(&self) -> Window {
        let now_ms = self.clock.now_ms();
        Window {
            first_ms: self.retention_start_ms(now_ms),
            last_ms: now_ms.saturating_add(FUTURE_MS_MAX),
        }
    }

    /// Appends samples of any series; see [`crate::Store::append`].
    pub(crate) fn append(
        &self,
        series: &[SeriesSamples],
        mode: AppendMode,
    ) -> Result<Appended, AppendError> {
        self.admit()?;
        let window = self.window();
        let _barrier = read(&self.append_barrier);
        let head = self.head();
        let mut to = Collected {
            window,
            appended: Appended::default(),
            cells: Vec::with_capacity(series.len()),
            fresh: FreshPlaces::default(),
        };
        for one in series {
            self.collect_cells(&head, one, &mut to);
        }
        // Logged even if the request is refused later, because other appends may find these places from now on.
        to.fresh.log(self, &head);
        self.apply(&head, &mut to.cells, mode, None, to.appended)
    }

    fn collect_cells(&self, head: &Head, one: &SeriesSamples, to: &mut Collected) {
        let mut found = None;
        for sample in &one.samples {
            let labels = || one.labels.clone();
            let time = sample.timestamp_ms;
            if let Some(reason) = to.window.refusal(time) {
                to.appended.refuse(labels, time, reason);
                continue;
            }
            let placed = *found.get_or_insert_with(|| self.place(head, &one.labels, &mut to.fresh));
            match placed {
                Ok((series, place)) => to.cells.push(Cell {
                    place,
                    series,
                    timestamp_ms: time,
                    bits: sample.value.to_bits(),
                }),
                Err(error) => to.appended.refuse(labels, time, error.reason()),
            }
        }
    }

    /// Finds the place of a series, or assigns one in the group of its source.
    pub(crate) fn place(
        &self,
        head: &Head,
        labels: &Labels,
        fresh: &mut FreshPlaces,
    ) -> Result<(SeriesId, ColumnRef), PlaceError> {
        let hash = head.key.hash(labels);
        {
            let index = read(&head.index);
            if let Some(id) = index.find(hash)
                && let Some(place) = index.place(id)
                && index.is_logged(id)
            {
                return Ok((id, place));
            }
        }
        let known = {
            let index = read(&head.index);
            index.find(hash).and_then(|id| index.place(id))
        };
        let group = known
            .and_then(|place| head.group(place.group))
            .unwrap_or_else(|| head.group_by_key(&source_key(labels), self.blocks_floor_ms()));
        let (series, placed) = head.place_in(&group, labels)?;
        fresh.add(&group, series, placed);
        Ok((series, placed.place))
    }

    /// Checks every cell, then logs and stores the accepted ones. The caller holds the append barrier for reading.
    pub(crate) fn apply(
        &self,
        head: &Head,
        cells: &mut Vec<Cell>,
        mode: AppendMode,
        sequence: Option<Sequence>,
        mut appended: Appended,
    ) -> Result<Appended, AppendError> {
        put_in_order(cells);
        let index = read(&head.index);
        let groups = groups_of(head, &index, cells, sequence);
        let mut locked = Locked(groups.iter().map(|g| (g.number, lock(&g.data))).collect());
        if let Some(sequence) = sequence
            && let Some(data) = locked.get(sequence.group)
            && data.sequence.is_some_and(|last| sequence.number <= last)
        {
            appended.duplicates = cells.len() as u64;
            appended.position = self.wal.end();
            return Ok(appended);
        }
        self.keep_good(&index, &mut locked, cells, &mut appended);
        let rolls_back = appended.refused > appended.series_limited;
        if rolls_back && mode == AppendMode::Atomic {
            return Err(AppendError::Refused(appended));
        }
        appended.stored = cells.len() as u64;
        self.throttle.add(appended.stored);
        let times = || cells.iter().map(|cell| cell.timestamp_ms);
        let span = times().min().zip(times().max());
        appended.position = self.store_cells(&mut locked, cells, sequence);
        drop(locked);
        if let Some((first_ms, last_ms)) = span {
            self.stability.wrote(first_ms, last_ms);
        }
        Ok(appended)
    }

    /// Drops cells that are already stored or clash with stored values.
    fn keep_good(
        &self,
        index: &Index,
        locked: &mut Locked<'_>,
        cells: &mut Vec<Cell>,
        appended: &mut Appended,
    ) {
        let mut last: Option<Cell> = None;
        cells.retain(|cell| {
            let is_repeated = last.is_some_and(|last| {
                last.place == cell.place && last.timestamp_ms == cell.timestamp_ms
            });
            if is_repeated {
                // If a request has several values for one timestamp, the first is stored, as in Prometheus.
                appended.duplicates += 1;
                return false;
            }
            match self.stored(index, locked, cell) {
                Stored::Nothing => {
                    last = Some(*cell);
                    true
                }
                Stored::Bits(bits) if bits == cell.bits => {
                    appended.duplicates += 1;
                    false
                }
                Stored::Bits(_) => {
                    let reason = RefusalReason::DuplicateTimestamp;
                    appended.refuse(|| index.labels(cell.series), cell.timestamp_ms, reason);
                    false
                }
            }
        });
    }

    /// Returns the value stored for a cell's series at the cell's timestamp.
    fn stored(&self, index: &Index, locked: &mut Locked<'_>, cell: &Cell) -> Stored {
        let time = cell.timestamp_ms;
        match locked.get(cell.place.group) {
            Some(data) if time > data.floor_ms => return Stored::Nothing,
            _ => {}
        }
        for place in index.places(cell.series).chain([cell.place]) {
            let stored = locked
                .get(place.group)
                .map_or(Stored::Nothing, |data| data.get(place.column, time));
            if stored != Stored::Nothing {
                return stored;
            }
        }
        self.stored_in_blocks(index.hash(cell.series), time)
    }

    /// Logs and stores accepted cells, which must be sorted.
    fn store_cells(
        &self,
        locked: &mut Locked<'_>,
        cells: &[Cell],
        sequence: Option<Sequence>,
    ) -> LogPosition {
        for (_, data) in &mut locked.0 {
            if let Some(copy) = data.coder.take_copy() {
                self.wal.push(&copy);
            }
        }
        let mut rows = RowsBuilder::default();
        let mut sequence_to_log = sequence;
        let of_one_row =
            |a: &Cell, b: &Cell| a.place.group == b.place.group && a.timestamp_ms == b.timestamp_ms;
        for row in cells.chunk_by(of_one_row) {
            let first = row[0];
            let group = first.place.group;
            let own = sequence_to_log.take_if(|one| one.group == group);
            let pairs = row.iter().map(|cell| (cell.place.column, cell.bits));
            let head = RowHead {
                group,
                sequence: own.map(|s| s.number),
                timestamp_ms: first.timestamp_ms,
            };
            if let Some(data) = locked.get(group) {
                rows.push(head, &mut data.coder, pairs.clone());
                data.put(first.timestamp_ms, pairs);
            }
        }
        if let Some(rest) = sequence_to_log
            && let Some(data) = locked.get(rest.group)
        {
            // No cell of the row was accepted, but the sequence advances anyway.
            let head = RowHead {
                group: rest.group,
                sequence: Some(rest.number),
                timestamp_ms: rest.timestamp_ms,
            };
            rows.push(head, &mut data.coder, [].into_iter());
        }
        if cells.is_empty() && sequence.is_none() {
            return self.wal.end();
        }
        let position = self.wal.push(&rows.finish());
        if let Some(sequence) = sequence
            && let Some(data) = locked.get(sequence.group)
        {
            data.set_sequence(sequence.number, position);
        }
        position
    }
}

/// Maximum number of groups whose cells are partitioned instead of sorted.
const GROUPS_FEW: usize = 8;

/// Sorts cells by group, time and column. A request has few groups, and the cells of each are mostly in order.
fn put_in_order(cells: &mut Vec<Cell>) {
    let order = |cell: &Cell| (cell.place.group, cell.timestamp_ms, cell.place.column);
    if cells.is_sorted_by_key(order) {
        return;
    }
    let mut groups: Vec<u32> = Vec::with_capacity(GROUPS_FEW);
    for cell in &*cells {
        if groups.contains(&cell.place.group) {
            continue;
        }
        groups.push(cell.place.group);
        if groups.len() > GROUPS_FEW {
            return cells.sort_by_key(order);
        }
    }
    groups.sort_unstable();
    let mut ordered = Vec::with_capacity(cells.len());
    for group in groups {
        ordered.extend(cells.iter().filter(|cell| cell.place.group == group));
    }
    *cells = ordered;
    if !cells.is_sorted_by_key(order) {
        cells.sort_by_key(order);
    }
}

/// Returns the groups of the cells and the former groups of their series, ascending and without duplicates.
fn groups_of(
    head: &Head,
    index: &Index,
    cells: &[Cell],
    sequence: Option<Sequence>,
) -> Vec<Arc<Group>> {
    let has_moved = index.has_moved();
    let mut numbers: Vec<u32> = sequence.iter().map(|one| one.group).collect();
    for cell in cells {
        if numbers.last() != Some(&cell.place.group) {
            numbers.push(cell.place.group);
        }
        if has_moved {
            numbers.extend(index.former_places(cell.series).map(|place| place.group));
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    numbers.into_iter().filter_map(|n| head.group(n)).collect()
}

/// Returns the group key of a series appended without a stream. Series of one scrape share their timestamps and have
/// these labels in common.
fn source_key(labels: &Labels) -> String {
    let mut key = String::from("source");
    for name in ["cluster", "job", "instance", "node"] {
        key.push('\u{1f}');
        key.push_str(labels.get(name).unwrap_or(""));
    }
    key
}

/// Places assigned by an append that the log does not know yet.
#[derive(Debug, Default)]
pub(crate) struct FreshPlaces {
    by_group: HashMap<u32, FreshGroup, FxBuildHasher>,
}

#[derive(Debug)]
struct FreshGroup {
    key: Arc<str>,
    /// Columns and their series. Labels are not copied here; they would be in memory twice until the source's first
    /// row.
    columns: Vec<(u32, SeriesId)>,
}

impl FreshPlaces {
    /// Adds a place if the log does not know it yet.
    pub(crate) fn add(&mut self, group: &Group, series: SeriesId, placed: Placed) {
        if placed.is_new {
            let entry = self.by_group.entry(group.number);
            let fresh = entry.or_insert_with(|| FreshGroup {
                key: Arc::clone(&group.key),
                columns: Vec::new(),
            });
            fresh.columns.push((placed.place.column, series));
        }
    }

    /// Writes the definitions to the log twice: losing the record would also lose every sample stored at these places
    /// until the next checkpoint. The caller holds the append barrier for reading.
    pub(crate) fn log(&mut self, inner: &Inner, head: &Head) {
        for (group, fresh) in self.by_group.drain() {
            for columns in fresh.columns.chunks(DEFINITIONS) {
                log_columns(inner, head, (group, &fresh.key), columns);
            }
        }
    }
}

fn log_columns(inner: &Inner, head: &Head, (group, key): (u32, &str), columns: &[(u32, SeriesId)]) {
    let place = |column| ColumnRef { group, column };
    let definitions: Vec<Definition> = {
        let index = read(&head.index);
        // A place that was evicted before its first sample may belong to another series by now.
        let is_there =
            |&&(column, series): &&(u32, SeriesId)| index.place(series) == Some(place(column));
        let define = |&(column, series): &(u32, SeriesId)| Definition {
            column,
            kind: ValueKind::Float,
            labels: index.labels(series),
        };
        columns.iter().filter(is_there).map(define).collect()
    };
    let payload = record::define(group, key, &definitions);
    inner.wal.push(&payload);
    inner.wal.push(&payload);
    let mut index = write(&head.index);
    for &(column, series) in columns {
        index.set_logged(series, place(column));
    }
}
