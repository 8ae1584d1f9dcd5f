//! The index of a block in memory.
//!
//! The file has the sorted symbols, and each series as differences from the previous one. The postings of a label name
//! and the hashes of the series are built at their first use, with a counting sort.
//!
//! ```text
//! symbols: count varint, { bytes shared with the one before varint, rest str }*
//! series:  shapes varint, { names varint, symbol varint* }*
//!          groups varint, { key str, series varint }*
//!          { shape varint, { value difference zigzag varint }* }*
//! ```

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::model::Labels;
use roaring::RoaringBitmap;

use crate::bytes::{Malformed, Reader, put_bytes, put_varint, zigzag};
use crate::index::view::{PostingsRef, SeriesIndex};
use crate::index::{SeriesId, Shape};
use crate::series_hash::{HashKey, SeriesHash};
use crate::symbols::Symbol;
use hashbrown::{HashMap, HashTable};
use rustc_hash::FxBuildHasher;

/// The values of one label name in ascending order, and where the series of each value begin in the ids.
#[derive(Debug, Default)]
struct LabelName {
    values: Vec<Symbol>,
    /// One more entry than values.
    starts: Vec<u32>,
    ids: Vec<u32>,
}

/// A group of series in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockGroup {
    pub(crate) key: String,
    pub(crate) series: u32,
}

/// The series of a block. Symbols are numbered in the order of their text.
#[derive(Debug, Default)]
pub(crate) struct BlockIndex {
    text: String,
    ends: Vec<u32>,
    shapes: Vec<Shape>,
    pub(crate) groups: Vec<BlockGroup>,
    shape_of: Vec<u32>,
    /// Where the values of each series begin. Has one more entry than there are series.
    starts: Vec<u32>,
    values: Vec<Symbol>,
    key: Option<HashKey>,
    hashes: OnceLock<Vec<SeriesHash>>,
    /// Hashes that were computed one by one.
    hashes_asked: AtomicUsize,
    by_hash: OnceLock<HashTable<u32>>,
    names: HashMap<Symbol, OnceLock<LabelName>, FxBuildHasher>,
}

impl BlockIndex {
    /// Number of series.
    pub(crate) fn len(&self) -> usize {
        self.shape_of.len()
    }

    /// Reads an index whose symbols have at most `text_bytes_max` bytes in total. Shared prefixes are stored once, so the
    /// length of the section is not a limit.
    ///
    /// # Errors
    /// The sections do not fit together, or there is more text.
    pub(crate) fn read(
        (series, symbols): (&[u8], &[u8]),
        count: u32,
        text_bytes_max: u64,
        key: &HashKey,
    ) -> Result<Self, Malformed> {
        let mut index = Self::default();
        index.read_symbols(&mut Reader::new(symbols), text_bytes_max)?;
        let mut reader = Reader::new(series);
        index.read_shapes(&mut reader)?;
        index.read_groups(&mut reader)?;
        index.read_series(&mut reader, count)?;
        let names = index.shapes.iter().flat_map(|shape| shape.names.iter());
        index.names = names.map(|&name| (name, OnceLock::new())).collect();
        index.key = Some(*key);
        Ok(index)
    }

    fn read_symbols(
        &mut self,
        reader: &mut Reader<'_>,
        text_bytes_max: u64,
    ) -> Result<(), Malformed> {
        let count = reader.count(2)?;
        self.ends = Vec::with_capacity(count);
        let mut last: Vec<u8> = Vec::new();
        for index in 0..count {
            let shared = usize::try_from(reader.varint()?).map_err(|_| Malformed)?;
            let rest = reader.bytes()?;
            // Ascending: after the shared prefix, this symbol is greater.
            let before = last.get(shared..).ok_or(Malformed)?;
            if index > 0 && rest <= before {
                return Err(Malformed);
            }
            last.truncate(shared);
            last.extend_from_slice(rest);
            if (self.text.len() + last.len()) as u64 > text_bytes_max {
                return Err(Malformed);
            }
            self.text
                .push_str(std::str::from_utf8(&last).map_err(|_| Malformed)?);
            let end = u32::try_from(self.text.len()).map_err(|_| Malformed)?;
            self.ends.push(end);
        }
        Ok(())
    }

