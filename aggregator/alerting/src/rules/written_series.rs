//! Which series the rules of a group have written in one evaluation, where more than one of them might.

use std::collections::HashMap;

use common::model::Labels;
use rustc_hash::FxBuildHasher;

use crate::template::{Notation, format_float};

/// The values of one evaluation, by series. As in Prometheus the rule that comes first has the series.
#[derive(Debug, Default)]
pub(super) struct WrittenSeries(HashMap<Labels, f64, FxBuildHasher>);

impl WrittenSeries {
    /// Takes `series` for a rule that has `value` for it.
    ///
    /// # Errors
    /// An earlier rule has another value for it; the message is Prometheus'.
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
