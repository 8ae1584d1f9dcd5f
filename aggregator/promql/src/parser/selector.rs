//! Parses selectors: names, matchers, and the ranges and modifiers after them.

use common::model::label::METRIC_NAME;
use common::model::{MatchOp, Matcher};

use super::ast::{At, Expr, MatrixSelector, Subquery, VectorSelector};
use super::quote::{go_quote, unquote};
use super::stream::{Fail, Parsed, Parser};
use super::token::{Keyword, Operator, Token, TokenKind};
use crate::error::Span;

impl Parser<'_> {
    /// Parses a selector without range and modifiers.
    pub(crate) fn selector_only(&mut self) -> Parsed<VectorSelector> {
        if self.kind().is_metric_name() {
            let name = self.take();
            return self.vector_selector(&name);
        }
        self.braces()
    }

    /// Parses a selector after its metric name.
    pub(crate) fn vector_selector(&mut self, name: &Token) -> Parsed<VectorSelector> {
        let mut selector = if self.kind() == TokenKind::LeftBrace {
            self.braces()?
        } else {
            selector_without_matchers(name.span())
        };
        selector.span.start = name.start;
        selector.name.clone_from(&name.text);
        let matcher = Matcher::equal(METRIC_NAME, name.text.as_str());
        selector.matchers.push(matcher);
        Ok(selector)
    }

    /// Parses `{a="b", …}`.
    pub(crate) fn braces(&mut self) -> Parsed<VectorSelector> {
        const NEXT: &str = "\",\" or \"}\"";
        let open = self.expect(TokenKind::LeftBrace)?;
        let mut matchers = Vec::new();
        let mut raw_values = Vec::new();
        let close = loop {
            // The list may be empty, and may end with a comma.
            if let Some(close) = self.accept(TokenKind::RightBrace) {
                break close;
            }
            let (matcher, raw_value) = self.matcher()?;
            raw_values.extend(raw_value.map(|value| (matchers.len(), value)));
            matchers.push(matcher);
            if let Some(close) = self.accept(TokenKind::RightBrace) {
                break close;
            }
            let comma = self.expect(TokenKind::Comma);
            self.within(comma, "label matching", NEXT)?;
        };
        let mut selector = selector_without_matchers(Span {
            start: open.start,
            end: close.end(),
        });
        selector.matchers = matchers;
        selector.raw_values = raw_values;
        Ok(selector)
    }

    /// Parses one matcher; returns its value, too, if that is not UTF-8.
    fn matcher(&mut self) -> Parsed<(Matcher, Option<Vec<u8>>)> {
        const WHAT: &str = "label matching";
        let (name, quoted) = match self.kind() {
            TokenKind::Identifier => (self.take(), false),
            TokenKind::String => {
                let mut name = self.take();
                name.text = self.unquoted(&name)?;
                (name, true)
            }
            _ => return self.within(Err(Fail::Unexpected), WHAT, "identifier or \"}\""),
        };
        let op = match self.kind() {
            TokenKind::Equal => MatchOp::Equal,
            TokenKind::Operator(Operator::NotEqual) => MatchOp::NotEqual,
            TokenKind::EqualRegex => MatchOp::Regex,
            TokenKind::NotEqualRegex => MatchOp::NotRegex,
            // A quoted text alone is a metric name.
            _ if quoted => return Ok((Matcher::equal(METRIC_NAME, name.text), None)),
            _ => return self.within(Err(Fail::Unexpected), WHAT, "label matching operator"),
        };
        self.take();
        let value = self.expect(TokenKind::String);
        let value = self.within(value, WHAT, "string")?;
        let bytes = self.unquoted_bytes(&value)?;
        let (text, raw_value) = match String::from_utf8(bytes) {
            Ok(text) => (text, None),
            Err(error) => {
                let bytes = error.into_bytes();
                let text = String::from_utf8_lossy(&bytes).into_owned();
                (text, Some(bytes))
            }
        };
        match Matcher::new(name.text.as_str(), op, text) {
            Ok(matcher) => Ok((matcher, raw_value)),
            Err(error) => {
                let span = Span {
                    start: name.start,
                    end: value.end(),
                };
                self.fail(span, error.to_string())
            }
        }
    }

    /// Returns the text of a string literal, with U+FFFD in place of bytes that are not UTF-8.
    pub(crate) fn unquoted(&self, token: &Token) -> Parsed<String> {
        let bytes = self.unquoted_bytes(token)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(crate) fn unquoted_bytes(&self, token: &Token) -> Parsed<Vec<u8>> {
        unquote(&token.text).or_else(|reason| {
            let text = go_quote(&token.text);
            self.fail(
                token.span(),
                format!("error unquoting string {text}: {reason}"),
            )
        })
    }

    /// Parses ranges, subqueries, `offset` and `@` after an expression. They bind more tightly than any operator.
    pub(crate) fn postfix(&mut self, mut expr: Expr) -> Parsed<Expr> {
        let mut count = 0;
        loop {
            expr = match self.kind() {
                TokenKind::LeftBracket => self.bracket(expr)?,
                TokenKind::Keyword(Keyword::Offset) => self.offset(expr)?,
                TokenKind::At => self.at(expr)?,
                _ => return Ok(expr),
            };
            count += 1;
            if count > common::limits::QUERY_DEPTH_MAX {
                return self.fail(expr.span(), "too many modifiers");
            }
        }
    }

    fn bracket(&mut self, expr: Expr) -> Parsed<Expr> {
        const WHAT: &str = "subquery selector";
        let open = self.take();
        let range = self.positive_duration();
        let range = self.within(range, WHAT, "number or duration")?;
        if let Some(close) = self.accept(TokenKind::RightBracket) {
            let span = Span {
                start: open.start,
                end: close.end(),
            };
            let Expr::Vector(selector) = expr else {
                return self.fail(span, "ranges only allowed for vector selectors");
            };
            if selector.offset.is_set() {
                return self.fail(span, "no offset modifiers allowed before range");
            }
            if matches!(selector.at, Some(At::Time(_))) {
                return self.fail(span, "no @ modifiers allowed before range");
            }
            return Ok(Expr::Matrix(Box::new(MatrixSelector {
                selector: *selector,
                range,
                end: close.end(),
            })));
        }
        let colon = self.expect(TokenKind::Colon);
        self.within(colon, "subquery or range", "\":\" or \"]\"")?;
        let mut subquery = Subquery {
            expr,
            range,
            step: super::ast::DurationValue::default(),
            offset: super::ast::DurationValue::default(),
            at: None,
            end: 0,
        };
        if self.kind() != TokenKind::RightBracket {
            let step = self.positive_duration();
            subquery.step = self.within(step, WHAT, "number or duration or \"]\"")?;
        }
        let close = self.expect(TokenKind::RightBracket);
        subquery.end = self.within(close, WHAT, "\"]\"")?.end();
        Ok(Expr::Subquery(Box::new(subquery)))
    }

    fn offset(&mut self, mut expr: Expr) -> Parsed<Expr> {
        self.take();
        let duration = self.offset_duration();
        let (value, value_end) = self.within(duration, "offset", "number or duration")?;
        let span = expr.span();
        let (offset, end) = match &mut expr {
            Expr::Vector(vector) => (&mut vector.offset, &mut vector.span.end),
            Expr::Matrix(matrix) => (&mut matrix.selector.offset, &mut matrix.end),
            Expr::Subquery(subquery) => (&mut subquery.offset, &mut subquery.end),
            _ => {
                let message = "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery";
                return self.fail(span, message);
            }
        };
        if offset.is_set() {
            return self.fail(span, "offset may not be set multiple times");
        }
        *offset = value;
        *end = value_end;
        Ok(expr)
    }

    fn at(&mut self, mut expr: Expr) -> Parsed<Expr> {
        self.take();
        let operand = self.at_operand();
        let (operand, operand_end) = self.within(operand, "@", "timestamp")?;
        let span = expr.span();
        let at = match operand {
            AtOperand::Seconds(seconds) => {
                // The limit of `int64`.
                if !seconds.is_finite() || seconds.abs() >= 9_223_372_036_854_775_807.0 {
                    let text = crate::format::format_fixed(seconds);
                    let message = format!("timestamp out of bounds for @ modifier: {text}");
                    return self.fail(span, message);
                }
                At::Time((seconds * 1000.0).round() as i64)
            }
            AtOperand::At(at) => at,
        };
        let (slot, end) = match &mut expr {
            Expr::Vector(vector) => (&mut vector.at, &mut vector.span.end),
            Expr::Matrix(matrix) => (&mut matrix.selector.at, &mut matrix.end),
            Expr::Subquery(subquery) => (&mut subquery.at, &mut subquery.end),
            _ => {
                let message = "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery";
                return self.fail(span, message);
            }
        };
        if slot.is_some() {
            return self.fail(span, "@ <timestamp> may not be set multiple times");
        }
        *slot = Some(at);
        *end = operand_end;
        Ok(expr)
    }

    fn at_operand(&mut self) -> Parsed<(AtOperand, usize)> {
        let sign = match self.kind() {
            TokenKind::Start | TokenKind::End => {
                let word = self.take();
                self.expect(TokenKind::LeftParen)?;
                let close = self.expect(TokenKind::RightParen)?;
                let at = if word.kind == TokenKind::Start {
                    At::Start
                } else {
                    At::End
                };
                return Ok((AtOperand::At(at), close.end()));
            }
            TokenKind::Operator(Operator::Add) => {
                self.take();
                1.0
            }
            TokenKind::Operator(Operator::Sub) => {
                self.take();
                -1.0
            }
            _ => 1.0,
        };
        if !matches!(self.kind(), TokenKind::Number | TokenKind::Duration) {
            return Err(Fail::Unexpected);
        }
        let token = self.take();
        let number = self.number_literal(&token)?;
        Ok((AtOperand::Seconds(sign * number.value), token.end()))
    }
}

enum AtOperand {
    Seconds(f64),
    At(At),
}

const fn selector_without_matchers(span: Span) -> VectorSelector {
    VectorSelector {
        name: String::new(),
        matchers: Vec::new(),
        raw_values: Vec::new(),
        offset: super::ast::DurationValue::Millis(0),
        at: None,
        may_match_all: false,
        span,
    }
}
