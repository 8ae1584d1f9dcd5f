//! Merging: combines several blocks into one that covers their time range, with longer columns and one index.
//!
//! Chunks that are long enough are copied unchanged ([`copy`]). The others are decompressed and compressed again.

mod copy;

use std::collections::VecDeque;
use std::sync::Arc;

use common::model::Labels;
use hashbrown::{HashMap, HashSet};
use rustc_hash::FxBuildHasher;

use crate::block::Block;
use crate::block::reader::{BlockError, Loaded};
use crate::block::slice::Samples;
use crate::block::writer::BlockWriter;
use crate::codec::Chunk;
use crate::index::SeriesId;
use crate::index::view::SeriesIndex as _;
use crate::maintenance::MaintenanceError;
use crate::series_hash::SeriesHash;
use crate::store::Inner;

use copy::Slice;

/// The time ranges of merged blocks, in this order. Each merge writes all samples again, so there are only two.
const SPANS_MS: [i64; 2] = [4 * HOUR_MS, 24 * HOUR_MS];
const HOUR_MS: i64 = 3_600_000;
/// The number of blocks of the first span that are merged before it is over, because a query reads each of them.
const MANY: usize = 8;
/// The number of chunks of each source that are kept while its series are read.
const HELD: usize = 4;

/// A part of a span, and the blocks that are completely inside it.
fn by_span(blocks: &[Arc<Block>], span_ms: i64) -> Vec<Vec<Arc<Block>>> {
    let mut spans: Vec<(i64, Vec<Arc<Block>>)> = Vec::new();
    for block in blocks {
        let first = block.footer.first_ms.div_euclid(span_ms);
        if block.footer.last_ms.div_euclid(span_ms) != first {
            continue;
        }
        match spans.iter_mut().find(|(span, _)| *span == first) {
            Some((_, list)) => list.push(Arc::clone(block)),
            None => spans.push((first, vec![Arc::clone(block)])),
        }
    }
    spans.into_iter().map(|(_, list)| list).collect()
}

/// Selects the blocks to merge next: unmerged ones of a past span, or many blocks of the current span. A block that was
/// merged for a span is merged again only for the next larger one.
pub(crate) fn choose(blocks: &[Arc<Block>], now_ms: i64) -> Option<Vec<Arc<Block>>> {
    for (level, span_ms) in (1..).zip(SPANS_MS) {
        for list in by_span(blocks, span_ms) {
            let last = list.iter().map(|block| block.footer.last_ms).max()?;
            let is_over = last.div_euclid(span_ms) < (now_ms - HOUR_MS / 2).div_euclid(span_ms);
            if is_over && list.len() >= MANY {
                // Repeated late samples.
                return Some(list);
            }
            let small: Vec<_> = list
                .into_iter()
                .filter(|block| block.footer.level < level)
                .collect();
            if (is_over && small.len() > 1) || (level == 1 && small.len() >= MANY) {
                return Some(small);
            }
        }
    }
    None
}

/// Samples that are dropped when blocks are rewritten.
#[derive(Debug)]
pub(crate) struct Deletion {
    pub(crate) series: HashSet<SeriesHash, FxBuildHasher>,
    /// The first and last time, milliseconds.
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
}

/// The source does not have the series.
const ABSENT: u32 = u32::MAX;

/// The series of all sources, group by group.
struct Union {
    groups: Vec<(String, Vec<u32>)>,
    /// The id of each series in each source, or [`ABSENT`].
    local: Vec<u32>,
    sources: usize,
}

/// A block that is merged.
struct Source {
    block: Arc<Block>,
    loaded: Arc<Loaded>,
    held: VecDeque<(u32, Arc<Chunk>)>,
}

impl Source {
    fn chunk(&mut self, number: u32) -> Result<Arc<Chunk>, BlockError> {
        if let Some((_, chunk)) = self.held.iter().find(|(other, _)| *other == number) {
            return Ok(Arc::clone(chunk));
        }
        let chunk = self.block.chunk(&self.loaded, number, false)?;
        if self.held.len() == HELD {
            self.held.pop_front();
        }
        self.held.push_back((number, Arc::clone(&chunk)));
        Ok(chunk)
    }
}

