//! The door to the evaluator.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::model::{Labels, Sample};
use tidemark_storage::read::{ReadControl, Readable, StableUntil};

use crate::cache::{Cache, Entry, Key, cut, is_cacheable, join};
use crate::durations::settle;
use crate::error::{ErrorKind, QueryError};
use crate::eval::annotations::Annotations;
use crate::eval::budget::Budget;
use crate::eval::leaf::Looked;
use crate::eval::series::{Series, Steps, is_missing};
use crate::eval::{Evaluator, Yield};
use crate::parser::ast::Expr;
use crate::parser::{Aggregator, ValueType, parse_here};
use crate::signature::Function;
use crate::stack::with_room;
use crate::value::{MatrixSeries, QueryResult, Stats, Value, VectorSample};

/// Parts of the language that Prometheus keeps behind `--enable-feature`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// `promql-experimental-functions`
    pub experimental_functions: bool,
    /// `promql-duration-expr`
    pub duration_expressions: bool,
    /// `promql-delayed-name-removal`
    pub delayed_name_removal: bool,
    /// `type-and-unit-labels`
    pub type_and_unit_labels: bool,
}

/// What holds for all queries of an engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// How far an instant selector looks back (Prometheus: 5 minutes).
    pub lookback_delta: Duration,
    /// Resolution of a subquery that names none (Prometheus: the global evaluation interval).
    pub default_step: Duration,
    /// Most values a query may hold at once (Prometheus' `--query.max-samples`).
    pub samples_max: u64,
    /// Optional parts of the language.
    pub features: Features,
    /// Most threads one query may use.
    pub threads_max: usize,
    /// Samples that results of range queries kept for the next refresh may have; 0 keeps none. A sample is 16 bytes.
    pub cache_samples_max: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            lookback_delta: Duration::from_secs(300),
            default_step: Duration::from_secs(60),
            samples_max: 50_000_000,
            features: Features::default(),
            threads_max: std::thread::available_parallelism().map_or(1, usize::from),
            cache_samples_max: 4 << 20,
        }
    }
}

/// What holds for one query.
#[derive(Debug, Clone, Copy)]
pub struct QueryOptions<'a> {
    /// In place of the engine's, when given.
    pub lookback_delta: Option<Duration>,
    /// Cancellation, and the bound on samples and series read. Another thread may cancel it.
    pub control: &'a ReadControl,
    /// When the query is stopped with [`ErrorKind::Timeout`].
    pub deadline: Option<Instant>,
    /// Whether to count samples for each step.
    pub per_step_stats: bool,
}

/// Times of a range query, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeParams {
    /// First step.
    pub start_ms: i64,
    /// Last moment, inclusive.
    pub end_ms: i64,
    /// Between two steps, above 0.
    pub step_ms: i64,
}

/// Evaluates queries. Shared by all threads.
#[derive(Debug)]
pub struct Engine {
    options: EngineOptions,
    cache: Cache,
}

impl Engine {
    /// An engine.
    #[must_use]
    pub fn new(options: EngineOptions) -> Self {
        Self {
            cache: Cache::new(options.cache_samples_max),
            options,
        }
    }

    /// How the engine was made.
    #[must_use]
    pub const fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Evaluates `query` at one moment.
    ///
    /// # Errors
    /// The query is wrong, fails on the data, or was stopped.
    pub fn instant(
        &self,
        data: &dyn Readable,
        query: &str,
        time_ms: i64,
        options: &QueryOptions<'_>,
    ) -> Result<QueryResult, QueryError> {
        let work = || self.instant_here(data, query, time_ms, options);
        with_room(query, work).unwrap_or_else(|| Err(no_room()))
    }

    fn instant_here(
        &self,
        data: &dyn Readable,
        query: &str,
        time_ms: i64,
        options: &QueryOptions<'_>,
    ) -> Result<QueryResult, QueryError> {
        let mut expr = parse_here(query, self.options.features)?;
        settle(&mut expr)?;
        let steps = Steps {
            start_ms: time_ms,
            step_ms: 1,
            count: 1,
        };
        let evaluator = self.evaluator(data, query, steps, options, true);
        let value = match expr.unwrap_parens() {
            Expr::Matrix(_) | Expr::Subquery(_) => {
                Value::Matrix(evaluator.range_vector(&expr, steps)?)
            }
            _ => instant_value(evaluator.finished(&expr, steps)?, time_ms, orders(&expr)),
        };
        Ok(result(evaluator, value, steps))
    }

