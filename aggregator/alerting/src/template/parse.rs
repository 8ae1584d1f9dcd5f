//! Parses tokens into a syntax tree.

use std::collections::BTreeMap;

use super::ParseError;
use super::ast::{Block, Branch, Command, Node, Operand, OperandKind, Pipeline, Position};
use super::lex::{Token, TokenKind, lex};

/// Maximum nesting depth of blocks and parentheses.
const DEPTH_MAX: usize = 100;

/// The blocks defined by a source text, by name. Includes the text itself.
pub(super) type Blocks = BTreeMap<String, Block>;

struct Parser<'a> {
    name: &'a str,
    source: &'a str,
    tokens: Vec<Token<'a>>,
    next: usize,
    variables: Vec<String>,
    range_depth: usize,
    depth: usize,
    has_function: &'a dyn Fn(&str) -> bool,
    blocks: Blocks,
}

/// The reason a block ended.
enum Stop {
    Source,
    End,
    Else,
}

/// Parses `source` as the template `name`.
pub(super) fn parse(
    name: &str,
    source: &str,
    has_function: &dyn Fn(&str) -> bool,
) -> Result<Blocks, ParseError> {
    let mut parser = Parser {
        name,
        source,
        tokens: lex(name, source)?,
        next: 0,
        variables: vec!["$".to_owned()],
        range_depth: 0,
        depth: 0,
        has_function,
        blocks: Blocks::new(),
    };
    let (block, end) = parser.block(true)?;
    match end {
        Stop::Source => {}
        Stop::End => return Err(parser.error("unexpected {{end}}")),
        Stop::Else => return Err(parser.error("unexpected {{else}}")),
    }
    parser.add(name.to_owned(), block);
    Ok(parser.blocks)
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        let end = Token {
            kind: TokenKind::End,
            text: "",
            position: self.source.len(),
        };
        self.tokens.get(self.next).copied().unwrap_or(end)
    }

    fn take(&mut self) -> Token<'a> {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn skip_space(&mut self) {
        while self.peek().kind == TokenKind::Space {
            self.next += 1;
        }
    }

    fn take_non_space(&mut self) -> Token<'a> {
        self.skip_space();
        self.take()
    }

    fn peek_non_space(&mut self) -> Token<'a> {
        self.skip_space();
        self.peek()
    }

    fn error(&self, message: impl Into<String>) -> ParseError {
        let index = self.next.saturating_sub(1);
        let position = self
            .tokens
            .get(index)
            .map_or(self.source.len(), |token| token.position);
        ParseError::at(self.name, self.source, position, message)
    }

    fn unexpected(&self, token: Token<'_>, context: &str) -> ParseError {
        match token.kind {
            TokenKind::End => self.error("unexpected EOF"),
            TokenKind::Close if context == "command" => self.error("missing value for command"),
            _ => self.error(format!("unexpected {} in {context}", describe(token))),
        }
    }

    fn expect_close(&mut self, context: &str) -> Result<(), ParseError> {
        let token = self.take_non_space();
        if token.kind == TokenKind::Close {
            Ok(())
        } else {
            Err(self.unexpected(token, context))
        }
    }

    fn source_between(&self, start: Position, end: Position) -> String {
        self.source
            .get(start..end)
            .unwrap_or_default()
            .trim()
            .to_owned()
    }

    /// Adds a block. As in Go, an empty definition never replaces one with content.
    fn add(&mut self, name: String, block: Block) {
        let is_empty = block
            .iter()
            .all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()));
        if !is_empty || !self.blocks.contains_key(&name) {
            self.blocks.insert(name, block);
        }
    }

    /// Parses up to `{{end}}`, up to `{{else}}`, which stays unread, or to the end of the source.
    fn block(&mut self, is_top: bool) -> Result<(Block, Stop), ParseError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error(format!("blocks nest deeper than {DEPTH_MAX}")));
        }
        let mut nodes = Vec::new();
        let end = loop {
            let token = self.take();
            match token.kind {
                TokenKind::End if is_top => break Stop::Source,
                TokenKind::End => return Err(self.error("unexpected EOF")),
                TokenKind::Text => nodes.push(Node::Text(token.text.to_owned())),
                TokenKind::Open => {
                    let word = self.peek_non_space();
                    match (word.kind, word.text) {
                        (TokenKind::Identifier, "end") => {
                            self.take();
                            self.expect_close("end")?;
                            break Stop::End;
                        }
                        (TokenKind::Identifier, "else") => {
                            self.take();
                            break Stop::Else;
                        }
                        (TokenKind::Identifier, "define") if is_top => self.define()?,
                        (TokenKind::Identifier, "define") => {
                            return Err(self.unexpected(word, "define"));
                        }
                        _ => nodes.push(self.action()?),
                    }
                }
                _ => return Err(self.unexpected(token, "input")),
            }
        };
        self.depth -= 1;
        Ok((nodes, end))
    }

    /// Parses a block that defines a template.
    fn named_block(&mut self, context: &str) -> Result<Block, ParseError> {
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let range_depth = std::mem::take(&mut self.range_depth);
        let (block, end) = self.block(false)?;
        if !matches!(end, Stop::End) {
            return Err(self.error(format!("unexpected {{{{else}}}} in {context}")));
        }
        self.variables = variables;
        self.range_depth = range_depth;
        Ok(block)
    }

    fn define(&mut self) -> Result<(), ParseError> {
        self.take();
        let name = self.template_name("define clause")?;
        self.expect_close("define clause")?;
        let block = self.named_block("define clause")?;
        self.add(name, block);
        Ok(())
    }

    fn template_name(&mut self, context: &str) -> Result<String, ParseError> {
        let token = self.take_non_space();
        match token.kind {
            TokenKind::Quoted | TokenKind::Raw => self.unquote(token),
            _ => Err(self.unexpected(token, context)),
        }
    }

    fn action(&mut self) -> Result<Node, ParseError> {
        let word = self.peek_non_space();
        if word.kind == TokenKind::Identifier {
            let keyword = word.text;
            match keyword {
                "if" | "with" | "range" => {
                    self.take();
                    return self.control(keyword);
                }
                "break" | "continue" => {
                    self.take();
                    self.expect_close(keyword)?;
                    if self.range_depth == 0 {
                        return Err(self.error(format!("{{{{{keyword}}}}} outside {{{{range}}}}")));
                    }
                    return Ok(if keyword == "break" {
                        Node::Break
                    } else {
                        Node::Continue
                    });
                }
                "template" | "block" => {
                    self.take();
                    return self.template(keyword);
                }
                _ => {}
            }
        }
        let pipeline = self.pipeline("command", TokenKind::Close)?;
        Ok(Node::Action(pipeline))
    }

    fn template(&mut self, keyword: &str) -> Result<Node, ParseError> {
        let context = if keyword == "block" {
            "block clause"
        } else {
            "template clause"
        };
        let position = self.peek_non_space().position;
        let name = self.template_name(context)?;
        let argument = if self.peek_non_space().kind == TokenKind::Close && keyword == "template" {
            self.take();
            None
        } else {
            Some(self.pipeline(context, TokenKind::Close)?)
        };
        if keyword == "block" {
            let block = self.named_block(context)?;
            self.add(name.clone(), block);
        }
        Ok(Node::Template {
            position,
            name,
            argument,
        })
    }

    fn control(&mut self, keyword: &str) -> Result<Node, ParseError> {
        let scope = self.variables.len();
        let pipeline = self.pipeline(keyword, TokenKind::Close)?;
        self.range_depth += usize::from(keyword == "range");
        let (then, end) = self.block(false)?;
        self.range_depth -= usize::from(keyword == "range");
        let otherwise = match end {
            Stop::Else => self.otherwise(keyword)?,
            _ => Vec::new(),
        };
        self.variables.truncate(scope);
        let branch = Branch {
            pipeline,
            then,
            otherwise,
        };
        Ok(match keyword {
            "if" => Node::If(branch),
            "with" => Node::With(branch),
            _ => Node::Range(branch),
        })
    }

    /// Parses the rest of `{{else`: either `}}` and a block, or another `if` or `with` that shares the `{{end}}`.
    fn otherwise(&mut self, keyword: &str) -> Result<Block, ParseError> {
        let next = self.peek_non_space();
        if next.kind == TokenKind::Identifier && next.text == keyword && keyword != "range" {
            self.take();
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return Err(self.error(format!("blocks nest deeper than {DEPTH_MAX}")));
            }
            let node = self.control(keyword)?;
            self.depth -= 1;
            return Ok(vec![node]);
        }
        self.expect_close("else")?;
        let (block, end) = self.block(false)?;
        match end {
            Stop::End => Ok(block),
            _ => Err(self.error("expected end; found {{else}}")),
        }
    }

    /// Parses up to and including `end`.
    fn pipeline(&mut self, context: &str, end: TokenKind) -> Result<Pipeline, ParseError> {
        let first = self.peek_non_space();
        let (variables, assigns) = self.declarations(context)?;
        let mut commands = Vec::new();
        loop {
            let token = self.peek_non_space();
            if token.kind == end {
                self.take();
                if commands.is_empty() {
                    return Err(self.error(format!("missing value for {context}")));
                }
                let source = self.source_between(first.position, token.position);
                check_stages(self, &commands)?;
                return Ok(Pipeline {
                    position: first.position,
                    source,
                    variables,
                    assigns,
                    commands,
                });
            }
            commands.push(self.command(context)?);
            let after = self.peek_non_space();
            match after.kind {
                // As in Go, the last `|` may be followed by nothing.
                TokenKind::Pipe => {
                    self.take();
                }
                kind if kind == end => {}
                _ => {
                    self.take();
                    return Err(self.unexpected(after, context));
                }
            }
        }
    }

    /// Parses `$x :=`, `$x =`, or, in a range, `$i, $x :=`.
    fn declarations(&mut self, context: &str) -> Result<(Vec<String>, bool), ParseError> {
        let start = self.next;
        let mut names = Vec::new();
        while self.peek_non_space().kind == TokenKind::Variable {
            names.push(self.take().text.to_owned());
            let next = self.peek_non_space();
            match next.kind {
                TokenKind::Declare | TokenKind::Assign => {
                    self.take();
                    let assigns = next.kind == TokenKind::Assign;
                    let undefined = names.iter().find(|name| !self.variables.contains(name));
                    if let (true, Some(name)) = (assigns, undefined) {
                        return Err(self.error(format!("undefined variable {name:?}")));
                    }
                    if !assigns {
                        self.variables.extend(names.iter().cloned());
                    }
                    return Ok((names, assigns));
                }
                TokenKind::Comma if context == "range" && names.len() == 1 => {
                    self.take();
                }
                TokenKind::Comma => {
                    return Err(self.error(format!("too many declarations in {context}")));
                }
                _ => break,
            }
        }
        self.next = start;
        Ok((Vec::new(), false))
    }

    fn command(&mut self, context: &str) -> Result<Command, ParseError> {
        self.skip_space();
        let mut operands = Vec::new();
        while let Some(operand) = self.operand()? {
            operands.push(operand);
            let next = self.peek();
            match next.kind {
                TokenKind::Space => self.skip_space(),
                TokenKind::Pipe | TokenKind::Close | TokenKind::CloseParen => break,
                _ => {
                    self.take();
                    return Err(self.unexpected(next, "operand"));
                }
            }
        }
        if operands.is_empty() {
            let token = self.take();
            return Err(if token.kind == TokenKind::Pipe {
                self.error(format!("missing value for {context}"))
            } else {
                self.unexpected(token, context)
            });
        }
        let sources: Vec<&str> = operands
            .iter()
            .map(|operand| operand.source.as_str())
            .collect();
        let source = sources.join(" ");
        Ok(Command { source, operands })
    }

    /// Parses a term and the fields that follow it.
    fn operand(&mut self) -> Result<Option<Operand>, ParseError> {
        let start = self.peek().position;
        let Some(mut operand) = self.term()? else {
            return Ok(None);
        };
        if self.peek().kind != TokenKind::Field {
            return Ok(Some(operand));
        }
        let position = self.peek().position;
        let mut fields = Vec::new();
        while self.peek().kind == TokenKind::Field {
            fields.push(self.take().text.trim_start_matches('.').to_owned());
        }
        let source = self.source_between(start, self.peek().position);
        let kind = match operand.kind {
            OperandKind::Fields(mut first) => {
                first.extend(fields);
                OperandKind::Fields(first)
            }
            OperandKind::Variable(name, mut first) => {
                first.extend(fields);
                OperandKind::Variable(name, first)
            }
            OperandKind::Nil
            | OperandKind::Bool(_)
            | OperandKind::Int(_)
            | OperandKind::Float(_)
            | OperandKind::Text(_) => {
                return Err(self.error(format!("unexpected . after term {:?}", operand.source)));
            }
            _ => {
                operand.position = start;
                OperandKind::Chain(Box::new(operand), fields)
            }
        };
        Ok(Some(Operand {
            position,
            source,
            kind,
        }))
    }

    fn term(&mut self) -> Result<Option<Operand>, ParseError> {
        let token = self.peek();
        let kind = match token.kind {
            TokenKind::Identifier => match token.text {
                "nil" => OperandKind::Nil,
                "true" | "false" => OperandKind::Bool(token.text == "true"),
                name if (self.has_function)(name) => OperandKind::Function(name.to_owned()),
                name => {
                    self.take();
                    return Err(self.error(format!("function {name:?} not defined")));
                }
            },
            TokenKind::Dot => OperandKind::Dot,
            TokenKind::Field => {
                OperandKind::Fields(vec![token.text.trim_start_matches('.').to_owned()])
            }
            TokenKind::Variable => {
                if !self.variables.iter().any(|name| name == token.text) {
                    self.take();
                    return Err(self.error(format!("undefined variable {:?}", token.text)));
                }
                OperandKind::Variable(token.text.to_owned(), Vec::new())
            }
            TokenKind::Number => number(token.text).ok_or_else(|| self.bad_number(token.text))?,
            TokenKind::Quoted | TokenKind::Raw => OperandKind::Text(self.unquote(token)?),
            TokenKind::Character => OperandKind::Int(self.character(token)?),
            TokenKind::OpenParen => return self.parenthesised(token).map(Some),
            _ => return Ok(None),
        };
        self.take();
        Ok(Some(Operand {
            position: token.position,
            source: token.text.to_owned(),
            kind,
        }))
    }

    fn bad_number(&self, text: &str) -> ParseError {
        self.error(format!("bad number syntax: {text:?}"))
    }

    fn parenthesised(&mut self, open: Token<'a>) -> Result<Operand, ParseError> {
        self.take();
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error(format!("parentheses nest deeper than {DEPTH_MAX}")));
        }
        let pipeline = self.pipeline("parenthesized pipeline", TokenKind::CloseParen)?;
        self.depth -= 1;
        let source = format!("({})", pipeline.source);
        Ok(Operand {
            position: open.position,
            source,
            kind: OperandKind::Pipeline(Box::new(pipeline)),
        })
    }

    fn unquote(&self, token: Token<'_>) -> Result<String, ParseError> {
        let mut inner = token.text.chars();
        inner.next();
        inner.next_back();
        if token.kind == TokenKind::Raw {
            return Ok(inner.as_str().replace('\r', ""));
        }
        unescape(inner.as_str()).ok_or_else(|| self.error("invalid syntax"))
    }

    fn character(&self, token: Token<'_>) -> Result<i64, ParseError> {
        let text = self.unquote(token)?;
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(i64::from(c as u32)),
            _ => Err(self.error(format!("malformed character constant: {}", token.text))),
        }
    }
}

