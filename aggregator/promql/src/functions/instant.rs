//! Functions of instant vectors, scalars and strings.

pub(crate) mod absent;
pub(crate) mod date;
pub(crate) mod exponential;
pub(crate) mod histogram;
pub(crate) mod info;
pub(crate) mod label;
pub(crate) mod math;
pub(crate) mod sort;
pub(crate) mod time;
pub(crate) mod trigonometry;

use common::model::Labels;

use super::MapValues;
use crate::eval::series::{Series, Steps, Vector, drop_names, is_missing, merge_same_labels};
use crate::eval::{Evaluated, Evaluator};
use crate::parser::ast::Call;

/// Evaluates a function of each value; the metric name is dropped.
pub(crate) fn map_values(
    evaluator: &Evaluator<'_>,
    call: &Call,
    steps: Steps,
    map: MapValues,
) -> Evaluated<Vector> {
    let mut vector = if call.args.is_empty() {
        // Without an argument, date functions are about the evaluation time.
        vec![Series::new(Labels::empty(), time::seconds(steps))]
    } else {
        evaluator.argument(call, 0, steps)?
    };
    let scalars: Vec<Vec<f64>> = (1..call.args.len())
        .map(|index| evaluator.scalar_argument(call, index, steps))
        .collect::<Evaluated<_>>()?;
    for series in &mut vector {
        evaluator.check()?;
        map(&mut series.values, &scalars);
    }
    drop_names(&mut vector, evaluator.features);
    merge_same_labels(vector, evaluator.features)
}

/// Replaces each value by `map` of it.
#[inline]
pub(crate) fn each_value(values: &mut [f64], map: impl Fn(f64) -> f64) {
    for value in values {
        if !is_missing(*value) {
            *value = map(*value);
        }
    }
}

/// Replaces each value by `map` of it and the scalar of its step; an omitted scalar is 1.
#[inline]
pub(crate) fn each_value_with_scalar(
    values: &mut [f64],
    scalars: &[Vec<f64>],
    map: impl Fn(f64, f64) -> f64,
) {
    for (step, value) in values.iter_mut().enumerate() {
        if !is_missing(*value) {
            *value = map(*value, scalar_at(scalars, 0, step));
        }
    }
}

/// Replaces each value by `map` of it and the two scalars of its step.
#[inline]
pub(crate) fn each_value_with_scalars(
    values: &mut [f64],
    scalars: &[Vec<f64>],
    map: impl Fn(f64, f64, f64) -> f64,
) {
    for (step, value) in values.iter_mut().enumerate() {
        if !is_missing(*value) {
            let (first, second) = (scalar_at(scalars, 0, step), scalar_at(scalars, 1, step));
            *value = map(*value, first, second);
        }
    }
}

fn scalar_at(scalars: &[Vec<f64>], index: usize, step: usize) -> f64 {
    scalars.get(index).map_or(1.0, |values| values[step])
}
