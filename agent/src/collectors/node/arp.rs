//! Neighbours by interface, from /proc/net/arp.

use super::Roots;
use crate::collect::{CollectContext, Collector, Outcome, Tier};
use crate::file::KeptFile;
use crate::ordered_cache::OrderedCache;
use crate::parse;
use crate::read_errors::ReadErrors;
use crate::schema::{FamilyDef, Target, gauge};
use crate::table::SeriesId;

const ENTRIES: FamilyDef = gauge("node_arp_entries", "ARP entries by device");
/// The column of the interface's name.
const DEVICE: usize = 5;

/// Collects `node_arp_entries`.
#[derive(Debug)]
pub struct Arp {
    file: KeptFile,
    devices: OrderedCache<(SeriesId, u64)>,
}

impl Arp {
    /// A collector over the host's network namespace.
    pub fn new(roots: &Roots, errors: &mut ReadErrors) -> Self {
        let file = KeptFile::new(roots.proc_net("arp"), "proc/net/arp", errors);
        Self {
            file,
            devices: OrderedCache::default(),
        }
    }
}

impl Collector for Arp {
    fn name(&self) -> &'static str {
        "arp"
    }

    fn tier(&self) -> Tier {
        Tier::Medium
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
        self.devices.begin();
        self.devices.values_mut().for_each(|(_, count)| *count = 0);
        for line in parse::lines(data).skip(1) {
            let Some(device) = errors.parsed(self.file.error_id(), parse::words(line).nth(DEVICE))
            else {
                continue;
            };
            let (_, count) = self.devices.entry(device, |device| {
                (
                    schema.series(
                        table,
                        Target::Node,
                        &ENTRIES,
                        &[("device", &parse::text(device))],
                    ),
                    0,
                )
            });
            *count += 1;
        }
        self.devices.end(|(series, _)| table.remove(series));
        for (series, count) in self.devices.values_mut() {
            table.set(*series, *count as f64);
        }
        Outcome::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::testing::Bench;

    #[test]
    fn entries_are_counted_by_device() {
        let mut bench = Bench::new();
        let head = "IP address HW type Flags HW address Mask Device\n";
        let row = |device: &str| format!("10.0.0.1 0x1 0x2 00:00:00:00:00:01 * {device}\n");
        bench.write(
            "proc/net/arp",
            &format!("{head}{}{}{}torn\n", row("eth0"), row("eth1"), row("eth0")),
        );
        let roots = bench.roots();
        let mut arp = Arp::new(&roots, bench.errors());
        bench.collect(&mut arp);
        assert_eq!(
            bench.value("node_arp_entries", &[("device", "eth0")]),
            Some(2.0)
        );
        assert_eq!(bench.errors().total(), 1);
        bench.write("proc/net/arp", head);
        bench.collect(&mut arp);
        assert_eq!(bench.series_count(), 0);
    }
}
