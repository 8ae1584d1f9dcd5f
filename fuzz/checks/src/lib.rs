//! The checks of the fuzz targets. Each passes arbitrary bytes to one parser of external input, and panics when an invariant
//! is violated.
//!
//! The targets in `fuzz/fuzz_targets` run these under libFuzzer. The test of this crate replays the committed corpus and a
//! bounded number of its mutations on the stable compiler, as a part of every test run.

pub mod agent_files;
pub mod config;
pub mod http;
pub mod kubelet;
pub mod mutate;
pub mod promql;
pub mod regex;
pub mod spool;
pub mod table;
pub mod template;
pub mod texts;
pub mod wire;

use tidemark_storage::fuzzing;

/// A fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name of the file in `fuzz/fuzz_targets` and of the folder in `fuzz/corpus`.
    pub name: &'static str,
    /// The check.
    pub check: fn(&[u8]),
}

const fn target(name: &'static str, check: fn(&[u8])) -> Target {
    Target { name, check }
}

/// All targets, by name.
pub const TARGETS: &[Target] = &[
    target("agent_cgroup", agent_files::cgroup),
    target("agent_kubelet_metrics", kubelet::metrics),
    target("agent_kubelet_pods", kubelet::pods),
    target("agent_kubelet_summary", kubelet::summary),
    target("agent_mountinfo", agent_files::mountinfo),
    target("agent_hardware", agent_files::hardware),
    target("agent_node", agent_files::node),
    target("agent_spool", spool::segment),
    target("agent_textfile", agent_files::textfile),
    target("config_alertmanager", config::alertmanager),
    target("config_prometheus", config::prometheus),
    target("config_relabel", config::relabel),
    target("config_rules", config::rules),
    target("exposition", texts::exposition),
    target("http_alertmanager", http::alertmanager),
    target("http_query", http::query),
    target("http_remote_read", http::remote_read),
    target("http_remote_write", http::remote_write),
    target("promql", promql::promql),
    target("regex", regex::regex),
    target("storage_block_directory", fuzzing::block_directory),
    target("storage_block_index", fuzzing::block_index),
    target("storage_chunk", fuzzing::chunk),
    target("storage_chunk_values", fuzzing::chunk_of_values),
    target("storage_wal_record", fuzzing::wal_record),
    target("storage_wal_segment", fuzzing::wal_segment),
    target("template", template::template),
    target("texts", texts::texts),
    target("wire_frames", wire::frames),
    target("wire_session", wire::session),
    target("wire_values", wire::values),
];

/// Runs the target with this name; called by libFuzzer's harnesses.
///
/// # Panics
/// The check fails, or there is no such target.
pub fn run(name: &str, input: &[u8]) {
    let found = TARGETS.iter().find(|target| target.name == name);
    (found.expect("a target of that name").check)(input);
}
