//! The parser: text to a checked syntax tree.
//!
//! This is a hand-written Pratt parser with the grammar, type rules and messages of Prometheus 3.5 (`promql/parser`). The
//! length of a query and the depth of its tree are limited.

pub mod ast;
mod check;
mod duration;
mod expression;
mod lexer;
pub(crate) mod number;
pub use number::parse_duration_ms;
pub mod quote;
mod selector;
pub mod series;
mod stream;
pub(crate) mod token;

pub use ast::Expr;
pub use token::{Aggregator, Operator};

use common::limits::QUERY_BYTES_MAX;
use common::model::Matcher;

use crate::error::{ErrorKind, QueryError, Span};
use crate::features::Features;
use crate::stack::with_deep_stack;
use stream::{Fail, Parser};
use token::TokenKind;

/// Maximum depth of a syntax tree, chains of operators included. Many passes recurse.
pub(crate) const TREE_DEPTH_MAX: usize = 1000;

/// Why a text is not an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// The message, without the position.
    pub message: String,
    /// Position in the query.
    pub span: Span,
    /// Line, from 1; 0 when the query is empty.
    pub line: usize,
    /// Byte in the line, from 1.
    pub column: usize,
}

impl ParseError {
    pub(crate) fn new(query: &str, span: Span, message: impl Into<String>) -> Self {
        let (line, column) = position(query, span.start);
        Self {
            message: message.into(),
            span,
            line,
            column,
        }
    }
}

impl std::fmt::Display for ParseError {
    /// `1:7: parse error: …`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.line == 0 {
            write!(f, "unknown position: parse error: {}", self.message)
        } else {
            let (line, column) = (self.line, self.column);
            write!(f, "{line}:{column}: parse error: {}", self.message)
        }
    }
}

impl std::error::Error for ParseError {}

impl From<ParseError> for QueryError {
    fn from(error: ParseError) -> Self {
        Self {
            kind: ErrorKind::BadData,
            message: error.to_string(),
            span: Some(error.span),
        }
    }
}

/// Returns line and column of a byte, both from 1; `(0, 0)` for an empty query.
pub(crate) fn position(query: &str, byte: usize) -> (usize, usize) {
    if query.is_empty() {
        return (0, 0);
    }
    let before = query.as_bytes().get(..byte).unwrap_or(query.as_bytes());
    let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
    let column = before
        .iter()
        .rev()
        .take_while(|&&byte| byte != b'\n')
        .count()
        + 1;
    (line, column)
}

/// Parses and type-checks an expression.
///
/// # Errors
/// The first error, in the words of Prometheus; or the query exceeds a limit.
pub fn parse(query: &str, features: Features) -> Result<Expr, ParseError> {
    check_length(query)?;
    let parsed = with_deep_stack(query, || parse_on_this_stack(query, features));
    parsed.unwrap_or_else(|| {
        Err(ParseError::new(
            query,
            Span::default(),
            "start a thread for a deeply nested query",
        ))
    })
}

/// Parses like [`parse`], on the stack of the caller, which must be large enough.
pub(crate) fn parse_on_this_stack(query: &str, features: Features) -> Result<Expr, ParseError> {
    check_length(query)?;
    let mut parser = Parser::new(query, features);
    if parser.token().kind == TokenKind::Eof {
        return Err(parser.error(Span::default(), "no expression found in input"));
    }
    let parsed = parser.expression(0).and_then(|expr| {
        parser.end_of_input()?;
        Ok(expr)
    });
    let mut expr = parsed.map_err(|fail| parser.finish(fail))?;
    check::check(query, &mut expr)?;
    Ok(expr)
}

/// Parses a series selector, as in the `match[]` parameters of the API. All matchers may match the empty value; see
/// [`matches_everything`].
///
/// # Errors
/// As [`parse`].
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    check_length(text)?;
    let mut parser = Parser::new(text, Features::default());
    let parsed = parser.selector_only().and_then(|selector| {
        parser.end_of_input()?;
        Ok(selector)
    });
    let selector = parsed.map_err(|fail: Fail| parser.finish(fail))?;
    Ok(selector.matchers)
}

/// Returns whether every matcher matches the empty value, so that the selector selects all series.
#[must_use]
pub fn matches_everything(matchers: &[Matcher]) -> bool {
    matchers.iter().all(Matcher::matches_empty)
}

fn check_length(text: &str) -> Result<(), ParseError> {
    if text.len() <= QUERY_BYTES_MAX {
        return Ok(());
    }
    let bytes = text.len();
    Err(ParseError {
        message: format!("query of {bytes} bytes, at most {QUERY_BYTES_MAX} allowed"),
        span: Span::default(),
        line: 1,
        column: 1,
    })
}
