//! The cgroup `container` that crun makes below a container's scope (cgroup driver systemd).
//!
//! The processes are in it, and settings may stand in it, in the scope, or in both. What the kernel counts over the subtree
//! (CPU time, memory, I/O, tasks, events, pressure) is read at the scope; the rest here.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::OwnedFd;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::reader::{self, Reader, open_kept};

const DIR: &CStr = c"container";
/// Processes here, and those of commands that CRI-O runs in the container (`exec`), seen from the scope.
const PROCS: [&CStr; 2] = [c"container/cgroup.procs", c"container/exec/cgroup.procs"];
const CPU_STAT: &CStr = c"cpu.stat";

/// Periods, throttled periods, throttled time, bursts, time of bursts; as cpu.stat of v2 has them.
pub type Throttling = [Option<u64>; 5];

/// The inner cgroup.
#[derive(Debug)]
pub struct Nested {
    dir: OwnedFd,
    cpu_stat: Option<File>,
}

impl Nested {
    /// The inner cgroup of the scope at `dir`; `None` where the runtime makes none.
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

    /// Throttling by a quota that stands here. `None` when the cgroup has gone, of which the scope tells.
    pub fn throttling(&self, reader: &mut Reader<'_>) -> Option<Throttling> {
        let stat = reader.read_kept(self.cpu_stat.as_ref(), CPU_STAT, |data, layouts| {
            layouts.v2_cpu.pick(data)
        });
        let [_usage, _user, _system, throttling @ ..] = stat.ok()??;
        Some(throttling)
    }
}

/// The directory of the inner cgroup; `None` where the runtime makes none.
#[must_use]
pub fn open_inside(dir: &OwnedFd) -> Option<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, DIR, flags, Mode::empty()).ok()
}

/// Processes of the inner cgroup in that at `dir`.
pub fn processes(dir: Option<&OwnedFd>, reader: &mut Reader<'_>) -> f64 {
    let counts = PROCS.map(|name| reader.open_and_read(dir, name, reader::count_lines));
    counts.into_iter().flatten().sum()
}

/// Quota, `None` for none, and period, both in microseconds.
pub type Bandwidth = (Option<f64>, f64);

/// The one that gives less CPU time.
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

/// Of two counts of throttling the larger each: a task waits for one quota at a time, and the other's counter may stand.
#[must_use]
pub fn larger(scope: Throttling, nested: Throttling) -> Throttling {
    std::array::from_fn(|index| scope[index].max(nested[index]))
}

/// The smaller of two limits, of which 0 means "none".
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
