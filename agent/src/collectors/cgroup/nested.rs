//! The cgroup `container` that crun makes below a container's scope (cgroup driver systemd).
//!
//! Processes run in it. Settings may be in it, in the scope, or in both. Values that the kernel sums over the subtree
//! (CPU time, memory, I/O, tasks, events, pressure) are read from the scope, the others here.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::OwnedFd;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::reader::{self, Reader, open_kept};

const DIR: &CStr = c"container";
/// Processes of the inner cgroup, and of commands that CRI-O runs in the container (`exec`), relative to the scope.
const PROCS: [&CStr; 2] = [c"container/cgroup.procs", c"container/exec/cgroup.procs"];
const CPU_STAT: &CStr = c"cpu.stat";

/// Periods, throttled periods, throttled time, bursts and burst time, as in cpu.stat of v2.
pub type Throttling = [Option<u64>; 5];

/// The inner cgroup.
#[derive(Debug)]
pub struct Nested {
    dir: OwnedFd,
    cpu_stat: Option<File>,
}

impl Nested {
    /// The inner cgroup of the scope at `dir`; `None` if the runtime does not create one.
    #[must_use]
    pub fn open(dir: &OwnedFd) -> Option<Self> {
        let dir = open_inside(dir)?;
        Some(Self {
            cpu_stat: open_kept(Some(&dir), CPU_STAT),
            dir,
        })
    }

    /// The directory.
    #[must_use]
    pub const fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// Throttling by a quota on the inner cgroup. `None` if it has gone, which reading the scope reports.
    pub fn throttling(&self, reader: &mut Reader<'_>) -> Option<Throttling> {
        let stat = reader.read_kept(self.cpu_stat.as_ref(), CPU_STAT, |data, layouts| {
            layouts.v2_cpu.pick(data)
        });
        let [_usage, _user, _system, throttling @ ..] = stat.ok()??;
        Some(throttling)
    }
}

/// The directory of the inner cgroup; `None` if the runtime does not create one.
#[must_use]
pub fn open_inside(dir: &OwnedFd) -> Option<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, DIR, flags, Mode::empty()).ok()
}

/// Counts processes of the inner cgroup below `dir`.
pub fn processes(dir: Option<&OwnedFd>, reader: &mut Reader<'_>) -> f64 {
    let counts = PROCS.map(|name| reader.open_and_read(dir, name, reader::count_lines));
    counts.into_iter().flatten().sum()
}

/// Quota (`None` for unlimited) and period, both in microseconds.
pub type Bandwidth = (Option<f64>, f64);

/// The bandwidth that allows less CPU time.
#[must_use]
pub fn tighter_bandwidth(scope: Option<Bandwidth>, nested: Option<Bandwidth>) -> Option<Bandwidth> {
    let share = |bandwidth: Option<Bandwidth>| {
        let (quota, period) = bandwidth?;
        Some(quota? / period)
    };
    match (share(scope), share(nested)) {
        (Some(own), Some(inner)) if inner < own => nested,
        (None, Some(_)) => nested,
        _ => scope.or(nested),
    }
}

/// The larger of each pair of throttling counters. A task waits for one quota at a time, so the other counter may not
/// move.
#[must_use]
pub fn larger(scope: Throttling, nested: Throttling) -> Throttling {
    std::array::from_fn(|index| scope[index].max(nested[index]))
}

/// The smaller of two limits, where 0 means unlimited.
#[must_use]
pub fn tighter(scope: Option<f64>, nested: Option<f64>) -> Option<f64> {
    match (scope, nested) {
        (Some(scope), Some(nested)) if scope > 0.0 && nested > 0.0 => Some(scope.min(nested)),
        (Some(scope), Some(nested)) => Some(scope.max(nested)),
        _ => scope.or(nested),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_which_0_is_none() {
        for (scope, nested, want) in [
            (Some(0.0), Some(5.0), Some(5.0)),
            (Some(5.0), Some(0.0), Some(5.0)),
            (Some(7.0), Some(5.0), Some(5.0)),
            (Some(0.0), Some(0.0), Some(0.0)),
            (None, Some(5.0), Some(5.0)),
            (None, None, None),
        ] {
            assert_eq!(tighter(scope, nested), want, "{scope:?} {nested:?}");
        }
    }
}
