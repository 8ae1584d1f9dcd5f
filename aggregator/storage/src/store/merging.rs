//! Tests of merges that copy chunks unchanged, and of merges that can't.

use super::*;

use std::collections::{BTreeMap, BTreeSet};

use common::model::{Labels, Sample};

use super::damage::{NOW, open};
use crate::block::Block;
use crate::read::Values;

type Content = BTreeMap<String, Vec<(i64, u64)>>;

const STEP_MS: i64 = 4_000;
/// The first timestamp. No merge span has ended yet, so the store does not merge on its own.
const START: i64 = NOW - 2 * 3_600_000;

fn labels(series: u32) -> Labels {
    Labels::from_pairs([("__name__", format!("m{series:04}"))]).unwrap()
}

fn content(store: &Store) -> Content {
    let control = ReadControl::unlimited();
    let selection = Selection {
        matchers: vec![],
        start_ms: i64::MIN,
        end_ms: i64::MAX,
    };
    let set = store.select(&selection, &control).unwrap();
    let mut content = Content::new();
    set.read(0..set.len(), &control, &mut |index, column| {
        let Values::Floats(values) = column.values;
        let bits = values.iter().map(|value| value.to_bits());
        let samples = column.timestamps_ms.iter().copied().zip(bits).collect();
        let name = set.labels(index).metric_name().unwrap().to_owned();
        assert!(content.insert(name, samples).is_none());
        Ok(())
    })
    .unwrap();
    content
}

/// Appends rows of the series and seals them as a block.
fn seal(store: &Store, series: &[u32], rows: std::ops::Range<i64>, want: &mut Content) {
    let mut stream = store.stream("agent/x");
    for (column, &one) in series.iter().enumerate() {
        stream.define(column as u32, &labels(one)).unwrap();
    }
    let first = stream.durable_sequence().unwrap_or(0) + 1;
    for (row, sequence) in rows.zip(first..) {
        let time = START + row * STEP_MS;
        let value = |one: u32| f64::from(one) + (row % 97) as f64 / 8.0;
        let values: Vec<_> = (0..).zip(series.iter().map(|&one| value(one))).collect();
        let appended = stream.append_row(sequence, time, &values).unwrap();
        assert_eq!(appended.stored, series.len() as u64);
        store.wait_durable(appended.position).unwrap();
        for &one in series {
            let list = want.entry(format!("m{one:04}")).or_default();
            list.push((time, value(one).to_bits()));
        }
    }
    let inner = store.inner();
    inner.seal(&mut lock(&inner.maintenance)).unwrap();
}

/// Returns the checksums of a block's chunks.
fn chunks(block: &Block) -> BTreeSet<u32> {
    let loaded = block.load().unwrap();
    loaded.directory.iter().map(|chunk| chunk.crc).collect()
}

/// Merges all blocks; returns the number of source chunks and how many of them are in the merged block.
fn merge(store: &Store, want: &Content) -> (usize, usize) {
    assert_eq!(&content(store), want);
    let before: BTreeSet<u32> = store
        .inner()
        .blocks
        .all()
        .iter()
        .flat_map(|b| chunks(b))
        .collect();
    store.inner().merge_all().unwrap();
    let blocks = store.inner().blocks.all();
    assert_eq!(blocks.len(), 1);
    assert_eq!(&content(store), want);
    let samples: usize = want.values().map(Vec::len).sum();
    assert_eq!(blocks[0].footer.samples, samples as u64);
    let times = || want.values().flatten().map(|&(time, _)| time);
    let footer = blocks[0].footer;
    assert_eq!(Some(footer.first_ms), times().min());
    assert_eq!(Some(footer.last_ms), times().max());
    (
        before.len(),
        before.intersection(&chunks(&blocks[0])).count(),
    )
}

fn with_store(test: impl FnOnce(&Store, &mut Content)) {
    let directory = tempfile::tempdir().unwrap();
    let mut want = Content::new();
    let store = open(directory.path());
    test(&store, &mut want);
    drop(store);
    assert_eq!(content(&open(directory.path())), want, "after a restart");
    let verified = crate::verify::verify(directory.path(), &mut |_, _| ()).unwrap();
    assert!(verified.damage.is_empty(), "{verified:?}");
}

