//! Scans of selectors: samples become values here, one series at a time over all steps.

use std::ops::Range;
use std::sync::Arc;

use common::model::is_stale;
use tidemark_storage::read::{Column, ReadError, SeriesSet, Values};

use super::budget::Budget;
use super::series::{MISSING, Steps, is_missing};
use super::window_ranges::ScanBuffers;
use crate::functions::over_time::{Resets, Window, WindowFunction};

/// What to compute from the samples of each series.
#[derive(Debug, Clone)]
pub(crate) enum ScanKind {
    /// The newest sample within the lookback.
    Newest,
    /// The timestamp of that sample, in seconds.
    NewestTimestamp,
    /// A function of the samples in each window.
    Windows(&'static WindowFunction, WindowParams),
}

/// Values of a function's scalar arguments, by step.
#[derive(Debug, Clone, Default)]
pub(crate) struct WindowParams(pub(crate) [Option<Arc<[f64]>>; 2]);

impl WindowParams {
    #[inline]
    fn at(&self, step: usize) -> [f64; 2] {
        let [first, second] = &self.0;
        let at = |param: &Option<Arc<[f64]>>| param.as_ref().map_or(0.0, |values| values[step]);
        [at(first), at(second)]
    }
}

/// The series of a selector or subquery, and how their samples become values.
pub(crate) struct SelectorScan {
    pub(crate) set: Arc<dyn SeriesSet>,
    pub(crate) kind: ScanKind,
    pub(crate) steps: Steps,
    pub(crate) shift: TimeShift,
    /// Length of the window or lookback; its start is exclusive.
    pub(crate) range_ms: i64,
    /// For series of a subquery, whether the name is dropped at the end of the query; empty when none is marked.
    pub(crate) marked: Vec<bool>,
    /// Samples that a subquery read; `None` for a selector.
    pub(crate) subquery_samples: Option<u64>,
}

/// What `@` and `offset` do to the evaluation time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeShift {
    /// The time of `@`.
    pub(crate) pinned_ms: Option<i64>,
    /// How far to look back from there, or from the step.
    pub(crate) offset_ms: i64,
}

/// Numbers of samples read, counted as Prometheus does.
#[derive(Debug, Default)]
pub(crate) struct SampleStats {
    pub(crate) total: u64,
    /// For each step; empty unless requested.
    pub(crate) per_step: Vec<u64>,
}

impl SampleStats {
    fn count(&mut self, step: usize, samples: u64) {
        self.total += samples;
        if let Some(at) = self.per_step.get_mut(step) {
            *at += samples;
        }
    }
}

/// Receives the index of a series and its values at all steps.
pub(crate) type Sink<'s> = dyn FnMut(usize, &[f64]) -> Result<(), ReadError> + 's;

impl SelectorScan {
    /// Returns the time that step `index` looks back from: the end of its window, inclusive.
    #[inline]
    pub(crate) fn reference_ms(&self, index: usize) -> i64 {
        let TimeShift {
            pinned_ms,
            offset_ms,
        } = self.shift;
        pinned_ms.unwrap_or_else(|| self.steps.at(index)) - offset_ms
    }