    /// Evaluates `query` at each step of `range`.
    ///
    /// # Errors
    /// The query is wrong (also: a string or a range vector), fails on the data, or was stopped.
    pub fn range(
        &self,
        data: &dyn Readable,
        query: &str,
        range: RangeParams,
        options: &QueryOptions<'_>,
    ) -> Result<QueryResult, QueryError> {
        let work = || self.range_here(data, query, range, options);
        with_room(query, work).unwrap_or_else(|| Err(no_room()))
    }

    fn range_here(
        &self,
        data: &dyn Readable,
        query: &str,
        range: RangeParams,
        options: &QueryOptions<'_>,
    ) -> Result<QueryResult, QueryError> {
        let mut expr = parse_here(query, self.options.features)?;
        let kind = expr.value_type();
        if !matches!(kind, ValueType::Scalar | ValueType::Vector) {
            let kind = kind.documented();
            return Err(bad_data(format!(
                "invalid expression type \"{kind}\" for range query, must be Scalar or instant Vector"
            )));
        }
        settle(&mut expr)?;
        if range.step_ms <= 0 || range.end_ms < range.start_ms {
            return Err(bad_data(
                "a range query needs a step above 0 and an end that is not before its start"
                    .to_owned(),
            ));
        }
        let stable = data
            .stable_until()
            .filter(|_| !self.cache.is_off() && !options.per_step_stats && is_cacheable(&expr));
        let Some(stable) = stable else {
            return self.range_steps(data, query, &expr, range, options);
        };
        let key = self.cache_key(query, range, options);
        let hit = self.cache.get(&key, stable);
        let hit = hit.filter(|hit| (hit.start_ms..=hit.end_ms).contains(&range.start_ms));
        let Some(hit) = hit else {
            let result = self.range_steps(data, query, &expr, range, options)?;
            if let Value::Matrix(matrix) = &result.value {
                let steps = (range.start_ms, range.end_ms, range.step_ms);
                self.keep(data, stable, key, (steps, matrix, &result));
            }
            return Ok(result);
        };
        let mut result = QueryResult {
            value: Value::Matrix(Vec::new()),
            warnings: hit.warnings.clone().into(),
            infos: hit.infos.clone().into(),
            stats: Stats::default(),
        };
        let mut matrix = cut(&hit.series, range.start_ms, range.end_ms);
        if hit.end_ms + range.step_ms <= range.end_ms {
            let rest = RangeParams {
                start_ms: hit.end_ms + range.step_ms,
                ..range
            };
            let new = self.range_steps(data, query, &expr, rest, options)?;
            result.warnings = union(&result.warnings, &new.warnings);
            result.infos = union(&result.infos, &new.infos);
            result.stats = new.stats;
            if let Value::Matrix(later) = new.value {
                matrix = join(matrix, later);
            }
            let steps = (range.start_ms, range.end_ms, range.step_ms);
            self.keep(data, stable, key, (steps, &matrix, &result));
        }
        result.value = Value::Matrix(matrix);
        Ok(result)
    }

    fn cache_key(&self, query: &str, range: RangeParams, options: &QueryOptions<'_>) -> Key {
        let lookback = options
            .lookback_delta
            .unwrap_or(self.options.lookback_delta);
        Key {
            query: query.to_owned(),
            step_ms: range.step_ms,
            phase_ms: range.start_ms.rem_euclid(range.step_ms),
            lookback_ms: millis(lookback),
        }
    }

    /// Keeps the stable part of a result, unless data changed while it was made.
    fn keep(
        &self,
        data: &dyn Readable,
        stable: StableUntil,
        key: Key,
        (steps, matrix, result): ((i64, i64, i64), &[MatrixSeries], &QueryResult),
    ) {
        let unchanged = data
            .stable_until()
            .is_some_and(|now| now.generation == stable.generation);
        if !unchanged {
            return;
        }
        if let Some(mut entry) = Entry::stable_part(stable, steps, matrix) {
            entry.warnings = result.warnings.to_vec();
            entry.infos = result.infos.to_vec();
            self.cache.put(key, entry);
        }
    }

