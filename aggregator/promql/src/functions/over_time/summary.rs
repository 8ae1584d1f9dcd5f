//! Sums, means, variances, extremes and counts of the values in a window.

use super::Window;
use crate::eval::series::MISSING;
use crate::functions::kahan::{Kahan, Mean};

/// `sum_over_time(v)`
#[inline]
pub(crate) fn sum(window: &Window<'_>) -> f64 {
    let mut sum = Kahan::default();
    for &value in window.values {
        sum.add(value);
    }
    sum.total()
}

/// `avg_over_time(v)`
#[inline]
pub(crate) fn average(window: &Window<'_>) -> f64 {
    let Some((&first, rest)) = window.values.split_first() else {
        return MISSING;
    };
    let mut mean = Mean::new(first);
    for &value in rest {
        mean.add(value);
    }
    mean.value()
}

/// `count_over_time(v)`
#[inline]
pub(crate) fn count(window: &Window<'_>) -> f64 {
    window.values.len() as f64
}

/// `present_over_time(v)`
#[inline]
pub(crate) const fn present(_: &Window<'_>) -> f64 {
    1.0
}

/// `min_over_time(v)`
#[inline]
pub(crate) fn min(window: &Window<'_>) -> f64 {
    extreme(window.values, |value, best| value < best)
}

/// `max_over_time(v)`
#[inline]
pub(crate) fn max(window: &Window<'_>) -> f64 {
    extreme(window.values, |value, best| value > best)
}

/// Returns the value that wins against all others; NaN loses against any.
#[inline]
fn extreme(values: &[f64], wins: impl Fn(f64, f64) -> bool) -> f64 {
    let mut best = values.first().copied().unwrap_or(MISSING);
    for &value in values {
        if wins(value, best) || best.is_nan() {
            best = value;
        }
    }
    best
}

/// `stddev_over_time(v)`
pub(crate) fn stddev(window: &Window<'_>) -> f64 {
    stdvar(window).sqrt()
}

/// `stdvar_over_time(v)`: Welford's method over compensated sums.
pub(crate) fn stdvar(window: &Window<'_>) -> f64 {
    let mut count = 0.0;
    let (mut mean, mut squares) = (Kahan::default(), Kahan::default());
    for &value in window.values {
        count += 1.0;
        let delta = value - (mean.sum + mean.compensation);
        mean.add(delta / count);
        squares.add(delta * (value - (mean.sum + mean.compensation)));
    }
    (squares.sum + squares.compensation) / count
}

/// `changes(v)`: one NaN after another is not a change.
pub(crate) fn changes(window: &Window<'_>) -> f64 {
    let differ = |pair: &&[f64]| pair[0] != pair[1] && !(pair[0].is_nan() && pair[1].is_nan());
    window.values.windows(2).filter(differ).count() as f64
}
