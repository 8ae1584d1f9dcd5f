//! Bonded network interfaces, from /sys/class/net/MASTER/bonding and .../lower_SLAVE/bonding_slave.

use std::path::{Path, PathBuf};

use super::Roots;
use crate::collect::{CollectContext, Collector, Outcome};
use crate::file::KeptFile;
use crate::ordered_cache::OrderedCache;
use crate::parse;
use crate::read_errors::ReadErrors;
use crate::schema::{FamilyDef, Schema, Target, gauge};
use crate::table::{SeriesId, SeriesTable};

const SLAVES: FamilyDef = gauge(
    "node_bonding_slaves",
    "Number of configured slaves per bonding interface.",
);
const ACTIVE: FamilyDef = gauge(
    "node_bonding_active",
    "Number of active slaves per bonding interface.",
);
/// Name under which read errors of all these files are counted.
const FILES: &str = "sys/class/net/*/bonding";

/// A bonding interface.
#[derive(Debug)]
struct Master {
    directory: PathBuf,
    slaves: KeptFile,
    statuses: OrderedCache<SlaveStatus>,
    series: [SeriesId; 2],
}

impl Master {
    fn new(
        directory: &Path,
        name: &str,
        errors: &mut ReadErrors,
        (table, schema): (&mut SeriesTable, &mut Schema),
    ) -> Self {
        let directory = directory.join(name);
        let mut add = |family| schema.series(table, Target::Node, family, &[("master", name)]);
        Self {
            slaves: KeptFile::new(directory.join("bonding/slaves"), FILES, errors),
            directory,
            statuses: OrderedCache::default(),
            series: [add(&SLAVES), add(&ACTIVE)],
        }
    }
}

/// `mii_status` of a slave: below `lower_SLAVE`, or `slave_SLAVE` on older kernels (as bonding_linux.go of node_exporter
/// looks for it).
#[derive(Debug)]
struct SlaveStatus {
    candidates: [KeptFile; 2],
}

impl SlaveStatus {
    fn new(master: &Path, slave: &str, errors: &mut ReadErrors) -> Self {
        let candidates = ["lower", "slave"].map(|prefix| {
            let file = format!("{prefix}_{slave}/bonding_slave/mii_status");
            KeptFile::new(master.join(file), FILES, errors)
        });
        Self { candidates }
    }

    /// Whether the link is up; `None` if the kernel has neither file.
    fn is_up(&mut self, context: &mut CollectContext<'_>) -> Option<bool> {
        self.candidates.iter_mut().find_map(|file| {
            let status = file.read(context.buffer, context.errors)?;
            Some(status.trim_ascii() == b"up")
        })
    }
}

/// Collects `node_bonding_*`.
#[derive(Debug)]
pub struct Bonding {
    directory: PathBuf,
    names: KeptFile,
    masters: OrderedCache<Master>,
    /// Names of masters and of one master's slaves while other files are read; kept to reuse the allocations.
    texts: [Vec<u8>; 2],
}

impl Bonding {
    /// A collector over the host's /sys.
    pub fn new(roots: &Roots, errors: &mut ReadErrors) -> Self {
        let directory = roots.sys.join("class/net");
        Self {
            names: KeptFile::new(directory.join("bonding_masters"), FILES, errors),
            directory,
            masters: OrderedCache::default(),
            texts: Default::default(),
        }
    }
}

/// Copies a file's contents to `text`. Returns false, with `text` empty, if the file could not be read.
fn copy(file: &mut KeptFile, text: &mut Vec<u8>, context: &mut CollectContext<'_>) -> bool {
    text.clear();
    let data = file.read(context.buffer, context.errors);
    text.extend_from_slice(data.unwrap_or_default());
    data.is_some()
}

