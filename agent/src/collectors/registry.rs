//! The table of all collectors. To add a collector, write its file and add its row here.

use super::cgroup::Cgroups;
use super::kubelet::Kubelet;
use super::kubelet_metrics::KubeletMetrics;
use super::node::hardware::Hardware;
use super::node::numbers::Numbers;
use super::node::{self, filesystem::Filesystem, netclass::Netclass, netdev::Netdev};
use super::{BuildContext, BuildError, machine, up};
use crate::collect::Collector;
use crate::collect::Tier::{self, Fast, Medium, Slow};
use crate::read_errors::ReadErrors;

/// Name of the collector of the kubelet's own metrics.
pub const KUBELET_METRICS: &str = "kubelet_metrics";

/// One collector.
#[derive(Debug)]
pub struct CollectorSpec {
    /// The name in `--collector.NAME` and in `node_scrape_collector_success`; node_exporter's where it has one.
    pub name: &'static str,
    /// How often it runs. It may read some of its values less often.
    pub tier: Tier,
    /// Whether it runs without a flag.
    pub is_on_by_default: bool,
    /// The files or system calls that it reads, for docs/series.md.
    pub source: &'static str,
    /// What it collects, for `--help`.
    pub help: &'static str,
    build: BuildFn,
}

type BuildFn = fn(&BuildContext<'_>, &mut ReadErrors) -> Built;
type Built = Result<Option<Box<dyn Collector>>, BuildError>;

impl CollectorSpec {
    /// Builds the collector; `None` if this configuration has no source for it.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn build(&self, context: &BuildContext<'_>, errors: &mut ReadErrors) -> Built {
        (self.build)(context, errors)
    }
}

const fn row(
    name: &'static str,
    tier: Tier,
    source: &'static str,
    help: &'static str,
    build: BuildFn,
) -> CollectorSpec {
    CollectorSpec {
        name,
        tier,
        is_on_by_default: true,
        source,
        help,
        build,
    }
}

/// A build function that calls `$new(&Roots, &mut ReadErrors)`.
macro_rules! roots {
    ($new:expr) => {
        |context, errors| built($new(&context.roots, errors))
    };
}

fn built<C: Collector + 'static>(collector: C) -> Built {
    Ok(Some(Box::new(collector)))
}

