//! Why a query has no result.

use std::fmt;

/// The class of an error; the HTTP layer maps it to a status and an `errorType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The expression or a parameter is wrong (`bad_data`, 400).
    BadData,
    /// The evaluation failed on the data (`execution`, 422).
    Execution,
    /// The time ran out (`timeout`, 503).
    Timeout,
    /// The caller gave up (`canceled`, 499).
    Canceled,
    /// The store failed (`internal`, 500).
    Internal,
}

impl ErrorKind {
    /// The `errorType` of Prometheus' API.
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

/// Bytes of the query a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Byte behind the last one.
    pub end: usize,
}

/// A query that could not be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryError {
    /// Its class.
    pub kind: ErrorKind,
    /// The text, as Prometheus' API gives it in `error`.
    pub message: String,
    /// Where in the query, when that is known.
    pub span: Option<Span>,
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for QueryError {}
