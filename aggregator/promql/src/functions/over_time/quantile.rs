//! Quantiles of the values in a window. The aggregation `quantile` uses them, too.

use std::cmp::Ordering;

use super::Window;

/// `quantile_over_time(q, v)`
pub(crate) fn quantile_over_time(window: &Window<'_>) -> f64 {
    quantile(window.params[0], &mut window.values.to_vec())
}

/// `mad_over_time(v)`: the median of the absolute deviations from the median; NaN when a value is NaN, as in
/// Prometheus since pull request 19040.
pub(crate) fn median_deviation(window: &Window<'_>) -> f64 {
    if window.values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    let mut values = window.values.to_vec();
    let median = quantile(0.5, &mut values);
    for value in &mut values {
        *value = (*value - median).abs();
    }
    quantile(0.5, &mut values)
}

/// Returns the φ-quantile by linear interpolation, and sorts the values; NaN sorts first.
pub(crate) fn quantile(quantile: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || quantile.is_nan() {
        return f64::NAN;
    }
    if quantile < 0.0 {
        return f64::NEG_INFINITY;
    }
    if quantile > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(|a, b| match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => a.total_cmp(b),
    });
    let rank = quantile * (values.len() as f64 - 1.0);
    let lower = rank.floor().max(0.0) as usize;
    let upper = (lower + 1).min(values.len() - 1);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}
