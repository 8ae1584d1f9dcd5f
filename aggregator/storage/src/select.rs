//! Selections: series of the head and of blocks, read column by column.
//!
//! Each part (the head, each block) resolves the matchers in its own index. Series of several parts are matched by their
//! hash, not by their labels.

mod assemble;
mod grouping;
mod head_batch;

use std::ops::Range;
use std::sync::Arc;

use common::model::Labels;
use common::report::chain;
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use crate::block::Block;
use crate::block::reader::{BlockError, Loaded};
use crate::codec::Chunk;
use crate::head::Head;
use crate::index::resolve::Prepared;
use crate::index::view::{PostingsRef, SeriesIndex as _};
use crate::index::{ColumnRef, Index, SeriesId};
use crate::read::{Grouping, Groups, ReadControl, ReadError, Selection, SeriesSet, Visit};
use crate::series_hash::SeriesHash;
use crate::sync::{Rank, RankedMutex, lock, read};
use assemble::{Assembler, Data, Segment};
use grouping::Grouper;
use head_batch::HeadBatch;

/// The part does not have the series.
const ABSENT: u32 = u32::MAX;
/// The number of series whose samples are copied from the head at once.
const BATCH: usize = 64;
/// The number of chunks of a block that a reader keeps.
const HELD_CHUNKS: usize = 16;
/// The number of warnings that are reported individually.
const WARNINGS_MAX: usize = 16;

/// A block of a selection.
struct BlockPart {
    block: Arc<Block>,
    loaded: Arc<Loaded>,
    /// The id in the block of each series of the set, or [`ABSENT`].
    local: Vec<u32>,
}

/// The series that matched.
pub(crate) struct Set {
    head: Arc<Head>,
    blocks: Vec<BlockPart>,
    /// The id in the head of each series of the set, or [`ABSENT`].
    in_head: Vec<u32>,
    /// The column of the head with samples of a series.
    places: Vec<Option<ColumnRef>>,
    /// The other columns of series that moved between groups.
    moved: HashMap<u32, Vec<ColumnRef>, FxBuildHasher>,
    start_ms: i64,
    end_ms: i64,
    warnings: RankedMutex<Vec<String>>,
    /// Samples that were frozen up to this seal are in the blocks.
    sealed: u64,
    /// Keeps samples in the head that are sealed while this set exists.
    _guard: Arc<ReaderGuard>,
}

/// Held by each set; see [`crate::seal`].
#[derive(Debug, Default)]
pub(crate) struct ReaderGuard;

/// The parts that a selection may touch.
pub(crate) struct Parts {
    pub(crate) head: Arc<Head>,
    pub(crate) blocks: Vec<Arc<Block>>,
    pub(crate) warnings: Vec<String>,
    /// Samples that were frozen up to this seal are in `blocks`.
    pub(crate) sealed: u64,
    pub(crate) guard: Arc<ReaderGuard>,
}

/// Series of the head that have samples in the range.
struct HeadMatch {
    series: Vec<(SeriesId, ColumnRef)>,
    moved: HashMap<u32, Vec<ColumnRef>, FxBuildHasher>,
}

/// Resolves in the head. Drops series without samples in the range, one group at a time.
fn match_head(
    head: &Head,
    index: &Index,
    ids: PostingsRef<'_>,
    selection: &Selection,
) -> HeadMatch {
    let mut overlapping: HashMap<u32, bool, FxBuildHasher> = HashMap::default();
    let mut overlaps = |place: &ColumnRef| {
        *overlapping.entry(place.group).or_insert_with(|| {
            head.group(place.group).is_some_and(|group| {
                lock(&group.data).overlaps(selection.start_ms, selection.end_ms)
            })
        })
    };
    let mut found = HeadMatch {
        series: Vec::with_capacity(ids.len() as usize),
        moved: HashMap::default(),
    };
    for id in ids.iter() {
        let id = SeriesId(id);
        let mut places = index.places(id).filter(&mut overlaps);
        let Some(first) = places.next() else {
            continue;
        };
        found.series.push((id, first));
        let more: Vec<ColumnRef> = places.collect();
        if !more.is_empty() {
            found.moved.insert(id.0, more);
        }
    }
    found.series.sort_unstable_by_key(|&(_, place)| place);
    found
}