    fn symbol(&self, number: u64) -> Result<Symbol, Malformed> {
        let number = u32::try_from(number).map_err(|_| Malformed)?;
        if (number as usize) < self.ends.len() {
            Ok(Symbol(number))
        } else {
            Err(Malformed)
        }
    }

    fn read_shapes(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        for _ in 0..reader.count(1)? {
            let names = reader.count(1)?;
            let mut list = Vec::with_capacity(names);
            for _ in 0..names {
                let name = self.symbol(reader.varint()?)?;
                // Symbols ascend with their text, and so do the names of a series.
                if list.last().is_some_and(|&last| last >= name) {
                    return Err(Malformed);
                }
                list.push(name);
            }
            self.shapes.push(Shape { names: list.into() });
        }
        Ok(())
    }

    fn read_groups(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        for _ in 0..reader.count(2)? {
            self.groups.push(BlockGroup {
                key: reader.str()?.to_owned(),
                series: reader.varint_u32()?,
            });
        }
        Ok(())
    }

    fn read_series(&mut self, reader: &mut Reader<'_>, count: u32) -> Result<(), Malformed> {
        if count as usize > reader.remaining() {
            return Err(Malformed);
        }
        self.shape_of = Vec::with_capacity(count as usize);
        self.starts = Vec::with_capacity(count as usize + 1);
        // The values of the last series of each shape.
        let mut last: Vec<Vec<i64>> = self
            .shapes
            .iter()
            .map(|shape| vec![0; shape.names.len()])
            .collect();
        for _ in 0..count {
            let shape = reader.varint_u32()?;
            let values = last.get_mut(shape as usize).ok_or(Malformed)?;
            self.shape_of.push(shape);
            self.starts.push(self.values.len() as u32);
            for value in values {
                *value = value.wrapping_add(reader.signed()?);
                let number = u32::try_from(*value).map_err(|_| Malformed)?;
                if number as usize >= self.ends.len() {
                    return Err(Malformed);
                }
                self.values.push(Symbol(number));
            }
        }
        self.starts
            .push(u32::try_from(self.values.len()).map_err(|_| Malformed)?);
        Ok(())
    }

    /// The values of a label name and their postings.
    fn name(&self, name: Symbol) -> Option<&LabelName> {
        let slot = self.names.get(&name)?;
        Some(slot.get_or_init(|| self.build_name(&self.positions(name))))
    }

    fn hashes(&self) -> &[SeriesHash] {
        self.hashes.get_or_init(|| {
            let Some(key) = &self.key else {
                return Vec::new();
            };
            let ids = (0..self.len() as u32).map(SeriesId);
            ids.map(|id| key.hash(&self.labels(id))).collect()
        })
    }

    fn build_name(&self, positions: &[Option<usize>]) -> LabelName {
        let mut counts = vec![0_u32; self.ends.len()];
        let value_of = |id: usize| {
            let at = positions[self.shape_of[id] as usize]?;
            Some(self.values[self.starts[id] as usize + at])
        };
        let mut used = Vec::new();
        for value in (0..self.len()).filter_map(value_of) {
            let count = &mut counts[value.0 as usize];
            if *count == 0 {
                used.push(value);
            }
            *count += 1;
        }
        used.sort_unstable();
        let mut starts = Vec::with_capacity(used.len() + 1);
        let mut next = 0;
        for value in &used {
            starts.push(next);
            let count = &mut counts[value.0 as usize];
            next += std::mem::replace(count, next);
        }
        starts.push(next);
        let mut ids = vec![0; next as usize];
        for id in 0..self.len() {
            if let Some(value) = value_of(id) {
                let at = &mut counts[value.0 as usize];
                ids[*at as usize] = id as u32;
                *at += 1;
            }
        }
        LabelName {
            values: used,
            starts,
            ids,
        }
    }

