//! The alerts of kube-prometheus: which can fire, and which select series that no component writes.

use std::collections::{BTreeMap, BTreeSet};

use aggregator::kube::families::FAMILIES;

use super::document::Document;
use super::names;
use super::queries::{Queries, fixtures};
use super::recording::Recording;

/// Series of the agent that the recorded nodes lack: they had no connection tracking, software RAID, bonded interfaces or
/// directory of text files. The tests of those collectors cover them.
const OF_OTHER_NODES: [&str; 7] = [
    "node_bonding_active",
    "node_bonding_slaves",
    "node_md_disks",
    "node_md_disks_required",
    "node_nf_conntrack_entries",
    "node_nf_conntrack_entries_limit",
    "node_textfile_scrape_error",
];

/// Returns the names of all series of the agent on a recorded node, including those it forwards from the kubelet.
fn of_the_agent() -> Option<BTreeSet<String>> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    for recording in Recording::all(&fixtures()?) {
        for (labels, _) in recording.snapshot(1).collect() {
            names.insert(labels.metric_name().unwrap().to_owned());
        }
    }
    let of_the_kubelet = agent::kube::metrics::FAMILIES.split(',');
    names.extend(of_the_kubelet.map(str::to_owned));
    names.extend(OF_OTHER_NODES.map(str::to_owned));
    Some(names)
}

#[test]
fn alerts_select_what_is_written_or_are_listed() {
    let (Some(queries), Some(agent)) = (Queries::load(), of_the_agent()) else {
        return;
    };
    let document = Document::load();
    let is_written = |name: &String| {
        let is_own = agent.contains(name) || FAMILIES.iter().any(|(family, _)| family == name);
        let is_recorded =
            queries.records.contains(name) && !document.exceptions.contains_key(name.as_str());
        is_own || is_recorded
    };
    let mut lacking: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (alert, expression) in &queries.alerts {
        let names = names::of(expression).unwrap_or_else(|error| panic!("{alert}: {error}"));
        let unwritten = names.into_iter().filter(|name| !is_written(name));
        let unwritten: Vec<String> = unwritten.collect();
        if !unwritten.is_empty() {
            lacking.entry(alert).or_default().extend(unwritten);
        }
    }
    let listed: BTreeSet<&str> = document.alerts.keys().map(String::as_str).collect();
    let found: BTreeSet<&str> = lacking.keys().copied().collect();
    assert_eq!(
        listed, found,
        "listed (left), missing (right): {lacking:#?}"
    );
    assert!(queries.alerts.len() > 60, "{} alerts", queries.alerts.len());
}
