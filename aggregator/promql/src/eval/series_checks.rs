//! Checks of series whose labels are never built, because an aggregation streams their values.

use common::model::Labels;
use hashbrown::HashSet;
use rustc_hash::FxBuildHasher;

use super::series::same_labelset;
use super::{Evaluated, Evaluator};
use crate::error::Span;

/// What to check of each series that has a value.
pub(super) struct SeriesChecks {
    /// Names to annotate, and the index of each series' name; all series have the first when the second list is empty.
    names: Option<(Vec<Labels>, Vec<u32>)>,
    /// Series with equal numbers have equal labels once their names are dropped.
    same: Option<Vec<u32>>,
    span: Span,
}

/// What one part of a scan has seen.
pub(super) struct SeriesCheckState<'c> {
    checks: &'c SeriesChecks,
    seen_names: Vec<bool>,
    seen_same: HashSet<u32, FxBuildHasher>,
    has_duplicate: bool,
}

impl SeriesChecks {
    pub(super) const fn new(
        names: Option<(Vec<Labels>, Vec<u32>)>,
        same: Option<Vec<u32>>,
        span: Span,
    ) -> Self {
        Self { names, same, span }
    }

    pub(super) fn start(&self) -> SeriesCheckState<'_> {
        let names = self.names.as_ref().map_or(0, |(names, _)| names.len());
        SeriesCheckState {
            checks: self,
            seen_names: vec![false; names],
            seen_same: HashSet::default(),
            has_duplicate: false,
        }
    }

    /// Annotates names that do not look like counters.
    ///
    /// # Errors
    /// Two series came to have the same labels.
    pub(super) fn report(
        &self,
        state: &SeriesCheckState<'_>,
        evaluator: &Evaluator<'_>,
    ) -> Evaluated<()> {
        if let Some((names, _)) = &self.names {
            let seen = names
                .iter()
                .zip(&state.seen_names)
                .filter(|(_, seen)| **seen);
            for (name, _) in seen {
                evaluator.annotate_counter(name, self.span);
            }
        }
        if state.has_duplicate {
            return Err(same_labelset());
        }
        Ok(())
    }
}

impl SeriesCheckState<'_> {
    /// Records that a series has a value.
    #[inline]
    pub(super) fn record(&mut self, index: usize) {
        if let Some((_, name_of)) = &self.checks.names {
            let name = name_of.get(index).copied().unwrap_or(0) as usize;
            if let Some(seen) = self.seen_names.get_mut(name) {
                *seen = true;
            }
        }
        if let Some(same) = &self.checks.same {
            self.has_duplicate |= !self.seen_same.insert(same[index]);
        }
    }

    /// Adds what another part has seen.
    pub(super) fn merge(&mut self, other: &Self) {
        for (seen, &other) in self.seen_names.iter_mut().zip(&other.seen_names) {
            *seen |= other;
        }
        self.has_duplicate |= other.has_duplicate;
        for &number in &other.seen_same {
            self.has_duplicate |= !self.seen_same.insert(number);
        }
    }
}

impl Evaluator<'_> {
    /// Adds an annotation when a metric does not look like a counter.
    pub(super) fn annotate_counter(&self, labels: &Labels, span: Span) {
        let name = labels.metric_name().unwrap_or("");
        if name.is_empty() {
            return;
        }
        if self.features.type_and_unit_labels {
            let kind = labels.get("__type__").unwrap_or("");
            if kind != "counter" {
                self.annotations.possible_non_counter_type(name, kind, span);
            }
        } else if !["_total", "_sum", "_count", "_bucket"]
            .iter()
            .any(|suffix| name.ends_with(suffix))
        {
            self.annotations.possible_non_counter(name, span);
        }
    }
}
