//! Columns of values between operations.

use common::model::{Labels, STALE_NAN, is_stale, label::METRIC_NAME};
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use crate::error::{ErrorKind, QueryError};
use crate::features::Features;

/// Marks a step at which a series has no value. It is the staleness marker, which is never the value of an expression; no
/// arithmetic results in its bits, because it is a signalling NaN.
pub(crate) const MISSING: f64 = STALE_NAN;

/// Returns whether a series has no value at a step.
#[inline]
pub(crate) const fn is_missing(value: f64) -> bool {
    is_stale(value)
}

/// The times at which an expression is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Steps {
    pub(crate) start_ms: i64,
    pub(crate) step_ms: i64,
    /// At least 1, except in subqueries too short for a step.
    pub(crate) count: usize,
}

impl Steps {
    pub(crate) const fn at(&self, index: usize) -> i64 {
        self.start_ms + self.step_ms * index as i64
    }

    pub(crate) const fn last(&self) -> i64 {
        self.at(self.count.saturating_sub(1))
    }

    /// Returns the first step alone.
    pub(crate) const fn first(&self) -> Self {
        Self { count: 1, ..*self }
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = i64> {
        (0..self.count).map(move |index| self.at(index))
    }
}

/// A series with a value, or [`MISSING`], for each step.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) labels: Labels,
    /// With delayed name removal, whether the name is dropped at the end of the query.
    pub(crate) drop_name: bool,
    pub(crate) values: Vec<f64>,
}

impl Series {
    pub(crate) const fn new(labels: Labels, values: Vec<f64>) -> Self {
        Self {
            labels,
            drop_name: false,
            values,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.iter().all(|&value| is_missing(value))
    }

    /// Returns the first step with a value; the number of steps when there is none.
    fn first_step(&self) -> usize {
        let present = |&value: &f64| !is_missing(value);
        let first = self.values.iter().position(present);
        first.unwrap_or(self.values.len())
    }
}

pub(crate) type Vector = Vec<Series>;

pub(crate) fn values_held(vector: &[Series]) -> u64 {
    vector.iter().map(|series| series.values.len() as u64).sum()
}

/// The error when dropping or changing labels gives two series the same ones.
pub(crate) fn same_labelset() -> QueryError {
    QueryError {
        kind: ErrorKind::Execution,
        message: "vector cannot contain metrics with the same labelset".to_owned(),
        span: None,
    }
}

/// Removes the name, type and unit. Prometheus drops the latter with the name even when `type-and-unit-labels` is off.
pub(crate) fn without_name(labels: &Labels) -> Labels {
    labels.filtered(|name| !is_metadata_label(name))
}

pub(crate) fn is_metadata_label(name: &str) -> bool {
    matches!(name, METRIC_NAME | "__type__" | "__unit__")
}

/// Drops the metric name of all series: now, or at the end with delayed name removal.
pub(crate) fn drop_names(vector: &mut [Series], features: Features) {
    for series in vector {
        if features.delayed_name_removal {
            series.drop_name = true;
        } else {
            series.labels = without_name(&series.labels);
        }
    }
}

/// Fails when two series have the same labels, even if they have no values at the same step.
pub(crate) fn refuse_same_labels(vector: &[Series]) -> Result<(), QueryError> {
    if vector.len() < 2 {
        return Ok(());
    }
    let mut seen = hashbrown::HashSet::with_capacity_and_hasher(vector.len(), FxBuildHasher);
    if vector.iter().all(|series| seen.insert(&series.labels)) {
        Ok(())
    } else {
        Err(same_labelset())
    }
}

/// Merges series that have the same labels and values at different steps (Prometheus `rangeEval`).
///
/// With delayed name removal, a single step may have the same labels twice until the names are dropped.
///
/// # Errors
/// The first step at which two of them have a value.
pub(crate) fn merge_steps(vector: Vector, features: Features) -> Result<Vector, usize> {
    let one_step = vector
        .first()
        .is_some_and(|series| series.values.len() == 1);
    if one_step && features.delayed_name_removal {
        return Ok(vector);
    }
    merge_all(vector)
}

/// Merges as [`merge_steps`] does, with the error that the query returns.
pub(crate) fn merge_same_labels(vector: Vector, features: Features) -> Result<Vector, QueryError> {
    merge_steps(vector, features).map_err(|_| same_labelset())
}

/// Merges series that `label_replace`, `label_join` or a unary minus gave the same labels; an error where two have a
/// value at the same step. Prometheus 3.5 fails in either case; later releases merge (pull requests 17703 and 17708).
pub(crate) fn merge_relabeled(vector: Vector) -> Result<Vector, QueryError> {
    merge_all(vector).map_err(|_| same_labelset())
}

fn merge_all(vector: Vector) -> Result<Vector, usize> {
    if vector.len() < 2 {
        return Ok(vector);
    }
    let mut indices: HashMap<Labels, usize, FxBuildHasher> =
        HashMap::with_capacity_and_hasher(vector.len(), FxBuildHasher);
    let mut merged: Vector = Vec::with_capacity(vector.len());
    let mut conflict: Option<usize> = None;
    for series in vector {
        let index = *indices.entry_ref(&series.labels).or_insert(merged.len());
        let Some(into) = merged.get_mut(index) else {
            merged.push(series);
            continue;
        };
        if series.first_step() < into.first_step() {
            into.drop_name = series.drop_name;
        }
        for (step, (to, &from)) in into.values.iter_mut().zip(&series.values).enumerate() {
            if is_missing(from) {
                continue;
            }
            if !is_missing(*to) {
                conflict = Some(conflict.map_or(step, |earlier| earlier.min(step)));
                break;
            }
            *to = from;
        }
    }
    conflict.map_or(Ok(merged), Err)
}
