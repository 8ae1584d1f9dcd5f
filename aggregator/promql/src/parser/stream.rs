//! The parser's state: the next token, and syntax errors about it.

use common::limits::QUERY_DEPTH_MAX;

use super::ParseError;
use super::lexer::Lexer;
use super::token::{Token, TokenKind};
use crate::error::Span;
use crate::features::Features;

/// Why a grammar rule failed.
///
/// The innermost rule that knows what it expected writes the message of a syntax error. Until then the error is returned as
/// [`Fail::Unexpected`].
#[derive(Debug)]
pub(crate) enum Fail {
    /// The next token is not allowed here.
    Unexpected,
    /// The message is complete.
    Message(Box<ParseError>),
}

pub(crate) type Parsed<T> = Result<T, Fail>;

/// A parser with one token of lookahead.
#[derive(Debug)]
pub(crate) struct Parser<'q> {
    query: &'q str,
    lexer: Lexer<'q>,
    token: Token,
    depth: usize,
    pub(crate) features: Features,
}

impl<'q> Parser<'q> {
    pub(crate) fn new(query: &'q str, features: Features) -> Self {
        let mut lexer = Lexer::new(query);
        let token = lexer.next_token();
        Self {
            query,
            lexer,
            token,
            depth: 0,
            features,
        }
    }

    /// Returns the next token.
    pub(crate) const fn token(&self) -> &Token {
        &self.token
    }

    pub(crate) const fn kind(&self) -> TokenKind {
        self.token.kind
    }

    /// Takes the next token.
    pub(crate) fn take(&mut self) -> Token {
        let next = self.lexer.next_token();
        std::mem::replace(&mut self.token, next)
    }

    /// Takes the next token if it is of this kind.
    pub(crate) fn accept(&mut self, kind: TokenKind) -> Option<Token> {
        (self.token.kind == kind).then(|| self.take())
    }

    pub(crate) fn expect(&mut self, kind: TokenKind) -> Parsed<Token> {
        self.accept(kind).ok_or(Fail::Unexpected)
    }

    pub(crate) fn end_of_input(&self) -> Parsed<()> {
        if self.token.kind == TokenKind::Eof {
            Ok(())
        } else {
            Err(Fail::Unexpected)
        }
    }

    pub(crate) fn error(&self, span: Span, message: impl Into<String>) -> ParseError {
        ParseError::new(self.query, span, message)
    }

    /// Fails with an error that is not about syntax.
    pub(crate) fn fail<T>(&self, span: Span, message: impl Into<String>) -> Parsed<T> {
        Err(Fail::Message(Box::new(self.error(span, message))))
    }

    /// Fails with an error that Prometheus detects only after it has read the next token: a lexical error there comes
    /// first.
    pub(crate) fn fail_late<T>(&self, span: Span, message: impl Into<String>) -> Parsed<T> {
        if self.token.kind == TokenKind::Error {
            return Err(Fail::Unexpected);
        }
        self.fail(span, message)
    }

    /// Completes a syntax error with the construct that was being parsed and the tokens that it expected.
    pub(crate) fn within<T>(&self, parsed: Parsed<T>, what: &str, expected: &str) -> Parsed<T> {
        parsed.map_err(|fail| match fail {
            Fail::Unexpected => Fail::Message(Box::new(self.unexpected(what, expected))),
            Fail::Message(_) => fail,
        })
    }

    /// Converts a failure to the error that the caller sees.
    pub(crate) fn finish(&self, fail: Fail) -> ParseError {
        match fail {
            Fail::Unexpected => self.unexpected("", ""),
            Fail::Message(error) => *error,
        }
    }

    fn unexpected(&self, what: &str, expected: &str) -> ParseError {
        let start = self.token.start;
        if self.token.kind == TokenKind::Error {
            let end = self.query.len();
            return self.error(Span { start, end }, self.token.text.clone());
        }
        let mut message = format!("unexpected {}", self.token.describe());
        if !what.is_empty() {
            message.push_str(" in ");
            message.push_str(what);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        let end = self.token.end();
        self.error(Span { start, end }, message)
    }

    /// Runs `rule` one nesting level deeper.
    ///
    /// # Errors
    /// The expression is nested too deeply.
    pub(crate) fn nested<T>(&mut self, rule: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= QUERY_DEPTH_MAX {
            let (start, end) = (self.token.start, self.token.end());
            let message = format!("expression is nested deeper than {QUERY_DEPTH_MAX} levels");
            return self.fail(Span { start, end }, message);
        }
        self.depth += 1;
        let parsed = rule(self);
        self.depth -= 1;
        parsed
    }
}

impl Token {
    pub(crate) fn span(&self) -> Span {
        Span {
            start: self.start,
            end: self.end(),
        }
    }
}
