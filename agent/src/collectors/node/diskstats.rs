//! Block devices, from /proc/diskstats, with properties from udev.

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use super::Roots;
use crate::collect::{CollectContext, Collector, Outcome};
use crate::file::KeptFile;
use crate::ordered_cache::OrderedCache;
use crate::parse;
use crate::read_errors::ReadErrors;
use crate::schema::{FamilyDef, Schema, Target, counter, gauge, info};
use crate::table::{SeriesId, SeriesTable};

/// Size of the sectors that /proc/diskstats counts, which does not depend on the device.
const SECTOR_BYTES: f64 = 512.0;

/// Factor of a column of /proc/diskstats.
const COUNT: f64 = 1.0;
const MILLISECONDS: f64 = 1e-3;

/// The columns after the device name. Linux 2.6 wrote 11, 4.18 added 4, 5.5 another 2.
const COLUMNS: [(FamilyDef, f64); 17] = [
    (
        counter(
            "node_disk_reads_completed_total",
            "The total number of reads completed successfully.",
        ),
        COUNT,
    ),
    (
        counter(
            "node_disk_reads_merged_total",
            "The total number of reads merged.",
        ),
        COUNT,
    ),
    (
        counter(
            "node_disk_read_bytes_total",
            "The total number of bytes read successfully.",
        ),
        SECTOR_BYTES,
    ),
    (
        counter(
            "node_disk_read_time_seconds_total",
            "The total number of seconds spent by all reads.",
        ),
        MILLISECONDS,
    ),
    (
        counter(
            "node_disk_writes_completed_total",
            "The total number of writes completed successfully.",
        ),
        COUNT,
    ),
    (
        counter(
            "node_disk_writes_merged_total",
            "The number of writes merged.",
        ),
        COUNT,
    ),
    (
        counter(
            "node_disk_written_bytes_total",
            "The total number of bytes written successfully.",
        ),
        SECTOR_BYTES,
    ),
    (
        counter(
            "node_disk_write_time_seconds_total",
            "This is the total number of seconds spent by all writes.",
        ),
        MILLISECONDS,
    ),
    (
        gauge(
            "node_disk_io_now",
            "The number of I/Os currently in progress.",
        ),
        COUNT,
    ),
    (
        counter(
            "node_disk_io_time_seconds_total",
            "Total seconds spent doing I/Os.",
        ),
        MILLISECONDS,
    ),
    (
        counter(
            "node_disk_io_time_weighted_seconds_total",
            "The weighted # of seconds spent doing I/Os.",
        ),
        MILLISECONDS,
    ),
    (
        counter(
            "node_disk_discards_completed_total",
            "The total number of discards completed successfully.",
        ),
        COUNT,
    ),
    (
        counter(
            "node_disk_discards_merged_total",
            "The total number of discards merged.",
        ),
        COUNT,
    ),
    (
        counter(
            "node_disk_discarded_sectors_total",
            "The total number of sectors discarded successfully.",
        ),
        COUNT,
    ),
    (
        counter(
            "node_disk_discard_time_seconds_total",
            "This is the total number of seconds spent by all discards.",
        ),
        MILLISECONDS,
    ),
    (
        counter(
            "node_disk_flush_requests_total",
            "The total number of flush requests completed successfully",
        ),
        COUNT,
    ),
    (
        counter(
            "node_disk_flush_requests_time_seconds_total",
            "This is the total number of seconds spent by all flush requests.",
        ),
        MILLISECONDS,
    ),
];
const COLUMNS_MIN: usize = 11;

const INFO: FamilyDef = info("node_disk_info", "Info of /sys/block/<block_device>.");

#[derive(Debug)]
struct Disk {
    columns: Vec<SeriesId>,
    info: SeriesId,
    /// The description that `info` was made from. Another device may get the same name.
    numbers: (u64, u64),
}

impl Disk {
    /// Whether a line describes this disk, with as many columns as before.
    fn is_of(&self, row: &Row<'_>) -> bool {
        self.numbers == row.numbers && self.columns.len() == row.count
    }

    fn remove(self, table: &mut SeriesTable) {
        for series in self.columns.into_iter().chain([self.info]) {
            table.remove(series);
        }
    }
}

/// Collects `node_disk_*`.
#[derive(Debug)]
pub struct Diskstats {
    file: KeptFile,
    sys_block: PathBuf,
    udev: PathBuf,
    /// `None` for devices that are not exported.
    disks: OrderedCache<Option<Disk>>,
}