#[test]
fn long_chunks_are_taken_over() {
    with_store(|store, want| {
        let series: Vec<u32> = (0..100).collect();
        seal(store, &series, 0..690, want);
        seal(store, &series, 690..1400, want);
        seal(store, &series, 1400..1600, want);
        // Each of the three blocks has a chunk of 64 and one of 36 series; they are long on average.
        assert_eq!(merge(store, want), (6, 6));
    });
}

#[test]
fn short_chunks_are_joined() {
    with_store(|store, want| {
        let series: Vec<u32> = (0..100).collect();
        for part in 0..4 {
            seal(store, &series, part * 50..(part + 1) * 50, want);
        }
        let (before, kept) = merge(store, want);
        assert_eq!((before, kept), (8, 0));
        assert_eq!(chunks(&store.inner().blocks.all()[0]).len(), 2);
    });
}

#[test]
fn only_slices_whose_series_changed_are_packed_anew() {
    with_store(|store, want| {
        let series: Vec<u32> = (0..192).collect();
        seal(store, &series, 0..600, want);
        // One series of the second 64 is gone, so those after it moved up. A new one is added at the end.
        let changed: Vec<u32> = (0..193).filter(|&one| one != 70).collect();
        seal(store, &changed, 600..1150, want);
        let (before, kept) = merge(store, want);
        assert_eq!((before, kept), (6, 2), "both chunks of the first 64 series");
    });
}

#[test]
fn chunks_that_overlap_in_time_are_not_taken_over() {
    with_store(|store, want| {
        let series: Vec<u32> = (0..64).collect();
        seal(store, &series, 0..600, want);
        seal(store, &series, 700..1300, want);
        // Late samples of one series, between the samples of the first block.
        let late: Vec<_> = (0..5)
            .map(|n| Sample {
                timestamp_ms: START + n * STEP_MS + 1,
                value: 0.5,
            })
            .collect();
        let one = SeriesSamples {
            labels: labels(3),
            samples: late.clone(),
        };
        let appended = store.append(&[one], AppendMode::Atomic).unwrap();
        assert_eq!(appended.stored, 5);
        let list = want.get_mut("m0003").unwrap();
        list.extend(late.iter().map(|s| (s.timestamp_ms, s.value.to_bits())));
        list.sort_unstable();
        let inner = store.inner();
        inner.seal(&mut lock(&inner.maintenance)).unwrap();
        let (_, kept) = merge(store, want);
        assert_eq!(kept, 0);
    });
}

#[test]
fn samples_beyond_the_retention_are_not_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let mut want = Content::new();
    let store = open(directory.path());
    let series: Vec<u32> = (0..64).collect();
    seal(&store, &series, 0..600, &mut want);
    seal(&store, &series, 600..1200, &mut want);
    assert_eq!(content(&store), want);
    drop(store);
    let start_ms = START + 100 * STEP_MS;
    let options = StoreOptions {
        path: directory.path().to_path_buf(),
        retention: Some(Duration::from_millis((NOW - start_ms) as u64)),
        retention_bytes: 0,
        memory_budget_bytes: 1 << 30,
        ..StoreOptions::default()
    };
    let store = Store::open(options, Arc::new(common::clock::ManualClock::new(NOW))).unwrap();
    for list in want.values_mut() {
        list.retain(|&(time, _)| time >= start_ms);
    }
    store.inner().merge_all().unwrap();
    assert_eq!(store.inner().blocks.all()[0].footer.first_ms, start_ms);
    assert_eq!(content(&store), want);
}

#[test]
fn merge_lets_something_else_run_now_and_then() {
    with_store(|store, want| {
        let series: Vec<u32> = (0..3000).collect();
        seal(store, &series, 0..2, want);
        seal(store, &series, 2..4, want);
        let mut calls = 0;
        let blocks = store.inner().blocks.all();
        let mut between = || {
            calls += 1;
            Ok(())
        };
        store.inner().merge(&blocks, &mut between).unwrap();
        assert_eq!(calls, 2);
        // If the callback fails, the merge ends and the source blocks stay.
        seal(store, &series, 4..6, want);
        let blocks = store.inner().blocks.all();
        let mut fails = || Err(MaintenanceError::Seal(std::io::Error::other("test")));
        store.inner().merge(&blocks, &mut fails).unwrap_err();
        assert_eq!(store.inner().blocks.all().len(), 2);
        assert_eq!(&content(store), want);
    });
}
