//! Block devices of one cgroup, and their names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::blkio::{DeviceIo, device_numbers};
use crate::ordered_cache::OrderedCache;
use crate::parse;
use crate::schema::{FamilyDef, counter};
use crate::table::SeriesId;

const USAGE: FamilyDef = counter(
    "container_blkio_device_usage_total",
    "Blkio Device bytes usage",
);

/// Family of each counter, and the value of its label `operation`, if it has one.
pub const FAMILIES: [(FamilyDef, &str); 6] = [
    (
        counter(
            "container_fs_reads_bytes_total",
            "Cumulative count of bytes read",
        ),
        "",
    ),
    (
        counter(
            "container_fs_writes_bytes_total",
            "Cumulative count of bytes written",
        ),
        "",
    ),
    (
        counter(
            "container_fs_reads_total",
            "Cumulative count of reads completed",
        ),
        "",
    ),
    (
        counter(
            "container_fs_writes_total",
            "Cumulative count of writes completed",
        ),
        "",
    ),
    (USAGE, "Read"),
    (USAGE, "Write"),
];

/// One device: its counters in this reading, and its series.
#[derive(Debug, Default)]
pub struct Device {
    /// `MAJOR:MINOR`.
    pub numbers: String,
    /// The counters of this reading.
    pub io: DeviceIo,
    /// Its series, in the order of [`FAMILIES`].
    pub series: [Option<SeriesId>; FAMILIES.len()],
}

impl Device {
    /// The counters in the order of [`FAMILIES`].
    #[must_use]
    pub const fn counters(&self) -> [Option<u64>; FAMILIES.len()] {
        let io = self.io;
        let (read, written) = (io.read_bytes, io.write_bytes);
        [read, written, io.reads, io.writes, read, written]
    }
}

/// The devices of one cgroup. A device stays after its first use, since its counters never go back.
#[derive(Debug, Default)]
pub struct Devices {
    devices: OrderedCache<Device>,
}

impl Devices {
    /// Begins a reading: no device has counters until [`Self::entry`].
    pub fn begin(&mut self) {
        self.devices.begin();
        self.devices
            .values_mut()
            .for_each(|device| device.io = DeviceIo::default());
    }

    /// The counters of a device.
    pub fn entry(&mut self, numbers: &[u8]) -> &mut DeviceIo {
        let make = |numbers: &[u8]| Device {
            numbers: parse::text(numbers),
            ..Device::default()
        };
        &mut self.devices.entry(numbers, make).io
    }

    /// All devices.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Device> {
        self.devices.values_mut()
    }
}

/// Names of block devices, from /sys/dev/block.
#[derive(Debug)]
pub struct DeviceNames {
    sys_dev_block: PathBuf,
    names: BTreeMap<String, String>,
}

impl DeviceNames {
    /// Names below the host's /sys.
    #[must_use]
    pub fn new(sys: &std::path::Path) -> Self {
        Self {
            sys_dev_block: sys.join("dev/block"),
            names: BTreeMap::new(),
        }
    }

    /// `/dev/NAME` of a device, or `MAJOR:MINOR` if /sys does not know it, so that two unknown devices stay distinct.
    pub fn name<'a>(&'a mut self, numbers: &'a str) -> &'a str {
        if !self.names.contains_key(numbers) {
            let name = self.look_up(numbers);
            let name = name.unwrap_or_else(|| numbers.to_owned());
            self.names.insert(numbers.to_owned(), name);
        }
        self.names.get(numbers).map_or(numbers, String::as_str)
    }

    /// The link `/sys/dev/block/8:0` ends in the device's name.
    fn look_up(&self, numbers: &str) -> Option<String> {
        device_numbers(numbers.as_bytes())?;
        let target = std::fs::read_link(self.sys_dev_block.join(numbers)).ok()?;
        Some(format!("/dev/{}", target.file_name()?.to_string_lossy()))
    }

    /// Forgets all names, since a device number may be reused by another device.
    pub fn clear(&mut self) {
        self.names.clear();
    }
}
