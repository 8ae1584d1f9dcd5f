//! What the node's kubelet reports about pods and file systems.
//!
//! Sampling never waits for the kubelet. A pod whose name is unknown appears with its UID, or not at all.

pub mod api;
pub mod client;
pub mod metrics;
pub mod poll;
pub mod quantity;
pub mod summary;
pub mod verify;

pub use client::{KubeletClient, KubeletError, KubeletOptions};
pub use poll::{KubeletData, poll};
