//! Extracts the metric names that an expression selects.

use std::collections::BTreeSet;

use tidemark_promql::Features;
use tidemark_promql::parser::Expr;

/// Returns the names in `query`. A selector without a fixed name is an error, because the source of its series is unknown.
pub(super) fn of(query: &str) -> Result<BTreeSet<String>, String> {
    let expr = tidemark_promql::parse(query, Features::default())
        .map_err(|error| format!("{error} in {query}"))?;
    let mut names = BTreeSet::new();
    collect(&expr, &mut names)?;
    Ok(names)
}

fn collect(expr: &Expr, names: &mut BTreeSet<String>) -> Result<(), String> {
    let mut selector = |selector: &tidemark_promql::parser::ast::VectorSelector| {
        let name = selector
            .metric_name()
            .ok_or_else(|| format!("no metric name: {selector:?}"))?;
        names.insert(name.to_owned());
        Ok(())
    };
    match expr {
        Expr::Vector(vector) => selector(vector),
        Expr::Matrix(matrix) => selector(&matrix.selector),
        Expr::Number(_) | Expr::String(_) => Ok(()),
        Expr::Paren(paren) => collect(&paren.expr, names),
        Expr::Unary(unary) => collect(&unary.expr, names),
        Expr::Subquery(subquery) => collect(&subquery.expr, names),
        Expr::Call(call) => call.args.iter().try_for_each(|arg| collect(arg, names)),
        Expr::Binary(binary) => {
            collect(&binary.lhs, names)?;
            collect(&binary.rhs, names)
        }
        Expr::Aggregation(aggregation) => {
            if let Some(param) = &aggregation.param {
                collect(param, names)?;
            }
            collect(&aggregation.expr, names)
        }
    }
}
