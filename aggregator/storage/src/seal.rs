//! Sealing: moves the samples of the head into blocks, then removes the log segments that held them.
//!
//! 1. Under the append barrier, every group's open part is frozen and the log position is recorded. Appends continue
//!    right after.
//! 2. Once the log is durable up to that position, the frozen parts are written as blocks: the file is synced and
//!    renamed, then the directory is synced.
//! 3. The blocks are published together with the number of the seal. A series set that lists them skips the frozen
//!    parts. A set that listed the blocks earlier reads the frozen parts, which stay until the last such set is
//!    dropped.
//! 4. A checkpoint is written, and the log segments before the position of step 1 are removed.
//!
//! After a crash before step 4, the log is replayed over the new blocks. The same samples are then in both, and reads
//! and merges drop the duplicates.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use common::model::Labels;
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use crate::block::slice::Samples;
use crate::block::writer::BlockWriter;
use crate::checkpoint::{CheckpointWriter, GroupState};
use crate::codec::chunk::COLUMNS_MAX;
use crate::head::Head;
use crate::head::group::Group;
use crate::head::part::HeadPart;
use crate::index::view::SeriesIndex as _;
use crate::index::{ColumnRef, Index, SeriesId};
use crate::maintenance::MaintenanceError;
use crate::select::ReaderGuard;
use crate::store::Inner;
use crate::sync::{lock, read, write};
use crate::value_kind::ValueKind;
use crate::wal::definitions::Definition;
use crate::wal::record;
use crate::wal::remove_before;
use crate::write::LogPosition;

/// A sealed block never crosses a multiple of this (72 hours), so that retention can drop whole files.
const WINDOW_MS: i64 = 72 * 3_600_000;
/// Number of columns whose samples are unpacked together.
const COLUMNS_AT_ONCE: u32 = 64 * 128;

/// Number of idle columns checked while the append barrier blocks appends.
const IDLE_AT_ONCE: usize = 4096;

/// State that block maintenance keeps between rounds.
#[derive(Debug, Default)]
pub(crate) struct MaintenanceState {
    generation: u64,
    /// A seal has begun but not finished its checkpoint, because it is still running or failed.
    pub(crate) is_unfinished: bool,
    /// Seals whose frozen parts are still in the head, with the guards of the series sets that may need them.
    to_release: Vec<(u64, Weak<ReaderGuard>)>,
    /// The base checkpoint that the next one may extend. `None`: the next one must be a new base.
    base: Option<u64>,
    /// Columns without a sample in the last seal.
    idle: Vec<Column>,
    /// Evicted columns and series, with the guards of the series sets that may still hold their numbers.
    pending_reuse: Vec<(Weak<ReaderGuard>, Vec<Column>)>,
}

/// A column of a group and its series.
#[derive(Debug, Clone, Copy)]
struct Column {
    place: ColumnRef,
    series: SeriesId,
    /// The series had no other place, so it was removed together with the column.
    series_too: bool,
}

/// The frozen parts of a group.
struct FrozenGroup {
    group: Arc<Group>,
    parts: Vec<Arc<HeadPart>>,
    columns: Vec<Option<SeriesId>>,
}

/// A snapshot of the head at the start of a seal.
struct SealSnapshot {
    /// The first log record that is not in the frozen parts.
    from: u64,
    groups: Vec<FrozenGroup>,
    /// The last applied sequence of each stream, by group number.
    sequences: HashMap<u32, u64, FxBuildHasher>,
}

impl Inner {
    /// Seals all samples in the head.
    ///
    /// # Errors
    /// A block or the checkpoint could not be written. The samples stay in the head and in the log.
    pub(crate) fn seal(&self, maintenance: &mut MaintenanceState) -> Result<(), MaintenanceError> {
        let sealed = self.seal_head(maintenance);
        self.throttle.end_seal();
        sealed
    }

    fn seal_head(&self, maintenance: &mut MaintenanceState) -> Result<(), MaintenanceError> {
        self.release_sealed(maintenance);
        let head = self.head();
        maintenance.generation += 1;
        let generation = maintenance.generation;
        let snapshot = self.freeze(&head, generation);
        if snapshot.groups.is_empty() && !maintenance.is_unfinished {
            return Ok(());
        }
        maintenance.is_unfinished = true;
        // A block must not hold rows that the log could still lose, because their sequences are only in the log.
        self.wal
            .wait_durable(LogPosition(snapshot.from - 1))
            .map_err(MaintenanceError::SyncLog)?;
        let paths = self
            .write_blocks(&head, &snapshot)
            .map_err(MaintenanceError::Seal)?;
        self.blocks.publish(&paths, &[], Some(generation))?;
        let old = std::mem::take(&mut *lock(&self.readers));
        maintenance
            .to_release
            .push((generation, Arc::downgrade(&old)));
        drop(old);
        // Until the checkpoint is written, a replay also restores samples that are already in blocks. Samples deleted
        // from those blocks would come back.
        self.checkpoint(&head, &snapshot, maintenance)?;
        maintenance.is_unfinished = false;
        maintenance.idle = idle_columns(&head, &snapshot);
        drop(snapshot);
        self.release_sealed(maintenance);
        Ok(())
    }

