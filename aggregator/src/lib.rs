//! The aggregator: ingest, storage, PromQL, rules and the HTTP API, wired together.

pub mod ingest;
pub mod join;
