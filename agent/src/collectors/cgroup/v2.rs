//! A v2 cgroup: one directory with all controllers. Each file may be missing on its own.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::blkio;
use super::devices::Devices;
use super::metric::{Metric, Values};
use super::nested::{self, Bandwidth, Nested, Throttling, larger, tighter, tighter_bandwidth};
use super::reader::{self, Gone, Layouts, Reader, limit_or_max, number, open_dir, open_kept};
use super::v1::working_set;
use crate::collectors::node::pressure::parse_pressure;
use crate::parse;

const CPU_STAT: &CStr = c"cpu.stat";
const MEMORY_CURRENT: &CStr = c"memory.current";
const MEMORY_STAT: &CStr = c"memory.stat";

/// Its directory, and the files that are read at every tick.
#[derive(Debug)]
pub struct V2 {
    dir: Option<OwnedFd>,
    cpu_stat: Option<File>,
    memory_current: Option<File>,
    memory_stat: Option<File>,
    has_quota: bool,
    is_root: bool,
    is_container: bool,
    /// crun's cgroup below a container's scope; looked up with the slow values.
    nested: Option<Nested>,
}

impl V2 {
    /// Opens the cgroup at `path` (with a leading slash) below `root`. A container's may have an inner cgroup.
    #[must_use]
    pub fn open(root: &Path, path: &str, is_container: bool) -> Self {
        let relative = path.trim_start_matches('/');
        let dir = open_dir(&root.join(relative));
        Self {
            cpu_stat: open_kept(dir.as_ref(), CPU_STAT),
            memory_current: open_kept(dir.as_ref(), MEMORY_CURRENT),
            memory_stat: open_kept(dir.as_ref(), MEMORY_STAT),
            dir,
            has_quota: false,
            is_root: relative.is_empty(),
            is_container,
            nested: None,
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
        let stat = reader.read_kept(self.cpu_stat.as_ref(), CPU_STAT, |data, layouts| {
            layouts.v2_cpu.pick(data)
        })?;
        let nested = self.nested.as_ref();
        let nested = nested.and_then(|nested| nested.throttling(reader));
        self.set_cpu(values, stat.unwrap_or_default(), nested.unwrap_or_default());
        let usage = reader.read_kept(self.memory_current.as_ref(), MEMORY_CURRENT, number)?;
        let stat = reader.read_kept(self.memory_stat.as_ref(), MEMORY_STAT, |data, layouts| {
            layouts.v2_memory.pick(data)
        })?;
        self.set_memory(values, usage, stat.unwrap_or_default());
        Ok(())
    }

    fn set_cpu(&self, values: &mut Values, stat: [Option<u64>; 8], nested: Throttling) {
        let [usage, user, system, throttling @ ..] = stat;
        let [periods, throttled, throttled_usec, bursts, burst_usec] = larger(throttling, nested);
        let seconds = |microseconds: u64| microseconds as f64 / 1e6;
        values.set_some(Metric::CpuUsage, usage.map(seconds));
        values.set_some(Metric::CpuUser, user.map(seconds));
        values.set_some(Metric::CpuSystem, system.map(seconds));
        if self.has_quota {
            values.set_some(Metric::CfsPeriods, periods.map(|count| count as f64));
            values.set_some(
                Metric::CfsThrottledPeriods,
                throttled.map(|count| count as f64),
            );
            values.set_some(Metric::CfsThrottledSeconds, throttled_usec.map(seconds));
            values.set_some(Metric::CfsBurstPeriods, bursts.map(|count| count as f64));
            values.set_some(Metric::CfsBurstSeconds, burst_usec.map(seconds));
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
            errors,
            major,
        ] = stat;
        // The root has no memory.current. The kubelet sums these two instead.
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
            // v2 counts only the subtree; cAdvisor exports that for both scopes.
            (Metric::Pgfault, errors),
            (Metric::Pgmajfault, major),
            (Metric::PgfaultTotal, errors),
            (Metric::PgmajfaultTotal, major),
            (Metric::MemoryWorkingSet, working_set(usage, inactive)),
        ] {
            values.set_some(metric, value);
        }
    }

