//! A v1 cgroup: one directory in the tree of each controller.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::OwnedFd;

use super::blkio::{self, Operation};
use super::devices::Devices;
use super::hierarchy::{Controller, Split};
use super::hugetlb::Tree;
use super::metric::{Metric, Values};
use super::nested::{self, Bandwidth, Throttling, larger, tighter, tighter_bandwidth};
use super::reader::{
    self, Gone, Layouts, Reader, limit_or_max, limit_v1, number, open_dir, open_kept,
};
use super::v2;
use crate::parse;

/// The unit of cpuacct.stat.
const TICKS_PER_SECOND: f64 = 100.0;

const CPUACCT_USAGE: &CStr = c"cpuacct.usage";
const CPUACCT_STAT: &CStr = c"cpuacct.stat";
const MEMORY_USAGE: &CStr = c"memory.usage_in_bytes";
const MEMORY_STAT: &CStr = c"memory.stat";

/// Its directories, and the files that are read at every tick.
#[derive(Debug)]
pub struct V1 {
    cpu: Option<OwnedFd>,
    memory: Option<OwnedFd>,
    blkio: Option<OwnedFd>,
    pids: Option<OwnedFd>,
    hugetlb: Option<OwnedFd>,
    any: Option<OwnedFd>,
    /// Its v2 counterpart on a hybrid machine, for pressure.
    unified: Option<OwnedFd>,
    cpuacct_usage: Option<File>,
    cpuacct_stat: Option<File>,
    memory_usage: Option<File>,
    memory_stat: Option<File>,
    has_quota: bool,
    is_container: bool,
    /// Whether crun created a cgroup below the container's; checked with the slow values.
    is_nested: bool,
    blkio_is_recursive: bool,
    is_root: bool,
}

impl V1 {
    /// Opens the cgroup at `path` (with a leading slash) in each tree that has it. A container's may have an inner
    /// cgroup.
    #[must_use]
    pub fn open(split: &Split, path: &str, is_container: bool) -> Self {
        let relative = path.trim_start_matches('/');
        let dir = |controller| open_dir(&split.tree(controller)?.join(relative));
        let (cpuacct, memory, pids) = (
            dir(Controller::Cpuacct),
            dir(Controller::Memory),
            dir(Controller::Pids),
        );
        let blkio = dir(Controller::Blkio);
        Self {
            cpuacct_usage: open_kept(cpuacct.as_ref(), CPUACCT_USAGE),
            cpuacct_stat: open_kept(cpuacct.as_ref(), CPUACCT_STAT),
            memory_usage: open_kept(memory.as_ref(), MEMORY_USAGE),
            memory_stat: open_kept(memory.as_ref(), MEMORY_STAT),
            blkio_is_recursive: open_kept(blkio.as_ref(), c"blkio.throttle.io_serviced_recursive")
                .is_some(),
            cpu: dir(Controller::Cpu),
            any: cpuacct,
            unified: split
                .unified
                .as_ref()
                .and_then(|root| open_dir(&root.join(relative))),
            memory,
            blkio,
            pids,
            hugetlb: dir(Controller::Hugetlb),
            has_quota: false,
            is_container,
            is_nested: false,
            is_root: relative.is_empty(),
        }
    }