impl Union {
    /// The series of a group are in the order of the first source that has them. That is close to the order of their names,
    /// in which each block was sealed.
    fn new(sources: &[Source]) -> Self {
        let mut known: HashMap<SeriesHash, u32, FxBuildHasher> = HashMap::default();
        let mut numbers: HashMap<&str, usize, FxBuildHasher> = HashMap::default();
        let mut union = Self {
            groups: Vec::new(),
            local: Vec::new(),
            sources: sources.len(),
        };
        for (number, source) in sources.iter().enumerate() {
            let index = &source.loaded.index;
            let mut id = 0;
            for group in &index.groups {
                let next = union.groups.len();
                let at = *numbers.entry(&group.key).or_insert(next);
                if at == next {
                    union.groups.push((group.key.clone(), Vec::new()));
                }
                for series in id..id + group.series {
                    let next = (union.local.len() / sources.len()) as u32;
                    let hash = index.hash(SeriesId(series));
                    let entry = *known.entry(hash).or_insert(next);
                    if entry == next {
                        union
                            .local
                            .resize(union.local.len() + sources.len(), ABSENT);
                        union.groups[at].1.push(entry);
                    }
                    union.local[entry as usize * sources.len() + number] = series;
                }
                id += group.series;
            }
        }
        union
    }

    /// Returns the sources that have a series, with its id in each.
    fn places(&self, series: u32) -> impl Iterator<Item = (usize, SeriesId)> {
        let start = series as usize * self.sources;
        let local = self.local[start..start + self.sources].iter().enumerate();
        local
            .filter(|&(_, &id)| id != ABSENT)
            .map(|(source, &id)| (source, SeriesId(id)))
    }

    fn labels(&self, sources: &[Source], series: u32) -> Labels {
        let first = self.places(series).next();
        first.map_or_else(Labels::empty, |(source, id)| {
            sources[source].loaded.index.labels(id)
        })
    }
}

impl Inner {
    /// Merges blocks into one and publishes it in their place. Calls `between` regularly, because a merge can take long.
    ///
    /// # Errors
    /// A source is damaged, the block can't be written, or `between` failed. The sources stay in place.
    pub(crate) fn merge(
        &self,
        blocks: &[Arc<Block>],
        between: &mut dyn FnMut() -> Result<(), MaintenanceError>,
    ) -> Result<(), MaintenanceError> {
        self.rewrite(blocks, None, between).map(|_| ())
    }

    /// Merges blocks into one without the samples to delete, and returns the number of deleted samples.
    ///
    /// # Errors
    /// See [`Self::merge`].
    pub(crate) fn rewrite(
        &self,
        blocks: &[Arc<Block>],
        deletion: Option<&Deletion>,
        between: &mut dyn FnMut() -> Result<(), MaintenanceError>,
    ) -> Result<u64, MaintenanceError> {
        let mut sources = Vec::with_capacity(blocks.len());
        for block in blocks {
            let loaded = block.load().map_err(|error| {
                if matches!(error, BlockError::Damaged(_)) {
                    self.blocks.quarantine(block);
                }
                MaintenanceError::read(block, error)
            })?;
            sources.push(Source {
                block: Arc::clone(block),
                loaded,
                held: VecDeque::new(),
            });
        }
        let keep = (self.retention_start_ms(self.clock.now_ms()), i64::MAX);
        let writer = BlockWriter::create(&self.blocks.directory, self.blocks.new_id())
            .map_err(MaintenanceError::Merge)?;
        let union = Union::new(&sources);
        let mut rewriting = Rewriting {
            store: self,
            sources,
            union: &union,
            writer,
            samples: Samples::default(),
            keep,
            deletion,
            deleted: 0,
        };
        for (key, list) in &union.groups {
            rewriting.group(key, list, between)?;
        }
        let Rewriting {
            writer, deleted, ..
        } = rewriting;
        let ids: Vec<u64> = blocks.iter().map(|block| block.id).collect();
        if writer.samples() == 0 {
            self.blocks
                .remove(&ids)
                .map_err(MaintenanceError::RemoveBlocks)?;
            return Ok(deleted);
        }
        let level = blocks.iter().map(|block| block.footer.level).max();
        let path = writer
            .finish(level.unwrap_or(0) + 1, &ids)
            .map_err(MaintenanceError::Merge)?;
        self.blocks.publish(&[path], &ids, None)?;
        Ok(deleted)
    }