    /// Evicts series that had no sample since the seal before last; the blocks keep them.
    fn give_up_idle(&self, maintenance: &mut MaintenanceState) {
        let head = self.head();
        let mut given_up = Vec::new();
        for columns in std::mem::take(&mut maintenance.idle).chunks(IDLE_AT_ONCE) {
            // While this is held, no append is in flight to a column.
            let _barrier = write(&self.append_barrier);
            let mut index = write(&head.index);
            for column in columns {
                given_up.extend(give_up(&head, &mut index, *column));
            }
        }
        if !given_up.is_empty() {
            let old = std::mem::take(&mut *lock(&self.readers));
            maintenance
                .pending_reuse
                .push((Arc::downgrade(&old), given_up));
        }
    }

    /// Frees the numbers of evicted series and columns that no series set refers to any more.
    fn free_unreferenced(&self, maintenance: &mut MaintenanceState) {
        let waiting = |(guard, _): &&(Weak<ReaderGuard>, Vec<Column>)| guard.strong_count() == 0;
        let done = maintenance.pending_reuse.iter().take_while(waiting).count();
        let head = self.head();
        for (_, columns) in maintenance.pending_reuse.drain(..done) {
            let gone = columns.iter().filter(|column| column.series_too);
            let series: Vec<SeriesId> = gone.map(|column| column.series).collect();
            write(&head.index).free(&series);
            for column in columns {
                if let Some(group) = head.group(column.place.group) {
                    lock(&group.data).free(column.place.column);
                }
            }
        }
    }

    /// Drops frozen parts that no series set needs any more.
    pub(crate) fn release_sealed(&self, maintenance: &mut MaintenanceState) {
        self.free_unreferenced(maintenance);
        let waiting = |(_, guard): &&(u64, Weak<ReaderGuard>)| guard.strong_count() == 0;
        let done = maintenance.to_release.iter().take_while(waiting).count();
        let Some((generation, _)) = maintenance.to_release.drain(..done).next_back() else {
            return;
        };
        for group in self.head().groups() {
            lock(&group.data).release_sealed(generation);
        }
        self.give_up_idle(maintenance);
        self.free_unreferenced(maintenance);
    }

    fn freeze(&self, head: &Head, generation: u64) -> SealSnapshot {
        let _barrier = write(&self.append_barrier);
        let sealed = self.blocks.sealed();
        let mut snapshot = SealSnapshot {
            from: self.wal.end().0 + 1,
            groups: Vec::new(),
            sequences: HashMap::default(),
        };
        self.throttle.begin_seal();
        for group in head.groups() {
            let mut data = lock(&group.data);
            data.freeze(generation);
            snapshot
                .sequences
                .extend(data.sequence.map(|sequence| (group.number, sequence)));
            let frozen = data.frozen().iter();
            let parts: Vec<_> = frozen
                .filter(|part| part.generation > sealed)
                .cloned()
                .collect();
            if !parts.is_empty() {
                snapshot.groups.push(FrozenGroup {
                    group: Arc::clone(&group),
                    parts,
                    columns: data.columns().to_vec(),
                });
            }
        }
        self.wal.rotate();
        snapshot
    }

    fn write_blocks(&self, head: &Head, snapshot: &SealSnapshot) -> io::Result<Vec<PathBuf>> {
        let mut windows = BTreeSet::new();
        for part in snapshot.groups.iter().flat_map(|group| &group.parts) {
            windows_of(part, &mut windows);
        }
        let mut order: Vec<&FrozenGroup> = snapshot.groups.iter().collect();
        order.sort_by(|a, b| a.group.key.cmp(&b.group.key));
        let moved = MovedSeries::find(head, snapshot);
        let mut paths = Vec::new();
        let only_one = windows.len() == 1;
        for window in windows {
            let range = if only_one {
                (i64::MIN, i64::MAX)
            } else {
                let start = window.saturating_mul(WINDOW_MS);
                (start, start.saturating_add(WINDOW_MS - 1))
            };
            let mut writer = BlockWriter::create(&self.blocks.directory, self.blocks.new_id())?;
            for group in &order {
                write_group(&mut writer, head, group, &moved, range)?;
            }
            if writer.samples() > 0 {
                paths.push(writer.finish(0, &[])?);
            }
        }
        Ok(paths)
    }

