//! Resource usage of a process as counted by the kernel.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// CPU time, memory and written bytes of a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// User and system time of all threads, including ended ones.
    pub cpu: Duration,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Peak of the resident memory.
    pub rss_peak_bytes: u64,
    /// Bytes written to the page cache for the disk.
    pub written_bytes: u64,
}

impl Usage {
    /// Reads the usage of process `pid`.
    ///
    /// # Errors
    /// The process has ended, or the kernel lacks the file.
    pub fn of(pid: u32) -> Result<Self> {
        let status = read(pid, "status")?;
        let io = read(pid, "io")?;
        Ok(Self {
            cpu: cpu_time(pid)?,
            rss_bytes: field(&status, "VmRSS:")? * 1024,
            rss_peak_bytes: field(&status, "VmHWM:")? * 1024,
            written_bytes: field(&io, "write_bytes:")?,
        })
    }

    /// Returns the combined usage of this process and its successor.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        Self {
            cpu: self.cpu + next.cpu,
            rss_bytes: next.rss_bytes,
            rss_peak_bytes: self.rss_peak_bytes.max(next.rss_peak_bytes),
            written_bytes: self.written_bytes + next.written_bytes,
        }
    }
}

fn read(pid: u32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).with_context(|| format!("read {path}"))
}

fn field(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    let number = number.with_context(|| format!("no field {name}"))?;
    number.parse().with_context(|| format!("parse {name}"))
}

/// Returns user and system time of all threads of `pid` in nanoseconds. `utime` and `stime` in `/proc/PID/stat` are too
/// coarse for one query: they count hundredths of a second.
///
/// # Errors
/// The process has ended.
#[expect(
    unsafe_code,
    reason = "nix offers the clock of another process only with a feature that the workspace does not enable"
)]
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let pid = libc::pid_t::try_from(pid).context("pid")?;
    let mut clock: libc::clockid_t = 0;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a live local of the type the call writes.
    let status = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if status != 0 {
        bail!("process {pid} has no clock: error {status}");
    }
    // SAFETY: `clock` was just obtained, the pointer is to a live local of the type the call writes.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(std::io::Error::last_os_error()).context("read the clock of a process");
    }
    Ok(Duration::new(
        time.tv_sec.try_into().context("CPU seconds")?,
        time.tv_nsec.try_into().context("CPU nanoseconds")?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_loop_is_seen_as_cpu_time_of_this_process() {
        let before = Usage::of(std::process::id()).unwrap();
        let mut sum = 0_u64;
        while cpu_time(std::process::id()).unwrap() < before.cpu + Duration::from_millis(5) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let after = Usage::of(std::process::id()).unwrap();
        assert!(after.cpu >= before.cpu + Duration::from_millis(5));
        assert!(after.rss_bytes > 0 && after.rss_peak_bytes >= after.rss_bytes / 2);
    }

    #[test]
    fn process_that_is_gone_is_an_error() {
        assert!(Usage::of(4_000_000).is_err());
    }
}
