//! Parses durations in brackets and after `offset`.

use super::ast::{DurationExpr, DurationValue, NumberLiteral};
use super::stream::{Fail, Parsed, Parser};
use super::token::{Operator, TokenKind};
use crate::error::Span;

/// Maximum duration: nanoseconds must fit in 64 bits.
const SECONDS_MAX: f64 = 9_223_372_036.854_776;

impl DurationExpr {
    /// Returns the position in the query.
    #[must_use]
    pub fn span(&self) -> Span {
        match self {
            Self::Number(number) => number.span,
            Self::Negative { expr, start } => Span {
                start: *start,
                end: expr.span().end,
            },
            Self::Binary { lhs, rhs, .. } => Span {
                start: lhs.span().start,
                end: rhs.span().end,
            },
            Self::Wrapped(expr) => expr.span(),
        }
    }

    /// Converts seconds to whole milliseconds; rounds to nanoseconds first, as Prometheus does.
    fn into_value(self) -> DurationValue {
        match self {
            Self::Number(number) => DurationValue::Millis(seconds_to_ms(number.value)),
            expr => DurationValue::Expr(expr),
        }
    }
}

fn seconds_to_ms(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64 / 1_000_000
}

impl Parser<'_> {
    /// Parses a duration in `[…]`, which must be above 0.
    pub(crate) fn positive_duration(&mut self) -> Parsed<DurationValue> {
        let expr = self.duration_expr(0)?;
        if let DurationExpr::Number(number) = &expr
            && number.value <= 0.0
        {
            return self.fail_late(number.span, "duration must be greater than 0");
        }
        Ok(expr.into_value())
    }

    /// Parses a duration after `offset`. A number with at most one sign binds more tightly than an operator after it.
    pub(crate) fn offset_duration(&mut self) -> Parsed<(DurationValue, usize)> {
        let expr = match self.kind() {
            TokenKind::Number | TokenKind::Duration => self.duration_number()?,
            TokenKind::Operator(op @ (Operator::Add | Operator::Sub)) => {
                let start = self.take().start;
                match self.kind() {
                    TokenKind::Number | TokenKind::Duration => {
                        let number = self.duration_number()?;
                        self.signed(op, start, number)?
                    }
                    TokenKind::LeftParen => {
                        let inner = self.duration_paren()?;
                        self.signed(op, start, inner)?
                    }
                    _ => {
                        let inner = self.duration_expr(Operator::Pow.precedence())?;
                        let signed = self.signed(op, start, inner)?;
                        self.duration_tail(signed, 0)?
                    }
                }
            }
            _ => self.duration_expr(0)?,
        };
        let end = expr.span().end;
        Ok((expr.into_value(), end))
    }

    fn duration_expr(&mut self, min_precedence: u8) -> Parsed<DurationExpr> {
        self.nested(|parser| {
            let first = match parser.kind() {
                TokenKind::Number | TokenKind::Duration => parser.duration_number()?,
                TokenKind::LeftParen => parser.duration_paren()?,
                TokenKind::Operator(op @ (Operator::Add | Operator::Sub)) => {
                    let start = parser.take().start;
                    let inner = parser.duration_expr(Operator::Pow.precedence())?;
                    parser.signed(op, start, inner)?
                }
                _ => return Err(Fail::Unexpected),
            };
            parser.duration_tail(first, min_precedence)
        })
    }

    fn duration_tail(&mut self, first: DurationExpr, min: u8) -> Parsed<DurationExpr> {
        let mut lhs = first;
        let mut length = 0;
        while let TokenKind::Operator(op) = self.kind() {
            let precedence = op.precedence();
            if precedence < 4 || op == Operator::Atan2 || precedence < min {
                break;
            }
            let op_span = self.take().span();
            let right = precedence + u8::from(op != Operator::Pow);
            let rhs = self.duration_expr(right)?;
            if !self.features.duration_expressions {
                let message = "experimental duration expression is not enabled";
                return self.fail_late(lhs.span(), message);
            }
            let zero = matches!(&rhs, DurationExpr::Number(number) if number.value == 0.0);
            if zero && op == Operator::Div {
                return self.fail_late(op_span, "division by zero");
            }
            if zero && op == Operator::Mod {
                return self.fail_late(op_span, "modulo by zero");
            }
            length += 1;
            if length > super::TREE_DEPTH_MAX {
                return self.fail(op_span, "duration expression is too long");
            }
            lhs = DurationExpr::Binary {
                op,
                lhs: Box::new(lhs),
                rhs: Box::new(rhs),
                wrapped: false,
            };
        }
        Ok(lhs)
    }

    fn duration_number(&mut self) -> Parsed<DurationExpr> {
        let token = self.take();
        let number = self.number_literal(&token)?;
        self.check_range(&number, number.span)?;
        Ok(DurationExpr::Number(number))
    }

    fn duration_paren(&mut self) -> Parsed<DurationExpr> {
        self.take();
        let inner = self.duration_expr(0)?;
        self.expect(TokenKind::RightParen)?;
        if !self.features.duration_expressions {
            let message = "experimental duration expression is not enabled";
            return self.fail(inner.span(), message);
        }
        Ok(match inner {
            DurationExpr::Binary { op, lhs, rhs, .. } => DurationExpr::Binary {
                op,
                lhs,
                rhs,
                wrapped: true,
            },
            negative @ DurationExpr::Negative { .. } => DurationExpr::Wrapped(Box::new(negative)),
            plain => plain,
        })
    }

    fn signed(&self, op: Operator, start: usize, inner: DurationExpr) -> Parsed<DurationExpr> {
        match inner {
            DurationExpr::Number(mut number) => {
                if op == Operator::Sub {
                    number.value = -number.value;
                }
                let op_span = Span {
                    start,
                    end: start + 1,
                };
                self.check_range(&number, op_span)?;
                number.span.start = start;
                Ok(DurationExpr::Number(number))
            }
            expr if op == Operator::Sub => Ok(DurationExpr::Negative {
                expr: Box::new(expr),
                start,
            }),
            expr => Ok(expr),
        }
    }

    fn check_range(&self, number: &NumberLiteral, span: Span) -> Parsed<()> {
        if number.value.abs() > SECONDS_MAX {
            return self.fail(span, "duration out of range");
        }
        Ok(())
    }
}
