//! The series of a cgroup under cAdvisor's names, and the values of one reading.

use crate::schema::{FamilyDef, counter, gauge};

/// Declares [`Metric`] and its table of families together, so that they can't diverge.
macro_rules! metrics {
    ($($variant:ident: $kind:ident $name:literal $labels:expr, $help:literal;)*) => {
        /// A value that a cgroup may have.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Metric { $(#[doc = $help] $variant,)* }

        impl Metric {
            /// Family and own labels, by metric number.
            pub const TABLE: &'static [(FamilyDef, &'static [(&'static str, &'static str)])] =
                &[$(($kind($name, $help), $labels),)*];
            /// Number of metrics.
            pub const COUNT: usize = Self::TABLE.len();
        }
    };
}

metrics! {
    CpuUsage: counter "container_cpu_usage_seconds_total" &[("cpu", "total")], "Cumulative cpu time consumed in seconds.";
    CpuUser: counter "container_cpu_user_seconds_total" &[], "Cumulative user cpu time consumed in seconds.";
    CpuSystem: counter "container_cpu_system_seconds_total" &[], "Cumulative system cpu time consumed in seconds.";
    CfsPeriods: counter "container_cpu_cfs_periods_total" &[], "Number of elapsed enforcement period intervals.";
    CfsThrottledPeriods: counter "container_cpu_cfs_throttled_periods_total" &[], "Number of throttled period intervals.";
    CfsThrottledSeconds: counter "container_cpu_cfs_throttled_seconds_total" &[], "Total time duration the container has been throttled.";
    CfsBurstPeriods: counter "container_cpu_cfs_burst_periods_total" &[], "Number of periods when burst occurs.";
    CfsBurstSeconds: counter "container_cpu_cfs_burst_seconds_total" &[], "Total time duration the container has been bursted.";
    MemoryUsage: gauge "container_memory_usage_bytes" &[], "Current memory usage in bytes, including all memory regardless of when it was accessed";
    MemoryWorkingSet: gauge "container_memory_working_set_bytes" &[], "Current working set in bytes.";
    MemoryRss: gauge "container_memory_rss" &[], "Size of RSS in bytes.";
    MemoryCache: gauge "container_memory_cache" &[], "Number of bytes of page cache memory.";
    MemoryMappedFile: gauge "container_memory_mapped_file" &[], "Size of memory mapped files in bytes.";
    MemorySwap: gauge "container_memory_swap" &[], "Container swap usage in bytes.";
    MemoryActiveFile: gauge "container_memory_total_active_file_bytes" &[], "Current total active file in bytes.";
    MemoryInactiveFile: gauge "container_memory_total_inactive_file_bytes" &[], "Current total inactive file in bytes.";
    MemoryKernel: gauge "container_memory_kernel_usage" &[], "Size of kernel memory allocated in bytes.";
    MemoryMax: gauge "container_memory_max_usage_bytes" &[], "Maximum memory usage recorded in bytes";
    MemoryFailcnt: counter "container_memory_failcnt" &[], "Number of memory usage hits limits";
    Pgfault: counter "container_memory_failures_total" &[("failure_type", "pgfault"), ("scope", "container")], "Cumulative count of memory allocation failures.";
    Pgmajfault: counter "container_memory_failures_total" &[("failure_type", "pgmajfault"), ("scope", "container")], "Cumulative count of memory allocation failures.";
    PgfaultTotal: counter "container_memory_failures_total" &[("failure_type", "pgfault"), ("scope", "hierarchy")], "Cumulative count of memory allocation failures.";
    PgmajfaultTotal: counter "container_memory_failures_total" &[("failure_type", "pgmajfault"), ("scope", "hierarchy")], "Cumulative count of memory allocation failures.";
    OomEvents: counter "container_oom_events_total" &[], "Count of out of memory events observed for the container";
    MemoryEventsHigh: counter "container_memory_events_high_total" &[], "Number of times the memory high boundary was exceeded.";
    MemoryEventsMax: counter "container_memory_events_max_total" &[], "Number of times memory usage was about to go over the limit.";
    FileDirty: gauge "container_memory_file_dirty_bytes" &[], "Page cache that has been changed but not yet written back, in bytes.";
    FileWriteback: gauge "container_memory_file_writeback_bytes" &[], "Page cache that is being written back, in bytes.";
    Processes: gauge "container_processes" &[], "Number of processes running inside the container.";
    Threads: gauge "container_threads" &[], "Number of threads running inside the container";
    ThreadsMax: gauge "container_threads_max" &[], "Maximum number of threads allowed inside the container, infinity if value is zero";
    CpuWaiting: counter "container_pressure_cpu_waiting_seconds_total" &[], "Total time duration tasks in the container have waited due to CPU congestion.";
    CpuStalled: counter "container_pressure_cpu_stalled_seconds_total" &[], "Total time duration no tasks in the container could make progress due to CPU congestion.";
    MemoryWaiting: counter "container_pressure_memory_waiting_seconds_total" &[], "Total time duration tasks in the container have waited due to memory congestion.";
    MemoryStalled: counter "container_pressure_memory_stalled_seconds_total" &[], "Total time duration no tasks in the container could make progress due to memory congestion.";
    IoWaiting: counter "container_pressure_io_waiting_seconds_total" &[], "Total time duration tasks in the container have waited due to IO congestion.";
    IoStalled: counter "container_pressure_io_stalled_seconds_total" &[], "Total time duration no tasks in the container could make progress due to IO congestion.";
    SpecCpuPeriod: gauge "container_spec_cpu_period" &[], "CPU period of the container.";
    SpecCpuQuota: gauge "container_spec_cpu_quota" &[], "CPU quota of the container.";
    SpecCpuShares: gauge "container_spec_cpu_shares" &[], "CPU share of the container.";
    SpecMemoryLimit: gauge "container_spec_memory_limit_bytes" &[], "Memory limit for the container.";
    SpecMemorySwapLimit: gauge "container_spec_memory_swap_limit_bytes" &[], "Memory swap limit for the container.";
    SpecMemoryReservation: gauge "container_spec_memory_reservation_limit_bytes" &[], "Memory reservation limit for the container.";
    StartTime: gauge "container_start_time_seconds" &[], "Start time of the container since unix epoch in seconds.";
    LastSeen: gauge "container_last_seen" &[], "Last time a container was seen by the exporter";
}

