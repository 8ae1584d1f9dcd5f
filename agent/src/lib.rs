//! The node agent: collectors fill a table of series, the spool keeps each tick on disk, the uplink sends it.

pub mod collect;
pub mod collectors;
pub mod config;
pub mod exposition;
pub mod file;
pub mod inventory;
pub mod kube;
pub mod ordered_cache;
pub mod parse;
pub mod probe;
pub mod read_errors;
pub mod run;
pub mod sampler;
pub mod schema;
pub mod sys;
pub mod table;
pub mod web;