    /// Calls `sink` for each series of `range` that has a value at any step.
    pub(crate) fn read(
        &self,
        range: Range<usize>,
        budget: &Budget<'_>,
        stats: &mut SampleStats,
        sink: &mut Sink<'_>,
    ) -> Result<(), ReadError> {
        let mut buffers = ScanBuffers::default();
        let mut values = vec![MISSING; self.steps.count];
        let mut visit = |index: usize, column: Column<'_>| {
            budget.check()?;
            let any = self.scan_column(&column, &mut buffers, &mut values, budget, stats)?;
            if any { sink(index, &values) } else { Ok(()) }
        };
        let needs_newest_only = match self.kind {
            ScanKind::Newest | ScanKind::NewestTimestamp => {
                self.steps.count == 1 || self.shift.pinned_ms.is_some()
            }
            ScanKind::Windows(..) => false,
        };
        if needs_newest_only {
            return self.set.read_newest(range, budget.control, &mut visit);
        }
        self.set.read(range, budget.control, &mut visit)
    }

    /// Fills `values` from one column; returns whether there is any.
    fn scan_column(
        &self,
        column: &Column<'_>,
        buffers: &mut ScanBuffers,
        values: &mut [f64],
        budget: &Budget<'_>,
        stats: &mut SampleStats,
    ) -> Result<bool, ReadError> {
        let Values::Floats(floats) = column.values;
        match &self.kind {
            ScanKind::Newest => {
                buffers.ranges.find_newest(self, column);
                let newest = &buffers.ranges.newest;
                Ok(pick(newest, floats, values, stats, |at| floats[at]))
            }
            ScanKind::NewestTimestamp => {
                buffers.ranges.find_newest(self, column);
                let newest = &buffers.ranges.newest;
                let times = column.timestamps_ms;
                Ok(pick(newest, floats, values, stats, |at| {
                    times[at] as f64 / 1000.0
                }))
            }
            ScanKind::Windows(function, params) => {
                let has_stale = floats.iter().any(|&value| is_stale(value));
                let (times, floats) = if has_stale {
                    buffers.copy_without_stale(column.timestamps_ms, floats);
                    (buffers.times.as_slice(), buffers.floats.as_slice())
                } else {
                    (column.timestamps_ms, floats)
                };
                let timestamps_id = if has_stale { 0 } else { column.timestamps_id };
                buffers.ranges.find_windows(self, timestamps_id, times);
                match function.resets {
                    Resets::Needed => find_resets(&mut buffers.resets, floats),
                    Resets::Unused => buffers.resets.clear(),
                }
                let pass = WindowPass {
                    scan: self,
                    params,
                    times,
                    floats,
                    resets: &buffers.resets,
                    windows: &buffers.ranges.windows,
                };
                (function.run)(&pass, values, budget, stats)
            }
        }
    }
}

/// Fills `values` with `value` of the newest sample of each step; returns whether there is any.
#[inline]
fn pick(
    newest: &[u32],
    floats: &[f64],
    values: &mut [f64],
    stats: &mut SampleStats,
    value: impl Fn(usize) -> f64,
) -> bool {
    let mut any = false;
    for (step, (result, &newest)) in values.iter_mut().zip(newest).enumerate() {
        let newest = newest as usize;
        *result = match floats.get(newest) {
            Some(&float) if !is_missing(float) => {
                any = true;
                stats.count(step, 1);
                value(newest)
            }
            _ => MISSING,
        };
    }
    any
}

/// The samples of one series and the windows of all steps over them.
pub(crate) struct WindowPass<'a> {
    scan: &'a SelectorScan,
    params: &'a WindowParams,
    times: &'a [i64],
    floats: &'a [f64],
    resets: &'a [usize],
    windows: &'a [Range<u32>],
}

impl WindowPass<'_> {
    /// Fills `values` with `function` of each window; returns whether there is any.
    #[inline]
    pub(crate) fn run(
        &self,
        function: impl Fn(&Window<'_>) -> f64,
        values: &mut [f64],
        budget: &Budget<'_>,
        stats: &mut SampleStats,
    ) -> Result<bool, ReadError> {
        let mut any = false;
        let mut samples_since_check = 0;
        for (step, (value, window)) in values.iter_mut().zip(self.windows).enumerate() {
            let (from, to) = (window.start as usize, window.end as usize);
            if from >= to {
                *value = MISSING;
                continue;
            }
            samples_since_check += to - from;
            if samples_since_check > 100_000 {
                samples_since_check = 0;
                budget.check()?;
            }
            stats.count(step, (to - from) as u64);
            *value = function(&Window {
                timestamps_ms: &self.times[from..to],
                values: &self.floats[from..to],
                resets: self.resets,
                first_index: from,
                end_ms: self.scan.reference_ms(step),
                range_ms: self.scan.range_ms,
                step_ms: self.scan.steps.at(step),
                params: self.params.at(step),
            });
            any |= !is_missing(*value);
        }
        Ok(any)
    }
}

/// Finds the indices of samples that are below their predecessor.
fn find_resets(resets: &mut Vec<usize>, floats: &[f64]) {
    resets.clear();
    for (index, pair) in floats.windows(2).enumerate() {
        if pair[1] < pair[0] {
            resets.push(index + 1);
        }
    }
}
