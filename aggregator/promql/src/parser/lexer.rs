//! Splits a query into tokens.
//!
//! Tokens depend on their context: inside braces every word is an identifier, inside brackets a word is not a metric name.
//! The modes are those of Prometheus' lexer, so that both reject the same input with the same messages.

use super::quote::{go_quote, go_quote_char};
use super::token::{Operator, Token, TokenKind};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LexerMode {
    Statement,
    /// After `[`, until a number is read.
    Bracket,
    Finished,
}

/// The lexer. At the end of the query it keeps returning [`TokenKind::Eof`].
#[derive(Debug)]
pub(crate) struct Lexer<'q> {
    input: &'q str,
    /// Byte position of the next character.
    at: usize,
    /// First byte of the current token.
    start: usize,
    mode: LexerMode,
    paren_depth: usize,
    brace_open: bool,
    bracket_open: bool,
    /// Whether there was a colon since the bracket opened.
    colon_seen: bool,
}

/// The token, or the message of a lexical error.
type LexResult = Result<Option<TokenKind>, String>;

impl<'q> Lexer<'q> {
    pub(crate) const fn new(input: &'q str) -> Self {
        Self {
            input,
            at: 0,
            start: 0,
            mode: LexerMode::Statement,
            paren_depth: 0,
            brace_open: false,
            bracket_open: false,
            colon_seen: false,
        }
    }

    pub(crate) fn next_token(&mut self) -> Token {
        loop {
            self.start = self.at;
            if self.mode == LexerMode::Finished {
                return self.token(TokenKind::Eof);
            }
            let step = if self.brace_open {
                self.inside_braces()
            } else if self.mode == LexerMode::Bracket {
                self.after_bracket()
            } else {
                self.statement()
            };
            match step {
                Ok(None) => {}
                Ok(Some(kind)) => return self.token(kind),
                Err(message) => {
                    self.mode = LexerMode::Finished;
                    return Token {
                        kind: TokenKind::Error,
                        start: self.start,
                        text: message,
                    };
                }
            }
        }
    }

    fn token(&self, kind: TokenKind) -> Token {
        Token {
            kind,
            start: self.start,
            text: self.text().to_owned(),
        }
    }

