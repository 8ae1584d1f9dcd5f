//! What the agent and the aggregator share: the data model, the wire protocol, identities, limits and the clock.
//!
//! **Invariant:** this crate depends on no other crate of the workspace, and [`model`] does no I/O.

pub mod clock;
pub mod duration;
pub mod exposition;
pub mod identity;
pub mod limits;
pub mod model;
pub mod telemetry;
pub mod wire;