/// All collectors, in the order in which they run.
pub const COLLECTORS: &[CollectorSpec] = &[
    row(
        "cpu",
        Fast,
        "/proc/stat",
        "CPU time by core and mode",
        roots!(node::cpu::Cpu::new),
    ),
    row(
        "stat",
        Fast,
        "/proc/stat",
        "Interrupts, context switches, forks, boot time",
        roots!(node::stat::Stat::new),
    ),
    row(
        "meminfo",
        Fast,
        "/proc/meminfo",
        "Memory of the node",
        roots!(node::meminfo::Meminfo::new),
    ),
    row(
        "vmstat",
        Fast,
        "/proc/vmstat",
        "Paging events",
        roots!(node::vmstat::Vmstat::new),
    ),
    row(
        "loadavg",
        Fast,
        "/proc/loadavg",
        "Load averages",
        roots!(node::loadavg::Loadavg::new),
    ),
    row(
        "pressure",
        Fast,
        "/proc/pressure",
        "Pressure stall information",
        roots!(node::pressure::NodePressure::new),
    ),
    row(
        "diskstats",
        Fast,
        "/proc/diskstats, /sys/block, /run/udev/data",
        "Block devices",
        roots!(node::diskstats::Diskstats::new),
    ),
    row(
        "netstat",
        Fast,
        "/proc/net/netstat, /proc/net/snmp, /proc/net/snmp6",
        "Protocol counters",
        roots!(node::netstat::Netstat::new),
    ),
    row(
        "sockstat",
        Fast,
        "/proc/net/sockstat, /proc/net/sockstat6",
        "Sockets in use",
        roots!(node::sockstat::Sockstat::new),
    ),
    row(
        "filefd",
        Fast,
        "/proc/sys/fs/file-nr",
        "Open files",
        roots!(node::filefd::Filefd::new),
    ),
    row(
        "os",
        Slow,
        "/etc/os-release, /usr/lib/os-release",
        "Operating system",
        roots!(node::os::Os::new),
    ),
    row(
        "softnet",
        Fast,
        "/proc/net/softnet_stat",
        "Packet processing by CPU",
        roots!(node::softnet::Softnet::new),
    ),
    row(
        "arp",
        Medium,
        "/proc/net/arp",
        "Neighbours by interface",
        roots!(node::arp::Arp::new),
    ),
    row(
        "conntrack",
        Medium,
        "/proc/sys/net/netfilter, /proc/net/stat/nf_conntrack",
        "Connection tracking",
        roots!(node::conntrack::Conntrack::new),
    ),
    row(
        "udp_queues",
        Medium,
        "/proc/net/udp, /proc/net/udp6",
        "Bytes waiting in UDP sockets",
        roots!(node::udp_queues::UdpQueues::new),
    ),
    row(
        "schedstat",
        Fast,
        "/proc/schedstat",
        "Scheduling by CPU",
        roots!(node::schedstat::Schedstat::new),
    ),
    row(
        "entropy",
        Medium,
        "/proc/sys/kernel/random",
        "Bits of entropy",
        roots!(Numbers::entropy),
    ),
    row(
        "kernel_hung",
        Medium,
        "/proc/sys/kernel/hung_task_detect_count",
        "Tasks found hung",
        roots!(Numbers::kernel_hung),
    ),
    row(
        "mdadm",
        Medium,
        "/proc/mdstat",
        "Software RAID",
        roots!(node::mdadm::Mdadm::new),
    ),
    row(
        "bonding",
        Medium,
        "/sys/class/net/*/bonding",
        "Bonded network interfaces",
        roots!(node::bonding::Bonding::new),
    ),
    row(
        "machine",
        Slow,
        "/proc/stat, /proc/meminfo",
        "Cores and memory, under cAdvisor's names",
        roots!(machine::Machine::new),
    ),
    row(
        "cpufreq",
        Slow,
        "/sys/devices/system/cpu/cpu*/cpufreq",
        "Frequencies of CPUs",
        roots!(Hardware::cpufreq),
    ),
    row(
        "thermal_zone",
        Slow,
        "/sys/class/thermal",
        "Thermal zones and cooling devices",
        roots!(Hardware::thermal_zone),
    ),
    row(
        "dmi",
        Slow,
        "/sys/class/dmi/id",
        "The machine as its firmware describes it",
        roots!(Hardware::dmi),
    ),
    row(
        "hwmon",
        Slow,
        "/sys/class/hwmon",
        "Sensors",
        roots!(Hardware::hwmon),
    ),
    row(
        "selinux",
        Slow,
        "/sys/fs/selinux, /etc/selinux/config",
        "Mode of SELinux",
        roots!(Hardware::selinux),
    ),
    row(
        "xfs",
        Slow,
        "/sys/fs/xfs",
        "XFS file systems",
        roots!(Hardware::xfs),
    ),
    row(
        "btrfs",
        Slow,
        "/sys/fs/btrfs",
        "Btrfs file systems",
        roots!(Hardware::btrfs),
    ),
    row(
        "zfs",
        Slow,
        "/proc/spl/kstat/zfs",
        "The ZFS module and its pools",
        roots!(Hardware::zfs),
    ),
    row(
        "stacked",
        Slow,
        "/sys/block/*/slaves",
        "Block devices on top of others",
        roots!(Hardware::stacked),
    ),
    row(
        "time",
        Fast,
        "clock, /sys/devices/system/clocksource",
        "Time and clock sources",
        roots!(node::time::Time::new),
    ),
    row(
        "timex",
        Medium,
        "adjtimex(2)",
        "Clock discipline",
        |_, _| built(node::time::timex::Timex::default()),
    ),
    row(
        "uname",
        Medium,
        "uname(2)",
        "Kernel release and node name",
        |context, _| {
            // In a pod the UTS namespace has the pod's name.
            let in_pod = std::env::var_os("POD_NAME").is_some() && !context.node_name.is_empty();
            built(node::uname::Uname::new(
                in_pod.then(|| context.node_name.to_owned()),
            ))
        },
    ),
    row(
        "netdev",
        Fast,
        "/proc/net/dev",
        "Traffic of network interfaces",
        |context, errors| {
            let netdev = Netdev::new(&context.roots, &context.options.netdev_exclude, errors);
            built(netdev.map_err(|source| regex("collector.netdev.device-exclude", source))?)
        },
    ),
    row(
        "netclass",
        Medium,
        "/sys/class/net",
        "Properties of network interfaces",
        |context, errors| {
            let netclass = Netclass::new(&context.roots, &context.options.netdev_exclude, errors);
            built(netclass.map_err(|source| regex("collector.netdev.device-exclude", source))?)
        },
    ),
    row(
        "filesystem",
        Medium,
        "/proc/1/mountinfo, statfs(2)",
        "Space and inodes of file systems",
        |context, errors| {
            let (mountpoints, types) = (
                &context.options.filesystem_mountpoints_exclude,
                &context.options.filesystem_types_exclude,
            );
            let filesystem = Filesystem::new(&context.roots, mountpoints, types, errors);
            built(filesystem.map_err(|source| regex("collector.filesystem.*-exclude", source))?)
        },
    ),
    row(
        "cgroup",
        Fast,
        "/sys/fs/cgroup, /proc/PID/net/dev",
        "Containers, pods, units",
        |context, errors| {
            let names = context.kubelet.map(|data| data.names.clone());
            built(Cgroups::new(&context.roots, names, errors).map_err(BuildError::Cgroup)?)
        },
    ),
    row(
        KUBELET_METRICS,
        Fast,
        "/metrics of the kubelet",
        "The kubelet's own metrics, families of --kubelet.metrics",
        |context, _| match context.kubelet {
            Some(data) => built(KubeletMetrics::new(data.clone())),
            None => Ok(None),
        },
    ),
    row(
        up::UP,
        Fast,
        "the agent",
        "Health of the scrape jobs that the agent replaces",
        |context, _| {
            let kubelet = context.kubelet.filter(|_| context.options.is_on("kubelet"));
            built(up::Up::new(
                context.options.is_on("cgroup"),
                kubelet.cloned(),
            ))
        },
    ),
    row(
        "kubelet",
        Fast,
        "/pods and /stats/summary of the kubelet",
        "Pods and their storage, as the kubelet reports them",
        |context, _| match context.kubelet {
            Some(data) => built(Kubelet::new(
                data.clone(),
                context.node_name.to_owned(),
                context.pod_labels.to_vec(),
            )),
            None => Ok(None),
        },
    ),
    // Runs last: it refuses families that any other collector has.
    row(
        "textfile",
        Medium,
        "*.prom in --collector.textfile.directory",
        "Files *.prom of --collector.textfile.directory",
        |context, _| match &context.options.textfile_directory {
            Some(directory) => built(node::textfile::Textfile::new(directory.clone())),
            None => Ok(None),
        },
    ),
];

fn regex(flag: &'static str, source: regex::Error) -> BuildError {
    BuildError::Regex { flag, source }
}
