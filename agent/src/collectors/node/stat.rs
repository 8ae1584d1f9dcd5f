//! Kernel totals of /proc/stat: interrupts, context switches, forks, processes, boot time.

use super::Roots;
use crate::collect::{CollectContext, Collector, Outcome, Single};
use crate::file::KeptFile;
use crate::parse;
use crate::read_errors::ReadErrors;
use crate::schema::{FamilyDef, counter, gauge};

/// Keys of /proc/stat and their families.
static KEYS: [(&[u8], FamilyDef); 6] = [
    (
        b"intr",
        counter("node_intr_total", "Total number of interrupts serviced."),
    ),
    (
        b"ctxt",
        counter(
            "node_context_switches_total",
            "Total number of context switches.",
        ),
    ),
    (
        b"btime",
        gauge("node_boot_time_seconds", "Node boot time, in unixtime."),
    ),
    (
        b"processes",
        counter("node_forks_total", "Total number of forks."),
    ),
    (
        b"procs_running",
        gauge(
            "node_procs_running",
            "Number of processes in runnable state.",
        ),
    ),
    (
        b"procs_blocked",
        gauge(
            "node_procs_blocked",
            "Number of processes blocked waiting for I/O to complete.",
        ),
    ),
];

/// Collects the totals of /proc/stat.
#[derive(Debug)]
pub struct Stat {
    stat: KeptFile,
    series: [Single; KEYS.len()],
}

impl Stat {
    /// A collector over the host's /proc.
    pub fn new(roots: &Roots, errors: &mut ReadErrors) -> Self {
        Self {
            stat: KeptFile::new(roots.proc.join("stat"), "proc/stat", errors),
            series: std::array::from_fn(|index| Single::node(&KEYS[index].1)),
        }
    }
}

impl Collector for Stat {
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        let Some(data) = self.stat.read(context.buffer, context.errors) else {
            return Outcome::NoData;
        };
        for line in parse::lines(data) {
            let mut words = parse::words(line);
            let key = words.next().unwrap_or_default();
            let Some(index) = KEYS.iter().position(|(candidate, _)| *candidate == key) else {
                continue;
            };
            let value = words.next().and_then(parse::integer);
            if let Some(value) = context.errors.parsed(self.stat.error_id(), value) {
                self.series[index].set(context.table, context.schema, value as f64);
            }
        }
        Outcome::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::testing::Bench;

    #[test]
    fn totals_are_first_columns() {
        let mut bench = Bench::new();
        bench.write(
            "proc/stat",
            "cpu 1\nintr 77 1 2 3\nctxt 5\nbtime 1700000000\nprocesses x\nprocs_running 2\n",
        );
        let roots = bench.roots();
        let mut stat = Stat::new(&roots, bench.errors());
        bench.collect(&mut stat);
        assert_eq!(bench.value("node_intr_total", &[]), Some(77.0));
        assert_eq!(bench.value("node_boot_time_seconds", &[]), Some(1.7e9));
        assert_eq!(bench.value("node_forks_total", &[]), None);
        assert_eq!(
            bench.value("node_procs_blocked", &[]),
            None,
            "absent is not 0"
        );
        assert_eq!(bench.errors().total(), 1);
    }
}
