//! Matchers as alertmanager.yml and the API write them.

use std::borrow::Cow;

use common::model::{Labels, MatchOp, Matcher};

/// Text that is no list of matchers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad matcher format: {input}: {reason}")]
pub struct MatcherError {
    /// The text.
    pub input: String,
    /// What is wrong.
    pub reason: String,
}

struct Reader<'a> {
    rest: &'a str,
}

/// Parses `a="b"`, `a=b`, `{a="b", c=~"d"}`: one or more matchers, with or without braces and quotes.
///
/// # Errors
/// Not such a list, or a regex that cannot be compiled.
pub fn parse(input: &str) -> Result<Vec<Matcher>, MatcherError> {
    let error = |reason: String| MatcherError {
        input: input.to_owned(),
        reason,
    };
    let mut reader = Reader { rest: input };
    reader.skip_space();
    let braced = reader.eat('{');
    let mut matchers = Vec::new();
    loop {
        reader.skip_space();
        if reader.rest.is_empty() || reader.rest.starts_with('}') {
            break;
        }
        matchers.push(reader.matcher().map_err(error)?);
        reader.skip_space();
        if !reader.eat(',') {
            break;
        }
    }
    reader.skip_space();
    if braced && !reader.eat('}') {
        return Err(error("expected close brace".to_owned()));
    }
    reader.skip_space();
    if !reader.rest.is_empty() {
        return Err(error(format!("unexpected {:?}", reader.rest)));
    }
    Ok(matchers)
}

impl Reader<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn matcher(&mut self) -> Result<Matcher, String> {
        let name = self.word("label name", "=!~,{}\"'`")?;
        if name.is_empty() {
            return Err("expected label name".to_owned());
        }
        self.skip_space();
        let op = self.operator()?;
        self.skip_space();
        // Old configurations hold unquoted regexes with braces and the like.
        let value = self.word("label value", ",}")?;
        Matcher::new(name, op, value).map_err(|error| error.to_string())
    }

    fn operator(&mut self) -> Result<MatchOp, String> {
        let known = [
            ("=~", MatchOp::Regex),
            ("!~", MatchOp::NotRegex),
            ("!=", MatchOp::NotEqual),
            ("=", MatchOp::Equal),
        ];
        for (text, op) in known {
            if let Some(rest) = self.rest.strip_prefix(text) {
                self.rest = rest;
                return Ok(op);
            }
        }
        Err("expected one of =, !=, =~, !~".to_owned())
    }

    /// A quoted text, or everything up to white space or one of `ends`.
    fn word(&mut self, what: &str, ends: &str) -> Result<String, String> {
        if self.eat('"') {
            return self.quoted(what);
        }
        let mut end = self.rest.len();
        let mut depth = 0_u32;
        for (index, c) in self.rest.char_indices() {
            match c {
                '{' if !ends.contains('{') => depth += 1,
                '}' if depth > 0 => depth -= 1,
                c if c.is_whitespace() || (ends.contains(c) && depth == 0) => {
                    end = index;
                    break;
                }
                _ => {}
            }
        }
        let (word, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        if word.contains('"') {
            return Err(format!("{what} contains unescaped double quote: {word}"));
        }
        Ok(word.to_owned())
    }

    /// The text up to the closing quote, with Go's escapes. A text that has others keeps its backslashes, as in the
    /// files of old versions.
    fn quoted(&mut self, what: &str) -> Result<String, String> {
        let mut chars = self.rest.char_indices();
        while let Some((end, c)) = chars.next() {
            match c {
                '"' => {
                    let (inner, rest) = self.rest.split_at_checked(end).unwrap_or_default();
                    self.rest = rest.strip_prefix('"').unwrap_or(rest);
                    return Ok(crate::template::unescape(inner).unwrap_or_else(|| classic(inner)));
                }
                '\\' if chars.next().is_none() => break,
                _ => {}
            }
        }
        Err(format!("unterminated quoted {what}"))
    }
}

/// The few escapes of Alertmanager before 0.27.
fn classic(inner: &str) -> String {
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => text.push('\n'),
                Some(c @ ('"' | '\\')) => text.push(c),
                Some(c) => text.extend(['\\', c]),
                None => text.push(c),
            },
            c => text.push(c),
        }
    }
    text
}

/// Whether all matchers hold for `labels`.
#[must_use]
pub fn matches_all(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers
        .iter()
        .all(|matcher| matcher.matches(labels.get(matcher.name()).unwrap_or_default()))
}

/// Sorts as Alertmanager does before it prints: by name, value, operator.
pub fn sort(matchers: &mut [Matcher]) {
    matchers.sort_by(|a, b| (a.name(), a.value(), a.op()).cmp(&(b.name(), b.value(), b.op())));
}

/// `{a="b",c=~"d"}`, which [`parse`] reads back. Names with characters that end a name are quoted, as Alertmanager does
/// it (`labels.Matcher.String`).
#[must_use]
pub fn format(matchers: &[Matcher]) -> String {
    let is_reserved = |c: char| c.is_whitespace() || "{}!=~,\\\"'`".contains(c);
    let one = |matcher: &Matcher| {
        let name = if matcher.name().contains(is_reserved) {
            Cow::from(crate::template::quote(matcher.name()))
        } else {
            Cow::from(matcher.name())
        };
        let value = crate::template::quote(matcher.value());
        format!("{name}{}{value}", matcher.op().as_str())
    };
    let texts: Vec<String> = matchers.iter().map(one).collect();
    format!("{{{}}}", texts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(input: &str, want: &str) {
        let got = parse(input).map(|matchers| format(&matchers));
        assert_eq!(got.as_deref(), Ok(want), "{input}");
    }

    #[test]
    fn all_ways_to_write_matchers() {
        check("a=b", r#"{a="b"}"#);
        check(r#"a = "b c""#, r#"{a="b c"}"#);
        check(
            r#"{a="b",c=~"d|e",f!="",g!~h}"#,
            r#"{a="b",c=~"d|e",f!="",g!~"h"}"#,
        );
        check(r#"a="x\"y\\z\n""#, r#"{a="x\"y\\z\n"}"#);
        check("{}", "{}");
        check("a=", r#"{a=""}"#);
        check("a=~x{2,3}", r#"{a=~"x{2,3}"}"#);
        check(r#"{ "ü b" = "1" , }"#, r#"{"ü b"="1"}"#);
        check(r#"a="\x01\u00e4\r""#, r#"{a="\x01ä\r"}"#);
        check(r#"a=~"\d""#, r#"{a=~"\\d"}"#);
        for bad in [
            "a", "=b", "{a=b", "a=b}", "a=~(", "a=\"b", "a=b c=d", "a==b\"", "a=b,,c=d",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
