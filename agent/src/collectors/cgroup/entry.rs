//! One cgroup: its files, its labels, its series.

use std::os::fd::{AsFd as _, OwnedFd};

use nix::fcntl::AtFlags;
use nix::sys::stat::{fstat, fstatat};

use super::devices::{DeviceNames, Devices, FAMILIES};
use super::hierarchy::Hierarchy;
use super::hugetlb::{self, PageSize, Tree};
use super::identity::Identity;
use super::metric::{Metric, Values};
use super::reader::{Gone, Reader};
use super::v1::V1;
use super::v2::V2;
use crate::collect::{Due, Tier};
use crate::schema::{Schema, Target};
use crate::table::{SeriesId, SeriesTable};

/// The files of a cgroup.
#[derive(Debug)]
enum Files {
    V1(V1),
    V2(V2),
}

/// Labels of a cgroup's series.
pub type CgroupLabels = Vec<(&'static str, String)>;

/// One cgroup.
#[derive(Debug)]
pub struct CgroupEntry {
    /// What kind of cgroup it is.
    pub identity: Identity,
    /// Labels of its series; `None` while it is not shown.
    pub labels: Option<CgroupLabels>,
    /// Generation of the names that the labels were made from.
    pub names_generation: Option<u64>,
    /// Offset in ticks of its medium and slow readings, so that not all cgroups are read in the same tick.
    pub stagger_slot: u64,
    /// When it was found, in milliseconds since the Unix epoch.
    pub found_ms: i64,
    /// When it was created, in seconds since the Unix epoch; `None` if the file system does not record it.
    pub start_seconds: Option<f64>,
    files: Files,
    series: [Option<SeriesId>; Metric::COUNT],
    devices: Devices,
    /// Series by page size.
    hugetlb: Vec<hugetlb::Series>,
    /// Whether it has been read. The first reading includes all tiers.
    is_read: bool,
    /// Whether any process ever ran in it.
    has_run: bool,
}

impl CgroupEntry {
    /// Opens the cgroup at `path`.
    #[must_use]
    pub fn open(hierarchy: &Hierarchy, path: &str, identity: Identity, found_ms: i64) -> Self {
        let is_container = matches!(identity, Identity::Container { .. });
        let files = match hierarchy {
            Hierarchy::Unified(root) => Files::V2(V2::open(root, path, is_container)),
            Hierarchy::Split(split) => Files::V1(V1::open(split, path, is_container)),
        };
        // Checked only for containers in pods.
        let has_run = !matches!(
            identity,
            Identity::Container {
                pod_uid: Some(_),
                ..
            }
        );
        let mut entry = Self {
            has_run,
            identity,
            labels: None,
            names_generation: None,
            stagger_slot: 0,
            found_ms,
            start_seconds: None,
            files,
            series: [None; Metric::COUNT],
            devices: Devices::default(),
            hugetlb: Vec::new(),
            is_read: false,
        };
        entry.start_seconds = entry.made_at();
        entry
    }

    /// Whether all directories of a container exist. Runtimes create those of v1 one after the other.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        match (&self.files, &self.identity) {
            (Files::V1(v1), Identity::Container { .. }) => v1.is_complete(),
            _ => true,
        }
    }

    /// A directory of the cgroup.
    #[must_use]
    pub fn dir(&self) -> Option<&OwnedFd> {
        match &self.files {
            Files::V1(v1) => v1.dir(),
            Files::V2(v2) => v2.dir(),
        }
    }

    /// The older of two timestamps: creating a child changes a directory's own, while nobody writes to the file.
    fn made_at(&self) -> Option<f64> {
        let dir = self.dir()?;
        let file = match &self.files {
            Files::V1(_) => c"cgroup.clone_children",
            Files::V2(_) => c"cgroup.events",
        };
        let times = [
            fstat(dir.as_fd()).ok(),
            fstatat(dir, file, AtFlags::empty()).ok(),
        ];
        let seconds = times.into_iter().flatten().map(|stat| stat.st_mtime as f64);
        seconds.reduce(f64::min)
    }

    /// Reads the tiers that are due and stores them. Stores nothing for a cgroup that vanishes meanwhile.
    ///
    /// # Errors
    /// The cgroup has gone.
    pub fn collect(
        &mut self,
        reader: &mut Reader<'_>,
        due: Due,
        (names, page_sizes): (&mut DeviceNames, &[PageSize]),
        (table, schema): (&mut SeriesTable, &mut Schema),
    ) -> Result<(), Gone> {
        if !self.has_run {
            self.has_run = self.read_fast(reader)?.get(Metric::CpuUsage) != Some(0.0);
            // Sandboxed runtimes (gVisor) may create a cgroup per container but run everything in the sandbox's. An
            // empty cgroup has no values; its pod has.
            if !self.has_run {
                return Ok(());
            }
        }
        let due = if self.is_read { due } else { Due::ALL };
        let mut values = Values::default();
        if due.includes(Tier::Slow) {
            // Must come first: it finds out whether there is a quota, without which throttling is not read.
            match &mut self.files {
                Files::V1(v1) => v1.read_slow(reader, &mut values),
                Files::V2(v2) => v2.read_slow(reader, &mut values),
            }
            self.collect_hugetlb(reader, page_sizes, (&mut *table, &mut *schema));
        }
        match &self.files {
            Files::V1(v1) => v1.read_fast(reader, &mut values)?,
            Files::V2(v2) => v2.read_fast(reader, &mut values)?,
        }
        if due.includes(Tier::Medium) {
            self.read_medium(reader, &mut values);
            values.set_some(Metric::StartTime, self.start_seconds);
            values.set(Metric::LastSeen, (table.timestamp_ms() / 1000) as f64);
            self.store_devices(names, table, schema);
        }
        self.is_read = true;
        self.store(&values, table, schema);
        Ok(())
    }

    fn read_fast(&self, reader: &mut Reader<'_>) -> Result<Values, Gone> {
        let mut values = Values::default();
        match &self.files {
            Files::V1(v1) => v1.read_fast(reader, &mut values)?,
            Files::V2(v2) => v2.read_fast(reader, &mut values)?,
        }
        Ok(values)
    }

    fn collect_hugetlb(
        &mut self,
        reader: &mut Reader<'_>,
        page_sizes: &[PageSize],
        (table, schema): (&mut SeriesTable, &mut Schema),
    ) {
        let tree = match &self.files {
            Files::V1(v1) => v1.hugetlb(),
            Files::V2(v2) => v2.dir().map(Tree::V2),
        };
        let (Some(labels), Some(tree)) = (&self.labels, tree) else {
            return;
        };
        self.hugetlb.resize(page_sizes.len(), [None; 3]);
        for (size, series) in page_sizes.iter().zip(&mut self.hugetlb) {
            let values = size.read(reader, tree);
            for ((value, slot), family) in values.into_iter().zip(series).zip(&hugetlb::FAMILIES) {
                let Some(value) = value else { continue };
                let own = [("pagesize", &*size.name)];
                let id = *slot.get_or_insert_with(|| add(table, schema, family, labels, &own));
                table.set(id, value);
            }
        }
    }

    fn read_medium(&mut self, reader: &mut Reader<'_>, values: &mut Values) {
        match &self.files {
            Files::V1(v1) => {
                v1.read_medium(reader, values);
                v1.read_io(reader, &mut self.devices);
                if matches!(self.identity, Identity::Pod { .. }) {
                    // v1 counts kills in the cgroup where they happen, the container's. The pod's own counter is
                    // always 0.
                    values.clear(Metric::OomEvents);
                }
            }
            Files::V2(v2) => {
                v2.read_medium(reader, values);
                v2.read_io(reader, &mut self.devices);
            }
        }
    }

    fn store(&mut self, values: &Values, table: &mut SeriesTable, schema: &mut Schema) {
        let Some(labels) = &self.labels else { return };
        for (index, value) in values.iter() {
            let id = *self.series[index].get_or_insert_with(|| {
                let (family, own) = &Metric::TABLE[index];
                add(table, schema, family, labels, own)
            });
            table.set(id, value);
        }
    }

    fn store_devices(
        &mut self,
        names: &mut DeviceNames,
        table: &mut SeriesTable,
        schema: &mut Schema,
    ) {
        let Some(labels) = &self.labels else { return };
        for device in self.devices.values_mut() {
            for (index, count) in device.counters().into_iter().enumerate() {
                let Some(count) = count else { continue };
                let id = match device.series[index] {
                    Some(id) => id,
                    None => {
                        let (family, operation) = &FAMILIES[index];
                        let mut own = vec![("device", names.name(&device.numbers))];
                        if let Some((major, minor)) = device.numbers.split_once(':')
                            && !operation.is_empty()
                        {
                            own.extend([
                                ("major", major),
                                ("minor", minor),
                                ("operation", operation),
                            ]);
                        }
                        add(table, schema, family, labels, &own)
                    }
                };
                device.series[index] = Some(id);
                table.set(id, count as f64);
            }
        }
    }

    /// Removes its series, because the cgroup has gone or its labels change.
    pub fn remove_series(&mut self, table: &mut SeriesTable) {
        let devices = self
            .devices
            .values_mut()
            .flat_map(|device| &mut device.series);
        for id in self
            .series
            .iter_mut()
            .chain(devices)
            .chain(self.hugetlb.iter_mut().flatten())
            .filter_map(Option::take)
        {
            table.remove(id);
        }
        self.is_read = false;
    }
}

fn add(
    table: &mut SeriesTable,
    schema: &mut Schema,
    family: &crate::schema::FamilyDef,
    labels: &CgroupLabels,
    own: &[(&str, &str)],
) -> SeriesId {
    let mut all: Vec<(&str, &str)> = labels
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    all.extend(own);
    schema.series(table, Target::Cadvisor, family, &all)
}