    /// Evaluates a checked expression at each step of `range`.
    fn range_steps(
        &self,
        data: &dyn Readable,
        query: &str,
        expr: &Expr,
        range: RangeParams,
        options: &QueryOptions<'_>,
    ) -> Result<QueryResult, QueryError> {
        let count = (range.end_ms - range.start_ms) / range.step_ms + 1;
        let steps = Steps {
            start_ms: range.start_ms,
            step_ms: range.step_ms,
            count: usize::try_from(count).unwrap_or(usize::MAX),
        };
        let mut evaluator = self.evaluator(data, query, steps, options, false);
        // The end that was asked for, be there a step or not.
        evaluator.bounds_ms.1 = range.end_ms;
        evaluator.check_steps(steps)?;
        let value = match evaluator.finished(expr, steps)? {
            Yield::Scalar(values) => matrix(vec![Series::new(Labels::empty(), values)], steps),
            Yield::Vector(vector) => matrix(vector, steps),
            Yield::String(_) => return Err(bad_data("a string has no range".to_owned())),
        };
        Ok(result(evaluator, Value::Matrix(value), steps))
    }

    fn evaluator<'e>(
        &self,
        data: &'e dyn Readable,
        query: &'e str,
        steps: Steps,
        options: &QueryOptions<'e>,
        instant: bool,
    ) -> Evaluator<'e> {
        let lookback = options
            .lookback_delta
            .unwrap_or(self.options.lookback_delta);
        let mut looked = Looked::default();
        if options.per_step_stats {
            looked.per_step.resize(steps.count, 0);
        }
        Evaluator {
            data,
            features: self.options.features,
            lookback_ms: millis(lookback).max(1),
            default_step_ms: millis(self.options.default_step).max(1),
            threads_max: self.options.threads_max,
            held_max: self.options.samples_max,
            bounds_ms: (steps.start_ms, steps.last()),
            budget: Budget::new(options.control, options.deadline, self.options.samples_max),
            annotations: Annotations::new(query),
            looked: Mutex::new(looked),
            instant,
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

const fn bad_data(message: String) -> QueryError {
    QueryError {
        kind: ErrorKind::BadData,
        message,
        span: None,
    }
}

fn union(a: &[String], b: &[String]) -> Arc<[String]> {
    let all: std::collections::BTreeSet<&String> = a.iter().chain(b).collect();
    all.into_iter().cloned().collect()
}

fn no_room() -> QueryError {
    QueryError {
        kind: ErrorKind::Internal,
        message: "no thread for a deep query".to_owned(),
        span: None,
    }
}

/// Whether the outermost operation orders its result.
const fn orders(expr: &Expr) -> bool {
    match expr.unwrap_parens() {
        Expr::Call(call) => matches!(
            call.function.function,
            Function::Sort | Function::SortDesc | Function::SortByLabel | Function::SortByLabelDesc
        ),
        Expr::Aggregation(aggregation) => {
            matches!(aggregation.op, Aggregator::Topk | Aggregator::Bottomk)
        }
        _ => false,
    }
}

fn instant_value(value: Yield, timestamp_ms: i64, ordered: bool) -> Value {
    let sample = |values: &[f64]| Sample {
        timestamp_ms,
        value: values.first().copied().unwrap_or(f64::NAN),
    };
    match value {
        Yield::Scalar(values) => Value::Scalar(sample(&values)),
        Yield::String(text) => Value::String { timestamp_ms, text },
        Yield::Vector(mut vector) => {
            if !ordered {
                vector.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
            }
            let samples = vector.into_iter().map(|series| VectorSample {
                sample: sample(&series.values),
                labels: series.labels,
            });
            Value::Vector(samples.collect())
        }
    }
}

fn matrix(vector: Vec<Series>, steps: Steps) -> Vec<MatrixSeries> {
    let mut matrix: Vec<_> = vector
        .into_iter()
        .map(|series| MatrixSeries {
            samples: steps
                .iter()
                .zip(&series.values)
                .filter(|&(_, &value)| !is_missing(value))
                .map(|(timestamp_ms, &value)| Sample {
                    timestamp_ms,
                    value,
                })
                .collect(),
            labels: series.labels,
        })
        .collect();
    matrix.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
    matrix
}

fn result(evaluator: Evaluator<'_>, value: Value, steps: Steps) -> QueryResult {
    let looked = evaluator
        .looked
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    let (warnings, infos) = evaluator.annotations.into_texts();
    QueryResult {
        value,
        warnings: warnings.into(),
        infos: infos.into(),
        stats: Stats {
            samples_queryable: looked.total,
            samples_per_step: steps.iter().zip(looked.per_step).collect(),
            samples_peak: evaluator.budget.peak(),
        },
    }
}
