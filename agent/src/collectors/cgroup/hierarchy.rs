//! The cgroup hierarchies of this machine.

use std::io;
use std::path::{Path, PathBuf};

/// The controllers of cgroup v1 that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    /// CPU bandwidth.
    Cpu,
    /// CPU time.
    Cpuacct,
    /// Memory.
    Memory,
    /// Block I/O.
    Blkio,
    /// Tasks.
    Pids,
    /// Huge pages.
    Hugetlb,
}

impl Controller {
    const ALL: [Self; 6] = [
        Self::Cpu,
        Self::Cpuacct,
        Self::Memory,
        Self::Blkio,
        Self::Pids,
        Self::Hugetlb,
    ];

    /// The name of its directory.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Memory => "memory",
            Self::Blkio => "blkio",
            Self::Pids => "pids",
            Self::Hugetlb => "hugetlb",
        }
    }
}

/// Where the cgroups are mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hierarchy {
    /// One tree with all controllers (pure v2).
    Unified(PathBuf),
    /// One tree per controller (v1), plus a v2 tree on hybrid machines.
    Split(Split),
}

/// The trees of a v1 or hybrid machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    controllers: [Option<PathBuf>; Controller::ALL.len()],
    /// The v2 tree, which has pressure and the controllers that v1 does not claim.
    pub unified: Option<PathBuf>,
}

impl Split {
    /// The tree of a controller; `None` if it is off.
    #[must_use]
    pub fn tree(&self, controller: Controller) -> Option<&Path> {
        self.controllers[controller as usize].as_deref()
    }
}

impl Hierarchy {
    /// Inspects `root`, the host's /sys/fs/cgroup. The result holds until reboot.
    ///
    /// A v2 tree has `cgroup.controllers`; no v1 tree does. Controllers that are mounted together (`cpu,cpuacct`) are
    /// found by that name, with or without symbolic links.
    ///
    /// # Errors
    /// `root` can't be listed, or has no hierarchy.
    pub fn detect(root: &Path) -> io::Result<Self> {
        if root.join("cgroup.controllers").try_exists()? {
            return Ok(Self::Unified(root.to_owned()));
        }
        let mut controllers = [const { None }; Controller::ALL.len()];
        for entry in std::fs::read_dir(root)? {
            let name = entry?.file_name();
            let mounted = name.to_string_lossy();
            for controller in Controller::ALL {
                let path = &mut controllers[controller as usize];
                // If a controller is mounted twice, the shorter path wins, as in the kubelet.
                if path.is_none() && mounted.split(',').any(|part| part == controller.name()) {
                    *path = Some(root.join(&name));
                }
            }
        }
        let unified = root.join("unified");
        let has_unified = unified.join("cgroup.controllers").try_exists()?;
        if controllers.iter().all(Option::is_none) && !has_unified {
            let message = format!("no cgroup hierarchy below {}", root.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        Ok(Self::Split(Split {
            controllers,
            unified: has_unified.then_some(unified),
        }))
    }

    /// The trees to search for cgroups. A cgroup may exist in only some of them.
    #[must_use]
    pub fn trees(&self) -> Vec<&Path> {
        match self {
            Self::Unified(root) => vec![root],
            Self::Split(split) => {
                let found: Vec<&Path> = [Controller::Memory, Controller::Cpuacct]
                    .into_iter()
                    .filter_map(|controller| split.tree(controller))
                    .collect();
                let any = Controller::ALL
                    .into_iter()
                    .find_map(|controller| split.tree(controller));
                if found.is_empty() {
                    any.or(split.unified.as_deref()).into_iter().collect()
                } else {
                    found
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn three_kinds_of_machine_are_distinguished() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Hierarchy::detect(dir.path()).is_err());
        for name in ["cpu,cpuacct", "memory", "systemd", "unified"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let Hierarchy::Split(split) = Hierarchy::detect(dir.path()).unwrap() else {
            panic!()
        };
        assert_eq!(
            split.tree(Controller::Cpuacct),
            Some(&*dir.path().join("cpu,cpuacct"))
        );
        assert_eq!(
            (split.tree(Controller::Pids), &split.unified),
            (None, &None)
        );
        fs::write(dir.path().join("unified/cgroup.controllers"), "hugetlb\n").unwrap();
        let Hierarchy::Split(split) = Hierarchy::detect(dir.path()).unwrap() else {
            panic!()
        };
        assert_eq!(split.unified, Some(dir.path().join("unified")));
        fs::write(dir.path().join("cgroup.controllers"), "cpu\n").unwrap();
        let found = Hierarchy::detect(dir.path()).unwrap();
        assert_eq!(found, Hierarchy::Unified(dir.path().to_owned()));
    }
}
