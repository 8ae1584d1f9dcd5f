//! The `process_*` metrics that client libraries of Prometheus export, read from `/proc/self`.

use std::fs;
use std::io::Read as _;

use super::registry::Registry;
use crate::metric;

/// Registers `process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_virtual_memory_bytes`,
/// `process_open_fds`, `process_max_fds`, `process_threads` and `process_start_time_seconds`.
///
/// Each is read from `/proc/self` when it is rendered; what can't be read is `NaN`.
pub fn register_process_metrics(registry: &Registry) {
    let or_nan = |read: fn() -> Option<f64>| move || read().unwrap_or(f64::NAN);
    metric!(
        Counter,
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds."
    )
    .register_fn(registry, &[], or_nan(cpu_seconds));
    metric!(
        Gauge,
        "process_resident_memory_bytes",
        "Resident memory size in bytes."
    )
    .register_fn(registry, &[], or_nan(|| status_bytes("VmRSS:")));
    metric!(
        Gauge,
        "process_virtual_memory_bytes",
        "Virtual memory size in bytes."
    )
    .register_fn(registry, &[], or_nan(|| status_bytes("VmSize:")));
    metric!(
        Gauge,
        "process_open_fds",
        "Number of open file descriptors."
    )
    .register_fn(registry, &[], or_nan(open_descriptors));
    metric!(
        Gauge,
        "process_max_fds",
        "Maximum number of open file descriptors."
    )
    .register_fn(registry, &[], or_nan(descriptors_max));
    metric!(
        Gauge,
        "process_threads",
        "Number of operating-system threads."
    )
    .register_fn(registry, &[], or_nan(|| status_number("Threads:")));
    metric!(
        Gauge,
        "process_start_time_seconds",
        "Start time of the process since the Unix epoch in seconds."
    )
    .register_fn(registry, &[], or_nan(start_time_seconds));
}

/// Ticks of `USER_HZ`: fixed at 100 in the kernel's interface to user space (`include/asm-generic/param.h`).
const TICKS_PER_SECOND: f64 = 100.0;
/// More than the files of one process have.
const PROC_BYTES: usize = 4 << 10;

/// Reads a file of /proc at once: it says that it has no bytes, and without room for them it would be read in small pieces.
fn read_proc(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(PROC_BYTES);
    fs::File::open(path).ok()?.read_to_end(&mut bytes).ok()?;
    String::from_utf8(bytes).ok()
}

/// A field of `/proc/self/stat` by its number in proc_pid_stat(5), which counts from 1.
fn stat_field(number: usize) -> Option<f64> {
    let text = read_proc("/proc/self/stat")?;
    // The command in field 2 may hold blanks and brackets; what follows its last `)` is plain.
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(number - 3)?.parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    Some((stat_field(14)? + stat_field(15)?) / TICKS_PER_SECOND)
}

fn start_time_seconds() -> Option<f64> {
    let stat = read_proc("/proc/stat")?;
    let boot = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(boot.trim().parse::<f64>().ok()? + stat_field(22)? / TICKS_PER_SECOND)
}

fn status_number(key: &str) -> Option<f64> {
    let text = read_proc("/proc/self/status")?;
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// Bytes that this process has in memory, files that it maps (its code) included. `None`: `/proc` can't be read.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    status_bytes("VmRSS:").map(|bytes| bytes as u64)
}

/// The kernel states sizes in `kB`, which are 1024 bytes.
fn status_bytes(key: &str) -> Option<f64> {
    Some(status_number(key)? * 1024.0)
}

fn open_descriptors() -> Option<f64> {
    // Reading the directory opens one more, which is gone afterwards.
    Some(
        fs::read_dir("/proc/self/fd")
            .ok()?
            .count()
            .saturating_sub(1) as f64,
    )
}

fn descriptors_max() -> Option<f64> {
    let text = read_proc("/proc/self/limits")?;
    let rest = text
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match rest.split_ascii_whitespace().next()? {
        "unlimited" => Some(f64::INFINITY),
        limit => limit.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_has_every_metric() {
        let registry = Registry::default();
        register_process_metrics(&registry);
        let mut text = String::new();
        registry.render(&mut text);
        let values = text.lines().filter(|line| !line.starts_with('#'));
        let bad: Vec<_> = values.filter(|line| line.ends_with("NaN")).collect();
        assert!(bad.is_empty(), "{bad:?}");
        assert!(status_bytes("VmRSS:").unwrap() > 100_000.0);
        assert!(start_time_seconds().unwrap() > 1_700_000_000.0);
    }
}
