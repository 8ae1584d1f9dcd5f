//! The engine: the entry point of queries.

mod cached;
mod range_cache;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::model::{Labels, Sample};
use tidemark_storage::read::{ReadControl, Readable};

use crate::durations::resolve_durations;
use crate::error::{ErrorKind, QueryError};
use crate::eval::annotations::Annotations;
use crate::eval::budget::Budget;
use crate::eval::selector_scan::SampleStats;
use crate::eval::series::{Series, Steps, is_missing};
use crate::eval::{EvalResult, Evaluator};
use crate::features::Features;
use crate::functions::spec;
use crate::parser::ast::Expr;
use crate::parser::{Aggregator, parse_on_this_stack};
use crate::stack::with_deep_stack;
use crate::value::{MatrixSeries, QueryResult, Stats, Value, VectorSample};
use crate::value_type::ValueType;
use range_cache::RangeCache;

/// Options of an engine, which apply to all its queries.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// How far an instant selector looks back (Prometheus: 5 minutes).
    pub lookback_delta: Duration,
    /// Resolution of subqueries without one (Prometheus: the global evaluation interval).
    pub default_step: Duration,
    /// Maximum number of values that a query may hold at once (Prometheus' `--query.max-samples`).
    pub samples_max: u64,
    /// Optional parts of the language.
    pub features: Features,
    /// Maximum number of threads of one query.
    pub threads_max: usize,
    /// Maximum number of samples, 16 bytes each, in cached results of range queries; 0 disables the cache.
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

/// Options of one query.
#[derive(Debug, Clone, Copy)]
pub struct QueryOptions<'a> {
    /// Replaces the engine's lookback delta.
    pub lookback_delta: Option<Duration>,
    /// Cancels the query, from any thread, and limits the samples and series that it reads.
    pub control: &'a ReadControl,
    /// When the query fails with [`ErrorKind::Timeout`].
    pub deadline: Option<Instant>,
    /// Whether to count samples for each step.
    pub per_step_stats: bool,
}

/// Times of a range query, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeParams {
    /// First step.
    pub start_ms: i64,
    /// End of the range, inclusive.
    pub end_ms: i64,
    /// Distance of the steps, above 0.
    pub step_ms: i64,
}

/// Evaluates queries. One engine serves all threads.
#[derive(Debug)]
pub struct Engine {
    options: EngineOptions,
    cache: RangeCache,
}

/// A range query that is parsed and checked.
struct RangeQuery<'q> {
    data: &'q dyn Readable,
    query: &'q str,
    expr: &'q Expr,
    options: &'q QueryOptions<'q>,
}

impl Engine {
    /// Creates an engine.
    #[must_use]
    pub fn new(options: EngineOptions) -> Self {
        Self {
            cache: RangeCache::new(options.cache_samples_max),
            options,
        }
    }

    /// Returns the options of the engine.
    #[must_use]
    pub const fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Evaluates `query` at one time.
    ///
    /// # Errors
    /// The query is invalid, fails on the data, or was stopped.
    pub fn instant(
        &self,
        data: &dyn Readable,
        query: &str,
        time_ms: i64,
        options: &QueryOptions<'_>,
    ) -> Result<QueryResult, QueryError> {
        let work = || self.instant_on_this_stack(data, query, time_ms, options);
        with_deep_stack(query, work).unwrap_or_else(|| Err(no_thread()))
    }