    /// Whether all directories of a container exist. The runtime creates them one after the other.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.cpuacct_usage.is_some() && self.memory_usage.is_some()
    }

    /// A directory of the cgroup.
    #[must_use]
    pub fn dir(&self) -> Option<&OwnedFd> {
        self.memory
            .as_ref()
            .or(self.any.as_ref())
            .or(self.pids.as_ref())
            .or(self.blkio.as_ref())
    }

    /// Where huge pages are counted: v2 if v1 does not claim the controller.
    #[must_use]
    pub fn hugetlb(&self) -> Option<Tree<'_>> {
        let v1 = self.hugetlb.as_ref().map(Tree::V1);
        v1.or(self.unified.as_ref().map(Tree::V2))
    }

    /// CPU and memory.
    ///
    /// # Errors
    /// The cgroup has gone.
    pub fn read_fast(&self, reader: &mut Reader<'_>, values: &mut Values) -> Result<(), Gone> {
        let usage = reader.read_kept(self.cpuacct_usage.as_ref(), CPUACCT_USAGE, number)?;
        values.set_some(Metric::CpuUsage, usage.map(|nanoseconds| nanoseconds / 1e9));
        let stat =
            reader.read_kept(self.cpuacct_stat.as_ref(), CPUACCT_STAT, |data, layouts| {
                layouts.v1_cpuacct.pick(data)
            })?;
        let [user, system] = stat.unwrap_or_default();
        let seconds = |ticks: u64| ticks as f64 / TICKS_PER_SECOND;
        values.set_some(Metric::CpuUser, user.map(seconds));
        values.set_some(Metric::CpuSystem, system.map(seconds));
        let usage = reader.read_kept(self.memory_usage.as_ref(), MEMORY_USAGE, number)?;
        values.set_some(Metric::MemoryUsage, usage);
        let stat = reader.read_kept(self.memory_stat.as_ref(), MEMORY_STAT, |data, layouts| {
            layouts.v1_memory.pick(data)
        })?;
        set_memory(values, usage, stat.unwrap_or_default());
        Ok(())
    }

    /// Throttling, tasks, memory events, pressure.
    pub fn read_medium(&self, reader: &mut Reader<'_>, values: &mut Values) {
        if self.has_quota {
            self.read_throttling(reader, values);
        }
        let memory = self.memory.as_ref();
        values.set_some(
            Metric::MemoryMax,
            reader.open_and_read(memory, c"memory.max_usage_in_bytes", number),
        );
        values.set_some(
            Metric::MemoryFailcnt,
            reader.open_and_read(memory, c"memory.failcnt", number),
        );
        values.set_some(
            Metric::MemoryKernel,
            reader.open_and_read(memory, c"memory.kmem.usage_in_bytes", number),
        );
        let oom = reader.open_and_read(memory, c"memory.oom_control", |data, layouts| {
            layouts.v1_oom.pick(data)
        });
        values.set_some(
            Metric::OomEvents,
            oom.and_then(|[kills]| Some(kills? as f64)),
        );
        values.set_some(
            Metric::Threads,
            reader.open_and_read(self.pids.as_ref(), c"pids.current", number),
        );
        // The list omits processes without an ID in the agent's PID namespace. No count is better than a wrong one.
        if reader.sees_all_processes {
            let own = reader.open_and_read(self.dir(), c"cgroup.procs", reader::count_lines);
            let inside = match self.is_nested {
                true => nested::processes(self.dir(), reader),
                false => 0.0,
            };
            values.set_some(Metric::Processes, own.map(|own| own + inside));
        }
        v2::read_pressure(
            self.unified.as_ref().filter(|_| !self.is_root),
            reader,
            values,
        );
    }

    fn read_throttling(&self, reader: &mut Reader<'_>, values: &mut Values) {
        let mut stat = |name| -> Throttling {
            let stat = reader.open_and_read(self.cpu.as_ref(), name, |data, layouts| {
                layouts.v1_cpu.pick(data)
            });
            stat.unwrap_or_default()
        };
        let mut throttling = stat(c"cpu.stat");
        if self.is_nested {
            throttling = larger(throttling, stat(c"container/cpu.stat"));
        }
        let [
            periods,
            throttled,
            throttled_nanoseconds,
            bursts,
            burst_nanoseconds,
        ] = throttling;
        let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
        values.set_some(Metric::CfsPeriods, periods.map(|count| count as f64));
        values.set_some(
            Metric::CfsThrottledPeriods,
            throttled.map(|count| count as f64),
        );
        values.set_some(
            Metric::CfsThrottledSeconds,
            throttled_nanoseconds.map(seconds),
        );
        values.set_some(Metric::CfsBurstPeriods, bursts.map(|count| count as f64));
        values.set_some(Metric::CfsBurstSeconds, burst_nanoseconds.map(seconds));
    }

    /// Block I/O by device.
    pub fn read_io(&self, reader: &mut Reader<'_>, devices: &mut Devices) {
        let (bytes, operations) = if self.blkio_is_recursive {
            (
                c"blkio.throttle.io_service_bytes_recursive",
                c"blkio.throttle.io_serviced_recursive",
            )
        } else {
            (
                c"blkio.throttle.io_service_bytes",
                c"blkio.throttle.io_serviced",
            )
        };
        devices.begin();
        for (name, is_bytes) in [(bytes, true), (operations, false)] {
            reader.open_and_read(self.blkio.as_ref(), name, |data, _: &mut Layouts| {
                let understood = blkio::parse_blkio(data, |device, operation, count| {
                    let io = devices.entry(device);
                    let slot = match (operation, is_bytes) {
                        (Operation::Read, true) => &mut io.read_bytes,
                        (Operation::Write, true) => &mut io.write_bytes,
                        (Operation::Read, false) => &mut io.reads,
                        (Operation::Write, false) => &mut io.writes,
                    };
                    *slot = Some(count);
                });
                understood.then_some(())
            });
        }
    }

    /// Limits.
    pub fn read_slow(&mut self, reader: &mut Reader<'_>, values: &mut Values) {
        // The inner cgroup exists in every tree or in none.
        let tree = self.dir().filter(|_| self.is_container);
        self.is_nested = tree.and_then(nested::open_inside).is_some();
        let dirs = [&self.cpu, &self.memory, &self.pids].map(Option::as_ref);
        let mut limits = Limits::read(dirs, reader);
        if self.is_nested {
            let inside = dirs.map(|dir| dir.and_then(nested::open_inside));
            let inside = Limits::read(inside.each_ref().map(Option::as_ref), reader);
            limits = limits.with(&inside);
        }
        self.has_quota = matches!(limits.bandwidth, Some((Some(_), _)));
        if let Some((quota, period)) = limits.bandwidth {
            values.set_some(Metric::SpecCpuQuota, quota);
            values.set(Metric::SpecCpuPeriod, period);
        }
        if self.is_root {
            limits.memory = reader.memory_total_bytes.or(limits.memory);
        }
        for (metric, value) in [
            (Metric::SpecCpuShares, limits.shares),
            (Metric::SpecMemoryLimit, limits.memory),
            (Metric::SpecMemorySwapLimit, limits.swap),
            (Metric::SpecMemoryReservation, limits.reservation),
            (Metric::ThreadsMax, limits.threads),
        ] {
            values.set_some(metric, value);
        }
    }
}

