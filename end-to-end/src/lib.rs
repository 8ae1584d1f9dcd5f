//! End-to-end tests of agent and aggregator together. The crate has no code of its own.
