//! The link from a producer of ticks to an aggregator: a spool on disk and an uplink that sends it.
//!
//! A producer implements [`TickSource`] and appends each tick to a [`spool::SpoolWriter`]. [`uplink::run`] sends the spool to
//! an aggregator and frees what the aggregator has on disk. Uplink and producer share only the spool's files and an in-memory list
//! of its segments, so a slow network never delays the producer.
//!
//! This crate samples nothing and knows neither collectors nor Kubernetes; it depends on `common` only.

pub mod source;
pub mod spool;
pub mod stream;
mod sys;
#[cfg(test)]
mod testing;
pub mod uplink;

pub use source::{SchemaChange, TickSource};
