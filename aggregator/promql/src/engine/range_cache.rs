//! Results of range queries, cached so that the next refresh of a dashboard evaluates only the new steps.
//!
//! A result is cached up to the time before which the store reports that nothing changes any more. It is dropped when the
//! store reports that something did change. Only expressions whose value at a step depends on samples up to that step
//! alone are cached.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use common::model::Sample;
use hashbrown::HashMap;
use tidemark_storage::read::StableUntil;

use super::RangeParams;
use crate::functions::spec;
use crate::parser::ast::{DurationValue, Expr, VectorSelector};
use crate::value::{MatrixSeries, QueryResult};

/// What a result depends on, except the data.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RangeKey {
    pub(crate) query: String,
    pub(crate) step_ms: i64,
    /// Remainder of each step divided by `step_ms`.
    pub(crate) phase_ms: i64,
    pub(crate) lookback_ms: i64,
}

/// A result that is known for a range of steps.
#[derive(Debug)]
pub(crate) struct CachedRange {
    generation: u64,
    /// First step, inclusive.
    pub(crate) start_ms: i64,
    /// Last step, inclusive.
    pub(crate) end_ms: i64,
    pub(crate) series: Vec<MatrixSeries>,
    pub(crate) warnings: Arc<[String]>,
    pub(crate) infos: Arc<[String]>,
}

impl CachedRange {
    /// Returns the part of a result that cannot change any more, if any.
    pub(crate) fn stable_part(
        stable: StableUntil,
        range: RangeParams,
        series: &[MatrixSeries],
        result: &QueryResult,
    ) -> Option<Self> {
        let RangeParams {
            start_ms,
            end_ms,
            step_ms,
        } = range;
        let until_ms = stable.until_ms.min(end_ms);
        if until_ms < start_ms {
            return None;
        }
        let end_ms = start_ms + (until_ms - start_ms) / step_ms * step_ms;
        Some(Self {
            generation: stable.generation,
            start_ms,
            end_ms,
            series: cut(series, start_ms, end_ms),
            warnings: result.warnings.clone(),
            infos: result.infos.clone(),
        })
    }

    fn samples(&self) -> usize {
        // The labels of a series count as 16 samples.
        self.series
            .iter()
            .map(|series| series.samples.len() + 16)
            .sum()
    }
}

/// Returns the samples between two times, both inclusive.
pub(crate) fn cut(series: &[MatrixSeries], start_ms: i64, end_ms: i64) -> Vec<MatrixSeries> {
    let parts = series.iter().filter_map(|one| {
        let from = one
            .samples
            .partition_point(|sample| sample.timestamp_ms < start_ms);
        let to = one
            .samples
            .partition_point(|sample| sample.timestamp_ms <= end_ms);
        let samples: Vec<Sample> = one.samples.get(from..to)?.to_vec();
        let labels = one.labels.clone();
        (!samples.is_empty()).then_some(MatrixSeries { labels, samples })
    });
    parts.collect()
}

/// Appends later samples to their series. Both sides and the result are sorted by labels.
pub(crate) fn join(earlier: Vec<MatrixSeries>, later: Vec<MatrixSeries>) -> Vec<MatrixSeries> {
    let mut joined = Vec::with_capacity(earlier.len().max(later.len()));
    let mut later = later.into_iter().peekable();
    for mut series in earlier {
        while let Some(new) = later.next_if(|new| new.labels < series.labels) {
            joined.push(new);
        }
        if let Some(new) = later.next_if(|new| new.labels == series.labels) {
            series.samples.extend(new.samples);
        }
        joined.push(series);
    }
    joined.extend(later);
    joined
}

/// The cached results, up to a number of samples; the least recently used is dropped first.
#[derive(Debug)]
pub(crate) struct RangeCache {
    samples_max: usize,
    state: Mutex<CacheState>,
}

#[derive(Debug, Default)]
struct CacheState {
    entries: HashMap<RangeKey, Arc<CachedRange>>,
    /// Least recently used first.
    order: VecDeque<RangeKey>,
    samples: usize,
}

impl RangeCache {
    pub(crate) fn new(samples_max: usize) -> Self {
        Self {
            samples_max,
            state: Mutex::default(),
        }
    }

    pub(crate) const fn is_off(&self) -> bool {
        self.samples_max == 0
    }

    /// Returns the result of `key`, unless the data changed.
    pub(crate) fn get(&self, key: &RangeKey, stable: StableUntil) -> Option<Arc<CachedRange>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = state.entries.get(key)?.clone();
        if entry.generation != stable.generation {
            state.remove(key);
            return None;
        }
        state.order.retain(|other| other != key);
        state.order.push_back(key.clone());
        Some(entry)
    }

    pub(crate) fn put(&self, key: RangeKey, entry: CachedRange) {
        let samples = entry.samples();
        // No single result evicts all others.
        if samples > self.samples_max / 4 {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.remove(&key);
        while state.samples + samples > self.samples_max
            && let Some(oldest) = state.order.front().cloned()
        {
            state.remove(&oldest);
        }
        state.samples += samples;
        state.order.push_back(key.clone());
        state.entries.insert(key, Arc::new(entry));
    }
}

impl CacheState {
    fn remove(&mut self, key: &RangeKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.samples -= entry.samples();
            self.order.retain(|other| other != key);
        }
    }
}

/// Returns whether the value at each step depends on samples up to that step alone, and whether series have the same
/// labels whichever steps are evaluated together.
pub(crate) fn is_cacheable(expr: &Expr) -> bool {
    match expr {
        Expr::Vector(selector) => is_plain(selector),
        Expr::Matrix(matrix) => is_plain(&matrix.selector) && is_resolved(&matrix.range),
        Expr::Subquery(subquery) => {
            subquery.at.is_none()
                && looks_back(&subquery.offset)
                && is_resolved(&subquery.range)
                && is_resolved(&subquery.step)
                && is_cacheable(&subquery.expr)
        }
        Expr::Paren(paren) => is_cacheable(&paren.expr),
        Expr::Unary(unary) => is_cacheable(&unary.expr),
        Expr::Binary(binary) => is_cacheable(&binary.lhs) && is_cacheable(&binary.rhs),
        Expr::Aggregation(aggregation) => {
            aggregation.param.as_ref().is_none_or(is_cacheable) && is_cacheable(&aggregation.expr)
        }
        Expr::Call(call) => {
            !spec(call.function.function).can_merge_series() && call.args.iter().all(is_cacheable)
        }
        Expr::Number(_) | Expr::String(_) => true,
    }
}

/// Returns whether a selector has one metric name, so that dropping it merges no series, and never looks ahead.
fn is_plain(selector: &VectorSelector) -> bool {
    selector.at.is_none() && looks_back(&selector.offset) && selector.metric_name().is_some()
}

const fn looks_back(offset: &DurationValue) -> bool {
    matches!(offset, DurationValue::Millis(0..))
}

const fn is_resolved(duration: &DurationValue) -> bool {
    matches!(duration, DurationValue::Millis(_))
}
