//! Neighbours by interface, from /proc/net/arp.

use std::path::PathBuf;

use super::Roots;
use super::per_line::{Line, LineFormat, PerLine, RemoveSeries};
use crate::parse;
use crate::schema::{FamilyDef, Schema, Target, gauge};
use crate::table::{SeriesId, SeriesTable};

const ENTRIES: FamilyDef = gauge("node_arp_entries", "ARP entries by device");
/// First word of the header.
const HEADER: &[u8] = b"IP";
/// Column of the interface's name.
const DEVICE: usize = 5;

/// Collects `node_arp_entries`.
pub type Arp = PerLine<ArpLines>;

/// The lines of /proc/net/arp, counted by interface.
#[derive(Debug)]
pub struct ArpLines;

/// Entries of one interface in the current pass.
#[derive(Debug)]
pub struct ArpCount {
    series: SeriesId,
    entries: u64,
}

impl RemoveSeries for ArpCount {
    fn remove(self, table: &mut SeriesTable) {
        table.remove(self.series);
    }
}

impl LineFormat for ArpLines {
    type Value = ();
    type Series = ArpCount;

    const NAME: &'static str = "proc/net/arp";

    fn path(roots: &Roots) -> PathBuf {
        roots.proc_net("arp")
    }

    fn parse(line: &[u8]) -> Line<'_, ()> {
        let mut words = parse::words(line).peekable();
        if words.peek() == Some(&HEADER) {
            return Line::Skip;
        }
        Line::parsed(words.nth(DEVICE).map(|device| (device, ())))
    }

    fn add(device: &str, (): &(), (table, schema): (&mut SeriesTable, &mut Schema)) -> ArpCount {
        ArpCount {
            series: schema.series(table, Target::Node, &ENTRIES, &[("device", device)]),
            entries: 0,
        }
    }

    fn begin(count: &mut ArpCount) {
        count.entries = 0;
    }

    fn store(count: &mut ArpCount, (): (), table: &mut SeriesTable) {
        count.entries += 1;
        table.set(count.series, count.entries as f64);
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
