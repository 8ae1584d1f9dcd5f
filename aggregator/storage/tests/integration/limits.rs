//! What happens at the limits: the one who goes too far is refused, the others lose nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::clock::ManualClock;
use common::model::Labels;
use tidemark_storage::{
    AppendError, AppendMode, DefineError, Pressure, ReadControl, ReadError, Readable as _,
    RefusalReason, Selection, SeriesSamples, Store, StoreOptions,
};

use super::{NOW_MS, samples, series};

fn open_with(path: &std::path::Path, budget: u64, per_stream: u64) -> Store {
    let options = StoreOptions {
        path: path.to_path_buf(),
        memory_budget_bytes: budget,
        series_per_stream_max: per_stream,
        ..StoreOptions::default()
    };
    Store::open(options, Arc::new(ManualClock::new(NOW_MS))).unwrap()
}

fn of_node(node: &str, number: u32) -> Labels {
    let pairs = [
        ("__name__", format!("m{number}")),
        ("node", node.to_owned()),
    ];
    Labels::from_pairs(pairs).unwrap()
}

/// T-13, scaled down: one agent sends far more series than it may.
#[test]
fn one_agent_with_too_many_series_costs_the_others_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_with(directory.path(), 1 << 30, 1000);
    let mut good: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .map(|node| (node, store.stream(&format!("agent/dc/{node}/1"))))
        .collect();
    for (node, stream) in &mut good {
        for number in 0..50 {
            stream.define(number, &of_node(node, number)).unwrap();
        }
    }
    let mut bad = store.stream("agent/dc/bad/1");
    let (mut defined, mut refused) = (0, 0);
    let mut lost = 0;
    for tick in 1..=20_u64 {
        // New series at every tick, the old ones given up: 1,000 a tick.
        for number in 0..1000_u32 {
            let name = 1000 * tick as u32 + number;
            match bad.define(number, &of_node("bad", name)) {
                Ok(()) => defined += 1,
                Err(DefineError::StreamLimit { limit: 1000 }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        for number in 0..1000 {
            bad.undefine(number);
        }
        for (_, stream) in &mut good {
            let row: Vec<_> = (0..50).map(|n| (n, f64::from(n))).collect();
            let time = NOW_MS - 100_000 + tick as i64 * 1000;
            lost += 50 - stream.append_row(tick, time, &row).unwrap().stored;
        }
    }
    assert_eq!(
        (defined, refused),
        (2000, 18_000),
        "twice the limit may be in the head"
    );
    assert_eq!(lost, 0);
    let top = store.cardinality(2).series_by_source;
    assert_eq!(top[0], ("agent/dc/bad/1".to_owned(), 2000));
    assert_eq!(top[1].1, 50);
    // Once its old series have left the head it may have others.
    store.flush().unwrap();
    for round in 0..3 {
        let time = NOW_MS - 10_000 + round;
        good[0]
            .1
            .append_row(100 + round as u64, time, &[(0, 1.0)])
            .unwrap();
        store.flush().unwrap();
    }
    bad.define(0, &of_node("bad", 0)).unwrap();
}

#[test]
fn new_series_without_end_are_refused_and_known_ones_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let budget = 24 << 20;
    let store = open_with(directory.path(), budget, 100_000);
    let mut known = store.stream("agent/known");
    known.define(0, &series(0)).unwrap();
    let mut sequence = 0;
    let mut append_known = || {
        sequence += 1;
        known.append_row(sequence, NOW_MS - 100_000 + sequence as i64, &[(0, 1.0)])
    };
    append_known().unwrap();
    let mut refused = 0;
    for number in (1..40_000).step_by(500) {
        let batch: Vec<SeriesSamples> = (number..number + 500)
            .map(|n| SeriesSamples {
                labels: of_node("x", n),
                samples: vec![common::model::Sample {
                    timestamp_ms: NOW_MS,
                    value: 1.0,
                }],
            })
            .collect();
        let appended = store.append(&batch, AppendMode::Atomic).unwrap();
        refused += appended.refused;
        let is_limit = |reason| {
            let limits = [RefusalReason::SeriesLimit, RefusalReason::MemoryBudget];
            limits.contains(&reason)
        };
        assert!(appended.refusals.iter().all(|one| is_limit(one.reason)));
    }
    let stats = store.stats();
    assert!(refused > 0 && stats.head_series < 20_000, "{stats:?}");
    assert!(stats.head_bytes + stats.index_bytes < budget, "{stats:?}");
    assert_eq!(append_known().unwrap().stored, 1, "known series go on");
    // The series that nobody sends any more leave with the second seal after; nothing need be restarted.
    for _ in 0..3 {
        append_known().unwrap();
        store.flush().unwrap();
    }
    assert!(store.stats().head_series < 10);
    assert!(!samples(&store, &series(0)).is_empty());
}

#[test]
fn short_memory_seals_early_and_refuses_rather_than_grows() {
    const SERIES: u32 = 2000;
    let directory = tempfile::tempdir().unwrap();
    let budget = 24_u64 << 20;
    let store = open_with(directory.path(), budget, 100_000);
    let mut stream = store.stream("agent/a");
    for number in 0..SERIES {
        stream.define(number, &of_node("a", number)).unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(120);
    let (mut sequence, mut refusals, mut peak) = (1, 0_u64, 0);
    let mut noise = 1_u64;
    while store.stats().blocks < 2 {
        assert!(Instant::now() < deadline, "{:?}", store.stats());
        let row: Vec<_> = (0..SERIES)
            .map(|column| {
                noise = noise
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (column, f64::from_bits(noise >> 2))
            })
            .collect();
        let time = NOW_MS - 100_000_000 + sequence as i64 * 1000;
        match stream.append_row(sequence, time, &row) {
            Ok(_) => sequence += 1,
            Err(AppendError::OverBudget { .. }) => {
                refusals += 1;
                if store.stats().pressure == Pressure::Writes {
                    let selection = Selection {
                        matchers: vec![],
                        start_ms: 0,
                        end_ms: NOW_MS,
                    };
                    let answer = store.select(&selection, &ReadControl::unlimited());
                    // There may be room by now.
                    assert!(matches!(
                        answer.map(drop),
                        Ok(()) | Err(ReadError::OverBudget)
                    ));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
        let stats = store.stats();
        peak = peak.max(stats.head_bytes + stats.index_bytes + stats.cache_bytes);
    }
    println!("peak {peak} of {budget}, {refusals} refusals");
    // Between two looks, a second apart, it may go over by what is written in a second.
    assert!(peak < budget * 2, "{peak}");
    while store.stats().pressure >= Pressure::Queries {
        assert!(Instant::now() < deadline, "{:?}", store.stats());
        std::thread::sleep(Duration::from_millis(20));
    }
    let held = samples(&store, &of_node("a", 7));
    assert_eq!(held.len() as u64, sequence - 1, "what was taken is there");
}

/// A tenth of the series is replaced every hour for a day: what the head holds does not grow.
#[test]
fn churn_of_a_day_leaves_the_head_as_large_as_it_was() {
    const SERIES: u32 = 2000;
    let directory = tempfile::tempdir().unwrap();
    let store = open_with(directory.path(), 1 << 30, 100_000);
    let mut stream = store.stream("agent/a");
    let mut names: Vec<u32> = (0..SERIES).collect();
    for (column, &name) in (0..).zip(&names) {
        stream.define(column, &of_node("a", name)).unwrap();
    }
    let (mut sequence, mut next) = (0, SERIES);
    let mut held = Vec::new();
    for hour in 0..24_u32 {
        for column in (0..SERIES).skip(hour as usize % 10).step_by(10) {
            stream.undefine(column);
            names[column as usize] = next;
            stream.define(column, &of_node("a", next)).unwrap();
            next += 1;
        }
        // Two seals an hour, as in service.
        for half in 0..2 {
            for tick in 0..3 {
                sequence += 1;
                let time =
                    NOW_MS - 86_400_000 + i64::from(hour * 2 + half) * 1_800_000 + tick * 1000;
                let row: Vec<_> = (0..SERIES).map(|c| (c, f64::from(c))).collect();
                stream.append_row(sequence, time, &row).unwrap();
            }
            store.flush().unwrap();
        }
        let stats = store.stats();
        held.push((stats.head_series, stats.head_bytes + stats.index_bytes));
    }
    let (_, early) = held[4];
    let (series, late) = held[23];
    assert!(series <= u64::from(SERIES) * 13 / 10, "{held:?}");
    assert!(late <= early + early / 4, "{held:?}");
}
