//! The HTTP API: Prometheus' endpoints with its parameters, JSON and errors, Alertmanager's API and the probes.
//!
//! Every handler is `async fn(State, extractors…) -> Result<Response, ApiError>`: it parses, calls one function of the
//! store, the engine or the notifier, and writes the response with [`respond`]. [`router`] holds the route table.
//!
//! **Invariant:** no rule of PromQL or of the store is decided here.

pub mod access;
pub mod admin;
pub mod agents;
pub mod alertmanager;
pub mod auth;
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
pub mod path;
pub mod query;
pub mod query_limiter;
pub mod remote_read;
pub mod remote_write;
pub mod respond;
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
