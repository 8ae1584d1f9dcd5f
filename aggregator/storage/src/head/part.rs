//! The samples of a group between two seals: open rows, rows packed into chunks, and out-of-row samples.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use super::rows::{ABSENT, Rows};
use crate::block::slice::Samples;
use crate::codec::chunk::COLUMNS_MAX;
use crate::codec::{Chunk, ChunkBuilder, Presence};

/// Number of rows packed together.
const PACK_ROWS: usize = 16;
/// Number of open rows at which the oldest [`PACK_ROWS`] are packed. The remaining rows take late samples. Open rows
/// account for most of the memory of a series.
const OPEN_ROWS_MAX: usize = 20;
/// Up to this number of rows, a row is created however sparse it is.
const SPARSE_ROWS: usize = 4;
/// Beyond that, at least one in this many cells must be filled after a new row is created.
const SPARSE_RATIO: usize = 8;

/// Packed rows: one chunk for every 64 columns.
#[derive(Debug)]
pub(crate) struct PackedRows {
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    pieces: Vec<Box<[u8]>>,
}

impl PackedRows {
    /// Returns the chunk with the column, and the column's index in it. The bytes are from this process, never from
    /// disk.
    pub(crate) fn piece(&self, column: u32) -> Option<(Chunk, usize)> {
        let bytes = self.pieces.get(column as usize / COLUMNS_MAX)?;
        let chunk = Chunk::decode(bytes).ok()?;
        Some((chunk, column as usize % COLUMNS_MAX))
    }

    fn memory_bytes(&self) -> usize {
        self.pieces
            .iter()
            .map(|piece| piece.len() + 24)
            .sum::<usize>()
            + 64
    }
}

/// The samples of a group between two seals.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeadPart {
    pub(crate) packed: Vec<Arc<PackedRows>>,
    pub(crate) rows: Rows,
    /// Samples that fit no row, by column and in ascending time order.
    out_of_row: HashMap<u32, Vec<(i64, u64)>, FxBuildHasher>,
    /// The timestamps of the earliest and the latest sample.
    bounds: Option<(i64, i64)>,
    /// The number of samples.
    pub(crate) samples: u64,
    /// The seal it was frozen for; 0 while it is open.
    pub(crate) generation: u64,
}

impl HeadPart {
    pub(crate) const fn is_empty(&self) -> bool {
        self.bounds.is_none()
    }

    /// The timestamps of the earliest and the latest sample.
    pub(crate) const fn bounds(&self) -> Option<(i64, i64)> {
        self.bounds
    }

    /// Whether the part may have a sample in the range.
    pub(crate) fn overlaps(&self, start_ms: i64, end_ms: i64) -> bool {
        self.bounds
            .is_some_and(|(first, last)| first <= end_ms && last >= start_ms)
    }

    /// Returns the bits stored for a column at a point in time.
    pub(crate) fn get(&self, column: u32, time_ms: i64) -> Option<u64> {
        if let Some(row) = self.rows.find(time_ms) {
            let bits = self.rows.get(row, column);
            if bits != ABSENT {
                return Some(bits);
            }
        }
        let out_of_row = self.out_of_row(column);
        if let Ok(at) = out_of_row.binary_search_by_key(&time_ms, |&(time, _)| time) {
            return Some(out_of_row[at].1);
        }
        let covers = |one: &&Arc<PackedRows>| one.first_ms <= time_ms && time_ms <= one.last_ms;
        self.packed
            .iter()
            .filter(covers)
            .find_map(|packed| get_packed(packed, column, time_ms))
    }

    /// Returns the samples of a column that are in no row.
    pub(crate) fn out_of_row(&self, column: u32) -> &[(i64, u64)] {
        self.out_of_row.get(&column).map_or(&[], Vec::as_slice)
    }