/// Checks that every stage after a `|` is callable, not a constant or `.`.
fn check_stages(parser: &Parser<'_>, commands: &[Command]) -> Result<(), ParseError> {
    for (index, command) in commands.iter().enumerate().skip(1) {
        let is_value = matches!(
            command.operands.first().map(|operand| &operand.kind),
            Some(
                OperandKind::Bool(_)
                    | OperandKind::Dot
                    | OperandKind::Nil
                    | OperandKind::Int(_)
                    | OperandKind::Float(_)
                    | OperandKind::Text(_)
            )
        );
        if is_value {
            return Err(parser.error(format!(
                "non executable command in pipeline stage {}",
                index + 1
            )));
        }
    }
    Ok(())
}

fn describe(token: Token<'_>) -> String {
    match token.kind {
        TokenKind::Text | TokenKind::Quoted if token.text.chars().count() > 10 => {
            let start: String = token.text.chars().take(10).collect();
            format!("{start:?}...")
        }
        TokenKind::Identifier if is_keyword(token.text) => format!("<{}>", token.text),
        _ => format!("{:?}", token.text),
    }
}

fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "if" | "else"
            | "end"
            | "range"
            | "with"
            | "template"
            | "define"
            | "block"
            | "break"
            | "continue"
            | "nil"
    )
}

