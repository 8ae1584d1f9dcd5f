//! The sampling thread: takes a tick at a fixed phase of each interval, and answers scrapes between ticks.
//!
//! It is an OS thread without an async runtime, so network activity never delays a sample.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::clock::Clock;
use common::report;
use common::telemetry::{Counter, Histogram, Registry};
use tidemark_link::spool::SpoolWriter;
use tokio::sync::oneshot;

use crate::collect::{Collectors, Due};
use crate::collectors::own::OwnMetrics;
use crate::exposition;
use crate::schema::Schema;
use crate::sys::release_memory;
use crate::table::SeriesTable;

/// Scrapes that may be queued.
const SCRAPES_MAX: usize = 8;
/// A tick that is at most this late keeps its planned timestamp, so that intervals stay equal and compress well. Prometheus
/// tolerates the same for scrapes.
const TOLERANCE_MS: i64 = 2;
/// A jump of the wall clock between two ticks above which the clock counts as set.
const STEP_MS: i64 = 1000;

/// Parts that the sampling thread works with.
#[derive(Debug)]
pub struct Sampler {
    /// Collectors that read this machine.
    pub collectors: Collectors,
    /// Names and target labels of series.
    pub schema: Schema,
    /// Spool that receives each tick.
    pub spool: SpoolWriter,
    /// Interval between ticks.
    pub interval: Duration,
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
    /// The agent's own metrics. Ticks include them; on a scrape the registry renders them itself.
    pub own: OwnMetrics,
}

common::metrics! {
    #[derive(Debug)]
    struct Metrics {
        ticks: Counter = "agent_sampler_ticks_total", "Ticks taken.";
        late: Counter = "agent_sampler_ticks_skipped_total", "Ticks skipped because the previous one took too long or the machine slept.";
        clock_steps: Counter = "agent_sampler_clock_steps_total", "Steps of the system clock detected between two ticks.";
        spool_errors: Counter = "agent_sampler_spool_errors_total", "Ticks lost because they could not be written to the spool.";
        seconds: Histogram = "agent_sampler_tick_seconds", "Duration of a tick, including the write to the spool.";
    }
}

/// Why a scrape failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScrapeError {
    /// Too many scrapes are queued.
    #[error("too many scrapes at a time")]
    Busy,
    /// The agent is shutting down.
    #[error("the agent is shutting down")]
    Stopped,
}

/// Request to the sampling thread.
#[derive(Debug)]
enum Command {
    /// Collects everything and answers with the text.
    Scrape(oneshot::Sender<String>),
    /// Wakes the thread, which then sees [`Flags::is_stopping`].
    Stop,
}

#[derive(Debug, Default)]
struct Flags {
    /// A first tick was taken.
    is_ready: AtomicBool,
    /// The thread should take a last tick and end.
    is_stopping: AtomicBool,
}

/// Handle to the sampling thread. Clones share it.
#[derive(Debug, Clone)]
pub struct SamplerHandle {
    commands: SyncSender<Command>,
    flags: Arc<Flags>,
}

impl SamplerHandle {
    /// Collects everything now and returns it in the text format.
    ///
    /// # Errors
    /// See [`ScrapeError`].
    pub async fn scrape(&self) -> Result<String, ScrapeError> {
        if self.flags.is_stopping.load(Ordering::Relaxed) {
            return Err(ScrapeError::Stopped);
        }
        let (answer, text) = oneshot::channel();
        self.commands
            .try_send(Command::Scrape(answer))
            .map_err(|error| match error {
                TrySendError::Full(_) => ScrapeError::Busy,
                TrySendError::Disconnected(_) => ScrapeError::Stopped,
            })?;
        text.await.map_err(|_| ScrapeError::Stopped)
    }

    /// Returns whether a first tick was taken.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.flags.is_ready.load(Ordering::Relaxed)
    }

    /// Makes the thread take a last tick and end, without waiting for it. Queued scrapes fail.
    pub fn stop(&self) {
        self.flags.is_stopping.store(true, Ordering::Relaxed);
        // A thread with a full queue is awake and checks the flag after the command at hand.
        if let Err(TrySendError::Full(_)) = self.commands.try_send(Command::Stop) {
            tracing::debug!("stopping; queued scrapes are dropped");
        }
    }
}

