//! Traffic of the machine, of pods and of containers, from /proc/PID/net/dev of a process inside.
//!
//! The file is opened, read and closed each time: a kept descriptor would pin the network namespace after the pod has
//! gone. As with cAdvisor, the machine (`id="/"`) and pods with `hostNetwork` have the interfaces of the node. Those are
//! read once per tick.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use procfs::ProcError;
use procfs::process::all_processes_with_root;

use super::entry::{CgroupEntry, CgroupLabels};
use super::identity::{Identity, is_pod_of_processes, pod_of_processes};
use super::processes;
use super::reader::open_dir;
use crate::collect::{CollectContext, Tier};
use crate::collectors::node::{Roots, netdev};
use crate::file::{Buffer, KeptFile, is_gone};
use crate::ordered_cache::OrderedCache;
use crate::parse;
use crate::read_errors::{ReadErrorId, ReadErrorKind, ReadErrors};
use crate::schema::{FamilyDef, Schema, Target, counter};
use crate::table::{SeriesId, SeriesTable};

/// Families, and the column of /proc/net/dev that each is read from.
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

/// Time between scans of all processes for pods without a known one. A new pod is found through its cgroup, without a
/// scan.
const SCAN_MS: i64 = 600_000;

/// Where the interfaces of a cgroup are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Namespace {
    /// In the node's namespace: the machine itself, and pods with `hostNetwork`.
    Host,
    /// In the namespace of a process in the cgroup, which may be the node's.
    Own,
}

/// Name prefixes of the interfaces that cAdvisor skips (`ignoredDevicePrefixes` in its handler.go).
const SKIPPED_INTERFACES: [&[u8]; 4] = [b"lo", b"veth", b"docker", b"nerdctl"];

/// The machine, a pod, or a container outside of pods.
#[derive(Debug)]
struct Network {
    labels: CgroupLabels,
    namespace: Namespace,
    /// A process in the cgroup; `None` until one is found.
    pid: Option<u32>,
    /// Whether the process was found by a scan of all processes, which is too expensive to repeat often.
    is_scanned: bool,
    interfaces: OrderedCache<[SeriesId; FAMILIES.len()]>,
}

impl Network {
    const fn lacks_process(&self) -> bool {
        matches!(self.namespace, Namespace::Own) && self.pid.is_none()
    }

    /// Stores the rows of a /proc/net/dev.
    fn store(
        &mut self,
        data: &[u8],
        error_id: ReadErrorId,
        (table, schema): (&mut SeriesTable, &mut Schema),
        errors: &mut ReadErrors,
    ) {
        self.interfaces.begin();
        for row in netdev::rows(data) {
            let Some(row) = errors.parsed(error_id, row) else {
                continue;
            };
            if SKIPPED_INTERFACES
                .iter()
                .any(|prefix| row.interface.starts_with(prefix))
            {
                continue;
            }
            let series = self.interfaces.entry(row.interface, |name| {
                add(&parse::text(name), &self.labels, table, schema)
            });
            for (series, (_, column)) in series.iter().zip(FAMILIES) {
                table.set(*series, row.columns[column] as f64);
            }
        }
        self.interfaces
            .end(|series| series.iter().for_each(|&series| table.remove(series)));
    }

    fn remove(&mut self, table: &mut SeriesTable) {
        self.interfaces.begin();
        self.interfaces
            .end(|series| series.iter().for_each(|&series| table.remove(series)));
    }
}

/// Traffic of the node's network namespace and of all others.
#[derive(Debug)]
pub struct Networks {
    proc: PathBuf,
    proc_dir: Option<OwnedFd>,
    /// /proc/net/dev of the node's own namespace.
    host_dev: KeptFile,
    error_id: ReadErrorId,
    /// By the cgroup's path.
    networks: BTreeMap<String, Network>,
    /// When the next scan of all processes for pods without one may run.
    scan_due_ms: i64,
}

impl Networks {
    /// Traffic of the processes in the host's /proc.
    pub fn new(roots: &Roots, errors: &mut ReadErrors) -> Self {
        Self {
            proc: roots.proc.clone(),
            proc_dir: open_dir(&roots.proc),
            host_dev: KeptFile::new(roots.proc_net("dev"), "proc/net/dev", errors),
            error_id: errors.file("proc/PID/net/dev"),
            networks: BTreeMap::new(),
            scan_due_ms: i64::MIN,
        }
    }

