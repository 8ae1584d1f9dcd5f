//! Scheduling by CPU, from /proc/schedstat.

use super::Roots;
use crate::collect::{CollectContext, Collector, Outcome};
use crate::file::KeptFile;
use crate::ordered_cache::OrderedCache;
use crate::parse;
use crate::read_errors::ReadErrors;
use crate::schema::{FamilyDef, Target, counter};
use crate::table::SeriesId;

/// The 7th to 9th number of a CPU's line.
const FAMILIES: [FamilyDef; 3] = [
    counter(
        "node_schedstat_running_seconds_total",
        "Number of seconds CPU spent running a process.",
    ),
    counter(
        "node_schedstat_waiting_seconds_total",
        "Number of seconds spent by processing waiting for this CPU.",
    ),
    counter(
        "node_schedstat_timeslices_total",
        "Number of timeslices executed by CPU.",
    ),
];
const FIRST: usize = 6;

/// Collects `node_schedstat_*`.
#[derive(Debug)]
pub struct Schedstat {
    file: KeptFile,
    cpus: OrderedCache<[SeriesId; FAMILIES.len()]>,
}

impl Schedstat {
    /// A collector over the host's /proc.
    pub fn new(roots: &Roots, errors: &mut ReadErrors) -> Self {
        let file = KeptFile::new(roots.proc.join("schedstat"), "proc/schedstat", errors);
        Self {
            file,
            cpus: OrderedCache::default(),
        }
    }
}

impl Collector for Schedstat {
    fn name(&self) -> &'static str {
        "schedstat"
    }

    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        let Some(data) = self.file.read(context.buffer, context.errors) else {
            return Outcome::NoData;
        };
        let CollectContext {
            table,
            schema,
            errors,
            ..
        } = context;
        self.cpus.begin();
        for line in parse::lines(data).filter_map(|line| line.strip_prefix(b"cpu")) {
            let Some((cpu, values)) = errors.parsed(self.file.error_id(), parse_line(line)) else {
                continue;
            };
            let series = *self.cpus.entry(cpu, |cpu| {
                let cpu = parse::text(cpu);
                FAMILIES
                    .each_ref()
                    .map(|family| schema.series(table, Target::Node, family, &[("cpu", &cpu)]))
            });
            for (series, value) in series.iter().zip(values) {
                table.set(*series, value);
            }
        }
        self.cpus
            .end(|series| series.iter().for_each(|&series| table.remove(series)));
        if self.cpus.is_empty() {
            Outcome::NoData
        } else {
            Outcome::Done
        }
    }
}

fn parse_line(line: &[u8]) -> Option<(&[u8], [f64; FAMILIES.len()])> {
    let mut words = parse::words(line);
    let cpu = words.next()?;
    let mut numbers = words.skip(FIRST).map(parse::integer);
    let mut next = || Some(numbers.next()?? as f64);
    Some((cpu, [next()? / 1e9, next()? / 1e9, next()?]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_three_numbers_count() {
        let line = b"0 1 2 3 4 5 6 2500000000 1000000000 42";
        assert_eq!(parse_line(line), Some((&b"0"[..], [2.5, 1.0, 42.0])));
        assert_eq!(parse_line(b"0 1 2 3"), None);
    }
}
