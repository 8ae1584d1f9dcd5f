//! Results of range queries, kept so that a dashboard's next refresh evaluates only what is new.
//!
//! A result is kept up to the moment before which the store says that nothing changes, and is forgotten when it says
//! that something did. Only expressions whose value at a step depends on nothing but samples up to that step are
//! kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use common::model::Sample;
use hashbrown::HashMap;
use tidemark_storage::read::StableUntil;

use crate::parser::ast::{DurationValue, Expr, VectorSelector};
use crate::signature::Function;
use crate::value::MatrixSeries;

/// What a result depends on besides the data.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) query: String,
    pub(crate) step_ms: i64,
    /// Steps lie at this remainder of `step_ms`.
    pub(crate) phase_ms: i64,
    pub(crate) lookback_ms: i64,
}

/// A result that is known for some steps.
#[derive(Debug)]
pub(crate) struct Entry {
    generation: u64,
    /// First step, inclusive.
    pub(crate) start_ms: i64,
    /// Last step, inclusive.
    pub(crate) end_ms: i64,
    pub(crate) series: Vec<MatrixSeries>,
    pub(crate) warnings: Vec<String>,
    pub(crate) infos: Vec<String>,
}

impl Entry {
    /// The part of a result that cannot change any more; `None` when there is none.
    pub(crate) fn stable_part(
        stable: StableUntil,
        (start_ms, end_ms, step_ms): (i64, i64, i64),
        series: &[MatrixSeries],
    ) -> Option<Self> {
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
            warnings: Vec::new(),
            infos: Vec::new(),
        })
    }

    fn samples(&self) -> usize {
        // A series costs its labels too, about as much as 16 samples.
        self.series
            .iter()
            .map(|series| series.samples.len() + 16)
            .sum()
    }
}

/// The samples of some series between two moments, both inclusive.
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

/// Appends later samples to the series they belong to. Both sides are sorted by labels, and so is the result.
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

/// The results that are kept: at most a number of samples, the longest unused going first.
#[derive(Debug)]
pub(crate) struct Cache {
    samples_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Key, Arc<Entry>>,
    /// Longest unused first.
    order: VecDeque<Key>,
    samples: usize,
}

impl Cache {
    pub(crate) fn new(samples_max: usize) -> Self {
        Self {
            samples_max,
            state: Mutex::default(),
        }
    }

    pub(crate) const fn is_off(&self) -> bool {
        self.samples_max == 0
    }

    /// The result of `key`, unless data under it changed.
    pub(crate) fn get(&self, key: &Key, stable: StableUntil) -> Option<Arc<Entry>> {
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

    pub(crate) fn put(&self, key: Key, entry: Entry) {
        let samples = entry.samples();
        // One result may not push out all others.
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

impl State {
    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.samples -= entry.samples();
            self.order.retain(|other| other != key);
        }
    }
}

/// Whether the value at each step depends on samples up to that step alone, and series keep their labels whichever
/// steps are evaluated together.
pub(crate) fn is_cacheable(expr: &Expr) -> bool {
    match expr {
        Expr::Vector(selector) => is_plain(selector),
        Expr::Matrix(matrix) => is_plain(&matrix.selector) && is_length(&matrix.range),
        Expr::Subquery(subquery) => {
            subquery.at.is_none()
                && looks_back(&subquery.offset)
                && is_length(&subquery.range)
                && is_length(&subquery.step)
                && is_cacheable(&subquery.expr)
        }
        Expr::Paren(paren) => is_cacheable(&paren.expr),
        Expr::Unary(unary) => is_cacheable(&unary.expr),
        Expr::Binary(binary) => is_cacheable(&binary.lhs) && is_cacheable(&binary.rhs),
        Expr::Aggregation(aggregation) => {
            aggregation.param.as_ref().is_none_or(is_cacheable) && is_cacheable(&aggregation.expr)
        }
        Expr::Call(call) => {
            // These can make two series one; whether that is an error depends on the steps.
            let relabels = matches!(
                call.function.function,
                Function::LabelReplace | Function::LabelJoin | Function::Info
            );
            !relabels && call.args.iter().all(is_cacheable)
        }
        Expr::Number(_) | Expr::String(_) => true,
    }
}

/// A selector of one metric, so that dropping names makes no two series one.
fn is_plain(selector: &VectorSelector) -> bool {
    selector.at.is_none() && looks_back(&selector.offset) && selector.metric_name().is_some()
}

const fn looks_back(offset: &DurationValue) -> bool {
    matches!(offset, DurationValue::Millis(0..))
}

const fn is_length(duration: &DurationValue) -> bool {
    matches!(duration, DurationValue::Millis(_))
}
