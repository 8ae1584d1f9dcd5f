//! Splits a template into text, delimiters and action tokens.

use super::ParseError;

/// The kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    Text,
    Open,
    Close,
    Identifier,
    /// `.name`
    Field,
    /// `$name`, or `$`
    Variable,
    Dot,
    Number,
    Character,
    /// A double-quoted string. The text includes the quotes.
    Quoted,
    /// A backquoted string.
    Raw,
    Space,
    Pipe,
    Declare,
    Assign,
    Comma,
    OpenParen,
    CloseParen,
    End,
}

/// A token and its start position.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub(super) kind: TokenKind,
    pub(super) text: &'a str,
    pub(super) position: usize,
}

struct Lexer<'a> {
    name: &'a str,
    source: &'a str,
    position: usize,
    tokens: Vec<Token<'a>>,
    parens: usize,
}

const TRIMMED: [char; 4] = [' ', '\t', '\r', '\n'];

/// Splits `source` into tokens. `name` is the template name for error messages.
pub(super) fn lex<'a>(name: &'a str, source: &'a str) -> Result<Vec<Token<'a>>, ParseError> {
    let mut lexer = Lexer {
        name,
        source,
        position: 0,
        tokens: Vec::new(),
        parens: 0,
    };
    while lexer.position < source.len() {
        if lexer.text() {
            lexer.action()?;
        }
    }
    lexer.push(TokenKind::End, 0);
    Ok(lexer.tokens)
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.source.get(self.position..).unwrap_or_default()
    }

    fn push(&mut self, kind: TokenKind, len: usize) {
        let text = self.rest().get(..len).unwrap_or_default();
        self.tokens.push(Token {
            kind,
            text,
            position: self.position,
        });
        self.position += len;
    }

    fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError::at(self.name, self.source, self.position, message)
    }

    /// Consumes the text up to the next action. Returns whether an action follows.
    fn text(&mut self) -> bool {
        let rest = self.rest();
        let Some(len) = rest.find("{{") else {
            self.push(TokenKind::Text, rest.len());
            return false;
        };
        let (before, from) = rest.split_at(len);
        let trims = from
            .strip_prefix("{{-")
            .is_some_and(|after| after.starts_with(TRIMMED));
        let kept = if trims {
            before.trim_end_matches(TRIMMED).len()
        } else {
            len
        };
        if kept > 0 {
            self.push(TokenKind::Text, kept);
        }
        self.position += len - kept;
        true
    }

    /// Consumes one action including its delimiters.
    fn action(&mut self) -> Result<(), ParseError> {
        let trims = self
            .rest()
            .strip_prefix("{{-")
            .is_some_and(|after| after.starts_with(TRIMMED));
        let open = if trims { 3 } else { 2 };
        let body = self.rest().get(open..).unwrap_or_default();
        let body = if trims {
            body.trim_start_matches(TRIMMED)
        } else {
            body
        };
        if body.starts_with("/*") {
            return self.comment();
        }
        self.push(TokenKind::Open, 2);
        self.position += open - 2;
        self.parens = 0;
        loop {
            let rest = self.rest();
            let close_trims = rest
                .strip_prefix(TRIMMED)
                .is_some_and(|rest| rest.starts_with("-}}"));
            if close_trims {
                self.position += 2;
            }
            if close_trims || rest.starts_with("}}") {
                if self.parens > 0 {
                    return Err(self.error("unclosed left paren"));
                }
                self.push(TokenKind::Close, 2);
                self.trim_after(close_trims);
                return Ok(());
            }
            self.token(rest)?;
        }
    }

    fn trim_after(&mut self, trims: bool) {
        if trims {
            let rest = self.rest();
            self.position += rest.len() - rest.trim_start_matches(TRIMMED).len();
        }
    }

    fn comment(&mut self) -> Result<(), ParseError> {
        let rest = self.rest();
        let Some(end) = rest.find("*/") else {
            return Err(self.error("unclosed comment"));
        };
        let after = rest.get(end + 2..).unwrap_or_default();
        let trims = after
            .strip_prefix(TRIMMED)
            .is_some_and(|after| after.starts_with("-}}"));
        if !trims && !after.starts_with("}}") {
            return Err(self.error("comment ends before closing delimiter"));
        }
        self.position += end + 2 + if trims { 4 } else { 2 };
        self.trim_after(trims);
        Ok(())
    }

    fn token(&mut self, rest: &'a str) -> Result<(), ParseError> {
        let Some(first) = rest.chars().next() else {
            return Err(self.error("unclosed action"));
        };
        let second = rest.chars().nth(1);
        match first {
            ' ' | '\t' | '\r' | '\n' => {
                let len = rest.len() - rest.trim_start_matches(TRIMMED).len();
                // The last space may be part of the trim marker ` -}}`.
                let belongs = rest
                    .get(len..)
                    .is_some_and(|after| after.starts_with("-}}"));
                let len = if belongs { len - 1 } else { len };
                self.push(TokenKind::Space, len.max(1));
            }
            '=' => self.push(TokenKind::Assign, 1),
            ':' if second == Some('=') => self.push(TokenKind::Declare, 2),
            ':' => return Err(self.error("expected :=")),
            '|' => self.push(TokenKind::Pipe, 1),
            ',' => self.push(TokenKind::Comma, 1),
            '"' => self.quoted(rest, '"', TokenKind::Quoted)?,
            '\'' => self.quoted(rest, '\'', TokenKind::Character)?,
            '`' => self.raw(rest)?,
            '$' => self.word(rest, TokenKind::Variable)?,
            '.' if second.is_some_and(|c| c.is_ascii_digit()) => self.number(rest)?,
            '.' if second.is_some_and(is_word) => self.word(rest, TokenKind::Field)?,
            '.' => self.push(TokenKind::Dot, 1),
            '+' | '-' | '0'..='9' => self.number(rest)?,
            '(' => {
                self.parens += 1;
                self.push(TokenKind::OpenParen, 1);
            }
            ')' => {
                let Some(left) = self.parens.checked_sub(1) else {
                    return Err(self.error("unexpected right paren"));
                };
                self.parens = left;
                self.push(TokenKind::CloseParen, 1);
            }
            c if is_word(c) => self.word(rest, TokenKind::Identifier)?,
            c => {
                return Err(self.error(format!(
                    "unrecognized character in action: U+{:04X} '{c}'",
                    c as u32
                )));
            }
        }
        Ok(())
    }

    fn quoted(&mut self, rest: &str, quote: char, kind: TokenKind) -> Result<(), ParseError> {
        let mut escaped = false;
        for (index, c) in rest.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '\n' => break,
                c if c == quote => {
                    self.push(kind, index + 1);
                    return Ok(());
                }
                _ => {}
            }
        }
        let what = if quote == '"' {
            "unterminated quoted string"
        } else {
            "unterminated character constant"
        };
        Err(self.error(what))
    }

    fn raw(&mut self, rest: &str) -> Result<(), ParseError> {
        let end = rest.char_indices().skip(1).find(|&(_, c)| c == '`');
        let Some((end, _)) = end else {
            return Err(self.error("unterminated raw quoted string"));
        };
        self.push(TokenKind::Raw, end + 1);
        Ok(())
    }

    /// Consumes a name after an optional leading `.` or `$`.
    fn word(&mut self, rest: &str, kind: TokenKind) -> Result<(), ParseError> {
        let first = rest
            .chars()
            .next()
            .filter(|&c| !is_word(c))
            .map_or(0, char::len_utf8);
        let len = rest
            .char_indices()
            .skip_while(|&(index, _)| index < first)
            .find(|&(_, c)| !is_word(c))
            .map_or(rest.len(), |(index, _)| index);
        let next = rest.get(len..).and_then(|after| after.chars().next());
        let ends = next.is_none_or(|c| TRIMMED.contains(&c) || ".,|:)(=}".contains(c));
        if !ends {
            let bad = next.unwrap_or_default();
            self.position += len;
            return Err(self.error(format!("bad character U+{:04X} '{bad}'", bad as u32)));
        }
        self.push(kind, len);
        Ok(())
    }

    fn number(&mut self, rest: &str) -> Result<(), ParseError> {
        let mut previous = ' ';
        let mut len = 0;
        let hex = rest
            .trim_start_matches(['+', '-'])
            .get(..2)
            .is_some_and(|p| p.eq_ignore_ascii_case("0x"));
        for (index, c) in rest.char_indices() {
            let is_exponent = if hex {
                matches!(previous, 'p' | 'P')
            } else {
                matches!(previous, 'e' | 'E')
            };
            let is_sign = matches!(c, '+' | '-') && (index == 0 || is_exponent);
            if !(is_sign || c.is_ascii_alphanumeric() || c == '_' || c == '.') {
                break;
            }
            previous = c;
            len = index + c.len_utf8();
        }
        let text = rest.get(..len).unwrap_or_default();
        if !text.contains(|c: char| c.is_ascii_digit()) {
            return Err(self.error(format!("bad number syntax: {text:?}")));
        }
        self.push(TokenKind::Number, len);
        Ok(())
    }
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}
