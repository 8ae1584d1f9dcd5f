//! The index of the head: labels by series id, ids by labels, and the postings of each label.
//!
//! A series is its *shape* (the names of its labels, shared by all series that have the same ones) and one symbol
//! for each value. Queries work on these numbers, and build label text only for results.
//!
//! **Invariant:** the id of a removed series is reused only after the last reader that may have it is gone. Until then,
//! its labels stay readable.

mod bulk;
pub(crate) mod found;
pub(crate) mod literals;
pub(crate) mod postings;
pub(crate) mod resolve;
pub(crate) mod view;

use hashbrown::{HashMap, HashTable};
use rustc_hash::FxBuildHasher;

use common::model::Labels;
use roaring::RoaringBitmap;

use crate::series_hash::SeriesHash;
use crate::symbols::{Symbol, Symbols};
use postings::Postings;
use view::{PostingsRef, SeriesIndex};

/// A series in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SeriesId(pub(crate) u32);

/// A column of a group in the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ColumnRef {
    /// Index into the head's groups.
    pub(crate) group: u32,
    /// Index into the group's columns.
    pub(crate) column: u32,
}

/// The label names of a series, in ascending order.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) names: Box<[Symbol]>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: SeriesHash,
    /// Where its values begin in `Index::values`. There are as many as the shape has names.
    values: u32,
    shape: u32,
    place: Option<ColumnRef>,
    /// The log has a definition of the column.
    logged: bool,
}

/// The series with each value of one label name.
type Values = HashMap<Symbol, Postings, FxBuildHasher>;

/// Why a series could not be added: the interned text or the values reached 32-bit limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("index is full")]
pub(crate) struct IndexFull;

/// The index of the head.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) symbols: Symbols,
    shapes: Vec<Shape>,
    shape_of: HashMap<Box<[Symbol]>, u32, FxBuildHasher>,
    values: Vec<Symbol>,
    series: Vec<Entry>,
    by_hash: HashTable<u32>,
    names: HashMap<Symbol, Values, FxBuildHasher>,
    /// `names` is built later, by [`Index::build_postings`].
    postings_deferred: bool,
    /// Numbers without a series: removed, and perhaps free again.
    dead: RoaringBitmap,
    /// Ids that can be reused.
    free: Vec<SeriesId>,
    /// Series removed since the symbols were last rebuilt.
    removed: usize,
    /// Counts how often the column for a series' new samples changed.
    generation: u64,
    /// Earlier columns of series that moved from one group to another.
    more_places: HashMap<u32, Vec<ColumnRef>, FxBuildHasher>,
}

impl Index {
    /// Number of series.
    pub(crate) fn len(&self) -> usize {
        self.series.len() - self.dead.len() as usize
    }

    /// The series with that identity.
    pub(crate) fn find(&self, hash: SeriesHash) -> Option<SeriesId> {
        self.by_hash
            .find(hash.bucket(), |&id| self.series[id as usize].hash == hash)
            .copied()
            .map(SeriesId)
    }

    /// Adds a series that [`Self::find`] does not find.
    pub(crate) fn add(&mut self, hash: SeriesHash, labels: &Labels) -> Result<SeriesId, IndexFull> {
        debug_assert!(self.find(hash).is_none(), "a series is added once");
        let mut names = Vec::with_capacity(16);
        let mut symbols = Vec::with_capacity(16);
        for (name, value) in labels {
            names.push(self.symbols.intern(name).ok_or(IndexFull)?);
            symbols.push(self.symbols.intern(value).ok_or(IndexFull)?);
        }
        let shape = self.shape(&names);
        let id = self.place_entry(hash, shape, &symbols)?;
        if !self.postings_deferred {
            for (&name, &value) in names.iter().zip(&symbols) {
                let values = self.names.entry(name).or_default();
                values.entry(value).or_default().insert(id);
            }
        }
        self.insert_hash(hash, id);
        Ok(SeriesId(id))
    }

    fn insert_hash(&mut self, hash: SeriesHash, id: u32) {
        let series = &self.series;
        self.by_hash.insert_unique(hash.bucket(), id, |&other| {
            series[other as usize].hash.bucket()
        });
    }

