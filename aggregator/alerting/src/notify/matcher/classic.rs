//! The matcher grammar of Alertmanager before 0.27. A value ends at a comma outside quotes.

use common::model::{MatchOp, Matcher};

pub(super) fn parse(input: &str) -> Result<Vec<Matcher>, String> {
    let input = input.strip_prefix('{').unwrap_or(input);
    let input = input.strip_suffix('}').unwrap_or(input);
    tokens(input).iter().map(|token| parse_one(token)).collect()
}

/// Splits at commas outside quotes. An empty last token is dropped.
fn tokens(input: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut token = String::new();
    let (mut is_quoted, mut is_escaped) = (false, false);
    for c in input.chars() {
        match c {
            ',' if !is_quoted => {
                tokens.push(std::mem::take(&mut token));
                continue;
            }
            '"' if is_escaped => is_escaped = false,
            '"' => is_quoted = !is_quoted,
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
        token.push(c);
    }
    let last = token.trim();
    if !last.is_empty() {
        tokens.push(last.to_owned());
    }
    tokens
}

pub(super) fn parse_one(token: &str) -> Result<Matcher, String> {
    let token = token.trim();
    let bad = || format!("bad matcher format: {token}");
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let end = token.find(|c| !is_name(c)).ok_or_else(bad)?;
    let (name, rest) = token.split_at_checked(end).ok_or_else(bad)?;
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(bad());
    }
    let rest = rest.trim_start();
    let (op, text) = [
        ("=~", MatchOp::Regex),
        ("!~", MatchOp::NotRegex),
        ("!=", MatchOp::NotEqual),
        ("=", MatchOp::Equal),
    ]
    .into_iter()
    .find_map(|(text, op)| Some((op, rest.strip_prefix(text)?)))
    .ok_or_else(bad)?;
    let value = value(text.trim())?;
    Matcher::new(name, op, value).map_err(|error| error.to_string())
}

/// Unquotes and unescapes a value. Unknown escapes and a trailing backslash are kept unchanged.
fn value(raw: &str) -> Result<String, String> {
    let inner = match raw.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').filter(|inner| !ends_escaped(inner)),
        None => Some(raw),
    };
    let unescaped_quote = || format!("matcher value contains unescaped double quote: {raw}");
    let inner = inner.ok_or_else(unescaped_quote)?;
    let mut value = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return Err(unescaped_quote()),
            '\\' => match chars.next() {
                Some('n') => value.push('\n'),
                Some(c @ ('"' | '\\')) => value.push(c),
                Some(c) => value.extend(['\\', c]),
                None => value.push('\\'),
            },
            c => value.push(c),
        }
    }
    Ok(value)
}

/// Reports whether a quote after `text` would be escaped.
fn ends_escaped(text: &str) -> bool {
    text.bytes().rev().take_while(|&byte| byte == b'\\').count() % 2 == 1
}
