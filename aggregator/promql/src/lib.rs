//! PromQL: parser, planning and evaluation over what a store can read.
//!
//! The reference is Prometheus 3.5: syntax, results, error texts and annotations. The crate is synchronous and
//! knows no HTTP; the wall clock never enters, times are arguments.

pub mod engine;
pub mod error;
pub mod value;

pub use engine::{Engine, EngineOptions, Features, QueryOptions, RangeParams};
pub use error::{ErrorKind, QueryError};
pub use value::{MatrixSeries, QueryResult, Stats, Value, VectorSample};
