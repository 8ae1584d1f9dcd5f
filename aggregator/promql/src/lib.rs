//! PromQL: parser and evaluator over what a store can read.
//!
//! The reference is Prometheus 3.5, with the fixes of later releases: syntax, results, error texts and annotations. The
//! crate is synchronous and has no HTTP. It never reads the wall clock; times are arguments.
//!
//! A query goes through [`parser`] (text to a checked tree), `durations` (duration expressions to lengths), and `eval`
//! (the tree to columns of values, see there); [`Engine`] runs these steps, and takes from its cache what it can. All
//! functions are rows of `function_table`.

pub mod ast_json;
mod durations;
pub mod engine;
pub mod error;
mod eval;
pub mod features;
pub mod format;
mod function_table;
mod functions;
pub mod memory_store;
pub mod parser;
pub mod print;
pub mod signature;
mod stack;
pub mod value;
pub mod value_type;

pub use ast_json::ast_json;
pub use engine::{Engine, EngineOptions, QueryOptions, RangeParams};
pub use error::{ErrorKind, QueryError, Span};
pub use features::Features;
pub use format::format_float;
pub use parser::number::parse_go_float;
pub use parser::{ParseError, matches_everything, parse, parse_selector};
pub use print::pretty;
pub use value::{MatrixSeries, QueryResult, Stats, Value, VectorSample};
pub use value_type::ValueType;