    /// Writes a checkpoint: the columns that changed since the base, or a new base with all columns if many changed.
    fn checkpoint(
        &self,
        head: &Head,
        snapshot: &SealSnapshot,
        maintenance: &mut MaintenanceState,
    ) -> Result<(), MaintenanceError> {
        let groups = head.groups();
        let (mut columns, mut changed) = (0, 0);
        for group in &groups {
            let data = lock(&group.data);
            columns += data.columns().len();
            changed += data.changed().len();
        }
        let base = maintenance.base.take().filter(|_| changed * 4 <= columns);
        let mut writer = CheckpointWriter::new(self.key().seed(), snapshot.from, base);
        for (family, metadata) in lock(&self.metadata).iter() {
            writer.push(&record::metadata(family, metadata));
        }
        for group in &groups {
            writer.group(&GroupState {
                number: group.number,
                key: group.key.to_string(),
                sequence: snapshot.sequences.get(&group.number).copied(),
                definitions: definitions(head, group, base.is_none()),
            });
        }
        writer
            .finish(&self.options.path)
            .map_err(MaintenanceError::Checkpoint)?;
        let of_agents = groups.iter().filter_map(|group| {
            let sequence = snapshot.sequences.get(&group.number).copied()?;
            Some((&*group.key, sequence))
        });
        // Recorded before the log segments that hold these sequences are removed.
        lock(&self.agents).record(of_agents, self.clock.now_ms());
        maintenance.base = base.or(Some(snapshot.from));
        remove_before(&self.options.path.join("wal"), snapshot.from)
            .map_err(MaintenanceError::RemoveSegments)?;
        Ok(())
    }
}

/// Returns the definitions of a group's columns: all of them, which also restarts change tracking, or the changed ones.
fn definitions(head: &Head, group: &Group, all: bool) -> Vec<Definition> {
    let columns: Vec<(u32, ValueKind, SeriesId)> = {
        let mut data = lock(&group.data);
        let columns = match all {
            true => {
                data.begin_changes();
                (0..data.columns().len() as u32).collect()
            }
            false => data.changed().to_vec(),
        };
        let series = |column: u32| data.columns().get(column as usize).copied().flatten();
        let with_series = |column: u32| Some((column, data.kind(column), series(column)?));
        columns.into_iter().filter_map(with_series).collect()
    };
    let index = read(&head.index);
    let define = |(column, kind, series)| Definition {
        column,
        kind,
        labels: index.labels(series),
    };
    columns.into_iter().map(define).collect()
}

/// Returns the columns without a sample in the sealed parts.
fn idle_columns(head: &Head, snapshot: &SealSnapshot) -> Vec<Column> {
    let mut idle = Vec::new();
    for group in head.groups() {
        let sealed = snapshot
            .groups
            .iter()
            .find(|one| one.group.number == group.number);
        let columns = lock(&group.data).columns().to_vec();
        let mut used = vec![false; columns.len()];
        for part in sealed.iter().flat_map(|group| &group.parts) {
            part.mark_columns(&mut used);
        }
        for (column, (series, used)) in (0..).zip(columns.iter().zip(used)) {
            if let (Some(series), false) = (*series, used) {
                let group = group.number;
                idle.push(Column {
                    place: ColumnRef { group, column },
                    series,
                    series_too: false,
                });
            }
        }
    }
    idle
}

/// Takes an unused column from its series, and removes the series from the index if that was its only place.
fn give_up(head: &Head, index: &mut Index, mut column: Column) -> Option<Column> {
    let Column { place, series, .. } = column;
    let group = head.group(place.group)?;
    let mut data = lock(&group.data);
    if data.columns().get(place.column as usize) != Some(&Some(series)) {
        return None;
    }
    let is_current = index.place(series) == Some(place);
    if is_current && index.former_places(series).next().is_some() {
        // Its former places must be evicted first.
        return None;
    }
    if !data.vacate(place.column) {
        return None;
    }
    if is_current {
        index.remove(series);
        column.series_too = true;
    } else {
        index.forget_place(series, place);
    }
    Some(column)
}