    /// Follows a change of cgroups or names. `is_host_network` returns what the kubelet reports for a pod UID.
    pub fn follow(
        &mut self,
        entries: &BTreeMap<String, CgroupEntry>,
        is_host_network: impl Fn(&str) -> bool,
        table: &mut SeriesTable,
    ) {
        let wanted = |entry: &CgroupEntry| {
            let namespace = match &entry.identity {
                Identity::Root => Namespace::Host,
                Identity::Pod { uid } if is_host_network(uid) => Namespace::Host,
                Identity::Pod { .. } | Identity::Container { pod_uid: None, .. } => Namespace::Own,
                Identity::Container { .. } | Identity::Unit | Identity::Hidden => return None,
            };
            Some((entry.labels.clone()?, namespace))
        };
        self.networks.retain(|path, network| {
            let wanted = entries.get(path).and_then(&wanted);
            let is_same =
                wanted.is_some_and(|wanted| wanted == (network.labels.clone(), network.namespace));
            if !is_same {
                network.remove(table);
            }
            is_same
        });
        self.scan_due_ms = i64::MIN;
        for (path, entry) in entries {
            if !self.networks.contains_key(path)
                && let Some((labels, namespace)) = wanted(entry)
            {
                let network = Network {
                    labels,
                    namespace,
                    pid: None,
                    is_scanned: false,
                    interfaces: OrderedCache::default(),
                };
                self.networks.insert(path.clone(), network);
            }
        }
    }

    /// Reads each namespace and stores its interfaces.
    pub fn collect(
        &mut self,
        entries: &BTreeMap<String, CgroupEntry>,
        context: &mut CollectContext<'_>,
    ) {
        if context.due.includes(Tier::Medium) {
            // The process ID may have been reused meanwhile.
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
        if self.networks.values().any(Network::lacks_process) {
            self.find_processes(entries, context);
        }
        for network in self.networks.values_mut() {
            let (Some(proc_dir), Some(pid)) = (&self.proc_dir, network.pid) else {
                continue;
            };
            if read(proc_dir, pid, network, self.error_id, context).is_none() {
                network.pid = None;
                self.scan_due_ms = i64::MIN;
            }
        }
        self.collect_host(context);
    }

    /// Reads the node's namespace once and stores it for everything that shares it.
    fn collect_host(&mut self, context: &mut CollectContext<'_>) {
        let networks = self.networks.values_mut();
        let mut networks = networks
            .filter(|network| network.namespace == Namespace::Host)
            .peekable();
        if networks.peek().is_none() {
            return;
        }
        let Some(data) = self.host_dev.read(context.buffer, context.errors) else {
            return;
        };
        for network in networks {
            let target = (&mut *context.table, &mut *context.schema);
            network.store(data, self.host_dev.error_id(), target, context.errors);
        }
    }

    /// Takes the first process of any container of a pod, including its sandbox.
    fn find_processes(
        &mut self,
        entries: &BTreeMap<String, CgroupEntry>,
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
                .filter(|network| network.lacks_process())
            else {
                continue;
            };
            let first = entry
                .dir()
                .and_then(|dir| processes::first(context.buffer, dir));
            network.pid = first.map(|(pid, _)| pid).filter(|pid| *pid != 0);
            network.is_scanned = false;
        }
        // For processes that are not visible, or are in a cgroup below the container's own.
        let is_missing = self
            .networks
            .iter()
            .any(|(path, network)| network.lacks_process() && pod_uid(entries, path).is_some());
        let now_ms = context.table.timestamp_ms();
        // A clock that was set back must not postpone the scan.
        let is_due = now_ms >= self.scan_due_ms || now_ms < self.scan_due_ms - SCAN_MS;
        if is_missing && is_due && context.due.includes(Tier::Slow) {
            self.scan_processes(entries, context.errors);
            self.scan_due_ms = now_ms + SCAN_MS;
        }
    }

