//! Everything the agent reads: the node, its cgroups, the kubelet.

use std::io;

use crate::collect::Collectors;
use crate::config::Config;
use crate::kube::KubeletData;
use crate::read_errors::ReadErrors;

pub mod cgroup;
pub mod kubelet;
pub mod kubelet_metrics;
pub mod machine;
pub mod node;
pub mod own;
#[cfg(test)]
pub(crate) mod testing;
pub mod up;

use self::cgroup::Cgroups;
use self::kubelet::Kubelet;
use self::kubelet_metrics::KubeletMetrics;
use self::node::Roots;

/// A collector that can be switched on and off.
#[derive(Debug, Clone, Copy)]
pub struct CollectorInfo {
    /// The name in `--collector.NAME`; node_exporter's where it has one.
    pub name: &'static str,
    /// What it collects, for `--help`.
    pub help: &'static str,
}

/// The name of the collector of what the kubelet measures about itself.
pub const KUBELET_METRICS: &str = "kubelet_metrics";

const fn collector(name: &'static str, help: &'static str) -> CollectorInfo {
    CollectorInfo { name, help }
}

/// All collectors. Each is on unless switched off.
pub const COLLECTORS: &[CollectorInfo] = &[
    collector("cpu", "CPU time by core and mode"),
    collector("stat", "Interrupts, context switches, forks, boot time"),
    collector("meminfo", "Memory of the node"),
    collector("vmstat", "Paging events"),
    collector("loadavg", "Load averages"),
    collector("pressure", "Pressure stall information"),
    collector("diskstats", "Block devices"),
    collector("filesystem", "Space and inodes of file systems"),
    collector("netdev", "Traffic of network interfaces"),
    collector("netstat", "Protocol counters"),
    collector("sockstat", "Sockets in use"),
    collector("filefd", "Open files"),
    collector("netclass", "Properties of network interfaces"),
    collector("softnet", "Packet processing by CPU"),
    collector("arp", "Neighbours by interface"),
    collector("conntrack", "Connection tracking"),
    collector("udp_queues", "Bytes waiting in UDP sockets"),
    collector("schedstat", "Scheduling by CPU"),
    collector("entropy", "Bits of entropy"),
    collector("kernel_hung", "Tasks found hung"),
    collector("mdadm", "Software RAID"),
    collector("bonding", "Bonded network interfaces"),
    collector("textfile", "Files *.prom of --collector.textfile.directory"),
    collector("machine", "Cores and memory, by cAdvisor's names"),
    collector("uname", "Kernel release and node name"),
    collector("os", "Operating system"),
    collector("time", "Time and clock sources"),
    collector("timex", "Discipline of the clock"),
    collector("cpufreq", "Frequencies of CPUs"),
    collector("thermal_zone", "Thermal zones and what cools them"),
    collector("dmi", "The machine, by its firmware"),
    collector("hwmon", "Sensors"),
    collector("selinux", "Mode of SELinux"),
    collector("xfs", "XFS file systems"),
    collector("btrfs", "Btrfs file systems"),
    collector("zfs", "The ZFS module and its pools"),
    collector("stacked", "Block devices that lie on others"),
    collector(up::UP, "Which scrape jobs' place the agent takes"),
    collector("cgroup", "Containers, pods, units"),
    collector(
        "kubelet",
        "Pods and their storage, by what the kubelet says",
    ),
    collector(
        KUBELET_METRICS,
        "What the kubelet measures about itself, families of --kubelet.metrics",
    ),
];

/// Which collectors the operator switched.
#[derive(Debug, Clone, Default)]
pub struct Switches {
    off: Vec<&'static str>,
}

impl Switches {
    /// Switches a collector.
    pub fn set(&mut self, name: &'static str, is_on: bool) {
        self.off.retain(|other| *other != name);
        if !is_on {
            self.off.push(name);
        }
    }

    /// Whether a collector runs.
    #[must_use]
    pub fn is_on(&self, name: &str) -> bool {
        !self.off.contains(&name)
    }
}

/// Why collectors could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An expression of a flag.
    #[error("--{flag}")]
    Regex {
        /// The flag.
        flag: &'static str,
        /// What is wrong with it.
        source: regex::Error,
    },
    /// No cgroup hierarchy.
    #[error("--path.cgroupfs")]
    Cgroup(#[source] io::Error),
}

