//! The door to the evaluator.

use std::time::{Duration, Instant};

use tidemark_storage::read::{ReadControl, Readable};

use crate::error::{ErrorKind, QueryError};
use crate::value::QueryResult;

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
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            lookback_delta: Duration::from_secs(300),
            default_step: Duration::from_secs(60),
            samples_max: 50_000_000,
            features: Features::default(),
            threads_max: std::thread::available_parallelism().map_or(1, usize::from),
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
}

impl Engine {
    /// An engine.
    #[must_use]
    pub const fn new(options: EngineOptions) -> Self {
        Self { options }
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
        _data: &dyn Readable,
        _query: &str,
        _time_ms: i64,
        _options: &QueryOptions<'_>,
    ) -> Result<QueryResult, QueryError> {
        Err(unavailable())
    }

    /// Evaluates `query` at each step of `range`.
    ///
    /// # Errors
    /// The query is wrong (also: a string or a range vector), fails on the data, or was stopped.
    pub fn range(
        &self,
        _data: &dyn Readable,
        _query: &str,
        _range: RangeParams,
        _options: &QueryOptions<'_>,
    ) -> Result<QueryResult, QueryError> {
        Err(unavailable())
    }
}

fn unavailable() -> QueryError {
    QueryError {
        kind: ErrorKind::Internal,
        message: "the evaluator is not linked in".to_owned(),
        span: None,
    }
}