/// Values of one reading of a cgroup; a value that was not set is absent.
#[derive(Debug, Clone, Copy)]
pub struct Values {
    values: [f64; Metric::COUNT],
    present: u64,
}

// `Values::present` has one bit per metric.
const _: () = assert!(Metric::COUNT <= 64);

impl Default for Values {
    fn default() -> Self {
        Self {
            values: [0.0; Metric::COUNT],
            present: 0,
        }
    }
}

impl Values {
    /// Sets a value.
    pub const fn set(&mut self, metric: Metric, value: f64) {
        self.values[metric as usize] = value;
        self.present |= 1 << metric as u64;
    }

    /// Sets a value if there is one.
    pub const fn set_some(&mut self, metric: Metric, value: Option<f64>) {
        if let Some(value) = value {
            self.set(metric, value);
        }
    }

    /// Clears a value.
    pub const fn clear(&mut self, metric: Metric) {
        self.present &= !(1 << metric as u64);
    }

    /// The value of a metric.
    #[must_use]
    pub const fn get(&self, metric: Metric) -> Option<f64> {
        if self.present & 1 << metric as u64 == 0 {
            None
        } else {
            Some(self.values[metric as usize])
        }
    }

    /// Number and value of each metric that is present.
    pub fn iter(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        let present = self.present;
        let all = self.values.iter().copied().enumerate();
        all.filter(move |(index, _)| present & 1 << index != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unset_values_are_absent() {
        let mut values = Values::default();
        values.set(Metric::LastSeen, 7.0);
        values.set_some(Metric::CpuUsage, None);
        assert_eq!(
            values.iter().collect::<Vec<_>>(),
            [(Metric::COUNT - 1, 7.0)]
        );
        assert_eq!(
            (values.get(Metric::CpuUsage), values.get(Metric::LastSeen)),
            (None, Some(7.0))
        );
    }
}
