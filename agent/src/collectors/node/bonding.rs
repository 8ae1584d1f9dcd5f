//! Bonded network interfaces, from /sys/class/net/MASTER/bonding and .../lower_SLAVE/bonding_slave.

use std::path::{Path, PathBuf};

use super::Roots;
use crate::collect::{CollectContext, Collector, Outcome, Tier};
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
/// ReadErrors of all these files are counted together.
const FILES: &str = "sys/class/net/*/bonding";

/// A bonding interface.
#[derive(Debug)]
struct Master {
    directory: PathBuf,
    slaves: KeptFile,
    /// `mii_status` of each slave.
    statuses: OrderedCache<KeptFile>,
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

/// Collects `node_bonding_*`.
#[derive(Debug)]
pub struct Bonding {
    directory: PathBuf,
    names: KeptFile,
    masters: OrderedCache<Master>,
    /// Names of masters, and of one's slaves, while other files are read; kept for their allocations.
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

/// Takes over what a file has; nothing when it is not there.
fn copy(file: &mut KeptFile, text: &mut Vec<u8>, context: &mut CollectContext<'_>) {
    text.clear();
    text.extend_from_slice(
        file.read(context.buffer, context.errors)
            .unwrap_or_default(),
    );
}

impl Collector for Bonding {
    fn name(&self) -> &'static str {
        "bonding"
    }

    fn tier(&self) -> Tier {
        Tier::Medium
    }

    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        let [names, slaves] = &mut self.texts;
        copy(&mut self.names, names, context);
        self.masters.begin();
        for name in parse::words(names.trim_ascii()) {
            // A name that is no text could not be told from another such one.
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
            copy(&mut master.slaves, slaves, context);
            let (mut configured, mut active) = (0, 0);
            master.statuses.begin();
            for slave in parse::words(slaves.trim_ascii()) {
                let status = master.statuses.entry(slave, |slave| {
                    let file = format!("lower_{}/bonding_slave/mii_status", parse::text(slave));
                    KeptFile::new(master.directory.join(file), FILES, context.errors)
                });
                let status = status.read(context.buffer, context.errors);
                configured += 1;
                active += u32::from(status.is_some_and(|text| text.trim_ascii() == b"up"));
            }
            master.statuses.end(drop);
            for (id, count) in master.series.into_iter().zip([configured, active]) {
                context.table.set(id, f64::from(count));
            }
        }
        self.masters.end(|master| {
            master
                .series
                .iter()
                .for_each(|id| context.table.remove(*id))
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
