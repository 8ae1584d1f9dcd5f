//! CPU time by core and mode, from /proc/stat.

use std::path::PathBuf;

use super::Roots;
use super::per_line::{Line, LineFormat, PerLine, RemoveSeries};
use crate::parse;
use crate::schema::{FamilyDef, Schema, Target, counter};
use crate::table::{SeriesId, SeriesTable};

const SECONDS: FamilyDef = counter(
    "node_cpu_seconds_total",
    "Seconds the CPUs spent in each mode.",
);
const GUEST: FamilyDef = counter(
    "node_cpu_guest_seconds_total",
    "Seconds the CPUs spent in guests (VMs) for each mode.",
);

/// The columns of /proc/stat: family and mode.
const COLUMNS: [(&FamilyDef, &str); 10] = [
    (&SECONDS, "user"),
    (&SECONDS, "nice"),
    (&SECONDS, "system"),
    (&SECONDS, "idle"),
    (&SECONDS, "iowait"),
    (&SECONDS, "irq"),
    (&SECONDS, "softirq"),
    (&SECONDS, "steal"),
    (&GUEST, "user"),
    (&GUEST, "nice"),
];
const IDLE: usize = 3;

/// Clock ticks in /proc/stat (`USER_HZ`), 100 on every architecture of Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Idle time that went back this far means that the CPU was offline meanwhile (`jumpBackSeconds` in node_exporter's
/// cpu_linux.go).
const HOTPLUG_TICKS: u64 = 300;

/// Counters and series of one CPU.
#[derive(Debug)]
pub struct Core {
    ticks: [u64; COLUMNS.len()],
    series: [SeriesId; COLUMNS.len()],
}

impl Core {
    fn new(table: &mut SeriesTable, schema: &mut Schema, cpu: &str) -> Self {
        let series = COLUMNS.map(|(family, mode)| {
            schema.series(table, Target::Node, family, &[("cpu", cpu), ("mode", mode)])
        });
        Self {
            ticks: [0; COLUMNS.len()],
            series,
        }
    }

    /// Takes new counters. The kernel lets iowait and idle run backwards a little; such a counter keeps its old value.
    fn update(&mut self, ticks: [u64; COLUMNS.len()]) {
        if ticks[IDLE].saturating_add(HOTPLUG_TICKS) <= self.ticks[IDLE] {
            self.ticks = ticks;
        }
        for (held, new) in self.ticks.iter_mut().zip(ticks) {
            *held = new.max(*held);
        }
    }
}

impl RemoveSeries for Core {
    fn remove(self, table: &mut SeriesTable) {
        self.series.remove(table);
    }
}

/// Collects `node_cpu_seconds_total` and `node_cpu_guest_seconds_total`.
pub type Cpu = PerLine<CpuLines>;

/// The lines `cpu0 ...` of /proc/stat.
#[derive(Debug)]
pub struct CpuLines;

impl LineFormat for CpuLines {
    type Value = [u64; COLUMNS.len()];
    type Series = Core;

    const NAME: &'static str = "proc/stat";

    fn path(roots: &Roots) -> PathBuf {
        roots.proc.join("stat")
    }

    fn parse(line: &[u8]) -> Line<'_, Self::Value> {
        match line.strip_prefix(b"cpu") {
            None => Line::End,
            Some([b' ', ..]) => Line::Skip, // The sum over all CPUs.
            Some(line) => Line::parsed(parse_line(line)),
        }
    }

    fn add(cpu: &str, _: &Self::Value, (table, schema): (&mut SeriesTable, &mut Schema)) -> Core {
        Core::new(table, schema, cpu)
    }

    fn store(core: &mut Core, ticks: Self::Value, table: &mut SeriesTable) {
        core.update(ticks);
        for (series, ticks) in core.series.iter().zip(core.ticks) {
            table.set(*series, ticks as f64 / TICKS_PER_SECOND);
        }
    }
}

/// The CPU's number and its columns, from a line without its prefix `cpu`.
fn parse_line(line: &[u8]) -> Option<(&[u8], [u64; COLUMNS.len()])> {
    let mut words = parse::words(line);
    let cpu = words.next()?;
    parse::integer(cpu)?;
    let mut ticks = [0; COLUMNS.len()];
    for column in &mut ticks {
        *column = parse::integer(words.next()?)?;
    }
    Some((cpu, ticks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::Outcome;
    use crate::collectors::testing::Bench;

    #[test]
    fn counters_never_run_backwards_except_after_hotplug() {
        let mut bench = Bench::new();
        let roots = bench.roots();
        let mut cpu = Cpu::new(&roots, bench.errors());
        bench.write(
            "proc/stat",
            "cpu  1 1 1 1 1 1 1 1 1 1\ncpu0 10 0 0 1000 500 0 0 0 0 0\n",
        );
        assert_eq!(bench.collect(&mut cpu), Outcome::Done);
        bench.write(
            "proc/stat",
            "cpu  1 1 1 1 1 1 1 1 1 1\ncpu0 11 0 0 990 400 0 0 0 0 0\n",
        );
        bench.collect(&mut cpu);
        assert_eq!(
            bench.value("node_cpu_seconds_total", &[("mode", "iowait")]),
            Some(5.0)
        );
        assert_eq!(
            bench.value("node_cpu_seconds_total", &[("mode", "idle")]),
            Some(10.0)
        );
        assert_eq!(
            bench.value("node_cpu_seconds_total", &[("mode", "user")]),
            Some(0.11)
        );
        bench.write(
            "proc/stat",
            "cpu  1 1 1 1 1 1 1 1 1 1\ncpu0 1 0 0 2 3 0 0 0 0 0\n",
        );
        bench.collect(&mut cpu);
        assert_eq!(
            bench.value("node_cpu_seconds_total", &[("mode", "iowait")]),
            Some(0.03)
        );
    }

    #[test]
    fn offline_cpu_loses_its_series_and_truncated_line_is_counted() {
        let mut bench = Bench::new();
        let roots = bench.roots();
        let mut cpu = Cpu::new(&roots, bench.errors());
        let (zero, one) = ("cpu0 1 1 1 1 1 1 1 1 1 1\n", "cpu1 1 1 1 1 1 1 1 1 1 1\n");
        bench.write("proc/stat", &format!("{zero}{one}intr 5\n"));
        bench.collect(&mut cpu);
        assert_eq!(bench.series_count(), 20);
        bench.write("proc/stat", &format!("{zero}cpu1 1 1\n"));
        bench.collect(&mut cpu);
        assert_eq!((bench.series_count(), bench.errors().total()), (10, 1));
    }
}
