//! Evaluates every metric of the Heapster catalogue on the recorded nodes, and compares it with the recording.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use common::heapster_catalogue::{ENTRIES, HeapsterMetric, Object};
use common::model::Labels;

use super::evaluation::Cluster;
use super::oracle::{Expected, Oracle};
use super::queries::fixtures;
use super::recording::Recording;

/// Metrics that a recording lacks, so that only the other one is compared: node, metrics, objects, reason.
const NOT_COMPARED: [(&str, &[&str], &[Object], &str); 4] = [
    (
        "node-a",
        &[
            "cpu/node_utilization",
            "cpu/usage",
            "cpu/usage_rate",
            "memory/cache",
            "memory/major_page_faults",
            "memory/major_page_faults_rate",
            "memory/node_utilization",
            "memory/page_faults",
            "memory/page_faults_rate",
            "memory/rss",
            "memory/usage",
            "memory/working_set",
        ],
        &[Object::Node],
        "the root of cgroup v1's trees was not recorded",
    ),
    (
        "node-a",
        &[
            "disk/io_read_bytes",
            "disk/io_read_bytes_rate",
            "disk/io_write_bytes",
            "disk/io_write_bytes_rate",
        ],
        &[Object::Node, Object::Pod, Object::PodContainer],
        "that kernel counted no block I/O by cgroup v1",
    ),
    (
        "node-a",
        &["cpu/usage_rate"],
        &[Object::Cluster, Object::SystemContainer],
        "the sums started too recently for `rate` to extrapolate fully",
    ),
    (
        "node-v2",
        &["network/tx_rate"],
        &[Object::Node],
        "the counter started too recently for `rate` to extrapolate fully",
    ),
];

/// Returns the values of an expression by the labels of its objects and `resource_id`. Reports other results in `wrong`.
fn by_object(
    object: Object,
    entry: &HeapsterMetric,
    found: &[(Labels, f64)],
    wrong: &mut String,
) -> Expected {
    let mut names: Vec<&str> = object.labels().to_vec();
    if entry.is_labelled {
        names.push("resource_id");
    }
    let name = entry.name;
    let mut values = Expected::new();
    for (labels, value) in found {
        let key = names
            .iter()
            .map(|name| labels.get(name).unwrap_or_default().to_owned());
        let key: Vec<String> = key.collect();
        if key.iter().any(String::is_empty) {
            writeln!(wrong, "{name} of {object:?}: {labels} names no object").unwrap();
        }
        if !value.is_finite() || *value < 0.0 {
            writeln!(wrong, "{name} of {object:?}: {labels} is {value}").unwrap();
        }
        if values.insert(key, *value).is_some() {
            writeln!(wrong, "{name} of {object:?}: two values for {labels}").unwrap();
        }
    }
    values
}

/// Whether both values of an object agree: exactly, or as far as the recording allows.
fn agree(entry: &HeapsterMetric, found: f64, wanted: f64) -> bool {
    let tolerance = match entry.name {
        // Time passes and the disk fills while the test runs.
        "uptime" => 60_000.0,
        name if name.starts_with("filesystem/") => wanted.abs() * 0.05,
        _ => wanted.abs() * 1e-9,
    };
    (found - wanted).abs() <= tolerance
}

/// Evaluates a metric for one kind of object on a node. Returns the number of compared objects and the errors.
fn check(
    cluster: &Cluster,
    oracle: &Oracle,
    entry: &HeapsterMetric,
    object: Object,
) -> (usize, String) {
    let mut wrong = String::new();
    let rows = entry.derivations_of(object);
    let found = rows.flat_map(|row| cluster.ask(row.expression, cluster.now_ms()));
    let found = by_object(object, entry, &found.collect::<Vec<_>>(), &mut wrong);
    let wanted = oracle.values(entry.name, object);
    let mut compared = 0;
    for (key, wanted) in &wanted {
        match found.get(key) {
            Some(&found) if agree(entry, found, *wanted) => compared += 1,
            found => {
                let node = oracle.node;
                let name = entry.name;
                writeln!(
                    wrong,
                    "{node} {name} of {object:?} {key:?}: {found:?}, recorded {wanted}"
                )
                .unwrap();
            }
        }
    }
    (compared, wrong)
}

#[test]
fn every_metric_of_the_catalogue_has_the_recorded_value() {
    let Some(fixtures) = fixtures() else {
        return;
    };
    let mut never: BTreeSet<(&str, &str, Object)> = BTreeSet::new();
    let mut wrong = String::new();
    for recording in Recording::all(&fixtures) {
        let recording = recording
            .within_a_minute()
            .with_resources_nobody_asked_for();
        let oracle = Oracle::new(&recording);
        let node = recording.node;
        let cluster = Cluster::new(recording);
        for entry in ENTRIES {
            let objects = entry.derivations.iter().map(|row| row.object);
            for object in objects.collect::<BTreeSet<_>>() {
                let (count, said) = check(&cluster, &oracle, entry, object);
                if count == 0 {
                    never.insert((node, entry.name, object));
                }
                wrong.push_str(&said);
            }
        }
    }
    assert_eq!(wrong, "", "found and recorded differ");
    let mut excused = BTreeSet::new();
    for (node, metrics, objects, reason) in NOT_COMPARED {
        assert!(reason.len() > 10);
        for metric in metrics {
            excused.extend(objects.iter().map(|object| (node, *metric, *object)));
        }
    }
    assert_eq!(never, excused, "not compared (left), excused (right)");
}
