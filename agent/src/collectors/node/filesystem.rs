//! File systems: size, space and inodes of each mount, by statfs in a thread of its own.

use std::path::PathBuf;

use regex::Regex;

use self::worker::{Answer, Usage, Worker};
use super::Roots;
use super::mountinfo::{self, Mount};
use crate::collect::{Collector, Outcome, Tick, Tier};
use crate::faults::Faults;
use crate::file::KeptFile;
use crate::in_order::InOrder;
use crate::parse;
use crate::schema::{FamilyDef, Schema, Target, gauge};
use crate::table::{SeriesId, SeriesTable};

mod worker;

/// Mounts not exported by default: kube-prometheus' set, which leaves out container and pod mounts.
pub const MOUNTPOINTS_EXCLUDE: &str = r"^/(dev|proc|run/credentials/.+|run/k3s/containerd/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+|var/lib/kubelet/pods/.+)($|/)";
/// Types not exported by default: node_exporter's set of pseudo file systems.
pub const TYPES_EXCLUDE: &str = r"^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|fuse\.lxcfs|hugetlbfs|iso9660|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs)$";

const ERROR: FamilyDef = gauge(
    "node_filesystem_device_error",
    "Whether an error occurred while getting statistics for the given device.",
);
const READONLY: FamilyDef = gauge("node_filesystem_readonly", "Filesystem read-only status.");
const SIZES: [FamilyDef; 5] = [
    gauge("node_filesystem_size_bytes", "Filesystem size in bytes."),
    gauge(
        "node_filesystem_free_bytes",
        "Filesystem free space in bytes.",
    ),
    gauge(
        "node_filesystem_avail_bytes",
        "Filesystem space available to non-root users in bytes.",
    ),
    gauge("node_filesystem_files", "Filesystem total file nodes."),
    gauge(
        "node_filesystem_files_free",
        "Filesystem total free file nodes.",
    ),
];

/// The same under cAdvisor's names, for the machine (`id="/"`).
const CADVISOR: [FamilyDef; 4] = [
    gauge(
        "container_fs_limit_bytes",
        "Number of bytes that can be consumed by the container on this filesystem.",
    ),
    gauge(
        "container_fs_usage_bytes",
        "Number of bytes that are consumed by the container on this filesystem.",
    ),
    gauge("container_fs_inodes_total", "Number of Inodes"),
    gauge("container_fs_inodes_free", "Number of available Inodes"),
];

/// A mount that is exported, in the order of mountinfo.
#[derive(Debug)]
struct Exported {
    /// Where it is seen from here.
    path: PathBuf,
    readonly: bool,
    error: SeriesId,
    readonly_series: SeriesId,
    sizes: [SeriesId; SIZES.len()],
    /// Where it is the first mount of its device.
    cadvisor: Option<(String, [SeriesId; CADVISOR.len()])>,
}

/// Collects `node_filesystem_*`.
#[derive(Debug)]
pub struct Filesystem {
    mountinfo: KeptFile,
    roots: Roots,
    mountpoints_exclude: Regex,
    types_exclude: Regex,
    /// By the line of mountinfo; `None` for mounts that are not exported.
    mounts: InOrder<Option<Exported>>,
    /// Those with series under cAdvisor's names.
    devices: Vec<String>,
    worker: Worker,
}

impl Filesystem {
    /// A collector over the host's mounts.
    ///
    /// # Errors
    /// An expression for what to leave out is not valid.
    pub fn new(
        roots: &Roots,
        mountpoints_exclude: &str,
        types_exclude: &str,
        faults: &mut Faults,
    ) -> Result<Self, regex::Error> {
        let host = roots.proc.join("1/mountinfo");
        let readable = std::fs::File::open(&host).is_ok();
        let path = if readable {
            host
        } else {
            roots.proc.join("self/mountinfo")
        };
        Ok(Self {
            mountinfo: KeptFile::new(path, "proc/1/mountinfo", faults),
            roots: roots.clone(),
            mountpoints_exclude: Regex::new(mountpoints_exclude)?,
            types_exclude: Regex::new(types_exclude)?,
            mounts: InOrder::default(),
            devices: Vec::new(),
            worker: Worker::default(),
        })
    }

    /// The mounts to look at, without those another one hides. Returns whether mountinfo could be read.
    fn list(&mut self, tick: &mut Tick<'_>) -> Option<()> {
        let data = self.mountinfo.read(tick.buffer, tick.faults)?;
        let Tick {
            table,
            schema,
            faults,
            ..
        } = tick;
        let mut mounts = std::mem::take(&mut self.mounts);
        let mut exported: Vec<(String, String)> = Vec::new();
        let mut devices = std::mem::take(&mut self.devices);
        let before = mounts.len();
        mounts.begin();
        for line in parse::lines(data) {
            mounts.entry(line, |line| {
                let mount = faults.parsed(self.mountinfo.fault(), mountinfo::parse_line(line))?;
                let key = (mount.source.clone(), mount.mountpoint.clone());
                // The same device twice at one place (stacked mounts) is one series.
                if self.is_excluded(&mount) || exported.contains(&key) {
                    return None;
                }
                exported.push(key);
                let mut export = self.export(&mount, table, schema);
                // cAdvisor counts each device once, and tmpfs by its mountpoint.
                let device = match mount.source.starts_with('/') {
                    true => &mount.source,
                    false => &mount.mountpoint,
                };
                if !devices.contains(device) {
                    devices.push(device.clone());
                    export.cadvisor = Some((device.clone(), add_cadvisor(device, table, schema)));
                }
                Some(export)
            });
        }
        mounts.end(|mount| {
            if let Some(mount) = mount {
                devices.retain(|device| Some(device) != mount.device());
                mount.remove(table);
            }
        });
        self.devices = devices;
        if mounts.len() != before {
            self.worker.set_paths(
                mounts
                    .values_mut()
                    .flatten()
                    .map(|mount| mount.path.clone())
                    .collect(),
            );
        }
        self.mounts = mounts;
        Some(())
    }

