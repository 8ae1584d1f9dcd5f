//! Compares the series of pods and containers with the kubelet's cAdvisor at the same time: each of its series must exist
//! with the same name and labels. Other tests compare values with the kernel's files.

use std::collections::{BTreeMap, BTreeSet};

use common::model::Labels;

use super::document::Document;
use super::queries::fixtures;
use super::recording::Recording;

/// Labels that distinguish series of a family. `id` and `name` only identify the container again.
const TOLD_APART_BY: [&str; 10] = [
    "__name__",
    "namespace",
    "pod",
    "container",
    "image",
    "interface",
    "device",
    "failure_type",
    "scope",
    "pagesize",
];

/// Containers that were being killed during the recording, so that some of their files were missing.
const DYING: [(&str, u32, &str); 1] = [("node-a", 1, "eater")];

fn key(labels: &Labels) -> Vec<String> {
    let value = |name: &&str| labels.get(name).unwrap_or_default().to_owned();
    TOLD_APART_BY.iter().map(value).collect()
}

/// Whether the agent has an equivalent of a cAdvisor series. It has none for a sandbox, whose cost is part of its pod's, or
/// for the node's network, which cAdvisor repeats for pods that share it.
fn is_shown(labels: &Labels) -> bool {
    let label = |name| labels.get(name).unwrap_or_default();
    let is_sandbox = label("container").is_empty() && !label("image").is_empty();
    let is_host_network = label("pod") == "host-net" && !label("interface").is_empty();
    // The kubelet assigns a pod's network to its sandbox.
    let is_network = !label("interface").is_empty();
    !label("pod").is_empty() && (!is_sandbox || is_network) && !is_host_network
}

/// Removes the labels that mark a series as a sandbox's.
fn own_key(labels: &Labels) -> Vec<String> {
    let mut builder = labels.to_builder();
    if labels.get("interface").is_some() {
        builder.remove("image");
    }
    key(&builder.build().unwrap())
}

#[test]
fn series_of_cadvisor_are_there_unless_listed() {
    let Some(fixtures) = fixtures() else {
        return;
    };
    let document = Document::load();
    let mut missing: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let (mut places, mut compared) = (BTreeMap::<String, String>::new(), 0);
    for recording in Recording::all(&fixtures) {
        let node = recording.node;
        for snapshot in [1, 2] {
            let cgroups = recording.cgroups(snapshot);
            let collected = recording.snapshot(snapshot).collect();
            let own: BTreeSet<_> = collected.iter().map(|(labels, _)| key(labels)).collect();
            for (labels, _) in recording.cadvisor(snapshot) {
                let container = labels.get("container").unwrap_or_default();
                let is_dying = DYING.contains(&(node, snapshot, container));
                let id = labels.get("name").unwrap_or_default();
                if !is_shown(&labels) || is_dying || !cgroups.contains(id) {
                    continue;
                }
                compared += 1;
                if !own.contains(&own_key(&labels)) {
                    let of = if container.is_empty() { " of pods" } else { "" };
                    let family = format!("{}{of}", labels.metric_name().unwrap());
                    places.insert(family.clone(), format!("{node}: {labels}"));
                    missing.entry(family).or_default().insert(node.to_owned());
                }
            }
        }
    }
    // Missing series of containers and pods are combined.
    let families: BTreeSet<String> = missing.keys().cloned().collect();
    missing.retain(|family, _| {
        let of_containers = family.strip_suffix(" of pods");
        of_containers.is_none_or(|family| !families.contains(family))
    });
    let listed = document.left_out.iter();
    let listed: BTreeMap<_, _> = listed.map(|(family, one)| (family, &one.nodes)).collect();
    let missing: BTreeMap<_, _> = missing.iter().collect();
    assert_eq!(
        listed, missing,
        "listed (left), missing (right): {places:#?}"
    );
    assert!(compared > 4000, "only {compared} series");
}
