//! Functions that change each value on its own.

use crate::error::QueryError;
use crate::eval::Evaluator;
use crate::eval::series::{Series, Steps, Vector, drop_names, is_missing, merge_same_labels};
use crate::functions::{date, exponential, trigonometry};
use crate::parser::ast::Call;
use crate::signature::Function;
use common::model::Labels;

/// Applies the function to each value; the metric name goes.
pub(crate) fn map(
    evaluator: &Evaluator<'_>,
    call: &Call,
    steps: Steps,
) -> Result<Vector, QueryError> {
    let function = call.function.function;
    let mut vector = if call.args.is_empty() {
        // Date functions without an argument are about the evaluation time.
        let now = steps.iter().map(|ms| ms as f64 / 1000.0).collect();
        vec![Series::new(Labels::empty(), now)]
    } else {
        evaluator.argument(call, 0, steps)?
    };
    let params = parameters(evaluator, call, steps)?;
    for series in &mut vector {
        evaluator.check()?;
        for (step, value) in series.values.iter_mut().enumerate() {
            if !is_missing(*value) {
                let param = |index: usize| params.get(index).map_or(1.0, |values| values[step]);
                *value = apply(function, *value, param(0), param(1));
            }
        }
    }
    drop_names(&mut vector, evaluator.features);
    merge_same_labels(vector, evaluator.features)
}

fn parameters(
    evaluator: &Evaluator<'_>,
    call: &Call,
    steps: Steps,
) -> Result<Vec<Vec<f64>>, QueryError> {
    (1..call.args.len())
        .map(|index| evaluator.scalar_argument(call, index, steps))
        .collect()
}

fn apply(function: Function, value: f64, first: f64, second: f64) -> f64 {
    match function {
        Function::Abs => value.abs(),
        Function::Ceil => value.ceil(),
        Function::Floor => value.floor(),
        Function::Exp => exponential::exp(value),
        Function::Ln => exponential::ln(value),
        Function::Log2 => exponential::log2(value),
        Function::Log10 => exponential::log10(value),
        Function::Sqrt => value.sqrt(),
        Function::Sgn => sign(value),
        Function::Deg => value * 180.0 / std::f64::consts::PI,
        Function::Rad => value * std::f64::consts::PI / 180.0,
        Function::Sin => trigonometry::sin(value),
        Function::Cos => trigonometry::cos(value),
        Function::Tan => trigonometry::tan(value),
        Function::Asin => trigonometry::asin(value),
        Function::Acos => trigonometry::acos(value),
        Function::Atan => trigonometry::atan(value),
        Function::Sinh => exponential::sinh(value),
        Function::Cosh => exponential::cosh(value),
        Function::Tanh => exponential::tanh(value),
        Function::Asinh => exponential::asinh(value),
        Function::Acosh => exponential::acosh(value),
        Function::Atanh => exponential::atanh(value),
        Function::Round => round(value, first),
        Function::Clamp => clamp(value, first, second),
        Function::ClampMin => larger(first, value),
        Function::ClampMax => smaller(first, value),
        _ => date::apply(function, value),
    }
}

fn sign(value: f64) -> f64 {
    if value > 0.0 {
        1.0
    } else if value < 0.0 {
        -1.0
    } else {
        // Keeps NaN and the sign of zero.
        value
    }
}

/// Rounds half up, also below zero, to multiples of `to`.
fn round(value: f64, to: f64) -> f64 {
    // The inverse of fractions such as 0.1 is exact where they are not.
    let inverse = 1.0 / to;
    (value * inverse + 0.5).floor() / inverse
}

fn clamp(value: f64, min: f64, max: f64) -> f64 {
    if max < min {
        return crate::eval::series::MISSING;
    }
    larger(min, smaller(max, value))
}

/// Go's `math.Max`: NaN if any is.
fn larger(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

/// Go's `math.Min`: NaN if any is.
fn smaller(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY {
        f64::NEG_INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.min(b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_half_up_on_both_sides_of_zero() {
        assert_eq!(round(0.5, 1.0), 1.0);
        assert_eq!(round(-0.5, 1.0), 0.0);
        assert_eq!(round(-1.5, 1.0), -1.0);
        assert_eq!(round(5.25, 0.1), 5.3);
    }

    #[test]
    fn clamp_without_room_has_no_value() {
        assert!(is_missing(clamp(1.0, 2.0, 1.0)));
        assert!(clamp(1.0, f64::NAN, 2.0).is_nan());
        assert_eq!(clamp(5.0, 0.0, 2.0), 2.0);
    }
}