    fn is_excluded(&self, mount: &Mount) -> bool {
        self.mountpoints_exclude.is_match(&mount.mountpoint)
            || self.types_exclude.is_match(&mount.fstype)
    }

    fn export(&self, mount: &Mount, table: &mut SeriesTable, schema: &mut Schema) -> Exported {
        let labels = [
            ("device", &*mount.source),
            ("mountpoint", &*mount.mountpoint),
            ("fstype", &*mount.fstype),
        ];
        let mut add = |family| schema.series(table, Target::Node, family, &labels);
        Exported {
            path: self.roots.host_path(mount.mountpoint.as_ref()),
            readonly: mount.has_option("ro"),
            error: add(&ERROR),
            readonly_series: add(&READONLY),
            sizes: std::array::from_fn(|index| add(&SIZES[index])),
            cadvisor: None,
        }
    }
}

fn add_cadvisor(
    device: &str,
    table: &mut SeriesTable,
    schema: &mut Schema,
) -> [SeriesId; CADVISOR.len()] {
    let labels = [("id", "/"), ("device", device)];
    std::array::from_fn(|index| schema.series(table, Target::Cadvisor, &CADVISOR[index], &labels))
}

impl Exported {
    fn device(&self) -> Option<&String> {
        self.cadvisor.as_ref().map(|(device, _)| device)
    }

    fn remove(self, table: &mut SeriesTable) {
        let cadvisor = self.cadvisor.into_iter().flat_map(|(_, ids)| ids);
        let ids = self
            .sizes
            .into_iter()
            .chain([self.error, self.readonly_series])
            .chain(cadvisor);
        ids.for_each(|id| table.remove(id));
    }

    fn store(&self, answer: Answer, table: &mut SeriesTable) {
        table.set(self.readonly_series, f64::from(u8::from(self.readonly)));
        match answer {
            Answer::Usage(usage) => {
                table.set(self.error, 0.0);
                for (series, value) in self.sizes.iter().zip(usage.values()) {
                    table.set(*series, value);
                }
                if let Some((_, cadvisor)) = &self.cadvisor {
                    for (series, value) in cadvisor.iter().zip(usage.cadvisor_values()) {
                        table.set(*series, value);
                    }
                }
            }
            Answer::Failed => table.set(self.error, 1.0),
            Answer::Pending => {}
        }
    }
}

impl Usage {
    /// In the order of [`SIZES`].
    fn values(&self) -> [f64; SIZES.len()] {
        let bytes = |blocks: u64| blocks as f64 * self.block_bytes as f64;
        [
            bytes(self.blocks),
            bytes(self.blocks_free),
            bytes(self.blocks_available),
            self.files as f64,
            self.files_free as f64,
        ]
    }

    /// In the order of [`CADVISOR`].
    fn cadvisor_values(&self) -> [f64; CADVISOR.len()] {
        let [size, free, _, files, files_free] = self.values();
        [size, size - free, files, files_free]
    }
}

impl Collector for Filesystem {
    fn name(&self) -> &'static str {
        "filesystem"
    }

    fn tier(&self) -> Tier {
        Tier::Medium
    }

    fn collect(&mut self, tick: &mut Tick<'_>) -> Outcome {
        let listed = self.list(tick);
        self.worker.ask();
        for (index, mount) in self.mounts.values_mut().flatten().enumerate() {
            mount.store(self.worker.answer(index), tick.table);
        }
        Outcome::of(listed.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::testing::Bench;

    #[test]
    fn mounts_are_seen_below_the_root_prefix() {
        let mut bench = Bench::new();
        bench.write("root/data/x", "");
        bench.write("proc/self/mountinfo", "1 0 254:0 / / rw - ext4 /dev/vda rw\n2 1 254:1 / /data ro - ext4 /dev/vdb rw\n3 1 0:9 / /proc rw - proc proc rw\n4 1 0:9 / /gone rw - ext4 /dev/vdc rw\n");
        let roots = bench.roots();
        let mut fs =
            Filesystem::new(&roots, MOUNTPOINTS_EXCLUDE, TYPES_EXCLUDE, bench.faults()).unwrap();
        fs.worker = Worker::patient();
        bench.collect(&mut fs);
        let size = bench
            .value("node_filesystem_size_bytes", &[("mountpoint", "/data")])
            .unwrap();
        let real = nix::sys::statfs::statfs(&roots.root).unwrap();
        assert_eq!(size, real.blocks() as f64 * real.block_size() as f64);
        let machine = [("id", "/"), ("device", "/dev/vdb"), ("job", "kubelet")];
        assert_eq!(
            bench.value("container_fs_limit_bytes", &machine),
            Some(size)
        );
        assert_eq!(
            bench.value("node_filesystem_readonly", &[("mountpoint", "/data")]),
            Some(1.0)
        );
        assert_eq!(
            bench.value("node_filesystem_device_error", &[("mountpoint", "/gone")]),
            Some(1.0)
        );
        assert_eq!(
            bench.value("node_filesystem_size_bytes", &[("mountpoint", "/gone")]),
            None
        );
        bench.write(
            "proc/self/mountinfo",
            "1 0 254:0 / / rw - ext4 /dev/vda rw\n",
        );
        bench.collect(&mut fs);
        assert_eq!(bench.series_count(), 11);
    }
}
