//! Traffic of pods and containers, from /proc/PID/net/dev of a process inside.
//!
//! The file is opened, read and closed each time: a descriptor kept would pin the network namespace beyond the pod's
//! life. Its inode number differs from namespace to namespace and is there for everybody to see, unlike the link
//! /proc/PID/ns/net; so pods in the node's own namespace are known without any right.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat, stat};

use super::entry::{CgroupLabels, Entry};
use super::identity::{Identity, is_pod_of_processes, pod_of_processes};
use super::processes;
use super::reader::open_dir;
use crate::collect::{CollectContext, Tier};
use crate::collectors::node::netdev;
use crate::file::{Buffer, is_gone};
use crate::ordered_cache::OrderedCache;
use crate::parse;
use crate::read_errors::{ReadErrorId, ReadErrors};
use crate::schema::{FamilyDef, Schema, Target, counter};
use crate::table::{SeriesId, SeriesTable};

/// Families, and the column of /proc/net/dev each is read from.
const FAMILIES: [(FamilyDef, usize); 8] = [
    (
        counter(
            "container_network_receive_bytes_total",
            "Cumulative count of bytes received",
        ),
        0,
    ),
    (
        counter(
            "container_network_receive_packets_total",
            "Cumulative count of packets received",
        ),
        1,
    ),
    (
        counter(
            "container_network_receive_errors_total",
            "Cumulative count of errors encountered while receiving",
        ),
        2,
    ),
    (
        counter(
            "container_network_receive_packets_dropped_total",
            "Cumulative count of packets dropped while receiving",
        ),
        3,
    ),
    (
        counter(
            "container_network_transmit_bytes_total",
            "Cumulative count of bytes transmitted",
        ),
        8,
    ),
    (
        counter(
            "container_network_transmit_packets_total",
            "Cumulative count of packets transmitted",
        ),
        9,
    ),
    (
        counter(
            "container_network_transmit_errors_total",
            "Cumulative count of errors encountered while transmitting",
        ),
        10,
    ),
    (
        counter(
            "container_network_transmit_packets_dropped_total",
            "Cumulative count of packets dropped while transmitting",
        ),
        11,
    ),
];

/// How long a look through all processes that left some pod without one is good for. Whatever comes meanwhile is seen
/// by its cgroup.
const SCAN_MS: i64 = 600_000;

/// A pod, or a container outside of pods.
#[derive(Debug)]
struct Network {
    labels: CgroupLabels,
    /// A process inside; `None` until one is found.
    pid: Option<u32>,
    /// Whether it was found by a look through all processes, which is too dear to be repeated often.
    is_scanned: bool,
    interfaces: OrderedCache<[SeriesId; FAMILIES.len()]>,
}

impl Network {
    fn remove(&mut self, table: &mut SeriesTable) {
        self.interfaces.begin();
        self.interfaces
            .end(|series| series.iter().for_each(|&series| table.remove(series)));
    }
}

/// Traffic of everything that has a network namespace of its own.
#[derive(Debug)]
pub struct Networks {
    proc: PathBuf,
    proc_dir: Option<OwnedFd>,
    /// /proc/net/dev of the node's own namespace.
    host_net_dev: PathBuf,
    error_id: ReadErrorId,
    /// By the cgroup's path.
    networks: BTreeMap<String, Network>,
    /// When all processes are looked through again for pods that have none.
    scan_due_ms: i64,
}

impl Networks {
    /// Traffic by the processes of the host's /proc.
    pub fn new(proc: &Path, errors: &mut ReadErrors) -> Self {
        Self {
            proc: proc.to_owned(),
            proc_dir: open_dir(proc),
            host_net_dev: proc.join("1/net/dev"),
            error_id: errors.file("proc/PID/net/dev"),
            networks: BTreeMap::new(),
            scan_due_ms: i64::MIN,
        }
    }

    /// Follows a change of cgroups or their names. `is_host_network` tells by pod UID what the kubelet knows.
    pub fn follow(
        &mut self,
        entries: &BTreeMap<String, Entry>,
        is_host_network: impl Fn(&str) -> bool,
        table: &mut SeriesTable,
    ) {
        let wanted = |entry: &Entry| {
            let has_network = match &entry.identity {
                Identity::Pod { uid } => !is_host_network(uid),
                Identity::Container { pod_uid, .. } => pod_uid.is_none(),
                _ => false,
            };
            entry.labels.clone().filter(|_| has_network)
        };
        self.networks.retain(|path, network| {
            let is_same = entries.get(path).and_then(&wanted).as_ref() == Some(&network.labels);
            if !is_same {
                network.remove(table);
            }
            is_same
        });
        self.scan_due_ms = i64::MIN;
        for (path, entry) in entries {
            if !self.networks.contains_key(path)
                && let Some(labels) = wanted(entry)
            {
                let network = Network {
                    labels,
                    pid: None,
                    is_scanned: false,
                    interfaces: OrderedCache::default(),
                };
                self.networks.insert(path.clone(), network);
            }
        }
    }

