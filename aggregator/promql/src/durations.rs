//! Arithmetic on durations, resolved before anything is evaluated (Prometheus `promql/durations.go`).

use crate::error::{ErrorKind, QueryError};
use crate::functions::instant::exponential;
use crate::parser::Operator;
use crate::parser::ast::{DurationExpr, DurationValue, Expr};
use crate::parser::quote::go_quote;

/// Replaces all duration expressions by their values.
///
/// # Errors
/// The first one, in the order of the query, that is out of range, or not above 0 where it must be.
pub(crate) fn resolve_durations(expr: &mut Expr) -> Result<(), QueryError> {
    match expr {
        Expr::Matrix(matrix) => {
            resolve(&mut matrix.range, Sign::Positive)?;
            resolve(&mut matrix.selector.offset, Sign::Any)
        }
        Expr::Vector(vector) => resolve(&mut vector.offset, Sign::Any),
        Expr::Subquery(subquery) => {
            resolve(&mut subquery.offset, Sign::Any)?;
            resolve(&mut subquery.step, Sign::Positive)?;
            resolve(&mut subquery.range, Sign::Positive)?;
            resolve_durations(&mut subquery.expr)
        }
        Expr::Paren(paren) => resolve_durations(&mut paren.expr),
        Expr::Unary(unary) => resolve_durations(&mut unary.expr),
        Expr::Binary(binary) => {
            resolve_durations(&mut binary.lhs)?;
            resolve_durations(&mut binary.rhs)
        }
        Expr::Aggregation(aggregation) => {
            resolve_durations(&mut aggregation.expr)?;
            aggregation.param.as_mut().map_or(Ok(()), resolve_durations)
        }
        Expr::Call(call) => call.args.iter_mut().try_for_each(resolve_durations),
        Expr::Number(_) | Expr::String(_) => Ok(()),
    }
}

/// Which values a duration may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Positive,
    Any,
}

fn resolve(value: &mut DurationValue, sign: Sign) -> Result<(), QueryError> {
    let DurationValue::Expr(expr) = value else {
        return Ok(());
    };
    let seconds = seconds(expr)?;
    if seconds <= 0.0 && sign == Sign::Positive {
        return Err(fail(expr, "duration must be greater than 0"));
    }
    // Prometheus checks that seconds fit in 64 bits, and then keeps nanoseconds, which wrap around.
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
        Operator::Atan2
        | Operator::Equal
        | Operator::NotEqual
        | Operator::Less
        | Operator::LessEqual
        | Operator::Greater
        | Operator::GreaterEqual
        | Operator::And
        | Operator::Or
        | Operator::Unless => {
            let name = go_quote(op.as_str());
            let message = format!("unexpected duration expression operator {name}");
            return Err(fail(expr, &message));
        }
    })
}
