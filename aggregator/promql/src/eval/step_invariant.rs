//! Expressions that have the same value at every step, because `@` pins all their selectors.

use crate::functions::{DependsOn, spec};
use crate::parser::ast::{Call, Expr};

/// Returns whether `expr` can be evaluated once for all steps (Prometheus `preprocessExprHelper`).
pub(super) fn is_invariant(expr: &Expr) -> bool {
    match expr {
        Expr::Vector(selector) => selector.at.is_some(),
        Expr::Matrix(matrix) => matrix.selector.at.is_some(),
        Expr::Subquery(subquery) => subquery.at.is_some(),
        Expr::Paren(paren) => is_invariant(&paren.expr),
        Expr::Unary(unary) => is_invariant(&unary.expr),
        // Like Prometheus, ignores the parameter: `topk(time(), x @ 0)` has that of the first step at all steps.
        Expr::Aggregation(aggregation) => is_invariant(&aggregation.expr),
        Expr::Binary(binary) => {
            let mut lhs = &binary.lhs;
            let mut rhs = is_invariant(&binary.rhs);
            // Chains are long on the left.
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
    match spec(call.function.function).depends_on {
        DependsOn::EvaluationTime => false,
        DependsOn::Samples => call.args.iter().all(is_invariant),
    }
}
