//! Properties of network interfaces, from /sys/class/net.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use regex::bytes::Regex;

use super::{Roots, netdev};
use crate::collect::{CollectContext, Collector, Outcome, Tier};
use crate::collectors::cgroup::reader::open_dir;
use crate::file::{Buffer, KeptFile};
use crate::ordered_cache::OrderedCache;
use crate::parse;
use crate::read_errors::ReadErrors;
use crate::schema::{FamilyDef, Schema, Target, counter, gauge, info};
use crate::table::{SeriesId, SeriesTable};

/// Files with one number, and its factor.
const NUMBERS: [(&CStr, FamilyDef, f64); 17] = [
    (
        c"addr_assign_type",
        gauge(
            "node_network_address_assign_type",
            "Network device property: address_assign_type",
        ),
        1.0,
    ),
    (
        c"carrier",
        gauge("node_network_carrier", "Network device property: carrier"),
        1.0,
    ),
    (
        c"carrier_changes",
        counter(
            "node_network_carrier_changes_total",
            "Network device property: carrier_changes_total",
        ),
        1.0,
    ),
    (
        c"carrier_up_count",
        counter(
            "node_network_carrier_up_changes_total",
            "Network device property: carrier_up_changes_total",
        ),
        1.0,
    ),
    (
        c"carrier_down_count",
        counter(
            "node_network_carrier_down_changes_total",
            "Network device property: carrier_down_changes_total",
        ),
        1.0,
    ),
    (
        c"dev_id",
        gauge(
            "node_network_device_id",
            "Network device property: device_id",
        ),
        1.0,
    ),
    (
        c"dormant",
        gauge("node_network_dormant", "Network device property: dormant"),
        1.0,
    ),
    (
        c"flags",
        gauge("node_network_flags", "Network device property: flags"),
        1.0,
    ),
    (
        c"ifindex",
        gauge("node_network_iface_id", "Network device property: iface_id"),
        1.0,
    ),
    (
        c"iflink",
        gauge(
            "node_network_iface_link",
            "Network device property: iface_link",
        ),
        1.0,
    ),
    (
        c"link_mode",
        gauge(
            "node_network_iface_link_mode",
            "Network device property: iface_link_mode",
        ),
        1.0,
    ),
    (
        c"mtu",
        gauge(
            "node_network_mtu_bytes",
            "Network device property: mtu_bytes",
        ),
        1.0,
    ),
    (
        c"name_assign_type",
        gauge(
            "node_network_name_assign_type",
            "Network device property: name_assign_type",
        ),
        1.0,
    ),
    (
        c"netdev_group",
        gauge(
            "node_network_net_dev_group",
            "Network device property: net_dev_group",
        ),
        1.0,
    ),
    (
        c"speed",
        gauge(
            "node_network_speed_bytes",
            "Network device property: speed_bytes",
        ),
        125_000.0,
    ),
    (
        c"tx_queue_len",
        gauge(
            "node_network_transmit_queue_length",
            "Network device property: transmit_queue_length",
        ),
        1.0,
    ),
    (
        c"type",
        gauge(
            "node_network_protocol_type",
            "Network device property: protocol_type",
        ),
        1.0,
    ),
];
const UP: FamilyDef = gauge(
    "node_network_up",
    "Value is 1 if operstate is 'up', 0 otherwise.",
);
const INFO: FamilyDef = info(
    "node_network_info",
    "Non-numeric data from /sys/class/net/<iface>, value is always 1.",
);
/// The numbers that describe the state of the link. The others describe its configuration.
const STATE: [&CStr; 5] = [
    c"carrier",
    c"carrier_changes",
    c"carrier_up_count",
    c"carrier_down_count",
    c"dormant",
];
const OPERSTATE: &CStr = c"operstate";
/// Files with one word, and their labels.
const WORDS: [(&CStr, &str); 5] = [
    (c"address", "address"),
    (c"broadcast", "broadcast"),
    (c"duplex", "duplex"),
    (OPERSTATE, "operstate"),
    (c"ifalias", "ifalias"),
];
/// Label of the state that the administrator set: `up` if the flag IFF_UP is set, else `down`.
const ADMIN_STATE: &str = "adminstate";
/// Upper bound on one word. An alias may have 256 bytes.
const WORD_BYTES_MAX: usize = 256;

#[derive(Debug)]
struct Device {
    name: String,
    dir: Option<OwnedFd>,
    numbers: [Option<SeriesId>; NUMBERS.len()],
    up: Option<SeriesId>,
    /// The words that `info` was made from.
    words: Vec<u8>,
    info: Option<SeriesId>,
}

/// Collects `node_network_*` properties.
#[derive(Debug)]
pub struct Netclass {
    /// Provides the names of interfaces.
    dev: KeptFile,
    class_net: PathBuf,
    exclude: Regex,
    devices: OrderedCache<Option<Device>>,
    /// Words of the current device, each followed by a line feed.
    words: Vec<u8>,
}

