//! Matchers in the syntax of alertmanager.yml and the API.
//!
//! Alertmanager has two grammars and tries both, as does [`parse`]. The strict grammar, introduced in 0.27
//! (`parse.Matchers`), accepts any UTF-8 name. The classic grammar (`labels.ParseMatchers`) accepts almost any
//! character in an unquoted value.

mod classic;
mod strict;

use common::model::{Labels, Matcher};

/// An error while parsing matchers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad matcher format: {input}: {reason}")]
pub struct MatcherError {
    /// The text that was parsed.
    pub input: String,
    /// The reason it was rejected.
    pub reason: String,
}

/// The grammar that accepted a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grammar {
    /// The strict grammar.
    Strict,
    /// The classic grammar. The strict one rejects the text or reads it differently.
    Classic,
}

/// Parses matchers with or without braces and quotes: `a="b"`, `a=b`, `{a="b", c=~"d"}`.
///
/// # Errors
/// Returns an error if neither grammar accepts the text or a regular expression does not compile.
pub fn parse(input: &str) -> Result<Vec<Matcher>, MatcherError> {
    parse_with_grammar(input).map(|(matchers, _)| matchers)
}

/// Parses like [`parse`] and also returns the grammar that applied. If both grammars accept the text but disagree, the
/// classic one wins, as in Alertmanager.
///
/// # Errors
/// See [`parse`].
pub fn parse_with_grammar(input: &str) -> Result<(Vec<Matcher>, Grammar), MatcherError> {
    match (strict::parse(input), classic::parse(input)) {
        (Ok(strict), Ok(classic)) if strict != classic => Ok((classic, Grammar::Classic)),
        (Ok(strict), _) => Ok((strict, Grammar::Strict)),
        (Err(_), Ok(classic)) => Ok((classic, Grammar::Classic)),
        (Err(_), Err(reason)) => Err(MatcherError {
            input: input.to_owned(),
            reason,
        }),
    }
}

/// Parses a single matcher without braces, as in a `filter` of the API. Tries both grammars like [`parse`].
///
/// # Errors
/// Returns an error if neither grammar accepts the text or a regular expression does not compile.
pub fn parse_one(input: &str) -> Result<Matcher, MatcherError> {
    match (strict::parse_one(input), classic::parse_one(input)) {
        (_, Ok(classic)) => Ok(classic),
        (Ok(strict), Err(_)) => Ok(strict),
        (Err(_), Err(reason)) => Err(MatcherError {
            input: input.to_owned(),
            reason,
        }),
    }
}

/// Reports whether all matchers match `labels`.
#[must_use]
pub fn matches_all(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers
        .iter()
        .all(|matcher| matcher.matches(labels.get(matcher.name()).unwrap_or_default()))
}

/// Sorts matchers by name, value and operator, as Alertmanager does before printing them.
pub fn sort(matchers: &mut [Matcher]) {
    matchers.sort_by(|a, b| (a.name(), a.value(), a.op()).cmp(&(b.name(), b.value(), b.op())));
}

/// Formats matchers as `{a="b",c=~"d"}`.
///
/// As in Alertmanager's `labels.Matcher.String`, a name with reserved characters is quoted, and its value has Go's
/// escapes. Other values escape backslashes, double quotes and line breaks only.
#[must_use]
pub fn format(matchers: &[Matcher]) -> String {
    let one = |matcher: &Matcher| {
        let (name, op, value) = (matcher.name(), matcher.op().as_str(), matcher.value());
        if name.contains(strict::is_reserved) {
            let quote = crate::template::quote;
            return format!("{}{op}{}", quote(name), quote(value));
        }
        let escaped = value
            .replace('\\', r"\\")
            .replace('\n', r"\n")
            .replace('"', r#"\""#);
        format!("{name}{op}\"{escaped}\"")
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
    fn strict_and_classic_grammar() {
        check("a=b", r#"{a="b"}"#);
        check(r#"a = "b c""#, r#"{a="b c"}"#);
        check(
            r#"{a="b",c=~"d|e",f!="",g!~h}"#,
            r#"{a="b",c=~"d|e",f!="",g!~"h"}"#,
        );
        check(r#"a="x\"y\\z\n""#, r#"{a="x\"y\\z\n"}"#);
        check("a=\u{0}é", "{a=\"\u{0}é\"}");
        check("{\"a b\"=\"\\x00\"}", "{\"a b\"=\"\\x00\"}");
        check("{}", "{}");
        check("", "{}");
        check(r#"{ "ü b" = "1" , }"#, r#"{"ü b"="1"}"#);
        // Only the classic grammar accepts these.
        check("a=", r#"{a=""}"#);
        check("a=b}", r#"{a="b"}"#);
        check("a = High CPU", r#"{a="High CPU"}"#);
        check("a==b", r#"{a="=b"}"#);
        check("a=b c=d", r#"{a="b c=d"}"#);
        check(r#"a=~"\d""#, r#"{a=~"\\d"}"#);
        check(r"a=b\", r#"{a="b\\"}"#);
        // Both grammars accept this one but disagree.
        check(r#"a="\x01""#, r#"{a="\\x01"}"#);
        for (input, want) in [
            ("a=b", Some("b")),
            ("a=b,c", Some("b,c")),
            ("{", None),
            ("{a=b}", None),
        ] {
            let value = parse_one(input).ok();
            let value = value.as_ref().map(Matcher::value);
            assert_eq!(value, want, "{input}");
        }
        for bad in [
            "a",
            "=b",
            "a=~(",
            "a=\"b",
            "a=b\"c",
            "a=b,,c=d",
            ",a=b",
            "a=~x{1,2}",
            "a b=c",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
