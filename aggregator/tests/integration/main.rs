//! Tests of the real binary over HTTP, signals, QUIC, and with the programs of other projects.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail the test, and say what is skipped"
)]

mod agents;
mod alerting;
mod api;
mod conformance;
mod ctl;
mod disk_full;
mod endless;
mod harness;
mod http;
mod kills;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod lifecycle;
mod memory;
mod paths;
mod peers;
mod process;
mod remote;
#[path = "../../promql/tests/integration/script.rs"]
mod script;
mod security;
mod tls;
mod transfer;
