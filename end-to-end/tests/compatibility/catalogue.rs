//! Every row of the metric catalogue, evaluated on the recorded nodes and held against what the recording itself says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use common::catalogue::{Derivation, ENTRIES, Entry, Object};
use common::model::Labels;

use super::evaluation::Cluster;
use super::oracle::{Expected, Oracle};
use super::queries::fixtures;
use super::recording::Recording;

/// The values of an expression by the labels of its objects, and `resource_id`; what is no object's goes to `wrong`.
fn by_object(
    row: &Derivation,
    entry: &Entry,
    found: &[(Labels, f64)],
    wrong: &mut String,
) -> Expected {
    let mut names: Vec<&str> = row.object.labels().to_vec();
    if entry.is_labelled {
        names.push("resource_id");
    }
    let (name, object) = (entry.name, row.object);
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

/// Both agree on an object: to the last digit, or as closely as the recording lets one say.
fn agree(entry: &Entry, found: f64, wanted: f64) -> bool {
    let tolerance = match entry.name {
        // Time passes while the test runs, and the disk below the test fills.
        "uptime" => 60_000.0,
        name if name.starts_with("filesystem/") => wanted.abs() * 0.05,
        _ => wanted.abs() * 1e-9,
    };
    (found - wanted).abs() <= tolerance
}

/// Evaluates a row on a node. Returns how many objects were compared, and what is wrong.
fn check(cluster: &Cluster, oracle: &Oracle, entry: &Entry, row: &Derivation) -> (usize, String) {
    let mut wrong = String::new();
    let found = cluster.ask(row.expression, cluster.now_ms());
    let found = by_object(row, entry, &found, &mut wrong);
    let wanted = oracle.values(entry.name, row.object);
    let mut compared = 0;
    for (key, wanted) in &wanted {
        match found.get(key) {
            Some(&found) if agree(entry, found, *wanted) => compared += 1,
            found => {
                let node = oracle.node;
                let name = entry.name;
                let object = row.object;
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
fn every_row_of_the_catalogue_has_the_recorded_value() {
    let Some(fixtures) = fixtures() else {
        return;
    };
    let mut compared: BTreeMap<(&str, Object), usize> = BTreeMap::new();
    let mut wrong = String::new();
    for recording in Recording::all(&fixtures) {
        let recording = recording
            .within_a_minute()
            .with_resources_nobody_asked_for();
        let oracle = Oracle::new(&recording);
        let cluster = Cluster::new(recording);
        for entry in ENTRIES {
            for row in entry.derivations {
                let (count, said) = check(&cluster, &oracle, entry, row);
                *compared.entry((entry.name, row.object)).or_default() += count;
                wrong.push_str(&said);
            }
        }
    }
    let never: BTreeSet<(&str, Object)> = compared
        .into_iter()
        .filter_map(|(row, count)| (count == 0).then_some(row))
        .collect();
    assert_eq!(wrong, "", "found and recorded differ");
    assert!(never.is_empty(), "never compared: {never:?}");
}
