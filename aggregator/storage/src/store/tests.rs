use super::*;

use common::clock::ManualClock;
use common::model::{Labels, Matcher, STALE_NAN, Sample};

use crate::read::Values;
use crate::write::RefusalReason;

const NOW: i64 = 1_700_000_000_000;

pub(super) fn open_at(path: &std::path::Path) -> Store {
    let options = StoreOptions {
        path: path.to_path_buf(),
        retention: None,
        retention_bytes: 0,
        memory_budget_bytes: 1 << 30,
        ..StoreOptions::default()
    };
    Store::open(options, Arc::new(ManualClock::new(NOW))).unwrap()
}

pub(super) fn labels(name: &str, instance: &str) -> Labels {
    Labels::from_pairs([("__name__", name), ("job", "j"), ("instance", instance)]).unwrap()
}

pub(super) fn one(labels: &Labels, samples: &[(i64, f64)]) -> SeriesSamples {
    SeriesSamples {
        labels: labels.clone(),
        samples: samples
            .iter()
            .map(|&(timestamp_ms, value)| Sample {
                timestamp_ms,
                value,
            })
            .collect(),
    }
}

pub(super) type Content = BTreeMap<Labels, Vec<(i64, u64)>>;

fn content(store: &Store, start_ms: i64, end_ms: i64) -> Content {
    let control = ReadControl::unlimited();
    let selection = Selection {
        matchers: vec![],
        start_ms,
        end_ms,
    };
    let set = store.select(&selection, &control).unwrap();
    let mut content = Content::new();
    set.read(0..set.len(), &control, &mut |index, column| {
        let Values::Floats(values) = column.values;
        let bits = values.iter().map(|v| v.to_bits());
        let samples = column.timestamps_ms.iter().copied().zip(bits).collect();
        assert!(content.insert(set.labels(index), samples).is_none());
        Ok(())
    })
    .unwrap();
    let mut newest = BTreeMap::new();
    set.read_newest(0..set.len(), &control, &mut |index, column| {
        let Values::Floats(values) = column.values;
        let last = column.timestamps_ms.last().zip(values.last());
        newest.insert(set.labels(index), last.map(|(&t, v)| (t, v.to_bits())));
        Ok(())
    })
    .unwrap();
    let last = content.iter().map(|(labels, all)| (labels, all.last()));
    assert!(last.eq(newest.iter().map(|(labels, one)| (labels, one.as_ref()))));
    content
}

pub(super) fn all(store: &Store) -> Content {
    content(store, i64::MIN, i64::MAX)
}

#[test]
fn stream_continues_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let series: Vec<_> = (0..20).map(|n| labels(&format!("m{n}"), "a")).collect();
    let before = {
        let store = open_at(directory.path());
        let mut stream = store.stream("agent/x");
        assert_eq!(stream.durable_sequence(), None);
        for (column, one) in series.iter().enumerate() {
            stream.define(column as u32, one).unwrap();
        }
        let mut last = LogPosition::default();
        for tick in 1..=10 {
            let row: Vec<_> = (0..20).map(|c| (c, f64::from(c * tick))).collect();
            let at = NOW + i64::from(tick);
            last = stream
                .append_row(u64::from(tick), at, &row)
                .unwrap()
                .position;
        }
        store.wait_durable(last).unwrap();
        assert_eq!(stream.durable_sequence(), Some(10));
        all(&store)
    };
    assert_eq!(before.len(), 20);
    let store = open_at(directory.path());
    assert_eq!(all(&store), before);
    let mut stream = store.stream("agent/x");
    assert_eq!(stream.durable_sequence(), Some(10));
    stream.define(7, &series[3]).unwrap();
    let repeated = stream.append_row(10, NOW + 10, &[(7, 1.0)]).unwrap();
    assert_eq!((repeated.duplicates, repeated.stored), (1, 0));
    let appended = stream.append_row(11, NOW + 11, &[(7, 5.0)]).unwrap();
    assert_eq!(appended.stored, 1);
    assert_eq!(all(&store)[&series[3]].len(), 11);
}

