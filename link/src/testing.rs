//! A producer of ticks for this crate's tests.

use common::model::{Labels, Metadata};

use crate::{SchemaChange, TickSource};

/// Series in memory; references are reused as [`TickSource`] allows.
#[derive(Default)]
pub(crate) struct TestTable {
    families: Vec<(String, Metadata)>,
    labels: Vec<Option<Labels>>,
    values: Vec<Option<f64>>,
    free: Vec<u32>,
    changes: Vec<SchemaChange>,
    timestamp_ms: i64,
}

impl TestTable {
    /// Adds a family unless one of this name exists.
    pub(crate) fn add_family(&mut self, name: &str, metadata: Metadata) {
        if self.families.iter().all(|(known, _)| known != name) {
            self.families.push((name.to_owned(), metadata));
        }
    }

    pub(crate) fn add(&mut self, labels: Labels) -> u32 {
        let series_ref = self.free.pop().unwrap_or_else(|| {
            self.labels.push(None);
            self.values.push(None);
            self.labels.len() as u32 - 1
        });
        self.labels[series_ref as usize] = Some(labels);
        self.changes.push(SchemaChange::Added(series_ref));
        series_ref
    }

    pub(crate) fn remove(&mut self, series_ref: u32) {
        if self.labels[series_ref as usize].take().is_some() {
            self.values[series_ref as usize] = None;
            self.changes.push(SchemaChange::Removed(series_ref));
        }
    }

    pub(crate) fn begin_tick(&mut self, timestamp_ms: i64) {
        self.values.fill(None);
        self.timestamp_ms = timestamp_ms;
    }

    pub(crate) fn set(&mut self, series_ref: u32, value: f64) {
        self.values[series_ref as usize] = Some(value);
    }
}

impl TickSource for TestTable {
    fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    fn values(&self) -> impl Iterator<Item = (u32, f64)> {
        (0..)
            .zip(&self.values)
            .filter_map(|(id, value)| Some((id, (*value)?)))
    }

    fn capacity(&self) -> usize {
        self.labels.len()
    }

    fn families(&self) -> impl ExactSizeIterator<Item = (&str, &Metadata)> {
        self.families
            .iter()
            .map(|(name, metadata)| (name.as_str(), metadata))
    }

    fn series(&self) -> impl Iterator<Item = (u32, Labels)> {
        (0..)
            .zip(&self.labels)
            .filter_map(|(id, labels)| Some((id, labels.clone()?)))
    }

    fn labels(&self, series_ref: u32) -> Option<Labels> {
        self.labels.get(series_ref as usize)?.clone()
    }

    fn changes(&self) -> &[SchemaChange] {
        &self.changes
    }

    fn clear_changes(&mut self) {
        for change in self.changes.drain(..) {
            if let SchemaChange::Removed(series_ref) = change {
                self.free.push(series_ref);
            }
        }
    }
}
