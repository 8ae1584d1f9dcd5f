//! Kubernetes: the cluster's state from its API server, once per cluster, and who may join.
//!
//! One list and watch of each kind of object gives the series that kube-state-metrics would export, written through
//! the store like any other source, with `job="kube-state-metrics"`. Pods are the agents' matter; only those that no
//! kubelet has yet come from here. An API server that is away, or that refuses, costs nothing but freshness: what was
//! known stays, `up{job="kube-state-metrics"}` says 0, and everything else works on. With several aggregators each
//! keeps its own watch: they share no state that could be led.
//!
//! The client itself is behind the feature `kubernetes`; everything else is always built and tested.
//!
//! **Invariant:** only the module `client` names the crate `kube`. Nothing here reads Secrets, and nothing is written
//! but the ConfigMap with the authority's certificate.

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
