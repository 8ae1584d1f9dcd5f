//! Changes of counters and gauges in a window.

use super::Window;
use crate::eval::series::MISSING;

/// What the samples of a window measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Metric {
    /// Only grows, except for resets to 0.
    Counter,
    Gauge,
}

/// `rate(v)`
#[inline]
pub(crate) fn rate(window: &Window<'_>) -> f64 {
    // Dividing the factor, not the result, rounds as Prometheus does.
    let seconds = window.range_ms as f64 / 1000.0;
    extrapolated(window, Metric::Counter, |factor| factor / seconds)
}

/// `increase(v)`
#[inline]
pub(crate) fn increase(window: &Window<'_>) -> f64 {
    extrapolated(window, Metric::Counter, |factor| factor)
}

/// `delta(v)`
#[inline]
pub(crate) fn delta(window: &Window<'_>) -> f64 {
    extrapolated(window, Metric::Gauge, |factor| factor)
}

/// Extrapolates the change between the first and the last sample to the edges of the window (Prometheus
/// `extrapolatedRate`); `scale` changes the factor that does so.
#[inline]
fn extrapolated(window: &Window<'_>, metric: Metric, scale: impl Fn(f64) -> f64) -> f64 {
    let (times, values) = (window.timestamps_ms, window.values);
    let ([first_t, .., last_t], [first, .., last]) = (times, values) else {
        return MISSING;
    };
    let mut result = last - first;
    if metric == Metric::Counter {
        for &at in window.resets_inside() {
            result += values[at - window.first_index - 1];
        }
    }
    let intervals = (values.len() - 1) as f64;
    let mut to_start = (first_t - (window.end_ms - window.range_ms)) as f64 / 1000.0;
    let mut to_end = (window.end_ms - last_t) as f64 / 1000.0;
    let sampled = (last_t - first_t) as f64 / 1000.0;
    let average = sampled / intervals;
    let threshold = average * 1.1;
    // A series whose samples come this close to an edge is assumed to reach it; otherwise half an interval is added.
    if to_start >= threshold {
        to_start = average / 2.0;
    }
    if metric == Metric::Counter {
        // A counter is never negative: it is not extrapolated beyond the point where it was zero.
        let mut to_zero = to_start;
        if result > 0.0 && *first >= 0.0 {
            to_zero = sampled * (first / result);
        }
        if to_zero < to_start {
            to_start = to_zero;
        }
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    result * scale((sampled + to_start + to_end) / sampled)
}

/// `irate(v)`: after a reset, the increase is the last value.
pub(crate) fn irate(window: &Window<'_>) -> f64 {
    let ([.., before_t, last_t], [.., before, last]) = (window.timestamps_ms, window.values) else {
        return MISSING;
    };
    let increase = if last < before { *last } else { last - before };
    increase / ((last_t - before_t) as f64 / 1000.0)
}

/// `idelta(v)`
pub(crate) fn idelta(window: &Window<'_>) -> f64 {
    match window.values {
        [.., before, last] => last - before,
        _ => MISSING,
    }
}

/// `resets(v)`
pub(crate) fn resets(window: &Window<'_>) -> f64 {
    window.resets_inside().len() as f64
}