    /// Merges until every span has one block.
    ///
    /// # Errors
    /// See [`Self::merge`].
    pub(crate) fn merge_all(&self) -> Result<(), MaintenanceError> {
        loop {
            let blocks = self.blocks.all();
            let spans = by_span(&blocks, SPANS_MS[1]);
            let Some(list) = spans.into_iter().find(|list| list.len() > 1) else {
                return Ok(());
            };
            self.merge(&list, &mut || Ok(()))?;
        }
    }
}

/// Series between two calls of `between`.
const PAUSE: usize = 1024;

/// A running merge.
struct Rewriting<'a> {
    store: &'a Inner,
    sources: Vec<Source>,
    union: &'a Union,
    writer: BlockWriter,
    samples: Samples,
    /// The first and last time of samples that are kept, milliseconds.
    keep: (i64, i64),
    deletion: Option<&'a Deletion>,
    deleted: u64,
}

impl Rewriting<'_> {
    fn group(
        &mut self,
        key: &str,
        mut list: &[u32],
        between: &mut dyn FnMut() -> Result<(), MaintenanceError>,
    ) -> Result<(), MaintenanceError> {
        let mut slice = Slice::default();
        let mut begun = false;
        let mut pause = PAUSE;
        while let Some(&series) = list.first() {
            let is_copied = self.deletion.is_none()
                && slice.find(&self.sources, self.union, list, self.keep.0)?;
            if !is_copied {
                self.gather(series)?;
            }
            if (is_copied || !self.samples.times_ms.is_empty()) && !begun {
                self.writer.group(key).map_err(MaintenanceError::Merge)?;
                begun = true;
            }
            let done = match is_copied {
                true => self.copy(&slice, list)?,
                false => self.push(series)?,
            };
            list = &list[done..];
            pause = pause.saturating_sub(done);
            if pause == 0 {
                between()?;
                pause = PAUSE;
            }
        }
        Ok(())
    }

    /// Copies the chunks of the first series of `list`, and returns the number of these series.
    fn copy(&mut self, slice: &Slice, list: &[u32]) -> Result<usize, MaintenanceError> {
        let (union, sources) = (self.union, &self.sources);
        let series = list.iter().take(slice.columns);
        let labels = series.map(|&one| union.labels(sources, one));
        self.writer
            .begin_copy(labels)
            .map_err(MaintenanceError::Merge)?;
        for (entry, samples, bytes) in slice.chunks() {
            self.writer
                .copy_chunk(entry, samples, bytes)
                .map_err(MaintenanceError::Merge)?;
        }
        Ok(slice.columns)
    }

    /// Compresses the collected samples of a series.
    fn push(&mut self, series: u32) -> Result<usize, MaintenanceError> {
        if !self.samples.times_ms.is_empty() {
            let labels = self.union.labels(&self.sources, series);
            self.writer
                .push(&labels, &mut self.samples)
                .map_err(MaintenanceError::Merge)?;
        }
        Ok(1)
    }

    /// Reads the remaining samples of a series from all sources. Skips a damaged chunk, whose block is kept in the directory
    /// for damaged files.
    fn gather(&mut self, series: u32) -> Result<(), MaintenanceError> {
        let to = &mut self.samples;
        to.clear();
        let (mut scratch, mut floats) = (Vec::new(), Vec::new());
        for (number, id) in self.union.places(series) {
            let source = &mut self.sources[number];
            let loaded = Arc::clone(&source.loaded);
            for (chunk, column) in loaded.chunks_of(id, i64::MIN, i64::MAX) {
                let chunk = match source.chunk(chunk) {
                    Ok(chunk) => chunk,
                    Err(BlockError::Damaged(_) | BlockError::Unsupported { .. }) => {
                        self.store.blocks.keep_damaged(&source.block)?;
                        continue;
                    }
                    Err(error) => return Err(MaintenanceError::read(&source.block, error)),
                };
                floats.clear();
                chunk.samples(column, &mut scratch, &mut to.times_ms, &mut floats);
                to.bits
                    .extend(floats.iter().map(|value: &f64| value.to_bits()));
            }
        }
        to.sort();
        to.keep(self.keep);
        if let Some(deletion) = self.deletion {
            let labels = self.union.labels(&self.sources, series);
            if deletion.series.contains(&self.store.key().hash(&labels)) {
                self.deleted += to.remove((deletion.first_ms, deletion.last_ms));
            }
        }
        Ok(())
    }
}
