//! Linear regression and smoothing of the values in a window.

use super::Window;
use crate::eval::series::MISSING;
use crate::functions::kahan::Kahan;

/// `deriv(v)`
pub(crate) fn deriv(window: &Window<'_>) -> f64 {
    match window.timestamps_ms {
        // Any time near the samples keeps the sums small.
        &[first, _, ..] => linear_regression(window, first).0,
        _ => MISSING,
    }
}

/// `predict_linear(v, seconds)`
pub(crate) fn predict_linear(window: &Window<'_>) -> f64 {
    if window.values.len() < 2 {
        return MISSING;
    }
    let (slope, intercept) = linear_regression(window, window.step_ms);
    slope * window.params[0] + intercept
}

/// Returns the slope per second of the least-squares line, and its value at `intercept_ms`.
fn linear_regression(window: &Window<'_>, intercept_ms: i64) -> (f64, f64) {
    let first = window.values.first().copied().unwrap_or(f64::NAN);
    let mut constant = true;
    let mut count = 0.0;
    let [mut x_sum, mut y_sum, mut xy_sum, mut x2_sum] = [Kahan::default(); 4];
    for (index, (&t, &y)) in window.timestamps_ms.iter().zip(window.values).enumerate() {
        constant &= index == 0 || y == first;
        count += 1.0;
        let x = (t - intercept_ms) as f64 / 1e3;
        x_sum.add(x);
        y_sum.add(y);
        xy_sum.add(x * y);
        x2_sum.add(x * x);
    }
    if constant {
        if first.is_infinite() {
            return (f64::NAN, f64::NAN);
        }
        return (0.0, first);
    }
    let [x, y, xy, x2] = [x_sum, y_sum, xy_sum, x2_sum].map(|kahan| kahan.sum + kahan.compensation);
    let covariance = xy - x * y / count;
    let variance = x2 - x * x / count;
    let slope = covariance / variance;
    (slope, y / count - slope * x / count)
}

/// `double_exponential_smoothing(v, smoothing, trend)`: Holt's linear trend method.
pub(crate) fn smoothed(window: &Window<'_>) -> f64 {
    let &[first, second, ..] = window.values else {
        return MISSING;
    };
    let [smoothing, trend_factor] = window.params;
    let (mut before, mut now) = (0.0, first);
    let mut trend = second - first;
    for (index, &value) in window.values.iter().enumerate().skip(1) {
        if index > 1 {
            trend = trend_factor * (now - before) + (1.0 - trend_factor) * trend;
        }
        let next = smoothing * value + (1.0 - smoothing) * (now + trend);
        (before, now) = (now, next);
    }
    now
}
