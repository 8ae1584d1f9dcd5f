//! Scheduling by CPU, from /proc/schedstat.

use std::path::PathBuf;

use super::Roots;
use super::per_line::{Line, LineFormat, PerLine};
use crate::parse;
use crate::schema::{FamilyDef, Schema, Target, counter};
use crate::table::{SeriesId, SeriesTable};

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
pub type Schedstat = PerLine<SchedstatLines>;

/// The lines `cpu0 ...` of /proc/schedstat.
#[derive(Debug)]
pub struct SchedstatLines;

impl LineFormat for SchedstatLines {
    type Value = [f64; FAMILIES.len()];
    type Series = [SeriesId; FAMILIES.len()];

    const NAME: &'static str = "proc/schedstat";

    fn path(roots: &Roots) -> PathBuf {
        roots.proc.join("schedstat")
    }

    fn parse(line: &[u8]) -> Line<'_, Self::Value> {
        match line.strip_prefix(b"cpu") {
            Some(line) => Line::parsed(parse_line(line)),
            None => Line::Skip,
        }
    }

    fn add(
        cpu: &str,
        _: &Self::Value,
        (table, schema): (&mut SeriesTable, &mut Schema),
    ) -> Self::Series {
        FAMILIES
            .each_ref()
            .map(|family| schema.series(table, Target::Node, family, &[("cpu", cpu)]))
    }

    fn store(series: &mut Self::Series, values: Self::Value, table: &mut SeriesTable) {
        for (series, value) in series.iter().zip(values) {
            table.set(*series, value);
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
