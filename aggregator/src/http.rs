//! The HTTP API: Prometheus' endpoints with its parameters, JSON and errors, and the probes of the process.
//!
//! **Invariant:** handlers parse, call one function of the store or the engine on a blocking thread, and write the
//! answer; no rule of the language or of the store is decided here.

pub mod admin;
pub mod agents;
pub mod alertmanager;
pub mod auth;
pub mod blocking;
pub mod error;
pub mod exemplars;
pub mod expression;
pub mod federate;
pub mod index;
pub mod inline;
pub mod json;
pub mod label_name;
pub mod lifecycle;
pub mod metadata;
pub mod metrics;
pub mod params;
pub mod query;
pub mod query_limiter;
pub mod remote_read;
pub mod remote_write;
pub mod reply;
pub mod router;
pub mod rules;
pub mod selectors;
pub mod series;
pub mod server;
pub mod state;
pub mod status;
pub mod targets;
pub mod time;
pub mod transfer;