    /// Writes the entry of a new series, reusing that of a removed one if possible.
    fn place_entry(
        &mut self,
        hash: SeriesHash,
        shape: u32,
        symbols: &[Symbol],
    ) -> Result<u32, IndexFull> {
        let reused = self.free.pop();
        let before = reused.map(|id| self.series[id.0 as usize]);
        let room =
            before.filter(|old| self.shapes[old.shape as usize].names.len() == symbols.len());
        let values = match room {
            Some(old) => {
                let start = old.values as usize;
                self.values[start..start + symbols.len()].copy_from_slice(symbols);
                old.values
            }
            None => {
                let start = u32::try_from(self.values.len()).map_err(|_| IndexFull)?;
                self.values.extend_from_slice(symbols);
                start
            }
        };
        let entry = Entry {
            hash,
            values,
            shape,
            place: None,
            logged: false,
        };
        if let Some(SeriesId(id)) = reused {
            self.series[id as usize] = entry;
            self.dead.remove(id);
            return Ok(id);
        }
        let id = u32::try_from(self.series.len()).map_err(|_| IndexFull)?;
        self.series.push(entry);
        Ok(id)
    }

    /// Removes a series. Look-ups no longer find it, but readers that have its id can still read its labels.
    pub(crate) fn remove(&mut self, id: SeriesId) {
        let hash = self.series[id.0 as usize].hash;
        if let Ok(entry) = self
            .by_hash
            .find_entry(hash.bucket(), |&other| other == id.0)
        {
            entry.remove();
        }
        let shape = self.shape_number(id) as usize;
        let names = self.shapes[shape].names.clone();
        let values = self.values(id).to_vec();
        for (name, value) in names.iter().zip(values) {
            if let Some(by_value) = self.names.get_mut(name)
                && let Some(postings) = by_value.get_mut(&value)
                && postings.remove(id.0)
            {
                by_value.remove(&value);
                if by_value.is_empty() {
                    self.names.remove(name);
                }
            }
        }
        self.series[id.0 as usize].place = None;
        self.more_places.remove(&id.0);
        self.dead.insert(id.0);
        self.generation += 1;
        self.removed += 1;
    }

    /// Makes the ids of removed series reusable. No reader may have them.
    pub(crate) fn free(&mut self, ids: &[SeriesId]) {
        self.free.extend_from_slice(ids);
        if self.removed > 1024 && self.removed > self.len() / 4 {
            self.renew_symbols();
        }
    }

    /// Rebuilds the symbols from those in use.
    fn renew_symbols(&mut self) {
        let old = std::mem::take(&mut self.symbols);
        let mut renewed: HashMap<Symbol, Symbol, FxBuildHasher> = HashMap::default();
        let symbols = &mut self.symbols;
        let mut renew = |symbol: Symbol| {
            *renewed.entry(symbol).or_insert_with(|| {
                // There are fewer strings than before, so they fit.
                symbols.intern(old.text(symbol)).unwrap_or(symbol)
            })
        };
        for shape in &mut self.shapes {
            shape.names = shape.names.iter().map(|&name| renew(name)).collect();
        }
        let free: RoaringBitmap = self.free.iter().map(|id| id.0).collect();
        for (id, entry) in (0..).zip(&self.series) {
            if !free.contains(id) {
                let start = entry.values as usize;
                let count = self.shapes[entry.shape as usize].names.len();
                for value in &mut self.values[start..start + count] {
                    *value = renew(*value);
                }
            }
        }
        let names = std::mem::take(&mut self.names);
        for (name, values) in names {
            let values = values.into_iter().map(|(value, own)| (renew(value), own));
            let values: Values = values.collect();
            self.names.insert(renew(name), values);
        }
        let shapes = self.shapes.iter().map(|shape| shape.names.clone());
        self.shape_of = shapes.zip(0..).collect();
        self.removed = 0;
    }

    pub(crate) fn shape(&mut self, names: &[Symbol]) -> u32 {
        if let Some(&shape) = self.shape_of.get(names) {
            return shape;
        }
        let number = self.shapes.len() as u32;
        let names: Box<[Symbol]> = names.into();
        self.shapes.push(Shape {
            names: names.clone(),
        });
        self.shape_of.insert(names, number);
        number
    }

    /// Returns the column for new samples of the series.
    pub(crate) fn place(&self, id: SeriesId) -> Option<ColumnRef> {
        self.series[id.0 as usize].place
    }

