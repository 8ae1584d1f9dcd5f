//! The result of a subquery as a set of series, so that functions read it like stored series.

use std::ops::Range;

use common::model::Labels;
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use tidemark_storage::read::{
    Column, Grouping, Groups, ReadControl, ReadError, SeriesSet, Values, Visit,
};

use super::series::{Steps, Vector, is_missing};

/// The result of a subquery.
pub(crate) struct SubqueryResult {
    series: Vec<(Labels, Points)>,
    /// The times of all steps.
    times: Vec<i64>,
}

enum Points {
    /// A value at each step.
    Full(Vec<f64>),
    Sparse(Vec<i64>, Vec<f64>),
}

impl SubqueryResult {
    pub(crate) fn new(vector: Vector, steps: Steps) -> Self {
        let series = vector.into_iter().map(|series| {
            let values = series.values;
            let points = if values.iter().any(|&value| is_missing(value)) {
                let present = |(_, value): &(i64, f64)| !is_missing(*value);
                let (times, values) = steps.iter().zip(values).filter(present).unzip();
                Points::Sparse(times, values)
            } else {
                Points::Full(values)
            };
            (series.labels, points)
        });
        Self {
            series: series.collect(),
            times: steps.iter().collect(),
        }
    }
}

impl SeriesSet for SubqueryResult {
    fn len(&self) -> usize {
        self.series.len()
    }

    fn labels(&self, index: usize) -> Labels {
        self.series[index].0.clone()
    }

    fn group(&self, grouping: Grouping<'_>) -> Groups {
        group_labels(self.series.iter().map(|(labels, _)| labels), grouping)
    }

    fn read(
        &self,
        range: Range<usize>,
        control: &ReadControl,
        visit: &mut Visit<'_>,
    ) -> Result<(), ReadError> {
        for index in range {
            control.check()?;
            let (timestamps_id, times, values) = match &self.series[index].1 {
                Points::Full(values) => (1, &self.times, values),
                Points::Sparse(times, values) => (0, times, values),
            };
            if values.is_empty() {
                continue;
            }
            visit(
                index,
                Column {
                    timestamps_id,
                    timestamps_ms: times,
                    values: Values::Floats(values),
                },
            )?;
        }
        Ok(())
    }
}

/// Groups label sets.
pub(crate) fn group_labels<'a>(
    all: impl Iterator<Item = &'a Labels>,
    grouping: Grouping<'_>,
) -> Groups {
    let mut numbers: HashMap<Labels, u32, FxBuildHasher> = HashMap::default();
    let mut groups = Groups {
        group_of: Vec::with_capacity(all.size_hint().0),
        labels: Vec::new(),
    };
    for labels in all {
        let key = match grouping {
            Grouping::By(names) => labels.filtered(|name| names.contains(&name)),
            Grouping::Without(names) => labels.filtered(|name| !names.contains(&name)),
        };
        let next = groups.labels.len() as u32;
        let number = *numbers.entry_ref(&key).or_insert(next);
        if number == next {
            groups.labels.push(key);
        }
        groups.group_of.push(number);
    }
    groups
}
