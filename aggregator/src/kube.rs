//! Kubernetes: the state of the cluster from its API server, and which nodes may join.
//!
//! One list and watch per kind of object yields the series that kube-state-metrics would export, written to the store
//! like any other source, with `job="kube-state-metrics"`. Agents report the pods of their nodes; only pods without a node
//! come from here. While the API server is unreachable or refuses, the last known state stays,
//! `up{job="kube-state-metrics"}` is 0, and everything else keeps working. Each of several aggregators has its own
//! watches: they share no state, so they need no leader.
//!
//! The client requires the feature `kubernetes`; everything else is always built and tested.
//!
//! **Invariant:** only the module `client` names the crate `kube`. Nothing here reads Secrets, and nothing is written
//! except the ConfigMap with the authority's certificate.

#[cfg(feature = "kubernetes")]
pub mod client;
pub mod cluster;
pub mod families;
pub mod join;
pub mod kind;
mod metrics;
pub mod object;
pub mod quantity;
pub mod series;
pub mod source;
pub mod start;
mod table;

pub use join::Admission;
pub use source::ApiServer;
pub use start::{Kubernetes, Surroundings, start};
