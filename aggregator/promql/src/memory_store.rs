//! Series in memory, for queries that need no store: `tidemarkctl test rules`, and tests.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use common::model::{Labels, Sample};
use tidemark_storage::read::{
    Column, Grouping, Groups, ReadControl, ReadError, Readable, Selection, SeriesSet, StableUntil,
    Values, Visit,
};

use crate::eval::group_labels;
use crate::parser::series::{SequenceValue, SeriesDescription};

/// Holds series in memory. Series with the same timestamps share a timestamps id, as in the real store.
#[derive(Debug, Default, Clone)]
pub struct MemoryStore {
    series: BTreeMap<Labels, BTreeMap<i64, f64>>,
    /// Result of [`Readable::stable_until`].
    pub stable_until: Option<StableUntil>,
}

impl MemoryStore {
    /// Creates a store without series.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a sample; replaces one with the same timestamp.
    pub fn add(&mut self, labels: &Labels, sample: Sample) {
        self.series
            .entry(labels.clone())
            .or_default()
            .insert(sample.timestamp_ms, sample.value);
    }

    /// Adds the values of a series description, the first at `start_ms`, the others `step_ms` apart. Omitted values and
    /// histograms are skipped.
    pub fn load(&mut self, description: &SeriesDescription, start_ms: i64, step_ms: i64) {
        for (index, value) in description.values.iter().enumerate() {
            if let &SequenceValue::Float(value) = value {
                let timestamp_ms = start_ms + step_ms * index as i64;
                let sample = Sample {
                    timestamp_ms,
                    value,
                };
                self.add(&description.labels, sample);
            }
        }
    }

    /// Removes all series.
    pub fn clear(&mut self) {
        self.series.clear();
    }

    /// Iterates over all series and their samples.
    pub fn series(&self) -> impl Iterator<Item = (&Labels, impl Iterator<Item = Sample>)> {
        self.series.iter().map(|(labels, samples)| {
            let samples = samples.iter().map(|(&timestamp_ms, &value)| Sample {
                timestamp_ms,
                value,
            });
            (labels, samples)
        })
    }
}

struct Selected {
    labels: Vec<Labels>,
    columns: Vec<(u64, Vec<i64>, Vec<f64>)>,
}

impl SeriesSet for Selected {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn labels(&self, index: usize) -> Labels {
        self.labels[index].clone()
    }

    fn group(&self, grouping: Grouping<'_>) -> Groups {
        group_labels(self.labels.iter(), grouping)
    }

    fn read(
        &self,
        range: Range<usize>,
        control: &ReadControl,
        visit: &mut Visit<'_>,
    ) -> Result<(), ReadError> {
        for index in range {
            let (timestamps_id, timestamps_ms, values) = &self.columns[index];
            control.charge_samples(values.len() as u64)?;
            if !values.is_empty() {
                let column = Column {
                    timestamps_id: *timestamps_id,
                    timestamps_ms,
                    values: Values::Floats(values),
                };
                visit(index, column)?;
            }
        }
        Ok(())
    }
}

impl Readable for MemoryStore {
    fn stable_until(&self) -> Option<StableUntil> {
        self.stable_until
    }

    fn select(
        &self,
        selection: &Selection,
        control: &ReadControl,
    ) -> Result<Arc<dyn SeriesSet>, ReadError> {
        let mut selected = Selected {
            labels: Vec::new(),
            columns: Vec::new(),
        };
        let mut clocks: BTreeMap<Vec<i64>, u64> = BTreeMap::new();
        for (labels, samples) in &self.series {
            let matches = selection
                .matchers
                .iter()
                .all(|matcher| matcher.matches(labels.get(matcher.name()).unwrap_or("")));
            if !matches {
                continue;
            }
            let (mut times, mut values) = (Vec::new(), Vec::new());
            if selection.start_ms <= selection.end_ms {
                let range = samples.range(selection.start_ms..=selection.end_ms);
                (times, values) = range.map(|(&time, &value)| (time, value)).unzip();
            }
            let next = clocks.len() as u64 + 1;
            let timestamps_id = *clocks.entry(times.clone()).or_insert(next);
            selected.labels.push(labels.clone());
            selected.columns.push((timestamps_id, times, values));
        }
        control.check_series(selected.labels.len() as u64)?;
        Ok(Arc::new(selected))
    }

    fn label_names(
        &self,
        selection: &Selection,
        control: &ReadControl,
    ) -> Result<Vec<String>, ReadError> {
        let set = self.select(selection, control)?;
        let labels: Vec<_> = (0..set.len()).map(|index| set.labels(index)).collect();
        let names = labels.iter().flatten().map(|(name, _)| name.to_owned());
        let names: std::collections::BTreeSet<_> = names.collect();
        Ok(names.into_iter().collect())
    }

    fn label_values(
        &self,
        name: &str,
        selection: &Selection,
        control: &ReadControl,
    ) -> Result<Vec<String>, ReadError> {
        let set = self.select(selection, control)?;
        let values: std::collections::BTreeSet<_> = (0..set.len())
            .filter_map(|index| set.labels(index).get(name).map(str::to_owned))
            .collect();
        Ok(values.into_iter().collect())
    }
}
