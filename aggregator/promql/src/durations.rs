//! Arithmetic on durations, settled before anything is evaluated (Prometheus `promql/durations.go`).

use crate::error::{ErrorKind, QueryError};
use crate::functions::exponential;
use crate::parser::Operator;
use crate::parser::ast::{DurationExpr, DurationValue, Expr, VectorSelector};
use crate::parser::quote::go_quote;

/// Puts lengths in the place of all duration expressions.
///
/// # Errors
/// The first one, in the order of the text, that is out of range, or not above 0 where a length must be.
pub(crate) fn settle(expr: &mut Expr) -> Result<(), QueryError> {
    match expr {
        Expr::Matrix(matrix) => {
            settle_one(&mut matrix.range, false)?;
            selector(&mut matrix.selector)
        }
        Expr::Vector(vector) => selector(vector),
        Expr::Subquery(subquery) => {
            settle_one(&mut subquery.offset, true)?;
            settle_one(&mut subquery.step, false)?;
            settle_one(&mut subquery.range, false)?;
            settle(&mut subquery.expr)
        }
        Expr::Paren(paren) => settle(&mut paren.expr),
        Expr::Unary(unary) => settle(&mut unary.expr),
        Expr::Binary(binary) => {
            settle(&mut binary.lhs)?;
            settle(&mut binary.rhs)
        }
        Expr::Aggregation(aggregation) => {
            settle(&mut aggregation.expr)?;
            aggregation.param.as_mut().map_or(Ok(()), settle)
        }
        Expr::Call(call) => call.args.iter_mut().try_for_each(settle),
        Expr::Number(_) | Expr::String(_) => Ok(()),
    }
}

fn selector(selector: &mut VectorSelector) -> Result<(), QueryError> {
    settle_one(&mut selector.offset, true)
}

fn settle_one(value: &mut DurationValue, any_sign: bool) -> Result<(), QueryError> {
    let DurationValue::Expr(expr) = value else {
        return Ok(());
    };
    let seconds = seconds(expr)?;
    if seconds <= 0.0 && !any_sign {
        return Err(fail(expr, "duration must be greater than 0"));
    }
    // What fits is judged by seconds in 64 bits, though nanoseconds are kept in as many.
    if seconds.abs() > 9_223_372_036_854_775_808.0 {
        return Err(fail(expr, "duration is out of range"));
    }
    let ms = seconds * 1000.0;
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&ms);
    let ms = if fits { ms as i64 } else { i64::MIN };
    *value = DurationValue::Millis(ms.wrapping_mul(1_000_000) / 1_000_000);
    Ok(())
}

fn fail(expr: &DurationExpr, message: &str) -> QueryError {
    let span = expr.span();
    let (start, end) = (span.start, span.end);
    QueryError {
        kind: ErrorKind::BadData,
        message: format!("{start}:{end}: {message}"),
        span: Some(span),
    }
}

fn seconds(expr: &DurationExpr) -> Result<f64, QueryError> {
    let (op, lhs, rhs) = match expr {
        DurationExpr::Number(number) => return Ok(number.value),
        DurationExpr::Negative { expr, .. } => return Ok(-seconds(expr)?),
        DurationExpr::Wrapped(expr) => return seconds(expr),
        DurationExpr::Binary { op, lhs, rhs, .. } => (*op, seconds(lhs)?, seconds(rhs)?),
    };
    Ok(match op {
        Operator::Add => lhs + rhs,
        Operator::Sub => lhs - rhs,
        Operator::Mul => lhs * rhs,
        Operator::Div if rhs == 0.0 => return Err(fail(expr, "division by zero")),
        Operator::Div => lhs / rhs,
        Operator::Mod if rhs == 0.0 => return Err(fail(expr, "modulo by zero")),
        Operator::Mod => lhs % rhs,
        Operator::Pow => exponential::pow(lhs, rhs),
        other => {
            let name = go_quote(other.as_str());
            let message = format!("unexpected duration expression operator {name}");
            return Err(fail(expr, &message));
        }
    })
}