    /// Reads every namespace and stores its interfaces.
    pub fn collect(&mut self, entries: &BTreeMap<String, Entry>, context: &mut CollectContext<'_>) {
        if context.due.includes(Tier::Medium) {
            // A process ID may have gone to a stranger meanwhile.
            for (path, network) in &mut self.networks {
                let scanned = network.pid.filter(|_| network.is_scanned);
                network.pid = scanned.filter(|pid| {
                    let uid = pod_uid(entries, path);
                    let proc_dir = self.proc_dir.as_ref();
                    proc_dir
                        .zip(uid)
                        .is_some_and(|(dir, uid)| is_in(dir, *pid, uid, context.buffer))
                });
                if scanned != network.pid && network.is_scanned {
                    self.scan_due_ms = i64::MIN;
                }
            }
        }
        if self.networks.values().any(|network| network.pid.is_none()) {
            self.find_processes(entries, context);
        }
        let host = stat(&self.host_net_dev).map_or(0, |stat| stat.st_ino);
        for network in self.networks.values_mut() {
            let (Some(proc_dir), Some(pid)) = (&self.proc_dir, network.pid) else {
                continue;
            };
            if read(proc_dir, pid, host, network, self.error_id, context).is_none() {
                network.pid = None;
                self.scan_due_ms = i64::MIN;
            }
        }
    }

    /// Takes the first process of any container of a pod, its sandbox included.
    fn find_processes(
        &mut self,
        entries: &BTreeMap<String, Entry>,
        context: &mut CollectContext<'_>,
    ) {
        for (path, entry) in entries {
            let owner = match &entry.identity {
                Identity::Container {
                    pod_uid: Some(_), ..
                } => path.rsplit_once('/').map_or("", |(pod, _)| pod),
                Identity::Container { pod_uid: None, .. } => path,
                _ => continue,
            };
            let Some(network) = self
                .networks
                .get_mut(owner)
                .filter(|network| network.pid.is_none())
            else {
                continue;
            };
            let first = entry
                .dir()
                .and_then(|dir| processes::first(context.buffer, dir));
            network.pid = first.map(|(pid, _)| pid).filter(|pid| *pid != 0);
            network.is_scanned = false;
        }
        // Where processes can't be seen, or lie in a cgroup deeper than the containers' own.
        let is_missing = self
            .networks
            .iter()
            .any(|(path, network)| network.pid.is_none() && pod_uid(entries, path).is_some());
        let now_ms = context.table.timestamp_ms();
        // A clock that was set back must not put it off.
        let is_due = now_ms >= self.scan_due_ms || now_ms < self.scan_due_ms - SCAN_MS;
        if is_missing && is_due && context.due.includes(Tier::Slow) {
            self.scan_processes(entries);
            self.scan_due_ms = now_ms + SCAN_MS;
        }
    }

    /// Looks through all processes for those of pods: the way without hostPID, 20 µs each.
    fn scan_processes(&mut self, entries: &BTreeMap<String, Entry>) {
        let Ok(processes) = std::fs::read_dir(&self.proc) else {
            return;
        };
        for process in processes.flatten() {
            let name = process.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let Some(uid) = pod_of(&self.proc, pid) else {
                continue;
            };
            let mut networks = self.networks.iter_mut();
            let found = networks.find(|(path, _)| pod_uid(entries, path) == Some(&*uid));
            if let Some((_, network)) = found.filter(|(_, network)| network.pid.is_none()) {
                network.pid = Some(pid);
                network.is_scanned = true;
            }
        }
    }
}

/// The UID of the pod whose cgroup is at `path`.
fn pod_uid<'a>(entries: &'a BTreeMap<String, Entry>, path: &str) -> Option<&'a str> {
    match &entries.get(path)?.identity {
        Identity::Pod { uid } => Some(uid),
        _ => None,
    }
}

/// The pod of a process; `None` when it is in none, or has gone.
fn pod_of(proc: &Path, pid: u32) -> Option<String> {
    let text = std::fs::read(proc.join(pid.to_string()).join("cgroup")).ok()?;
    parse::lines(&text).find_map(pod_of_line)
}