#[test]
fn same_sample_is_dropped_and_another_value_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_at(directory.path());
    let a = labels("a", "x");
    let append = |samples: &[(i64, f64)], mode| store.append(&[one(&a, samples)], mode);
    let first = append(&[(5, 1.0), (3, 2.0)], AppendMode::Atomic).unwrap();
    assert_eq!((first.stored, first.duplicates), (2, 0));
    let again = append(&[(5, 1.0), (4, 9.0)], AppendMode::Atomic).unwrap();
    assert_eq!((again.stored, again.duplicates), (1, 1));
    let error = append(&[(6, 1.0), (5, 7.0)], AppendMode::Atomic).unwrap_err();
    let AppendError::Refused(refused) = error else {
        panic!("{error}");
    };
    assert_eq!(
        refused.refusals[0].reason,
        RefusalReason::DuplicateTimestamp
    );
    let partial = append(&[(6, 1.0), (5, 7.0)], AppendMode::Partial).unwrap();
    assert_eq!((partial.stored, partial.refused), (1, 1));
    let times: Vec<_> = all(&store)[&a].iter().map(|&(t, _)| t).collect();
    assert_eq!(times, [3, 4, 5, 6]);
}

#[test]
fn special_values_survive_a_restart_to_the_bit() {
    let directory = tempfile::tempdir().unwrap();
    let bits = [
        STALE_NAN.to_bits(),
        f64::NAN.to_bits(),
        (-0.0_f64).to_bits(),
        f64::INFINITY.to_bits(),
        1,
        u64::MAX,
        crate::head::rows::ABSENT,
    ];
    let samples: Vec<_> = (0..).zip(bits.iter().map(|&b| f64::from_bits(b))).collect();
    let a = labels("a", "x");
    {
        let store = open_at(directory.path());
        let appended = store
            .append(&[one(&a, &samples)], AppendMode::Atomic)
            .unwrap();
        assert_eq!(appended.stored, 7);
        let again = store
            .append(&[one(&a, &samples)], AppendMode::Atomic)
            .unwrap();
        assert_eq!(again.duplicates, 7);
        store.wait_durable(appended.position).unwrap();
    }
    let got: Vec<_> = all(&open_at(directory.path()))[&a]
        .iter()
        .map(|&(_, b)| b)
        .collect();
    assert_eq!(got, bits);
}

#[test]
fn samples_beyond_the_window_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        path: directory.path().to_path_buf(),
        retention: Some(Duration::from_secs(3600)),
        retention_bytes: 0,
        memory_budget_bytes: 1 << 30,
        ..StoreOptions::default()
    };
    let store = Store::open(options, Arc::new(ManualClock::new(NOW))).unwrap();
    let hour = 3_600_000;
    let future = common::limits::FUTURE_MS_MAX;
    let samples = [
        (NOW - hour, 1.0),
        (NOW - hour - 1, 1.0),
        (NOW + future, 1.0),
        (NOW + future + 1, 1.0),
    ];
    let appended = store
        .append(&[one(&labels("a", "x"), &samples)], AppendMode::Partial)
        .unwrap();
    assert_eq!((appended.stored, appended.refused), (2, 2));
    let reasons: Vec<_> = appended.refusals.iter().map(|r| r.reason).collect();
    assert_eq!(
        reasons,
        [RefusalReason::TooOld, RefusalReason::TooFarInFuture]
    );
}

#[test]
fn second_process_is_locked_out() {
    let directory = tempfile::tempdir().unwrap();
    let _store = open_at(directory.path());
    let options = StoreOptions {
        path: directory.path().to_path_buf(),
        retention: None,
        retention_bytes: 0,
        memory_budget_bytes: 0,
        ..StoreOptions::default()
    };
    let error = Store::open(options, Arc::new(ManualClock::new(NOW))).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
}

#[test]
fn columns_of_one_group_share_their_clock() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_at(directory.path());
    for time in 0..5 {
        let batch: Vec<_> = (0..100)
            .map(|n| one(&labels(&format!("m{n}"), "x"), &[(time, f64::from(n))]))
            .collect();
        store.append(&batch, AppendMode::Atomic).unwrap();
    }
    let control = ReadControl::unlimited();
    let selection = Selection {
        matchers: vec![Matcher::equal("job", "j")],
        start_ms: 1,
        end_ms: 3,
    };
    let set = store.select(&selection, &control).unwrap();
    let mut timestamps_ids = Vec::new();
    set.read(0..set.len(), &control, &mut |_, column| {
        assert_eq!(column.timestamps_ms, [1, 2, 3]);
        timestamps_ids.push(column.timestamps_id);
        Ok(())
    })
    .unwrap();
    assert_eq!(timestamps_ids.len(), 100);
    assert!(
        timestamps_ids[0] != 0
            && timestamps_ids
                .iter()
                .all(|&clock| clock == timestamps_ids[0])
    );
}