impl Set {
    /// Resolves a selection.
    ///
    /// # Errors
    /// The control's bounds, or an index can't be read.
    pub(crate) fn new(
        parts: Parts,
        selection: &Selection,
        control: &ReadControl,
    ) -> Result<Self, ReadError> {
        let prepared = Prepared::new(&selection.matchers);
        let mut warnings = parts.warnings;
        let mut blocks = Vec::with_capacity(parts.blocks.len());
        for block in parts.blocks {
            control.check()?;
            match block.load() {
                Ok(loaded) => {
                    let ids = prepared.resolve(&loaded.index, control)?;
                    if !ids.is_empty() {
                        let ids = ids.into_ids();
                        blocks.push((block, loaded, ids));
                    }
                }
                Err(BlockError::Read(error)) => return Err(error.into()),
                Err(error) => warnings.push(damage(&block, &error)),
            }
        }
        let head = parts.head;
        let mut set = Self {
            blocks: Vec::with_capacity(blocks.len()),
            in_head: Vec::new(),
            places: Vec::new(),
            moved: HashMap::default(),
            start_ms: selection.start_ms,
            end_ms: selection.end_ms,
            warnings: RankedMutex::new(Rank::Warnings, warnings),
            sealed: parts.sealed,
            _guard: parts.guard,
            head: Arc::clone(&head),
        };
        {
            let index = read(&head.index);
            let ids = prepared.resolve(&*index, control)?;
            let found = match_head(&head, &index, ids.view(), selection);
            set.join(&index, found, blocks);
        }
        control.check_series(set.in_head.len() as u64)?;
        Ok(set)
    }

    /// Numbers the series in the order of the block with the most of them, where adjacent series share chunks. The other
    /// series follow.
    fn join(
        &mut self,
        index: &Index,
        found: HeadMatch,
        mut blocks: Vec<(Arc<Block>, Arc<Loaded>, Vec<u32>)>,
    ) {
        blocks.sort_by_key(|(_, _, ids)| std::cmp::Reverse(ids.len()));
        self.moved = found.moved;
        if blocks.is_empty() {
            self.in_head = found.series.iter().map(|(id, _)| id.0).collect();
            self.places = found.series.iter().map(|&(_, place)| Some(place)).collect();
            return;
        }
        if found.series.is_empty()
            && let [(block, loaded, ids)] = &mut blocks[..]
        {
            self.in_head = vec![ABSENT; ids.len()];
            self.places = vec![None; ids.len()];
            self.blocks.push(BlockPart {
                block: Arc::clone(block),
                loaded: Arc::clone(loaded),
                local: std::mem::take(ids),
            });
            return;
        }
        let mut numbers = Numbers::default();
        for (block, loaded, ids) in blocks {
            let mut local = vec![ABSENT; numbers.len()];
            for id in ids {
                let number = numbers.number(loaded.index.hash(SeriesId(id)));
                if number == local.len() {
                    local.push(id);
                } else {
                    local[number] = id;
                }
            }
            self.blocks.push(BlockPart {
                block,
                loaded,
                local,
            });
        }
        self.in_head = vec![ABSENT; numbers.len()];
        self.places = vec![None; numbers.len()];
        for (id, place) in found.series {
            let number = numbers.number(index.hash(id));
            if number == self.in_head.len() {
                self.in_head.push(id.0);
                self.places.push(Some(place));
            } else {
                self.in_head[number] = id.0;
                self.places[number] = Some(place);
            }
        }
        self.in_head.resize(numbers.len(), ABSENT);
        self.places.resize(numbers.len(), None);
        for part in &mut self.blocks {
            part.local.resize(numbers.len(), ABSENT);
        }
        self.blocks.sort_by_key(|part| part.block.footer.first_ms);
    }

    fn read_with(
        &self,
        range: Range<usize>,
        control: &ReadControl,
        visit: &mut Visit<'_>,
        newest_only: bool,
    ) -> Result<(), ReadError> {
        let mut reader = Reader {
            set: self,
            batch: HeadBatch::new(newest_only),
            assembler: Assembler::new(self.start_ms, self.end_ms),
            held: vec![Vec::new(); self.blocks.len()],
        };
        let mut at = range.start;
        while at < range.end {
            let group = self.places[at].map(|place| place.group);
            let limit = range.end.min(at + BATCH);
            let run = self.places[at..limit]
                .iter()
                .take_while(|place| place.map(|place| place.group) == group)
                .count();
            let end = at + run;
            reader.load_batch(at..end);
            for index in at..end {
                reader.read_one(index, index - at, control, visit)?;
            }
            at = end;
        }
        Ok(())
    }

    fn warn(&self, text: String) {
        let mut warnings = lock(&self.warnings);
        if warnings.len() < WARNINGS_MAX && !warnings.contains(&text) {
            warnings.push(text);
        }
    }
}

fn damage(block: &Block, error: &BlockError) -> String {
    let name = block.path.file_name().unwrap_or_default().to_string_lossy();
    format!("block {name}: {}; its samples are skipped", chain(error))
}

/// Assigns numbers to the series of a set, by hash.
#[derive(Default)]
struct Numbers {
    known: HashMap<SeriesHash, u32, FxBuildHasher>,
}

impl Numbers {
    fn len(&self) -> usize {
        self.known.len()
    }

    fn number(&mut self, hash: SeriesHash) -> usize {
        let next = self.known.len() as u32;
        *self.known.entry(hash).or_insert(next) as usize
    }
}