fn number(text: &str) -> Option<OperandKind> {
    let plain = text.replace('_', "");
    let (sign, digits) = match plain.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let lower = digits.to_ascii_lowercase();
    let radix = |prefix: &str, radix| {
        lower
            .strip_prefix(prefix)
            .map(|rest| i64::from_str_radix(rest, radix))
    };
    let parsed = radix("0x", 16)
        .or_else(|| radix("0b", 2))
        .or_else(|| radix("0o", 8));
    if let Some(parsed) = parsed {
        return parsed.ok().map(|n| OperandKind::Int(sign * n));
    }
    let is_octal =
        digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    if is_octal {
        return i64::from_str_radix(digits, 8)
            .ok()
            .map(|n| OperandKind::Int(sign * n));
    }
    if let Ok(n) = plain.parse::<i64>() {
        return Some(OperandKind::Int(n));
    }
    let is_number = digits
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    plain
        .parse::<f64>()
        .ok()
        .filter(|f| is_number && f.is_finite())
        .map(OperandKind::Float)
}

/// Resolves the escapes of a Go string. Returns `None` for an invalid escape, or if escaped bytes are not valid UTF-8.
pub(crate) fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = chars.next()?;
        let simple = match escape {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' | '\'' | '"' => escape as u8,
            'x' => u8::try_from(digits(&mut chars, 2, 16)?).ok()?,
            '0'..='7' => {
                let rest = digits(&mut chars, 2, 8)?;
                u8::try_from(escape.to_digit(8)? * 64 + rest).ok()?
            }
            'u' | 'U' => {
                let c = char::from_u32(digits(&mut chars, if escape == 'u' { 4 } else { 8 }, 16)?)?;
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            _ => return None,
        };
        bytes.push(simple);
    }
    String::from_utf8(bytes).ok()
}

fn digits(chars: &mut std::str::Chars<'_>, count: usize, radix: u32) -> Option<u32> {
    let mut number: u32 = 0;
    for _ in 0..count {
        number = number
            .checked_mul(radix)?
            .checked_add(chars.next()?.to_digit(radix)?)?;
    }
    Some(number)
}