#[test]
fn groups_are_formed_by_label_values() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_at(directory.path());
    let batch: Vec<_> = (0..10)
        .map(|n| {
            one(
                &labels(&format!("m{}", n % 3), &format!("i{n}")),
                &[(1, 0.0)],
            )
        })
        .collect();
    store.append(&batch, AppendMode::Atomic).unwrap();
    let selection = Selection {
        matchers: vec![],
        start_ms: 0,
        end_ms: 9,
    };
    let set = store.select(&selection, &ReadControl::unlimited()).unwrap();
    let by_name = set.group(crate::read::Grouping::By(&["__name__"]));
    assert_eq!(by_name.labels.len(), 3);
    let without = set.group(crate::read::Grouping::Without(&["instance"]));
    assert_eq!(without.labels.len(), 3);
    for index in 0..set.len() {
        let want = set.labels(index).filtered(|name| name == "__name__");
        assert_eq!(by_name.labels[by_name.group_of[index] as usize], want);
    }
}

#[test]
fn long_run_is_the_same_before_and_after_sealing_and_merging() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_at(directory.path());
    let mut stream = store.stream("agent/x");
    let series: Vec<_> = (0..150).map(|n| labels(&format!("m{n:03}"), "a")).collect();
    for (column, one) in series.iter().enumerate() {
        stream.define(column as u32, one).unwrap();
    }
    let mut want = Content::new();
    for tick in 0..300_i64 {
        let time = NOW - 3_600_000 + tick * 10_000;
        let row: Vec<_> = (0..150_u32)
            .filter(|&c| c % 7 != 3 || tick % 6 == 0)
            .map(|c| (c, f64::from(c) * tick as f64 / 8.0))
            .collect();
        stream.append_row(tick as u64 + 1, time, &row).unwrap();
        for &(c, v) in &row {
            let list = want.entry(series[c as usize].clone()).or_default();
            list.push((time, v.to_bits()));
        }
        if tick % 70 == 69 {
            store.flush().unwrap();
        }
    }
    assert_eq!(all(&store), want);
    let middle = (NOW - 2_500_000, NOW - 2_000_000);
    let clip = |list: &Vec<(i64, u64)>| -> Vec<(i64, u64)> {
        list.iter()
            .copied()
            .filter(|&(t, _)| t >= middle.0 && t <= middle.1)
            .collect()
    };
    let clipped: Content = want
        .iter()
        .map(|(l, list)| (l.clone(), clip(list)))
        .collect();
    assert_eq!(content(&store, middle.0, middle.1), clipped);
    store.flush().unwrap();
    assert_eq!(all(&store), want);
    assert!(
        store.inner().blocks.all().len() <= 2,
        "one block for each 12 hours"
    );
    drop((stream, store));
    let store = open_at(directory.path());
    assert_eq!(all(&store), want);
    assert_eq!(store.stream("agent/x").durable_sequence(), Some(300));
    let old = one(&series[0], &[(NOW - 3_600_000, 0.5)]);
    let refused = store.append(&[old], AppendMode::Partial).unwrap();
    assert_eq!(refused.refused, 1, "sealed samples are compared too");
}

#[test]
fn set_made_before_a_seal_reads_the_same_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_at(directory.path());
    let a = labels("a", "x");
    store
        .append(&[one(&a, &[(1, 1.0), (2, 2.0)])], AppendMode::Atomic)
        .unwrap();
    let control = ReadControl::unlimited();
    let selection = Selection {
        matchers: vec![],
        start_ms: 0,
        end_ms: 9,
    };
    let set = store.select(&selection, &control).unwrap();
    store.flush().unwrap();
    store
        .append(&[one(&a, &[(3, 3.0)])], AppendMode::Atomic)
        .unwrap();
    store.flush().unwrap();
    let mut times = Vec::new();
    set.read(0..1, &control, &mut |_, column| {
        times.extend_from_slice(column.timestamps_ms);
        Ok(())
    })
    .unwrap();
    assert!(times.starts_with(&[1, 2]), "{times:?}");
    drop(set);
    assert_eq!(all(&store)[&a].len(), 3);
}

