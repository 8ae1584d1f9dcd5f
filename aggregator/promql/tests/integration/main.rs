//! PromQL as a whole: test scripts, and comparison with the real Prometheus.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests; what fails here fails the test"
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
