//! The node's own values, under node_exporter's names and with its meaning.

use std::path::{Path, PathBuf};

pub mod arp;
pub mod bonding;
pub mod conntrack;
pub mod cpu;
pub mod diskstats;
pub mod filefd;
pub mod filesystem;
pub mod hardware;
pub mod loadavg;
pub mod mdadm;
pub mod meminfo;
pub mod mountinfo;
pub mod netclass;
pub mod netdev;
pub mod netstat;
pub mod numbers;
pub mod os;
pub mod per_line;
pub mod pressure;
pub mod schedstat;
pub mod sockstat;
pub mod softnet;
pub mod stat;
pub mod textfile;
pub mod time;
pub mod udp_queues;
pub mod uname;
pub mod vmstat;

/// Where this process sees the host's file trees.
#[derive(Debug, Clone)]
pub struct Roots {
    /// The host's /proc.
    pub proc: PathBuf,
    /// The host's /sys.
    pub sys: PathBuf,
    /// The host's /sys/fs/cgroup.
    pub cgroup: PathBuf,
    /// The host's /.
    pub root: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            proc: "/proc".into(),
            sys: "/sys".into(),
            cgroup: "/sys/fs/cgroup".into(),
            root: "/".into(),
        }
    }
}

impl Roots {
    /// A file of the host's network namespace. /proc/net belongs to the reader's namespace, process 1 to the host's.
    #[must_use]
    pub fn proc_net(&self, name: &str) -> PathBuf {
        let host = self.proc.join("1/net").join(name);
        let found = host.try_exists().unwrap_or(false);
        if found {
            host
        } else {
            self.proc.join("net").join(name)
        }
    }

    /// A path of the host as this process sees it.
    #[must_use]
    pub fn host_path(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}
