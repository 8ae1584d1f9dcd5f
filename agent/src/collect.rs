//! The collector trait, the context of one tick, and the driver that runs all collectors.
//!
//! A tick carries one timestamp, that of [`SeriesTable::begin_tick`]. A collector stores only values that are true at that
//! time; a value that was measured earlier (a scraped answer) gets the timestamp of the tick that stores it.

use std::time::Instant;

use crate::file::Buffer;
use crate::read_errors::ReadErrors;
use crate::schema::{FamilyDef, Schema, Target, gauge};
use crate::table::{SeriesId, SeriesTable};

const DURATION: FamilyDef = gauge(
    "node_scrape_collector_duration_seconds",
    "Duration of a collector's last run.",
);
const SUCCESS: FamilyDef = gauge(
    "node_scrape_collector_success",
    "Whether a collector found its source (1) or not (0).",
);

/// How often a value is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// At every tick: CPU, memory, network.
    Fast,
    /// Every 30 s: block I/O, pressure, events, pids, file systems.
    Medium,
    /// Every 60 s: limits, names, and other values that seldom change.
    Slow,
}

/// Which tiers are read at this tick.
///
/// A tick of the slow tier includes the medium one, so the slowest tier determines the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    tier: Tier,
    /// Number of the tick and the interval in milliseconds; `None` for a scrape, in which everything is due.
    tick: Option<(u64, u64)>,
}

impl Due {
    /// Everything, as for a scrape and a first reading.
    pub const ALL: Self = Self {
        tier: Tier::Slow,
        tick: None,
    };

    /// The tiers of tick number `tick` (from 0) at one tick per `interval_ms`.
    #[must_use]
    pub const fn at(tick: u64, interval_ms: u64) -> Self {
        let tier = if tick.is_multiple_of(ticks_per(60_000, interval_ms)) {
            Tier::Slow
        } else if tick.is_multiple_of(ticks_per(30_000, interval_ms)) {
            Tier::Medium
        } else {
            Tier::Fast
        };
        Self {
            tier,
            tick: Some((tick, interval_ms)),
        }
    }

    /// The tiers that are due for one of many similar objects. `slot` staggers them: their slow readings are spread evenly
    /// over the ticks, so that all ticks cost about the same. Each object is still read every 30 and 60 s.
    #[must_use]
    pub const fn at_slot(self, slot: u64) -> Self {
        match self.tick {
            Some((tick, interval_ms)) => Self::at(tick.wrapping_add(slot), interval_ms),
            None => self,
        }
    }

    /// Whether this is a scrape rather than a tick.
    #[must_use]
    pub const fn is_scrape(self) -> bool {
        self.tick.is_none()
    }

    /// Whether values of `tier` are read.
    #[must_use]
    pub fn includes(self, tier: Tier) -> bool {
        tier <= self.tier
    }
}

const fn ticks_per(period_ms: u64, interval_ms: u64) -> u64 {
    let ticks = period_ms / if interval_ms == 0 { 1 } else { interval_ms };
    if ticks == 0 { 1 } else { ticks }
}

/// What a collector works with in one tick.
#[derive(Debug)]
pub struct CollectContext<'a> {
    /// Receives the values.
    pub table: &'a mut SeriesTable,
    /// Names and target labels for new series.
    pub schema: &'a mut Schema,
    /// Buffer for file contents.
    pub buffer: &'a mut Buffer,
    /// Counts files that could not be read or parsed.
    pub errors: &'a mut ReadErrors,
    /// The tiers to read.
    pub due: Due,
}

/// The result of a collector's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It stored values, or the machine has none to store.
    Done,
    /// The machine has no such source, or reading it failed; [`ReadErrors`] counts failures.
    NoData,
}

impl Outcome {
    /// [`Self::Done`] for `Some`.
    #[must_use]
    pub const fn of<T>(found: Option<&T>) -> Self {
        if found.is_some() {
            Self::Done
        } else {
            Self::NoData
        }
    }
}

/// Reads one group of values. Registered in [`crate::collectors::COLLECTORS`].
pub trait Collector: Send {
    /// Reads the values that are due and stores them. Allocates only for new series.
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome;
}