    /// Sets the mark of each column that has a sample.
    pub(crate) fn mark_columns(&self, marks: &mut [bool]) {
        for row in 0..self.rows.len() {
            for (mark, &bits) in marks.iter_mut().zip(self.rows.row(row)) {
                *mark |= bits != ABSENT;
            }
        }
        for packed in &self.packed {
            for (number, marks) in (0..).zip(marks.chunks_mut(COLUMNS_MAX)) {
                if let Some((chunk, _)) = packed.piece(number * COLUMNS_MAX as u32) {
                    for (column, mark) in marks.iter_mut().enumerate() {
                        *mark |= *chunk.presence(column) != Presence::None;
                    }
                }
            }
        }
        for &column in self.out_of_row.keys() {
            if let Some(mark) = marks.get_mut(column as usize) {
                *mark = true;
            }
        }
    }

    /// Whether a column has a sample.
    pub(crate) fn has_column(&self, column: u32) -> bool {
        let in_rows = || (0..self.rows.len()).any(|row| self.rows.get(row, column) != ABSENT);
        let in_packed = || {
            self.packed.iter().any(|packed| {
                let piece = packed.piece(column);
                piece.is_some_and(|(chunk, at)| *chunk.presence(at) != Presence::None)
            })
        };
        self.out_of_row.contains_key(&column) || in_rows() || in_packed()
    }

    /// Returns the columns with out-of-row samples.
    pub(crate) fn out_of_row_columns(&self) -> impl Iterator<Item = u32> {
        self.out_of_row.keys().copied()
    }

    /// Stores cells of one timestamp. None of these columns may have a sample there yet. `width` is the number of
    /// columns in the group.
    pub(crate) fn put(
        &mut self,
        time_ms: i64,
        width: usize,
        cells: impl ExactSizeIterator<Item = (u32, u64)>,
    ) {
        if cells.len() == 0 {
            return;
        }
        self.samples += cells.len() as u64;
        let row = self.row_for(time_ms, width, cells.len());
        for (column, bits) in cells {
            let in_row =
                bits != ABSENT && row.is_some_and(|row| self.rows.set(row, column, bits, width));
            if !in_row {
                self.put_out_of_row(column, time_ms, bits);
            }
        }
        let (first, last) = self.bounds.unwrap_or((time_ms, time_ms));
        self.bounds = Some((first.min(time_ms), last.max(time_ms)));
    }

    /// Returns the row for a timestamp, creating it if worthwhile. `None`: the samples are stored out of row.
    fn row_for(&mut self, time_ms: i64, width: usize, cells: usize) -> Option<usize> {
        if let Some(row) = self.rows.find(time_ms) {
            return Some(row);
        }
        let packed_until = self.packed.last().map(|packed| packed.last_ms);
        if self
            .rows
            .last_ms()
            .or(packed_until)
            .is_some_and(|last| last > time_ms)
        {
            return None;
        }
        if self.rows.len() >= OPEN_ROWS_MAX {
            self.pack(PACK_ROWS);
        }
        let rows = self.rows.len() + 1;
        let dense =
            rows <= SPARSE_ROWS || (self.rows.filled() + cells) * SPARSE_RATIO >= rows * width;
        dense.then(|| self.rows.begin(time_ms, width))
    }

    fn put_out_of_row(&mut self, column: u32, time_ms: i64, bits: u64) {
        let list = self.out_of_row.entry(column).or_default();
        if list.last().is_none_or(|&(last, _)| last < time_ms) {
            list.push((time_ms, bits));
        } else if let Err(at) = list.binary_search_by_key(&time_ms, |&(time, _)| time) {
            list.insert(at, (time_ms, bits));
        }
    }

    /// Packs the oldest `count` rows.
    fn pack(&mut self, count: usize) {
        let times = &self.rows.times_ms()[..count];
        let (Some(&first_ms), Some(&last_ms)) = (times.first(), times.last()) else {
            return;
        };
        let width = (0..count).map(|row| self.rows.row(row).len()).max();
        let width = width.unwrap_or(0) as u32;
        let rows: Vec<&[u64]> = (0..count).map(|row| self.rows.row(row)).collect();
        let mut pieces = Vec::with_capacity((width as usize).div_ceil(COLUMNS_MAX));
        PACKER.with_borrow_mut(|packer| {
            for first in (0..width).step_by(COLUMNS_MAX) {
                let columns = first..width.min(first + COLUMNS_MAX as u32);
                pieces.push(packer.pack(times, &rows, columns));
            }
        });
        self.packed.push(Arc::new(PackedRows {
            first_ms,
            last_ms,
            pieces,
        }));
        self.rows.drop_front(count);
    }