impl Netclass {
    /// A collector of the host's /sys without the interfaces that match `exclude`.
    ///
    /// # Errors
    /// The regular expression is not valid.
    pub fn new(
        roots: &Roots,
        exclude: &str,
        errors: &mut ReadErrors,
    ) -> Result<Self, regex::Error> {
        Ok(Self {
            dev: KeptFile::new(roots.proc_net("dev"), "proc/net/dev", errors),
            class_net: roots.sys.join("class/net"),
            exclude: Regex::new(exclude)?,
            devices: OrderedCache::default(),
            words: Vec::with_capacity(WORDS.len() * (WORD_BYTES_MAX + 1)),
        })
    }
}

impl Device {
    fn remove(self, table: &mut SeriesTable) {
        let ids = self
            .numbers
            .into_iter()
            .chain([self.up, self.info])
            .flatten();
        ids.for_each(|id| table.remove(id));
    }

    /// Whether only the link's state is read: everything was read before, and the rest seldom changes.
    fn has_state_only(&self, context: &CollectContext<'_>) -> bool {
        !context.due.includes(Tier::Slow) && self.info.is_some()
    }

    fn read_numbers(&mut self, dir: &OwnedFd, context: &mut CollectContext<'_>) {
        let state_only = self.has_state_only(context);
        for (series, (file, family, factor)) in self.numbers.iter_mut().zip(&NUMBERS) {
            if state_only && !STATE.contains(file) {
                continue;
            }
            // Interfaces that are down refuse some of these files. A speed of -1 means unknown.
            let value = match context.buffer.read_at(dir, file) {
                Ok(data) => parse_number(data),
                Err(_) => continue,
            };
            if value.is_none() {
                let name = format!("sys/class/net/{}", file.to_string_lossy());
                let error_id = context.errors.file(&name);
                context.errors.parse(error_id);
            }
            let Some(value) = value.filter(|value| *value >= 0) else {
                continue;
            };
            let id = *series.get_or_insert_with(|| {
                context.schema.series(
                    context.table,
                    Target::Node,
                    family,
                    &[("device", &self.name)],
                )
            });
            context.table.set(id, value as f64 * factor);
        }
    }

    fn read_words(&mut self, dir: &OwnedFd, words: &mut Vec<u8>, context: &mut CollectContext<'_>) {
        let operstate = WORDS.iter().position(|(file, _)| *file == OPERSTATE);
        words.clear();
        if self.has_state_only(context) {
            push_word(dir, OPERSTATE, context.buffer, words);
            let before = operstate.and_then(|index| parse::lines(&self.words).nth(index));
            if parse::lines(words).next() == before {
                words.clone_from(&self.words);
            } else {
                words.clear();
            }
        }
        if words.is_empty() {
            for (file, _) in WORDS {
                push_word(dir, file, context.buffer, words);
            }
            push_admin_state(dir, context.buffer, words);
        }
        if self.info.is_none() || self.words != *words {
            self.info
                .take()
                .into_iter()
                .for_each(|id| context.table.remove(id));
            self.words.clone_from(words);
            self.info = Some(self.add_info(context.table, context.schema));
        }
        self.info
            .into_iter()
            .for_each(|id| context.table.set(id, 1.0));
        let state = operstate.and_then(|index| parse::lines(words).nth(index));
        let Some(state) = state.filter(|state| !state.is_empty()) else {
            return;
        };
        let up = *self.up.get_or_insert_with(|| {
            context
                .schema
                .series(context.table, Target::Node, &UP, &[("device", &self.name)])
        });
        context.table.set(up, f64::from(u8::from(state == b"up")));
    }

    fn add_info(&self, table: &mut SeriesTable, schema: &mut Schema) -> SeriesId {
        let texts: Vec<String> = parse::lines(&self.words).map(parse::text).collect();
        let mut labels = vec![("device", &*self.name)];
        labels.extend(
            WORDS
                .iter()
                .map(|(_, label)| *label)
                .chain([ADMIN_STATE])
                .zip(&texts)
                .map(|(label, text)| (label, &**text)),
        );
        schema.series(table, Target::Node, &INFO, &labels)
    }
}

/// Appends the file's word and a line feed, or just a line feed if it can't be read.
fn push_word(dir: &OwnedFd, file: &CStr, buffer: &mut Buffer, words: &mut Vec<u8>) {
    let word = buffer.read_at(dir, file).unwrap_or_default().trim_ascii();
    let word = word.get(..WORD_BYTES_MAX).unwrap_or(word);
    words.extend(word.iter().filter(|byte| **byte != b'\n'));
    words.push(b'\n');
}

/// Appends `up` or `down` according to the interface's flags, and a line feed.
fn push_admin_state(dir: &OwnedFd, buffer: &mut Buffer, words: &mut Vec<u8>) {
    let flags = buffer.read_at(dir, c"flags").ok().and_then(parse_number);
    words.extend_from_slice(match flags {
        Some(flags) if flags & i64::from(libc::IFF_UP) != 0 => b"up",
        Some(_) => b"down",
        None => b"",
    });
    words.push(b'\n');
}

