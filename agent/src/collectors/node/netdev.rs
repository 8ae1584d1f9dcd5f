//! Network interfaces, from /proc/net/dev of the host's namespace.

use regex::bytes::Regex;

use super::Roots;
use crate::collect::{CollectContext, Collector, Outcome};
use crate::file::KeptFile;
use crate::ordered_cache::OrderedCache;
use crate::parse;
use crate::read_errors::ReadErrors;
use crate::schema::{FamilyDef, Schema, Target, counter};
use crate::table::{SeriesId, SeriesTable};

/// Interfaces excluded by default: the host ends of pods' links, as in kube-prometheus. Their traffic is counted
/// inside the pods.
pub const DEVICES_EXCLUDE: &str = r"^(veth.*|[a-f0-9]{15})$";

/// The columns of /proc/net/dev.
///
/// The kernel adds `rx_missed_errors` to drop, and the special errors to frame and carrier. node_exporter does the
/// same with the counters from netlink.
const COLUMNS: [FamilyDef; 16] = [
    counter(
        "node_network_receive_bytes_total",
        "Network device statistic receive_bytes.",
    ),
    counter(
        "node_network_receive_packets_total",
        "Network device statistic receive_packets.",
    ),
    counter(
        "node_network_receive_errs_total",
        "Network device statistic receive_errs.",
    ),
    counter(
        "node_network_receive_drop_total",
        "Network device statistic receive_drop.",
    ),
    counter(
        "node_network_receive_fifo_total",
        "Network device statistic receive_fifo.",
    ),
    counter(
        "node_network_receive_frame_total",
        "Network device statistic receive_frame.",
    ),
    counter(
        "node_network_receive_compressed_total",
        "Network device statistic receive_compressed.",
    ),
    counter(
        "node_network_receive_multicast_total",
        "Network device statistic receive_multicast.",
    ),
    counter(
        "node_network_transmit_bytes_total",
        "Network device statistic transmit_bytes.",
    ),
    counter(
        "node_network_transmit_packets_total",
        "Network device statistic transmit_packets.",
    ),
    counter(
        "node_network_transmit_errs_total",
        "Network device statistic transmit_errs.",
    ),
    counter(
        "node_network_transmit_drop_total",
        "Network device statistic transmit_drop.",
    ),
    counter(
        "node_network_transmit_fifo_total",
        "Network device statistic transmit_fifo.",
    ),
    counter(
        "node_network_transmit_colls_total",
        "Network device statistic transmit_colls.",
    ),
    counter(
        "node_network_transmit_carrier_total",
        "Network device statistic transmit_carrier.",
    ),
    counter(
        "node_network_transmit_compressed_total",
        "Network device statistic transmit_compressed.",
    ),
];
const NOHANDLER: FamilyDef = counter(
    "node_network_receive_nohandler_total",
    "Network device statistic receive_nohandler.",
);

#[derive(Debug)]
struct Device {
    columns: [SeriesId; COLUMNS.len()],
    nohandler: SeriesId,
    nohandler_file: KeptFile,
}

/// Collects `node_network_{receive,transmit}_*_total`.
#[derive(Debug)]
pub struct Netdev {
    file: KeptFile,
    sys_class_net: std::path::PathBuf,
    exclude: Regex,
    /// `None` for excluded interfaces.
    devices: OrderedCache<Option<Device>>,
}

impl Netdev {
    /// A collector over the host's network namespace.
    ///
    /// # Errors
    /// The regular expression is not valid.
    pub fn new(
        roots: &Roots,
        exclude: &str,
        errors: &mut ReadErrors,
    ) -> Result<Self, regex::Error> {
        Ok(Self {
            file: KeptFile::new(roots.proc_net("dev"), "proc/net/dev", errors),
            sys_class_net: roots.sys.join("class/net"),
            exclude: Regex::new(exclude)?,
            devices: OrderedCache::default(),
        })
    }
}