    /// Returns an upper bound on the columns of rows, packed rows and out-of-row samples.
    pub(crate) fn width(&self) -> u32 {
        let open = (0..self.rows.len()).map(|row| self.rows.row(row).len());
        let packed = self.packed.iter().map(|one| one.pieces.len() * COLUMNS_MAX);
        let out_of_row = self.out_of_row.keys().map(|&column| column as usize + 1);
        open.chain(packed).chain(out_of_row).max().unwrap_or(0) as u32
    }

    /// Appends the samples of the columns from `first` on to `to`, in no order between rows and out-of-row samples.
    pub(crate) fn samples_of_piece(&self, first: u32, to: &mut [Samples]) {
        let mut scratch = Vec::new();
        let mut floats = Vec::new();
        for packed in &self.packed {
            let Some((chunk, _)) = packed.piece(first) else {
                continue;
            };
            for (index, samples) in to.iter_mut().enumerate() {
                floats.clear();
                chunk.samples(index, &mut scratch, &mut samples.times_ms, &mut floats);
                samples
                    .bits
                    .extend(floats.iter().map(|value| value.to_bits()));
            }
        }
        for (row, &time) in self.rows.times_ms().iter().enumerate() {
            let cells = self.rows.row(row).iter().skip(first as usize);
            for (samples, &bits) in to.iter_mut().zip(cells) {
                if bits != ABSENT {
                    samples.push(time, bits);
                }
            }
        }
        for (column, samples) in (first..).zip(to.iter_mut()) {
            let out_of_row = self.out_of_row(column);
            if !out_of_row.is_empty() {
                out_of_row
                    .iter()
                    .for_each(|&(time, bits)| samples.push(time, bits));
                samples.sort();
            }
        }
    }

    /// Returns the memory used, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let out_of_row: usize = self
            .out_of_row
            .values()
            .map(|list| list.capacity() * 16 + 40)
            .sum();
        let packed: usize = self.packed.iter().map(|one| one.memory_bytes()).sum();
        self.rows.memory_bytes() + out_of_row + packed
    }
}

thread_local! {
    static PACKER: RefCell<Packer> = RefCell::default();
}

/// Packs rows. It is kept per thread to reuse its buffers.
#[derive(Debug, Default)]
struct Packer {
    builder: ChunkBuilder,
    present: Vec<u32>,
    values: Vec<u64>,
    bytes: Vec<u8>,
}

impl Packer {
    fn pack(&mut self, times: &[i64], rows: &[&[u64]], columns: Range<u32>) -> Box<[u8]> {
        self.builder.begin(times);
        for column in columns {
            let cell = |row: &&[u64]| row.get(column as usize).copied().unwrap_or(ABSENT);
            self.values.clear();
            self.values.extend(rows.iter().map(cell));
            if !self.values.contains(&ABSENT) {
                self.builder.push_full(&self.values);
                continue;
            }
            self.present.clear();
            let present = (0..).zip(&self.values).filter(|&(_, &bits)| bits != ABSENT);
            self.present.extend(present.map(|(row, _)| row));
            self.values.retain(|&bits| bits != ABSENT);
            self.builder.push_sparse(&self.present, &self.values);
        }
        self.bytes.clear();
        self.builder.finish_light(&mut self.bytes);
        self.bytes.as_slice().into()
    }
}

fn get_packed(packed: &PackedRows, column: u32, time_ms: i64) -> Option<u64> {
    let (chunk, at) = packed.piece(column)?;
    if *chunk.presence(at) == Presence::None {
        return None;
    }
    let (mut scratch, mut times, mut values) = (Vec::new(), Vec::new(), Vec::new());
    chunk.samples(at, &mut scratch, &mut times, &mut values);
    let found = times.binary_search(&time_ms).ok()?;
    values.get(found).map(|value| value.to_bits())
}
