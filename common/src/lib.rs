//! Code shared by agent and aggregator: data model, wire protocol, identities, limits, metrics and logging.
//!
//! **Invariant:** this crate depends on no other crate of the workspace, and [`model`] does no I/O.

pub mod bytes;
pub mod clock;
pub mod duration;
pub mod exposition;
pub mod flags;
pub mod glob;
pub mod heapster_catalogue;
pub mod identity;
pub mod limits;
pub mod listen;
pub mod logging;
pub mod model;
pub mod relabel;
pub mod report;
pub mod secret;
pub mod sync;
pub mod telemetry;
pub mod wire;
pub mod yaml;