/// Starts the sampling thread.
///
/// # Errors
/// The system cannot start a thread.
pub fn start(sampler: Sampler, registry: &Registry) -> io::Result<(SamplerHandle, JoinHandle<()>)> {
    let (commands, queue) = sync_channel(SCRAPES_MAX);
    let flags = Arc::new(Flags::default());
    let handle = SamplerHandle {
        commands,
        flags: Arc::clone(&flags),
    };
    let metrics = Metrics::register(registry, &[]);
    let thread = thread::Builder::new()
        .name("sampler".to_owned())
        .spawn(move || Running::new(sampler, metrics).run(&queue, &flags))?;
    Ok((handle, thread))
}

/// What the sampling thread does after it has waited.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Tick,
    Stop,
}

struct Running {
    sampler: Sampler,
    table: SeriesTable,
    metrics: Metrics,
    tick: u64,
    phase_ms: i64,
    /// Phase before the clock was last set back.
    phase_before_ms: i64,
    interval_ms: i64,
    /// Latest timestamp of a tick.
    newest_ms: i64,
    /// Wall clock and monotonic clock at the last tick.
    last: Option<(i64, Instant)>,
}

impl Running {
    fn new(sampler: Sampler, metrics: Metrics) -> Self {
        let interval_ms = i64::try_from(sampler.interval.as_millis())
            .unwrap_or(i64::MAX)
            .max(1);
        let phase_ms = phase_ms(sampler.schema.node(), interval_ms);
        Self {
            sampler,
            table: SeriesTable::default(),
            metrics,
            tick: 0,
            phase_ms,
            phase_before_ms: phase_ms,
            interval_ms,
            newest_ms: i64::MIN,
            last: None,
        }
    }

    fn run(mut self, queue: &Receiver<Command>, flags: &Flags) {
        let mut planned_ms = self.sampler.clock.now_ms();
        loop {
            self.tick(planned_ms);
            flags.is_ready.store(true, Ordering::Relaxed);
            let now_ms = self.sampler.clock.now_ms();
            let next_ms = next_tick_ms(now_ms, self.phase_ms, self.interval_ms);
            let skipped = (next_ms - planned_ms) / self.interval_ms - 1;
            self.metrics
                .late
                .add(u64::try_from(skipped).unwrap_or_default());
            planned_ms = next_ms;
            if self.serve_until(planned_ms, queue, flags) == Next::Stop {
                break;
            }
        }
        self.tick(self.sampler.clock.now_ms());
        if let Err(error) = self.sampler.spool.sync() {
            tracing::error!(error = report::chain(&error), "sync spool at shutdown");
        }
    }

    /// Answers scrapes until the next tick is due.
    fn serve_until(&mut self, planned_ms: i64, queue: &Receiver<Command>, flags: &Flags) -> Next {
        let wait_ms = (planned_ms - self.sampler.clock.now_ms()).clamp(0, self.interval_ms);
        let deadline = Instant::now() + Duration::from_millis(wait_ms.unsigned_abs());
        while !flags.is_stopping.load(Ordering::Relaxed) {
            let left = deadline.saturating_duration_since(Instant::now());
            match queue.recv_timeout(left) {
                Ok(Command::Scrape(answer)) => self.scrape(answer),
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return Next::Stop,
                Err(RecvTimeoutError::Timeout) => return Next::Tick,
            }
        }
        Next::Stop
    }

