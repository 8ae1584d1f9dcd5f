//! The aggregator: ingest, storage, PromQL, rules and the HTTP API, wired together.

pub mod alerting;
pub mod allocator;
pub mod config;
pub mod http;
pub mod ingest;
pub mod kube;
pub mod metrics;
pub mod outbound;
pub mod pki;

pub mod remote_write;
pub mod run;
pub mod self_scrape;
pub mod series_writer;
pub mod transfer;

pub use common::{logging, report};