/// Some numbers are decimal, some hexadecimal with a prefix.
fn parse_number(data: &[u8]) -> Option<i64> {
    let word = data.trim_ascii();
    match word.strip_prefix(b"0x") {
        Some(digits) => i64::try_from(parse::hexadecimal(digits)?).ok(),
        None => parse::signed(word),
    }
}

impl Collector for Netclass {
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        let Some(data) = self.dev.read(context.buffer, context.errors) else {
            return Outcome::NoData;
        };
        self.devices.begin();
        for row in netdev::rows(data).flatten() {
            self.devices.entry(row.interface, |name| {
                let exported = !self.exclude.is_match(name);
                let name = parse::text(name);
                exported.then(|| Device {
                    dir: open_dir(&self.class_net.join(&name)),
                    name,
                    numbers: [None; NUMBERS.len()],
                    up: None,
                    words: Vec::new(),
                    info: None,
                })
            });
        }
        self.devices.end(|device| {
            device
                .into_iter()
                .for_each(|device| device.remove(context.table));
        });
        for device in self.devices.values_mut().flatten() {
            let Some(dir) = device.dir.take() else {
                continue;
            };
            device.read_numbers(&dir, context);
            device.read_words(&dir, &mut self.words, context);
            device.dir = Some(dir);
        }
        if self.devices.is_empty() {
            Outcome::NoData
        } else {
            Outcome::Done
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::Due;
    use crate::collectors::testing::Bench;

    #[test]
    fn properties_and_changes_of_state() {
        let mut bench = Bench::new();
        bench.write("proc/net/dev", "a\nb\n eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\nveth1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n");
        for (file, text) in [
            ("mtu", "1400\n"),
            ("flags", "0x1003\n"),
            ("speed", "-1\n"),
            ("address", "02:00\n"),
            ("operstate", "up\n"),
        ] {
            bench.write(&format!("sys/class/net/eth0/{file}"), text);
        }
        let roots = bench.roots();
        let mut netclass = Netclass::new(&roots, netdev::DEVICES_EXCLUDE, bench.errors()).unwrap();
        bench.collect(&mut netclass);
        assert_eq!(
            bench.value("node_network_mtu_bytes", &[("device", "eth0")]),
            Some(1400.0)
        );
        assert_eq!(bench.value("node_network_flags", &[]), Some(4099.0));
        assert_eq!(bench.value("node_network_speed_bytes", &[]), None);
        assert_eq!(
            bench.value("node_network_up", &[("device", "eth0")]),
            Some(1.0)
        );
        assert_eq!(
            bench.value(
                "node_network_info",
                &[("operstate", "up"), ("address", "02:00"), ("duplex", "")]
            ),
            Some(1.0)
        );
        // Between full readings a change of state is noticed, and then everything is read.
        let medium = Due::at(3, 10_000);
        bench.write("sys/class/net/eth0/mtu", "1500\n");
        bench.write("sys/class/net/eth0/address", "02:01\n");
        bench.collect_due(&mut netclass, medium);
        let info = [("operstate", "up"), ("address", "02:00")];
        assert_eq!(bench.value("node_network_info", &info), Some(1.0));
        assert_eq!(bench.value("node_network_up", &[]), Some(1.0));
        assert_eq!(bench.value("node_network_mtu_bytes", &[]), None);
        bench.write("sys/class/net/eth0/operstate", "down\n");
        bench.collect_due(&mut netclass, medium);
        let info = [
            ("operstate", "down"),
            ("adminstate", "up"),
            ("address", "02:01"),
        ];
        assert_eq!(bench.value("node_network_info", &info), Some(1.0));
        bench.collect(&mut netclass);
        assert_eq!(bench.value("node_network_mtu_bytes", &[]), Some(1500.0));
        assert_eq!(bench.value("node_network_up", &[]), Some(0.0));
        assert_eq!(
            bench.value("node_network_info", &[("operstate", "down")]),
            Some(1.0)
        );
        assert_eq!(bench.series_count(), 4);
    }

    #[test]
    fn malformed_property_is_absent_and_counted_by_its_file() {
        let mut bench = Bench::new();
        let dev = "a\nb\n eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        bench.write("proc/net/dev", dev);
        bench.write("sys/class/net/eth0/mtu", "1400\n");
        bench.write("sys/class/net/eth0/carrier", "yes\n");
        let roots = bench.roots();
        let mut netclass = Netclass::new(&roots, netdev::DEVICES_EXCLUDE, bench.errors()).unwrap();
        bench.collect(&mut netclass);
        assert_eq!(bench.value("node_network_mtu_bytes", &[]), Some(1400.0));
        assert_eq!(bench.value("node_network_carrier", &[]), None);
        assert_eq!(bench.not_understood("sys/class/net/carrier"), Some(1.0));
        assert_eq!(bench.errors().total(), 1, "of the others there are none");
    }
}
