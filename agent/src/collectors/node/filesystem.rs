//! File systems: size, space and inodes of each mount, by statfs in a separate thread.

use std::path::PathBuf;

use regex::Regex;

use self::worker::{Answer, Usage, Worker};
use super::Roots;
use super::mountinfo::{self, Mount};
use crate::collect::{CollectContext, Collector, Outcome};
use crate::file::KeptFile;
use crate::ordered_cache::OrderedCache;
use crate::parse;
use crate::read_errors::ReadErrors;
use crate::schema::{FamilyDef, Schema, Target, gauge, info};
use crate::table::{SeriesId, SeriesTable};

mod worker;

/// Mounts excluded by default: those of containers and pods, as in kube-prometheus.
pub const MOUNTPOINTS_EXCLUDE: &str = r"^/(dev|proc|run/credentials/.+|run/k3s/containerd/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+|var/lib/kubelet/pods/.+)($|/)";
/// Types excluded by default: node_exporter's set of pseudo file systems.
pub const TYPES_EXCLUDE: &str = r"^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|fuse\.lxcfs|hugetlbfs|iso9660|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs)$";

const ERROR: FamilyDef = gauge(
    "node_filesystem_device_error",
    "Whether an error occurred while getting statistics for the given device.",
);
const READONLY: FamilyDef = gauge("node_filesystem_readonly", "Filesystem read-only status.");
const MOUNT: FamilyDef = info(
    "node_filesystem_mount_info",
    "Filesystem mount information.",
);
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

/// Families under cAdvisor's names, for the machine (`id="/"`).
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

/// An exported mount, in the order of mountinfo.
#[derive(Debug)]
struct Exported {
    /// The mountpoint as this process sees it.
    path: PathBuf,
    readonly: bool,
    error: SeriesId,
    readonly_series: SeriesId,
    mount_series: SeriesId,
    sizes: [SeriesId; SIZES.len()],
    /// Source and mountpoint.
    key: (String, String),
    /// Series under cAdvisor's names, if this is the first mount of its device.
    cadvisor: Option<[SeriesId; CADVISOR.len()]>,
}

/// Collects `node_filesystem_*`.
#[derive(Debug)]
pub struct Filesystem {
    mountinfo: KeptFile,
    roots: Roots,
    mountpoints_exclude: Regex,
    types_exclude: Regex,
    /// By line of mountinfo; `None` for excluded mounts.
    mounts: OrderedCache<Option<Exported>>,
    /// Source and mountpoint of the exported mounts.
    exported: Vec<(String, String)>,
    worker: Worker,
}

impl Filesystem {
    /// A collector over the host's mounts.
    ///
    /// # Errors
    /// A regular expression is not valid.
    pub fn new(
        roots: &Roots,
        mountpoints_exclude: &str,
        types_exclude: &str,
        errors: &mut ReadErrors,
    ) -> Result<Self, regex::Error> {
        let host = roots.proc.join("1/mountinfo");
        let readable = std::fs::File::open(&host).is_ok();
        let path = if readable {
            host
        } else {
            roots.proc.join("self/mountinfo")
        };
        Ok(Self {
            mountinfo: KeptFile::new(path, "proc/1/mountinfo", errors),
            roots: roots.clone(),
            mountpoints_exclude: Regex::new(mountpoints_exclude)?,
            types_exclude: Regex::new(types_exclude)?,
            mounts: OrderedCache::default(),
            exported: Vec::new(),
            worker: Worker::default(),
        })
    }

    /// Reads the mounts and drops duplicates. Returns `None` if mountinfo could not be read.
    fn list(&mut self, context: &mut CollectContext<'_>) -> Option<()> {
        let data = self.mountinfo.read(context.buffer, context.errors)?;
        let CollectContext {
            table,
            schema,
            errors,
            ..
        } = context;
        let mut mounts = std::mem::take(&mut self.mounts);
        let mut is_changed = false;
        // Removes series of mounts that have gone before adding new ones: a mount that changed (`ro` after an error)
        // is another line with the same labels.
        let mut exported = std::mem::take(&mut self.exported);
        mounts.retain(parse::lines(data), |mount| {
            is_changed = true;
            if let Some(mount) = mount {
                exported.retain(|key| *key != mount.key);
                mount.remove(table);
            }
        });
        mounts.begin();
        for line in parse::lines(data) {
            mounts.entry(line, |line| {
                let mount =
                    errors.parsed(self.mountinfo.error_id(), mountinfo::parse_line(line))?;
                let key = (mount.source.clone(), mount.mountpoint.clone());
                // Stacked mounts of one device at one mountpoint are one series.
                if self.is_excluded(&mount) || exported.contains(&key) {
                    return None;
                }
                is_changed = true;
                exported.push(key);
                Some(self.export(&mount, table, schema))
            });
        }
        if is_changed {
            let mounts = mounts.values_mut().flatten();
            self.worker
                .set_paths(mounts.map(|mount| mount.path.clone()).collect());
        }
        self.mounts = mounts;
        self.exported = exported;
        if is_changed {
            self.name_devices(table, schema);
        }
        Some(())
    }