/// Whether a process is in the pod with that UID. Allocates nothing.
fn is_in(proc_dir: &OwnedFd, pid: u32, uid: &str, buffer: &mut Buffer) -> bool {
    let file = open_of(proc_dir, pid, "cgroup");
    let Some(data) = file.and_then(|file| buffer.read_file(&file).ok()) else {
        return false;
    };
    let mut paths = parse::lines(data).filter_map(path_of_line);
    paths.any(|path| is_pod_of_processes(path, uid))
}

/// The pod of a line `4:memory:/kubepods/pod<UID>/<ID>` of /proc/PID/cgroup.
fn pod_of_line(line: &[u8]) -> Option<String> {
    pod_of_processes(path_of_line(line)?)
}

/// The path of a line of /proc/PID/cgroup. It is relative to the reader's own cgroup namespace (`/../../kubepods…`);
/// identities are read from the end.
fn path_of_line(line: &[u8]) -> Option<&str> {
    let path = line.splitn(3, |&byte| byte == b':').nth(2)?;
    std::str::from_utf8(path).ok()
}

/// Opens a file of a process; `None` when it has gone or may not be read.
fn open_of(proc_dir: &OwnedFd, pid: u32, file: &str) -> Option<File> {
    let mut name = [0_u8; 32];
    // 32 bytes hold the longest number and the rest; the last one stays 0.
    write!(&mut name[..31], "{pid}/{file}").ok()?;
    let name = CStr::from_bytes_until_nul(&name).ok()?;
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let file = openat(proc_dir, name, flags, Mode::empty()).ok()?;
    Some(File::from(file))
}

/// Stores one namespace's interfaces. `None` when the process has gone or is not readable.
fn read(
    proc_dir: &OwnedFd,
    pid: u32,
    host: u64,
    network: &mut Network,
    error_id: ReadErrorId,
    context: &mut CollectContext<'_>,
) -> Option<()> {
    let file = open_of(proc_dir, pid, "net/dev")?;
    if fstat(file.as_fd()).is_ok_and(|stat| stat.st_ino == host) {
        return Some(()); // The node's own interfaces are node_network_*.
    }
    let data = match context.buffer.read_file(&file) {
        Ok(data) => data,
        Err(error) => {
            if !is_gone(&error) {
                context.errors.read(error_id, &error);
            }
            return None;
        }
    };
    let CollectContext {
        table,
        schema,
        errors,
        ..
    } = context;
    network.interfaces.begin();
    for row in netdev::rows(data) {
        let Some(row) = errors.parsed(error_id, row) else {
            continue;
        };
        if row.interface == b"lo" {
            continue;
        }
        let series = network.interfaces.entry(row.interface, |name| {
            add(&parse::text(name), &network.labels, table, schema)
        });
        for (series, (_, column)) in series.iter().zip(FAMILIES) {
            table.set(*series, row.columns[column] as f64);
        }
    }
    network
        .interfaces
        .end(|series| series.iter().for_each(|&series| table.remove(series)));
    Some(())
}

fn add(
    interface: &str,
    labels: &CgroupLabels,
    table: &mut SeriesTable,
    schema: &mut Schema,
) -> [SeriesId; FAMILIES.len()] {
    let mut all: Vec<(&str, &str)> = labels
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    all.push(("interface", interface));
    std::array::from_fn(|index| schema.series(table, Target::Cadvisor, &FAMILIES[index].0, &all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pod_of_a_process_is_found_from_the_end_of_its_path() {
        let uid = "2fc932ce-fdcc-454b-97bd-aadfdeb4c340";
        let id = "a".repeat(64);
        let line = format!(
            "0::/../../kubepods.slice/kubepods-pod{}.slice/cri-containerd-{id}.scope",
            uid.replace('-', "_")
        );
        assert_eq!(pod_of_line(line.as_bytes()).as_deref(), Some(uid));
        assert_eq!(
            pod_of_line(format!("4:memory:/kubepods/pod{uid}/{id}").as_bytes()).as_deref(),
            Some(uid)
        );
        let path = path_of_line(line.as_bytes()).unwrap();
        assert!(is_pod_of_processes(path, uid));
        assert!(!is_pod_of_processes(path, &uid.replace('2', "3")));
        for other in ["0::/init.scope", "1:cpu", "", "0::/kubepods"] {
            assert_eq!(pod_of_line(other.as_bytes()), None, "{other}");
        }
    }
}
