//! Function calls: dispatch by the class of the function, and evaluation of arguments.

use super::series::{Steps, Vector};
use super::step_invariant::{is_invariant, is_invariant_call};
use super::{EvalResult, Evaluated, Evaluator};
use crate::error::Span;
use crate::functions::instant::{map_values, sort};
use crate::functions::{Evaluation, spec};
use crate::parser::ast::{Call, Expr};

impl Evaluator<'_> {
    pub(super) fn call(&self, call: &Call, steps: Steps) -> Evaluated<EvalResult> {
        let vector = match &spec(call.function.function).evaluation {
            Evaluation::Scalar(evaluate) => {
                return evaluate(self, call, steps).map(EvalResult::Scalar);
            }
            &Evaluation::EachValue(map) => map_values(self, call, steps, map)?,
            Evaluation::Window(function) => self.over_time(call, steps, function)?,
            Evaluation::Vector(evaluate) | Evaluation::Relabel(evaluate) => {
                evaluate(self, call, steps)?
            }
            &Evaluation::Sort(order) => sort::sort(self, call, steps, order)?,
        };
        Ok(EvalResult::Vector(vector))
    }

    /// Evaluates the vector argument at `index`.
    pub(crate) fn argument(&self, call: &Call, index: usize, steps: Steps) -> Evaluated<Vector> {
        match call.args.get(index) {
            Some(arg) => self.vector(arg, steps),
            None => Err(self.internal("an argument is missing")),
        }
    }

    /// Evaluates the scalar argument at `index`.
    pub(crate) fn scalar_argument(
        &self,
        call: &Call,
        index: usize,
        steps: Steps,
    ) -> Evaluated<Vec<f64>> {
        match call.args.get(index) {
            Some(arg) => self.scalar(arg, steps),
            None => Err(self.internal("an argument is missing")),
        }
    }
}

/// Returns the position of the argument at `index` that annotations show.
pub(crate) fn argument_span(call: &Call, index: usize) -> Span {
    let span = call.args.get(index).map(|arg| span_of(call, arg));
    span.unwrap_or_default()
}

/// Returns the position of an argument that annotations show. Prometheus strips the parentheses around it, unless the
/// argument is evaluated once for all steps and the call is not.
pub(super) fn span_of(call: &Call, arg: &Expr) -> Span {
    if is_invariant(arg) && !is_invariant_call(call) {
        arg.span()
    } else {
        arg.unwrap_parens().span()
    }
}