    fn instant_on_this_stack(
        &self,
        data: &dyn Readable,
        query: &str,
        time_ms: i64,
        options: &QueryOptions<'_>,
    ) -> Result<QueryResult, QueryError> {
        let mut expr = parse_on_this_stack(query, self.options.features)?;
        resolve_durations(&mut expr)?;
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
    /// The query is invalid or returns a string or range vector, it fails on the data, or it was stopped.
    pub fn range(
        &self,
        data: &dyn Readable,
        query: &str,
        range: RangeParams,
        options: &QueryOptions<'_>,
    ) -> Result<QueryResult, QueryError> {
        let work = || self.range_on_this_stack(data, query, range, options);
        with_deep_stack(query, work).unwrap_or_else(|| Err(no_thread()))
    }

    fn range_on_this_stack(
        &self,
        data: &dyn Readable,
        query: &str,
        range: RangeParams,
        options: &QueryOptions<'_>,
    ) -> Result<QueryResult, QueryError> {
        let mut expr = parse_on_this_stack(query, self.options.features)?;
        let kind = expr.value_type();
        if !matches!(kind, ValueType::Scalar | ValueType::Vector) {
            let kind = kind.documented();
            return Err(bad_data(format!(
                "invalid expression type \"{kind}\" for range query, must be Scalar or instant Vector"
            )));
        }
        resolve_durations(&mut expr)?;
        if range.step_ms <= 0 || range.end_ms < range.start_ms {
            return Err(bad_data(
                "a range query needs a step above 0 and an end that is not before its start"
                    .to_owned(),
            ));
        }
        let query = RangeQuery {
            data,
            query,
            expr: &expr,
            options,
        };
        self.range_cached(&query, range)
    }

    /// Evaluates an expression at each step of `range`.
    fn range_uncached(
        &self,
        query: &RangeQuery<'_>,
        range: RangeParams,
    ) -> Result<QueryResult, QueryError> {
        let count = (range.end_ms - range.start_ms) / range.step_ms + 1;
        let steps = Steps {
            start_ms: range.start_ms,
            step_ms: range.step_ms,
            count: usize::try_from(count).unwrap_or(usize::MAX),
        };
        let mut evaluator = self.evaluator(query.data, query.query, steps, query.options, false);
        // `@ end()` is the end that was requested, even if no step falls on it.
        evaluator.bounds_ms.1 = range.end_ms;
        evaluator.check_steps(steps)?;
        let value = match evaluator.finished(query.expr, steps)? {
            EvalResult::Scalar(values) => matrix(vec![Series::new(Labels::empty(), values)], steps),
            EvalResult::Vector(vector) => matrix(vector, steps),
            EvalResult::String(_) => return Err(bad_data("a string has no range".to_owned())),
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
        let mut stats = SampleStats::default();
        if options.per_step_stats {
            stats.per_step.resize(steps.count, 0);
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
            stats: Mutex::new(stats),
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

fn no_thread() -> QueryError {
    QueryError {
        kind: ErrorKind::Internal,
        message: "start a thread for a deeply nested query".to_owned(),
        span: None,
    }
}

/// Returns whether the outermost operation orders its result.
const fn orders(expr: &Expr) -> bool {
    match expr.unwrap_parens() {
        Expr::Call(call) => spec(call.function.function).orders(),
        Expr::Aggregation(aggregation) => {
            matches!(aggregation.op, Aggregator::Topk | Aggregator::Bottomk)
        }
        Expr::Binary(_)
        | Expr::Matrix(_)
        | Expr::Number(_)
        | Expr::Paren(_)
        | Expr::String(_)
        | Expr::Subquery(_)
        | Expr::Unary(_)
        | Expr::Vector(_) => false,
    }
}

fn instant_value(value: EvalResult, timestamp_ms: i64, ordered: bool) -> Value {
    let sample = |values: &[f64]| Sample {
        timestamp_ms,
        value: values.first().copied().unwrap_or(f64::NAN),
    };
    match value {
        EvalResult::Scalar(values) => Value::Scalar(sample(&values)),
        EvalResult::String(text) => Value::String { timestamp_ms, text },
        EvalResult::Vector(mut vector) => {
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
    let stats = evaluator
        .stats
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    let (warnings, infos) = evaluator.annotations.into_texts();
    QueryResult {
        value,
        warnings: warnings.into(),
        infos: infos.into(),
        stats: Stats {
            samples_queryable: stats.total,
            samples_per_step: steps.iter().zip(stats.per_step).collect(),
            samples_peak: evaluator.budget.peak(),
        },
    }
}
