//! Kubernetes as the node knows it: what its kubelet says about pods and file systems.
//!
//! Sampling never waits for any of this. What is not known yet, or no longer, is shown by UID or absent.

pub mod api;
pub mod client;
pub mod metrics;
pub mod poll;
pub mod quantity;
pub mod summary;
pub mod verify;

pub use client::{KubeletClient, KubeletError, KubeletOptions};
pub use poll::{KubeletData, poll};
