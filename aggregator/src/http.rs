//! The HTTP API: Prometheus' endpoints with its parameters, JSON and errors, and the probes of the process.
//!
//! **Invariant:** handlers parse, call one function of the store or the engine on a blocking thread, and write the
//! answer; no rule of the language or of the store is decided here.

pub mod admin;
pub mod agents;
pub mod alertmanager;
pub mod auth;
pub mod blocking;
pub mod cheap;
pub mod error;
pub mod exemplars;
pub mod expression;
pub mod federate;
pub mod gate;
pub mod health;
pub mod index;
pub mod json;
pub mod label_name;
pub mod metadata;
pub mod metrics;
pub mod params;
pub mod query;
pub mod read;
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
pub mod write;