#[test]
fn churned_series_leave_the_head_and_stay_readable() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_at(directory.path());
    let keep = labels("keep", "x");
    let mut stream = store.stream("agent/x");
    stream.define(0, &labels("pinned", "x")).unwrap();
    let mut memory = Vec::new();
    for round in 0..30_i64 {
        let mut batch = vec![one(&keep, &[(round, 1.0)])];
        let churned =
            (0..100).map(|n| one(&labels(&format!("c{round}_{n}"), "x"), &[(round, 1.0)]));
        batch.extend(churned);
        store.append(&batch, AppendMode::Atomic).unwrap();
        store.flush().unwrap();
        memory.push(read(&store.inner().head().index).len());
    }
    assert!(memory[29] <= 302, "{memory:?}");
    assert_eq!(all(&store).len(), 1 + 30 * 100);
    assert_eq!(all(&store)[&keep].len(), 30);
    let back = labels("c3_7", "x");
    store
        .append(&[one(&back, &[(100, 2.0)])], AppendMode::Atomic)
        .unwrap();
    assert_eq!(all(&store)[&back].len(), 2);
    let row = stream.append_row(1, 101, &[(0, 1.0)]).unwrap();
    assert_eq!(row.stored, 1);
    let want = all(&store);
    drop((stream, store));
    assert_eq!(all(&open_at(directory.path())), want);
}

#[test]
fn deleted_samples_are_gone_and_stay_gone() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_at(directory.path());
    let (a, b) = (labels("a", "x"), labels("b", "x"));
    let samples = [(1, 1.0), (2, 2.0), (3, 3.0)];
    store
        .append(&[one(&a, &samples), one(&b, &samples)], AppendMode::Atomic)
        .unwrap();
    let deleted = store
        .delete_series(&[Matcher::equal("__name__", "a")], 2, 9)
        .unwrap();
    assert_eq!(deleted, 2);
    let check = |store: &Store| {
        let content = all(store);
        assert_eq!((content[&a].len(), content[&b].len()), (1, 3));
    };
    check(&store);
    drop(store);
    check(&open_at(directory.path()));
}

#[test]
fn snapshot_is_a_store_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_at(directory.path());
    let a = labels("a", "x");
    store
        .append(&[one(&a, &[(1, 1.0)])], AppendMode::Atomic)
        .unwrap();
    let path = store.snapshot("before").unwrap();
    store
        .append(&[one(&a, &[(2, 2.0)])], AppendMode::Atomic)
        .unwrap();
    store.flush().unwrap();
    assert_eq!(all(&store)[&a].len(), 2);
    let copy = open_at(&path);
    assert_eq!(all(&copy)[&a], [(1, 1.0_f64.to_bits())]);
    for bad in ["", "../x", "a/b", ".hidden"] {
        assert!(store.snapshot(bad).is_err(), "{bad}");
    }
    assert!(store.snapshot("before").is_err(), "the name is taken");
}

#[test]
fn cardinality_and_figures_agree_with_what_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_at(directory.path());
    let batch: Vec<_> = (0..10)
        .map(|n| {
            one(
                &labels(&format!("m{}", n / 8), &format!("i{n}")),
                &[(n, 0.0)],
            )
        })
        .collect();
    store.append(&batch, AppendMode::Atomic).unwrap();
    let top = store.cardinality(1);
    assert_eq!(top.series, 10);
    assert_eq!(top.label_pairs, 2 + 1 + 10);
    assert_eq!(top.series_by_metric, [("m0".to_owned(), 8)]);
    assert_eq!(top.values_by_label, [("instance".to_owned(), 10)]);
    assert_eq!(top.series_by_pair, [("job=j".to_owned(), 10)]);
    store.flush().unwrap();
    let stats = store.stats();
    assert_eq!(
        (stats.head_series, stats.head_samples, stats.blocks),
        (10, 0, 1)
    );
    assert_eq!(
        (stats.block_samples, stats.first_ms, stats.last_ms),
        (10, Some(0), Some(9))
    );
}

