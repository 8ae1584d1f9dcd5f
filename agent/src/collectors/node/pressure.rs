//! Pressure stall information of the node, from /proc/pressure.

use super::Roots;
use crate::collect::{CollectContext, Collector, Outcome, Single};
use crate::file::KeptFile;
use crate::parse;
use crate::read_errors::ReadErrors;
use crate::schema::{FamilyDef, counter};

/// A pressure file and the families of its lines `some` and `full`.
struct Resource {
    file: &'static str,
    some: Option<FamilyDef>,
    full: Option<FamilyDef>,
}

// The CPU's line `full` is always 0 for the system, and interrupts have no line `some`.
static RESOURCES: [Resource; 4] = [
    Resource {
        file: "cpu",
        some: Some(counter(
            "node_pressure_cpu_waiting_seconds_total",
            "Total time in seconds that processes have waited for CPU time",
        )),
        full: None,
    },
    Resource {
        file: "io",
        some: Some(counter(
            "node_pressure_io_waiting_seconds_total",
            "Total time in seconds that processes have waited due to IO congestion",
        )),
        full: Some(counter(
            "node_pressure_io_stalled_seconds_total",
            "Total time in seconds no process could make progress due to IO congestion",
        )),
    },
    Resource {
        file: "memory",
        some: Some(counter(
            "node_pressure_memory_waiting_seconds_total",
            "Total time in seconds that processes have waited for memory",
        )),
        full: Some(counter(
            "node_pressure_memory_stalled_seconds_total",
            "Total time in seconds no process could make progress due to memory congestion",
        )),
    },
    Resource {
        file: "irq",
        some: None,
        full: Some(counter(
            "node_pressure_irq_stalled_seconds_total",
            "Total time in seconds no process could make progress due to IRQ congestion",
        )),
    },
];

#[derive(Debug)]
struct PressureFile {
    file: KeptFile,
    some: Option<Single>,
    full: Option<Single>,
}

/// Collects `node_pressure_*`.
#[derive(Debug)]
pub struct NodePressure {
    entries: Vec<PressureFile>,
}

impl NodePressure {
    /// A collector over the host's /proc.
    pub fn new(roots: &Roots, errors: &mut ReadErrors) -> Self {
        let dir = roots.proc.join("pressure");
        let entries = RESOURCES.iter().map(|resource| PressureFile {
            file: KeptFile::new(
                dir.join(resource.file),
                &format!("proc/pressure/{}", resource.file),
                errors,
            ),
            some: resource.some.as_ref().map(Single::node),
            full: resource.full.as_ref().map(Single::node),
        });
        Self {
            entries: entries.collect(),
        }
    }
}

impl Collector for NodePressure {
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        let mut outcome = Outcome::NoData;
        for entry in &mut self.entries {
            let Some(data) = entry.file.read(context.buffer, context.errors) else {
                continue;
            };
            let Some(totals) = context
                .errors
                .parsed(entry.file.error_id(), parse_pressure(data))
            else {
                continue;
            };
            for (series, total_usec) in [
                (&mut entry.some, totals.some_usec),
                (&mut entry.full, totals.full_usec),
            ] {
                if let (Some(series), Some(usec)) = (series, total_usec) {
                    series.set(context.table, context.schema, usec as f64 / 1e6);
                }
            }
            outcome = Outcome::Done;
        }
        outcome
    }
}

/// The totals of a pressure file, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Time in which at least one task waited.
    pub some_usec: Option<u64>,
    /// Time in which no task made progress.
    pub full_usec: Option<u64>,
}

/// Parses `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and the same for `full`.
#[must_use]
pub fn parse_pressure(data: &[u8]) -> Option<Totals> {
    let mut totals = Totals::default();
    for line in parse::lines(data) {
        let mut words = parse::words(line);
        let slot = match words.next()? {
            b"some" => &mut totals.some_usec,
            b"full" => &mut totals.full_usec,
            _ => return None,
        };
        *slot = Some(parse::integer(
            words.find_map(|word| word.strip_prefix(b"total="))?,
        )?);
    }
    (totals != Totals::default()).then_some(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_by_line() {
        let text = b"some avg10=0.00 avg60=0.12 avg300=0.00 total=42\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(
            parse_pressure(text),
            Some(Totals {
                some_usec: Some(42),
                full_usec: Some(7)
            })
        );
        for bad in [
            &b""[..],
            b"some avg10=1",
            b"half total=3",
            b"some total=-1",
            b"\n",
        ] {
            assert_eq!(parse_pressure(bad), None, "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(data: Vec<u8>) {
            let _totals = parse_pressure(&data);
        }
    }
}
