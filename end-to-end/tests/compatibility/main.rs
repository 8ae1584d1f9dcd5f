//! Checks docs/compatibility.md: which rules and dashboards of kube-prometheus work, and with which sources.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail the test, and print what is skipped"
)]

mod alerts;
mod binaries;
mod cadvisor;
mod document;
mod evaluation;
mod heapster;
mod kube_state;
mod machine;
mod names;
mod oracle;
mod queries;
mod recording;

use std::collections::{BTreeMap, BTreeSet};

use aggregator::kube::families::FAMILIES;

use document::Document;
use queries::Queries;

/// Returns every metric that a recording rule or a panel selects, with the queries that select it.
fn needed(queries: &Queries) -> BTreeMap<String, BTreeSet<String>> {
    let mut needed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for query in &queries.all {
        for name in
            names::of(&query.text).unwrap_or_else(|error| panic!("{}: {error}", query.place))
        {
            needed.entry(name).or_default().insert(query.place.clone());
        }
    }
    needed
}

#[test]
fn dashboards_are_those_that_must_work() {
    let Some(queries) = Queries::load() else {
        return;
    };
    let found: BTreeSet<&str> = queries.all.iter().map(|query| &*query.dashboard).collect();
    let rules = "";
    let must = [
        rules,
        "cluster-total",
        "k8s-resources-cluster",
        "k8s-resources-multicluster",
        "k8s-resources-namespace",
        "k8s-resources-node",
        "k8s-resources-nodes-overview",
        "k8s-resources-pod",
        "k8s-resources-workload",
        "k8s-resources-workloads-namespace",
        "kubelet",
        "namespace-by-pod",
        "namespace-by-workload",
        "node-cluster-rsrc-use",
        "node-rsrc-use",
        "nodes",
        "persistentvolumesusage",
        "pod-total",
        "workload-total",
    ];
    assert_eq!(found, BTreeSet::from(must));
}

#[test]
fn every_metric_that_rules_and_panels_need_is_listed_with_its_source() {
    let Some(queries) = Queries::load() else {
        return;
    };
    let document = Document::load();
    let needed = needed(&queries);
    let mut wrong = Vec::new();
    for (name, places) in &needed {
        if !document.metrics.contains_key(name) {
            let place = places.first().unwrap();
            wrong.push(format!("`{name}` is needed by {place} and not listed"));
        }
    }
    for name in document
        .metrics
        .keys()
        .filter(|name| !needed.contains_key(*name))
    {
        wrong.push(format!("`{name}` is listed and needed by nothing"));
    }
    assert!(
        wrong.is_empty(),
        "docs/compatibility.md:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn sources_are_what_they_are_said_to_be() {
    let document = Document::load();
    let families: BTreeSet<&str> = FAMILIES.iter().map(|(name, _)| *name).collect();
    let records = Queries::load().map(|queries| queries.records);
    for (name, source) in &document.metrics {
        match source.as_str() {
            "agent" => assert!(
                !families.contains(name.as_str()) || name.starts_with("kube_pod_"),
                "{name} is the aggregator's"
            ),
            "aggregator" => assert!(families.contains(name.as_str()), "{name} is not written"),
            "agent, aggregator" => {
                assert!(families.contains(name.as_str()), "{name} is not written");
                assert!(
                    name.starts_with("kube_pod_"),
                    "{name} is the aggregator's alone"
                );
            }
            "rule" => {
                let known = records
                    .as_ref()
                    .is_none_or(|records| records.contains(name));
                assert!(known, "no rule records {name}");
            }
            scrape => assert!(
                document.is_foreign(scrape),
                "{name}: unknown source {scrape:?}"
            ),
        }
    }
}

#[test]
fn every_rule_that_can_not_work_is_an_exception_with_a_reason() {
    let Some(queries) = Queries::load() else {
        return;
    };
    let document = Document::load();
    // A rule over a rule without a result has no result either.
    let mut lacking: BTreeSet<String> = BTreeSet::new();
    loop {
        let before = lacking.len();
        for query in &queries.all {
            let foreign = |name: &String| {
                let source = document.metrics.get(name).map_or("", String::as_str);
                document.is_foreign(source) || lacking.contains(name)
            };
            if names::of(&query.text).unwrap().iter().any(foreign) {
                lacking.insert(
                    query
                        .record
                        .clone()
                        .unwrap_or_else(|| query.dashboard.clone()),
                );
            }
        }
        if lacking.len() == before {
            break;
        }
    }
    let listed: BTreeSet<&String> = document.exceptions.keys().collect();
    let wanted: BTreeSet<&String> = lacking.iter().collect();
    assert_eq!(
        listed, wanted,
        "exceptions in docs/compatibility.md (left) and found (right)"
    );
    assert!(document.exceptions.values().all(|reason| reason.len() > 10));
}