#[test]
fn exemplars_are_found_by_series_and_time() {
    use crate::exemplars::{Exemplar, ExemplarOutcome};
    let directory = tempfile::tempdir().unwrap();
    let store = open_at(directory.path());
    let a = labels("a", "x");
    let at = |timestamp_ms| Exemplar {
        labels: Labels::from_pairs([("trace_id", "7")]).unwrap(),
        value: 0.5,
        timestamp_ms,
    };
    assert_eq!(store.append_exemplar(&a, at(5)), ExemplarOutcome::Stored);
    assert_eq!(store.append_exemplar(&a, at(5)), ExemplarOutcome::Duplicate);
    assert_eq!(
        store.append_exemplar(&a, at(4)),
        ExemplarOutcome::OutOfOrder
    );
    let selectors = [vec![Matcher::equal("__name__", "a")]];
    assert_eq!(store.exemplars(&selectors, 5, 5), [(a, vec![at(5)])]);
    assert!(store.exemplars(&selectors, 6, 9).is_empty());
}

#[test]
fn raw_series_are_the_same_as_labelled_ones() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_at(directory.path());
    let keys: Vec<String> = (0..50).map(|n| format!("m{n}")).collect();
    let labels_of = |key: &[u8]| {
        let name = std::str::from_utf8(key).unwrap();
        (name != "m13").then(|| labels(name, "x"))
    };
    for time in 1..=6_i64 {
        let mut order: Vec<&String> = keys.iter().collect();
        if time % 3 == 0 {
            order.reverse();
        }
        let append = || {
            let mut batch = store.raw_batch();
            let mut expected = 0;
            for key in &order {
                let sample = Sample {
                    timestamp_ms: time,
                    value: key.len() as f64,
                };
                if batch.push_expected(key.as_bytes(), sample) {
                    expected += 1;
                } else {
                    batch.push(key.as_bytes(), std::iter::once(sample));
                }
            }
            let result = store.append_raw(batch, AppendMode::Atomic, &labels_of);
            let (appended, dropped) = result.unwrap();
            (appended, dropped, expected)
        };
        let (appended, dropped, _) = append();
        assert_eq!((appended.stored, dropped), (49, 1));
        let (again, _, expected) = append();
        assert_eq!((again.stored, again.duplicates), (0, 49));
        // All series but the first, the one without labels, and the one after it.
        assert_eq!(expected, 47);
        if time == 4 {
            store.flush().unwrap();
        }
    }
    let content = all(&store);
    assert_eq!(content.len(), 49);
    assert!(content.values().all(|list| list.len() == 6));
    // A stream takes over a series: its cached bytes must not lead to the old place.
    let mut stream = store.stream("s");
    stream.define(0, &labels("m7", "x")).unwrap();
    stream.append_row(1, 7, &[(0, 1.0)]).unwrap();
    let mut batch = store.raw_batch();
    assert!(!batch.push_expected(
        b"m7",
        Sample {
            timestamp_ms: 7,
            value: 2.0
        }
    ));
    let clash = Sample {
        timestamp_ms: 7,
        value: 2.0,
    };
    batch.push(b"m7", std::iter::once(clash));
    assert!(
        store
            .append_raw(batch, AppendMode::Atomic, &labels_of)
            .is_err()
    );
}

#[test]
fn retention_removes_old_blocks() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(NOW));
    let options = StoreOptions {
        path: directory.path().to_path_buf(),
        retention: Some(Duration::from_secs(3600)),
        retention_bytes: 0,
        memory_budget_bytes: 1 << 30,
        ..StoreOptions::default()
    };
    let store = Store::open(options, Arc::<ManualClock>::clone(&clock)).unwrap();
    let a = labels("a", "x");
    store
        .append(&[one(&a, &[(NOW, 1.0)])], AppendMode::Atomic)
        .unwrap();
    store.flush().unwrap();
    assert_eq!(all(&store).len(), 1);
    clock.advance(Duration::from_secs(7200));
    store.inner().remove_old().unwrap();
    assert_eq!(all(&store).len(), 0);
}