impl SeriesSet for Set {
    fn len(&self) -> usize {
        self.in_head.len()
    }

    fn labels(&self, index: usize) -> Labels {
        for part in &self.blocks {
            let local = part.local[index];
            if local != ABSENT {
                return part.loaded.index.labels(SeriesId(local));
            }
        }
        match self.in_head[index] {
            ABSENT => Labels::empty(),
            id => read(&self.head.index).labels(SeriesId(id)),
        }
    }

    fn may_have_label(&self, name: &str) -> bool {
        let has = |index: &dyn crate::index::view::SeriesIndex| {
            let symbol = index.find_symbol(name);
            symbol.is_some_and(|symbol| index.values_len(symbol) > 0)
        };
        self.blocks.iter().any(|part| has(&part.loaded.index)) || has(&*read(&self.head.index))
    }

    fn group(&self, grouping: Grouping<'_>) -> Groups {
        let mut grouper = Grouper::new(self.len(), grouping);
        for part in &self.blocks {
            grouper.add(&part.loaded.index, &part.local);
        }
        grouper.add(&*read(&self.head.index), &self.in_head);
        grouper.finish()
    }

    fn read(
        &self,
        range: Range<usize>,
        control: &ReadControl,
        visit: &mut Visit<'_>,
    ) -> Result<(), ReadError> {
        self.read_with(range, control, visit, false)
    }

    fn read_newest(
        &self,
        range: Range<usize>,
        control: &ReadControl,
        visit: &mut Visit<'_>,
    ) -> Result<(), ReadError> {
        self.read_with(range, control, visit, true)
    }

    fn warnings(&self) -> Vec<String> {
        lock(&self.warnings).clone()
    }
}

/// Chunks of one block that a reader keeps, by their numbers.
type Held = Vec<(u32, Option<Arc<Chunk>>)>;

/// Reads series one after another.
struct Reader<'s> {
    set: &'s Set,
    batch: HeadBatch,
    assembler: Assembler,
    held: Vec<Held>,
}

impl Reader<'_> {
    fn load_batch(&mut self, range: Range<usize>) {
        let places = &self.set.places[range];
        let group = places.first().copied().flatten();
        match group.and_then(|place| self.set.head.group(place.group)) {
            Some(group) => {
                let columns = places.iter().flatten().map(|place| place.column);
                let range = (self.set.start_ms, self.set.end_ms);
                self.batch.load(&group, columns, range, self.set.sealed);
            }
            None => self.batch.clear(),
        }
    }

    fn read_one(
        &mut self,
        index: usize,
        offset: usize,
        control: &ReadControl,
        visit: &mut Visit<'_>,
    ) -> Result<(), ReadError> {
        self.assembler.begin();
        for part in 0..self.set.blocks.len() {
            self.add_block(part, index)?;
        }
        if self.set.places[index].is_some() {
            self.batch.add_segments(offset, &mut self.assembler);
            if let Some(more) = self.set.moved.get(&self.set.in_head[index]) {
                for &place in more {
                    self.add_other_place(place);
                }
            }
        }
        let column = self.assembler.assemble(control)?;
        if column.timestamps_ms.is_empty() {
            return Ok(());
        }
        visit(index, column)
    }

    fn add_other_place(&mut self, place: ColumnRef) {
        if let Some(group) = self.set.head.group(place.group) {
            let mut batch = HeadBatch::default();
            let column = std::iter::once(place.column);
            let range = (self.set.start_ms, self.set.end_ms);
            batch.load(&group, column, range, self.set.sealed);
            batch.add_segments(0, &mut self.assembler);
        }
    }

    fn add_block(&mut self, part: usize, index: usize) -> Result<(), ReadError> {
        let set = self.set;
        let BlockPart {
            block,
            loaded,
            local,
        } = &set.blocks[part];
        let series = local[index];
        if series == ABSENT {
            return Ok(());
        }
        for (number, column) in loaded.chunks_of(SeriesId(series), set.start_ms, set.end_ms) {
            let held = &mut self.held[part];
            let chunk = match held.iter().find(|(other, _)| *other == number) {
                Some((_, chunk)) => chunk.clone(),
                None => {
                    let chunk = match block.chunk(loaded, number, true) {
                        Ok(chunk) => Some(chunk),
                        Err(BlockError::Read(error)) => return Err(error.into()),
                        Err(error) => {
                            set.warn(damage(block, &error));
                            None
                        }
                    };
                    if held.len() == HELD_CHUNKS {
                        held.remove(0);
                    }
                    held.push((number, chunk.clone()));
                    chunk
                }
            };
            if let Some(chunk) = chunk {
                self.assembler.add(Segment::of_chunk(chunk, column));
            }
        }
        Ok(())
    }
}

/// Segments from other modules.
impl Segment {
    fn of_chunk(chunk: Arc<Chunk>, column: usize) -> Self {
        Self::new(Data::Chunk(chunk, column))
    }
}
