//! Where samples enter: selectors, and functions of their windows, one series at a time over all steps.

use std::ops::Range;
use std::sync::Arc;

use common::model::is_stale;
use tidemark_storage::read::{Column, ReadError, SeriesSet, Values};

use super::budget::Budget;
use super::over_time::{Window, needs_resets, over_time};
use super::series::{MISSING, Steps, is_missing};
use crate::signature::Function;

/// What to compute from the samples of each series.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// The newest sample not older than the lookback.
    Instant,
    /// The time of that sample, in seconds.
    Timestamp,
    /// A function of the samples in a window.
    OverTime {
        function: Function,
        /// Parameters at each step.
        params: [Option<Arc<[f64]>>; 2],
    },
}

/// Series of a selector or subquery, and how their samples become values.
pub(crate) struct Leaf {
    pub(crate) set: Arc<dyn SeriesSet>,
    pub(crate) kind: Kind,
    pub(crate) steps: Steps,
    /// The moment that each step looks back from is `pinned`, or the step itself, less this.
    pub(crate) offset_ms: i64,
    /// The moment of `@`.
    pub(crate) pinned_ms: Option<i64>,
    /// Length of window or lookback; open at its start.
    pub(crate) range_ms: i64,
    /// Series of a subquery whose names go at the end of the query; empty when none is marked.
    pub(crate) marked: Vec<bool>,
    /// Samples that a subquery looked at; `None` for a selector.
    pub(crate) inside: Option<u64>,
}

/// Samples looked at, as Prometheus counts them.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    pub(crate) total: u64,
    /// For each step, when asked for.
    pub(crate) per_step: Vec<u64>,
}

/// Takes the index of a series and its values at all steps.
pub(crate) type Sink<'s> = dyn FnMut(usize, &[f64]) -> Result<(), ReadError> + 's;

impl Leaf {
    /// The moment that step `index` looks back from.
    #[inline]
    pub(crate) fn reference(&self, index: usize) -> i64 {
        self.pinned_ms.unwrap_or_else(|| self.steps.at(index)) - self.offset_ms
    }

    /// Calls `sink` with the index and the values at all steps of each series of `range` that has one.
    pub(crate) fn read(
        &self,
        range: Range<usize>,
        budget: &Budget<'_>,
        looked: &mut Looked,
        sink: &mut Sink<'_>,
    ) -> Result<(), ReadError> {
        let mut scratch = Scratch::default();
        let mut values = vec![MISSING; self.steps.count];
        let mut visit = |index: usize, column: Column<'_>| {
            budget.check()?;
            let any = self.series(&column, &mut scratch, &mut values, budget, looked)?;
            if any { sink(index, &values) } else { Ok(()) }
        };
        let looks_at_newest = matches!(self.kind, Kind::Instant | Kind::Timestamp);
        if looks_at_newest && (self.steps.count == 1 || self.pinned_ms.is_some()) {
            return self.set.read_newest(range, budget.control, &mut visit);
        }
        self.set.read(range, budget.control, &mut visit)
    }

    /// Fills `values` from one column; whether there is any.
    fn series(
        &self,
        column: &Column<'_>,
        scratch: &mut Scratch,
        values: &mut [f64],
        budget: &Budget<'_>,
        looked: &mut Looked,
    ) -> Result<bool, ReadError> {
        let Values::Floats(floats) = column.values;
        match &self.kind {
            Kind::Instant | Kind::Timestamp => {
                scratch.find_newest(self, column);
                Ok(self.instant(column, floats, scratch, values, looked))
            }
            Kind::OverTime { function, params } => {
                let stale = floats.iter().any(|&value| is_stale(value));
                let (times, floats) = if stale {
                    scratch.without_stale(column.timestamps_ms, floats);
                    (scratch.times.as_slice(), scratch.floats.as_slice())
                } else {
                    (column.timestamps_ms, floats)
                };
                let timestamps_id = if stale { 0 } else { column.timestamps_id };
                find_windows(&mut scratch.windows, self, timestamps_id, times);
                if needs_resets(*function) {
                    find_resets(&mut scratch.resets, floats);
                }
                let samples = Samples {
                    times,
                    floats,
                    resets: &scratch.resets,
                    windows: &scratch.windows.ranges,
                };
                self.windows((*function, params), &samples, values, budget, looked)
            }
        }
    }

    fn instant(
        &self,
        column: &Column<'_>,
        floats: &[f64],
        scratch: &Scratch,
        values: &mut [f64],
        looked: &mut Looked,
    ) -> bool {
        let mut any = false;
        let timestamp = matches!(self.kind, Kind::Timestamp);
        for (step, (value, &newest)) in values.iter_mut().zip(&scratch.windows.newest).enumerate() {
            *value = match floats.get(newest as usize) {
                Some(&float) if !is_missing(float) => {
                    any = true;
                    looked.count(step, 1);
                    if timestamp {
                        column.timestamps_ms[newest as usize] as f64 / 1000.0
                    } else {
                        float
                    }
                }
                _ => MISSING,
            };
        }
        any
    }

    fn windows(
        &self,
        (function, params): (Function, &[Option<Arc<[f64]>>; 2]),
        samples: &Samples<'_>,
        values: &mut [f64],
        budget: &Budget<'_>,
        looked: &mut Looked,
    ) -> Result<bool, ReadError> {
        let mut any = false;
        let mut work = 0;
        for (step, (value, &(from, to))) in values.iter_mut().zip(samples.windows).enumerate() {
            let (from, to) = (from as usize, to as usize);
            if from >= to {
                *value = MISSING;
                continue;
            }
            work += to - from;
            if work > 100_000 {
                work = 0;
                budget.check()?;
            }
            looked.count(step, (to - from) as u64);
            let param = |index: usize| {
                let param: &Option<Arc<[f64]>> = &params[index];
                param.as_ref().map_or(0.0, |values| values[step])
            };
            *value = over_time(
                function,
                &Window {
                    timestamps_ms: &samples.times[from..to],
                    values: &samples.floats[from..to],
                    resets: samples.resets,
                    first_index: from,
                    end_ms: self.reference(step),
                    range_ms: self.range_ms,
                    step_ms: self.steps.at(step),
                    params: [param(0), param(1)],
                },
            );
            any |= !is_missing(*value);
        }
        Ok(any)
    }
}

