//! The store from outside: processes that are killed, disks that are full.
#![expect(
    clippy::unwrap_used,
    reason = "a test that can't go on may stop, and a skipped one says so"
)]

mod disk_full;
mod kill;
mod limits;

use std::path::Path;
use std::sync::Arc;

use common::clock::ManualClock;
use common::model::Labels;
use tidemark_storage::{ReadControl, Readable as _, Selection, Store, StoreOptions, Values};

const NOW_MS: i64 = 1_700_000_000_000;

fn open(path: &Path) -> Store {
    let options = StoreOptions {
        path: path.to_path_buf(),
        retention: None,
        retention_bytes: 0,
        memory_budget_bytes: 1 << 30,
        ..StoreOptions::default()
    };
    Store::open(options, Arc::new(ManualClock::new(NOW_MS))).unwrap()
}

fn series(number: u32) -> Labels {
    Labels::from_pairs([
        ("__name__", format!("metric_{number}")),
        ("instance", "a".to_owned()),
    ])
    .unwrap()
}

/// All samples of a series.
fn samples(store: &Store, labels: &Labels) -> Vec<(i64, f64)> {
    let name = labels.metric_name().unwrap();
    let selection = Selection {
        matchers: vec![common::model::Matcher::equal("__name__", name)],
        start_ms: i64::MIN,
        end_ms: i64::MAX,
    };
    let control = ReadControl::unlimited();
    let set = store.select(&selection, &control).unwrap();
    assert_eq!(set.warnings(), Vec::<String>::new());
    let mut list = Vec::new();
    set.read(0..set.len(), &control, &mut |_, column| {
        let Values::Floats(values) = column.values;
        list.extend(
            column
                .timestamps_ms
                .iter()
                .copied()
                .zip(values.iter().copied()),
        );
        Ok(())
    })
    .unwrap();
    list
}