impl Collector for Bonding {
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        let [names, slaves] = &mut self.texts;
        copy(&mut self.names, names, context);
        self.masters.begin();
        for name in parse::words(names.trim_ascii()) {
            // Names that are not UTF-8 could not be distinguished.
            if context
                .errors
                .parsed(self.names.error_id(), std::str::from_utf8(name).ok())
                .is_none()
            {
                continue;
            }
            let target = (&mut *context.table, &mut *context.schema);
            let master = self.masters.entry(name, |name| {
                Master::new(&self.directory, &parse::text(name), context.errors, target)
            });
            if !copy(&mut master.slaves, slaves, context) {
                continue;
            }
            let (mut configured, mut active) = (0, Some(0));
            master.statuses.begin();
            for slave in parse::words(slaves.trim_ascii()) {
                let status = master.statuses.entry(slave, |slave| {
                    SlaveStatus::new(&master.directory, &parse::text(slave), context.errors)
                });
                configured += 1;
                active = match (active, status.is_up(context)) {
                    (Some(active), Some(is_up)) => Some(active + u32::from(is_up)),
                    _ => None,
                };
            }
            master.statuses.end(drop);
            let [configured_series, active_series] = master.series;
            context.table.set(configured_series, f64::from(configured));
            // One unknown status makes the count unknown.
            if let Some(active) = active {
                context.table.set(active_series, f64::from(active));
            }
        }
        self.masters.end(|master| {
            master
                .series
                .iter()
                .for_each(|id| context.table.remove(*id));
        });
        if self.masters.is_empty() {
            return Outcome::NoData;
        }
        Outcome::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::testing::Bench;

    #[test]
    fn status_is_read_below_either_prefix_and_absent_without_it() {
        let mut bench = Bench::new();
        let net = "sys/class/net";
        bench.write(&format!("{net}/bonding_masters"), "dmz int none\n");
        bench.write(&format!("{net}/dmz/bonding/slaves"), "eth0 eth4\n");
        bench.write(&format!("{net}/int/bonding/slaves"), "eth5 eth1\n");
        bench.write(&format!("{net}/none/bonding/slaves"), "eth2\n");
        for (link, status) in [
            ("dmz/slave_eth0", "up"),
            ("dmz/slave_eth4", "up"),
            ("int/slave_eth5", "up"),
            ("int/lower_eth1", "down"),
        ] {
            let file = format!("{net}/{link}/bonding_slave/mii_status");
            bench.write(&file, &format!("{status}\n"));
        }
        let mut bonding = Bonding::new(&bench.roots(), bench.errors());
        bench.collect(&mut bonding);
        let active = |master| bench.value("node_bonding_active", &[("master", master)]);
        assert_eq!(active("dmz"), Some(2.0));
        assert_eq!(active("int"), Some(1.0));
        assert_eq!(active("none"), None, "a missing file is not 0");
        let slaves = bench.value("node_bonding_slaves", &[("master", "none")]);
        assert_eq!(slaves, Some(1.0));
    }

    #[test]
    fn slave_that_is_down_is_configured_and_not_active() {
        let mut bench = Bench::new();
        let net = "sys/class/net";
        let mut bonding = Bonding::new(&bench.roots(), bench.errors());
        assert_eq!(bench.collect(&mut bonding), Outcome::NoData);
        bench.write(&format!("{net}/bonding_masters"), "bond0 bond1\n");
        bench.write(&format!("{net}/bond0/bonding/slaves"), "eth0 eth1\n");
        for (slave, status) in [("eth0", "up"), ("eth1", "down")] {
            let file = format!("{net}/bond0/lower_{slave}/bonding_slave/mii_status");
            bench.write(&file, &format!("{status}\n"));
        }
        bench.write(&format!("{net}/bond1/bonding/slaves"), "\n");
        assert_eq!(bench.collect(&mut bonding), Outcome::Done);
        let value = |master, family| bench.value(family, &[("master", master)]);
        assert_eq!(value("bond0", "node_bonding_slaves"), Some(2.0));
        assert_eq!(value("bond0", "node_bonding_active"), Some(1.0));
        assert_eq!(value("bond1", "node_bonding_slaves"), Some(0.0));
        bench.write(&format!("{net}/bonding_masters"), "\n");
        bench.collect(&mut bonding);
        assert_eq!((bench.series_count(), bench.errors().total()), (0, 0));
    }
}
