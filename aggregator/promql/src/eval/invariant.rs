//! Expressions that have the same value at every step, as all their selectors are pinned by `@`.

use crate::parser::ast::{Call, Expr};
use crate::signature::Function;

/// Whether `expr` may be evaluated once for all steps (Prometheus `preprocessExprHelper`).
pub(super) fn is_invariant(expr: &Expr) -> bool {
    match expr {
        Expr::Vector(selector) => selector.at.is_some(),
        Expr::Matrix(matrix) => matrix.selector.at.is_some(),
        Expr::Subquery(subquery) => subquery.at.is_some(),
        Expr::Paren(paren) => is_invariant(&paren.expr),
        Expr::Unary(unary) => is_invariant(&unary.expr),
        // The parameter is not asked: `topk(time(), x @ 0)` has that of the first step at all steps.
        Expr::Aggregation(aggregation) => is_invariant(&aggregation.expr),
        Expr::Binary(binary) => {
            let mut lhs = &binary.lhs;
            let mut rhs = is_invariant(&binary.rhs);
            // Chains are long to the left.
            while rhs && let Expr::Binary(inner) = lhs {
                rhs = is_invariant(&inner.rhs);
                lhs = &inner.lhs;
            }
            rhs && is_invariant(lhs)
        }
        Expr::Call(call) => is_invariant_call(call),
        Expr::Number(_) | Expr::String(_) => true,
    }
}

pub(super) fn is_invariant_call(call: &Call) -> bool {
    !depends_on_time(call.function.function) && call.args.iter().all(is_invariant)
}

/// Functions that look at the evaluation time itself.
const fn depends_on_time(function: Function) -> bool {
    matches!(
        function,
        Function::DaysInMonth
            | Function::DayOfMonth
            | Function::DayOfWeek
            | Function::DayOfYear
            | Function::Hour
            | Function::Minute
            | Function::Month
            | Function::Year
            | Function::PredictLinear
            | Function::Time
            | Function::Timestamp
    )
}
