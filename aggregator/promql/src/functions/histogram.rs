//! `histogram_quantile` and `histogram_fraction` over classic histograms: cumulative counts in series by `le`.

use common::model::{Labels, label::METRIC_NAME};
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use crate::error::{QueryError, Span};
use crate::eval::Evaluator;
use crate::eval::call::argument_span;
use crate::eval::series::{MISSING, Series, Steps, Vector, is_missing, merge_same_labels};
use crate::parser::ast::Call;
use crate::parser::number::parse_go_float;
use crate::signature::Function;

/// The label of a bucket's upper bound.
const BOUND: &str = "le";

/// Counts that differ relatively by less than this are taken for equal, as rounding made the difference.
const TOLERANCE: f64 = 1e-12;

/// A bucket: its upper bound, inclusive, and how many observations do not exceed it.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    bound: f64,
    count: f64,
}

/// The series of one histogram.
struct Histogram {
    labels: Labels,
    name: String,
    /// Upper bound and series, ascending.
    buckets: Vec<(f64, usize)>,
}

pub(crate) fn classic(
    evaluator: &Evaluator<'_>,
    call: &Call,
    steps: Steps,
) -> Result<Vector, QueryError> {
    let fraction = call.function.function == Function::HistogramFraction;
    let first = evaluator.scalar_argument(call, 0, steps)?;
    let second = if fraction {
        evaluator.scalar_argument(call, 1, steps)?
    } else {
        Vec::new()
    };
    let span = |index: usize| argument_span(call, index);
    let vector_index = 1 + usize::from(fraction);
    let vector_span = span(vector_index);
    let vector = evaluator.argument(call, vector_index, steps)?;
    if !fraction {
        for &quantile in &first {
            if !(0.0..=1.0).contains(&quantile) {
                evaluator.annotations.invalid_quantile(quantile, span(0));
            }
        }
    }
    let histograms = histograms(evaluator, &vector, vector_span);
    let mut result = Vec::with_capacity(histograms.len());
    let mut buckets = Vec::new();
    for histogram in histograms {
        evaluator.check()?;
        evaluator.hold(steps.count)?;
        let mut values = vec![MISSING; steps.count];
        let mut first_step = true;
        for (step, value) in values.iter_mut().enumerate() {
            buckets.clear();
            buckets.extend(histogram.buckets.iter().filter_map(|&(bound, series)| {
                let count = vector[series].values[step];
                (!is_missing(count)).then_some(Bucket { bound, count })
            }));
            if buckets.is_empty() {
                continue;
            }
            *value = if fraction {
                bucket_fraction(first[step], second[step], &mut buckets)
            } else {
                let (quantile, forced) = bucket_quantile(first[step], &mut buckets);
                if forced {
                    // Prometheus drops the name with the first step, unless names go at the end.
                    let named = first_step || evaluator.features.delayed_name_removal;
                    let name = if named { histogram.name.as_str() } else { "" };
                    evaluator.annotations.forced_monotonicity(name, vector_span);
                }
                quantile
            };
            first_step = false;
        }
        let mut series = Series::new(histogram.labels, values);
        series.drop_name = evaluator.features.delayed_name_removal;
        result.push(series);
    }
    merge_same_labels(result, evaluator.features)
}

/// Series by histogram: equal in all labels but the bound.
fn histograms(evaluator: &Evaluator<'_>, vector: &[Series], span: Span) -> Vec<Histogram> {
    let delayed = evaluator.features.delayed_name_removal;
    let mut places: HashMap<Labels, usize, FxBuildHasher> = HashMap::default();
    let mut histograms: Vec<Histogram> = Vec::new();
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
        let place = *places.entry_ref(&key).or_insert(histograms.len());
        if place == histograms.len() {
            histograms.push(Histogram {
                labels: key.filtered(|label| delayed || label != METRIC_NAME),
                name: if delayed {
                    name.to_owned()
                } else {
                    String::new()
                },
                buckets: Vec::new(),
            });
        }
        histograms[place].buckets.push((bound, index));
    }
    for histogram in &mut histograms {
        histogram.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    histograms
}

/// The φ-quantile by linear interpolation in the bucket it falls into, and whether counts had to be fixed.
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

/// The share of observations between two values (Prometheus `BucketFraction`).
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
    let below = |value: f64| {
        let (mut rank, mut bound) = (0.0, f64::NEG_INFINITY);
        for bucket in buckets.iter() {
            if bound >= value {
                return rank;
            }
            if bucket.bound > value {
                let share = (value - bound) / (bucket.bound - bound);
                return rank + (bucket.count - rank) * share;
            }
            rank = bucket.count;
            bound = bucket.bound;
        }
        total
    };
    // Counts that do not ascend may exceed the last one.
    let capped = |rank: f64| if rank > total { total } else { rank };
    (capped(below(upper)) - capped(below(lower))) / total
}

/// Adds up buckets whose bounds are the same number in different spellings.
fn coalesce(buckets: &mut Vec<Bucket>) {
    buckets.dedup_by(|later, kept| {
        let same = later.bound == kept.bound;
        if same {
            kept.count += later.count;
        }
        same
    });
}

/// Makes counts ascend; whether more than rounding was wrong.
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
