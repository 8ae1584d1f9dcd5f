//! Tests of the tables, against a store.

use std::sync::Arc;

use common::clock::ManualClock;
use common::model::{Matcher, is_stale};
use tidemark_storage::{ReadControl, Readable as _, Selection, Store, StoreOptions, Values};

use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        path: folder.path().to_owned(),
        retention: None,
        retention_bytes: 0,
        memory_budget_bytes: 64 << 20,
        ..StoreOptions::default()
    };
    let store = Store::open(options, Arc::new(ManualClock::new(1_000_000))).unwrap();
    (folder, store)
}

fn labels(name: &str, pod: &str) -> Labels {
    Labels::from_pairs([("__name__", name), ("pod", pod)]).unwrap()
}

/// All samples of a metric as `pod@time=value`, a marker as `pod@time=stale`.
fn samples(store: &Store, name: &str) -> Vec<String> {
    let selection = Selection {
        matchers: vec![Matcher::equal("__name__", name)],
        start_ms: 0,
        end_ms: 1_000_000,
    };
    let control = ReadControl::unlimited();
    let set = store.select(&selection, &control).unwrap();
    let mut out = Vec::new();
    set.read(0..set.len(), &control, &mut |index, column| {
        let labels = set.labels(index);
        let Values::Floats(values) = column.values;
        for (time, value) in column.timestamps_ms.iter().zip(values) {
            let value = if is_stale(*value) {
                "stale".to_owned()
            } else {
                value.to_string()
            };
            out.push(format!("{}@{time}={value}", labels.get("pod").unwrap()));
        }
        Ok(())
    })
    .unwrap();
    out.sort();
    out
}

fn listed(store: &Store) -> Table {
    let mut table = Table::new(store.stream("t"), 100);
    table.begin_list();
    table.end_list();
    table
}

#[test]
fn nothing_is_written_before_a_list_is_complete() {
    let (_folder, store) = store();
    let mut table = Table::new(store.stream("t"), 100);
    table.begin_list();
    table.apply("a".into(), vec![(labels("m", "a"), 1.0)]);
    table.write(1000).unwrap();
    assert!(samples(&store, "m").is_empty());
    table.end_list();
    table.write(2000).unwrap();
    assert_eq!(samples(&store, "m"), ["a@2000=1"]);
}

#[test]
fn change_of_an_object_touches_only_its_own_series() {
    let (_folder, store) = store();
    let mut table = listed(&store);
    table.apply(
        "a".into(),
        vec![(labels("m", "a"), 1.0), (labels("n", "a"), 5.0)],
    );
    table.apply("b".into(), vec![(labels("m", "b"), 2.0)]);
    table.write(1000).unwrap();
    table.apply(
        "a".into(),
        vec![(labels("m", "a"), 3.0), (labels("o", "a"), 6.0)],
    );
    table.write(2000).unwrap();
    table.write(3000).unwrap();
    assert_eq!(
        samples(&store, "m"),
        [
            "a@1000=1", "a@2000=3", "a@3000=3", "b@1000=2", "b@2000=2", "b@3000=2"
        ]
    );
    assert_eq!(samples(&store, "n"), ["a@1000=5", "a@2000=stale"]);
    assert_eq!(samples(&store, "o"), ["a@2000=6", "a@3000=6"]);
    assert_eq!(table.series(), 3);
}

#[test]
fn object_missing_from_a_new_list_ends() {
    let (_folder, store) = store();
    let mut table = listed(&store);
    table.apply("a".into(), vec![(labels("m", "a"), 1.0)]);
    table.apply("b".into(), vec![(labels("m", "b"), 1.0)]);
    table.write(1000).unwrap();
    table.begin_list();
    table.apply("b".into(), vec![(labels("m", "b"), 1.0)]);
    table.end_list();
    table.write(2000).unwrap();
    assert_eq!(
        samples(&store, "m"),
        ["a@1000=1", "a@2000=stale", "b@1000=1", "b@2000=1"]
    );
    assert_eq!(table.objects(), 1);
}

#[test]
fn object_that_returns_before_the_next_row_never_ended() {
    let (_folder, store) = store();
    let mut table = listed(&store);
    table.apply("a".into(), vec![(labels("m", "a"), 1.0)]);
    table.write(1000).unwrap();
    table.remove("a");
    table.apply("a".into(), vec![(labels("m", "a"), 2.0)]);
    table.write(2000).unwrap();
    assert_eq!(samples(&store, "m"), ["a@1000=1", "a@2000=2"]);
}

#[test]
fn series_named_twice_by_one_object_is_written_once() {
    let (_folder, store) = store();
    let mut table = listed(&store);
    let twice = vec![(labels("m", "a"), 1.0), (labels("m", "a"), 1.0)];
    assert_eq!(table.apply("a".into(), twice), 0);
    assert_eq!(table.series(), 1);
}

#[test]
fn series_beyond_the_limit_are_refused() {
    let (_folder, store) = store();
    let mut table = Table::new(store.stream("t"), 2);
    table.begin_list();
    table.end_list();
    let series = |n: usize| (0..n).map(|n| (labels("m", &n.to_string()), 1.0)).collect();
    assert_eq!(table.apply("a".into(), series(2)), 0);
    assert_eq!(table.apply("a".into(), series(3)), 1);
    assert_eq!(table.apply("b".into(), vec![(labels("n", "b"), 1.0)]), 1);
    table.remove("a");
    table.write(1000).unwrap();
    assert_eq!(table.apply("b".into(), vec![(labels("n", "b"), 1.0)]), 0);
}
