//! Tests of the whole crate: test scripts, hostile input, and comparison with a real Prometheus.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "test helpers fail the test"
)]

mod cache;
mod deviations;
mod generator;
mod hostile;
mod math_diff;
mod parse_diff;
mod peer;
mod query_diff;
mod script;
mod scripts;
