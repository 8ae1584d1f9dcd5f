//! Errors of queries.

use std::fmt;

/// The class of an error, from which the HTTP layer derives status and `errorType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The expression or a parameter is invalid (`bad_data`, 400).
    BadData,
    /// The query cannot be evaluated on the data (`execution`, 422).
    Execution,
    /// The deadline passed (`timeout`, 503).
    Timeout,
    /// The caller cancelled the query (`canceled`, 499).
    Canceled,
    /// The store failed (`internal`, 500).
    Internal,
}

impl ErrorKind {
    /// Returns the `errorType` of Prometheus' API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadData => "bad_data",
            Self::Execution => "execution",
            Self::Timeout => "timeout",
            Self::Canceled => "canceled",
            Self::Internal => "internal",
        }
    }
}

/// A range of bytes in the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// End of the range, exclusive.
    pub end: usize,
}

/// Why a query has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryError {
    /// Its class.
    pub kind: ErrorKind,
    /// The message in Prometheus' words, as in `error` of its API.
    pub message: String,
    /// The position in the query, if known.
    pub span: Option<Span>,
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for QueryError {}
