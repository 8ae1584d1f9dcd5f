//! `histogram_quantile` and `histogram_fraction` over classic histograms, whose series are cumulative counts by `le`.

use common::model::{Labels, label::METRIC_NAME};
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use crate::error::Span;
use crate::eval::call::argument_span;
use crate::eval::series::{MISSING, Series, Steps, Vector, is_missing, merge_same_labels};
use crate::eval::{Evaluated, Evaluator};
use crate::parser::ast::Call;
use crate::parser::number::parse_go_float;

/// The label of a bucket's upper bound.
const BOUND: &str = "le";

/// Relative difference below which counts are equal: it comes from rounding.
const TOLERANCE: f64 = 1e-12;

/// A bucket: its inclusive upper bound, and how many observations do not exceed it.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    bound: f64,
    count: f64,
}

/// The series of one histogram.
struct ClassicHistogram {
    labels: Labels,
    name: String,
    /// Upper bound and index of the series, by ascending bound.
    buckets: Vec<(f64, usize)>,
}

/// `histogram_quantile(q, v)`
pub(crate) fn quantile(evaluator: &Evaluator<'_>, call: &Call, steps: Steps) -> Evaluated<Vector> {
    let quantiles = evaluator.scalar_argument(call, 0, steps)?;
    let vector = evaluator.argument(call, 1, steps)?;
    for &quantile in &quantiles {
        if !(0.0..=1.0).contains(&quantile) {
            let span = argument_span(call, 0);
            evaluator.annotations.invalid_quantile(quantile, span);
        }
    }
    let span = argument_span(call, 1);
    let delayed = evaluator.features.delayed_name_removal;
    let mut last_histogram = None;
    each_histogram(
        evaluator,
        &vector,
        steps,
        span,
        |index, name, step, buckets| {
            let (value, forced) = bucket_quantile(quantiles[step], buckets);
            // Prometheus drops the name with the first step of a histogram, unless names are dropped at the end.
            let first_step = last_histogram.replace(index) != Some(index);
            if forced {
                let name = if first_step || delayed { name } else { "" };
                evaluator.annotations.forced_monotonicity(name, span);
            }
            value
        },
    )
}

/// `histogram_fraction(lower, upper, v)`
pub(crate) fn fraction(evaluator: &Evaluator<'_>, call: &Call, steps: Steps) -> Evaluated<Vector> {
    let lower = evaluator.scalar_argument(call, 0, steps)?;
    let upper = evaluator.scalar_argument(call, 1, steps)?;
    let vector = evaluator.argument(call, 2, steps)?;
    let span = argument_span(call, 2);
    each_histogram(evaluator, &vector, steps, span, |_, _, step, buckets| {
        bucket_fraction(lower[step], upper[step], buckets)
    })
}

/// Functions of native histograms: floats are skipped, as in Prometheus, without an annotation.
pub(crate) fn of_native(evaluator: &Evaluator<'_>, call: &Call, steps: Steps) -> Evaluated<Vector> {
    evaluator.argument(call, 0, steps)?;
    Ok(Vec::new())
}

/// Calls `value` with the index of a histogram, its name, the step and the buckets present there.
fn each_histogram(
    evaluator: &Evaluator<'_>,
    vector: &[Series],
    steps: Steps,
    span: Span,
    mut value: impl FnMut(usize, &str, usize, &mut Vec<Bucket>) -> f64,
) -> Evaluated<Vector> {
    let histograms = histograms(evaluator, vector, span);
    let mut result = Vec::with_capacity(histograms.len());
    let mut buckets = Vec::new();
    for (index, histogram) in histograms.into_iter().enumerate() {
        evaluator.check()?;
        evaluator.hold(steps.count)?;
        let mut values = vec![MISSING; steps.count];
        for (step, result) in values.iter_mut().enumerate() {
            buckets.clear();
            buckets.extend(histogram.buckets.iter().filter_map(|&(bound, series)| {
                let count = vector[series].values[step];
                (!is_missing(count)).then_some(Bucket { bound, count })
            }));
            if !buckets.is_empty() {
                *result = value(index, &histogram.name, step, &mut buckets);
            }
        }
        let mut series = Series::new(histogram.labels, values);
        series.drop_name = evaluator.features.delayed_name_removal;
        result.push(series);
    }
    merge_same_labels(result, evaluator.features)
}

