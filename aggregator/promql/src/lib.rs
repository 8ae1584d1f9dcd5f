//! PromQL: parser, planning and evaluation over what a store can read.
//!
//! The reference is Prometheus 3.5: syntax, results, error texts and annotations. The crate is synchronous and
//! knows no HTTP; the wall clock never enters, times are arguments.

pub mod ast_json;
mod cache;
mod durations;
pub mod engine;
pub mod error;
mod eval;
pub mod format;
mod functions;
pub mod memory_store;
pub mod parser;
pub mod print;
pub mod signature;
mod stack;
pub mod value;

pub use ast_json::ast_json;
pub use engine::{Engine, EngineOptions, Features, QueryOptions, RangeParams};
pub use error::{ErrorKind, QueryError, Span};
pub use format::format_float;
pub use parser::number::parse_go_float;
pub use parser::{ParseError, matches_everything, parse, parse_selector};
pub use print::pretty;
pub use value::{MatrixSeries, QueryResult, Stats, Value, VectorSample};
