//! What CRI-O with crun keeps one level below a container's scope: processes lie in `crio-<id>.scope/container`, those of
//! `kubectl exec` in `exec` below that, and limits are set there. Usage is counted at the scope, for all below it.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::metric::{Metric, Values};
use super::reader::{Reader, count_lines};

/// Processes of the container and of what is executed in it.
const PROCS: [&CStr; 2] = [c"container/cgroup.procs", c"container/exec/cgroup.procs"];

/// Whether the cgroup at `path` may have such a one.
#[must_use]
pub fn may_nest(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    last.starts_with("crio-")
}

/// The cgroup inside of that in `scope`.
#[must_use]
pub fn open(scope: Option<&OwnedFd>) -> Option<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(scope?, c"container", flags, Mode::empty()).ok()
}

/// Adds the processes inside to those of `scope`.
pub fn add_processes(scope: Option<&OwnedFd>, reader: &mut Reader<'_>, values: &mut Values) {
    for name in PROCS {
        if let Some(count) = reader.cold(scope, name, count_lines) {
            let before = values.get(Metric::Processes).unwrap_or_default();
            values.set(Metric::Processes, before + count);
        }
    }
}

/// Takes over the limits inside where they are tighter, as the kernel does. 0 stands for none.
pub fn tighten(values: &mut Values, inside: &Values) {
    for metric in [
        Metric::SpecMemoryLimit,
        Metric::SpecMemorySwapLimit,
        Metric::ThreadsMax,
    ] {
        let limit = |values: &Values| values.get(metric).filter(|limit| *limit > 0.0);
        let tightest = [limit(values), limit(inside)].into_iter().flatten();
        let tightest = tightest.reduce(f64::min);
        values.set_some(metric, tightest.or_else(|| inside.get(metric)));
    }
    let cores = |values: &Values| {
        let period = values.get(Metric::SpecCpuPeriod)?;
        Some(values.get(Metric::SpecCpuQuota)? / period)
    };
    let is_tighter = match (cores(values), cores(inside)) {
        (Some(outside), Some(inside)) => inside < outside,
        (None, inside) => inside.is_some(),
        (Some(_), None) => false,
    };
    if is_tighter {
        for metric in [Metric::SpecCpuQuota, Metric::SpecCpuPeriod] {
            values.set_some(metric, inside.get(metric));
        }
    }
    // What a container is to get was asked for inside; the scope has the kernel's defaults.
    for metric in [Metric::SpecCpuShares, Metric::SpecMemoryReservation] {
        let asked = inside.get(metric).filter(|asked| *asked > 0.0);
        values.set_some(metric, asked);
    }
}
