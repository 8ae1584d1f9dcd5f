//! The agent with real counterparts: the kernel's files, real cgroups, node_exporter, recorded nodes.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests, outside of the functions that clippy knows to be tests"
)]

mod allocations;
mod cgroups;
mod docker;
mod hardware;
mod huge_pages;
mod kubelet;
mod namespaces;
mod node_exporter;
mod process;
mod real_cgroups;
mod recorded;
mod series_page;
mod support;
mod unified;
