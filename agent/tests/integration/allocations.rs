//! A tick on an unchanged machine allocates nothing.
#![expect(unsafe_code, reason = "an allocator can't be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use agent::collect::Due;
use agent::collectors;
use agent::collectors::own::OwnMetrics;
use agent::config::Config;
use agent::schema::Schema;
use agent::table::SeriesTable;
use common::telemetry::Registry;
use tidemark_link::spool::{self, Receiver, SpoolOptions};

use crate::recorded::Recorded;

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting touches a plain thread-local cell.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract, which is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System.alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

#[test]
fn steady_tick_allocates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::File::create(dir.path().join("a.prom")).unwrap();
    (&text).write_all(b"a{b=\"c\"} 1\n").unwrap();
    // File and directory are old enough to count as unchanged.
    for file in [text, std::fs::File::open(dir.path()).unwrap()] {
        let then = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        file.set_modified(then).unwrap();
    }
    let directory = format!("--collector.textfile.directory={}", dir.path().display());
    let args = ["tidemark-agent", "--node.name=n", &directory];
    let config = Config::from_args(args).unwrap();
    let mut collectors = collectors::build(&config.build_context(None)).unwrap();
    let (mut table, mut schema) = (SeriesTable::default(), Schema::for_node("n"));
    let mut tick = |number: i64| {
        table.begin_tick(number * 1000);
        let before = allocations();
        collectors.collect(&mut table, &mut schema, Due::ALL);
        table.clear_changes();
        allocations() - before
    };
    let first = tick(0);
    assert!(first > 100, "the counter counts: {first}");
    // Other processes create and remove cgroups and interfaces meanwhile, so not every tick is steady.
    let least = (1..40).map(&mut tick).min();
    assert_eq!(least, Some(0));
}

/// Ticks of a recorded node with unchanging files: everything that the agent does in a tick, including the spool.
fn allocations_of_ticks(version: &str) -> Vec<u64> {
    let mut node = Recorded::new(version);
    let dir = tempfile::tempdir().unwrap();
    let options = SpoolOptions {
        path: dir.path().to_owned(),
        bytes_max: 64 << 20,
        receivers: &[Receiver::Primary],
        sync_each_tick: false,
    };
    let registry = Registry::default();
    let (mut spool, _handle) = spool::open(options, &registry).unwrap();
    let mut own = OwnMetrics::new(registry);
    let tick = |_| {
        let before = allocations();
        node.tick();
        own.collect(&mut node.table, &mut node.schema, Due::ALL);
        spool.append(&mut node.table).unwrap();
        allocations() - before
    };
    (0..6).map(tick).collect()
}

#[test]
fn steady_tick_of_a_kubernetes_node_allocates_nothing() {
    for version in ["v1-full", "v2-full"] {
        let ticks = allocations_of_ticks(version);
        assert!(ticks[0] > 1000, "the counter counts: {ticks:?}");
        assert_eq!(ticks[3..], [0; 3], "{version}: {ticks:?}");
    }
}
