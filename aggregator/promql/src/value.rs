//! What a query returns.

use std::sync::Arc;

use common::model::{Labels, Sample};

/// One series at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSample {
    /// Its labels; the metric name among them unless an operation dropped it.
    pub labels: Labels,
    /// The sample; its time is the evaluation time.
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

/// The value of an expression. Native histograms will add samples of another kind.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// A number at a moment.
    Scalar(Sample),
    /// A text at a moment; bytes, for a PromQL string need not be UTF-8.
    String {
        /// The evaluation time, milliseconds.
        timestamp_ms: i64,
        /// The text.
        text: Vec<u8>,
    },
    /// Series at one moment. Sorted by labels, unless the expression orders them itself (`sort`, `topk`).
    Vector(Vec<VectorSample>),
    /// Series over time, sorted by labels.
    Matrix(Vec<MatrixSeries>),
}

impl Value {
    /// The `resultType` of Prometheus' API.
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

/// What a query cost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Samples looked at, counted once per step as Prometheus does (`totalQueryableSamples`).
    pub samples_queryable: u64,
    /// The same per step, when [`crate::QueryOptions::per_step_stats`] asked for it: time in milliseconds, samples.
    pub samples_per_step: Vec<(i64, u64)>,
    /// Most values held at once (`peakSamples`).
    pub samples_peak: u64,
}

/// A value, and what its reader should know.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryResult {
    /// The value.
    pub value: Value,
    /// Texts as Prometheus gives them: `PromQL warning: … (1:5)`, sorted.
    pub warnings: Arc<[String]>,
    /// Texts as Prometheus gives them: `PromQL info: … (1:5)`, sorted.
    pub infos: Arc<[String]>,
    /// What it cost.
    pub stats: Stats,
}