/// Limits of one cgroup; 0 for none.
#[derive(Debug, Clone, Copy)]
struct Limits {
    bandwidth: Option<Bandwidth>,
    shares: Option<f64>,
    memory: Option<f64>,
    swap: Option<f64>,
    reservation: Option<f64>,
    threads: Option<f64>,
}

impl Limits {
    /// Reads the limits in the directories of CPU, memory and pids.
    fn read([cpu, memory, pids]: [Option<&OwnedFd>; 3], reader: &mut Reader<'_>) -> Self {
        let quota = reader.open_and_read(cpu, c"cpu.cfs_quota_us", |data, _| {
            parse::single_signed(data)
        });
        let quota = quota.filter(|&quota| quota > 0).map(|quota| quota as f64);
        let period = reader.open_and_read(cpu, c"cpu.cfs_period_us", number);
        Self {
            bandwidth: period.map(|period| (quota, period)),
            shares: reader.open_and_read(cpu, c"cpu.shares", number),
            memory: reader.open_and_read(memory, c"memory.limit_in_bytes", limit_v1),
            swap: reader.open_and_read(memory, c"memory.memsw.limit_in_bytes", limit_v1),
            reservation: reader.open_and_read(memory, c"memory.soft_limit_in_bytes", limit_v1),
            threads: reader.open_and_read(pids, c"pids.max", limit_or_max),
        }
    }

    /// Merges the inner cgroup's: the tighter limit holds, and requests are set on the inner one.
    fn with(self, inside: &Self) -> Self {
        let reservation = inside.reservation.filter(|reserved| *reserved > 0.0);
        Self {
            bandwidth: tighter_bandwidth(self.bandwidth, inside.bandwidth),
            shares: inside.shares.or(self.shares),
            memory: tighter(self.memory, inside.memory),
            swap: tighter(self.swap, inside.swap),
            reservation: reservation.or(self.reservation),
            threads: tighter(self.threads, inside.threads),
        }
    }
}

/// The keys `total_*` count the whole subtree, as v2 does. kubelet and containerd use them too.
fn set_memory(values: &mut Values, usage: Option<f64>, stat: [Option<u64>; 12]) {
    let stat = stat.map(|value| value.map(|value| value as f64));
    let [
        pgfault,
        pgmajfault,
        cache,
        rss,
        mapped,
        dirty,
        writeback,
        swap,
        errors,
        major,
        inactive,
        active,
    ] = stat;
    for (metric, value) in [
        (Metric::Pgfault, pgfault),
        (Metric::Pgmajfault, pgmajfault),
        (Metric::MemoryCache, cache),
        (Metric::MemoryRss, rss),
        (Metric::MemoryMappedFile, mapped),
        (Metric::FileDirty, dirty),
        (Metric::FileWriteback, writeback),
        (Metric::MemorySwap, swap),
        (Metric::PgfaultTotal, errors),
        (Metric::PgmajfaultTotal, major),
        (Metric::MemoryInactiveFile, inactive),
        (Metric::MemoryActiveFile, active),
        (Metric::MemoryWorkingSet, working_set(usage, inactive)),
    ] {
        values.set_some(metric, value);
    }
}

/// The kubelet's working set: usage minus the page cache that can be dropped at once, never below 0.
#[must_use]
pub fn working_set(usage: Option<f64>, inactive_file: Option<f64>) -> Option<f64> {
    Some((usage? - inactive_file?).max(0.0))
}