/// The collectors that `config` asks for, with what the kubelet says where there is one.
///
/// # Errors
/// See [`BuildError`].
pub fn build(config: &Config, kubelet: Option<&KubeletData>) -> Result<Collectors, BuildError> {
    let roots = Roots {
        proc: config.path_procfs.clone(),
        sys: config.path_sysfs.clone(),
        cgroup: config.path_cgroupfs.clone(),
        root: config.path_rootfs.clone(),
    };
    let mut collectors = Collectors::default();
    add_node(&mut collectors, config, &roots)?;
    if config.collectors.is_on("cgroup") {
        let names = kubelet.map(|data| data.names.clone());
        collectors
            .try_add(|errors| Cgroups::new(&roots, names, errors).map_err(BuildError::Cgroup))?;
    }
    let asked = kubelet.filter(|_| config.collectors.is_on("kubelet"));
    if let Some(data) = kubelet.filter(|_| config.collectors.is_on(KUBELET_METRICS)) {
        collectors.add(|_| KubeletMetrics::new(data.clone()));
    }
    if config.collectors.is_on(up::UP) {
        collectors.add(|_| up::Up::new(config.collectors.is_on("cgroup"), asked.cloned()));
    }
    if let Some(data) = asked {
        let node = config.node_name.clone().unwrap_or_default();
        collectors.add(|_| Kubelet::new(data.clone(), node, config.kubelet_pod_labels.clone()));
    }
    // After all others, whose names it must not take.
    if let Some(directory) = config
        .textfile_directory
        .clone()
        .filter(|_| config.collectors.is_on("textfile"))
    {
        collectors.add(|_| node::textfile::Textfile::new(directory));
    }
    Ok(collectors)
}

fn add_node(collectors: &mut Collectors, config: &Config, roots: &Roots) -> Result<(), BuildError> {
    macro_rules! add {
        ($name:literal, $make:expr) => {
            if config.collectors.is_on($name) {
                let make: fn(&Roots, &mut ReadErrors) -> _ = $make;
                collectors.add(|errors| make(roots, errors));
            }
        };
    }
    add!("cpu", node::cpu::Cpu::new);
    add!("stat", node::stat::Stat::new);
    add!("meminfo", node::meminfo::Meminfo::new);
    add!("vmstat", node::vmstat::Vmstat::new);
    add!("loadavg", node::loadavg::Loadavg::new);
    add!("pressure", node::pressure::NodePressure::new);
    add!("diskstats", node::diskstats::Diskstats::new);
    add!("netstat", node::netstat::Netstat::new);
    add!("sockstat", node::sockstat::Sockstat::new);
    add!("filefd", node::filefd::Filefd::new);
    add!("os", node::os::Os::new);
    add!("softnet", node::softnet::Softnet::new);
    add!("arp", node::arp::Arp::new);
    add!("conntrack", node::conntrack::Conntrack::new);
    add!("udp_queues", node::udp_queues::UdpQueues::new);
    add!("schedstat", node::schedstat::Schedstat::new);
    add!("entropy", node::numbers::Numbers::entropy);
    add!("kernel_hung", node::numbers::Numbers::kernel_hung);
    add!("mdadm", node::mdadm::Mdadm::new);
    add!("bonding", node::bonding::Bonding::new);
    add!("machine", machine::Machine::new);
    add!("cpufreq", node::hardware::Hardware::cpufreq);
    add!("thermal_zone", node::hardware::Hardware::thermal_zone);
    add!("dmi", node::hardware::Hardware::dmi);
    add!("hwmon", node::hardware::Hardware::hwmon);
    add!("selinux", node::hardware::Hardware::selinux);
    add!("xfs", node::hardware::Hardware::xfs);
    add!("btrfs", node::hardware::Hardware::btrfs);
    add!("zfs", node::hardware::Hardware::zfs);
    add!("stacked", node::hardware::Hardware::stacked);
    add!("time", node::time::Time::new);
    add!("timex", |_, _| node::time::timex::Timex::default());
    if config.collectors.is_on("uname") {
        // In a pod uname says the pod's name.
        let nodename = std::env::var_os("POD_NAME").and(config.node_name.clone());
        collectors.add(|_| node::uname::Uname::new(nodename));
    }
    add_filtered(collectors, config, roots)
}

/// Those that leave out what the operator does not want.
fn add_filtered(
    collectors: &mut Collectors,
    config: &Config,
    roots: &Roots,
) -> Result<(), BuildError> {
    let exclude = &config.netdev_exclude;
    let regex = |source| BuildError::Regex {
        flag: "collector.netdev.device-exclude",
        source,
    };
    if config.collectors.is_on("netdev") {
        collectors
            .try_add(|errors| node::netdev::Netdev::new(roots, exclude, errors).map_err(regex))?;
    }
    if config.collectors.is_on("netclass") {
        collectors.try_add(|errors| {
            node::netclass::Netclass::new(roots, exclude, errors).map_err(regex)
        })?;
    }
    if config.collectors.is_on("filesystem") {
        let regex = |source| BuildError::Regex {
            flag: "collector.filesystem.*-exclude",
            source,
        };
        collectors.try_add(|errors| {
            let (mountpoints, types) = (
                &config.filesystem_mountpoints_exclude,
                &config.filesystem_types_exclude,
            );
            node::filesystem::Filesystem::new(roots, mountpoints, types, errors).map_err(regex)
        })?;
    }
    Ok(())
}
