//! The series that one rule writes. Each has a column number that stays the same across evaluations.

use std::collections::HashMap;

use common::model::{Labels, STALE_NAN};
use rustc_hash::FxBuildHasher;
use tracing::warn;

use super::source::{Refused, Sink, Source};

/// Writes the results of one rule to the store and tracks the series written.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// The sink, opened with the first series.
    sink: Option<Box<dyn Sink>>,
    columns: HashMap<Labels, u32, FxBuildHasher>,
    free: Vec<u32>,
    /// The columns of the last row in ascending order. A series is marked stale when its column is missing from the
    /// next row.
    written: Vec<u32>,
    /// The current row. Reused to avoid allocations.
    row: Vec<(u32, f64)>,
}

impl Output {
    /// Returns the column of a series and defines it if necessary. Returns `None` if the store refuses the series.
    pub(super) fn column(
        &mut self,
        source: &dyn Source,
        rule: &str,
        labels: &Labels,
    ) -> Option<u32> {
        if let Some(&column) = self.columns.get(labels) {
            return Some(column);
        }
        let sink = self.sink.get_or_insert_with(|| source.open(rule));
        let column = self.free.last().copied();
        let column = column.unwrap_or(self.columns.len() as u32);
        if let Err(error) = sink.define(column, labels) {
            warn!(rule, error, "series of rule is refused");
            return None;
        }
        self.free.pop();
        self.columns.insert(labels.clone(), column);
        Some(column)
    }

    /// Adds a value to the current row.
    pub(super) fn push(&mut self, column: u32, value: f64) {
        self.row.push((column, value));
    }

    /// Removes the values for which `keep` returns `false` from the current row. Visits every series, so only rules
    /// that need it should call it.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Labels, f64) -> bool) {
        let series: HashMap<u32, &Labels, FxBuildHasher> = self
            .columns
            .iter()
            .map(|(labels, &column)| (column, labels))
            .collect();
        self.row.retain(|&(column, value)| {
            let labels = series.get(&column);
            labels.is_none_or(|labels| keep(labels, value))
        });
    }

    /// Discards the current row.
    pub(super) fn discard(&mut self) {
        self.row.clear();
    }

    /// Returns the number of values in the current row, and whether their columns are distinct.
    pub(super) fn row(&mut self) -> (usize, bool) {
        self.row.sort_unstable_by_key(|&(column, _)| column);
        (self.row.len(), self.row.is_sorted_by(|a, b| a.0 < b.0))
    }

    /// Writes the current row, then staleness markers for series that only the previous row has, and frees their
    /// columns. A marker refused because another rule writes the series does not count as a refused value.
    ///
    /// # Errors
    /// Returns an error if the row or the markers could not be stored.
    pub(super) fn write(&mut self, timestamp_ms: i64) -> Result<Refused, String> {
        self.row.sort_unstable_by_key(|&(column, _)| column);
        let columns = self.row.iter().map(|&(column, _)| column);
        let is_same = self.written.iter().copied().eq(columns.clone());
        if is_same {
            return self.append(timestamp_ms);
        }
        let now: Vec<u32> = columns.collect();
        let appended = self.append(timestamp_ms);
        let ended = self.written.iter().copied();
        let ended = ended.filter(|column| now.binary_search(column).is_err());
        self.row.extend(ended.map(|column| (column, STALE_NAN)));
        let ending = self.append(timestamp_ms);
        self.written = now;
        self.forget_unwritten();
        ending.and(appended)
    }

    fn append(&mut self, timestamp_ms: i64) -> Result<Refused, String> {
        let appended = match self.sink.as_mut() {
            Some(sink) if !self.row.is_empty() => sink.append(timestamp_ms, &self.row),
            _ => Ok(Refused::default()),
        };
        self.row.clear();
        appended
    }

    /// Frees the columns of series that are not in the last row.
    fn forget_unwritten(&mut self) {
        let Some(sink) = self.sink.as_mut() else {
            return;
        };
        let (written, free) = (&self.written, &mut self.free);
        self.columns.retain(|_, &mut column| {
            let is_written = written.binary_search(&column).is_ok();
            if !is_written {
                sink.undefine(column);
                free.push(column);
            }
            is_written
        });
    }

    /// Returns the series of the last row.
    pub(super) fn written(&self) -> Vec<Labels> {
        let is_written = |column: &u32| self.written.binary_search(column).is_ok();
        let series = self.columns.iter();
        let series = series.filter(|(_, column)| is_written(column));
        series.map(|(labels, _)| labels.clone()).collect()
    }
}
