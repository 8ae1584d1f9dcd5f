//! Background threads that seal, merge, enforce the retention, and watch memory and disk space.

mod error;

use std::io;
use std::sync::{Arc, Condvar};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::report::chain;

use crate::append_throttle::SEAL_AT;
use crate::budget::Pressure;
use crate::merge::choose;
use crate::seal::MaintenanceState;
use crate::store::Inner;
use crate::sync::{Rank, RankedMutex, lock, wait_timeout_while};

pub use error::MaintenanceError;

/// Interval between maintenance rounds.
const TICK: Duration = Duration::from_millis(250);
/// Interval between checks of memory and disk space.
const LOOK: Duration = Duration::from_millis(250);
/// Interval between these checks while memory is short.
const LOOK_UNDER_PRESSURE: Duration = Duration::from_millis(50);
/// Maximum interval between seals of a head that is not empty.
const SEAL_INTERVAL: Duration = Duration::from_secs(30 * 60);
/// Minimum interval between early seals when memory starts to get short.
const EARLY_SEAL_INTERVAL: Duration = Duration::from_secs(60);
/// Pause after a failure: a full disk stays full for a while.
const RETRY: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Signal {
    stopped: RankedMutex<bool>,
    changed: Condvar,
}

/// The background threads, which stop when this is dropped.
#[derive(Debug)]
pub(crate) struct Maintenance {
    signal: Arc<Signal>,
    threads: RankedMutex<Vec<JoinHandle<()>>>,
}

impl Maintenance {
    /// Starts the threads.
    ///
    /// # Errors
    /// A thread can't be started.
    pub(crate) fn start(inner: Arc<Inner>) -> io::Result<Self> {
        let signal = Arc::new(Signal {
            stopped: RankedMutex::new(Rank::MaintenanceStop, false),
            changed: Condvar::new(),
        });
        let maintenance = Self {
            signal: Arc::clone(&signal),
            threads: RankedMutex::new(Rank::MaintenanceThreads, Default::default()),
        };
        let spawn = |name: &str, run: fn(&Inner, &Signal)| {
            let (inner, signal) = (Arc::clone(&inner), Arc::clone(&signal));
            let thread = std::thread::Builder::new().name(name.to_owned());
            thread.spawn(move || run(&inner, &signal))
        };
        for (name, run) in [
            ("store-maintenance", run as fn(&Inner, &Signal)),
            ("store-watch", watch),
        ] {
            let thread = spawn(name, run)?;
            lock(&maintenance.threads).push(thread);
        }
        Ok(maintenance)
    }

    /// Stops the threads once they have finished their current work.
    pub(crate) fn stop(&self) {
        *lock(&self.signal.stopped) = true;
        self.signal.changed.notify_all();
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            if thread.join().is_err() {
                tracing::error!("a background thread of the store panicked");
            }
        }
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(inner: &Inner, signal: &Signal) {
    let mut last_seal = Instant::now();
    let mut not_before = Instant::now();
    loop {
        let stopped = lock(&signal.stopped);
        if *wait_timeout_while(&signal.changed, stopped, TICK, |stopped| !*stopped) {
            return;
        }
        if Instant::now() < not_before {
            continue;
        }
        if let Err(error) = round(inner, &mut last_seal) {
            tracing::error!(error = chain(&error), "maintain blocks");
            not_before = Instant::now() + RETRY;
        }
    }
}

/// Checks memory and disk space. It has its own thread, because memory may run out during a long seal or merge.
fn watch(inner: &Inner, signal: &Signal) {
    loop {
        let pause = match inner.budget.pressure() {
            Pressure::None => LOOK,
            _ => LOOK_UNDER_PRESSURE,
        };
        let stopped = lock(&signal.stopped);
        if *wait_timeout_while(&signal.changed, stopped, pause, |stopped| !*stopped) {
            return;
        }
        inner.space.update();
        inner.look_at_memory();
    }
}

fn round(inner: &Inner, last_seal: &mut Instant) -> Result<(), MaintenanceError> {
    let mut maintenance = lock(&inner.maintenance);
    inner.release_sealed(&mut maintenance);
    inner.remove_old()?;
    seal_if_due(inner, &mut maintenance, last_seal)?;
    if let Some(blocks) = choose(&inner.blocks.all(), inner.clock.now_ms()) {
        // Appends continue during a merge, so the head must be sealed in between.
        inner.merge(&blocks, &mut || {
            seal_if_due(inner, &mut maintenance, last_seal)
        })?;
        inner.release_memory();
    }
    Ok(())
}

fn seal_if_due(
    inner: &Inner,
    maintenance: &mut MaintenanceState,
    last_seal: &mut Instant,
) -> Result<(), MaintenanceError> {
    let unsealed = inner.throttle.open();
    let is_time = unsealed > 0 && last_seal.elapsed() >= SEAL_INTERVAL;
    let is_tight = unsealed > 0
        && match inner.budget.pressure() {
            Pressure::None => false,
            Pressure::Seal => last_seal.elapsed() >= EARLY_SEAL_INTERVAL,
            Pressure::Series | Pressure::Queries | Pressure::Writes => true,
        };
    if unsealed >= SEAL_AT || is_time || is_tight || maintenance.is_unfinished {
        inner.seal(maintenance)?;
        *last_seal = Instant::now();
        // The seal freed memory in fragments that the allocator would keep.
        inner.release_memory();
        if let Err(error) = inner.state.compact_if_large() {
            tracing::warn!(error = chain(&error), "compact the state database");
        }
    }
    Ok(())
}

impl Inner {
    /// Removes blocks older than the retention, and the oldest blocks while all together are too large.
    ///
    /// # Errors
    /// A file can't be removed.
    pub(crate) fn remove_old(&self) -> Result<(), MaintenanceError> {
        let start_ms = self.retention_start_ms(self.clock.now_ms());
        let blocks = self.blocks.all();
        let mut gone: Vec<u64> = Vec::new();
        let mut bytes: u64 = blocks.iter().map(|block| block.file_bytes).sum();
        for block in &blocks {
            let too_old = block.footer.last_ms < start_ms;
            let too_large =
                self.options.retention_bytes > 0 && bytes > self.options.retention_bytes;
            if too_old || too_large {
                bytes -= block.file_bytes;
                gone.push(block.id);
            }
        }
        if self.blocks.missing() > 0 {
            self.blocks.forget_missing(start_ms);
        }
        if !gone.is_empty() {
            tracing::info!(blocks = gone.len(), "remove blocks beyond the retention");
            let removed = self.blocks.remove(&gone);
            self.stability.removed();
            removed.map_err(MaintenanceError::RemoveBlocks)?;
        }
        Ok(())
    }
}
