//! Packet processing by CPU, from /proc/net/softnet_stat: rows of hexadecimal columns.

use super::Roots;
use crate::collect::{CollectContext, Collector, Outcome};
use crate::file::KeptFile;
use crate::parse;
use crate::read_errors::ReadErrors;
use crate::schema::{FamilyDef, Target, counter, gauge};
use crate::table::SeriesId;

/// Families and their columns. Older kernels have fewer columns.
const FAMILIES: [(usize, FamilyDef); 7] = [
    (
        0,
        counter(
            "node_softnet_processed_total",
            "Number of processed packets",
        ),
    ),
    (
        1,
        counter("node_softnet_dropped_total", "Number of dropped packets"),
    ),
    (
        2,
        counter(
            "node_softnet_times_squeezed_total",
            "Number of times processing packets ran out of quota",
        ),
    ),
    (
        8,
        counter(
            "node_softnet_cpu_collision_total",
            "Number of collision occur while obtaining device lock while transmitting",
        ),
    ),
    (
        9,
        counter(
            "node_softnet_received_rps_total",
            "Number of times a CPU has been woken up received_rps",
        ),
    ),
    (
        10,
        counter(
            "node_softnet_flow_limit_count_total",
            "Number of times flow limit has been reached",
        ),
    ),
    (
        11,
        gauge("node_softnet_backlog_len", "Softnet backlog status"),
    ),
];
/// The column with the CPU's number, on kernels that omit rows of offline CPUs.
const CPU_COLUMN: usize = 12;
const COLUMNS: usize = 13;

/// Collects `node_softnet_*`.
#[derive(Debug)]
pub struct Softnet {
    file: KeptFile,
    /// By CPU.
    series: Vec<[Option<SeriesId>; FAMILIES.len()]>,
}

impl Softnet {
    /// A collector over the host's /proc.
    pub fn new(roots: &Roots, errors: &mut ReadErrors) -> Self {
        let file = KeptFile::new(
            roots.proc_net("softnet_stat"),
            "proc/net/softnet_stat",
            errors,
        );
        Self {
            file,
            series: Vec::new(),
        }
    }
}

impl Collector for Softnet {
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        let Some(data) = self.file.read(context.buffer, context.errors) else {
            return Outcome::NoData;
        };
        for (row, line) in parse::lines(data).enumerate() {
            let Some(columns) = context
                .errors
                .parsed(self.file.error_id(), parse_line(line))
            else {
                continue;
            };
            let cpu = columns[CPU_COLUMN].map_or(row, |cpu| usize::try_from(cpu).unwrap_or(row));
            // Bounded by the kernel's limit on CPUs.
            if cpu >= 1 << 14 {
                context.errors.parse(self.file.error_id());
                continue;
            }
            if self.series.len() <= cpu {
                self.series.resize(cpu + 1, [None; FAMILIES.len()]);
            }
            for (series, (column, family)) in self.series[cpu].iter_mut().zip(&FAMILIES) {
                let Some(value) = columns[*column] else {
                    continue;
                };
                let id = *series.get_or_insert_with(|| {
                    context.schema.series(
                        context.table,
                        Target::Node,
                        family,
                        &[("cpu", &cpu.to_string())],
                    )
                });
                context.table.set(id, value as f64);
            }
        }
        Outcome::Done
    }
}

fn parse_line(line: &[u8]) -> Option<[Option<u64>; COLUMNS]> {
    let mut columns = [None; COLUMNS];
    for (column, word) in columns.iter_mut().zip(parse::words(line)) {
        *column = Some(parse::hexadecimal(word)?);
    }
    columns[2].map(|_| columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::testing::Bench;

    #[test]
    fn rows_belong_to_the_cpu_they_name() {
        let mut bench = Bench::new();
        bench.write("proc/net/softnet_stat", "000000ff 00000001 00000002 0 0 0 0 0 00000003 00000003 00000004 00000005 00000002\n0000000a 0 0\nbad\n");
        let roots = bench.roots();
        let mut softnet = Softnet::new(&roots, bench.errors());
        bench.collect(&mut softnet);
        assert_eq!(
            bench.value("node_softnet_processed_total", &[("cpu", "2")]),
            Some(255.0)
        );
        assert_eq!(
            bench.value("node_softnet_backlog_len", &[("cpu", "2")]),
            Some(5.0)
        );
        assert_eq!(
            bench.value("node_softnet_cpu_collision_total", &[("cpu", "2")]),
            Some(3.0)
        );
        assert_eq!(
            bench.value("node_softnet_processed_total", &[("cpu", "1")]),
            Some(10.0)
        );
        assert_eq!(
            bench.value("node_softnet_backlog_len", &[("cpu", "1")]),
            None
        );
        assert_eq!(bench.errors().total(), 1);
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(data: Vec<u8>) {
            let _columns = parse_line(&data);
        }
    }
}
