//! Parses expressions: operators, calls, aggregations and literals.

use super::ast::{
    Aggregation, Binary, Call, Cardinality, Expr, Matching, Paren, StringLiteral, Unary,
};
use super::quote::go_quote;
use super::stream::{Fail, Parsed, Parser};
use super::token::{Aggregator, Keyword, Operator, Token, TokenKind};
use crate::error::Span;
use crate::signature::{Stage, signature};

impl Parser<'_> {
    /// Parses an expression whose operators have at least `min_precedence`.
    pub(crate) fn expression(&mut self, min_precedence: u8) -> Parsed<Expr> {
        self.nested(|parser| {
            let mut lhs = parser.unary()?;
            let mut length = 0;
            while let TokenKind::Operator(op) = parser.kind() {
                let precedence = op.precedence();
                if precedence < min_precedence {
                    break;
                }
                let op_span = parser.take().span();
                let (matching, return_bool) = parser.binary_modifiers()?;
                let right = precedence + u8::from(op != Operator::Pow);
                let rhs = parser.expression(right)?;
                length += 1;
                if length > super::TREE_DEPTH_MAX {
                    let max = super::TREE_DEPTH_MAX;
                    let message = format!("more than {max} operators in a row");
                    return parser.fail(op_span, message);
                }
                lhs = Expr::Binary(Box::new(Binary {
                    op,
                    lhs,
                    rhs,
                    matching: Some(matching),
                    return_bool,
                }));
            }
            Ok(lhs)
        })
    }

    fn unary(&mut self) -> Parsed<Expr> {
        let TokenKind::Operator(op @ (Operator::Add | Operator::Sub)) = self.kind() else {
            return self.primary();
        };
        let start = self.take().start;
        // Binds like `*`: a power after it is part of the operand.
        let expr = self.expression(Operator::Pow.precedence())?;
        if let Expr::Number(mut number) = expr {
            if op == Operator::Sub {
                number.value = -number.value;
            }
            number.span.start = start;
            return Ok(Expr::Number(number));
        }
        Ok(Expr::Unary(Box::new(Unary { op, expr, start })))
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let kind = self.kind();
        let expr = match kind {
            TokenKind::Number | TokenKind::Duration => {
                let token = self.take();
                Expr::Number(self.number_literal(&token)?)
            }
            TokenKind::String => {
                let token = self.take();
                Expr::String(StringLiteral {
                    value: self.unquoted_bytes(&token)?,
                    span: token.span(),
                })
            }
            TokenKind::LeftParen => self.paren()?,
            TokenKind::LeftBrace => Expr::Vector(Box::new(self.braces()?)),
            _ if kind.is_metric_name() => {
                let word = self.take();
                self.word(&word)?
            }
            _ => return Err(Fail::Unexpected),
        };
        self.postfix(expr)
    }

    fn paren(&mut self) -> Parsed<Expr> {
        let open = self.take();
        let expr = self.expression(0)?;
        let close = self.expect(TokenKind::RightParen)?;
        Ok(Expr::Paren(Box::new(Paren {
            expr,
            span: Span {
                start: open.start,
                end: close.end(),
            },
        })))
    }

    /// Parses a call, an aggregation or a selector, depending on what follows the word.
    fn word(&mut self, word: &Token) -> Parsed<Expr> {
        if let TokenKind::Aggregator(op) = word.kind
            && matches!(
                self.kind(),
                TokenKind::LeftParen | TokenKind::Keyword(Keyword::By | Keyword::Without)
            )
        {
            let aggregation = self.aggregation(op, word);
            let aggregation = self.within(aggregation, "aggregation", "")?;
            return self.checked_aggregation(aggregation);
        }
        if word.kind == TokenKind::Identifier && self.kind() == TokenKind::LeftParen {
            return self.call(word);
        }
        Ok(Expr::Vector(Box::new(self.vector_selector(word)?)))
    }

    fn call(&mut self, name: &Token) -> Parsed<Expr> {
        let (args, end) = self.arguments()?;
        let quoted = go_quote(&name.text);
        let Some(function) = signature(&name.text) else {
            let message = format!("unknown function with name {quoted}");
            return self.fail(name.span(), message);
        };
        if function.stage == Stage::Experimental && !self.features.experimental_functions {
            return self.fail(name.span(), format!("function {quoted} is not enabled"));
        }
        let span = Span {
            start: name.start,
            end,
        };
        Ok(Expr::Call(Box::new(Call {
            function,
            args,
            span,
        })))
    }

    fn arguments(&mut self) -> Parsed<(Vec<Expr>, usize)> {
        self.expect(TokenKind::LeftParen)?;
        let mut args = Vec::new();
        if let Some(close) = self.accept(TokenKind::RightParen) {
            return Ok((args, close.end()));
        }
        loop {
            args.push(self.expression(0)?);
            let Some(comma) = self.accept(TokenKind::Comma) else {
                let close = self.expect(TokenKind::RightParen)?;
                return Ok((args, close.end()));
            };
            if !self.can_start_expression() {
                let message = "trailing commas not allowed in function call args";
                return self.fail_late(comma.span(), message);
            }
        }
    }

    fn can_start_expression(&self) -> bool {
        let kind = self.kind();
        kind.is_metric_name()
            || matches!(
                kind,
                TokenKind::Number
                    | TokenKind::Duration
                    | TokenKind::String
                    | TokenKind::LeftParen
                    | TokenKind::LeftBrace
                    | TokenKind::Operator(Operator::Add | Operator::Sub)
            )
    }

    fn aggregation(&mut self, op: Aggregator, word: &Token) -> Parsed<(Aggregation, Vec<Expr>)> {
        let mut modifier = self.aggregation_modifier()?;
        let (args, end) = self.arguments()?;
        let mut span = Span {
            start: word.start,
            end,
        };
        if modifier.is_none() {
            if self.kind() == TokenKind::Error {
                // Prometheus reads the next token here, before it checks the arguments.
                return Err(Fail::Unexpected);
            }
            modifier = self.aggregation_modifier()?;
            if let Some((_, _, modifier_end)) = &modifier {
                span.end = *modifier_end;
            }
        }
        let (without, grouping, _) = modifier.unwrap_or_default();
        let aggregation = Aggregation {
            op,
            // A placeholder: `checked_aggregation` replaces it by the argument.
            expr: Expr::String(StringLiteral {
                value: Vec::new(),
                span,
            }),
            param: None,
            grouping,
            without,
            span,
        };
        Ok((aggregation, args))
    }

    fn checked_aggregation(&self, parsed: (Aggregation, Vec<Expr>)) -> Parsed<Expr> {
        let (mut aggregation, args) = parsed;
        let (op, span) = (aggregation.op, aggregation.span);
        let name = op.as_str();
        if args.is_empty() {
            return self.fail(span, "no arguments for aggregate expression provided");
        }
        if op.is_experimental() && !self.features.experimental_functions {
            let message = format!(
                "{name}() is experimental and must be enabled with --enable-feature=promql-experimental-functions"
            );
            return self.fail(span, message);
        }
        let want = if op.has_parameter() { 2 } else { 1 };
        let got = args.len();
        let mut args = args.into_iter();
        if op.has_parameter() {
            aggregation.param = args.next();
        }
        match (args.next(), args.next()) {
            (Some(expr), None) => {
                aggregation.expr = expr;
                Ok(Expr::Aggregation(Box::new(aggregation)))
            }
            _ => {
                let message = format!(
                    "wrong number of arguments for aggregate expression provided, expected {want}, got {got}"
                );
                self.fail(span, message)
            }
        }
    }

    fn aggregation_modifier(&mut self) -> Parsed<Option<(bool, Vec<String>, usize)>> {
        let without = match self.kind() {
            TokenKind::Keyword(Keyword::By) => false,
            TokenKind::Keyword(Keyword::Without) => true,
            _ => return Ok(None),
        };
        self.take();
        let (labels, end) = self.label_list()?;
        Ok(Some((without, labels, end)))
    }

    fn binary_modifiers(&mut self) -> Parsed<(Matching, bool)> {
        let mut matching = Matching {
            card: Cardinality::OneToOne,
            labels: Vec::new(),
            on: false,
            include: Vec::new(),
        };
        let return_bool = self.accept(TokenKind::Keyword(Keyword::Bool)).is_some();
        let on = match self.kind() {
            TokenKind::Keyword(Keyword::On) => true,
            TokenKind::Keyword(Keyword::Ignoring) => false,
            _ => return Ok((matching, return_bool)),
        };
        self.take();
        matching.on = on;
        matching.labels = self.label_list()?.0;
        matching.card = match self.kind() {
            TokenKind::Keyword(Keyword::GroupLeft) => Cardinality::ManyToOne,
            TokenKind::Keyword(Keyword::GroupRight) => Cardinality::OneToMany,
            _ => return Ok((matching, return_bool)),
        };
        self.take();
        if self.kind() == TokenKind::LeftParen || !self.can_start_expression() {
            matching.include = self.label_list()?.0;
        }
        Ok((matching, return_bool))
    }

    /// Parses `(a, b)`; returns the labels and the end of the list.
    fn label_list(&mut self) -> Parsed<(Vec<String>, usize)> {
        const WHAT: &str = "grouping opts";
        let open = self.expect(TokenKind::LeftParen);
        self.within(open, WHAT, "\"(\"")?;
        let mut labels = Vec::new();
        loop {
            if let Some(close) = self.accept(TokenKind::RightParen) {
                return Ok((labels, close.end()));
            }
            labels.push(self.grouping_label()?);
            if let Some(close) = self.accept(TokenKind::RightParen) {
                return Ok((labels, close.end()));
            }
            let comma = self.expect(TokenKind::Comma);
            self.within(comma, WHAT, "\",\" or \")\"")?;
        }
    }

    fn grouping_label(&mut self) -> Parsed<String> {
        if self.kind().is_label_name() {
            return Ok(self.take().text);
        }
        let token = self.expect(TokenKind::String);
        let token = self.within(token, "grouping opts", "label")?;
        let bytes = self.unquoted_bytes(&token)?;
        match String::from_utf8(bytes) {
            Ok(name) if !name.is_empty() => Ok(name),
            invalid => {
                let bytes = invalid.map_or_else(|error| error.into_bytes(), String::into_bytes);
                let name = super::quote::go_quote_bytes(&bytes);
                let message = format!("invalid label name for grouping: {name}");
                self.fail(token.span(), message)
            }
        }
    }
}
