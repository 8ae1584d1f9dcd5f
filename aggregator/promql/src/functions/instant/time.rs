//! `time`, `timestamp`, and conversions between scalars and vectors.

use common::model::Labels;

use crate::eval::series::{Series, Steps, Vector, drop_names, is_missing, merge_same_labels};
use crate::eval::{Evaluated, Evaluator};
use crate::parser::ast::{Call, Expr};

/// Returns the evaluation time of each step, in seconds.
pub(crate) fn seconds(steps: Steps) -> Vec<f64> {
    steps.iter().map(|ms| ms as f64 / 1000.0).collect()
}

/// `time()`
pub(crate) fn time(_: &Evaluator<'_>, _: &Call, steps: Steps) -> Evaluated<Vec<f64>> {
    Ok(seconds(steps))
}

/// `pi()`
pub(crate) fn pi(_: &Evaluator<'_>, _: &Call, steps: Steps) -> Evaluated<Vec<f64>> {
    Ok(vec![std::f64::consts::PI; steps.count])
}

/// `scalar(v)`: the value where there is exactly one series, else NaN.
pub(crate) fn scalar(evaluator: &Evaluator<'_>, call: &Call, steps: Steps) -> Evaluated<Vec<f64>> {
    let vector = evaluator.argument(call, 0, steps)?;
    let only = |step: usize| {
        let mut present = vector
            .iter()
            .map(|series| series.values[step])
            .filter(|&value| !is_missing(value));
        match (present.next(), present.next()) {
            (Some(value), None) => value,
            _ => f64::NAN,
        }
    };
    Ok((0..steps.count).map(only).collect())
}

/// `vector(s)`
pub(crate) fn vector(evaluator: &Evaluator<'_>, call: &Call, steps: Steps) -> Evaluated<Vector> {
    let values = evaluator.scalar_argument(call, 0, steps)?;
    Ok(vec![Series::new(Labels::empty(), values)])
}

/// `timestamp(v)`: the timestamps of samples where the argument is a selector, else the evaluation time.
pub(crate) fn timestamp(evaluator: &Evaluator<'_>, call: &Call, steps: Steps) -> Evaluated<Vector> {
    let argument = call.args.first().map(Expr::unwrap_parens);
    let mut vector = if let Some(Expr::Vector(selector)) = argument {
        let scan = evaluator.timestamp_scan(selector, steps)?;
        evaluator.materialize(&scan)?
    } else {
        let mut vector = evaluator.argument(call, 0, steps)?;
        for series in &mut vector {
            for (value, ms) in series.values.iter_mut().zip(steps.iter()) {
                if !is_missing(*value) {
                    *value = ms as f64 / 1000.0;
                }
            }
        }
        vector
    };
    drop_names(&mut vector, evaluator.features);
    merge_same_labels(vector, evaluator.features)
}