    /// Takes a tick and writes it to the spool.
    fn tick(&mut self, planned_ms: i64) {
        let started = Instant::now();
        let now_ms = self.sampler.clock.now_ms();
        self.check_clock(now_ms, started);
        let stamp_ms = self.stamp_ms(planned_ms, now_ms);
        self.newest_ms = self.newest_ms.max(stamp_ms);
        self.table.begin_tick(stamp_ms);
        let due = Due::at(self.tick, self.interval_ms.unsigned_abs());
        self.sampler
            .collectors
            .collect(&mut self.table, &mut self.sampler.schema, due);
        self.sampler
            .own
            .collect(&mut self.table, &mut self.sampler.schema, due);
        self.tick += 1;
        self.metrics.ticks.inc();
        let has_changed = !self.table.changes().is_empty();
        if let Err(error) = self.sampler.spool.append(&mut self.table) {
            self.metrics.spool_errors.inc();
            tracing::error!(
                error = report::chain(&error),
                "tick lost, it can't be written to the spool"
            );
        }
        if has_changed {
            // Labels of new series need large buffers, and new series are rare.
            release_memory();
        }
        self.metrics.seconds.observe_duration(started.elapsed());
    }

    /// Returns the timestamp of a tick.
    fn stamp_ms(&self, planned_ms: i64, now_ms: i64) -> i64 {
        let is_punctual = (now_ms - planned_ms).abs() <= TOLERANCE_MS;
        let stamp_ms = if is_punctual { planned_ms } else { now_ms };
        // Right after the clock was set back, the timestamp may be taken by an earlier tick; see `check_clock`.
        let is_taken = stamp_ms <= self.newest_ms
            && (stamp_ms - self.phase_before_ms).rem_euclid(self.interval_ms) == 0;
        stamp_ms + i64::from(is_taken)
    }

    /// Compares wall clock and monotonic clock to detect that the wall clock was set. Ticks continue in the new time.
    ///
    /// After a step back the same hours repeat, and the store refuses a second sample at a timestamp. So the ticks move to another
    /// phase, by the golden ratio of the interval so that many steps do not lead back to a used one.
    fn check_clock(&mut self, now_ms: i64, now: Instant) {
        let last = self.last.replace((now_ms, now));
        let Some((last_ms, last)) = last else {
            return;
        };
        let passed_ms = i64::try_from((now - last).as_millis()).unwrap_or(i64::MAX);
        let step_ms = now_ms.saturating_sub(last_ms).saturating_sub(passed_ms);
        if step_ms.abs() <= STEP_MS {
            return;
        }
        self.metrics.clock_steps.inc();
        tracing::warn!(step_ms, "the wall clock was set");
        if step_ms < 0 {
            self.phase_before_ms = self.phase_ms;
            let shift_ms = (self.interval_ms * 618 / 1000).max(1);
            self.phase_ms = (self.phase_ms + shift_ms).rem_euclid(self.interval_ms);
        }
    }

    /// Collects everything for one scrape, which does not go to the spool.
    fn scrape(&mut self, answer: oneshot::Sender<String>) {
        if answer.is_closed() {
            return;
        }
        self.table.begin_tick(self.sampler.clock.now_ms());
        self.sampler
            .collectors
            .collect(&mut self.table, &mut self.sampler.schema, Due::ALL);
        let mut text = String::with_capacity(64 << 10);
        exposition::render(&self.table, &self.sampler.schema, &mut text);
        if answer.send(text).is_err() {
            tracing::debug!("scraper disconnected");
        }
        release_memory();
    }
}

/// Returns the first multiple of the interval after `now_ms`, shifted by the phase.
const fn next_tick_ms(now_ms: i64, phase_ms: i64, interval_ms: i64) -> i64 {
    let since = (now_ms - phase_ms).rem_euclid(interval_ms);
    now_ms - since + interval_ms
}

