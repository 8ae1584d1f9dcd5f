//! Clock discipline, from adjtimex(2).

use crate::collect::{CollectContext, Collector, Outcome, Single};
use crate::schema::{FamilyDef, counter, gauge};

/// States and modes of adjtimex(2).
const TIME_ERROR: i32 = 5;
const STA_NANO: i32 = 0x2000;

/// The scale of `freq`, `ppsfreq` and `stabil`: parts per million with 16 fractional bits.
const PPM_SCALE: f64 = 65_536.0 * 1e6;

static FAMILIES: [FamilyDef; 17] = [
    gauge(
        "node_timex_offset_seconds",
        "Time offset in between local system and reference clock.",
    ),
    gauge(
        "node_timex_frequency_adjustment_ratio",
        "Local clock frequency adjustment.",
    ),
    gauge("node_timex_maxerror_seconds", "Maximum error in seconds."),
    gauge(
        "node_timex_estimated_error_seconds",
        "Estimated error in seconds.",
    ),
    gauge("node_timex_status", "Value of the status array bits."),
    gauge(
        "node_timex_loop_time_constant",
        "Phase-locked loop time constant.",
    ),
    gauge("node_timex_tick_seconds", "Seconds between clock ticks."),
    gauge(
        "node_timex_pps_frequency_hertz",
        "Pulse per second frequency.",
    ),
    gauge("node_timex_pps_jitter_seconds", "Pulse per second jitter."),
    gauge(
        "node_timex_pps_shift_seconds",
        "Pulse per second interval duration.",
    ),
    gauge(
        "node_timex_pps_stability_hertz",
        "Pulse per second stability, average of recent frequency changes.",
    ),
    counter(
        "node_timex_pps_jitter_total",
        "Pulse per second count of jitter limit exceeded events.",
    ),
    counter(
        "node_timex_pps_calibration_total",
        "Pulse per second count of calibration intervals.",
    ),
    counter(
        "node_timex_pps_error_total",
        "Pulse per second count of calibration errors.",
    ),
    counter(
        "node_timex_pps_stability_exceeded_total",
        "Pulse per second count of stability limit exceeded events.",
    ),
    gauge(
        "node_timex_tai_offset_seconds",
        "International Atomic Time (TAI) offset.",
    ),
    gauge(
        "node_timex_sync_status",
        "Is clock synchronized to a reliable server (1 = yes, 0 = no).",
    ),
];

/// Collects `node_timex_*`.
#[derive(Debug)]
pub struct Timex {
    series: [Single; FAMILIES.len()],
}

impl Default for Timex {
    fn default() -> Self {
        Self {
            series: std::array::from_fn(|index| Single::node(&FAMILIES[index])),
        }
    }
}

impl Collector for Timex {
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        // Some seccomp profiles refuse the call without privileges, even if it only reads.
        let Some(values) = read() else {
            return Outcome::NoData;
        };
        for (series, value) in self.series.iter_mut().zip(values) {
            series.set(context.table, context.schema, value);
        }
        Outcome::Done
    }
}

/// The values in the order of [`FAMILIES`].
fn read() -> Option<[f64; FAMILIES.len()]> {
    let (timex, state) = crate::sys::adjtimex()?;
    let is_nano = timex.status & STA_NANO != 0;
    let offset_unit = if is_nano { 1e9 } else { 1e6 };
    Some([
        timex.offset as f64 / offset_unit,
        1.0 + timex.freq as f64 / PPM_SCALE,
        timex.maxerror as f64 / 1e6,
        timex.esterror as f64 / 1e6,
        f64::from(timex.status),
        timex.constant as f64,
        timex.tick as f64 / 1e6,
        timex.ppsfreq as f64 / PPM_SCALE,
        timex.jitter as f64 / offset_unit,
        f64::from(timex.shift),
        timex.stabil as f64 / PPM_SCALE,
        timex.jitcnt as f64,
        timex.calcnt as f64,
        timex.errcnt as f64,
        timex.stbcnt as f64,
        f64::from(timex.tai),
        f64::from(u8::from(state != TIME_ERROR)),
    ])
}
