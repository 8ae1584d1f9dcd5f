//! Copies of a few columns of one group, made under its lock and read without it.

use std::ops::Range;
use std::sync::Arc;

use super::assemble::{Assembler, Data, Segment, shared_timestamps_id};
use crate::codec::Chunk;
use crate::codec::chunk::COLUMNS_MAX;
use crate::head::group::Group;
use crate::head::part::{HeadPart, PackedRows};
use crate::head::rows::ABSENT;
use crate::sync::lock;

/// The open rows of a part.
#[derive(Debug)]
struct RowsCopy {
    times: Arc<[i64]>,
    timestamps_id: u64,
    /// Column by column, one value per timestamp.
    cells: Vec<u64>,
}

/// Columns of a group.
#[derive(Debug, Default)]
pub(super) struct HeadBatch {
    columns: Vec<u32>,
    packed: Vec<Arc<PackedRows>>,
    rows: Vec<RowsCopy>,
    /// By the offset of the column.
    out_of_row: Vec<(usize, Vec<(i64, u64)>)>,
    /// Decompressed pieces: the number of the compressed rows, the number of the piece, and the chunk.
    pieces: Vec<(usize, u32, Option<Arc<Chunk>>)>,
    /// Whether only the newest sample of each column is needed.
    newest_only: bool,
}

fn rows_in_range(part: &HeadPart, start_ms: i64, end_ms: i64) -> Range<usize> {
    let times = part.rows.times_ms();
    let first = times.partition_point(|&time| time < start_ms);
    let end = times.partition_point(|&time| time <= end_ms);
    first..end.max(first)
}

impl HeadBatch {
    /// Creates an empty batch. With `newest_only`, older samples than the newest of a column may be omitted.
    pub(super) fn new(newest_only: bool) -> Self {
        Self {
            newest_only,
            ..Self::default()
        }
    }

    /// Clears the batch.
    pub(super) fn clear(&mut self) {
        self.columns.clear();
        self.packed.clear();
        self.rows.clear();
        self.out_of_row.clear();
        self.pieces.clear();
    }

    /// Copies columns of a group. Parts frozen for a seal up to `sealed` are in blocks that the caller reads.
    pub(super) fn load(
        &mut self,
        group: &Group,
        columns: impl Iterator<Item = u32>,
        range: (i64, i64),
        sealed: u64,
    ) {
        let (mut start_ms, end_ms) = range;
        self.clear();
        self.columns.extend(columns);
        let frozen = {
            let data = lock(&group.data);
            start_ms = self.copy(data.open(), start_ms, end_ms);
            data.frozen().to_vec()
        };
        for part in frozen.iter().filter(|part| part.generation > sealed) {
            start_ms = self.copy(part, start_ms, end_ms);
        }
    }

    /// Returns the timestamp of the last open row in the range if it has a sample of every column. No older sample is
    /// then the newest of its column.
    fn full_row_ms(&self, part: &HeadPart, start_ms: i64, end_ms: i64) -> Option<i64> {
        let last = rows_in_range(part, start_ms, end_ms).last()?;
        let row = part.rows.row(last);
        let is_there = |&column: &u32| row.get(column as usize).is_some_and(|&bits| bits != ABSENT);
        let is_full = self.columns.iter().all(is_there);
        is_full.then(|| part.rows.times_ms().get(last).copied())?
    }

    /// Copies the samples of a part. Returns the timestamp from which on other parts are needed.
    fn copy(&mut self, part: &HeadPart, mut start_ms: i64, end_ms: i64) -> i64 {
        if !part.overlaps(start_ms, end_ms) {
            return start_ms;
        }
        if self.newest_only {
            let full_ms = self.full_row_ms(part, start_ms, end_ms);
            start_ms = full_ms.unwrap_or(start_ms);
        }
        let overlaps =
            |packed: &&Arc<PackedRows>| packed.first_ms <= end_ms && packed.last_ms >= start_ms;
        self.packed
            .extend(part.packed.iter().filter(overlaps).cloned());
        let range = rows_in_range(part, start_ms, end_ms);
        let count = range.len();
        if count > 0 {
            let times: Arc<[i64]> = part.rows.times_ms()[range.clone()].into();
            let mut cells = vec![ABSENT; count * self.columns.len()];
            for (offset, row) in range.enumerate() {
                let from = part.rows.row(row);
                for (number, &column) in self.columns.iter().enumerate() {
                    if let Some(&bits) = from.get(column as usize) {
                        cells[number * count + offset] = bits;
                    }
                }
            }
            let timestamps_id = shared_timestamps_id(&times);
            self.rows.push(RowsCopy {
                times,
                timestamps_id,
                cells,
            });
        }
        for (offset, &column) in self.columns.iter().enumerate() {
            let out_of_row = part.out_of_row(column);
            let first = out_of_row.partition_point(|&(time, _)| time < start_ms);
            let end = out_of_row.partition_point(|&(time, _)| time <= end_ms);
            if first < end {
                self.out_of_row
                    .push((offset, out_of_row[first..end].to_vec()));
            }
        }
        start_ms
    }

    /// Passes the segments of one column to the assembler.
    pub(super) fn add_segments(&mut self, offset: usize, to: &mut Assembler) {
        let Some(&column) = self.columns.get(offset) else {
            return;
        };
        for number in 0..self.packed.len() {
            if let Some(chunk) = self.piece(number, column) {
                let data = Data::Chunk(chunk, column as usize % COLUMNS_MAX);
                to.add(Segment::new(data));
            }
        }
        for copy in &self.rows {
            let count = copy.times.len();
            let cells = &copy.cells[offset * count..(offset + 1) * count];
            if !cells.contains(&ABSENT) {
                let data =
                    Data::Shared(Arc::clone(&copy.times), copy.timestamps_id, cells.to_vec());
                to.add(Segment::new(data));
                continue;
            }
            let pairs = copy.times.iter().copied().zip(cells.iter().copied());
            let present: Vec<_> = pairs.filter(|&(_, bits)| bits != ABSENT).collect();
            if !present.is_empty() {
                to.add(Segment::new(Data::Loose(present)));
            }
        }
        for (_, out_of_row) in self.out_of_row.iter().filter(|(owner, _)| *owner == offset) {
            to.add(Segment::new(Data::Loose(out_of_row.clone())));
        }
    }

    fn piece(&mut self, number: usize, column: u32) -> Option<Arc<Chunk>> {
        let piece = column / COLUMNS_MAX as u32;
        let known = self
            .pieces
            .iter()
            .find(|(rows, other, _)| (*rows, *other) == (number, piece));
        if let Some((_, _, chunk)) = known {
            return chunk.clone();
        }
        let chunk = self.packed[number].piece(column);
        let chunk = chunk.map(|(chunk, _)| Arc::new(chunk));
        self.pieces.push((number, piece, chunk.clone()));
        chunk
    }
}