    /// Tasks, memory events, swap, pressure.
    pub fn read_medium(&self, reader: &mut Reader<'_>, values: &mut Values) {
        let dir = self.dir.as_ref();
        values.set_some(
            Metric::MemoryMax,
            reader.open_and_read(dir, c"memory.peak", number),
        );
        values.set_some(
            Metric::MemorySwap,
            reader.open_and_read(dir, c"memory.swap.current", number),
        );
        let events = reader.open_and_read(dir, c"memory.events", |data, layouts| {
            layouts.v2_events.pick(data)
        });
        let [high, max, kills] = events.unwrap_or_default();
        values.set_some(Metric::MemoryEventsHigh, high.map(|count| count as f64));
        values.set_some(Metric::MemoryEventsMax, max.map(|count| count as f64));
        values.set_some(Metric::OomEvents, kills.map(|count| count as f64));
        self.read_tasks(reader, values);
        read_pressure(dir, reader, values);
    }

    /// A threaded cgroup lists its threads but not its processes, whose threads may be in several cgroups.
    fn read_tasks(&self, reader: &mut Reader<'_>, values: &mut Values) {
        let dir = self.dir.as_ref();
        let own = reader.open_and_read(dir, c"cgroup.procs", reader::count_lines);
        let processes = match &self.nested {
            Some(_) => own.map(|own| own + nested::processes(dir, reader)),
            None => own,
        };
        values.set_some(Metric::Processes, processes);
        let mut threads = reader.open_and_read(dir, c"pids.current", number);
        if threads.is_none() && own.is_none() {
            threads = reader.open_and_read(dir, c"cgroup.threads", reader::count_lines);
        }
        values.set_some(Metric::Threads, threads);
    }

    /// Block I/O by device.
    pub fn read_io(&self, reader: &mut Reader<'_>, devices: &mut Devices) {
        devices.begin();
        reader.open_and_read(self.dir.as_ref(), c"io.stat", |data, _: &mut Layouts| {
            blkio::parse_io_stat(data, |device, io| *devices.entry(device) = io).then_some(())
        });
    }

    /// Limits.
    pub fn read_slow(&mut self, reader: &mut Reader<'_>, values: &mut Values) {
        let dir = self.dir.as_ref();
        self.nested = dir.filter(|_| self.is_container).and_then(Nested::open);
        let nested = self.nested.as_ref().map(Nested::dir);
        let bandwidth = tighter_bandwidth(
            reader.open_and_read(dir, c"cpu.max", |data, _| parse_cpu_max(data)),
            reader.open_and_read(nested, c"cpu.max", |data, _| parse_cpu_max(data)),
        );
        self.has_quota = matches!(bandwidth, Some((Some(_), _)));
        if let Some((quota, period)) = bandwidth {
            values.set_some(Metric::SpecCpuQuota, quota);
            values.set(Metric::SpecCpuPeriod, period);
        }
        let mut limit = |name| {
            let scope = reader.open_and_read(dir, name, limit_or_max);
            tighter(scope, reader.open_and_read(nested, name, limit_or_max))
        };
        values.set_some(Metric::SpecMemorySwapLimit, limit(c"memory.swap.max"));
        values.set_some(Metric::ThreadsMax, limit(c"pids.max"));
        let limit = limit(c"memory.max");
        let limit = if self.is_root {
            reader.memory_total_bytes.or(limit)
        } else {
            limit
        };
        values.set_some(Metric::SpecMemoryLimit, limit);
        // A reservation is not a limit: the cgroup where it is set decides.
        let reserved = reader.open_and_read(dir, c"memory.min", limit_or_max);
        let nested = reader.open_and_read(nested, c"memory.min", limit_or_max);
        values.set_some(
            Metric::SpecMemoryReservation,
            reserved.map(|reserved| reserved.max(nested.unwrap_or_default())),
        );
    }
}

/// `<quota|max> <period>`.
fn parse_cpu_max(data: &[u8]) -> Option<Bandwidth> {
    let mut words = parse::words(data);
    let quota = match words.next()? {
        b"max" => None,
        quota => Some(parse::integer(quota)? as f64),
    };
    Some((quota, parse::integer(words.next()?)? as f64))
}

/// Reads the pressure of a v2 cgroup; absent if the kernel or the cgroup has it switched off.
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
            .open_and_read(dir, name, |data, _| parse_pressure(data))
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
