//! The matcher grammar of Alertmanager since 0.27. Names and values with reserved characters must be quoted.

use common::model::{MatchOp, Matcher};

/// Reports whether a name or value that contains `c` must be quoted.
pub(super) fn is_reserved(c: char) -> bool {
    c.is_whitespace() || "{}!=~,\\\"'`".contains(c)
}

pub(super) fn parse(input: &str) -> Result<Vec<Matcher>, String> {
    let mut reader = Reader { rest: input };
    let mut matchers = Vec::new();
    reader.skip_space();
    let is_braced = reader.eat('{');
    loop {
        reader.skip_space();
        if reader.rest.is_empty() || reader.rest.starts_with('}') {
            break;
        }
        matchers.push(reader.matcher()?);
        reader.skip_space();
        if !reader.eat(',') {
            break;
        }
    }
    reader.skip_space();
    if is_braced && !reader.eat('}') {
        return Err("expected close brace".to_owned());
    }
    reader.skip_space();
    if reader.rest.is_empty() {
        Ok(matchers)
    } else {
        Err(format!("unexpected {:?}", reader.rest))
    }
}

pub(super) fn parse_one(input: &str) -> Result<Matcher, String> {
    let mut reader = Reader { rest: input };
    reader.skip_space();
    let matcher = reader.matcher()?;
    reader.skip_space();
    if reader.rest.is_empty() {
        Ok(matcher)
    } else {
        Err(format!("unexpected {:?}", reader.rest))
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, c: char) -> bool {
        let rest = self.rest.strip_prefix(c);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn matcher(&mut self) -> Result<Matcher, String> {
        let name = self.word("label name")?;
        self.skip_space();
        let op = self.operator()?;
        self.skip_space();
        let value = self.word("label value")?;
        Matcher::new(name, op, value).map_err(|error| error.to_string())
    }

    fn operator(&mut self) -> Result<MatchOp, String> {
        for (text, op) in [
            ("=~", MatchOp::Regex),
            ("!~", MatchOp::NotRegex),
            ("!=", MatchOp::NotEqual),
            ("=", MatchOp::Equal),
        ] {
            if let Some(rest) = self.rest.strip_prefix(text) {
                self.rest = rest;
                return Ok(op);
            }
        }
        Err("expected one of =, !=, =~, !~".to_owned())
    }

    fn word(&mut self, what: &str) -> Result<String, String> {
        if self.eat('"') {
            return self.quoted(what);
        }
        let end = self.rest.find(is_reserved).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        if word.is_empty() {
            return Err(format!("expected {what}"));
        }
        Ok(word.to_owned())
    }

    /// Reads up to the closing quote and resolves Go's escapes.
    fn quoted(&mut self, what: &str) -> Result<String, String> {
        let mut chars = self.rest.char_indices();
        while let Some((end, c)) = chars.next() {
            match c {
                '"' => {
                    let (inner, rest) = self.rest.split_at_checked(end).unwrap_or_default();
                    self.rest = rest.strip_prefix('"').unwrap_or(rest);
                    return crate::template::unescape(inner)
                        .ok_or_else(|| format!("invalid escape in {what} {inner:?}"));
                }
                '\\' if chars.next().is_none() => break,
                _ => {}
            }
        }
        Err(format!("unterminated quoted {what}"))
    }
}
