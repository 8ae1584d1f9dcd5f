//! Binary operators on scalars, and between vectors and scalars.

use super::selector_scan::ScanKind;
use super::series::{MISSING, Steps, Vector, drop_names, is_missing, merge_same_labels};
use super::{EvalResult, Evaluated, Evaluator};
use crate::functions::instant::{exponential, trigonometry};
use crate::parser::Operator;
use crate::parser::ast::{Binary, Expr};
use crate::value_type::ValueType;

/// Returns the result of an operator on two numbers: a value, and for comparisons whether it passes the filter.
#[inline]
pub(super) fn apply(op: Operator, lhs: f64, rhs: f64) -> (f64, bool) {
    match op {
        Operator::Add => (lhs + rhs, true),
        Operator::Sub => (lhs - rhs, true),
        Operator::Mul => (lhs * rhs, true),
        Operator::Div => (lhs / rhs, true),
        Operator::Mod => (lhs % rhs, true),
        Operator::Pow => (exponential::pow(lhs, rhs), true),
        Operator::Atan2 => (trigonometry::atan2(lhs, rhs), true),
        Operator::Equal => (lhs, lhs == rhs),
        Operator::NotEqual => (lhs, lhs != rhs),
        Operator::Less => (lhs, lhs < rhs),
        Operator::LessEqual => (lhs, lhs <= rhs),
        Operator::Greater => (lhs, lhs > rhs),
        Operator::GreaterEqual => (lhs, lhs >= rhs),
        Operator::And | Operator::Or | Operator::Unless => (lhs, true),
    }
}

impl Evaluator<'_> {
    /// Evaluates the comparison of a selector with a number, or returns `None` for any other operation. Most alerts are
    /// such comparisons: few of many series pass, and labels are built only for those.
    pub(super) fn filtered_selector(
        &self,
        binary: &Binary,
        steps: Steps,
    ) -> Evaluated<Option<Vector>> {
        if !binary.op.is_comparison() || binary.return_bool {
            return Ok(None);
        }
        let is_scalar = |expr: &Expr| expr.value_type() == ValueType::Scalar;
        let (selector, number, swapped) = match (&binary.lhs, &binary.rhs) {
            (Expr::Vector(selector), number) if is_scalar(number) => (selector, number, false),
            (number, Expr::Vector(selector)) if is_scalar(number) => (selector, number, true),
            _ => return Ok(None),
        };
        // A pinned selector is the same at all steps and is evaluated once.
        if selector.at.is_some() {
            return Ok(None);
        }
        let scalar = self.scalar(number, steps)?;
        let scan = self.instant_scan(selector, steps, ScanKind::Newest)?;
        let keep = |step: usize, value: f64| {
            let (lhs, rhs) = if swapped {
                (scalar[step], value)
            } else {
                (value, scalar[step])
            };
            apply(binary.op, lhs, rhs).1
        };
        self.materialize_where(&scan, keep).map(Some)
    }

    pub(super) fn binary(
        &self,
        binary: &Binary,
        lhs: EvalResult,
        rhs: EvalResult,
        steps: Steps,
    ) -> Evaluated<EvalResult> {
        match (lhs, rhs) {
            (EvalResult::Scalar(mut lhs), EvalResult::Scalar(rhs)) => {
                for (value, &rhs) in lhs.iter_mut().zip(&rhs) {
                    let (result, keep) = apply(binary.op, *value, rhs);
                    *value = if binary.op.is_comparison() {
                        f64::from(u8::from(keep))
                    } else {
                        result
                    };
                }
                Ok(EvalResult::Scalar(lhs))
            }
            (EvalResult::Vector(vector), EvalResult::Scalar(scalar)) => self
                .vector_scalar(binary, vector, &scalar, false)
                .map(EvalResult::Vector),
            (EvalResult::Scalar(scalar), EvalResult::Vector(vector)) => self
                .vector_scalar(binary, vector, &scalar, true)
                .map(EvalResult::Vector),
            (EvalResult::Vector(lhs), EvalResult::Vector(rhs)) => match binary.op {
                Operator::And | Operator::Or | Operator::Unless => {
                    self.set_operation(binary, lhs, rhs).map(EvalResult::Vector)
                }
                _ => self
                    .vector_vector(binary, lhs, rhs, steps)
                    .map(EvalResult::Vector),
            },
            _ => Err(self.internal("an operand is a string")),
        }
    }

    fn vector_scalar(
        &self,
        binary: &Binary,
        mut vector: Vector,
        scalar: &[f64],
        swapped: bool,
    ) -> Evaluated<Vector> {
        let op = binary.op;
        for series in &mut vector {
            self.check()?;
            for (value, &scalar) in series.values.iter_mut().zip(scalar) {
                if is_missing(*value) {
                    continue;
                }
                let sample = *value;
                let (lhs, rhs) = if swapped {
                    (scalar, sample)
                } else {
                    (sample, scalar)
                };
                let (result, keep) = apply(op, lhs, rhs);
                *value = if !op.is_comparison() {
                    result
                } else if binary.return_bool {
                    f64::from(u8::from(keep))
                } else if keep {
                    // A filter returns the sample, whichever side it is on.
                    sample
                } else {
                    MISSING
                };
            }
        }
        if !op.is_comparison() || binary.return_bool {
            drop_names(&mut vector, self.features);
            return merge_same_labels(vector, self.features);
        }
        Ok(vector)
    }
}