impl Diskstats {
    /// A collector over the host's /proc, /sys and /run/udev.
    pub fn new(roots: &Roots, errors: &mut ReadErrors) -> Self {
        Self {
            file: KeptFile::new(roots.proc.join("diskstats"), "proc/diskstats", errors),
            sys_block: roots.sys.join("block"),
            udev: roots.root.join("run/udev/data"),
            disks: OrderedCache::default(),
        }
    }

    /// The series of a device; `None` when it is not exported.
    fn disk(&self, row: &Row<'_>, table: &mut SeriesTable, schema: &mut Schema) -> Option<Disk> {
        is_exported(row.device).then(|| {
            let name = parse::text(row.device);
            let description = self.describe(row.device, row.numbers);
            let info = description.add(table, schema, &name, row.numbers);
            let columns = COLUMNS[..row.count].iter().map(|(family, _)| {
                schema.series(table, Target::Node, family, &[("device", &name)])
            });
            Disk {
                columns: columns.collect(),
                info,
                numbers: row.numbers,
            }
        })
    }

    /// Reads what identifies a device to people. Called once, when the device appears.
    fn describe(&self, device: &[u8], numbers: (u64, u64)) -> Description {
        let path = self
            .sys_block
            .join(std::ffi::OsStr::from_bytes(device))
            .join("queue/rotational");
        let rotational = std::fs::read_to_string(path).unwrap_or_default();
        let (major, minor) = numbers;
        let udev = std::fs::read(self.udev.join(format!("b{major}:{minor}"))).unwrap_or_default();
        Description {
            rotational: rotational.trim().to_owned(),
            udev,
        }
    }
}

struct Description {
    rotational: String,
    udev: Vec<u8>,
}

impl Description {
    /// A property in udev's database: a line `E:KEY=value`.
    fn property(&self, key: &str) -> String {
        let mut values = parse::lines(&self.udev).filter_map(|line| {
            line.strip_prefix(b"E:")?
                .strip_prefix(key.as_bytes())?
                .strip_prefix(b"=")
        });
        values.next().map(parse::text).unwrap_or_default()
    }

    /// Labels of `node_disk_info`, from node_exporter's sources in its order.
    fn add(
        &self,
        table: &mut SeriesTable,
        schema: &mut Schema,
        device: &str,
        numbers: (u64, u64),
    ) -> SeriesId {
        let serial = ["SCSI_IDENT_SERIAL", "ID_SERIAL_SHORT", "ID_SERIAL"]
            .map(|key| self.property(key))
            .into_iter()
            .find(|serial| !serial.is_empty())
            .unwrap_or_default();
        schema.series(
            table,
            Target::Node,
            &INFO,
            &[
                ("device", device),
                ("major", &numbers.0.to_string()),
                ("minor", &numbers.1.to_string()),
                ("path", &self.property("ID_PATH")),
                ("wwn", &self.property("ID_WWN")),
                ("model", &self.property("ID_MODEL")),
                ("serial", &serial),
                ("revision", &self.property("ID_REVISION")),
                ("rotational", &self.rotational),
            ],
        )
    }
}

impl Collector for Diskstats {
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
        let mut disks = std::mem::take(&mut self.disks);
        disks.begin();
        for line in parse::lines(data) {
            let Some(row) = errors.parsed(self.file.error_id(), parse_line(line)) else {
                continue;
            };
            let disk = disks.entry(row.device, |_| self.disk(&row, table, schema));
            if disk.as_ref().is_some_and(|disk| !disk.is_of(&row)) {
                let new = self.disk(&row, table, schema);
                if let Some(old) = std::mem::replace(disk, new) {
                    old.remove(table);
                }
            }
            let Some(disk) = disk else { continue };
            for ((series, value), (_, factor)) in disk.columns.iter().zip(row.values).zip(COLUMNS) {
                table.set(*series, scaled(value, factor));
            }
            table.set(disk.info, 1.0);
        }
        disks.end(|disk| {
            if let Some(disk) = disk {
                disk.remove(table);
            }
        });
        self.disks = disks;
        if self.disks.is_empty() {
            Outcome::NoData
        } else {
            Outcome::Done
        }
    }
}

/// Divides by 1000 instead of multiplying by 0.001, for 0.576 instead of 0.5760000000000001.
fn scaled(value: u64, factor: f64) -> f64 {
    if factor < 1.0 {
        value as f64 / (1.0 / factor).round()
    } else {
        value as f64 * factor
    }
}

