//! Load averages, from /proc/loadavg.

use super::Roots;
use crate::collect::{CollectContext, Collector, Outcome, Single};
use crate::file::KeptFile;
use crate::parse;
use crate::read_errors::ReadErrors;
use crate::schema::{FamilyDef, gauge};

static FAMILIES: [FamilyDef; 3] = [
    gauge("node_load1", "1m load average."),
    gauge("node_load5", "5m load average."),
    gauge("node_load15", "15m load average."),
];

/// Collects `node_load1`, `node_load5` and `node_load15`.
#[derive(Debug)]
pub struct Loadavg {
    file: KeptFile,
    series: [Single; 3],
}

impl Loadavg {
    /// A collector over the host's /proc.
    pub fn new(roots: &Roots, errors: &mut ReadErrors) -> Self {
        Self {
            file: KeptFile::new(roots.proc.join("loadavg"), "proc/loadavg", errors),
            series: std::array::from_fn(|index| Single::node(&FAMILIES[index])),
        }
    }
}

impl Collector for Loadavg {
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        let Some(data) = self.file.read(context.buffer, context.errors) else {
            return Outcome::NoData;
        };
        let mut words = parse::words(data);
        for series in &mut self.series {
            let load = words.next().and_then(parse::decimal);
            let Some(load) = context.errors.parsed(self.file.error_id(), load) else {
                return Outcome::NoData;
            };
            series.set(context.table, context.schema, load);
        }
        Outcome::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::testing::Bench;

    #[test]
    fn truncated_file_gives_the_values_it_has_and_is_counted() {
        let mut bench = Bench::new();
        bench.write("proc/loadavg", "0.53 0.40 x 1/90 11\n");
        let roots = bench.roots();
        let mut load = Loadavg::new(&roots, bench.errors());
        assert_eq!(bench.collect(&mut load), Outcome::NoData);
        assert_eq!(bench.value("node_load5", &[]), Some(0.4));
        assert_eq!(bench.value("node_load15", &[]), None);
        assert_eq!(bench.errors().total(), 1);
    }
}