    /// Returns the columns with samples of the series: [`Self::place`] first, then earlier ones.
    pub(crate) fn places(&self, id: SeriesId) -> impl Iterator<Item = ColumnRef> {
        let more = self.more_places.get(&id.0).into_iter().flatten().copied();
        self.place(id).into_iter().chain(more)
    }

    /// Returns a number that changes whenever an earlier result of [`Self::place`] may be outdated.
    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Reports whether any series has earlier columns.
    pub(crate) fn has_moved(&self) -> bool {
        !self.more_places.is_empty()
    }

    /// Returns the columns of the series before it moved to [`Self::place`].
    pub(crate) fn former_places(&self, id: SeriesId) -> impl Iterator<Item = ColumnRef> {
        self.more_places.get(&id.0).into_iter().flatten().copied()
    }

    /// Directs new samples of the series to `place`, and remembers the earlier column.
    pub(crate) fn set_place(&mut self, id: SeriesId, place: ColumnRef) {
        let entry = &mut self.series[id.0 as usize];
        entry.logged = false;
        if let Some(before) = entry.place.replace(place)
            && before != place
        {
            self.generation += 1;
            let more = self.more_places.entry(id.0).or_default();
            more.retain(|&other| other != place && other != before);
            more.push(before);
        }
    }

    /// All label names.
    pub(crate) fn label_symbols(&self) -> impl Iterator<Item = Symbol> {
        self.names.keys().copied()
    }

    /// Forgets an earlier column of a series.
    pub(crate) fn forget_place(&mut self, id: SeriesId, place: ColumnRef) {
        if let Some(list) = self.more_places.get_mut(&id.0) {
            list.retain(|&other| other != place);
            if list.is_empty() {
                self.more_places.remove(&id.0);
            }
        }
    }

    /// Reports whether the log defines [`Self::place`]. A caller that stores a sample there must define it first.
    pub(crate) fn is_logged(&self, id: SeriesId) -> bool {
        self.series[id.0 as usize].logged
    }

    /// Records that the log defines the column of a series, if that is still `place`.
    pub(crate) fn set_logged(&mut self, id: SeriesId, place: ColumnRef) {
        let entry = &mut self.series[id.0 as usize];
        entry.logged |= entry.place == Some(place);
    }

    /// The series that moved from one group to another.
    pub(crate) fn moved(&self) -> impl Iterator<Item = SeriesId> {
        self.more_places.keys().copied().map(SeriesId)
    }

    /// Returns the approximate memory in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let postings: usize = self
            .names
            .values()
            .flat_map(HashMap::values)
            .map(|postings| postings.memory_bytes() + 48)
            .sum();
        self.symbols.memory_bytes()
            + self.values.capacity() * size_of::<Symbol>()
            + self.series.capacity() * size_of::<Entry>()
            + self.by_hash.capacity() * 5
            + postings
    }
}

impl SeriesIndex for Index {
    fn find_symbol(&self, text: &str) -> Option<Symbol> {
        self.symbols.find(text)
    }

    fn text(&self, symbol: Symbol) -> &str {
        self.symbols.text(symbol)
    }

    fn shapes(&self) -> &[Shape] {
        &self.shapes
    }

    fn shape_number(&self, id: SeriesId) -> u32 {
        self.series[id.0 as usize].shape
    }

    fn values(&self, id: SeriesId) -> &[Symbol] {
        let entry = &self.series[id.0 as usize];
        let start = entry.values as usize;
        &self.values[start..start + self.shapes[entry.shape as usize].names.len()]
    }

    fn hash(&self, id: SeriesId) -> SeriesHash {
        self.series[id.0 as usize].hash
    }

    fn all(&self) -> RoaringBitmap {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..self.series.len() as u32);
        all - &self.dead
    }

    fn postings(&self, name: Symbol, value: Symbol) -> Option<PostingsRef<'_>> {
        Some(self.names.get(&name)?.get(&value)?.view())
    }

    fn values_len(&self, name: Symbol) -> usize {
        self.names.get(&name).map_or(0, HashMap::len)
    }

    fn each_value(
        &self,
        name: Symbol,
        prefix: &str,
        visit: &mut dyn FnMut(Symbol, PostingsRef<'_>),
    ) {
        for (&value, postings) in self.names.get(&name).into_iter().flatten() {
            if self.symbols.text(value).starts_with(prefix) {
                visit(value, postings.view());
            }
        }
    }
}

#[cfg(test)]
mod tests;
