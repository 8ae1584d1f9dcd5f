//! A cgroup of version 2: one directory with all controllers. Every file may be missing on its own.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::blkio;
use super::devices::Devices;
use super::metric::{Metric, Values};
use super::nested;
use super::reader::{self, Gone, Layouts, Reader, limit_or_max, number, open_dir, open_hot};
use super::v1::working_set;
use crate::collectors::node::pressure::parse_pressure;
use crate::parse;

const CPU_STAT: &CStr = c"cpu.stat";
const MEMORY_CURRENT: &CStr = c"memory.current";
const MEMORY_STAT: &CStr = c"memory.stat";

/// Its directory, and the files read every tick.
#[derive(Debug)]
pub struct V2 {
    dir: Option<OwnedFd>,
    cpu_stat: Option<File>,
    memory_current: Option<File>,
    memory_stat: Option<File>,
    has_quota: bool,
    /// Whether a cgroup inside may have the processes and limits.
    may_nest: bool,
    /// Whether that has a quota.
    has_quota_inside: bool,
    is_root: bool,
}

impl V2 {
    /// Opens the cgroup at `path` (with a leading slash) below `root`.
    #[must_use]
    pub fn open(root: &Path, path: &str) -> Self {
        let relative = path.trim_start_matches('/');
        let dir = open_dir(&root.join(relative));
        Self {
            cpu_stat: open_hot(dir.as_ref(), CPU_STAT),
            memory_current: open_hot(dir.as_ref(), MEMORY_CURRENT),
            memory_stat: open_hot(dir.as_ref(), MEMORY_STAT),
            dir,
            has_quota: false,
            may_nest: nested::may_nest(path),
            has_quota_inside: false,
            is_root: relative.is_empty(),
        }
    }

    /// The directory.
    #[must_use]
    pub const fn dir(&self) -> Option<&OwnedFd> {
        self.dir.as_ref()
    }

    /// CPU and memory.
    ///
    /// # Errors
    /// The cgroup has gone.
    pub fn read_fast(&self, reader: &mut Reader<'_>, values: &mut Values) -> Result<(), Gone> {
        let stat = reader.hot(self.cpu_stat.as_ref(), CPU_STAT, |data, layouts| {
            layouts.v2_cpu.pick(data)
        })?;
        self.set_cpu(values, stat.unwrap_or_default());
        let usage = reader.hot(self.memory_current.as_ref(), MEMORY_CURRENT, number)?;
        let stat = reader.hot(self.memory_stat.as_ref(), MEMORY_STAT, |data, layouts| {
            layouts.v2_memory.pick(data)
        })?;
        self.set_memory(values, usage, stat.unwrap_or_default());
        Ok(())
    }

    fn set_cpu(&self, values: &mut Values, stat: [Option<u64>; 8]) {
        let [
            usage,
            user,
            system,
            periods,
            throttled,
            throttled_usec,
            bursts,
            burst_usec,
        ] = stat;
        let seconds = |microseconds: u64| microseconds as f64 / 1e6;
        values.set_some(Metric::CpuUsage, usage.map(seconds));
        values.set_some(Metric::CpuUser, user.map(seconds));
        values.set_some(Metric::CpuSystem, system.map(seconds));
        if self.has_quota {
            set_throttling(
                values,
                [periods, throttled, throttled_usec, bursts, burst_usec],
            );
        }
    }

    fn set_memory(&self, values: &mut Values, usage: Option<f64>, stat: [Option<u64>; 10]) {
        let stat = stat.map(|value| value.map(|value| value as f64));
        let [
            anon,
            file,
            kernel,
            mapped,
            dirty,
            writeback,
            inactive,
            active,
            faults,
            major,
        ] = stat;
        // The root has no memory.current; the kubelet takes the sum of what its memory.stat has.
        let root_usage = || Some(anon? + file?);
        let usage = usage.or_else(|| if self.is_root { root_usage() } else { None });
        for (metric, value) in [
            (Metric::MemoryUsage, usage),
            (Metric::MemoryRss, anon),
            (Metric::MemoryCache, file),
            (Metric::MemoryKernel, kernel),
            (Metric::MemoryMappedFile, mapped),
            (Metric::FileDirty, dirty),
            (Metric::FileWriteback, writeback),
            (Metric::MemoryInactiveFile, inactive),
            (Metric::MemoryActiveFile, active),
            // v2 counts the subtree only; cAdvisor gives it for both scopes.
            (Metric::Pgfault, faults),
            (Metric::Pgmajfault, major),
            (Metric::PgfaultTotal, faults),
            (Metric::PgmajfaultTotal, major),
            (Metric::MemoryWorkingSet, working_set(usage, inactive)),
        ] {
            values.set_some(metric, value);
        }
    }