    /// Adds cAdvisor's series to the first mount of each device. cAdvisor counts each device once.
    fn name_devices(&mut self, table: &mut SeriesTable, schema: &mut Schema) {
        let mut named: Vec<String> = Vec::new();
        for mount in self.mounts.values_mut().flatten() {
            if mount.cadvisor.is_some() {
                named.push(mount.device().to_owned());
            }
        }
        for mount in self.mounts.values_mut().flatten() {
            if named.iter().all(|name| name != mount.device()) {
                named.push(mount.device().to_owned());
                mount.cadvisor = Some(add_cadvisor(mount.device(), table, schema));
            }
        }
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
        let mut add =
            |family, labels: &[(&str, &str)]| schema.series(table, Target::Node, family, labels);
        let (major, minor) = mount.device_numbers.split_once(':').unwrap_or_default();
        let numbers = [labels[0], ("major", major), ("minor", minor), labels[1]];
        Exported {
            path: self.roots.host_path(mount.mountpoint.as_ref()),
            readonly: mount.has_option("ro"),
            error: add(&ERROR, &labels),
            readonly_series: add(&READONLY, &labels),
            mount_series: add(&MOUNT, &numbers),
            sizes: std::array::from_fn(|index| add(&SIZES[index], &labels)),
            key: (mount.source.clone(), mount.mountpoint.clone()),
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
    /// The device as cAdvisor names it: tmpfs and the like by their mountpoint.
    fn device(&self) -> &str {
        let (source, mountpoint) = &self.key;
        if source.starts_with('/') {
            source
        } else {
            mountpoint
        }
    }

    fn remove(self, table: &mut SeriesTable) {
        let cadvisor = self.cadvisor.into_iter().flatten();
        let ids = self
            .sizes
            .into_iter()
            .chain([self.error, self.readonly_series, self.mount_series])
            .chain(cadvisor);
        ids.for_each(|id| table.remove(id));
    }

    fn store(&self, answer: Answer, table: &mut SeriesTable) {
        table.set(self.readonly_series, f64::from(u8::from(self.readonly)));
        table.set(self.mount_series, 1.0);
        match answer {
            Answer::Usage(usage) => {
                table.set(self.error, 0.0);
                for (series, value) in self.sizes.iter().zip(usage.values()) {
                    table.set(*series, value);
                }
                if let Some(cadvisor) = &self.cadvisor {
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
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        let listed = self.list(context);
        self.worker.ask();
        for (index, mount) in self.mounts.values_mut().flatten().enumerate() {
            mount.store(self.worker.answer(index), context.table);
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
            Filesystem::new(&roots, MOUNTPOINTS_EXCLUDE, TYPES_EXCLUDE, bench.errors()).unwrap();
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
        assert_eq!(bench.series_count(), 12);
    }

    #[test]
    fn changed_or_replaced_mount_is_still_read() {
        let mut bench = Bench::new();
        bench.write("root/a/x", "");
        bench.write("root/b/x", "");
        let mount = |line: &str| format!("1 0 254:0 / / rw - ext4 /dev/vda rw\n{line}\n");
        bench.write(
            "proc/self/mountinfo",
            &mount("2 1 254:1 / /a rw - ext4 /dev/vdb rw"),
        );
        let roots = bench.roots();
        let mut fs =
            Filesystem::new(&roots, MOUNTPOINTS_EXCLUDE, TYPES_EXCLUDE, bench.errors()).unwrap();
        fs.worker = Worker::patient();
        bench.collect(&mut fs);
        let size = bench.value("node_filesystem_size_bytes", &[("mountpoint", "/a")]);
        assert!(size.is_some());
        let vdb = [("id", "/"), ("device", "/dev/vdb")];

        // The same mount, read-only after an error.
        bench.write(
            "proc/self/mountinfo",
            &mount("2 1 254:1 / /a ro - ext4 /dev/vdb ro"),
        );
        bench.collect(&mut fs);
        let readonly = bench.value("node_filesystem_readonly", &[("mountpoint", "/a")]);
        assert_eq!(readonly, Some(1.0));
        assert_eq!(bench.value("container_fs_limit_bytes", &vdb), size);

        // Another mount in its place, so that their number is unchanged.
        bench.write(
            "proc/self/mountinfo",
            &mount("3 1 254:1 / /b rw - ext4 /dev/vdb rw"),
        );
        bench.collect(&mut fs);
        let of =
            |mountpoint| bench.value("node_filesystem_size_bytes", &[("mountpoint", mountpoint)]);
        assert_eq!((of("/a"), of("/b")), (None, size));
        assert_eq!(bench.value("container_fs_limit_bytes", &vdb), size);
        let error = bench.value("node_filesystem_device_error", &[("mountpoint", "/b")]);
        assert_eq!(error, Some(0.0));
    }
}