    fn text(&self) -> &'q str {
        self.input.get(self.start..self.at).unwrap_or_default()
    }

    fn rest(&self) -> &'q str {
        self.input.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let char = self.peek()?;
        self.at += char.len_utf8();
        Some(char)
    }

    fn accept(&mut self, set: &str) -> bool {
        let hit = self.peek().is_some_and(|char| set.contains(char));
        if hit {
            self.bump();
        }
        hit
    }

    fn is(&self, set: &str) -> bool {
        self.peek().is_some_and(|char| set.contains(char))
    }

    fn skip_space(&mut self) {
        while self.is(" \t\n\r") {
            self.bump();
        }
    }

    fn skip_comment(&mut self) {
        while self.peek().is_some_and(|char| char != '\n' && char != '\r') {
            self.bump();
        }
    }

    fn statement(&mut self) -> LexResult {
        let Some(char) = self.bump() else {
            return self.end_of_input();
        };
        let operator = match char {
            '#' => {
                self.skip_comment();
                return Ok(None);
            }
            ' ' | '\t' | '\n' | '\r' => {
                self.skip_space();
                return Ok(None);
            }
            ',' => return Ok(Some(TokenKind::Comma)),
            '@' => return Ok(Some(TokenKind::At)),
            '*' => Operator::Mul,
            '/' => Operator::Div,
            '%' => Operator::Mod,
            '+' => Operator::Add,
            '-' => Operator::Sub,
            '^' => Operator::Pow,
            '=' | '!' | '<' | '>' => return self.comparison(char),
            '0'..='9' => return self.number_or_duration(),
            '.' if self.is(DIGITS) => return self.number_or_duration(),
            '"' | '\'' => return self.quoted(char),
            '`' => return self.raw(),
            '(' | ')' => return self.paren(char),
            '[' | ']' => return self.bracket(char),
            '{' => {
                self.brace_open = true;
                return Ok(Some(TokenKind::LeftBrace));
            }
            ':' | '_' | 'a'..='z' | 'A'..='Z' => return self.word(char),
            _ => return Err(format!("unexpected character: {}", go_quote_char(char))),
        };
        Ok(Some(TokenKind::Operator(operator)))
    }

    fn end_of_input(&mut self) -> LexResult {
        if self.paren_depth != 0 {
            return Err("unclosed left parenthesis".to_owned());
        }
        if self.bracket_open {
            return Err("unclosed left bracket".to_owned());
        }
        self.mode = LexerMode::Finished;
        Ok(Some(TokenKind::Eof))
    }

    fn comparison(&mut self, char: char) -> LexResult {
        let operator = match char {
            '=' if self.accept("=") => Operator::Equal,
            '=' if self.is("~") => {
                return Err("unexpected character after '=': '~'".to_owned());
            }
            '=' => return Ok(Some(TokenKind::Equal)),
            '!' => {
                if self.accept("=") {
                    Operator::NotEqual
                } else {
                    let next = self.peek();
                    self.bump();
                    let next = next.map_or_else(|| "'\u{fffd}'".to_owned(), go_quote_char);
                    return Err(format!("unexpected character after '!': {next}"));
                }
            }
            '<' if self.accept("=") => Operator::LessEqual,
            '<' => Operator::Less,
            _ if self.accept("=") => Operator::GreaterEqual,
            _ => Operator::Greater,
        };
        Ok(Some(TokenKind::Operator(operator)))
    }

    fn word(&mut self, first: char) -> LexResult {
        if self.bracket_open {
            // As in Prometheus 3.5, any letter is accepted as the colon of a subquery.
            if self.colon_seen {
                return Err(format!("unexpected colon {}", go_quote_char(first)));
            }
            self.colon_seen = true;
            return Ok(Some(TokenKind::Colon));
        }
        while self
            .peek()
            .is_some_and(|char| is_alphanumeric(char) || char == ':')
        {
            self.bump();
        }
        Ok(Some(TokenKind::of_word(self.text())))
    }

    fn paren(&mut self, char: char) -> LexResult {
        if char == '(' {
            self.paren_depth += 1;
            return Ok(Some(TokenKind::LeftParen));
        }
        match self.paren_depth.checked_sub(1) {
            Some(depth) => {
                self.paren_depth = depth;
                Ok(Some(TokenKind::RightParen))
            }
            None => {
                // Prometheus checks the depth after it completed the token, so the error is positioned after it.
                self.start = self.at;
                Err("unexpected right parenthesis ')'".to_owned())
            }
        }
    }

    fn bracket(&mut self, char: char) -> LexResult {
        if char == '[' {
            if self.bracket_open {
                return Err("unexpected left bracket '['".to_owned());
            }
            self.colon_seen = false;
            self.bracket_open = true;
            self.mode = LexerMode::Bracket;
            return Ok(Some(TokenKind::LeftBracket));
        }
        if !self.bracket_open {
            return Err("unexpected right bracket ']'".to_owned());
        }
        self.bracket_open = false;
        Ok(Some(TokenKind::RightBracket))
    }

    fn after_bracket(&mut self) -> LexResult {
        let Some(char) = self.bump() else {
            return Err("unexpected end of input in duration expression".to_owned());
        };
        let operator = match char {
            ']' => {
                self.bracket_open = false;
                self.colon_seen = false;
                self.mode = LexerMode::Statement;
                return Ok(Some(TokenKind::RightBracket));
            }
            ':' => {
                self.start = self.at;
                return Err("unexpected colon before duration in duration expression".to_owned());
            }
            '(' | ')' => return self.paren(char),
            ' ' | '\t' | '\n' | '\r' => {
                self.skip_space();
                return Ok(None);
            }
            '+' => Operator::Add,
            '-' => Operator::Sub,
            '*' => Operator::Mul,
            '/' => Operator::Div,
            '%' => Operator::Mod,
            '^' => Operator::Pow,
            '0'..='9' => {
                self.mode = LexerMode::Statement;
                return self.number_or_duration();
            }
            '.' if self.is(DIGITS) => {
                self.mode = LexerMode::Statement;
                return self.number_or_duration();
            }
            _ => {
                let char = go_quote_char(char);
                return Err(format!(
                    "unexpected character in duration expression: {char}"
                ));
            }
        };
        Ok(Some(TokenKind::Operator(operator)))
    }

    fn inside_braces(&mut self) -> LexResult {
        let Some(char) = self.bump() else {
            return Err("unexpected end of input inside braces".to_owned());
        };
        Ok(Some(match char {
            '#' => {
                self.skip_comment();
                return Ok(None);
            }
            ' ' | '\t' | '\n' | '\r' => {
                self.skip_space();
                return Ok(None);
            }
            ',' => TokenKind::Comma,
            '"' | '\'' => return self.quoted(char),
            '`' => return self.raw(),
            '=' if self.accept("~") => TokenKind::EqualRegex,
            '=' => TokenKind::Equal,
            '!' if self.accept("~") => TokenKind::NotEqualRegex,
            '!' if self.accept("=") => TokenKind::Operator(Operator::NotEqual),
            '!' => {
                let next = self
                    .bump()
                    .map_or_else(|| "'\u{fffd}'".to_owned(), go_quote_char);
                return Err(format!(
                    "unexpected character after '!' inside braces: {next}"
                ));
            }
            '{' => return Err("unexpected left brace '{'".to_owned()),
            '}' => {
                self.brace_open = false;
                TokenKind::RightBrace
            }
            '_' | 'a'..='z' | 'A'..='Z' => {
                while self.peek().is_some_and(is_alphanumeric) {
                    self.bump();
                }
                TokenKind::Identifier
            }
            _ => {
                let char = go_quote_char(char);
                return Err(format!("unexpected character inside braces: {char}"));
            }
        }))
    }

    fn quoted(&mut self, quote: char) -> LexResult {
        loop {
            match self.bump() {
                None | Some('\n') => return Err("unterminated quoted string".to_owned()),
                Some('\u{fffd}') => return Err("invalid UTF-8 rune".to_owned()),
                Some('\\') => self.escape(quote)?,
                Some(char) if char == quote => return Ok(Some(TokenKind::String)),
                Some(_) => {}
            }
        }
    }

    fn raw(&mut self) -> LexResult {
        loop {
            match self.bump() {
                None => return Err("unterminated raw string".to_owned()),
                Some('\u{fffd}') => return Err("invalid UTF-8 rune".to_owned()),
                Some('`') => return Ok(Some(TokenKind::String)),
                Some(_) => {}
            }
        }
    }

    fn escape(&mut self, quote: char) -> Result<(), String> {
        const UNTERMINATED: &str = "escape sequence not terminated";
        let Some(char) = self.bump() else {
            return Err(UNTERMINATED.to_owned());
        };
        let (count, base, max) = match char {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => return Ok(()),
            _ if char == quote => return Ok(()),
            '0'..='7' => (3, 8, 255),
            'x' => (2, 16, 255),
            'u' => (4, 16, 0x10_ffff),
            'U' => (8, 16, 0x10_ffff),
            _ => return Err(format!("unknown escape sequence {}", unicode_name(char))),
        };
        let mut digit = if base == 8 { Some(char) } else { self.bump() };
        let mut code = 0_u32;
        for index in 0..count {
            let Some(char) = digit else {
                return Err(UNTERMINATED.to_owned());
            };
            let Some(value) = char.to_digit(base) else {
                let name = unicode_name(char);
                return Err(format!("illegal character {name} in escape sequence"));
            };
            code = code.wrapping_mul(base).wrapping_add(value);
            if index + 1 < count {
                digit = self.bump();
            }
        }
        if code > max || (0xd800..0xe000).contains(&code) {
            return Err("escape sequence is an invalid Unicode code point".to_owned());
        }
        Ok(())
    }

    fn number_or_duration(&mut self) -> LexResult {
        self.at = self.start;
        if self.scan_number() {
            return Ok(Some(TokenKind::Number));
        }
        if self.scan_duration() {
            return Ok(Some(TokenKind::Duration));
        }
        let text = go_quote(self.text());
        Err(format!("bad number or duration syntax: {text}"))
    }

    /// Reads a number; returns false, after the longest prefix of one, if the text is not a number.
    fn scan_number(&mut self) -> bool {
        let mut digits = DIGITS;
        if self.accept("0") && self.accept("xX") {
            self.accept("_");
            digits = "0123456789abcdefABCDEF";
        }
        self.accept(".");
        self.accept(digits);
        let mut exponent_seen = false;
        // Prometheus does not count the dot above, which decides how much of `.1.2` it reads.
        let mut dot_seen = false;
        loop {
            if self.is(".") {
                self.bump();
                if dot_seen || self.accept("_.") || digits.len() > 10 {
                    return false;
                }
                dot_seen = true;
            } else if self.is("eE") {
                // In hexadecimal numbers, too, so that `e` is a digit at most once there.
                self.bump();
                if exponent_seen {
                    return false;
                }
                exponent_seen = true;
                self.accept("+-");
                if self.accept("._eE") || self.peek().is_none() {
                    return false;
                }
            } else if self.is("_") {
                self.bump();
                if self.accept("._eE") || self.peek().is_none() {
                    return false;
                }
            } else if self.is(digits) {
                self.bump();
            } else {
                break;
            }
        }
        !self.peek().is_some_and(is_alphanumeric)
    }

    /// Continues at the unit where a number ended.
    fn scan_duration(&mut self) -> bool {
        if !self.accept("smhdwy") {
            return false;
        }
        self.accept("s");
        while self.accept(DIGITS) {
            while self.accept(DIGITS) {}
            if !self.accept("smhdw") {
                return false;
            }
            self.accept("s");
        }
        if self.peek().is_some_and(is_alphanumeric) {
            self.bump();
            return false;
        }
        true
    }
}

const DIGITS: &str = "0123456789";

const fn is_alphanumeric(char: char) -> bool {
    char == '_' || char.is_ascii_alphanumeric()
}

/// Formats a character like Go's `%#U`: `U+0071 'q'`.
fn unicode_name(char: char) -> String {
    let code = char as u32;
    let quoted = go_quote_char(char);
    if quoted.starts_with("'\\x") || quoted.starts_with("'\\u") || char.is_control() {
        format!("U+{code:04X}")
    } else {
        format!("U+{code:04X} '{char}'")
    }
}
