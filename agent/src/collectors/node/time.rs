//! The node's clock: its time and its clock sources.

use std::time::{SystemTime, UNIX_EPOCH};

use super::Roots;
use crate::collect::{CollectContext, Collector, Outcome, Single, Tier};
use crate::file::KeptFile;
use crate::parse;
use crate::read_errors::ReadErrors;
use crate::schema::{FamilyDef, Target, gauge, info};
use crate::table::SeriesId;

pub mod timex;

static SECONDS: FamilyDef = gauge(
    "node_time_seconds",
    "System time in seconds since epoch (1970).",
);
const AVAILABLE: FamilyDef = info(
    "node_time_clocksource_available_info",
    "Available clocksources read from '/sys/devices/system/clocksource'.",
);
const CURRENT: FamilyDef = info(
    "node_time_clocksource_current_info",
    "Current clocksource read from '/sys/devices/system/clocksource'.",
);

/// Collects `node_time_*`.
#[derive(Debug)]
pub struct Time {
    seconds: Single,
    sources: [Sources; 2],
}

/// The clock sources in a file of /sys, all on one line.
#[derive(Debug)]
struct Sources {
    file: KeptFile,
    family: &'static FamilyDef,
    text: Vec<u8>,
    series: Vec<SeriesId>,
}

impl Time {
    /// A collector over the host's clock and /sys.
    pub fn new(roots: &Roots, errors: &mut ReadErrors) -> Self {
        let dir = roots.sys.join("devices/system/clocksource/clocksource0");
        let mut sources = |name: &str, family| Sources {
            file: KeptFile::new(
                dir.join(name),
                &format!("sys/devices/system/clocksource/{name}"),
                errors,
            ),
            family,
            text: Vec::new(),
            series: Vec::new(),
        };
        Self {
            seconds: Single::node(&SECONDS),
            sources: [
                sources("available_clocksource", &AVAILABLE),
                sources("current_clocksource", &CURRENT),
            ],
        }
    }
}

impl Sources {
    fn collect(&mut self, context: &mut CollectContext<'_>) {
        let Some(text) = self.file.read(context.buffer, context.errors) else {
            return;
        };
        if self.text != text {
            self.text = text.to_vec();
            self.series
                .drain(..)
                .for_each(|series| context.table.remove(series));
            let names = parse::words(&self.text).map(parse::text);
            self.series.extend(names.map(|name| {
                let labels = [("device", "0"), ("clocksource", &*name)];
                context
                    .schema
                    .series(context.table, Target::Node, self.family, &labels)
            }));
        }
        self.series
            .iter()
            .for_each(|&series| context.table.set(series, 1.0));
    }
}

impl Collector for Time {
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        let Some(now) = seconds_since_epoch() else {
            return Outcome::NoData;
        };
        self.seconds.set(context.table, context.schema, now);
        if context.due.includes(Tier::Slow) {
            self.sources
                .iter_mut()
                .for_each(|sources| sources.collect(context));
        }
        Outcome::Done
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the machine's clock is what is measured here"
)]
fn seconds_since_epoch() -> Option<f64> {
    Some(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()?
            .as_secs_f64(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::testing::Bench;

    #[test]
    fn change_of_clock_source_replaces_its_series() {
        let mut bench = Bench::new();
        let dir = "sys/devices/system/clocksource/clocksource0";
        bench.write(&format!("{dir}/available_clocksource"), "kvm-clock tsc \n");
        bench.write(&format!("{dir}/current_clocksource"), "tsc\n");
        let roots = bench.roots();
        let mut time = Time::new(&roots, bench.errors());
        bench.collect(&mut time);
        assert_eq!(bench.series_count(), 4);
        bench.write(&format!("{dir}/current_clocksource"), "hpet\n");
        bench.collect(&mut time);
        assert_eq!(
            bench.value(
                "node_time_clocksource_current_info",
                &[("clocksource", "hpet")]
            ),
            Some(1.0)
        );
        assert_eq!(bench.series_count(), 4);
    }
}