struct ScheduledCollector {
    name: &'static str,
    tier: Tier,
    collector: Box<dyn Collector>,
    /// Duration and success of its last run.
    series: Option<(SeriesId, SeriesId)>,
}

/// The collectors that run, with the buffer and the error counters that they share.
#[derive(Default)]
pub struct Collectors {
    scheduled: Vec<ScheduledCollector>,
    buffer: Buffer,
    errors: ReadErrors,
}

impl std::fmt::Debug for Collectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.scheduled.iter().map(|scheduled| scheduled.name))
            .finish()
    }
}

impl Collectors {
    /// Adds a collector that runs once per `tier`, after those added before it.
    pub fn add(&mut self, name: &'static str, tier: Tier, collector: Box<dyn Collector>) {
        self.scheduled.push(ScheduledCollector {
            name,
            tier,
            collector,
            series: None,
        });
    }

    /// The error counters, for collectors that register their files when they are built.
    pub const fn errors_mut(&mut self) -> &mut ReadErrors {
        &mut self.errors
    }

    /// Runs every collector that is due, after [`SeriesTable::begin_tick`].
    pub fn collect(&mut self, table: &mut SeriesTable, schema: &mut Schema, due: Due) {
        for scheduled in &mut self.scheduled {
            if !due.includes(scheduled.tier) {
                continue;
            }
            let started = Instant::now();
            let (buffer, errors) = (&mut self.buffer, &mut self.errors);
            let outcome = scheduled.collector.collect(&mut CollectContext {
                table,
                schema,
                buffer,
                errors,
                due,
            });
            let (duration, success) = *scheduled.series.get_or_insert_with(|| {
                let labels = [("collector", scheduled.name)];
                (
                    schema.series(table, Target::Node, &DURATION, &labels),
                    schema.series(table, Target::Node, &SUCCESS, &labels),
                )
            });
            table.set(duration, started.elapsed().as_secs_f64());
            table.set(success, f64::from(u8::from(outcome == Outcome::Done)));
        }
        self.errors.store(table, schema);
    }
}

/// A series without labels of its own. Added with its first value.
#[derive(Debug)]
pub struct Single {
    target: Target,
    family: &'static FamilyDef,
    id: Option<SeriesId>,
}

impl Single {
    /// A series of `family`.
    #[must_use]
    pub const fn new(target: Target, family: &'static FamilyDef) -> Self {
        Self {
            target,
            family,
            id: None,
        }
    }

    /// A series of `family` with node_exporter's job.
    #[must_use]
    pub const fn node(family: &'static FamilyDef) -> Self {
        Self::new(Target::Node, family)
    }

    /// Stores the value.
    pub fn set(&mut self, table: &mut SeriesTable, schema: &mut Schema, value: f64) {
        let id = *self
            .id
            .get_or_insert_with(|| schema.series(table, self.target, self.family, &[]));
        table.set(id, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_are_due_by_time_at_any_interval() {
        let slow: Vec<u64> = (0..13)
            .filter(|&tick| Due::at(tick, 10_000).includes(Tier::Slow))
            .collect();
        let medium: Vec<u64> = (0..13)
            .filter(|&tick| Due::at(tick, 10_000).includes(Tier::Medium))
            .collect();
        assert_eq!((slow, medium), (vec![0, 6, 12], vec![0, 3, 6, 9, 12]));
        assert!(
            Due::at(7, 60_000).includes(Tier::Slow),
            "an interval as long as a tier reads it each time"
        );
        assert!(Due::at(60, 1000).includes(Tier::Slow));
    }

    #[test]
    fn slow_readings_are_staggered_over_the_ticks() {
        for tick in 0..12 {
            let due = |tier| {
                let numbers = 0..600;
                let due =
                    numbers.filter(|&number| Due::at(tick, 10_000).at_slot(number).includes(tier));
                due.count()
            };
            assert_eq!(
                (due(Tier::Slow), due(Tier::Medium), due(Tier::Fast)),
                (100, 200, 600)
            );
        }
        assert_eq!(Due::ALL.at_slot(5), Due::ALL, "a scrape has everything");
    }
}