    /// The series with that identity.
    pub(crate) fn find(&self, hash: SeriesHash) -> Option<SeriesId> {
        let hashes = self.hashes();
        let by_hash = self.by_hash.get_or_init(|| {
            let mut table = HashTable::with_capacity(hashes.len());
            for (id, hash) in (0..).zip(hashes) {
                let rehash = |&other: &u32| hashes[other as usize].bucket();
                table.insert_unique(hash.bucket(), id, rehash);
            }
            table
        });
        by_hash
            .find(hash.bucket(), |&id| hashes[id as usize] == hash)
            .copied()
            .map(SeriesId)
    }

    /// Returns the approximate memory in bytes once everything has been built.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.text.len()
            + self.ends.len() * 4
            + self.values.len() * (4 + 4)
            + self.len() * (4 + 4 + 8 + size_of::<SeriesHash>())
    }
}

impl SeriesIndex for BlockIndex {
    fn find_symbol(&self, text: &str) -> Option<Symbol> {
        let at = self.lower_bound(text);
        let symbol = Symbol(at as u32);
        (at < self.ends.len() && self.text(symbol) == text).then_some(symbol)
    }

    fn text(&self, symbol: Symbol) -> &str {
        let index = symbol.0 as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.text
            .get(start as usize..self.ends[index] as usize)
            .unwrap_or_default()
    }

    fn shapes(&self) -> &[Shape] {
        &self.shapes
    }

    fn shape_number(&self, id: SeriesId) -> u32 {
        self.shape_of[id.0 as usize]
    }

    fn values(&self, id: SeriesId) -> &[Symbol] {
        let at = id.0 as usize;
        &self.values[self.starts[at] as usize..self.starts[at + 1] as usize]
    }

    fn hash(&self, id: SeriesId) -> SeriesHash {
        if let (None, Some(key)) = (self.hashes.get(), &self.key) {
            // Building the table of all hashes pays off once many were requested.
            let asked = self.hashes_asked.fetch_add(1, Ordering::Relaxed);
            if asked < self.len() / 4 {
                return key.hash(&self.labels(id));
            }
        }
        self.hashes()[id.0 as usize]
    }

    fn all(&self) -> RoaringBitmap {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..self.len() as u32);
        all
    }

    fn postings(&self, name: Symbol, value: Symbol) -> Option<PostingsRef<'_>> {
        let label = self.name(name)?;
        let at = label.values.binary_search(&value).ok()?;
        Some(label.postings(at))
    }

    fn values_len(&self, name: Symbol) -> usize {
        self.name(name).map_or(0, |label| label.values.len())
    }

    fn each_value(
        &self,
        name: Symbol,
        prefix: &str,
        visit: &mut dyn FnMut(Symbol, PostingsRef<'_>),
    ) {
        let Some(label) = self.name(name) else {
            return;
        };
        let first = Symbol(self.lower_bound(prefix) as u32);
        let start = label.values.partition_point(|&value| value < first);
        for (at, &value) in label.values.iter().enumerate().skip(start) {
            if !self.text(value).starts_with(prefix) {
                break;
            }
            visit(value, label.postings(at));
        }
    }
}

impl LabelName {
    fn postings(&self, at: usize) -> PostingsRef<'_> {
        PostingsRef::List(&self.ids[self.starts[at] as usize..self.starts[at + 1] as usize])
    }
}

