//! Tests of the writer against a store.

use std::collections::HashMap;
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

fn labels(pod: &str) -> Labels {
    Labels::from_pairs([("__name__", "m"), ("pod", pod)]).unwrap()
}

/// Samples of a series as `time=value`, a marker as `time=stale`.
fn samples(store: &Store, pod: &str) -> Vec<String> {
    let selection = Selection {
        matchers: vec![Matcher::equal("pod", pod)],
        start_ms: 0,
        end_ms: 1_000_000,
    };
    let control = ReadControl::unlimited();
    let set = store.select(&selection, &control).unwrap();
    let mut out = Vec::new();
    set.read(0..set.len(), &control, &mut |_, column| {
        let Values::Floats(values) = column.values;
        for (time, value) in column.timestamps_ms.iter().zip(values) {
            out.push(match is_stale(*value) {
                true => format!("{time}=stale"),
                false => format!("{time}={value}"),
            });
        }
        Ok(())
    })
    .unwrap();
    out
}

fn set(writer: &mut SeriesWriter, pod: &str, value: f64) -> ColumnId {
    let column = writer.column(&labels(pod)).unwrap();
    writer.set(column, value);
    column
}

#[test]
fn value_stays_until_it_is_set_again_or_its_series_ends() {
    let (_folder, store) = store();
    let mut writer = SeriesWriter::new(store.stream("t"), 10);
    let a = set(&mut writer, "a", 1.0);
    let b = set(&mut writer, "b", 2.0);
    writer.write(1000).unwrap();
    writer.set(a, 3.0);
    writer.write(2000).unwrap();
    writer.end(b);
    writer.write(3000).unwrap();
    writer.write(4000).unwrap();
    assert_eq!(
        samples(&store, "a"),
        ["1000=1", "2000=3", "3000=3", "4000=3"]
    );
    assert_eq!(samples(&store, "b"), ["1000=2", "2000=2", "3000=stale"]);
}

#[test]
fn series_that_a_round_does_not_set_ends() {
    let (_folder, store) = store();
    let mut writer = SeriesWriter::new(store.stream("t"), 10);
    let mut columns = HashMap::new();
    for (time, pods) in [(1000, "ab"), (2000, "bc"), (3000, "bc")] {
        for pod in pods.chars().map(String::from) {
            columns.insert(set(&mut writer, &pod, time as f64), pod);
        }
        writer.end_unset(|column| drop(columns.remove(&column)));
        writer.write(time).unwrap();
    }
    assert_eq!(columns.len(), 2);
    assert_eq!(samples(&store, "a"), ["1000=1000", "2000=stale"]);
    assert_eq!(
        samples(&store, "b"),
        ["1000=1000", "2000=2000", "3000=3000"]
    );
    assert_eq!(samples(&store, "c"), ["2000=2000", "3000=3000"]);
}

#[test]
fn series_that_returns_before_the_next_row_never_ended() {
    let (_folder, store) = store();
    let mut writer = SeriesWriter::new(store.stream("t"), 10);
    let a = set(&mut writer, "a", 1.0);
    writer.write(1000).unwrap();
    writer.end(a);
    assert_eq!(set(&mut writer, "a", 2.0), a);
    writer.write(2000).unwrap();
    // Ended, returned without a value, and ended again: one marker.
    writer.end(a);
    assert_eq!(writer.column(&labels("a")).unwrap(), a);
    writer.end(a);
    writer.end(a);
    writer.write(3000).unwrap();
    writer.write(4000).unwrap();
    assert_eq!(samples(&store, "a"), ["1000=1", "2000=2", "3000=stale"]);
}

#[test]
fn series_without_a_value_leaves_no_trace() {
    let (_folder, store) = store();
    let mut writer = SeriesWriter::new(store.stream("t"), 1);
    let a = writer.column(&labels("a")).unwrap();
    writer.end(a);
    writer.set(a, 1.0);
    assert!(writer.is_empty(), "the column is free");
    writer.write(1000).unwrap();
    assert!(samples(&store, "a").is_empty());
    set(&mut writer, "b", 1.0);
}

#[test]
fn source_that_is_gone_ends_all_series_once() {
    let (_folder, store) = store();
    let mut writer = SeriesWriter::new(store.stream("t"), 10);
    for pod in ["a", "b", "c"] {
        set(&mut writer, pod, 1.0);
    }
    writer.write(1000).unwrap();
    writer.end_all();
    writer.write(2000).unwrap();
    writer.end_all();
    writer.write(3000).unwrap();
    assert!(writer.is_empty());
    for pod in ["a", "b", "c"] {
        assert_eq!(samples(&store, pod), ["1000=1", "2000=stale"]);
    }
}

#[test]
fn two_keys_with_the_same_labels_share_a_column() {
    let (_folder, store) = store();
    let mut writer = SeriesWriter::new(store.stream("t"), 10);
    assert_eq!(set(&mut writer, "a", 1.0), set(&mut writer, "a", 2.0));
    writer.write(1000).unwrap();
    assert_eq!(samples(&store, "a"), ["1000=2"]);
}

#[test]
fn columns_are_reused_without_mixing_series() {
    let (_folder, store) = store();
    let mut writer = SeriesWriter::new(store.stream("t"), 20);
    let pod = |n: i64| format!("p{n:03}");
    let mut columns = Vec::new();
    for n in 0..50 {
        columns.push(set(&mut writer, &pod(n), n as f64));
        if n >= 10 {
            writer.end(columns[n as usize - 10]);
        }
        writer.write(n * 1000).unwrap();
    }
    for n in 0..50 {
        let mut want: Vec<String> = (n..50.min(n + 10))
            .map(|time| format!("{}={n}", time * 1000))
            .collect();
        if n + 10 < 50 {
            want.push(format!("{}=stale", (n + 10) * 1000));
        }
        assert_eq!(samples(&store, &pod(n)), want, "{}", pod(n));
    }
    assert_eq!(writer.len(), 10);
    assert!(writer.columns.len() <= 12, "ended series free their column");
}

#[test]
fn series_limit_counts_what_is_ending_until_its_marker_is_written() {
    let (_folder, store) = store();
    let mut writer = SeriesWriter::new(store.stream("t"), 2);
    let a = set(&mut writer, "a", 1.0);
    set(&mut writer, "b", 1.0);
    let limited = |writer: &mut SeriesWriter| {
        let error = writer.column(&labels("c")).unwrap_err();
        matches!(error, ColumnError::Limit { limit: 2 })
    };
    assert!(limited(&mut writer));
    writer.end(a);
    assert!(limited(&mut writer));
    writer.write(1000).unwrap();
    set(&mut writer, "c", 1.0);
}

#[test]
fn sequence_continues_after_the_durable_one() {
    let (_folder, store) = store();
    let mut writer = SeriesWriter::new(store.stream("t"), 10);
    set(&mut writer, "a", 1.0);
    writer.write(1000).unwrap();
    let appended = writer.write(2000).unwrap();
    store.wait_durable(appended.position).unwrap();
    let mut restarted = SeriesWriter::new(store.stream("t"), 10);
    set(&mut restarted, "a", 4.0);
    restarted.write(3000).unwrap();
    assert_eq!(samples(&store, "a"), ["1000=1", "2000=1", "3000=4"]);
}
