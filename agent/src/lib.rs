//! The node agent: collectors fill a table of series, the spool keeps each tick on disk, the uplink sends it.

pub mod collect;
pub mod collectors;
pub mod config;
pub mod exposition;
pub mod faults;
pub mod file;
pub mod in_order;
pub mod kube;
pub mod parse;
pub mod probe;
pub mod run;
pub mod sampler;
pub mod schema;
pub mod spool;
pub mod sys;
pub mod table;
pub mod uplink;
pub mod web;