impl BlockIndex {
    /// The number of symbols whose text is below `text`.
    fn lower_bound(&self, text: &str) -> usize {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.text(Symbol(middle as u32)) < text {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// Collects series in their final order, and writes the sections.
#[derive(Debug, Default)]
pub(crate) struct IndexWriter {
    symbols: crate::symbols::Symbols,
    shapes: Vec<Vec<Symbol>>,
    shape_of: HashMap<Vec<Symbol>, u32, FxBuildHasher>,
    groups: Vec<BlockGroup>,
    series: Vec<(u32, u32)>,
    values: Vec<Symbol>,
}

impl IndexWriter {
    /// Number of series so far.
    pub(crate) fn len(&self) -> u32 {
        self.series.len() as u32
    }

    /// Bytes of all symbols together.
    pub(crate) fn text_bytes(&self) -> u64 {
        self.symbols.text_bytes() as u64
    }

    /// Begins a group.
    pub(crate) fn group(&mut self, key: &str) {
        self.groups.push(BlockGroup {
            key: key.to_owned(),
            series: 0,
        });
    }

    /// Adds a series to the group begun last.
    ///
    /// # Errors
    /// The block is full: more than 32 bits of series or text.
    pub(crate) fn push(&mut self, labels: &Labels) -> Result<(), crate::index::IndexFull> {
        let full = crate::index::IndexFull;
        let start = u32::try_from(self.values.len()).map_err(|_| full)?;
        let mut names = Vec::with_capacity(16);
        for (name, value) in labels {
            names.push(self.symbols.intern(name).ok_or(full)?);
            self.values.push(self.symbols.intern(value).ok_or(full)?);
        }
        let shape = match self.shape_of.get(&names) {
            Some(&shape) => shape,
            None => {
                let shape = self.shapes.len() as u32;
                self.shapes.push(names.clone());
                self.shape_of.insert(names, shape);
                shape
            }
        };
        self.series.push((shape, start));
        if let Some(group) = self.groups.last_mut() {
            group.series += 1;
        }
        Ok(())
    }

    /// The sections of series and of symbols.
    pub(crate) fn finish(&self) -> (Vec<u8>, Vec<u8>) {
        let count = self.symbols.len() as u32;
        let mut order: Vec<Symbol> = (0..count).map(Symbol).collect();
        order.sort_unstable_by_key(|&symbol| self.symbols.text(symbol));
        let mut numbers = vec![0_u32; count as usize];
        let mut symbols = Vec::new();
        put_varint(&mut symbols, u64::from(count));
        let mut last = "";
        for (number, &symbol) in order.iter().enumerate() {
            numbers[symbol.0 as usize] = number as u32;
            let text = self.symbols.text(symbol);
            let shared = last
                .bytes()
                .zip(text.bytes())
                .take_while(|(a, b)| a == b)
                .count();
            put_varint(&mut symbols, shared as u64);
            put_bytes(&mut symbols, &text.as_bytes()[shared..]);
            last = text;
        }
        (self.series_section(&numbers), symbols)
    }

    fn series_section(&self, numbers: &[u32]) -> Vec<u8> {
        let mut to = Vec::new();
        put_varint(&mut to, self.shapes.len() as u64);
        for shape in &self.shapes {
            put_varint(&mut to, shape.len() as u64);
            for name in shape {
                put_varint(&mut to, u64::from(numbers[name.0 as usize]));
            }
        }
        put_varint(&mut to, self.groups.len() as u64);
        for group in &self.groups {
            put_bytes(&mut to, group.key.as_bytes());
            put_varint(&mut to, u64::from(group.series));
        }
        let mut last: Vec<Vec<i64>> = self
            .shapes
            .iter()
            .map(|shape| vec![0; shape.len()])
            .collect();
        for &(shape, start) in &self.series {
            put_varint(&mut to, u64::from(shape));
            let before = &mut last[shape as usize];
            let values = self.values[start as usize..].iter().take(before.len());
            for (value, before) in values.zip(before.iter_mut()) {
                let number = i64::from(numbers[value.0 as usize]);
                put_varint(&mut to, zigzag(number - *before));
                *before = number;
            }
        }
        to
    }
}
