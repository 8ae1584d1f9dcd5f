//! Merging: several blocks become one that covers their time, with longer columns and one index.

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
use crate::identity::SeriesHash;
use crate::index::SeriesId;
use crate::index::view::SeriesIndex as _;
use crate::store::Inner;

/// The spans that merged blocks fill, one after the other: 2 h, 12 h, 72 h.
const SPANS_MS: [i64; 3] = [2 * HOUR_MS, 12 * HOUR_MS, 72 * HOUR_MS];
const HOUR_MS: i64 = 3_600_000;
/// Blocks of one span that are merged before the span is over.
const MANY: usize = 4;
/// Chunks of each source that are held while its series are read.
const HELD: usize = 4;

/// The part of a span that blocks lie in whole, and those blocks.
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

/// Which blocks to merge next. A span that is over is merged to one block; a span that is not, when many small
/// blocks have gathered in it.
pub(crate) fn choose(blocks: &[Arc<Block>], now_ms: i64) -> Option<Vec<Arc<Block>>> {
    for (level, span_ms) in (1..).zip(SPANS_MS) {
        for list in by_span(blocks, span_ms) {
            let last = list.iter().map(|block| block.footer.last_ms).max()?;
            let is_over = last.div_euclid(span_ms) < (now_ms - HOUR_MS / 2).div_euclid(span_ms);
            let small: Vec<_> = list
                .iter()
                .filter(|block| block.footer.level < level)
                .cloned()
                .collect();
            if is_over && list.len() > 1 && (level == 1 || list.len() >= MANY / 2) {
                return Some(list);
            }
            if level == 1 && small.len() >= MANY {
                return Some(small);
            }
        }
    }
    None
}

/// Samples that are left out when blocks are rewritten.
#[derive(Debug)]
pub(crate) struct Deletion {
    pub(crate) series: HashSet<SeriesHash, FxBuildHasher>,
    /// The first and last time, milliseconds.
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
}

/// A series of the merged block and where its samples come from.
struct Entry {
    group: String,
    labels: Labels,
    /// The number of the source, and of the series in it.
    sources: Vec<(usize, SeriesId)>,
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

/// All series of the sources, in the order of a block.
fn union(sources: &[Source]) -> Vec<Entry> {
    let mut known: HashMap<SeriesHash, usize, FxBuildHasher> = HashMap::default();
    let mut entries: Vec<Entry> = Vec::new();
    let mut in_order = true;
    for (number, source) in sources.iter().enumerate() {
        let index = &source.loaded.index;
        let mut id = 0;
        for group in &index.groups {
            for series in (id..id + group.series).map(SeriesId) {
                let next = entries.len();
                let at = *known.entry(index.hash(series)).or_insert(next);
                if at == next {
                    in_order &= number == 0;
                    entries.push(Entry {
                        group: group.key.clone(),
                        labels: index.labels(series),
                        sources: Vec::with_capacity(sources.len()),
                    });
                }
                entries[at].sources.push((number, series));
            }
            id += group.series;
        }
    }
    if !in_order {
        entries.sort_by(|a, b| {
            let key = |one: &Entry| one.labels.metric_name().map(str::to_owned);
            (&a.group, key(a), &a.labels).cmp(&(&b.group, key(b), &b.labels))
        });
    }
    entries
}

impl Inner {
    /// Merges blocks into one, and publishes it in their place.
    ///
    /// # Errors
    /// A source is damaged, or the block can't be written; the sources stay.
    pub(crate) fn merge(&self, blocks: &[Arc<Block>]) -> Result<(), BlockError> {
        self.rewrite(blocks, None).map(|_| ())
    }

    /// Merges blocks into one without what is to be deleted; returns how many samples were.
    ///
    /// # Errors
    /// See [`Self::merge`].
    pub(crate) fn rewrite(
        &self,
        blocks: &[Arc<Block>],
        deletion: Option<&Deletion>,
    ) -> Result<u64, BlockError> {
        let mut deleted = 0;
        let mut sources = Vec::with_capacity(blocks.len());
        for block in blocks {
            let loaded = block.load().inspect_err(|error| {
                if matches!(error, BlockError::Damaged(_)) {
                    self.blocks.quarantine(block);
                }
            })?;
            sources.push(Source {
                block: Arc::clone(block),
                loaded,
                held: VecDeque::new(),
            });
        }
        let keep = (self.retention_start_ms(self.clock.now_ms()), i64::MAX);
        let mut writer = BlockWriter::create(&self.blocks.directory, self.blocks.new_id())?;
        let mut samples = Samples::default();
        let mut group = None;
        for entry in union(&sources) {
            self.gather(&mut sources, &entry, &mut samples)?;
            samples.sort();
            samples.keep(keep);
            if let Some(deletion) = deletion
                && deletion.series.contains(&self.key().hash(&entry.labels))
            {
                deleted += samples.remove((deletion.first_ms, deletion.last_ms));
            }
            if samples.times_ms.is_empty() {
                continue;
            }
            if group.as_ref() != Some(&entry.group) {
                writer.group(&entry.group)?;
                group = Some(entry.group);
            }
            writer.push(&entry.labels, &mut samples)?;
        }
        let ids: Vec<u64> = blocks.iter().map(|block| block.id).collect();
        if writer.samples() == 0 {
            self.blocks.remove(&ids)?;
            return Ok(deleted);
        }
        let level = blocks.iter().map(|block| block.footer.level).max();
        let path = writer.finish(level.unwrap_or(0) + 1, &ids)?;
        self.blocks.publish(&[path], &ids, None)?;
        Ok(deleted)
    }

    /// Reads the samples of a series from all sources. A damaged chunk is left out; its block is kept aside.
    fn gather(
        &self,
        sources: &mut [Source],
        entry: &Entry,
        to: &mut Samples,
    ) -> Result<(), BlockError> {
        to.clear();
        let (mut scratch, mut floats) = (Vec::new(), Vec::new());
        for &(number, series) in &entry.sources {
            let source = &mut sources[number];
            let loaded = Arc::clone(&source.loaded);
            for (chunk, column) in loaded.chunks_of(series, i64::MIN, i64::MAX) {
                let chunk = match source.chunk(chunk) {
                    Ok(chunk) => chunk,
                    Err(BlockError::Damaged(_)) => {
                        self.blocks.keep_damaged(&source.block)?;
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                floats.clear();
                chunk.samples(column, &mut scratch, &mut to.times_ms, &mut floats);
                to.bits
                    .extend(floats.iter().map(|value: &f64| value.to_bits()));
            }
        }
        Ok(())
    }

    /// Merges until every span has one block.
    ///
    /// # Errors
    /// See [`Self::merge`].
    pub(crate) fn merge_all(&self) -> Result<(), BlockError> {
        loop {
            let blocks = self.blocks.all();
            let spans = by_span(&blocks, SPANS_MS[1]);
            let Some(list) = spans.into_iter().find(|list| list.len() > 1) else {
                return Ok(());
            };
            self.merge(&list)?;
        }
    }
}