fn windows_of(part: &HeadPart, to: &mut BTreeSet<i64>) {
    let Some((first, last)) = part.bounds() else {
        return;
    };
    let (first, last) = (first.div_euclid(WINDOW_MS), last.div_euclid(WINDOW_MS));
    if first == last {
        to.insert(first);
        return;
    }
    let rows = part.rows.times_ms().iter().copied();
    to.extend(rows.map(|time| time.div_euclid(WINDOW_MS)));
    for packed in &part.packed {
        // Packed rows are few and close in time, unless their source paused for days.
        if let Some((chunk, _)) = packed.piece(0) {
            to.extend(
                chunk
                    .times_ms()
                    .iter()
                    .map(|time| time.div_euclid(WINDOW_MS)),
            );
        }
    }
    for column in part.out_of_row_columns() {
        let times = part.out_of_row(column).iter();
        to.extend(times.map(|&(time, _)| time.div_euclid(WINDOW_MS)));
    }
}

/// Series with samples in more than one group.
struct MovedSeries {
    by_series: HashMap<SeriesId, Vec<Samples>, FxBuildHasher>,
    /// Places whose samples are in `by_series` and are not written on their own.
    places: HashMap<ColumnRef, (), FxBuildHasher>,
}

impl MovedSeries {
    fn find(head: &Head, snapshot: &SealSnapshot) -> Self {
        let mut found = Self {
            by_series: HashMap::default(),
            places: HashMap::default(),
        };
        let index = read(&head.index);
        for series in index.moved() {
            let samples_at = |place: ColumnRef| {
                let group = snapshot
                    .groups
                    .iter()
                    .find(|one| one.group.number == place.group)?;
                let mut samples = Samples::default();
                for part in &group.parts {
                    take_column(part, place.column, &mut samples);
                }
                (!samples.times_ms.is_empty()).then_some((place, samples))
            };
            // A series is written at its first place with samples; the samples of its other places are added there.
            for (place, samples) in index.places(series).filter_map(samples_at).skip(1) {
                found.by_series.entry(series).or_default().push(samples);
                found.places.insert(place, ());
            }
        }
        found
    }
}

/// Appends the samples of a column to `to`.
pub(crate) fn take_column(part: &HeadPart, column: u32, to: &mut Samples) {
    let first = column / COLUMNS_MAX as u32 * COLUMNS_MAX as u32;
    let mut piece = vec![Samples::default(); (column - first) as usize + 1];
    part.samples_of_piece(first, &mut piece);
    if let Some(own) = piece.pop() {
        to.times_ms.extend_from_slice(&own.times_ms);
        to.bits.extend_from_slice(&own.bits);
    }
}

/// Writes the series of a group, ordered by metric name and labels within each batch of columns.
fn write_group(
    writer: &mut BlockWriter,
    head: &Head,
    group: &FrozenGroup,
    moved: &MovedSeries,
    range: (i64, i64),
) -> io::Result<()> {
    let width = group
        .parts
        .iter()
        .map(|part| part.width())
        .max()
        .unwrap_or(0);
    writer.group(&group.group.key)?;
    for first in (0..width).step_by(COLUMNS_AT_ONCE as usize) {
        let end = width.min(first + COLUMNS_AT_ONCE);
        let mut samples = take_columns(group, first..end);
        let mut order = labels_in_order(head, group, first..end);
        order.retain(|(_, column, _)| {
            let place = ColumnRef {
                group: group.group.number,
                column: *column,
            };
            !moved.places.contains_key(&place)
        });
        for (labels, column, series) in &order {
            let own = &mut samples[(column - first) as usize];
            for more in moved.by_series.get(series).into_iter().flatten() {
                own.times_ms.extend_from_slice(&more.times_ms);
                own.bits.extend_from_slice(&more.bits);
            }
            own.sort();
            own.keep(range);
            if !own.times_ms.is_empty() {
                writer.push(labels, own)?;
            }
        }
    }
    Ok(())
}

fn take_columns(group: &FrozenGroup, columns: std::ops::Range<u32>) -> Vec<Samples> {
    let mut samples = vec![Samples::default(); columns.len()];
    for part in &group.parts {
        for (piece, first) in samples
            .chunks_mut(COLUMNS_MAX)
            .zip(columns.clone().step_by(COLUMNS_MAX))
        {
            part.samples_of_piece(first, piece);
        }
    }
    samples
}

fn labels_in_order(
    head: &Head,
    group: &FrozenGroup,
    columns: std::ops::Range<u32>,
) -> Vec<(Labels, u32, SeriesId)> {
    let index = read(&head.index);
    let mut order: Vec<(Labels, u32, SeriesId)> = columns
        .filter_map(|column| {
            let series = group.columns.get(column as usize).copied().flatten()?;
            Some((index.labels(series), column, series))
        })
        .collect();
    drop(index);
    order.sort_by(|(a, ..), (b, ..)| (a.metric_name(), a).cmp(&(b.metric_name(), b)));
    order
}