impl Looked {
    fn count(&mut self, step: usize, samples: u64) {
        self.total += samples;
        if let Some(at) = self.per_step.get_mut(step) {
            *at += samples;
        }
    }
}

/// The samples of one series and where its windows lie in them.
struct Samples<'a> {
    times: &'a [i64],
    floats: &'a [f64],
    resets: &'a [usize],
    windows: &'a [(u32, u32)],
}

/// Buffers that all series of a read share.
#[derive(Default)]
struct Scratch {
    times: Vec<i64>,
    floats: Vec<f64>,
    resets: Vec<usize>,
    windows: Windows,
}

/// Windows of the last column, kept for the next one with the same timestamps.
#[derive(Default)]
struct Windows {
    timestamps_id: u64,
    /// Samples of each step's window.
    ranges: Vec<(u32, u32)>,
    /// The newest sample of each step, `u32::MAX` for none.
    newest: Vec<u32>,
}

impl Scratch {
    fn without_stale(&mut self, times: &[i64], floats: &[f64]) {
        self.times.clear();
        self.floats.clear();
        for (&time, &float) in times.iter().zip(floats) {
            if !is_stale(float) {
                self.times.push(time);
                self.floats.push(float);
            }
        }
    }

    fn find_newest(&mut self, leaf: &Leaf, column: &Column<'_>) {
        let windows = &mut self.windows;
        if column.timestamps_id != 0 && column.timestamps_id == windows.timestamps_id {
            return;
        }
        windows.timestamps_id = column.timestamps_id;
        windows.newest.clear();
        let times = column.timestamps_ms;
        let mut next = 0;
        for step in 0..leaf.steps.count {
            let reference = leaf.reference(step);
            next = advance(times, next, reference);
            let newest = next.checked_sub(1);
            let fresh = newest.filter(|&newest| times[newest] > reference - leaf.range_ms);
            windows
                .newest
                .push(fresh.map_or(u32::MAX, |newest| newest as u32));
        }
    }
}

fn find_windows(windows: &mut Windows, leaf: &Leaf, timestamps_id: u64, times: &[i64]) {
    if timestamps_id != 0 && timestamps_id == windows.timestamps_id {
        return;
    }
    windows.timestamps_id = timestamps_id;
    windows.ranges.clear();
    let (mut from, mut to) = (0, 0);
    for step in 0..leaf.steps.count {
        let reference = leaf.reference(step);
        to = advance(times, to, reference);
        from = advance(times, from, reference - leaf.range_ms);
        windows.ranges.push((from as u32, to as u32));
    }
}

/// The first sample after `moment`, not before index `from`.
#[inline]
fn advance(times: &[i64], from: usize, moment: i64) -> usize {
    let rest = times.get(from..).unwrap_or_default();
    // Steps are mostly a few samples apart; a long way is searched.
    let near = rest
        .iter()
        .take(16)
        .take_while(|&&time| time <= moment)
        .count();
    if near < 16 {
        return from + near;
    }
    from + rest.partition_point(|&time| time <= moment)
}

fn find_resets(resets: &mut Vec<usize>, floats: &[f64]) {
    resets.clear();
    for (index, pair) in floats.windows(2).enumerate() {
        if pair[1] < pair[0] {
            resets.push(index + 1);
        }
    }
}
