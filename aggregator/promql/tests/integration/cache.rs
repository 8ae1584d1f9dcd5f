//! The cache of range results returns what an evaluation returns.

use common::model::{Labels, Sample};
use tidemark_promql::memory_store::MemoryStore;
use tidemark_promql::{Engine, EngineOptions, QueryOptions, QueryResult, RangeParams};
use tidemark_storage::read::{ReadControl, StableUntil};

const STEP_MS: i64 = 15_000;

fn store(minutes: i64) -> MemoryStore {
    let mut store = MemoryStore::new();
    for series in 0..20_i64 {
        let labels = [
            ("__name__", "m_total".to_owned()),
            ("i", format!("{series:02}")),
        ];
        let labels = Labels::from_pairs(labels).unwrap();
        // Series begin and end, so that parts of a result have different series than the whole.
        for step in series * 3..minutes * 4 - series * 5 {
            let value = (step * (series + 1) % 100) as f64;
            store.add(
                &labels,
                Sample {
                    timestamp_ms: step * STEP_MS,
                    value,
                },
            );
        }
    }
    store
}

fn engine(cache_samples_max: usize) -> Engine {
    Engine::new(EngineOptions {
        cache_samples_max,
        ..EngineOptions::default()
    })
}

fn run(
    engine: &Engine,
    store: &MemoryStore,
    query: &str,
    start_ms: i64,
    end_ms: i64,
) -> QueryResult {
    let control = ReadControl::unlimited();
    let options = QueryOptions {
        lookback_delta: None,
        control: &control,
        deadline: None,
        per_step_stats: false,
    };
    let step_ms = 30_000;
    let range = RangeParams {
        start_ms,
        end_ms,
        step_ms,
    };
    engine.range(store, query, range, &options).unwrap()
}

#[test]
fn refreshes_return_what_an_evaluation_returns() {
    let mut store = store(60);
    let (cached, plain) = (engine(1 << 20), engine(0));
    let queries = [
        "m_total",
        "sum by (i) (rate(m_total[5m]))",
        "topk(3, m_total)",
        "m_total > 50 or vector(time())",
        "max_over_time(rate(m_total[1m])[5m:30s])",
        "rate(m_total[1m] offset 2m)",
        "m_total offset -5m",
        "m_total @ end()",
        "{__name__=~\"m_.*\"}",
        "label_replace(m_total, \"i\", \"x\", \"i\", \"05\")",
    ];
    for refresh in 0..30 {
        let end_ms = 10 * 60_000 + refresh * 60_000;
        store.stable_until = Some(StableUntil {
            generation: 1,
            until_ms: end_ms - 90_000,
        });
        for query in queries {
            let start_ms = end_ms - 20 * 60_000;
            let (ours, want) = (
                run(&cached, &store, query, start_ms, end_ms),
                run(&plain, &store, query, start_ms, end_ms),
            );
            assert_eq!(ours.value, want.value, "{query} at refresh {refresh}");
            assert_eq!(ours.infos, want.infos, "{query} at refresh {refresh}");
        }
    }
}

#[test]
fn a_refresh_reads_only_the_new_end() {
    let mut store = store(60);
    store.stable_until = Some(StableUntil {
        generation: 1,
        until_ms: 40 * 60_000,
    });
    let engine = engine(1 << 20);
    let query = "sum(rate(m_total[1m]))";
    let first = run(&engine, &store, query, 0, 30 * 60_000);
    let second = run(&engine, &store, query, 0, 31 * 60_000);
    assert!(second.stats.samples_queryable * 10 < first.stats.samples_queryable);
    let third = run(&engine, &store, query, 60_000, 31 * 60_000);
    assert_eq!(third.stats.samples_queryable, 0, "everything was cached");
}

#[test]
fn changed_data_is_read_again() {
    let mut store = store(60);
    store.stable_until = Some(StableUntil {
        generation: 1,
        until_ms: 60 * 60_000,
    });
    let engine = engine(1 << 20);
    let before = run(&engine, &store, "m_total", 0, 600_000);
    let labels = Labels::from_pairs([("__name__", "m_total"), ("late", "yes")]).unwrap();
    store.add(
        &labels,
        Sample {
            timestamp_ms: 300_000,
            value: 1.0,
        },
    );
    assert_eq!(
        run(&engine, &store, "m_total", 0, 600_000).value,
        before.value,
        "the generation is unchanged"
    );
    store.stable_until = Some(StableUntil {
        generation: 2,
        until_ms: 60 * 60_000,
    });
    assert_ne!(
        run(&engine, &store, "m_total", 0, 600_000).value,
        before.value
    );
}

#[test]
fn late_samples_in_the_real_store_invalidate_results() {
    use common::clock::ManualClock;
    use std::sync::Arc;
    use tidemark_storage::{AppendMode, SeriesSamples, Store, StoreOptions};

    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        path: folder.path().to_owned(),
        retention: None,
        retention_bytes: 0,
        memory_budget_bytes: 64 << 20,
        ..StoreOptions::default()
    };
    let clock = Arc::new(ManualClock::new(7_200_000));
    let store = Store::open(options, clock).unwrap();
    let labels = Labels::from_pairs([("__name__", "m")]).unwrap();
    let append = |samples: Vec<Sample>| {
        let series = SeriesSamples {
            labels: labels.clone(),
            samples,
        };
        store.append(&[series], AppendMode::Atomic).unwrap();
    };
    let at = |step: i64| Sample {
        timestamp_ms: step * 30_000,
        value: step as f64,
    };
    append((0..240).map(at).collect());
    let engine = engine(1 << 20);
    let control = ReadControl::unlimited();
    let query = |end_ms: i64| {
        let options = QueryOptions {
            lookback_delta: None,
            control: &control,
            deadline: None,
            per_step_stats: false,
        };
        let range = RangeParams {
            start_ms: 0,
            end_ms,
            step_ms: 30_000,
        };
        engine
            .range(&store, "count_over_time(m[1m])", range, &options)
            .unwrap()
    };
    let first = query(3_000_000);
    assert!(first.stats.samples_queryable > 0);
    assert_eq!(query(3_000_000).stats.samples_queryable, 0, "cached");
    append(vec![at(240)]);
    assert_eq!(
        query(3_000_000).value,
        first.value,
        "the new end changes nothing"
    );
    append(vec![Sample {
        timestamp_ms: 1_000_001,
        value: 1.0,
    }]);
    assert_ne!(
        query(3_000_000).value,
        first.value,
        "a late sample is seen at once"
    );
}
