//! Functions of the samples in one window.

use super::kahan::{Kahan, Mean};
use super::series::MISSING;
use crate::signature::Function;

/// The samples of one series in one window, oldest first, at least one, no staleness markers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window<'a> {
    pub(crate) timestamps_ms: &'a [i64],
    pub(crate) values: &'a [f64],
    /// Indices into the series' samples where a value is below the one before; `first_index` is that of the first
    /// sample of this window.
    pub(crate) resets: &'a [usize],
    pub(crate) first_index: usize,
    /// End of the window, inclusive.
    pub(crate) end_ms: i64,
    /// Its length.
    pub(crate) range_ms: i64,
    /// The moment of evaluation, from which `offset` and `@` may have moved the window.
    pub(crate) step_ms: i64,
    /// Parameters of the function at this step.
    pub(crate) params: [f64; 2],
}

/// Applies `function`; [`MISSING`] when the window is too poor for it.
#[inline]
pub(crate) fn over_time(function: Function, window: &Window<'_>) -> f64 {
    let values = window.values;
    match function {
        Function::Rate => extrapolated(window, true, true),
        Function::Increase => extrapolated(window, true, false),
        Function::Delta => extrapolated(window, false, false),
        Function::Irate => instant_delta(window, true),
        Function::Idelta => instant_delta(window, false),
        Function::SumOverTime => sum(values),
        Function::AvgOverTime => mean(values),
        Function::CountOverTime => values.len() as f64,
        Function::LastOverTime => values.last().copied().unwrap_or(MISSING),
        Function::PresentOverTime => 1.0,
        Function::MinOverTime => extreme(values, |value, best| value < best),
        Function::MaxOverTime => extreme(values, |value, best| value > best),
        Function::StddevOverTime => variance(values).sqrt(),
        Function::StdvarOverTime => variance(values),
        Function::QuantileOverTime => quantile(window.params[0], &mut values.to_vec()),
        Function::MadOverTime => median_deviation(values),
        Function::Changes => changes(values),
        Function::Resets => window.resets_inside().len() as f64,
        Function::Deriv => deriv(window),
        Function::PredictLinear => predict_linear(window),
        Function::DoubleExponentialSmoothing => smoothed(window),
        Function::TsOfLastOverTime => seconds(window.timestamps_ms.last()),
        Function::TsOfMaxOverTime => time_of(window, |value, best| value >= best),
        Function::TsOfMinOverTime => time_of(window, |value, best| value <= best),
        _ => MISSING,
    }
}

/// Whether the function needs the indices of counter resets.
pub(crate) const fn needs_resets(function: Function) -> bool {
    matches!(
        function,
        Function::Rate | Function::Increase | Function::Resets
    )
}

fn seconds(timestamp_ms: Option<&i64>) -> f64 {
    timestamp_ms.map_or(MISSING, |&ms| ms as f64 / 1000.0)
}

impl Window<'_> {
    /// The resets between two samples of this window.
    fn resets_inside(&self) -> &[usize] {
        if self.resets.is_empty() {
            return &[];
        }
        let last = self.first_index + self.values.len();
        let from = self.resets.partition_point(|&at| at <= self.first_index);
        let to = self.resets.partition_point(|&at| at < last);
        self.resets.get(from..to).unwrap_or_default()
    }
}

/// The increase in the window, extrapolated to its edges (Prometheus `extrapolatedRate`).
#[inline]
fn extrapolated(window: &Window<'_>, is_counter: bool, is_rate: bool) -> f64 {
    let (times, values) = (window.timestamps_ms, window.values);
    let ([first_t, .., last_t], [first, .., last]) = (times, values) else {
        return MISSING;
    };
    let mut result = last - first;
    if is_counter {
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
    // Samples that come this close to an edge are taken to go on to it; else half an interval is added.
    if to_start >= threshold {
        to_start = average / 2.0;
    }
    if is_counter {
        // A counter is not negative: it is not extrapolated beyond where it was zero.
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
    let mut factor = (sampled + to_start + to_end) / sampled;
    if is_rate {
        factor /= window.range_ms as f64 / 1000.0;
    }
    result * factor
}

fn instant_delta(window: &Window<'_>, is_rate: bool) -> f64 {
    let ([.., before_t, last_t], [.., before, last]) = (window.timestamps_ms, window.values) else {
        return MISSING;
    };
    let mut result = last - before;
    if is_rate {
        if last < before {
            result = *last;
        }
        result /= (last_t - before_t) as f64 / 1000.0;
    }
    result
}

fn sum(values: &[f64]) -> f64 {
    let mut sum = Kahan::default();
    for &value in values {
        sum.add(value);
    }
    sum.total()
}

fn mean(values: &[f64]) -> f64 {
    let Some((&first, rest)) = values.split_first() else {
        return MISSING;
    };
    let mut mean = Mean::new(first);
    for &value in rest {
        mean.add(value);
    }
    mean.value()
}

/// The value that wins against all others; NaN loses against any.
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

fn variance(values: &[f64]) -> f64 {
    let mut count = 0.0;
    let (mut mean, mut squares) = (Kahan::default(), Kahan::default());
    for &value in values {
        count += 1.0;
        let delta = value - (mean.sum + mean.compensation);
        mean.add(delta / count);
        squares.add(delta * (value - (mean.sum + mean.compensation)));
    }
    (squares.sum + squares.compensation) / count
}

/// The φ-quantile by linear interpolation; NaN sorts first.
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
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        (false, false) => a.total_cmp(b),
    });
    let rank = quantile * (values.len() as f64 - 1.0);
    let lower = rank.floor().max(0.0) as usize;
    let upper = (lower + 1).min(values.len() - 1);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}

fn median_deviation(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    let median = quantile(0.5, &mut values);
    for value in &mut values {
        *value = (*value - median).abs();
    }
    quantile(0.5, &mut values)
}

fn changes(values: &[f64]) -> f64 {
    let differ = |pair: &&[f64]| pair[0] != pair[1] && !(pair[0].is_nan() && pair[1].is_nan());
    values.windows(2).filter(differ).count() as f64
}

fn deriv(window: &Window<'_>) -> f64 {
    match window.timestamps_ms {
        // Any moment near the samples keeps the sums small.
        &[first, _, ..] => linear_regression(window, first).0,
        _ => MISSING,
    }
}

fn predict_linear(window: &Window<'_>) -> f64 {
    if window.values.len() < 2 {
        return MISSING;
    }
    let (slope, intercept) = linear_regression(window, window.step_ms);
    slope * window.params[0] + intercept
}

/// Slope per second, and the value at `intercept_ms`, of the least-squares line.
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

/// Holt's linear trend: `params` are the smoothing and the trend factor.
fn smoothed(window: &Window<'_>) -> f64 {
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