struct Row<'a> {
    numbers: (u64, u64),
    device: &'a [u8],
    count: usize,
    values: [u64; COLUMNS.len()],
}

fn parse_line(line: &[u8]) -> Option<Row<'_>> {
    let mut words = parse::words(line);
    let numbers = (
        parse::integer(words.next()?)?,
        parse::integer(words.next()?)?,
    );
    let device = words.next()?;
    let mut row = Row {
        numbers,
        device,
        count: 0,
        values: [0; COLUMNS.len()],
    };
    for (value, word) in row.values.iter_mut().zip(words) {
        *value = parse::integer(word)?;
        row.count += 1;
    }
    (row.count >= COLUMNS_MIN).then_some(row)
}

/// node_exporter's default: no RAM, loop or floppy disks, no partitions
/// (`^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$`).
fn is_exported(device: &[u8]) -> bool {
    let digits = device
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let stem = &device[..device.len() - digits];
    let is_partition = |stem: &[u8]| {
        let (&letter, disk) = stem.split_last()?;
        Some(letter.is_ascii_lowercase() && [&b"hd"[..], b"sd", b"vd", b"xvd"].contains(&disk))
    };
    let is_nvme_partition = |stem: &[u8]| {
        let mut parts = stem
            .strip_prefix(b"nvme")?
            .strip_suffix(b"p")?
            .split(|&byte| byte == b'n');
        let numbers = (parts.next()?, parts.next()?);
        let numeric = |part: &[u8]| parse::integer(part).is_some();
        Some(numeric(numbers.0) && numeric(numbers.1) && parts.next().is_none())
    };
    let excluded = [&b"zram"[..], b"ram", b"loop", b"fd"].contains(&stem)
        || is_partition(stem) == Some(true)
        || is_nvme_partition(stem) == Some(true);
    digits == 0 || !excluded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::testing::Bench;

    #[test]
    fn excluded_devices_are_node_exporters() {
        for device in [
            "sda1",
            "vdb12",
            "xvda1",
            "hdc3",
            "loop0",
            "ram3",
            "zram0",
            "fd0",
            "nvme0n1p2",
        ] {
            assert!(!is_exported(device.as_bytes()), "{device}");
        }
        for device in [
            "sda",
            "vda",
            "nvme0n1",
            "dm-0",
            "md127",
            "mmcblk0p1",
            "sr0",
            "sdaa1x",
            "nvme0n1p",
        ] {
            assert!(is_exported(device.as_bytes()), "{device}");
        }
    }

    #[test]
    fn old_kernels_have_fewer_columns() {
        let mut bench = Bench::new();
        bench.write("proc/diskstats", " 8 0 sda 1 2 3 4000 5 6 7 8 9 10 11\n254 0 vda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 576 16 17\n 7 0 loop0 1 2 3 4 5 6 7 8 9 10 11\n 8 16 sdb 1 2\n");
        bench.write("sys/block/vda/queue/rotational", "1\n");
        bench.write(
            "root/run/udev/data/b254:0",
            "S:disk\nE:ID_MODEL=Best\nE:ID_SERIAL=s1\n",
        );
        let roots = bench.roots();
        let mut disks = Diskstats::new(&roots, bench.errors());
        assert_eq!(bench.collect(&mut disks), Outcome::Done);
        assert_eq!(
            bench.value("node_disk_read_bytes_total", &[("device", "sda")]),
            Some(1536.0)
        );
        assert_eq!(
            bench.value("node_disk_read_time_seconds_total", &[("device", "sda")]),
            Some(4.0)
        );
        assert_eq!(
            bench.value("node_disk_discards_completed_total", &[("device", "sda")]),
            None
        );
        assert_eq!(
            bench.value("node_disk_discard_time_seconds_total", &[("device", "vda")]),
            Some(0.576)
        );
        let labels = [
            ("device", "vda"),
            ("model", "Best"),
            ("serial", "s1"),
            ("rotational", "1"),
            ("major", "254"),
        ];
        assert_eq!(bench.value("node_disk_info", &labels), Some(1.0));
        assert_eq!(
            (bench.series_count(), bench.errors().total()),
            (11 + 17 + 2, 1)
        );
        bench.write("proc/diskstats", " 8 0 sda 1 2 3 4000 5 6 7 8 9 10 11\n");
        bench.collect(&mut disks);
        assert_eq!(bench.series_count(), 12);
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(data: Vec<u8>) {
            let _row = parse_line(&data);
            let _exported = is_exported(&data);
        }
    }
}
