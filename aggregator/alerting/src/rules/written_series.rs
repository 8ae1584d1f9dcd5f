//! Tracks the series written in one evaluation by rules of a group that share a name.

use std::collections::HashMap;

use common::model::Labels;
use rustc_hash::FxBuildHasher;

use crate::template::{Notation, format_float};

/// The values written in one evaluation, by series. As in Prometheus, the first rule to write a series keeps it.
#[derive(Debug, Default)]
pub(super) struct WrittenSeries(HashMap<Labels, f64, FxBuildHasher>);

impl WrittenSeries {
    /// Records that a rule writes `value` for `series`.
    ///
    /// # Errors
    /// Returns Prometheus' error message if an earlier rule wrote a different value.
    pub(super) fn record(
        &mut self,
        series: &Labels,
        value: f64,
        timestamp_ms: i64,
    ) -> Result<(), String> {
        let existing = *self.0.entry(series.clone()).or_insert(value);
        if existing.to_bits() == value.to_bits() {
            return Ok(());
        }
        let [existing, value] =
            [existing, value].map(|value| format_float(value, Notation::General, None));
        Err(format!(
            "duplicate sample for timestamp {timestamp_ms}; overrides not allowed: existing {existing}, new value {value}"
        ))
    }
}
