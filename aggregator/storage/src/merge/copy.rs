//! Chunks that a merge copies unchanged. Compressing long columns again would take most of the CPU time of a merge, and
//! would hardly make them smaller.

use crate::block::format::ChunkEntry;
use crate::block::reader::BlockError;
use crate::block::slice::ROWS;
use crate::bytes::Malformed;
use crate::codec::Chunk;
use crate::codec::chunk::COLUMNS_MAX;
use crate::index::SeriesId;
use crate::maintenance::MaintenanceError;
use crate::value_kind::ValueKind;

use super::{Source, Union};

/// The average number of rows from which on chunks are copied unchanged.
const LONG: usize = ROWS / 2;
/// After a first chunk shorter than this, longer ones are too rare to search for.
const SHORT: usize = ROWS / 4;

/// Consecutive series of a merged block whose chunks contain exactly these series, in this order, in all sources. Reuses
/// its memory.
#[derive(Debug, Default)]
pub(super) struct Slice {
    /// How many series.
    pub(super) columns: usize,
    /// Their chunks by time, each with its number of samples and the end of its bytes in `bytes`.
    chunks: Vec<(ChunkEntry, u64, usize)>,
    bytes: Vec<u8>,
    places: Vec<(usize, SeriesId)>,
    found: Vec<(usize, ChunkEntry)>,
    chunk: Vec<u8>,
}

impl Slice {
    /// The chunks with their samples and bytes.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (&ChunkEntry, u64, &[u8])> {
        let starts = std::iter::once(0).chain(self.chunks.iter().map(|&(.., end)| end));
        let parts = self.chunks.iter().zip(starts);
        parts.map(|((entry, samples, end), start)| (entry, *samples, &self.bytes[start..*end]))
    }

    /// Finds the first series of `list` whose chunks can be copied and have no sample before `start_ms`. Returns `false` if
    /// there are none, if compressing them again would make them smaller, or if a chunk is damaged.
    ///
    /// # Errors
    /// A source can't be read.
    pub(super) fn find(
        &mut self,
        sources: &[Source],
        union: &Union,
        list: &[u32],
        start_ms: i64,
    ) -> Result<bool, MaintenanceError> {
        if !self.find_series(sources, union, list) || !self.find_chunks(sources, start_ms) {
            return Ok(false);
        }
        match self.read(sources) {
            Err(MaintenanceError::ReadBlock {
                source: BlockError::Damaged(_) | BlockError::Unsupported { .. },
                ..
            }) => Ok(false),
            other => other,
        }
    }

    /// Reports whether the first series of `list` are adjacent in all sources that have any of them.
    fn find_series(&mut self, sources: &[Source], union: &Union, list: &[u32]) -> bool {
        self.places.clear();
        self.places
            .extend(list.iter().take(1).flat_map(|&one| union.places(one)));
        let Some(&(source, first)) = self.places.first() else {
            return false;
        };
        let directory = &sources[source].loaded.directory;
        let at = directory.partition_point(|chunk| chunk.first_series < first.0);
        let begins = directory.get(at).filter(|c| c.first_series == first.0);
        self.columns = begins.map_or(0, |chunk| chunk.columns as usize);
        let Some(series) = list.get(..self.columns).filter(|list| !list.is_empty()) else {
            return false;
        };
        let mut steps = (0..).zip(series);
        steps.all(|(step, &one)| {
            let expected = self.places.iter();
            let expected = expected.map(|&(source, id)| (source, SeriesId(id.0 + step)));
            union.places(one).eq(expected)
        })
    }

    /// Reports whether the chunks of these series contain no others and do not overlap in time.
    fn find_chunks(&mut self, sources: &[Source], start_ms: i64) -> bool {
        self.found.clear();
        let columns = self.columns as u32;
        for &(source, SeriesId(first)) in &self.places {
            let directory = &sources[source].loaded.directory;
            let reach = first.saturating_sub(COLUMNS_MAX as u32 - 1);
            let from = directory.partition_point(|chunk| chunk.first_series < reach);
            let near = directory[from..].iter();
            for chunk in near.take_while(|chunk| chunk.first_series < first + columns) {
                if chunk.first_series + chunk.columns <= first {
                    continue;
                }
                if chunk.first_series != first || chunk.columns != columns {
                    return false;
                }
                self.found.push((source, *chunk));
            }
        }
        self.found.sort_by_key(|(_, chunk)| chunk.first_ms);
        let mut before = None;
        !self.found.is_empty()
            && self.found.iter().all(|(_, chunk)| {
                let follows = before.is_none_or(|last| last < chunk.first_ms);
                before = Some(chunk.last_ms);
                follows && chunk.first_ms >= start_ms
            })
    }

    /// Reads the chunks. Returns `false` if they are short.
    fn read(&mut self, sources: &[Source]) -> Result<bool, MaintenanceError> {
        self.chunks.clear();
        self.bytes.clear();
        let is_one = self.found.len() == 1;
        let mut rows = 0;
        for (source, entry) in &self.found {
            let block = &sources[*source].block;
            let kind = block
                .chunk_bytes(entry, &mut self.chunk)
                .map_err(|error| MaintenanceError::read(block, error))?;
            let counts = match kind {
                ValueKind::Float => Chunk::counts(&self.chunk),
            };
            let counts = counts
                .map_err(|Malformed| MaintenanceError::read(block, BlockError::Damaged("chunk")))?;
            if !is_one && rows == 0 && counts.rows < SHORT {
                return Ok(false);
            }
            rows += counts.rows;
            self.bytes.extend_from_slice(&self.chunk);
            self.chunks.push((*entry, counts.samples, self.bytes.len()));
        }
        Ok(is_one || rows >= LONG * self.found.len())
    }
}
