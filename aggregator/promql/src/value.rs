//! Results of queries.

use std::sync::Arc;

use common::model::{Labels, Sample};

/// One series at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSample {
    /// Its labels, with the metric name unless an operation dropped it.
    pub labels: Labels,
    /// The sample at the evaluation time.
    pub sample: Sample,
}

/// One series over time.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSeries {
    /// Its labels.
    pub labels: Labels,
    /// Its samples, oldest first, at least one.
    pub samples: Vec<Sample>,
}

/// The value of an expression.
///
/// Exhaustive on purpose: readers must say what they do with a new kind of value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number at the evaluation time.
    Scalar(Sample),
    /// A string, which need not be UTF-8.
    String {
        /// The evaluation time in milliseconds.
        timestamp_ms: i64,
        /// The text.
        text: Vec<u8>,
    },
    /// Series at the evaluation time, sorted by labels unless the expression orders them (`sort`, `topk`).
    Vector(Vec<VectorSample>),
    /// Series over time, sorted by labels.
    Matrix(Vec<MatrixSeries>),
}

impl Value {
    /// Returns the `resultType` of Prometheus' API.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Scalar(_) => "scalar",
            Self::String { .. } => "string",
            Self::Vector(_) => "vector",
            Self::Matrix(_) => "matrix",
        }
    }
}

/// Statistics of a query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Samples read, counted once per step like Prometheus' `totalQueryableSamples`.
    pub samples_queryable: u64,
    /// The same by step: time in milliseconds and samples. Empty unless [`crate::QueryOptions::per_step_stats`] is set.
    pub samples_per_step: Vec<(i64, u64)>,
    /// Maximum number of values held at once (`peakSamples`).
    pub samples_peak: u64,
}

/// A value, its annotations and statistics.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryResult {
    /// The value.
    pub value: Value,
    /// Warnings in Prometheus' words, `PromQL warning: … (1:5)`, sorted.
    pub warnings: Arc<[String]>,
    /// Infos in Prometheus' words, `PromQL info: … (1:5)`, sorted.
    pub infos: Arc<[String]>,
    /// The statistics.
    pub stats: Stats,
}