/// Spreads the nodes of a cluster over the interval. A node always has the same phase.
fn phase_ms(node: &str, interval_ms: i64) -> i64 {
    // FNV-1a; any hash will do that never changes between versions of the agent.
    let hash = node.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    i64::try_from(hash % interval_ms.unsigned_abs()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use common::clock::ManualClock;

    use tidemark_link::spool::{self, SpoolOptions};

    use super::*;

    #[test]
    fn ticks_keep_their_phase() {
        assert_eq!(next_tick_ms(1000, 0, 1000), 2000);
        assert_eq!(next_tick_ms(999, 300, 1000), 1300);
        assert_eq!(next_tick_ms(1300, 300, 1000), 2300);
        assert_eq!(next_tick_ms(-1, 0, 1000), 0);
    }

    /// Creates a sampling loop without collectors.
    fn running(clock: Arc<ManualClock>, dir: &std::path::Path) -> Running {
        let registry = Registry::default();
        let options = SpoolOptions {
            path: dir.to_owned(),
            bytes_max: 1 << 20,
            receivers: &[spool::Receiver::Primary],
            sync_each_tick: false,
        };
        let sampler = Sampler {
            collectors: Collectors::default(),
            schema: Schema::for_node("n"),
            spool: spool::open(options, &registry).unwrap().0,
            interval: Duration::from_secs(10),
            clock,
            own: OwnMetrics::new(registry.clone()),
        };
        Running::new(sampler, Metrics::register(&registry, &[]))
    }

    #[test]
    fn step_forward_is_counted_and_ticks_continue_in_the_new_time() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(1_000_000));
        let mut running = running(Arc::clone(&clock), dir.path());
        let tick_after = |running: &mut Running, wall_ms: i64, passed: Duration| {
            if let Some((_, last)) = &mut running.last {
                *last -= passed;
            }
            clock.set_ms(clock.now_ms() + wall_ms);
            running.tick(clock.now_ms());
            running.table.timestamp_ms()
        };
        let interval = running.sampler.interval;
        tick_after(&mut running, 0, Duration::ZERO);
        let phase_ms = running.phase_ms;
        let stamp_ms = tick_after(&mut running, 3_600_000, interval);
        assert_eq!(stamp_ms, 1_000_000 + 3_600_000);
        assert_eq!(running.metrics.clock_steps.get(), 1);
        assert_eq!(running.phase_ms, phase_ms, "no timestamp repeats");
        // An hour on both clocks, as after a suspend of the machine, is not a step.
        tick_after(&mut running, 3_600_000, Duration::from_secs(3600));
        assert_eq!(running.metrics.clock_steps.get(), 1);
    }

    #[test]
    fn ticks_after_a_step_back_use_new_timestamps() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(1_000_000));
        let mut running = running(Arc::clone(&clock), dir.path());
        let stamps = std::cell::RefCell::new(std::collections::BTreeSet::new());
        let is_new = |running: &Running| stamps.borrow_mut().insert(running.table.timestamp_ms());
        let tick_for = |running: &mut Running, ticks: i64| {
            for _ in 0..ticks {
                let now_ms = clock.now_ms();
                let next_ms = next_tick_ms(now_ms, running.phase_ms, running.interval_ms);
                // The monotonic clock advances with the wall clock.
                if let Some((last_ms, last)) = &mut running.last {
                    *last -= Duration::from_millis((next_ms - now_ms).unsigned_abs());
                    assert!(*last_ms <= next_ms);
                }
                clock.set_ms(next_ms);
                running.tick(next_ms);
                assert!(is_new(running), "timestamp repeats");
            }
        };
        tick_for(&mut running, 400);
        assert_eq!(running.metrics.clock_steps.get(), 0);
        for (steps, back_ms) in [(1, 3_600_000), (2, 10_000), (3, 1_800_000)] {
            let planned_ms = clock.now_ms() + running.interval_ms;
            clock.set_ms(planned_ms - back_ms);
            let step = Duration::from_millis(running.interval_ms.unsigned_abs());
            if let Some((_, last)) = &mut running.last {
                *last -= step;
            }
            // The tick planned before the step falls on a used timestamp.
            running.tick(planned_ms);
            assert!(is_new(&running), "timestamp repeats");
            assert_eq!(running.metrics.clock_steps.get(), steps);
            let stamp_ms = running.table.timestamp_ms();
            assert!(
                (0..2).contains(&(stamp_ms - clock.now_ms())),
                "stamped in the new time"
            );
            tick_for(&mut running, 100);
        }
        assert_eq!(running.metrics.clock_steps.get(), 3);
    }

    /// Counts its runs.
    struct Runs(Arc<std::sync::atomic::AtomicU64>);

    impl crate::collect::Collector for Runs {
        fn collect(
            &mut self,
            _: &mut crate::collect::CollectContext<'_>,
        ) -> crate::collect::Outcome {
            self.0.fetch_add(1, Ordering::Relaxed);
            crate::collect::Outcome::Done
        }
    }

    #[test]
    fn tiers_keep_their_period_at_an_interval_of_one_second() {
        use crate::collect::Tier::{Fast, Medium, Slow};

        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(1_000_000));
        let mut sampler = running(Arc::clone(&clock), dir.path()).sampler;
        sampler.interval = Duration::from_secs(1);
        let runs = [Fast, Medium, Slow].map(|tier| {
            let count = Arc::default();
            let collector = Runs(Arc::clone(&count));
            sampler.collectors.add("runs", tier, Box::new(collector));
            count
        });
        let mut running = Running::new(sampler, Metrics::register(&Registry::default(), &[]));
        let mut stamps = Vec::new();
        for _ in 0..=120 {
            let next_ms = next_tick_ms(clock.now_ms(), running.phase_ms, running.interval_ms);
            clock.set_ms(next_ms);
            running.tick(next_ms);
            stamps.push(running.table.timestamp_ms());
        }
        assert!(stamps.windows(2).all(|pair| pair[1] - pair[0] == 1000));
        let runs = runs.map(|count| count.load(Ordering::Relaxed));
        assert_eq!(runs, [121, 5, 3], "each second, each 30 s, each 60 s");
    }

    /// Blocks each run until the test sends a permit.
    struct Blocking(Receiver<()>);

    impl crate::collect::Collector for Blocking {
        fn collect(
            &mut self,
            _: &mut crate::collect::CollectContext<'_>,
        ) -> crate::collect::Outcome {
            let (Ok(()) | Err(_)) = self.0.recv();
            crate::collect::Outcome::Done
        }
    }

    #[tokio::test]
    async fn stop_does_not_wait_for_a_full_queue_and_the_thread_ends() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(1_000_000));
        let mut sampler = running(clock, dir.path()).sampler;
        let (permits, blocked) = sync_channel(8);
        sampler.collectors.add(
            "blocking",
            crate::collect::Tier::Fast,
            Box::new(Blocking(blocked)),
        );
        let (handle, thread) = start(sampler, &Registry::default()).unwrap();
        permits.send(()).unwrap();
        // The thread takes the first scrape and blocks in it; the others fill the queue.
        let mut scrapes = Vec::new();
        while scrapes.len() < 2 * SCRAPES_MAX {
            let (answer, text) = oneshot::channel();
            match handle.commands.try_send(Command::Scrape(answer)) {
                Ok(()) => scrapes.push(text),
                Err(_) if handle.is_ready() && scrapes.len() > SCRAPES_MAX => break,
                Err(_) => tokio::task::yield_now().await,
            }
        }
        let started = Instant::now();
        handle.stop();
        assert!(started.elapsed() < Duration::from_secs(1));
        assert_eq!(handle.scrape().await, Err(ScrapeError::Stopped));
        drop(permits);
        tokio::task::spawn_blocking(|| thread.join().unwrap())
            .await
            .unwrap();
        let mut answered = 0;
        for text in scrapes {
            answered += u32::from(text.await.is_ok());
        }
        assert_eq!(answered, 1, "queued scrapes fail");
    }

    #[test]
    fn nodes_are_spread_over_the_interval() {
        let phases: Vec<i64> = (0..1000)
            .map(|node| phase_ms(&format!("node-{node}"), 10_000))
            .collect();
        assert!(phases.iter().all(|phase| (0..10_000).contains(phase)));
        let in_first_half = phases.iter().filter(|phase| **phase < 5000).count();
        assert!((400..600).contains(&in_first_half), "{in_first_half}");
    }
}