/// Groups series by histogram: those equal in all labels except the bound.
fn histograms(evaluator: &Evaluator<'_>, vector: &[Series], span: Span) -> Vec<ClassicHistogram> {
    let delayed = evaluator.features.delayed_name_removal;
    let mut positions: HashMap<Labels, usize, FxBuildHasher> = HashMap::default();
    let mut histograms: Vec<ClassicHistogram> = Vec::new();
    for (index, series) in vector.iter().enumerate() {
        let labels = &series.labels;
        let text = labels.get(BOUND).unwrap_or("");
        let name = labels.metric_name().unwrap_or("");
        let Some(bound) = parse_go_float(text) else {
            if !series.is_empty() {
                evaluator.annotations.bad_bucket_label(name, text, span);
            }
            continue;
        };
        let key = labels.filtered(|label| label != BOUND);
        let position = *positions.entry_ref(&key).or_insert(histograms.len());
        if position == histograms.len() {
            histograms.push(ClassicHistogram {
                labels: key.filtered(|label| delayed || label != METRIC_NAME),
                name: if delayed {
                    name.to_owned()
                } else {
                    String::new()
                },
                buckets: Vec::new(),
            });
        }
        histograms[position].buckets.push((bound, index));
    }
    for histogram in &mut histograms {
        histogram.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    histograms
}

/// Returns the φ-quantile by linear interpolation in the bucket it falls into, and whether counts had to be fixed.
fn bucket_quantile(quantile: f64, buckets: &mut Vec<Bucket>) -> (f64, bool) {
    if quantile.is_nan() {
        return (f64::NAN, false);
    }
    if quantile < 0.0 {
        return (f64::NEG_INFINITY, false);
    }
    if quantile > 1.0 {
        return (f64::INFINITY, false);
    }
    if buckets
        .last()
        .is_none_or(|last| last.bound != f64::INFINITY)
    {
        return (f64::NAN, false);
    }
    coalesce(buckets);
    let forced = make_monotonic(buckets);
    let [rest @ .., last] = buckets.as_slice() else {
        return (f64::NAN, false);
    };
    let Some(highest) = rest.last() else {
        return (f64::NAN, false);
    };
    if last.count == 0.0 {
        return (f64::NAN, false);
    }
    let mut rank = quantile * last.count;
    let index = rest.iter().position(|bucket| bucket.count >= rank);
    let Some(index) = index else {
        return (highest.bound, forced);
    };
    let bucket = rest[index];
    let Some(before) = index.checked_sub(1) else {
        if bucket.bound <= 0.0 {
            return (bucket.bound, forced);
        }
        return (bucket.bound * (rank / bucket.count), forced);
    };
    let before = rest[before];
    rank -= before.count;
    let share = rank / (bucket.count - before.count);
    (before.bound + (bucket.bound - before.bound) * share, forced)
}

/// Returns the share of observations between two values (Prometheus `BucketFraction`). As in `histogram_quantile`, the
/// first bucket begins at 0 when its bound is above 0 (since Prometheus 3.7.3; pull request 17424).
fn bucket_fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if buckets
        .last()
        .is_none_or(|last| last.bound != f64::INFINITY)
    {
        return f64::NAN;
    }
    coalesce(buckets);
    let total = buckets.last().map_or(0.0, |last| last.count);
    if total == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    // Counts that do not ascend may exceed the last one.
    let capped = |rank: f64| if rank > total { total } else { rank };
    (capped(rank_of(upper, buckets)) - capped(rank_of(lower, buckets))) / total
}

/// Returns how many observations are estimated to be at most `value`.
fn rank_of(value: f64, buckets: &[Bucket]) -> f64 {
    let first = buckets.first().map_or(0.0, |first| first.bound);
    let mut bound = if first > 0.0 { 0.0 } else { f64::NEG_INFINITY };
    let mut rank = 0.0;
    for bucket in buckets {
        if bound >= value {
            return rank;
        }
        if bucket.bound > value {
            if bound == f64::NEG_INFINITY {
                return bucket.count;
            }
            // The order of the operations decides about the last bit.
            return rank + (bucket.count - rank) * (value - bound) / (bucket.bound - bound);
        }
        rank = bucket.count;
        bound = bucket.bound;
    }
    f64::INFINITY
}

/// Merges buckets whose bounds are the same number in different spellings.
fn coalesce(buckets: &mut Vec<Bucket>) {
    buckets.dedup_by(|later, kept| {
        let same = later.bound == kept.bound;
        if same {
            kept.count += later.count;
        }
        same
    });
}

/// Makes counts ascend; returns whether they were off by more than rounding.
fn make_monotonic(buckets: &mut [Bucket]) -> bool {
    let mut forced = false;
    let mut before = buckets.first().map_or(0.0, |bucket| bucket.count);
    for bucket in buckets.iter_mut().skip(1) {
        if bucket.count == before {
            continue;
        }
        if almost_equal(before, bucket.count) {
            bucket.count = before;
        } else if bucket.count < before {
            bucket.count = before;
            forced = true;
        } else {
            before = bucket.count;
        }
    }
    forced
}

fn almost_equal(a: f64, b: f64) -> bool {
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let sum = a.abs() + b.abs();
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}
