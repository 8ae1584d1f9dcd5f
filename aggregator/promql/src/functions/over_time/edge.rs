//! The first and last sample of a window, and the times of the samples that stand out.

use super::Window;
use crate::eval::series::MISSING;

/// `first_over_time(v)`
#[inline]
pub(crate) fn first(window: &Window<'_>) -> f64 {
    window.values.first().copied().unwrap_or(MISSING)
}

/// `last_over_time(v)`
#[inline]
pub(crate) fn last(window: &Window<'_>) -> f64 {
    window.values.last().copied().unwrap_or(MISSING)
}

/// `ts_of_first_over_time(v)`
pub(crate) fn time_of_first(window: &Window<'_>) -> f64 {
    seconds(window.timestamps_ms.first())
}

/// `ts_of_last_over_time(v)`
pub(crate) fn time_of_last(window: &Window<'_>) -> f64 {
    seconds(window.timestamps_ms.last())
}

/// `ts_of_max_over_time(v)`
pub(crate) fn time_of_max(window: &Window<'_>) -> f64 {
    time_of(window, |value, best| value >= best)
}

/// `ts_of_min_over_time(v)`
pub(crate) fn time_of_min(window: &Window<'_>) -> f64 {
    time_of(window, |value, best| value <= best)
}

/// Returns the time of the last value that wins; NaN loses against any.
fn time_of(window: &Window<'_>, wins: impl Fn(f64, f64) -> bool) -> f64 {
    let mut best = f64::NAN;
    let mut at = window.timestamps_ms.first();
    for (&value, time) in window.values.iter().zip(window.timestamps_ms) {
        if wins(value, best) || best.is_nan() {
            best = value;
            at = Some(time);
        }
    }
    seconds(at)
}

fn seconds(timestamp_ms: Option<&i64>) -> f64 {
    timestamp_ms.map_or(MISSING, |&ms| ms as f64 / 1000.0)
}