impl Device {
    fn new(
        name: &str,
        dir: &std::path::Path,
        table: &mut SeriesTable,
        schema: &mut Schema,
        errors: &mut ReadErrors,
    ) -> Self {
        let mut add = |family| schema.series(table, Target::Node, family, &[("device", name)]);
        let path = dir.join(name).join("statistics/rx_nohandler");
        Self {
            columns: std::array::from_fn(|index| add(&COLUMNS[index])),
            nohandler: add(&NOHANDLER),
            nohandler_file: KeptFile::new(path, "sys/class/net/statistics/rx_nohandler", errors),
        }
    }
}

impl Collector for Netdev {
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
        for row in rows(data) {
            let Some(row) = errors.parsed(self.file.error_id(), row) else {
                continue;
            };
            let device = self.devices.entry(row.interface, |name| {
                let exported = !self.exclude.is_match(name);
                exported.then(|| {
                    Device::new(
                        &parse::text(name),
                        &self.sys_class_net,
                        table,
                        schema,
                        errors,
                    )
                })
            });
            let Some(device) = device else { continue };
            for (series, value) in device.columns.iter().zip(row.columns) {
                table.set(*series, value as f64);
            }
        }
        self.devices.end(|device| {
            if let Some(device) = device {
                device
                    .columns
                    .iter()
                    .for_each(|&series| table.remove(series));
                table.remove(device.nohandler);
            }
        });
        for device in self.devices.values_mut().flatten() {
            let file = &mut device.nohandler_file;
            if let Some(value) = file.read(context.buffer, context.errors).map(parse::single)
                && let Some(value) = context.errors.parsed(file.error_id(), value)
            {
                context.table.set(device.nohandler, value as f64);
            }
        }
        if self.devices.is_empty() {
            Outcome::NoData
        } else {
            Outcome::Done
        }
    }
}

/// An interface's counters.
#[derive(Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// Its name.
    pub interface: &'a [u8],
    /// Eight receive columns (bytes, packets, errs, drop, fifo, frame, compressed, multicast), then eight transmit
    /// columns (bytes, packets, errs, drop, fifo, colls, carrier, compressed).
    pub columns: [u64; 16],
}

/// Parses the rows of /proc/net/dev; `None` for a truncated one.
pub fn rows(data: &[u8]) -> impl Iterator<Item = Option<Row<'_>>> {
    parse::lines(data).skip(2).map(parse_row)
}

/// A long number follows the colon without a blank. A name may contain a colon (`eth0:1`), a number can't.
fn parse_row(line: &[u8]) -> Option<Row<'_>> {
    let colon = line.iter().rposition(|&byte| byte == b':')?;
    let (interface, rest) = line.split_at_checked(colon)?;
    let mut words = parse::words(rest.get(1..)?);
    let mut columns = [0; 16];
    for column in &mut columns {
        *column = parse::integer(words.next()?)?;
    }
    let interface = interface.trim_ascii();
    (!interface.is_empty()).then_some(Row { interface, columns })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::testing::Bench;

    const HEAD: &str = "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n";

    #[test]
    fn pod_links_are_excluded_and_gone_interfaces_removed() {
        let mut bench = Bench::new();
        let eth0 = "  eth0:1001 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        let veth = "veth1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        bench.write(
            "proc/1/net/dev",
            &format!("{HEAD}{eth0}{veth}    lo: 1 2 3\n"),
        );
        bench.write("sys/class/net/eth0/statistics/rx_nohandler", "9\n");
        let roots = bench.roots();
        let mut netdev = Netdev::new(&roots, DEVICES_EXCLUDE, bench.errors()).unwrap();
        bench.collect(&mut netdev);
        let eth = [("device", "eth0")];
        assert_eq!(
            bench.value("node_network_receive_bytes_total", &eth),
            Some(1001.0)
        );
        assert_eq!(
            bench.value("node_network_transmit_compressed_total", &eth),
            Some(16.0)
        );
        assert_eq!(
            bench.value("node_network_receive_nohandler_total", &eth),
            Some(9.0)
        );
        assert_eq!((bench.series_count(), bench.errors().total()), (17, 1));
        bench.write("proc/1/net/dev", HEAD);
        bench.collect(&mut netdev);
        assert_eq!(bench.series_count(), 0);
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(data: Vec<u8>) {
            let _rows = rows(&data).count();
        }
    }
}
