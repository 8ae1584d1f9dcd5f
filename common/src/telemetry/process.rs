//! The `process_*` metrics that Prometheus client libraries export, read from `/proc/self` by the crate `procfs`.

use procfs::process::{LimitValue, Process};
use procfs::{ProcResult, page_size, ticks_per_second};

use super::registry::Registry;
use crate::{metric, report};

/// Registers `process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_virtual_memory_bytes`,
/// `process_open_fds`, `process_max_fds`, `process_threads` and `process_start_time_seconds`.
///
/// Each value is read when the registry is rendered; a value that can't be read is `NaN`.
pub fn register_process_metrics(registry: &Registry) {
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
    .register_fn(
        registry,
        &[],
        or_nan(|process| Ok(resident(process)? as f64)),
    );
    metric!(
        Gauge,
        "process_virtual_memory_bytes",
        "Virtual memory size in bytes."
    )
    .register_fn(
        registry,
        &[],
        or_nan(|process| Ok(process.stat()?.vsize as f64)),
    );
    metric!(
        Gauge,
        "process_open_fds",
        "Number of open file descriptors."
    )
    .register_fn(
        registry,
        &[],
        or_nan(|process| Ok(process.fd_count()? as f64)),
    );
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
    .register_fn(
        registry,
        &[],
        or_nan(|process| Ok(process.stat()?.num_threads as f64)),
    );
    metric!(
        Gauge,
        "process_start_time_seconds",
        "Start time of the process since the Unix epoch in seconds."
    )
    .register_fn(registry, &[], or_nan(start_time_seconds));
}

/// Resident memory of this process in bytes, mapped files (its code) included. `None` if `/proc` can't be read.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    logged(Process::myself().and_then(|process| resident(&process)))
}

fn or_nan(read: fn(&Process) -> ProcResult<f64>) -> impl Fn() -> f64 + Send + Sync + 'static {
    move || logged(Process::myself().and_then(|process| read(&process))).unwrap_or(f64::NAN)
}

/// Logs at debug level only: the same error would repeat at every scrape.
fn logged<T>(result: ProcResult<T>) -> Option<T> {
    result
        .inspect_err(|error| {
            tracing::debug!(error = report::chain(error), "read /proc/self");
        })
        .ok()
}

/// Reads `statm`, which the kernel formats several times faster than `status`.
fn resident(process: &Process) -> ProcResult<u64> {
    Ok(process.statm()?.resident * page_size())
}

fn cpu_seconds(process: &Process) -> ProcResult<f64> {
    let stat = process.stat()?;
    Ok((stat.utime + stat.stime) as f64 / ticks_per_second() as f64)
}

/// The boot time is cached per thread, so the result does not move when the wall clock steps.
fn start_time_seconds(process: &Process) -> ProcResult<f64> {
    let since_boot = process.stat()?.starttime as f64 / ticks_per_second() as f64;
    Ok(procfs::boot_time_secs()? as f64 + since_boot)
}

fn descriptors_max(process: &Process) -> ProcResult<f64> {
    Ok(match process.limits()?.max_open_files.soft_limit {
        LimitValue::Unlimited => f64::INFINITY,
        LimitValue::Value(limit) => limit as f64,
    })
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
        let values: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(values.len(), 7, "{text}");
        let bad: Vec<_> = values.iter().filter(|line| line.ends_with("NaN")).collect();
        assert!(bad.is_empty(), "{bad:?}");
    }

    #[test]
    fn values_are_plausible() {
        let process = Process::myself().unwrap();
        assert!(resident_bytes().unwrap() > 100_000);
        assert!(start_time_seconds(&process).unwrap() > 1_700_000_000.0);
        assert!(process.fd_count().unwrap() >= 3);
        assert!(descriptors_max(&process).unwrap() >= process.fd_count().unwrap() as f64);
    }
}
