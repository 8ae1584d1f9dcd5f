//! The frame of collectors that read one kernel file with one item per line: a CPU, a field, a device.
//!
//! [`PerLine`] keeps the file open and the series of each item. While the file lists the same items, a tick costs one
//! comparison per line and allocates nothing.

use std::path::PathBuf;

use super::Roots;
use crate::collect::{CollectContext, Collector, Outcome};
use crate::file::KeptFile;
use crate::ordered_cache::OrderedCache;
use crate::parse;
use crate::read_errors::ReadErrors;
use crate::schema::Schema;
use crate::table::{SeriesId, SeriesTable};

/// What a line holds.
#[derive(Debug, PartialEq)]
pub enum Line<'a, V> {
    /// The value of the item with this key.
    Item(&'a [u8], V),
    /// A header, a sum, or another line without an item.
    Skip,
    /// No item follows this line.
    End,
    /// Not what the kernel documents; counted as a read error.
    Malformed,
}

impl<'a, V> Line<'a, V> {
    /// [`Self::Malformed`] for `None`.
    pub fn parsed(item: Option<(&'a [u8], V)>) -> Self {
        match item {
            Some((key, value)) => Self::Item(key, value),
            None => Self::Malformed,
        }
    }
}

/// A file of items, and the series of each.
pub trait LineFormat: Send + 'static {
    /// What a line says about its item.
    type Value;
    /// The series of an item.
    type Series: RemoveSeries + Send;

    /// The name under which read errors of the file are counted.
    const NAME: &'static str;

    /// Where the file is.
    fn path(roots: &Roots) -> PathBuf;

    /// Reads one line.
    fn parse(line: &[u8]) -> Line<'_, Self::Value>;

    /// Adds the series of an item that is new.
    fn add(key: &str, value: &Self::Value, target: (&mut SeriesTable, &mut Schema))
    -> Self::Series;

    /// Prepares an item for the next pass over the file.
    fn begin(_series: &mut Self::Series) {}

    /// Stores the value of an item.
    fn store(series: &mut Self::Series, value: Self::Value, table: &mut SeriesTable);
}

/// Series that can be removed together.
pub trait RemoveSeries {
    /// Removes all of them from `table`.
    fn remove(self, table: &mut SeriesTable);
}

impl RemoveSeries for SeriesId {
    fn remove(self, table: &mut SeriesTable) {
        table.remove(self);
    }
}

impl<T: RemoveSeries> RemoveSeries for Option<T> {
    fn remove(self, table: &mut SeriesTable) {
        if let Some(series) = self {
            series.remove(table);
        }
    }
}

impl<const N: usize> RemoveSeries for [SeriesId; N] {
    fn remove(self, table: &mut SeriesTable) {
        self.into_iter().for_each(|series| table.remove(series));
    }
}

/// Collects a file in the format `F`.
#[derive(Debug)]
pub struct PerLine<F: LineFormat> {
    file: KeptFile,
    items: OrderedCache<F::Series>,
}

impl<F: LineFormat> PerLine<F> {
    /// A collector of the file below `roots`.
    pub fn new(roots: &Roots, errors: &mut ReadErrors) -> Self {
        Self {
            file: KeptFile::new(F::path(roots), F::NAME, errors),
            items: OrderedCache::default(),
        }
    }
}

impl<F: LineFormat> Collector for PerLine<F> {
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        let Some(data) = self.file.read(context.buffer, context.errors) else {
            return Outcome::NoData;
        };
        let (table, schema) = (&mut *context.table, &mut *context.schema);
        self.items.begin();
        self.items.values_mut().for_each(F::begin);
        for line in parse::lines(data) {
            let (key, value) = match F::parse(line) {
                Line::Item(key, value) => (key, value),
                Line::Skip => continue,
                Line::End => break,
                Line::Malformed => {
                    context.errors.parse(self.file.error_id());
                    continue;
                }
            };
            let series = self.items.entry(key, |key| {
                F::add(&parse::text(key), &value, (&mut *table, &mut *schema))
            });
            F::store(series, value, table);
        }
        self.items.end(|series| series.remove(table));
        if self.items.is_empty() {
            Outcome::NoData
        } else {
            Outcome::Done
        }
    }
}
