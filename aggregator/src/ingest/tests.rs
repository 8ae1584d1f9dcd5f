//! Helpers of the tests of ingest.

use std::sync::Arc;

use common::clock::{Clock, ManualClock};
use tidemark_storage::{Store, StoreOptions};

/// The time at which tests run.
pub(super) const NOW_MS: i64 = 1_700_000_000_000;

/// Opens a store in a temporary directory, with a clock that stands still.
pub(super) fn store() -> (Store, tempfile::TempDir) {
    store_with(Arc::new(ManualClock::new(NOW_MS)))
}

pub(super) fn store_with(clock: Arc<dyn Clock>) -> (Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        path: dir.path().join("data"),
        retention: None,
        retention_bytes: 0,
        memory_budget_bytes: 64 << 20,
        ..StoreOptions::default()
    };
    (Store::open(options, clock).unwrap(), dir)
}