    /// Tasks, memory events, swap, pressure.
    pub fn read_medium(&self, reader: &mut Reader<'_>, values: &mut Values) {
        let dir = self.dir.as_ref();
        values.set_some(Metric::MemoryMax, reader.cold(dir, c"memory.peak", number));
        values.set_some(
            Metric::MemorySwap,
            reader.cold(dir, c"memory.swap.current", number),
        );
        let events = reader.cold(dir, c"memory.events", |data, layouts| {
            layouts.v2_events.pick(data)
        });
        let [high, max, kills] = events.unwrap_or_default();
        values.set_some(Metric::MemoryEventsHigh, high.map(|count| count as f64));
        values.set_some(Metric::MemoryEventsMax, max.map(|count| count as f64));
        values.set_some(Metric::OomEvents, kills.map(|count| count as f64));
        values.set_some(Metric::Threads, reader.cold(dir, c"pids.current", number));
        values.set_some(
            Metric::Processes,
            reader.cold(dir, c"cgroup.procs", reader::count_lines),
        );
        read_pressure(dir, reader, values);
        if self.may_nest {
            nested::add_processes(dir, reader, values);
        }
        if self.has_quota_inside {
            let stat = reader.cold(dir, c"container/cpu.stat", |data, layouts| {
                layouts.v2_cpu.pick(data)
            });
            let [_, _, _, throttling @ ..] = stat.unwrap_or_default();
            set_throttling(values, throttling);
        }
    }

    /// Block I/O by device.
    pub fn read_io(&self, reader: &mut Reader<'_>, devices: &mut Devices) {
        devices.begin();
        reader.cold(self.dir.as_ref(), c"io.stat", |data, _: &mut Layouts| {
            blkio::parse_io_stat(data, |device, io| *devices.entry(device) = io).then_some(())
        });
    }

    /// Limits.
    pub fn read_slow(&mut self, reader: &mut Reader<'_>, values: &mut Values) {
        self.has_quota = read_limits(self.dir.as_ref(), reader, values);
        if self.is_root {
            values.set_some(Metric::SpecMemoryLimit, reader.memory_total_bytes);
        }
        let inside = nested::open(self.dir.as_ref().filter(|_| self.may_nest));
        if let Some(inside) = inside {
            let mut limits = Values::default();
            self.has_quota_inside = read_limits(Some(&inside), reader, &mut limits);
            nested::tighten(values, &limits);
        }
    }
}

/// Reads the limits in a directory. Returns whether there is one for CPU time.
fn read_limits(dir: Option<&OwnedFd>, reader: &mut Reader<'_>, values: &mut Values) -> bool {
    let bandwidth = reader.cold(dir, c"cpu.max", |data, _| parse_cpu_max(data));
    if let Some((quota, period)) = bandwidth {
        values.set_some(Metric::SpecCpuQuota, quota);
        values.set(Metric::SpecCpuPeriod, period);
    }
    for (metric, name) in [
        (Metric::SpecMemoryLimit, c"memory.max"),
        (Metric::SpecMemorySwapLimit, c"memory.swap.max"),
        (Metric::SpecMemoryReservation, c"memory.min"),
        (Metric::ThreadsMax, c"pids.max"),
    ] {
        values.set_some(metric, reader.cold(dir, name, limit_or_max));
    }
    matches!(bandwidth, Some((Some(_), _)))
}

/// Periods, throttled ones, microseconds of it, bursts, microseconds of them.
fn set_throttling(values: &mut Values, counts: [Option<u64>; 5]) {
    let [periods, throttled, throttled_usec, bursts, burst_usec] = counts;
    let seconds = |microseconds: u64| microseconds as f64 / 1e6;
    for (metric, value) in [
        (Metric::CfsPeriods, periods.map(|count| count as f64)),
        (
            Metric::CfsThrottledPeriods,
            throttled.map(|count| count as f64),
        ),
        (Metric::CfsThrottledSeconds, throttled_usec.map(seconds)),
        (Metric::CfsBurstPeriods, bursts.map(|count| count as f64)),
        (Metric::CfsBurstSeconds, burst_usec.map(seconds)),
    ] {
        values.set_some(metric, value);
    }
}

/// `<quota|max> <period>`, both in microseconds.
fn parse_cpu_max(data: &[u8]) -> Option<(Option<f64>, f64)> {
    let mut words = parse::words(data);
    let quota = match words.next()? {
        b"max" => None,
        quota => Some(parse::integer(quota)? as f64),
    };
    Some((quota, parse::integer(words.next()?)? as f64))
}

/// Pressure of a v2 cgroup; absent where the kernel or the cgroup has it off.
pub fn read_pressure(dir: Option<&OwnedFd>, reader: &mut Reader<'_>, values: &mut Values) {
    for (name, waiting, stalled) in [
        (c"cpu.pressure", Metric::CpuWaiting, Metric::CpuStalled),
        (
            c"memory.pressure",
            Metric::MemoryWaiting,
            Metric::MemoryStalled,
        ),
        (c"io.pressure", Metric::IoWaiting, Metric::IoStalled),
    ] {
        let totals = reader
            .cold(dir, name, |data, _| parse_pressure(data))
            .unwrap_or_default();
        let seconds = |microseconds: u64| microseconds as f64 / 1e6;
        values.set_some(waiting, totals.some_usec.map(seconds));
        values.set_some(stalled, totals.full_usec.map(seconds));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_max_with_and_without_quota() {
        assert_eq!(
            parse_cpu_max(b"20000 100000\n"),
            Some((Some(20000.0), 100_000.0))
        );
        assert_eq!(parse_cpu_max(b"max 100000\n"), Some((None, 100_000.0)));
        assert_eq!(parse_cpu_max(b"max\n"), None);
    }
}