    /// Finds a process of each pod among all processes, the only way without hostPID. Costs about 30 µs per process.
    fn scan_processes(&mut self, entries: &BTreeMap<String, CgroupEntry>, errors: &mut ReadErrors) {
        let processes = match all_processes_with_root(&self.proc) {
            Ok(processes) => processes,
            Err(error) => {
                tracing::debug!(error = common::report::chain(&error), "list processes");
                return errors.count(self.error_id, ReadErrorKind::Read);
            }
        };
        for process in processes {
            let cgroups = process.and_then(|process| Ok((process.pid(), process.cgroups()?)));
            let (pid, cgroups) = match cgroups {
                Ok(found) => found,
                // Processes exit during the scan, and some may not be read.
                Err(ProcError::NotFound(_) | ProcError::PermissionDenied(_)) => continue,
                Err(_) => {
                    errors.parse(self.error_id);
                    continue;
                }
            };
            let mut paths = cgroups.0.iter().map(|cgroup| &*cgroup.pathname);
            let (Some(uid), Ok(pid)) = (paths.find_map(pod_of_processes), u32::try_from(pid))
            else {
                continue;
            };
            let mut networks = self.networks.iter_mut();
            let found = networks.find(|(path, _)| pod_uid(entries, path) == Some(&*uid));
            if let Some((_, network)) = found.filter(|(_, network)| network.lacks_process()) {
                network.pid = Some(pid);
                network.is_scanned = true;
            }
        }
    }
}

/// The UID of the pod whose cgroup is at `path`.
fn pod_uid<'a>(entries: &'a BTreeMap<String, CgroupEntry>, path: &str) -> Option<&'a str> {
    match &entries.get(path)?.identity {
        Identity::Pod { uid } => Some(uid),
        _ => None,
    }
}

/// Whether a process is in the pod with UID `uid`. Does not allocate.
fn is_in(proc_dir: &OwnedFd, pid: u32, uid: &str, buffer: &mut Buffer) -> bool {
    let file = open_of(proc_dir, pid, "cgroup");
    let Some(data) = file.and_then(|file| buffer.read_file(&file).ok()) else {
        return false;
    };
    let mut paths = parse::lines(data).filter_map(path_of_line);
    paths.any(|path| is_pod_of_processes(path, uid))
}

/// The path in a line of /proc/PID/cgroup. It is relative to the reader's own cgroup namespace (`/../../kubepods…`),
/// and identities are parsed from the end.
fn path_of_line(line: &[u8]) -> Option<&str> {
    let path = line.splitn(3, |&byte| byte == b':').nth(2)?;
    std::str::from_utf8(path).ok()
}

/// Opens a file of a process; `None` if the process has gone or may not be read.
fn open_of(proc_dir: &OwnedFd, pid: u32, file: &str) -> Option<File> {
    let mut name = [0_u8; 32];
    // 32 bytes fit the longest number and file name; the last byte stays 0.
    write!(&mut name[..31], "{pid}/{file}").ok()?;
    let name = CStr::from_bytes_until_nul(&name).ok()?;
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let file = openat(proc_dir, name, flags, Mode::empty()).ok()?;
    Some(File::from(file))
}

/// Stores the interfaces of a process's namespace. `None` if the process has gone or is not readable.
fn read(
    proc_dir: &OwnedFd,
    pid: u32,
    network: &mut Network,
    error_id: ReadErrorId,
    context: &mut CollectContext<'_>,
) -> Option<()> {
    let file = open_of(proc_dir, pid, "net/dev")?;
    match context.buffer.read_file(&file) {
        Ok(data) => {
            let target = (&mut *context.table, &mut *context.schema);
            network.store(data, error_id, target, context.errors);
            Some(())
        }
        Err(error) => {
            if !is_gone(&error) {
                context.errors.read(error_id, &error);
            }
            None
        }
    }
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
    fn pod_of_a_process_is_parsed_from_the_end_of_its_path() {
        let uid = "2fc932ce-fdcc-454b-97bd-aadfdeb4c340";
        let id = "a".repeat(64);
        let line = format!(
            "0::/../../kubepods.slice/kubepods-pod{}.slice/cri-containerd-{id}.scope",
            uid.replace('-', "_")
        );
        let pod_of_line = |line: &str| pod_of_processes(path_of_line(line.as_bytes())?);
        assert_eq!(pod_of_line(&line).as_deref(), Some(uid));
        let v1 = format!("4:memory:/kubepods/pod{uid}/{id}");
        assert_eq!(pod_of_line(&v1).as_deref(), Some(uid));
        let path = path_of_line(line.as_bytes()).unwrap();
        assert!(is_pod_of_processes(path, uid));
        assert!(!is_pod_of_processes(path, &uid.replace('2', "3")));
        for other in ["0::/init.scope", "1:cpu", "", "0::/kubepods"] {
            assert_eq!(pod_of_line(other), None, "{other}");
        }
    }
}
